package main

import (
	"io"

	"github.com/taubyte/taubyte/substrate/guest/event"
)

func main() {}

//go:wasmexport hello
func hello(e uint32) uint32 {
	x := event.HTTP(e)
	name := x.Query("name")
	if name == "" {
		x.Error("no name", 400)
		return 0
	}
	x.AddHeader("X-Path", x.Method()+" "+x.Path()+" "+x.Header("user-agent"))
	x.Status(201)
	x.WriteString("hello, " + name + ": ")
	if _, err := io.Copy(x, x.Body()); err != nil {
		x.WriteString(err.Error())
	}
	return 0
}
