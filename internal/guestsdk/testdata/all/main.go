// A guest that uses every package of the SDK and checks what comes back.
package main

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/taubyte/taubyte/substrate/guest/cid"
	"github.com/taubyte/taubyte/substrate/guest/database"
	"github.com/taubyte/taubyte/substrate/guest/dns"
	"github.com/taubyte/taubyte/substrate/guest/errno"
	"github.com/taubyte/taubyte/substrate/guest/event"
	"github.com/taubyte/taubyte/substrate/guest/fetch"
	"github.com/taubyte/taubyte/substrate/guest/globals"
	"github.com/taubyte/taubyte/substrate/guest/i2mv"
	"github.com/taubyte/taubyte/substrate/guest/ipfs"
	"github.com/taubyte/taubyte/substrate/guest/p2p"
	"github.com/taubyte/taubyte/substrate/guest/pubsub"
	"github.com/taubyte/taubyte/substrate/guest/random"
	"github.com/taubyte/taubyte/substrate/guest/self"
	"github.com/taubyte/taubyte/substrate/guest/storage"
)

func main() {}

func check(what string, ok bool, err error) {
	if err != nil {
		panic(what + ": " + err.Error())
	}
	if !ok {
		panic(what + ": not what was expected")
	}
}

// equal is for functions with a result and an error.
func equal[T comparable](what string, want T) func(T, error) {
	return func(got T, err error) { check(what, got == want, err) }
}

func text(what, want string) func([]byte, error) {
	return func(got []byte, err error) { check(what, string(got) == want, err) }
}

func list[T comparable](what string, want ...T) func([]T, error) {
	return func(got []T, err error) { check(what, slices.Equal(got, want), err) }
}

const id = cid.CID("\x01\x55\x00\x05hello") // raw, identity

//go:wasmexport databases
func databases(uint32) uint32 {
	db, err := database.Open("notes")
	check("open", true, err)
	_, err = db.Get("/a/b")
	check("missing", errors.Is(err, errno.DatabaseKeyNotFound), nil)
	check("put", true, db.Put("/a/b", []byte("hello")))
	check("put nothing", true, db.Put("/a/c", nil))
	text("get", "hello")(db.Get("/a/b"))
	text("get nothing", "")(db.Get("/a/c"))
	list("list", "/a/b", "/a/c")(db.List("a"))
	list[string]("list none")(db.List("b"))
	check("delete", true, db.Delete("/a/b"))
	list("list", "/a/c")(db.List(""))
	check("close", true, db.Close())
	return 0
}

//go:wasmexport storages
func storages(uint32) uint32 {
	s, err := storage.Open("files")
	check("open", true, err)
	list[storage.Entry]("empty")(s.List())
	data := bytes.Repeat([]byte("data"), 10_000)
	equal[uint32]("add", 1)(s.Add("a/b.txt", data, false))
	equal[uint32]("add again", 2)(s.Add("a/b.txt", nil, false))
	equal[uint32]("overwrite", 2)(s.Add("a/b.txt", []byte("new"), true))
	f, err := s.File("a/b.txt", 1)
	check("file", true, err)
	text("read", string(data))(io.ReadAll(f))
	check("close", true, f.Close())
	list("list", storage.Entry{Name: "a/b.txt", Version: 1}, storage.Entry{Name: "a/b.txt", Version: 2})(s.List())
	list[uint32]("versions", 1, 2)(s.Versions("a/b.txt"))
	equal[uint32]("version", 2)(s.Version("a/b.txt"))
	equal[uint64]("used", 40_003)(s.Used())
	equal[uint64]("capacity", 1<<40)(s.Capacity())
	equal("cid", id)(s.CID("a/b.txt"))
	check("delete", true, s.Delete("a/b.txt", 1))
	check("delete all", true, s.DeleteAll("a/b.txt"))
	_, err = s.File("a/b.txt", storage.Latest)
	check("missing", errors.Is(err, errno.GetFileFailed), nil)

	c, err := storage.NewContent()
	check("content", true, err)
	content(c)
	c, err = storage.OpenContent(id)
	check("open content", true, err)
	text("opened", "hello")(io.ReadAll(c))
	_, err = storage.OpenContent("nonsense")
	check("nonsense", errors.Is(err, cid.ErrInvalid), nil)
	return 0
}

func content(c interface {
	io.ReadWriteSeeker
	io.Closer
	Push() (cid.CID, error)
}) {
	equal("write", 11)(c.Write([]byte("hello world")))
	equal[int64]("seek", 6)(c.Seek(-5, io.SeekEnd))
	text("rest", "world")(io.ReadAll(c))
	equal("push", id)(c.Push())
	check("close", true, c.Close())
}

