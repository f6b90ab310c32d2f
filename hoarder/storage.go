package hoarder

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/unixfs"
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
	a := addition{name, overwrite, newNonce()}
	rewind, err := rewinder(r)
	if err != nil {
		return File{}, s.h.wrap("adding", name, err)
	}
	first := true
	err = s.h.do(ctx, func(at site, store ref, after position) error {
		if !first {
			if err := rewind(); err != nil {
				return err
			}
		}
		first = false
		var pos position
		f, pos, err = at.add(ctx, store, after, a, r)
		return s.h.wrote(pos, err)
	})
	return f, s.h.wrap("adding", name, err)
}

// rewinder returns what takes a reader back to where it is now.
func rewinder(r io.Reader) (func() error, error) {
	seeker, ok := r.(io.Seeker)
	if !ok {
		return func() error {
			return fmt.Errorf("the replica failed, and the content can't be read again")
		}, nil
	}
	at, err := seeker.Seek(0, io.SeekCurrent)
	return func() error {
		_, err := seeker.Seek(at, io.SeekStart)
		return err
	}, err
}

// Stat returns a version of a file, 0 being the latest; or taubyte.ErrNotFound.
func (s *Storage) Stat(ctx context.Context, name string, version uint32) (File, error) {
	return s.stat(ctx, name, version, false)
}

func (s *Storage) stat(ctx context.Context, name string, version uint32, content bool) (f File, err error) {
	err = s.h.do(ctx, func(at site, r ref, after position) error {
		f, err = at.stat(ctx, r, after, name, version, content)
		return err
	})
	return f, s.h.wrap("looking up", name, err)
}

// Open opens a version of a file, 0 being the latest. What is not on this node comes
// from replicas as it is read, and isn't kept here. ctx bounds the reading as well. The
// content of a file that is removed can be read for a while longer, as long as a
// hoarder's grace.
func (s *Storage) Open(ctx context.Context, name string, version uint32) (io.ReadSeekCloser, File, error) {
	f, err := s.stat(ctx, name, version, true)
	if err != nil {
		return nil, File{}, err
	}
	if f.Size == 0 {
		return nothing{bytes.NewReader(nil)}, f, nil
	}
	from := s.h.c.host.Blocks()
	r, err := unixfs.Open(ctx, blockservice.New(unkept{from.Blockstore()}, from.Exchange()), f.CID, "")
	if err != nil {
		return nil, File{}, s.h.wrap("opening", name, err)
	}
	return r, f, nil
}

// nothing is the content of an empty file.
type nothing struct{ *bytes.Reader }

func (nothing) Close() error { return nil }

// unkept is a blockstore that does not keep what is fetched through it.
type unkept struct{ blockstore.Blockstore }

func (unkept) Put(context.Context, blocks.Block) error       { return nil }
func (unkept) PutMany(context.Context, []blocks.Block) error { return nil }

// Remove removes a version of a file, 0 being the latest, or all of them. One that is
// not there is taubyte.ErrNotFound.
func (s *Storage) Remove(ctx context.Context, name string, version uint32, all bool) error {
	return s.h.wrap("removing", name, s.h.do(ctx, func(at site, r ref, after position) error {
		return s.h.wrote(at.removeFile(ctx, r, after, name, version, all))
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
	err = s.h.do(ctx, func(at site, r ref, after position) error {
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
