// A guest written for the public go-sdk, but for the way in which its entry points are
// declared. The packages below examples are made by the test: they are examples of the
// go-sdk, as they are.
package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"public/examples/example_database"
	"public/examples/example_http"
	"public/examples/example_p2p"
	"public/examples/example_pubsub"

	"github.com/taubyte/go-sdk/crypto/rand"
	"github.com/taubyte/go-sdk/dns"
	ethereum "github.com/taubyte/go-sdk/ethereum/client"
	"github.com/taubyte/go-sdk/event"
	"github.com/taubyte/go-sdk/http/client"
	http "github.com/taubyte/go-sdk/http/event"
	"github.com/taubyte/go-sdk/i2mv/fifo"
	"github.com/taubyte/go-sdk/i2mv/memview"
	p2p "github.com/taubyte/go-sdk/p2p/node"
	pubsub "github.com/taubyte/go-sdk/pubsub/node"
	"github.com/taubyte/go-sdk/self"
)

func main() {}

// result logs what an example returned: hosts do not look at it.
func result(name string, n uint32) uint32 {
	fmt.Println("example", name, "returned", n)
	return n
}

//go:wasmexport exampleHTTP
func exampleHTTP(e uint32) uint32 { return result("http", example_http.Run(event.Event(e))) }

//go:wasmexport exampleDatabase
func exampleDatabase(e uint32) uint32 {
	return result("database", example_database.Run(event.Event(e)))
}

//go:wasmexport examplePubSub
func examplePubSub(e uint32) uint32 { return result("pubsub", example_pubsub.Run(event.Event(e))) }

//go:wasmexport exampleP2P
func exampleP2P(e uint32) uint32 { return result("p2p", example_p2p.Run(event.Event(e))) }