//go:wasmexport ipfss
func ipfss(uint32) uint32 {
	client, err := ipfs.New()
	check("new", true, err)
	c, err := client.NewContent()
	check("content", true, err)
	content(c)
	c, err = client.Open(id)
	check("open", true, err)
	equal("cid", id)(c.CID())
	text("opened", "hello")(io.ReadAll(c))
	return 0
}

//go:wasmexport messages
func messages(e uint32) uint32 {
	check("kind", event.KindOf(e) == event.KindPubSub, nil)
	equal("channel", "room/1")(event.PubSub(e).Channel())
	text("data", "hi")(event.PubSub(e).Data())
	check("subscribe", true, pubsub.Subscribe("room/1"))
	check("publish", true, pubsub.Publish("room/1", []byte("back")))
	equal("url", "ws-x/room/1")(pubsub.WebSocketURL("room/1"))
	_, err := event.P2P(e).Data()
	check("another kind", errors.Is(err, errno.NilAddress), nil)
	return 0
}

//go:wasmexport peers
func peers(e uint32) uint32 {
	x := event.P2P(e)
	check("kind", event.KindOf(e) == event.KindP2P, nil)
	equal("protocol", "/p/v1")(x.Protocol())
	equal("command", "greet")(x.Command())
	text("data", "hi")(x.Data())
	equal("from", id)(x.From())
	equal("to", id)(x.To())
	check("reply", true, x.Reply([]byte("back")))

	c, err := p2p.NewCommand("/p/v1", "greet")
	check("command", true, err)
	text("send", "greet: hi")(c.Send([]byte("hi")))
	text("send to", "greet: you")(c.SendTo(id, []byte("you")))
	text("send nothing", "greet: ")(c.Send(nil))
	equal("listen", "x/p/v1")(p2p.Listen("/p/v1"))
	list("discover", id, id)(p2p.Discover(2, 10*time.Second))
	return 0
}

//go:wasmexport others
func others(uint32) uint32 {
	r, err := fetch.Do(fetch.Request{Method: "POST", URL: "https://example.com/", Header: map[string][]string{"A": {"1", "2"}}, Body: []byte("in")})
	check("fetch", true, err)
	text("body", "2 https://example.com/ A=1,2 in")(io.ReadAll(r.Body))
	list("header", "v1", "v2")(r.Header("X"), nil)
	list("headers", "X", "Y")(r.HeaderNames(), nil)
	check("close", true, r.Body.Close())
	_, err = fetch.Do(fetch.Request{Method: "NONE"})
	check("method", errors.Is(err, errno.InvalidMethod), nil)
	_, err = fetch.Get("http://127.0.0.1/")
	check("refused", errors.Is(err, errno.HttpRequestFailed), nil)

	d, err := dns.New()
	check("resolver", true, err)
	check("use", true, d.Use("9.9.9.9:53", "udp"))
	check("reset", true, d.Reset())
	list("txt", "one", "two")(d.TXT("example.com"))
	list("names", "a.", "b.")(d.Names("9.9.9.9"))
	equal("cname", "c.")(d.CNAME("example.com"))
	list("mx", dns.MX{Host: "m.", Preference: 10}, dns.MX{Host: "n.", Preference: 20})(d.MX("example.com"))

	equal("project", "project")(self.Project())
	equal("application", "")(self.Application())
	equal("id", "id")(self.ID())
	equal("branch", "main")(self.Branch())
	equal("commit", "commit")(self.Commit())

	for _, s := range []globals.Scope{globals.Project, globals.Application, globals.Function, globals.Both} {
		_, err = s.Uint64("n")
		check("missing", errors.Is(err, errno.DatabaseKeyNotFound), nil)
		check("set", true, errors.Join(s.SetString("n", "text"), s.SetUint32("n", 1), s.SetUint64("n", 1<<40), s.SetFloat32("n", 1.5), s.SetFloat64("n", -2.5)))
		equal("string", "text")(s.String("n"))
		equal[uint32]("uint32", 1)(s.Uint32("n"))
		equal[uint64]("uint64", 1<<40)(s.Uint64("n"))
		equal[float32]("float32", 1.5)(s.Float32("n"))
		equal("float64", -2.5)(s.Float64("n"))
	}

	b := make([]byte, 16)
	equal("random", 16)(random.Read(b))
	check("random", string(b) == "rrrrrrrrrrrrrrrr", nil)

	v, err := i2mv.NewView([]byte("seen"))
	check("view", true, err)
	vr, err := i2mv.OpenView(v.ID)
	check("open view", true, err)
	text("view", "seen")(io.ReadAll(vr))
	check("close", true, v.Close())
	q := i2mv.NewFifo()
	equal("fifo", 3)(q.Write([]byte("abc")))
	text("fifo", "abc")(io.ReadAll(q))
	check("close", true, q.Close())
	return 0
}
