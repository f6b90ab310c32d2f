// Package storage keeps files, in versions where the project's configuration
// says so, and content-addressed data.
//
//	s, err := storage.Open("pictures")
//	version, err := s.Add("cat.png", data, true)
//	f, err := s.File("cat.png", storage.Latest)
//	defer f.Close()
//	_, err = io.Copy(w, f)
package storage

import (
	"io"
	"strconv"
	"strings"

	"github.com/taubyte/taubyte/substrate/guest/cid"
	"github.com/taubyte/taubyte/substrate/guest/errno"
	"github.com/taubyte/taubyte/substrate/guest/internal/sdk"
)

// Latest is the version of a file that was added last.
const Latest = 0

// Errors that a caller decides by.
const (
	ErrNotFound = errno.StorageGetMetaFailed // there is no such file, or version of it
	ErrNotAdded = errno.AddFileFailed        // it exists, or there is no room for it
)

// Storage is an open storage. Whoever opens one of the same name again gets the same,
// at no cost.
type Storage uint32

// Open opens the storage that the configuration has for a name: of the
// function's application first, then of the project.
func Open(name string) (Storage, error) {
	var id uint32
	err := sdk.StorageNew(name, &id).Err()
	return Storage(id), err
}

// Add stores a file and gives its version, which begins at 1. With overwrite
// it takes the place of the current version. Without, it is a new version, or
// ErrNotAdded where the storage has no versions and the file exists.
func (s Storage) Add(name string, data []byte, overwrite bool) (version uint32, err error) {
	buf, size := sdk.Data(data)
	var flag uint32
	if overwrite {
		flag = 1
	}
	err = sdk.StorageAddFile(uint32(s), name, &version, buf, size, flag).Err()
	return version, err
}

// AddFrom is Add of what comes from a reader, which is never held as a whole. The file is
// there once all of it was read: where AddFrom fails it never was.
func (s Storage) AddFrom(name string, r io.Reader, overwrite bool) (version uint32, err error) {
	var flag, fd uint32
	if overwrite {
		flag = 1
	}
	if e := sdk.StorageCreateFile(uint32(s), name, flag, &fd); e != 0 {
		return 0, e
	}
	if _, err := io.CopyBuffer(upload{s, fd}, struct{ io.Reader }{r}, make([]byte, 64<<10)); err != nil {
		sdk.StorageAbortFile(uint32(s), fd)
		return 0, err
	}
	err = sdk.StorageCommitFile(uint32(s), fd, &version).Err()
	return version, err
}

// upload is a file that is being written.
type upload struct {
	storage Storage
	fd      uint32
}

func (u upload) Write(p []byte) (int, error) {
	return sdk.Send(p, func(data *byte, size uint32, n *uint32) errno.Errno {
		return sdk.StorageWriteFile(uint32(u.storage), u.fd, data, size, n)
	})
}

// File opens a version of a file for reading, or gives ErrNotFound. Close it.
func (s Storage) File(name string, version uint32) (*File, error) {
	f := &File{storage: s}
	if e := sdk.StorageGetFile(uint32(s), name, version, &f.fd); e != 0 {
		return nil, e
	}
	return f, nil
}

// Delete removes a version of a file.
func (s Storage) Delete(name string, version uint32) error {
	return sdk.StorageDeleteFile(uint32(s), name, version, 0).Err()
}

// DeleteAll removes every version of a file.
func (s Storage) DeleteAll(name string) error {
	return sdk.StorageDeleteFile(uint32(s), name, 0, 1).Err()
}

// Version is the latest version of a file.
func (s Storage) Version(name string) (uint32, error) {
	text, err := sdk.Text(
		func(n *uint32) errno.Errno { return sdk.StorageCurrentVersionSize(uint32(s), name, n) },
		func(b *byte, _ uint32) errno.Errno { return sdk.StorageCurrentVersion(name, b) })
	v, err := number(text, err)
	return uint32(v), err
}

// Versions are all versions of a file.
func (s Storage) Versions(name string) ([]uint32, error) {
	list, err := sdk.Strings(
		func(n *uint32) errno.Errno { return sdk.StorageListVersionsSize(uint32(s), name, n) },
		func(b *byte, _ uint32) errno.Errno { return sdk.StorageListVersions(uint32(s), name, b) })
	var versions []uint32
	for _, text := range list {
		var v uint64
		v, err = number(text, err)
		versions = append(versions, uint32(v))
	}
	return versions, err
}

// Entry is one version of a file.
type Entry struct {
	Name    string
	Version uint32
}

// List gives all versions of all files.
func (s Storage) List() ([]Entry, error) {
	list, err := sdk.Strings(
		func(n *uint32) errno.Errno { return sdk.StorageListFilesSize(uint32(s), n) },
		func(b *byte, _ uint32) errno.Errno { return sdk.StorageListFiles(uint32(s), b) })
	var entries []Entry
	for _, path := range list {
		path, ok := strings.CutPrefix(path, "/file/")
		slash := strings.LastIndexByte(path, '/')
		if !ok || slash < 0 {
			continue // an empty storage has an empty entry
		}
		var v uint64
		v, err = number(path[slash+1:], err)
		entries = append(entries, Entry{path[:slash], uint32(v)})
	}
	return entries, err
}

// Used is the number of bytes stored.
func (s Storage) Used() (uint64, error) {
	return number(sdk.Text(
		func(n *uint32) errno.Errno { return sdk.StorageUsedSize(uint32(s), n) },
		func(b *byte, _ uint32) errno.Errno { return sdk.StorageUsed(uint32(s), b) }))
}

// Capacity is the number of bytes that can be stored.
func (s Storage) Capacity() (uint64, error) {
	return number(sdk.Text(
		func(n *uint32) errno.Errno { return sdk.StorageCapacitySize(uint32(s), n) },
		func(b *byte, _ uint32) errno.Errno { return sdk.StorageCapacity(uint32(s), b) }))
}

// CID identifies the content of the latest version of a file.
func (s Storage) CID(name string) (cid.CID, error) {
	return cid.Read(func(b *byte) errno.Errno { return sdk.StorageCid(uint32(s), name, b) })
}

// number reads the decimal text in which the host gives large numbers.
func number(text string, err error) (uint64, error) {
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(text, 10, 64)
}

// File is a file opened for reading.
type File struct {
	storage Storage
	fd      uint32
}

// Read is that of io.Reader.
func (f *File) Read(p []byte) (int, error) {
	return sdk.Stream(p, func(buf *byte, size uint32, n *uint32) errno.Errno {
		return sdk.StorageReadFile(uint32(f.storage), f.fd, buf, size, n)
	})
}

// Close gives the file back.
func (f *File) Close() error { return sdk.StorageCloseFile(uint32(f.storage), f.fd).Err() }
