package abi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/taubyte/taubyte/hoarder"
)

// A storage is one that an instance has open, with the files of it that the event
// reads.
type storage struct {
	Storage
	files   []io.ReadSeekCloser // nil: closed
	uploads []*upload           // nil: ended
}

// Allow implements Guarded.
func (s *storage) Allow(ctx context.Context) error {
	if guard, ok := s.Storage.(Guarded); ok {
		return guard.Allow(ctx)
	}
	return nil
}

func (s *storage) end() {
	for _, f := range s.files {
		if f != nil {
			_ = f.Close()
		}
	}
	s.files = nil
	for _, u := range s.uploads {
		if u != nil {
			u.abort()
		}
	}
	s.uploads = nil
}

// maxFiles bounds the files, and the contents, that an event has open at a time.
const maxFiles = 256

// storages are stores of files. An unknown storage is error 1, and an unknown file
// of one 3, as guests of this interface expect. A file that was opened is closed at the
// end of the event.
var storages = []decl{
	{"storageNew", "iii", onStorageName(ErrDatabaseCreateFailed)},
	// Who asks for a storage that was opened before may get it, whichever instance on
	// whichever node has opened it.
	{"storageGet", "iii", onStorageName(ErrStorageNotFound)},
	{"storageAddFile", "iiiiiii", onFile(func(g *Guest, s *storage, m module, a []uint64, name string) Errno {
		content, ok := m.view(a[4], a[5])
		switch {
		case !ok:
			return ErrAddressOutOfMemory
		case !listable(name):
			return ErrAddFileFailed
		case uint32(a[6]) > 1:
			return ErrInvalidBool
		}
		lent := lend(content)
		f, err := s.Add(g.waiting(), name, lent, uint32(a[6]) == 1)
		lent.callBack()
		if err != nil {
			return g.wrong(ErrAddFileFailed, "file not added", err)
		}
		return m.cell(a[3], f.Version)
	})},
	// A file whose content comes piece by piece: it is there when it is committed, and
	// what is not committed when the event ends never was.
	{"storageCreateFile", "iiiii", onFile(func(g *Guest, s *storage, m module, a []uint64, name string) Errno {
		switch {
		case !listable(name):
			return ErrAddFileFailed
		case uint32(a[3]) > 1:
			return ErrInvalidBool
		}
		fd := freeIn(&s.uploads, maxUploads, func(u *upload) bool { return u == nil })
		if fd < 0 {
			return ErrAddFileFailed
		}
		s.uploads[fd] = newUpload(g.waiting(), s, name, uint32(a[3]) == 1)
		return m.cell(a[4], uint32(fd))
	})},
	{"storageWriteFile", "iiiii", onUpload(func(g *Guest, s *storage, u *upload, m module, a []uint64) Errno {
		p, ok := m.view(a[2], a[3])
		if !ok {
			return ErrAddressOutOfMemory
		}
		n, err := u.w.Write(p)
		if e := m.cell(a[4], uint32(n)); e != ErrNone {
			return e
		}
		if err != nil {
			return g.wrong(ErrAddFileFailed, "file not added", err)
		}
		return ErrNone
	})},
	{"storageCommitFile", "iii", onUpload(func(g *Guest, s *storage, u *upload, m module, a []uint64) Errno {
		s.uploads[uint32(a[1])] = nil
		f, err := u.commit()
		if err != nil {
			return g.wrong(ErrAddFileFailed, "file not added", err)
		}
		return m.cell(a[2], f.Version)
	})},
	{"storageAbortFile", "ii", onUpload(func(_ *Guest, s *storage, u *upload, _ module, a []uint64) Errno {
		s.uploads[uint32(a[1])] = nil
		u.abort()
		return ErrNone
	})},
	{"storageGetFile", "iiiii", onFile(func(g *Guest, s *storage, m module, a []uint64, name string) Errno {
		fd := free(&s.files)
		if fd < 0 {
			return ErrGetFileFailed
		}
		f, _, err := s.Open(g.waiting(), name, uint32(a[3]))
		switch {
		case missing(err):
			return ErrStorageGetMetaFailed
		case err != nil:
			return g.wrong(ErrGetFileFailed, "file not opened", err)
		}
		s.files[fd] = f
		return m.cell(a[4], uint32(fd))
	})},
	{"storageReadFile", "iiiii", onStorage(func(_ *Guest, s *storage, m module, a []uint64) Errno {
		f, ok := at(s.files, a[1])
		if !ok {
			return ErrAddressOutOfMemory
		}
		return m.stream(f, a[2], a[3], a[4], ErrReadingFile)
	})},
	{"storageCloseFile", "ii", onStorage(func(_ *Guest, s *storage, _ module, a []uint64) Errno {
		f, ok := at(s.files, a[1])
		if !ok {
			return ErrAddressOutOfMemory
		}
		s.files[uint32(a[1])] = nil
		if f.Close() != nil {
			return ErrCloseFileFailed
		}
		return ErrNone
	})},
	{"storageDeleteFile", "iiiii", onFile(func(g *Guest, s *storage, _ module, a []uint64, name string) Errno {
		if uint32(a[4]) > 1 {
			return ErrInvalidBool
		}
		if err := s.Remove(g.waiting(), name, uint32(a[3]), uint32(a[4]) == 1); missing(err) {
			return ErrDeleteFileFailed
		} else if err != nil {
			return g.wrong(ErrDeleteFileFailed, "file not deleted", err)
		}
		return ErrNone
	})},
	{"storageListVersionsSize", "iiii", onFile(func(g *Guest, s *storage, m module, a []uint64, name string) Errno {
		return g.measure(m, question{"storageListVersions", uint32(a[0]), name}, a[3], g.versions(s, name))
	})},
	{"storageListVersions", "iiii", onFile(func(g *Guest, s *storage, m module, a []uint64, name string) Errno {
		return g.fetch(m, question{"storageListVersions", uint32(a[0]), name}, a[3], g.versions(s, name))
	})},
	{"storageUsedSize", "ii", onStorage(func(g *Guest, s *storage, m module, a []uint64) Errno {
		return g.measure(m, question{"storageUsed", uint32(a[0]), ""}, a[1], g.used(s))
	})},
	{"storageUsed", "ii", onStorage(func(g *Guest, s *storage, m module, a []uint64) Errno {
		return g.fetch(m, question{"storageUsed", uint32(a[0]), ""}, a[1], g.used(s))
	})},
	{"storageCapacitySize", "ii", onStorage(func(_ *Guest, s *storage, m module, a []uint64) Errno {
		return m.size(a[1], len(strconv.FormatInt(s.Capacity(), 10)))
	})},
	{"storageCapacity", "ii", onStorage(func(_ *Guest, s *storage, m module, a []uint64) Errno {
		return m.put(a[1], strconv.FormatInt(s.Capacity(), 10))
	})},
	{"storageCid", "iiii", onFile(func(g *Guest, s *storage, m module, a []uint64, name string) Errno {
		f, e := g.latest(s, name)
		if e != ErrNone {
			return e
		}
		return m.bytes(a[3], f.CID.Bytes())
	})},
	{"storageCurrentVersionSize", "iiii", onFile(func(g *Guest, s *storage, m module, a []uint64, name string) Errno {
		return g.measure(m, question{of: "storageCurrentVersion", name: name}, a[3], func() ([]byte, Errno) {
			f, e := g.latest(s, name)
			return strconv.AppendUint(nil, uint64(f.Version), 10), e
		})
	})},
	// It does not name the storage: the answer is that to the last question about a
	// file of the name.
	{"storageCurrentVersion", "iii", errno(func(g *Guest, m module, a []uint64) Errno {
		name, ok := m.text(a[0], a[1])
		if !ok {
			return ErrAddressOutOfMemory
		}
		return g.fetch(m, question{of: "storageCurrentVersion", name: name}, a[2], func() ([]byte, Errno) {
			return nil, ErrStorageGetMetaFailed
		})
	})},
	{"storageListFilesSize", "ii", onStorage(func(g *Guest, s *storage, m module, a []uint64) Errno {
		return g.measure(m, question{"storageListFiles", uint32(a[0]), ""}, a[1], g.listing(s))
	})},
	{"storageListFiles", "ii", onStorage(func(g *Guest, s *storage, m module, a []uint64) Errno {
		return g.fetch(m, question{"storageListFiles", uint32(a[0]), ""}, a[1], g.listing(s))
	})},
}

