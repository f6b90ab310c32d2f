package abi_test

import (
	"encoding/binary"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPathValues(t *testing.T) {
	h := newHost(t)
	r := httptest.NewRequest("GET", "/items/a%2Fb", nil)
	r.Pattern = "/items/{Id}"
	r.SetPathValue("Id", "a/b")
	for name, want := range map[string]string{":pattern": "/items/{Id}", ":path/Id": "a/b", ":path/id": "", ":path/": "", ":path": "/items/a%2Fb"} {
		s := newScript()
		s.m.Data(0, name)
		text, e := s.run(h, r, 64, 164, do("getHttpEventHeadersSize", "iiii:i", event{}, 64, 0, len(name)), do("getHttpEventHeaders", "iiiii:i", event{}, 0, len(name), 68, 96))
		require.Equal(t, []uint32{0, 0}, e)
		require.Equal(t, want, text[4:4+binary.LittleEndian.Uint32([]byte(text))], name)
	}
}
