package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/taubyte/go-sdk/database"
	"github.com/taubyte/go-sdk/globals/f32"
	"github.com/taubyte/go-sdk/globals/f64"
	"github.com/taubyte/go-sdk/globals/scope"
	"github.com/taubyte/go-sdk/globals/str"
	"github.com/taubyte/go-sdk/globals/u32"
	"github.com/taubyte/go-sdk/globals/u64"
	http "github.com/taubyte/go-sdk/http/event"
	ipfs "github.com/taubyte/go-sdk/ipfs/client"
	"github.com/taubyte/go-sdk/storage"
)

func init() {
	families["database"] = func(_ http.Event, _ []byte) {
		db, err := database.New("notes")
		check("new", true, err)
		check("put", true, db.Put("test/1", []byte("one")))
		check("put", true, db.Put("testing", []byte("two")))
		value, err := db.Get("test/1")
		equal("get", "one", string(value), err)
		keys, err := db.List("test")
		equal("list", "/test/1", strings.Join(keys, " "), err)
		_, err = db.Get("missing")
		check("missing", err != nil, nil)
		check("delete", true, db.Delete("test/1"))
		check("delete", true, db.Delete("testing"))
		check("close", true, db.Close())
	}
	families["storage"] = func(_ http.Event, _ []byte) {
		s, err := storage.New("files")
		check("new", true, err)
		files, err := s.ListFiles() // the SDK would panic on a size of 0
		check("empty", len(files) == 0, err)
		f := s.File("public.txt")
		version, err := f.Add([]byte("hello"), false)
		check("add", version > 0, err)
		current, err := f.CurrentVersion()
		check("version", current == version, err)
		versions, err := f.Versions()
		check("versions", len(versions) == 1 && versions[0] == fmt.Sprint(version), err)
		files, err = s.ListFiles()
		check("files", len(files) == 1, err)
		id, err := s.Cid("public.txt")
		check("cid", id.Defined(), err)
		again, err := storage.Get("files")
		check("get", true, err)
		file, err := again.File("public.txt").GetFile()
		check("file", true, err)
		text, err := io.ReadAll(file)
		equal("read", "hello", string(text), err)
		check("close", true, file.Close())
		left, err := s.RemainingCapacity()
		check("left", left > 0 && left <= 1<<30-5, err)
		check("delete", true, f.DeleteAllVersions())
		_, err = storage.Get("never opened")
		check("unknown", err != nil, nil)

		c, err := storage.Create()
		check("create", true, err)
		_, err = c.Write([]byte("hello world"))
		check("write", true, err)
		pushed, err := c.Push()
		check("push", c.Close() != nil, err) // the SDK's Push closes it
		r, err := storage.Open(pushed)
		check("open", true, err)
		text, err = io.ReadAll(r)
		equal("read", "hello world", string(text), err)
	}
	families["ipfs"] = func(_ http.Event, _ []byte) {
		c, err := ipfs.New()
		check("client", true, err)
		content, err := c.Create()
		check("create", true, err)
		_, err = content.Write([]byte("hello world"))
		check("write", true, err)
		at, err := content.Seek(-5, io.SeekEnd)
		check("seek", at == 6, err)
		rest, err := io.ReadAll(content)
		equal("rest", "world", string(rest), err)
		id, err := content.Push()
		check("push", true, err)
		r, err := c.Open(id)
		check("open", true, err)
		text, err := io.ReadAll(r)
		equal("read", "hello world", string(text), err)
		got, err := r.Cid()
		check("cid", got == id, err)
		check("close", true, r.Close())
	}
	families["globals"] = func(_ http.Event, _ []byte) {
		n, err := u32.GetOrCreate("made")
		check("create", n != nil, err) // a size of 0, and then of 4
		check("set", true, n.Set(7))
		n, err = u32.Get("made")
		check("get", n.Value() == 7, err)
		check("set", true, n.Set(0))
		big, err := u64.GetOrCreate("big", scope.Function)
		check("create", true, err)
		check("set", true, big.Set(1<<40))
		big, err = u64.Get("big", scope.Function)
		check("get", big.Value() == 1<<40, err)
		f, err := f32.GetOrCreate("f32")
		check("create", true, err)
		check("set", true, f.Set(1.5))
		f, err = f32.Get("f32")
		check("get", f.Value() == 1.5, err)
		d, err := f64.GetOrCreate("f64")
		check("create", true, err)
		check("set", true, d.Set(-2.5))
		d, err = f64.Get("f64")
		check("get", d.Value() == -2.5, err)
		s, err := str.GetOrCreate("text")
		check("create", true, err)
		check("set", true, s.Set("hello"))
		s, err = str.Get("text")
		equal("get", "hello", s.Value(), err)
		_, err = u64.Get("never made")
		check("unknown", err != nil, nil)
	}
}
