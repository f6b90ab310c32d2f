// A guest in stock Go.
package main

import (
	"unsafe"

	"github.com/taubyte/taubyte/internal/meter/testdata/guest/work"
)

func main() {}

var result string

//go:wasmexport work
func do(n uint32) uint32 {
	result = work.Do(n)
	return uint32(len(result))
}

//go:wasmexport text
func text() uint32 { return uint32(uintptr(unsafe.Pointer(unsafe.StringData(result)))) }

//go:wasmexport spin
func spin(n uint32) uint32 {
	var x uint32 = 1
	for n == 0 || n > 1 {
		x = x*1664525 + 1013904223
		if n > 0 {
			n--
		}
	}
	return x
}

//go:wasmexport fib
func fib(n uint32) uint32 {
	if n < 2 {
		return n
	}
	return fib(n-1) + fib(n-2)
}
