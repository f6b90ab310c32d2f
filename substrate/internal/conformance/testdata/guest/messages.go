//go:build wasip1

package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/taubyte/taubyte/substrate/guest"
	"github.com/taubyte/taubyte/substrate/guest/cid"
	"github.com/taubyte/taubyte/substrate/guest/errno"
	"github.com/taubyte/taubyte/substrate/guest/event"
	"github.com/taubyte/taubyte/substrate/guest/p2p"
	"github.com/taubyte/taubyte/substrate/guest/pubsub"
)

// A channel's name may have slashes.
const room = "rooms/a/b"

func init() {
	families["publish"] = func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		check("subscribe", true, pubsub.Subscribe(room))
		check("publish", true, pubsub.Publish(room, text))
		check("publish text", true, pubsub.PublishText(room, "grüße"))
		check("publish what is no text", errors.Is(pubsub.PublishText(room, "\xff"), errno.PublishFailed), nil)
		url, err := pubsub.WebSocketURL(room)
		check("url", strings.HasPrefix(url, "ws-") && strings.HasSuffix(url, "/"+room), err)
		check("no channel", errors.Is(pubsub.Subscribe("nowhere"), errno.SubscribeFailed), nil)
		_, err = pubsub.WebSocketURL("nowhere")
		check("no channel", errors.Is(err, errno.GetWebSocketURLFailed), nil)
		fmt.Fprint(w, "ok")
	}
	families["command"] = func(w http.ResponseWriter, _ *http.Request) {
		c, err := p2p.NewCommand("/greeting/v1", "greet")
		check("command", true, err)
		text("send", "hello you")(c.Send([]byte("you")))
		text("send nothing", "hello ")(c.Send(nil))
		id, err := c.Send([]byte("who?"))
		check("send", len(id) > 0, err)
		text("send to", "hello you")(c.SendTo(cid.CID(id), []byte("you")))
		name, err := p2p.Listen("/greeting/v1")
		check("listen", strings.HasSuffix(name, "/greeting/v1"), err)
		_, err = p2p.NewCommand("/nobody/v1", "greet")
		check("no service", err != nil, nil)
		_, err = p2p.Discover(3, 10*time.Millisecond)
		check("discover", true, err)
		fmt.Fprint(w, "ok")
	}
}

//go:wasmexport onMessage
func onMessage(e uint32) {
	check("kind", event.KindOf(e) == event.KindPubSub, nil)
	equal("channel", room)(event.PubSub(e).Channel())
	data, err := event.PubSub(e).Data()
	check("data", true, err)
	// What is of another kind of event fails.
	_, err = event.P2P(e).Data()
	check("command", errors.Is(err, errno.NilAddress), nil)
	check("timer", event.Timer(e).Due() == 0, nil)
	check("request", event.HTTP(e).Method() == "" && event.HTTP(e).Status(200) != nil, nil)
	_, err = event.PubSub(e + 1).Data()
	check("no event", errors.Is(err, errno.EventNotFound), nil)
	fmt.Printf("heard %q\n", data)
}

//go:wasmexport onCommand
func onCommand(e uint32) uint32 {
	x := event.P2P(e)
	protocol, err := x.Protocol()
	check("protocol", strings.HasSuffix(protocol, "/greeting/v1"), err)
	equal("command", "greet")(x.Command())
	data, err := x.Data()
	check("data", true, err)
	from, err := x.From()
	check("from", from != "", err)
	to, err := x.To()
	check("to", to != "", err)
	if string(data) == "who?" {
		check("reply", true, x.Reply([]byte(to)))
		return 0
	}
	check("reply", true, x.Reply([]byte("hello "+string(data))))
	return 0
}

//go:wasmexport onTick
func onTick(e uint32) uint32 {
	return guest.ServeTimer(e, func(due time.Time) error {
		fmt.Println("tick in step:", due.Nanosecond() == 0 && time.Since(due) < time.Minute)
		return nil
	})
}
