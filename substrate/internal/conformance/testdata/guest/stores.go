//go:build wasip1

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing/iotest"

	"github.com/taubyte/taubyte/substrate/guest/cid"
	"github.com/taubyte/taubyte/substrate/guest/database"
	"github.com/taubyte/taubyte/substrate/guest/errno"
	"github.com/taubyte/taubyte/substrate/guest/globals"
	"github.com/taubyte/taubyte/substrate/guest/ipfs"
	"github.com/taubyte/taubyte/substrate/guest/storage"
)

// zeros is without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func init() {
	families["database"] = func(w http.ResponseWriter, _ *http.Request) {
		db, err := database.Open("notes")
		check("open", true, err)
		_, err = db.Get("/a/b")
		check("missing", errors.Is(err, database.ErrNotFound), nil)
		check("put", true, db.Put("/a/b", []byte("hello")))
		check("put", true, db.Put("a/c", nil))
		check("put", true, db.Put("ab", []byte{0, 1, 2}))
		text("get", "hello")(db.Get("a/b"))
		text("get nothing", "")(db.Get("/a/c"))
		list("list", "/a/b", "/a/c")(db.List("a")) // and not /ab
		list[string]("list none")(db.List("b"))
		list("list all", "/a/b", "/a/c", "/ab")(db.List(""))
		check("too much", errors.Is(db.Put("large", make([]byte, 2<<20)), database.ErrNotPut), nil)
		check("delete", true, errors.Join(db.Delete("/a/b"), db.Delete("a/c"), db.Delete("ab"), db.Delete("nothing")))
		list[string]("list none")(db.List(""))
		check("close", true, db.Close())

		// The name that was asked for is what tells two databases apart.
		one, err := database.Open("some1")
		check("open", true, err)
		two, err := database.Open("some2")
		check("open", true, err)
		check("put", true, one.Put("k", []byte("1")))
		_, err = two.Get("k")
		check("another database", errors.Is(err, database.ErrNotFound), nil)
		check("delete", true, one.Delete("k"))
		_, err = database.Open("nobody's")
		check("not configured", errors.Is(err, errno.DatabaseCreateFailed), nil)
		fmt.Fprint(w, "ok")
	}
	families["storage"] = func(w http.ResponseWriter, _ *http.Request) {
		s, err := storage.Open("files")
		check("open", true, err)
		list[storage.Entry]("empty")(s.List())
		v, err := s.AddFrom("stream", io.LimitReader(zeros{}, 300_000), false)
		check("add from", v == 1, err)
		_, err = s.AddFrom("broken", io.MultiReader(strings.NewReader("x"), iotest.ErrReader(io.ErrUnexpectedEOF)), false)
		check("add from what breaks", errors.Is(err, io.ErrUnexpectedEOF), nil)
		equal("used", uint64(300_000))(s.Used())
		list("list", storage.Entry{Name: "stream", Version: 1})(s.List())
		check("delete", true, s.DeleteAll("stream"))
		data := bytes.Repeat([]byte("data"), 100_000)
		first, err := s.Add("doc.txt", data, false)
		check("add", true, err)
		equal("add again", first+1)(s.Add("doc.txt", []byte("new"), false))
		f, err := s.File("doc.txt", first)
		check("file", true, err)
		text("read", string(data))(io.ReadAll(f))
		check("close", true, f.Close())
		f, err = s.File("doc.txt", storage.Latest)
		check("latest", true, err)
		text("read", "new")(io.ReadAll(f))
		check("close", true, f.Close())
		list("versions", first, first+1)(s.Versions("doc.txt"))
		equal("version", first+1)(s.Version("doc.txt"))
		list("list", storage.Entry{Name: "doc.txt", Version: first}, storage.Entry{Name: "doc.txt", Version: first + 1})(s.List())
		used, err := s.Used()
		check("used", used >= 400_003, err)
		equal("capacity", uint64(1<<30))(s.Capacity())
		id, err := s.CID("doc.txt")
		check("cid", id != "", err)
		check("delete", true, s.Delete("doc.txt", first))
		check("delete all", true, s.DeleteAll("doc.txt"))
		_, err = s.File("doc.txt", storage.Latest)
		check("missing", err != nil, nil)

		plain, err := storage.Open("plain")
		check("open", true, err)
		_, err = plain.Add("one", []byte("1"), true)
		check("add", true, err)
		_, err = plain.Add("one", []byte("2"), false)
		check("there already", errors.Is(err, errno.AddFileFailed), nil)
		check("delete", true, plain.DeleteAll("one"))
		_, err = storage.Open("nobody's")
		check("not configured", errors.Is(err, errno.DatabaseCreateFailed), nil)
		fmt.Fprint(w, "ok")
	}
	families["content"] = func(w http.ResponseWriter, _ *http.Request) {
		c, err := storage.NewContent()
		check("new", true, err)
		id := pushed(c)
		c, err = storage.OpenContent(id)
		check("open", true, err)
		text("opened", "hello world")(io.ReadAll(c))
		check("close", true, c.Close())
		fmt.Fprint(w, "ok")
	}
	families["ipfs"] = func(w http.ResponseWriter, _ *http.Request) {
		client, err := ipfs.New()
		check("client", true, err)
		c, err := client.NewContent()
		check("new", true, err)
		id := pushed(c)
		c, err = client.Open(id)
		check("open", true, err)
		equal("cid", id)(c.CID())
		text("opened", "hello world")(io.ReadAll(c))
		check("close", true, c.Close())
		fmt.Fprint(w, "ok")
	}
	families["globals"] = func(w http.ResponseWriter, _ *http.Request) {
		for i, s := range []globals.Scope{globals.Project, globals.Function} {
			name := fmt.Sprint("n", i)
			check("set", true, errors.Join(s.SetString(name, "text"), s.SetUint32(name, 1), s.SetUint64(name, 1<<40), s.SetFloat32(name, 1.5), s.SetFloat64(name, -2.5)))
			equal("string", "text")(s.String(name))
			equal[uint32]("uint32", 1)(s.Uint32(name))
			equal[uint64]("uint64", 1<<40)(s.Uint64(name))
			equal[float32]("float32", 1.5)(s.Float32(name))
			equal("float64", -2.5)(s.Float64(name))
		}
		_, err := globals.Function.Uint64("n0")
		check("another scope", err != nil, nil)
		fmt.Fprint(w, "ok")
	}
}

// pushed writes a content, reads it, and gives it to the network.
func pushed(c interface {
	io.ReadWriteSeeker
	io.Closer
	Push() (cid.CID, error)
}) cid.CID {
	equal("write", 11)(c.Write([]byte("hello world")))
	equal[int64]("seek", 6)(c.Seek(-5, io.SeekEnd))
	text("rest", "world")(io.ReadAll(c))
	id, err := c.Push()
	check("push", id != "", err)
	check("close", true, c.Close())
	return id
}
