package hoarder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/taubyte/taubyte"
)

// DatabaseSpec says how a database is kept.
type DatabaseSpec struct {
	// Min and Max are how many replicas it should have, as far as there are
	// hoarders; 0 stands for 2 and 3. Max is what it gets. When a replica is lost
	// another takes over soon if fewer than Min are left, and otherwise later.
	Min, Max int
	// Size is how many bytes its keys and values may take; 0 stands for
	// DefaultDatabaseSize. Replicas that are written to at the same moment can
	// exceed it by what is under way at the others.
	Size int64
}

// A Database is a handle of a key-value store. It is safe for concurrent use.
//
// A write is on the disk of every replica in sync when it returns: two at least, or
// PutCopies says that it is not. What this client wrote to a database, by whatever handle, its later calls see, on
// whatever replica they end; a call that can't be given that is
// taubyte.ErrUnavailable.
type Database struct{ h *handle }

// Get returns a value, or taubyte.ErrNotFound if there is no such key, and in no
// other case.
func (d *Database) Get(ctx context.Context, key string) (value []byte, err error) {
	err = d.h.do(ctx, readWait, func(ctx context.Context, s site, r ref, after position) error {
		value, err = s.get(ctx, r, after, key)
		return err
	})
	return value, d.h.wrap("getting", key, err)
}

// Put writes a value of at most MaxValue bytes under a key: UTF-8 of 1 to MaxKey
// bytes. ErrFull means that the database has no room for it.
func (d *Database) Put(ctx context.Context, key string, value []byte) error {
	_, err := d.PutCopies(ctx, key, value)
	return err
}

// PutCopies is Put, and says on how many disks the value is.
func (d *Database) PutCopies(ctx context.Context, key string, value []byte) (c Copies, err error) {
	if value == nil {
		value = []byte{}
	}
	err = d.h.do(ctx, writeWait, func(ctx context.Context, s site, r ref, after position) error {
		w, err := s.write(ctx, r, after, key, value)
		c = w.Copies
		return d.h.wrote(r, w, err)
	})
	return c, d.h.wrap("putting", key, err)
}

// Delete removes a key. That it is not there is no error.
func (d *Database) Delete(ctx context.Context, key string) error {
	return d.h.wrap("deleting", key, d.h.do(ctx, writeWait, func(ctx context.Context, s site, r ref, after position) error {
		w, err := s.write(ctx, r, after, key, nil)
		return d.h.wrote(r, w, err)
	}))
}

// List returns the keys that begin with prefix, sorted by their bytes.
func (d *Database) List(ctx context.Context, prefix string) (keys []string, err error) {
	err = d.h.do(ctx, readWait, func(ctx context.Context, s site, r ref, after position) error {
		keys, err = s.list(ctx, r, after, prefix)
		return err
	})
	return keys, d.h.wrap("listing", prefix, err)
}

// Used returns how many bytes the keys and values take.
func (d *Database) Used(ctx context.Context) (int64, error) { return d.h.total(ctx) }

// Capacity is how many they may take.
func (d *Database) Capacity() int64 { return d.h.capacity() }

// Close gives the handle up. It may be called twice.
func (d *Database) Close() error { return nil }

// entryKey is where a database's key is kept: cut at its slashes, so that the keys
// below one are found without reading the others, each part marked, so that none is
// empty or a dot.
func entryKey(key string) string {
	return entries + "/+" + strings.ReplaceAll(key, "/", "/+")
}

func entryName(key string) string {
	return strings.ReplaceAll(strings.TrimPrefix(key, entries+"/+"), "/+", "/")
}

func (s *Service) get(ctx context.Context, r ref, after position, key string) (value []byte, err error) {
	if err := checkKey("key", key); err != nil {
		return nil, err
	}
	err = s.reading(ctx, r, kindDatabase, after, false, func(rep *replica) error {
		value, err = rep.data.Get(ctx, ds.RawKey(entryKey(key)))
		if errors.Is(err, ds.ErrNotFound) {
			return fmt.Errorf("%w: no such key", taubyte.ErrNotFound)
		}
		return err
	})
	return value, err
}

func (s *Service) write(ctx context.Context, r ref, after position, key string, value []byte) (w written, err error) {
	if err := checkKey("key", key); err != nil {
		return w, err
	}
	if len(value) > MaxValue {
		return w, errTooLong(value)
	}
	err = s.with(ctx, r, kindDatabase, after, func(rep *replica) error {
		seq, disks, err := rep.change(ctx, func(t *tx) error {
			at := entryKey(key)
			old, err := t.get(at)
			if err != nil || old == nil && value == nil {
				return err
			}
			return t.set(at, old, value)
		})
		w = rep.answer(seq, disks)
		return err
	})
	return w, err
}

// answer is what a write returns of this replica.
func (r *replica) answer(seq uint64, disks int) written {
	r.mu.Lock()
	least := r.spec.Min
	r.mu.Unlock()
	wanted := r.s.wanted(r.h, least)
	if seq == 0 {
		disks = wanted // nothing had to be written
	}
	return written{After: position{r.s.host.ID(): seq}, Copies: Copies{Disks: disks, Wanted: wanted}}
}

func (s *Service) list(ctx context.Context, r ref, after position, prefix string) (keys []string, err error) {
	if len(prefix) > MaxKey {
		return nil, fmt.Errorf("%w prefix of %d bytes", taubyte.ErrInvalid, len(prefix))
	}
	keys = []string{}
	err = s.reading(ctx, r, kindDatabase, after, true, func(rep *replica) error {
		below := entries
		if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
			below = entryKey(prefix[:i])
		}
		res, err := rep.data.Query(ctx, query.Query{Prefix: below, KeysOnly: true})
		if err != nil {
			return err
		}
		defer res.Close()
		for e := range res.Next() {
			if e.Error != nil {
				return e.Error
			}
			if name := entryName(e.Key); strings.HasPrefix(name, prefix) {
				keys = append(keys, name)
			}
		}
		slices.Sort(keys)
		return nil
	})
	return keys, err
}

func (s *Service) usedBytes(ctx context.Context, r ref, after position) (n int64, err error) {
	err = s.reading(ctx, r, "", after, true, func(rep *replica) error {
		err := rep.recount(ctx)
		n = rep.size()
		return err
	})
	return n, err
}

// recount sets right what other replicas may have made wrong, if that is soon done.
func (r *replica) recount(ctx context.Context) error {
	r.mu.Lock()
	r.unsure = r.unsure || r.foreign && r.total().items < 4096
	unsure := r.unsure
	r.mu.Unlock()
	if !unsure {
		return nil
	}
	_, _, err := r.change(ctx, func(*tx) error { return nil })
	return err
}

func errTooLong(value []byte) error {
	return fmt.Errorf("%w: a value of %d bytes, the most is %d", taubyte.ErrTooLarge, len(value), MaxValue)
}
