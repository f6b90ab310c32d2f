package taubyte

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	ds "github.com/ipfs/go-datastore"
	pebbleds "github.com/ipfs/go-ds-pebble"
)

// diskStore is the embedded store. It stands between the engine and its callers
// where the engine would end the process or say nothing: a disk that is full, files
// that are damaged.
type diskStore struct {
	*pebbleds.Datastore
	dir  string
	disk *roomy
	seal *sealed
	lock *pebble.Lock
	log  *slog.Logger
	seen atomic.Pointer[time.Time] // when there was room

	remedy string                // what to do about damage
	damage atomic.Pointer[error] // the first that was seen
	frozen atomic.Bool           // writes are refused
	dead   atomic.Bool           // the engine stopped in the middle of something: it is not called any more

	mu    sync.RWMutex // held for reading by whoever uses the engine
	ended bool

	opens sync.Mutex
	open  map[*entries]struct{} // guarded by opens
}

// waitForEngine is how long Close waits for a write that hangs in a damaged store.
const waitForEngine = 5 * time.Second

// remedy is what to do about a store that is damaged, if nobody knows better.
const remedy = "set the folder aside and open an empty store in its place, which fills with what is replicated from the other members"

// damaged is the error for a store whose files can't be relied upon. Somebody who
// asked over the network should ask another member.
func (d *diskStore) damaged(err error) error {
	return fmt.Errorf("%w: store %s: %w: %w", ErrUnavailable, d.dir, ErrDamaged, firstLine{err})
}

// firstLine is an error of the engine without the notes for its developers.
type firstLine struct{ error }

func (e firstLine) Error() string {
	text, _, _ := strings.Cut(e.error.Error(), "\n")
	return text
}

func (e firstLine) Unwrap() error { return e.error }

// found notes damage, and says so the first time.
func (d *diskStore) found(err error) {
	if d.damage.CompareAndSwap(nil, &err) {
		d.log.Error("the store is damaged", "store", d.dir, "err", firstLine{err}, "remedy", d.remedy)
	}
}

// freeze refuses writes from now on. A store whose tables can't be merged any more
// would hold up every write within a few megabytes.
func (d *diskStore) freeze(err error) {
	d.found(err)
	d.frozen.Store(true)
}

// isDamage reports whether an error of the engine says that its files are not what
// they were.
func isDamage(err error) bool {
	return pebble.IsCorruptionError(err) || errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.EIO)
}

// enter has the engine stay open until leave. Every use of the engine is
//
//	if err := d.enter(); err != nil { return err }
//	defer d.leave(&err)
func (d *diskStore) enter() error {
	d.mu.RLock()
	if d.ended {
		d.mu.RUnlock()
		return fmt.Errorf("store %s: %w", d.dir, ErrClosed)
	}
	if d.dead.Load() {
		d.mu.RUnlock()
		return d.damaged(*d.damage.Load())
	}
	return nil
}

// leave ends what enter began, and makes what went wrong with the engine an error.
func (d *diskStore) leave(err *error) {
	d.mu.RUnlock()
	if r := recover(); r != nil {
		d.died(fmt.Errorf("the engine stopped: %v", r))
		*err = d.damaged(*d.damage.Load())
		return
	}
	if *err != nil && isDamage(*err) {
		d.found(*err)
		*err = d.damaged(*err)
	}
}

// died takes the engine out of use: it may have stopped with its locks held.
func (d *diskStore) died(err error) {
	d.freeze(err)
	d.dead.Store(true)
}

// writable returns an error when writes are refused.
func (d *diskStore) writable() error {
	if d.frozen.Load() {
		return d.damaged(*d.damage.Load())
	}
	return d.room()
}

// room returns an error when the disk is as good as full.
func (d *diskStore) room() error {
	if seen := d.seen.Load(); seen != nil && time.Since(*seen) < roomFor {
		return nil
	}
	usage, err := d.disk.GetDiskUsage(d.dir)
	if err != nil {
		return fmt.Errorf("store %s: %w", d.dir, err)
	}
	if usage.AvailBytes < reserve {
		return fmt.Errorf("%w: store %s: %w: %d bytes are left on its disk, writes go on when there are %d",
			ErrUnavailable, d.dir, syscall.ENOSPC, usage.AvailBytes, reserve)
	}
	now := time.Now()
	d.seen.Store(&now)
	return nil
}

