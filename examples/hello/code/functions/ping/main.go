// Command ping is a WebAssembly function that answers PONG.
package main

import "github.com/taubyte/taubyte/substrate/guest/event"

func main() {}

//go:wasmexport ping
func ping(e uint32) uint32 {
	event.HTTP(e).WriteString("PONG")
	return 0
}
