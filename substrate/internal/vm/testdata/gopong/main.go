//go:build wasip1

// A guest in stock Go that speaks to the host directly.
package main

import "unsafe"

//go:wasmimport taubyte/sdk eventHttpWrite
func eventHTTPWrite(event uint32, buf unsafe.Pointer, size uint32, n *uint32) uint32

var answer = []byte("PONG from Go")

//go:wasmexport ping
func ping(event uint32) uint32 {
	var n uint32
	return eventHTTPWrite(event, unsafe.Pointer(&answer[0]), uint32(len(answer)), &n)
}

func main() {}
