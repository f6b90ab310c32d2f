package hoarder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/taubyte/taubyte"
)

// StorageSpec says how a storage is kept.
type StorageSpec struct {
	// Min and Max are as in DatabaseSpec.
	Min, Max int
	// Size is how many bytes its files may have together, all versions; 0 stands for
	// DefaultStorageSize. Replicas that are written to at the same moment can exceed
	// it by what is under way at the others.
	Size int64
	// Versioning keeps the versions of a file that later ones took the place of.
	Versioning bool
	// TTL is how long a version lives from its addition; 0 stands for ever.
	TTL time.Duration
}

// File is a version of a file.
type File struct {
	Name    string    `json:"name"`
	Version uint32    `json:"version"` // from 1 on; always 1 without versioning
	Size    int64     `json:"size"`
	CID     cid.Cid   `json:"cid"` // of its content
	Time    time.Time `json:"time"`
}

// A Storage is a handle of a store of files. It is safe for concurrent use, and
// promises what a Database does of what was written.
//
// Versions of a file are numbered from 1. When two replicas each add one at the same
// moment, both stay, with numbers in an order that every replica sees; without
// versioning the later one is the file.
type Storage struct{ h *handle }

// addition is a call of Add. The nonce makes one that is repeated the same.
type addition struct {
	name      string
	overwrite bool
	nonce     string
}

// Add adds a file with the content of r, which is read as it is stored. Without
// versioning it takes the place of the file of that name if overwrite says so, or else
// is ErrExists. With versioning it is a new version, or with overwrite takes the place
// of the latest.
//
// A file is there when Add returns, and nothing of it before: of a content that ends
// with an error nothing is kept. If r can seek, Add goes on to the next replica when one
// fails.
func (s *Storage) Add(ctx context.Context, name string, r io.Reader, overwrite bool) (f File, err error) {
	f, _, err = s.AddCopies(ctx, name, r, overwrite)
	return f, err
}

// AddCopies is Add, and says on how many disks the file is.
func (s *Storage) AddCopies(ctx context.Context, name string, r io.Reader, overwrite bool) (f File, c Copies, err error) {
	a := addition{name, overwrite, newNonce()}
	in := &once{Reader: r}
	err = s.h.do(ctx, noBound, func(ctx context.Context, at site, store ref, after position) error {
		if err := in.again(); err != nil {
			return err
		}
		w, err := at.add(ctx, store, after, a, in)
		f, c = w.File, w.Copies
		return s.h.wrote(store, w, err)
	})
	return f, c, s.h.wrap("adding", name, err)
}

// once is a content that is perhaps read again from where it began.
type once struct {
	io.Reader
	begun  bool
	seeker io.Seeker
	start  int64
}

func (o *once) Read(p []byte) (int, error) {
	o.begun = true
	return o.Reader.Read(p)
}

// again goes back to the beginning, if anything was read.
func (o *once) again() (err error) {
	switch {
	case !o.begun && o.seeker == nil:
		if o.seeker, _ = o.Reader.(io.Seeker); o.seeker != nil {
			o.start, err = o.seeker.Seek(0, io.SeekCurrent)
		}
	case o.begun && o.seeker == nil:
		return errors.New("the replica failed, and the content can't be read again")
	case o.begun:
		_, err = o.seeker.Seek(o.start, io.SeekStart)
	}
	return err
}

// Stat returns a version of a file, 0 being the latest; or taubyte.ErrNotFound.
func (s *Storage) Stat(ctx context.Context, name string, version uint32) (f File, err error) {
	err = s.h.do(ctx, readWait, func(ctx context.Context, at site, r ref, after position) error {
		f, err = at.stat(ctx, r, after, name, version)
		return err
	})
	return f, s.h.wrap("looking up", name, err)
}