var families = map[string]func(h http.Event, body []byte){
	"http": func(h http.Event, body []byte) {
		equal("body", "sent", string(body), nil)
		method, err := h.Method()
		equal("method", "POST", method, err)
		host, err := h.Host()
		equal("host", "conformance.example.test", host, err)
		agent, err := h.UserAgent()
		equal("agent", "tester", agent, err)
		names, err := h.Headers().List()
		check("headers", slices.Contains(names, "X-Word"), err)
		word, err := h.Headers().Get("x-word")
		equal("header", "first", word, err)
		keys, err := h.Query().List()
		equal("query", "one two", strings.Join(keys, " "), err)
		two, err := h.Query().Get("two")
		equal("query", "2 3", two, err)
		check("header", true, h.Headers().Set("X-Answer", "one"))
		check("status", true, h.Return(418))
	},
	"redirect": func(h http.Event, _ []byte) { check("redirect", true, h.Redirect("/elsewhere").Temporary()) },
	"fetch": func(_ http.Event, url []byte) {
		c, err := client.New()
		check("client", true, err)
		r, err := c.Request(string(url), client.Method("PUT"), client.Body([]byte("in")),
			client.Headers(map[string][]string{"X-Sent": {"1", "2"}}))
		check("request", true, err)
		check("add", true, r.Headers().Add("X-Sent", "3"))
		sent, err := r.Headers().Get("X-Sent")
		equal("headers", "1 2 3", strings.Join(sent, " "), err)
		list, err := r.Headers().List()
		equal("headers", "X-Sent", strings.Join(list, " "), err)
		method, err := r.Method().Get()
		equal("method", "PUT", method, err)
		resp, err := r.Do()
		check("do", true, err)
		text, err := io.ReadAll(resp.Body())
		equal("body", `far got "in"`, string(text), err)
		got, err := resp.Headers().Get("X-Got")
		equal("headers", "1 2 3", strings.Join(got, " "), err)
		all, err := resp.Headers().GetAll()
		equal("headers", "PUT", strings.Join(all["X-Method"], " "), err)
		check("close", true, resp.Body().Close())
	},
	"dns": func(_ http.Event, server []byte) {
		d, err := dns.NewResolver()
		check("resolver", true, err)
		check("reroute", true, d.Reroute(string(server), "udp"))
		txt, err := d.LookupTXT("records.example.test")
		equal("txt", "one two", strings.Join(txt, " "), err)
		names, err := d.LookupAddress("192.0.2.7")
		equal("names", "a.example.test.", strings.Join(names, " "), err)
		cname, err := d.LookupCNAME("records.example.test")
		equal("cname", "target.example.test.", cname, err)
		mx, err := d.LookupMX("records.example.test")
		check("mx", err == nil && len(mx) == 2 && mx[0].Host == "m.example.test." && mx[1].Pref == 20, err)
		check("reset", true, d.Reset())
	},
	"self": func(h http.Event, _ []byte) {
		id, err := self.Function()
		equal("id", "id-public", id, err)
		application, err := self.Application()
		equal("application", "", application, err)
		branch, err := self.Branch() // the plain name
		equal("branch", "main", branch, err)
		commit, err := self.Commit()
		check("commit", len(commit) == 40, err)
		project, err := self.Project()
		check("project", project != "", err)
	},
	"memory": func(_ http.Event, _ []byte) {
		b := make([]byte, 32)
		n, err := rand.NewReader().Read(b)
		check("random", n == 32 && !bytes.Equal(b, make([]byte, 32)), err)
		id, closer, err := memview.New([]byte("seen and more"), true)
		check("view", true, err)
		v, err := memview.Open(id)
		check("open", v.Size() == 13, err)
		at, err := v.Seek(5, io.SeekStart)
		check("seek", at == 5, err)
		rest, err := io.ReadAll(v)
		equal("view", "and more", string(rest), err)
		check("close", closer.Close() != nil, nil) // the SDK knows this one as not closable
		check("close", true, v.Close())
		fifoID, w := fifo.New(true)
		_, err = w.Write([]byte("abc"))
		check("fifo", true, err)
		q, err := fifo.Open(fifoID)
		check("fifo", true, err)
		rest, err = io.ReadAll(q)
		equal("fifo", "abc", string(rest), err)
		check("close", true, q.Close()) // does nothing: the SDK has a body for it
	},
	"publish": func(_ http.Event, _ []byte) {
		c, err := pubsub.Channel("rooms/example")
		check("channel", true, err)
		check("subscribe", true, c.Subscribe())
		check("publish", true, c.Publish([]byte("Hello, world!")))
		url, err := c.WebSocket().Url()
		check("url", strings.HasPrefix(url.Path, "ws-") && strings.HasSuffix(url.Path, "/rooms/example"), err)
	},
	"command": func(_ http.Event, _ []byte) {
		service := p2p.New("/greeting/v1")
		command, err := service.Command("greet")
		check("command", true, err)
		reply, err := command.Send([]byte("you"))
		equal("reply", "Hello from the other side!", string(reply), err)
		name, err := service.Listen()
		check("listen", strings.HasSuffix(name, "/greeting/v1"), err)
		_, err = p2p.Discover(3, 10*time.Millisecond)
		check("discover", true, err)
	},
	"ethereum": func(_ http.Event, _ []byte) {
		_, err := ethereum.New("https://chain.example.test")
		check("refused", err != nil && strings.Contains(err.Error(), "ethereum"), nil)
	},
}

//go:wasmexport handle
func handle(e uint32) uint32 {
	h, err := event.Event(e).HTTP()
	if err != nil {
		return 1
	}
	defer func() {
		if p := recover(); p != nil {
			h.Return(500)
			h.Write([]byte(fmt.Sprint(p)))
		}
	}()
	path, err := h.Path()
	check("path", true, err)
	body, err := io.ReadAll(h.Body())
	check("body", true, err)
	check("close", true, h.Body().Close())
	families[strings.TrimPrefix(path, "/public/")](h, body)
	if path != "/public/redirect" {
		h.Write([]byte("ok"))
	}
	return 0
}

func check(what string, ok bool, err error) {
	if err != nil {
		panic(what + ": " + err.Error())
	}
	if !ok {
		panic(what + ": not what was expected")
	}
}

func equal(what, want, got string, err error) {
	if got != want && err == nil {
		panic(fmt.Sprintf("%s: %q instead of %q", what, got, want))
	}
	check(what, true, err)
}
