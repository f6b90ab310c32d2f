package taubyte

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
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