// onStorageName opens a storage by its name.
func onStorageName(failed Errno) errno {
	return func(g *Guest, m module, a []uint64) Errno {
		name, ok := m.text(a[0], a[1])
		if !ok {
			return ErrAddressOutOfMemory
		}
		if g.self.Stores == nil {
			return failed
		}
		id, err := g.kept.storages.open(name, func() (*storage, error) {
			s, err := g.self.Stores.Storage(g.waiting(), name)
			return &storage{Storage: s}, err
		})
		if err == nil {
			if err = g.kept.storages.admit(g, uint64(id)); err != nil {
				g.kept.storages.close(uint64(id))
			}
		}
		if err != nil {
			return g.wrong(failed, "storage not opened", err)
		}
		return m.cell(a[2], id)
	}
}

// onStorage is a function whose first parameter is a storage.
func onStorage(do func(*Guest, *storage, module, []uint64) Errno) errno {
	return func(g *Guest, m module, a []uint64) Errno {
		s, ok := g.kept.storages.get(a[0])
		if !ok {
			return ErrEventNotFound
		}
		if err := g.kept.storages.admit(g, a[0]); err != nil {
			return g.wrong(ErrStorageNotFound, "storage not used", err)
		}
		return do(g, s, m, a)
	}
}

// onFile is one whose next parameters are the name of a file.
func onFile(do func(*Guest, *storage, module, []uint64, string) Errno) errno {
	return onStorage(func(g *Guest, s *storage, m module, a []uint64) Errno {
		name, ok := m.text(a[1], a[2])
		if !ok {
			return ErrAddressOutOfMemory
		}
		return do(g, s, m, a, name)
	})
}

