package abi

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/hoarder"
)

// databases are key-value stores. A key without a slash at its start is the one with it,
// as guests of this interface expect, who put "a" and are told "/a" by a list. Nothing else
// of a key is changed: "a/", "a//b" and "x/../a" are keys of their own.
var databases = []decl{
	{"newDatabase", "iii", errno(func(g *Guest, m module, a []uint64) Errno {
		name, ok := m.text(a[0], a[1])
		if !ok {
			return ErrAddressOutOfMemory
		}
		if g.self.Stores == nil {
			return ErrDatabaseCreateFailed
		}
		id, err := g.kept.databases.open(name, func() (Database, error) { return g.self.Stores.Database(g.waiting(), name) })
		if err == nil {
			if err = g.kept.databases.admit(g, uint64(id)); err != nil {
				g.kept.databases.close(uint64(id))
			}
		}
		if err != nil {
			return g.wrong(ErrDatabaseCreateFailed, "database not opened", err)
		}
		return m.cell(a[2], id)
	})},
	{"databaseGetSize", "iiii", onKey(func(g *Guest, db Database, m module, a []uint64, key string) Errno {
		return g.measure(m, question{"databaseGet", uint32(a[0]), key}, a[3], g.value(db, key))
	})},
	{"databaseGet", "iiii", onKey(func(g *Guest, db Database, m module, a []uint64, key string) Errno {
		return g.fetch(m, question{"databaseGet", uint32(a[0]), key}, a[3], g.value(db, key))
	})},
	{"databasePut", "iiiii", onKey(func(g *Guest, db Database, m module, a []uint64, key string) Errno {
		value, ok := m.view(a[3], a[4])
		if !ok {
			return ErrAddressOutOfMemory
		}
		return g.set(db, key, value)
	})},
	{"databaseDelete", "iii", onKey(func(g *Guest, db Database, _ module, _ []uint64, key string) Errno {
		if err := db.Delete(g.waiting(), key); err != nil {
			return g.wrong(ErrDatabaseDeleteFailed, "key not deleted", err)
		}
		return ErrNone
	})},
	{"databaseListSize", "iiii", onKey(func(g *Guest, db Database, m module, a []uint64, prefix string) Errno {
		return g.measure(m, question{"databaseList", uint32(a[0]), prefix}, a[3], g.below(db, prefix))
	})},
	{"databaseList", "iiii", onKey(func(g *Guest, db Database, m module, a []uint64, prefix string) Errno {
		return g.fetch(m, question{"databaseList", uint32(a[0]), prefix}, a[3], g.below(db, prefix))
	})},
	{"databaseClose", "i", errno(func(g *Guest, _ module, a []uint64) Errno {
		if !g.kept.databases.close(a[0]) {
			return ErrDatabaseNotFound
		}
		return ErrNone
	})},
}

// onKey is a function whose first parameters are a database and a key of it.
func onKey(do func(*Guest, Database, module, []uint64, string) Errno) errno {
	return func(g *Guest, m module, a []uint64) Errno {
		db, ok := g.kept.databases.get(a[0])
		if !ok {
			return ErrDatabaseNotFound
		}
		key, ok := m.text(a[1], a[2])
		if !ok {
			return ErrAddressOutOfMemory
		}
		if !strings.HasPrefix(key, "/") {
			key = "/" + key
		}
		if err := g.kept.databases.admit(g, a[0]); err != nil {
			return g.wrong(ErrDatabaseNotFound, "database not used", err)
		}
		return do(g, db, m, a, key)
	}
}

func (g *Guest) value(db Database, key string) func() ([]byte, Errno) {
	return func() ([]byte, Errno) {
		value, err := db.Get(g.waiting(), key)
		switch {
		case err == nil:
			return value, ErrNone
		case missing(err):
			return nil, ErrDatabaseKeyNotFound
		}
		return nil, g.wrong(ErrDatabaseGetFailed, "value not read", err)
	}
}

func (g *Guest) set(db Database, key string, value []byte) Errno {
	switch {
	case key == "/" || !listable(key):
		return ErrDatabasePutFailed
	case len(value) > hoarder.MaxValue:
		return g.wrong(ErrDatabasePutFailed, "value not written", fmt.Errorf("%w: a value of %d bytes, the most is %d", taubyte.ErrTooLarge, len(value), hoarder.MaxValue))
	}
	if err := db.Put(g.waiting(), key, bytes.Clone(value)); err != nil { // it may be on its way when this has failed
		return g.wrong(ErrDatabasePutFailed, "value not written", err)
	}
	return ErrNone
}

// below lists the keys under one, which is not among them.
func (g *Guest) below(db Database, prefix string) func() ([]byte, Errno) {
	return func() ([]byte, Errno) {
		if !strings.HasSuffix(prefix, "/") {
			prefix += "/"
		}
		keys, err := db.List(g.waiting(), prefix)
		if err != nil {
			return nil, g.wrong(ErrDatabaseListFailed, "keys not listed", err)
		}
		return encode(keys), ErrNone
	}
}
