//go:build wasip1

// Functions in stock Go that answer PONG.
package main

import (
	"io"
	"net/http"

	"github.com/taubyte/taubyte/substrate/guest"
	"github.com/taubyte/taubyte/substrate/guest/event"
)

//go:wasmexport ping
func ping(e uint32) uint32 {
	_, _ = event.HTTP(e).WriteString("PONG")
	return 0
}

//go:wasmexport handler
func handler(e uint32) uint32 { return guest.ServeHTTP(e, http.HandlerFunc(pong)) }

func pong(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "PONG") }

func main() {}