func (g *Guest) latest(s *storage, name string) (hoarder.File, Errno) {
	f, err := s.Stat(g.waiting(), name, 0)
	switch {
	case err == nil:
		return f, ErrNone
	case missing(err):
		return f, ErrStorageGetMetaFailed
	}
	return f, g.wrong(ErrStorageGetMetaFailed, "file not found out about", err)
}

func (g *Guest) versions(s *storage, name string) func() ([]byte, Errno) {
	return func() ([]byte, Errno) {
		files, err := s.Versions(g.waiting(), name)
		switch {
		case missing(err), err == nil && len(files) == 0:
			return nil, ErrListFileVersionsFailed
		case err != nil:
			return nil, g.wrong(ErrListFileVersionsFailed, "versions not listed", err)
		}
		var list []string
		for _, f := range files {
			list = append(list, strconv.FormatUint(uint64(f.Version), 10))
		}
		return encode(list), ErrNone
	}
}

func (g *Guest) used(s *storage) func() ([]byte, Errno) {
	return func() ([]byte, Errno) {
		n, err := s.Used(g.waiting())
		if err != nil {
			return nil, g.wrong(ErrListingUsedSpaceFailed, "used space not found out", err)
		}
		return strconv.AppendInt(nil, n, 10), ErrNone
	}
}

// listing lists the versions of all files. Of an empty storage it is an empty name,
// because guests of the public SDK fail on nothing at all.
func (g *Guest) listing(s *storage) func() ([]byte, Errno) {
	return func() ([]byte, Errno) {
		files, err := s.List(g.waiting())
		if err != nil {
			return nil, g.wrong(ErrStorageListFailed, "files not listed", err)
		}
		list := make([]string, 0, max(len(files), 1))
		for _, f := range files {
			list = append(list, fmt.Sprintf("/file/%s/%d", f.Name, f.Version))
		}
		if len(list) == 0 {
			list = append(list, "")
		}
		return encode(list), ErrNone
	}
}

// maxUploads bounds the files of a storage that an event is writing at a time.
const maxUploads = 16

// An upload is a file that is being written. What is written is not held: the storage
// reads it as the guest writes.
type upload struct {
	w      *io.PipeWriter
	cancel context.CancelFunc
	done   chan struct{} // closed when the storage has ended
	file   hoarder.File
	err    error
}

var errAborted = errors.New("the file was given up")

func newUpload(ctx context.Context, s *storage, name string, overwrite bool) *upload {
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	u := &upload{w: w, cancel: cancel, done: make(chan struct{})}
	go func() { // commit and abort wait for it
		defer close(u.done)
		u.file, u.err = s.Add(ctx, name, r, overwrite)
		if u.err != nil {
			_ = r.CloseWithError(u.err)
		} else {
			_ = r.Close()
		}
	}()
	return u
}

func (u *upload) commit() (hoarder.File, error) {
	_ = u.w.Close()
	<-u.done
	u.cancel()
	return u.file, u.err
}

func (u *upload) abort() {
	_ = u.w.CloseWithError(errAborted)
	u.cancel()
	<-u.done
}

// onUpload is a function whose first parameters are a storage and a file that is being
// written.
func onUpload(do func(*Guest, *storage, *upload, module, []uint64) Errno) errno {
	return onStorage(func(g *Guest, s *storage, m module, a []uint64) Errno {
		i := uint64(uint32(a[1]))
		if i >= uint64(len(s.uploads)) || s.uploads[i] == nil {
			return ErrAddressOutOfMemory
		}
		return do(g, s, s.uploads[i], m, a)
	})
}

// free finds a place for a file, or -1 where there are too many.
func free(files *[]io.ReadSeekCloser) int {
	return freeIn(files, maxFiles, func(f io.ReadSeekCloser) bool { return f == nil })
}

func freeIn[T any](list *[]T, most int, free func(T) bool) int {
	if i := slices.IndexFunc(*list, free); i >= 0 {
		return i
	}
	if len(*list) >= most {
		return -1
	}
	var none T
	*list = append(*list, none)
	return len(*list) - 1
}

func at(files []io.ReadSeekCloser, fd uint64) (io.ReadSeekCloser, bool) {
	if i := uint64(uint32(fd)); i < uint64(len(files)) && files[i] != nil {
		return files[i], true
	}
	return nil, false
}
