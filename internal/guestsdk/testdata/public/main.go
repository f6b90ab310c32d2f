// A guest written for the public go-sdk, but for the way in which its entry
// points are declared.
package main

import (
	"io"

	"github.com/taubyte/go-sdk/crypto/rand"
	"github.com/taubyte/go-sdk/database"
	"github.com/taubyte/go-sdk/dns"
	"github.com/taubyte/go-sdk/event"
	"github.com/taubyte/go-sdk/globals/str"
	http "github.com/taubyte/go-sdk/http/client"
	"github.com/taubyte/go-sdk/i2mv/fifo"
	"github.com/taubyte/go-sdk/i2mv/memview"
	"github.com/taubyte/go-sdk/ipfs/client"
	p2p "github.com/taubyte/go-sdk/p2p/node"
	pubsub "github.com/taubyte/go-sdk/pubsub/node"
	"github.com/taubyte/go-sdk/self"
	"github.com/taubyte/go-sdk/storage"
)

func main() {}

//go:wasmexport hello
func hello(e uint32) uint32 { return answer(event.Event(e)) }

func answer(e event.Event) uint32 {
	h, err := e.HTTP()
	if err != nil {
		return 1
	}
	body, err := io.ReadAll(h.Body())
	if err != nil {
		return fail(h, err)
	}
	db, err := database.New("notes")
	if err != nil {
		return fail(h, err)
	}
	if err := db.Put("body", body); err != nil {
		return fail(h, err)
	}
	stored, err := db.Get("body")
	if err != nil {
		return fail(h, err)
	}
	c, err := client.New()
	if err != nil {
		return fail(h, err)
	}
	content, err := c.Create()
	if err != nil {
		return fail(h, err)
	}
	if _, err := content.Write(stored); err != nil {
		return fail(h, err)
	}
	if at, err := content.Seek(-3, io.SeekEnd); err != nil || at != 4 {
		return fail(h, err)
	}
	rest, err := io.ReadAll(content)
	if err != nil {
		return fail(h, err)
	}
	id, q := fifo.New(true)
	if _, err := q.Write(rest); err != nil {
		return fail(h, err)
	}
	r, err := fifo.Open(id)
	if err != nil {
		return fail(h, err)
	}
	if rest, err = io.ReadAll(r); err != nil {
		return fail(h, err)
	}
	h.Headers().Set("X-Rest", string(rest))
	h.Write(stored)
	return 0
}

func fail(h interface{ Write([]byte) (int, error) }, err error) uint32 {
	h.Write([]byte("failed: " + err.Error()))
	return 1
}

// all is not called: it refers to a function of every other package.
//
//go:wasmexport all
func all(e uint32) uint32 {
	event.Event(e).PubSub()
	event.Event(e).P2P()
	rand.NewReader()
	dns.NewResolver()
	str.Get("x")
	http.New()
	memview.New(nil, true)
	p2p.Discover(1, 1)
	pubsub.Channel("x")
	self.Project()
	storage.New("x")
	return 0
}
