//go:build wasip1

package main

import (
	"fmt"

	"github.com/taubyte/taubyte/substrate/guest/event"
	"github.com/taubyte/taubyte/substrate/guest/smartop"
)

// allow is a smart operation: it lets through who has the key.
//
//go:wasmexport allow
func allow(r uint32) uint32 {
	x := smartop.Resource(r)
	name, err := x.Name()
	check("name", true, err)
	node, err := smartop.Node()
	check("node", node != "", err)
	fmt.Println("asked about", name, "of kind", x.Kind())
	if e, ok := x.Event(); ok && event.HTTP(e).Header("X-Key") == "mellon" && event.HTTP(e).Path() == "/guarded" {
		return smartop.Allow
	}
	return smartop.Refuse
}
