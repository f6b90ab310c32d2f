// Command chat is a WebAssembly module with the two functions of the room.
package main

import (
	"bytes"
	"strconv"

	"github.com/taubyte/taubyte/substrate/guest/event"
	"github.com/taubyte/taubyte/substrate/guest/pubsub"
)

func main() {}

// socket says where the page opens its WebSocket.
//
//go:wasmexport socket
func socket(e uint32) uint32 {
	h := event.HTTP(e)
	path, err := pubsub.WebSocketURL("room")
	if err != nil {
		h.Error("The room is closed.", 503)
		return 0
	}
	h.AddHeader("Content-Type", "text/plain; charset=utf-8")
	h.WriteString(path)
	return 0
}

// count listens in the room, and says how many words each message has. The cloud
// runs it once for a message, on one of its nodes, and not for what it says itself.
//
//go:wasmexport count
func count(e uint32) uint32 {
	message := event.PubSub(e)
	channel, err := message.Channel()
	if err != nil {
		panic(err)
	}
	text, err := message.Data()
	if err != nil {
		panic(err)
	}
	name, said, ok := bytes.Cut(text, []byte(": "))
	if !ok {
		return 0
	}
	words := strconv.Itoa(len(bytes.Fields(said)))
	if err := pubsub.Publish(channel, []byte("count: "+string(name)+" said "+words+" words")); err != nil {
		panic(err)
	}
	return 0
}