func (d *diskStore) Get(ctx context.Context, key ds.Key) (_ []byte, err error) {
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer d.leave(&err)
	return d.Datastore.Get(ctx, key)
}

func (d *diskStore) Has(ctx context.Context, key ds.Key) (_ bool, err error) {
	if err := d.enter(); err != nil {
		return false, err
	}
	defer d.leave(&err)
	return d.Datastore.Has(ctx, key)
}

func (d *diskStore) GetSize(ctx context.Context, key ds.Key) (_ int, err error) {
	if err := d.enter(); err != nil {
		return -1, err
	}
	defer d.leave(&err)
	return d.Datastore.GetSize(ctx, key)
}

func (d *diskStore) Put(ctx context.Context, key ds.Key, value []byte) (err error) {
	if err := d.writable(); err != nil {
		return err
	}
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave(&err)
	return d.Datastore.Put(ctx, key, value)
}

func (d *diskStore) Delete(ctx context.Context, key ds.Key) (err error) {
	if err := d.writable(); err != nil {
		return err
	}
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave(&err)
	return d.Datastore.Delete(ctx, key)
}

func (d *diskStore) Sync(ctx context.Context, prefix ds.Key) (err error) {
	if err := d.writable(); err != nil {
		return err
	}
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave(&err)
	return d.Datastore.Sync(ctx, prefix)
}

func (d *diskStore) Batch(ctx context.Context) (_ ds.Batch, err error) {
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer d.leave(&err)
	b, err := d.Datastore.Batch(ctx)
	if err != nil {
		return nil, err
	}
	return &diskBatch{Batch: b, store: d}, nil
}

// Close ends the store. Results of queries that were not closed end with an error.
func (d *diskStore) Close() (err error) {
	d.disk.close()
	for wait := time.Now().Add(waitForEngine); !d.mu.TryLock(); time.Sleep(time.Millisecond) {
		if d.frozen.Load() && time.Now().After(wait) {
			return nil // a write hangs in an engine that can't go on
		}
	}
	defer d.mu.Unlock()
	if d.ended {
		return nil
	}
	d.ended = true
	if d.dead.Load() {
		return nil // it would wait for itself; its files are left to the end of the process
	}
	d.opens.Lock()
	left := d.open
	d.open = nil
	d.opens.Unlock()
	for e := range left {
		err = errors.Join(err, e.it.Close())
	}
	defer func() {
		if r := recover(); r != nil {
			d.died(fmt.Errorf("the engine stopped: %v", r))
			err = d.damaged(*d.damage.Load())
		}
	}()
	if d.frozen.Load() {
		err = errors.Join(err, d.DB.Close()) // without writing what may be in the way of it
	} else {
		err = errors.Join(err, d.Datastore.Close())
	}
	return errors.Join(err, d.seal.close(), d.lock.Close())
}

type diskBatch struct {
	ds.Batch
	store *diskStore
}

func (b *diskBatch) Commit(ctx context.Context) (err error) {
	if err := b.store.writable(); err != nil {
		return err
	}
	if err := b.store.enter(); err != nil {
		return err
	}
	defer b.store.leave(&err)
	return b.Batch.Commit(ctx)
}

// engineLog is where the engine logs: its chatter is for its developers and dropped.
// Its last word is followed by the end of the process unless somebody prevents it.
type engineLog struct{ store *diskStore }

func (engineLog) Infof(string, ...any)  {}
func (engineLog) Errorf(string, ...any) {}

// Fatalf takes the engine out of use. The engine does not expect it to return: a
// caller of the store gets the error by a panic, and a goroutine of the engine's own
// stays here, with what it holds.
func (l engineLog) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	l.store.died(err)
	if calledByStore() {
		panic(err)
	}
	select {}
}

// calledByStore reports whether a method of diskStore, which recovers, is below on
// the stack.
func calledByStore() bool {
	pcs := make([]uintptr, 256)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	for {
		f, more := frames.Next()
		if strings.Contains(f.Function, "taubyte.(*diskStore).") || strings.Contains(f.Function, "taubyte.(*diskBatch).") ||
			strings.Contains(f.Function, "taubyte.(*entries).") {
			return true
		}
		if !more {
			return false
		}
	}
}
