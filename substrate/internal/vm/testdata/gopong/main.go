//go:build wasip1

// A guest in stock Go that speaks to the host directly.
package main

import (
	"os"
	"unsafe"
)

//go:wasmimport taubyte/sdk eventHttpWrite
func eventHTTPWrite(event uint32, buf unsafe.Pointer, size uint32, n *uint32) uint32

var answer = []byte("PONG from Go")

//go:wasmexport ping
func ping(event uint32) uint32 {
	var n uint32
	return eventHTTPWrite(event, unsafe.Pointer(&answer[0]), uint32(len(answer)), &n)
}

// files uses the file system that a guest has.
//
//go:wasmexport files
func files(event uint32) uint32 {
	text, err := func() (string, error) {
		if err := os.MkdirAll("/tmp/a/b", 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile("/tmp/a/b/c.txt", []byte("file"), 0o644); err != nil {
			return "", err
		}
		list, err := os.ReadDir("/tmp/a/b")
		if err != nil {
			return "", err
		}
		b, err := os.ReadFile("/tmp/a/b/" + list[0].Name())
		if err != nil {
			return "", err
		}
		return string(b), os.RemoveAll("/tmp")
	}()
	if err != nil {
		text = err.Error()
	}
	answer := []byte(text)
	var n uint32
	return eventHTTPWrite(event, unsafe.Pointer(&answer[0]), uint32(len(answer)), &n)
}

func main() {}
