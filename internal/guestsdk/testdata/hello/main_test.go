package main

import (
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/taubyte/taubyte/substrate/guest/guesttest"
)

func TestHello(t *testing.T) {
	host := guesttest.New(t)
	r := host.HTTP(hello, httptest.NewRequest("POST", "/a%20b?name=x", strings.NewReader("y")))
	body, _ := io.ReadAll(r.Body)
	if r.StatusCode != 201 || string(body) != "hello, x: y" || !strings.HasPrefix(r.Header.Get("X-Path"), "POST /a b") {
		t.Errorf("%d %s %v", r.StatusCode, body, r.Header)
	}
	if r := host.HTTP(hello, httptest.NewRequest("POST", "/", nil)); r.StatusCode != 400 {
		t.Errorf("%d", r.StatusCode)
	}
}
