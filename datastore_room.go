package taubyte

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	ds "github.com/ipfs/go-datastore"
	pebbleds "github.com/ipfs/go-ds-pebble"
)

const (
	// reserve is how many bytes stay free on the disk of a store: what the engine
	// needs to finish what it began. Who writes when there are fewer gets an error.
	reserve = 16 << 20
	// waitForRoom is how often a write that the disk refused is tried again.
	waitForRoom = 100 * time.Millisecond
	// roomFor is how long the answer counts that there is room: asking costs a fifth of
	// a small write, and what is quick enough to use up the reserve by then is caught by
	// roomy.
	roomFor = 10 * time.Millisecond
)

// diskStore is the embedded store, which refuses writes before the disk is full. The
// engine ends the process when its log can't be written.
type diskStore struct {
	*pebbleds.Datastore
	dir  string
	disk *roomy
	seen atomic.Pointer[time.Time] // when there was room
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

func (d *diskStore) Put(ctx context.Context, key ds.Key, value []byte) error {
	if err := d.room(); err != nil {
		return err
	}
	return d.Datastore.Put(ctx, key, value)
}

func (d *diskStore) Delete(ctx context.Context, key ds.Key) error {
	if err := d.room(); err != nil {
		return err
	}
	return d.Datastore.Delete(ctx, key)
}

func (d *diskStore) Batch(ctx context.Context) (ds.Batch, error) {
	b, err := d.Datastore.Batch(ctx)
	if err != nil {
		return nil, err
	}
	return &diskBatch{Batch: b, store: d}, nil
}

func (d *diskStore) Close() error {
	d.disk.close()
	return d.Datastore.Close()
}

type diskBatch struct {
	ds.Batch
	store *diskStore
}

func (b *diskBatch) Commit(ctx context.Context) error {
	if err := b.store.room(); err != nil {
		return err
	}
	return b.Batch.Commit(ctx)
}

// roomy is a file system whose files wait when the disk is full, until there is room
// or the store closes. It is for what the free space does not tell: a quota, or
// somebody else who is quicker.
type roomy struct {
	vfs.FS
	closing context.Context
	close   context.CancelFunc
}

func newRoomy(fs vfs.FS) *roomy {
	r := &roomy{FS: fs}
	r.closing, r.close = context.WithCancel(context.Background())
	return r
}

func (r *roomy) Unwrap() vfs.FS { return r.FS }

func (r *roomy) wrap(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &roomyFile{File: f, fs: r}, nil
}

func (r *roomy) Create(name string, category vfs.DiskWriteCategory) (f vfs.File, err error) {
	err = r.try(func() error { f, err = r.FS.Create(name, category); return err })
	return r.wrap(f, err)
}

func (r *roomy) ReuseForWrite(from, to string, category vfs.DiskWriteCategory) (f vfs.File, err error) {
	err = r.try(func() error { f, err = r.FS.ReuseForWrite(from, to, category); return err })
	return r.wrap(f, err)
}

func (r *roomy) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return r.wrap(r.FS.OpenReadWrite(name, category, opts...))
}

// try does something again for as long as the disk is full.
func (r *roomy) try(do func() error) error {
	for {
		err := do()
		if !errors.Is(err, syscall.ENOSPC) {
			return err
		}
		select {
		case <-r.closing.Done():
			return err
		case <-time.After(waitForRoom):
		}
	}
}

type roomyFile struct {
	vfs.File
	fs *roomy
}

func (f *roomyFile) Write(p []byte) (done int, err error) {
	err = f.fs.try(func() error {
		n, err := f.File.Write(p[done:])
		done += n
		return err
	})
	return done, err
}

func (f *roomyFile) WriteAt(p []byte, at int64) (done int, err error) {
	err = f.fs.try(func() error {
		n, err := f.File.WriteAt(p[done:], at+int64(done))
		done += n
		return err
	})
	return done, err
}

func (f *roomyFile) Preallocate(offset, length int64) error {
	return f.fs.try(func() error { return f.File.Preallocate(offset, length) })
}