// Open opens a version of a file, 0 being the latest. Its bytes come as they are read,
// from this node's disk or a replica, and from the next one when that fails. ctx bounds
// the reading as well.
//
// What was opened stays the same when the file is replaced or removed, and can be read
// on for a hoarder's grace; seeking in it then is taubyte.ErrNotFound at the next read,
// if it comes from another node.
func (s *Storage) Open(ctx context.Context, name string, version uint32) (io.ReadSeekCloser, File, error) {
	f, err := s.Stat(ctx, name, version)
	if err != nil {
		return nil, File{}, err
	}
	return &reader{s: s, ctx: ctx, f: f}, f, nil
}

// reader reads a file. Its context is Open's, as that of an open file has to be.
type reader struct {
	s    *Storage
	ctx  context.Context
	f    File
	at   int64
	from io.ReadCloser // at that place; nil when it has to be opened
}

// breaks is how many streams may break off one after the other.
const breaks = 3

func (r *reader) Read(p []byte) (int, error) {
	if r.at >= r.f.Size {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	var err error
	for range breaks {
		if r.from == nil {
			if err := r.open(); err != nil {
				return 0, r.s.h.wrap("reading", r.f.Name, err)
			}
		}
		var n int
		n, err = r.from.Read(p)
		r.at += int64(n)
		if err != nil {
			_ = r.Close()
		}
		if n > 0 {
			return n, nil
		}
		if e := r.ctx.Err(); e != nil {
			err = e
			break
		}
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // it is shorter than it says
	}
	return 0, r.s.h.wrap("reading", r.f.Name, err)
}

func (r *reader) open() error {
	return r.s.h.do(r.ctx, noBound, func(ctx context.Context, at site, store ref, after position) (err error) {
		r.from, err = at.content(ctx, store, after, r.f, r.at)
		return err
	})
}

func (r *reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.f.Size
	}
	if offset < 0 || whence < io.SeekStart || whence > io.SeekEnd {
		return r.at, r.s.h.wrap("seeking in", r.f.Name, fmt.Errorf("%w place %d", taubyte.ErrInvalid, offset))
	}
	if offset == r.at {
		return r.at, nil
	}
	if s, ok := r.from.(io.Seeker); ok {
		if _, err := s.Seek(offset, io.SeekStart); err != nil {
			return r.at, r.s.h.wrap("seeking in", r.f.Name, err)
		}
	} else {
		_ = r.Close()
	}
	r.at = offset
	return offset, nil
}

func (r *reader) Close() error {
	if r.from == nil {
		return nil
	}
	err := r.from.Close()
	r.from = nil
	return err
}

// Remove removes a version of a file, 0 being the latest, or all of them. One that is
// not there is taubyte.ErrNotFound.
func (s *Storage) Remove(ctx context.Context, name string, version uint32, all bool) error {
	return s.h.wrap("removing", name, s.h.do(ctx, writeWait, func(ctx context.Context, at site, r ref, after position) error {
		w, err := at.removeFile(ctx, r, after, name, version, all)
		return s.h.wrote(r, w, err)
	}))
}

// Versions returns the versions of a file, the oldest first. Of a file that is not
// there it returns taubyte.ErrNotFound.
func (s *Storage) Versions(ctx context.Context, name string) ([]File, error) {
	fs, err := s.list(ctx, name)
	if err == nil && len(fs) == 0 {
		err = s.h.wrap("listing", name, fmt.Errorf("%w: no such file", taubyte.ErrNotFound))
	}
	return fs, err
}

// List returns all versions of all files, by name and version.
func (s *Storage) List(ctx context.Context) ([]File, error) { return s.list(ctx, "") }

func (s *Storage) list(ctx context.Context, name string) (fs []File, err error) {
	err = s.h.do(ctx, readWait, func(ctx context.Context, at site, r ref, after position) error {
		fs, err = at.files(ctx, r, after, name)
		return err
	})
	return fs, s.h.wrap("listing", name, err)
}

// Used returns how many bytes the files have.
func (s *Storage) Used(ctx context.Context) (int64, error) { return s.h.total(ctx) }

// Capacity is how many they may have.
func (s *Storage) Capacity() int64 { return s.h.capacity() }

// Close gives the handle up. It may be called twice.
func (s *Storage) Close() error { return nil }
