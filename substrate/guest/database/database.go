// Package database keeps values by key, replicated by the host. Which database a
// name means is the project's configuration.
//
//	db, err := database.Open("notes")
//	err = db.Put("greeting", []byte("hello"))
//	value, err := db.Get("greeting")
package database

import (
	"github.com/taubyte/taubyte/substrate/guest/errno"
	"github.com/taubyte/taubyte/substrate/guest/internal/sdk"
)

// Errors that a caller decides by.
const (
	ErrNotFound = errno.DatabaseKeyNotFound // there is no such key
	ErrNotPut   = errno.DatabasePutFailed   // for want of room, most likely
)

// DB is an open database. Whoever opens one of the same name again gets the same,
// at no cost.
type DB uint32

// Open opens the database that the configuration has for a name: of the
// function's application first, then of the project.
func Open(name string) (DB, error) {
	var id uint32
	err := sdk.NewDatabase(name, &id).Err()
	return DB(id), err
}

// Get gives the value of a key, or ErrNotFound.
func (db DB) Get(key string) ([]byte, error) {
	return sdk.Fetch(
		func(n *uint32) errno.Errno { return sdk.DatabaseGetSize(uint32(db), key, n) },
		func(b *byte, _ uint32) errno.Errno { return sdk.DatabaseGet(uint32(db), key, b) })
}

// Put sets the value of a key: UTF-8 without NUL, of at most 1024 bytes. "a" and "/a" are
// one key; otherwise keys that differ are different, "a/" and "a" or "a//b" and "a/b" too.
func (db DB) Put(key string, value []byte) error {
	data, size := sdk.Data(value)
	return sdk.DatabasePut(uint32(db), key, data, size).Err()
}

// Delete removes a key. That there is none is no error.
func (db DB) Delete(key string) error { return sdk.DatabaseDelete(uint32(db), key).Err() }

// List gives the keys below a prefix, which ends where a "/" follows: "a" has
// "/a/b" below it, but not "/ab". Keys are given with a "/" at the start.
func (db DB) List(prefix string) ([]string, error) {
	return sdk.Strings(
		func(n *uint32) errno.Errno { return sdk.DatabaseListSize(uint32(db), prefix, n) },
		func(b *byte, _ uint32) errno.Errno { return sdk.DatabaseList(uint32(db), prefix, b) })
}

// Close gives the handle back.
func (db DB) Close() error { return sdk.DatabaseClose(uint32(db)).Err() }
