package taubyte

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

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

// StoreOption changes how OpenDatastore opens a store.
type StoreOption func(*diskStore)

// WithStoreLogger sets where the store logs that it is damaged, once. The default is
// slog.Default().
func WithStoreLogger(l *slog.Logger) StoreOption { return func(d *diskStore) { d.log = l } }

// WithRemedy sets what errors and logs of a damaged store say to do. The default is to
// set the folder aside and open an empty one in its place.
func WithRemedy(text string) StoreOption { return func(d *diskStore) { d.remedy = text } }

// OpenDatastore opens the embedded store in a folder, and makes it if need be:
// pebble, each write synced to disk before it returns. The folder belongs to
// one process at a time.
//
// A folder in use by another process gives ErrConflict; one that holds
// something else than a store, or a store of a format that this version does not
// know, ErrInvalid. Neither is touched.
//
// A store whose files are missing, cut or changed gives ErrDamaged and is not touched
// either: no entry is ever taken for absent because the file that it was in is. Move
// the folder away and open an empty one in its place; replicated stores fill from
// their other replicas. Missing from this is the end of the newest log: a disk that
// lost what it had confirmed looks like a crash before it did.
//
// Damage that is met later is an error of the operation that meets it, which is
// ErrDamaged and ErrUnavailable, and is logged once; the rest can be read. A store
// that can't go on because of it refuses writes with the same error.
//
// When less than 16 MiB are free on its disk a write is ErrUnavailable and nothing is
// written; it works again as soon as there is room.
func OpenDatastore(dir string, opts ...StoreOption) (Datastore, error) {
	return openDatastore(dir, vfs.Default, opts...)
}

func openDatastore(dir string, disk vfs.FS, opts ...StoreOption) (Datastore, error) {
	room := newRoomy(disk)
	d := &diskStore{dir: dir, disk: room, seal: newSealed(room, dir), log: slog.Default(), remedy: remedy, open: map[*entries]struct{}{}}
	for _, o := range opts {
		o(d)
	}
	if err := claimStoreDir(dir); errors.Is(err, ErrDamaged) {
		return nil, fmt.Errorf("%w: %s", err, d.remedy)
	} else if err != nil {
		return nil, err
	}
	err := d.start()
	if err == nil {
		return d, nil
	}
	room.close()
	err = errors.Join(err, d.seal.close())
	if d.lock != nil {
		err = errors.Join(err, d.lock.Close())
	}
	switch {
	case isLocked(err):
		return nil, fmt.Errorf("%w: the store %s is in use by another process: stop it, or choose another folder", ErrConflict, dir)
	case isMachine(err):
		return nil, fmt.Errorf("opening the store %s: %w", dir, firstLine{err})
	}
	return nil, fmt.Errorf("%w: %s", damagedStore(dir, firstLine{err}), d.remedy)
}

func damagedStore(dir string, err error) error {
	return fmt.Errorf("%w store %s: %w", ErrDamaged, dir, err)
}

// isMachine reports whether a store can't be opened for a reason that is not its
// files.
func isMachine(err error) bool {
	for _, reason := range []error{fs.ErrPermission, syscall.ENOSPC, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EROFS, syscall.EINTR} {
		if errors.Is(err, reason) {
			return true
		}
	}
	return false
}

// start opens the engine.
func (d *diskStore) start() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the engine stopped: %v", r)
		}
	}()
	if d.lock, err = pebble.LockDirectory(d.dir, d.seal); err != nil {
		return err
	}
	if err := d.seal.check(); err != nil {
		return err
	}
	cache := pebble.NewCache(32 << 20)
	defer cache.Unref() // the database holds its own reference
	opts := &pebble.Options{
		FS:    d.seal,
		Lock:  d.lock,
		Cache: cache,
		// Who reads what is damaged gets an error. The default ends the process.
		EventListener: &pebble.EventListener{
			DataCorruption: func(c pebble.DataCorruptionInfo) { d.found(fmt.Errorf("%s: %w", c.Path, c.Details)) },
			BackgroundError: func(err error) {
				if isDamage(err) {
					d.freeze(err)
				}
			},
		},
		Logger: engineLog{d},
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
	d.Datastore, err = pebbleds.NewDatastore(d.dir, pebbleds.WithPebbleOpts(opts), pebbleds.WithPebbleWriteOptions(pebble.Sync))
	return err
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

// isOtherFormat reports whether a marker is that of another version.
func isOtherFormat(text string) bool {
	var version, current int
	_, _ = fmt.Sscanf(storeFormat, "taubyte store %d", &current)
	_, err := fmt.Sscanf(text, "taubyte store %d", &version)
	return err == nil && version != current
}

// holdsEngine reports whether there are files of the engine.
func holdsEngine(entries []fs.DirEntry) bool {
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		return isManifest(e.Name()) || strings.HasPrefix(e.Name(), "marker.manifest.")
	})
}

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
	text := strings.TrimSpace(string(got))
	switch {
	case err == nil && string(got) == storeFormat:
		return nil
	case err == nil && len(got) == 0 && len(entries) == 1:
		// A crash between making the marker and filling it.
	case err == nil && isOtherFormat(text):
		return fmt.Errorf("%w store: %s holds %q, which this version does not read: choose another folder", ErrInvalid, dir, text)
	case err == nil && holdsEngine(entries):
		return damagedStore(dir, fmt.Errorf("%s says %q", storeFormatFile, text))
	case err == nil:
		return fmt.Errorf("%w store: %s holds no store (%s says %q): choose another folder", ErrInvalid, dir, storeFormatFile, text)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("opening the store %s: %w", dir, err)
	case holdsEngine(entries):
		return damagedStore(dir, fmt.Errorf("%s is missing", storeFormatFile))
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
