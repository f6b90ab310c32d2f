package taubyte

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	ds "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	pebbleds "github.com/ipfs/go-ds-pebble"
)

// storeFormat is written beside the engine's files, so that a folder can be
// told from a stranger's and a later version can tell what it opens. It counts the
// formats of what services keep in it as well: from 1 to 2, replicated stores were
// given checksums.
const (
	storeFormatFile = "TAUBYTE-STORE"
	storeFormat     = "taubyte store 2 (pebble)\n"
)

// OpenDatastore opens the embedded store in a folder, and makes it if need be:
// pebble, each write synced to disk before it returns. The folder belongs to
// one process at a time.
//
// A folder in use by another process gives ErrConflict; one that holds
// something else than a store, or a store of a format that this version does not
// know, ErrInvalid. Neither is touched.
//
// When less than 16 MiB are free on its disk a write is ErrUnavailable and nothing is
// written; it works again as soon as there is room.
func OpenDatastore(dir string) (Datastore, error) {
	return openDatastore(dir, vfs.Default)
}

func openDatastore(dir string, disk vfs.FS) (Datastore, error) {
	if err := claimStoreDir(dir); err != nil {
		return nil, err
	}
	cache := pebble.NewCache(32 << 20)
	defer cache.Unref() // the database holds its own reference
	room := newRoomy(disk)
	opts := &pebble.Options{
		FS:    room,
		Cache: cache,
		// Who reads what is damaged gets an error. The default ends the process.
		EventListener: &pebble.EventListener{DataCorruption: func(pebble.DataCorruptionInfo) {}},
		Logger:        quietPebble{},
		// The newest format: filters and value separation come with it.
		FormatMajorVersion: pebble.FormatNewest,
		// What is on disk beside the tables is a log as large as this. The default,
		// 4 MB, is many times what a node's registry holds.
		MemTableSize: 1 << 20,
		Cleaner:      newRemover(pebble.DeleteCleaner.Clean),
	}
	// Small tables are many, so each says which keys it has not, and finds the others
	// with one index.
	for i := range opts.Levels {
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		opts.Levels[i].IndexBlockSize = 256 << 10
	}
	d, err := pebbleds.NewDatastore(dir, pebbleds.WithPebbleOpts(opts), pebbleds.WithPebbleWriteOptions(pebble.Sync))
	if err != nil {
		room.close()
		if isLocked(err) {
			return nil, fmt.Errorf("%w: the store %s is in use by another process: stop it, or choose another folder", ErrConflict, dir)
		}
		return nil, fmt.Errorf("opening the store %s: %w", dir, err)
	}
	return &diskStore{Datastore: d, dir: dir, disk: room}, nil
}

// remover deletes files that the engine is done with. Its embedded cleaner tells the
// engine that it wants to see them first, and so keeps it from putting logs aside for
// reuse: three or four of them, several megabytes for every store, and no faster
// where that was measured. T is the engine's type of file, which has no name outside
// of it.
type remover[T any] struct{ pebble.ArchiveCleaner }

func newRemover[T any](func(pebble.DeleteCleaner, vfs.FS, T, string) error) remover[T] {
	return remover[T]{}
}

// Clean implements pebble.Cleaner.
func (remover[T]) Clean(fs vfs.FS, _ T, path string) error { return fs.Remove(path) }

// String names the cleaner in the engine's file of options.
func (remover[T]) String() string { return pebble.DeleteCleaner{}.String() }

func claimStoreDir(dir string) error {
	if dir == "" {
		return fmt.Errorf("%w store: no folder given", ErrInvalid)
	}
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("making the store %s: %w", dir, err)
		}
	case err != nil:
		return fmt.Errorf("opening the store %s: %w", dir, err)
	}
	marker := filepath.Join(dir, storeFormatFile)
	got, err := os.ReadFile(marker)
	switch {
	case err == nil && string(got) == storeFormat:
		return nil
	case err == nil && len(got) == 0 && len(entries) == 1:
		// A crash between making the marker and filling it.
	case err == nil:
		return fmt.Errorf("%w store: %s holds %q, which this version does not read: choose another folder", ErrInvalid, dir, strings.TrimSpace(string(got)))
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("opening the store %s: %w", dir, err)
	case len(entries) > 0:
		return fmt.Errorf("%w store: the folder %s is not empty and holds no store (it has %q): choose another folder", ErrInvalid, dir, entries[0].Name())
	}
	if err := os.WriteFile(marker, []byte(storeFormat), 0o600); err != nil {
		return fmt.Errorf("making the store %s: %w", dir, err)
	}
	return nil
}

// isLocked recognises pebble's refusal of a second opener: the engine gives
// the operating system's error, which differs by system, or, within one
// process, a text of its own.
func isLocked(err error) bool {
	msg := err.Error()
	return errors.Is(err, errLockHeld) ||
		strings.Contains(msg, "lock held by current process") ||
		strings.Contains(msg, "resource temporarily unavailable") ||
		strings.Contains(msg, "used by another process")
}

// MemoryDatastore returns an empty store that is gone with the process, for
// tests and for services whose state may be.
func MemoryDatastore() Datastore {
	return dssync.MutexWrap(ds.NewMapDatastore())
}

// quietPebble drops the engine's chatter, which is for its developers, and
// keeps its last word.
type quietPebble struct{}

func (quietPebble) Infof(string, ...any)  {}
func (quietPebble) Errorf(string, ...any) {}
func (quietPebble) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf("pebble: "+format, args...))
}
