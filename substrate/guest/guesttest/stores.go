//go:build !wasip1

package guesttest

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/taubyte/taubyte/substrate/guest/errno"
	"github.com/taubyte/taubyte/substrate/guest/internal/sdk"
)

// File is the versions of a file by their numbers, which begin at 1.
type File struct{ Versions map[uint32][]byte }

func (f *File) latest() uint32 {
	var last uint32
	for v := range f.Versions {
		last = max(last, v)
	}
	return last
}

// reading and writing are files that a function has open.
type reading struct{ from *bytes.Reader }

type writing struct {
	storage, name string
	overwrite     bool
	data          []byte
}

// handle is that of a name in a list, to which it is added where it is not there.
func handle(list *[]string, name string) uint32 {
	i := slices.Index(*list, name)
	if i < 0 {
		i = len(*list)
		*list = append(*list, name)
	}
	return uint32(i)
}

func named(list []string, id uint32) (string, bool) {
	if int(id) < len(list) {
		return list[id], true
	}
	return "", false
}

func (h *Host) databaseCalls() {
	f := &sdk.Fake
	f.NewDatabase = func(name string, id *uint32) errno.Errno {
		if h.Databases[name] == nil {
			h.Databases[name] = map[string][]byte{}
		}
		*id = handle(&h.databases, name)
		return errno.None
	}
	f.DatabaseClose = func(id uint32) errno.Errno {
		_, ok := named(h.databases, id)
		return when(ok, errno.DatabaseNotFound)
	}
	at := func(id uint32, key string) (map[string][]byte, string, errno.Errno) {
		name, ok := named(h.databases, id)
		if !ok {
			return nil, "", errno.DatabaseNotFound
		}
		if !strings.HasPrefix(key, "/") {
			key = "/" + key
		}
		return h.Databases[name], key, errno.None
	}
	f.DatabaseGetSize, f.DatabaseGet = pair2(func(id uint32, key string) (string, errno.Errno) {
		db, key, e := at(id, key)
		if e != errno.None {
			return "", e
		}
		value, ok := db[key]
		return string(value), when(ok, errno.DatabaseKeyNotFound)
	})
	f.DatabasePut = func(id uint32, key string, p *byte, n uint32) errno.Errno {
		db, key, e := at(id, key)
		switch {
		case e != errno.None:
			return e
		case key == "/" || len(key) > 1024 || strings.ContainsRune(key, 0):
			return errno.DatabasePutFailed
		}
		db[key] = slices.Clone(view(p, n))
		return errno.None
	}
	f.DatabaseDelete = func(id uint32, key string) errno.Errno {
		db, key, e := at(id, key)
		delete(db, key)
		return e
	}
	f.DatabaseListSize, f.DatabaseList = pair2(func(id uint32, prefix string) (string, errno.Errno) {
		db, prefix, e := at(id, prefix)
		if !strings.HasSuffix(prefix, "/") {
			prefix += "/"
		}
		var keys []string
		for _, key := range slices.Sorted(maps.Keys(db)) {
			if strings.HasPrefix(key, prefix) && key != prefix {
				keys = append(keys, key)
			}
		}
		return joined(keys), e
	})
}

// add adds a version, as a storage with versions does.
func (h *Host) add(storage, name string, data []byte, overwrite bool) uint32 {
	file := h.Storages[storage][name]
	if file == nil || len(file.Versions) == 0 {
		file = &File{Versions: map[uint32][]byte{}}
		h.Storages[storage][name] = file
	}
	version := file.latest()
	if version == 0 || !overwrite {
		version++
	}
	file.Versions[version] = data
	return version
}

func (h *Host) storageCalls() {
	f := &sdk.Fake
	open := func(name string, id *uint32) errno.Errno {
		if h.Storages[name] == nil {
			h.Storages[name] = map[string]*File{}
		}
		*id = handle(&h.storages, name)
		return errno.None
	}
	f.StorageNew, f.StorageGet = open, open
	// on has do work on an open storage.
	on := func(id uint32, do func(storage string) errno.Errno) errno.Errno {
		storage, ok := named(h.storages, id)
		if !ok {
			return errno.EventNotFound
		}
		return do(storage)
	}
	f.StorageAddFile = func(id uint32, name string, version *uint32, p *byte, n, overwrite uint32) errno.Errno {
		return on(id, func(storage string) errno.Errno {
			*version = h.add(storage, name, slices.Clone(view(p, n)), overwrite == 1)
			return errno.None
		})
	}
	f.StorageCreateFile = func(id uint32, name string, overwrite uint32, fd *uint32) errno.Errno {
		return on(id, func(storage string) errno.Errno {
			*fd = uint32(len(h.writes))
			h.writes = append(h.writes, &writing{storage: storage, name: name, overwrite: overwrite == 1})
			return errno.None
		})
	}
	written := func(fd uint32) *writing {
		if int(fd) < len(h.writes) {
			return h.writes[fd]
		}
		return nil
	}
	f.StorageWriteFile = func(_, fd uint32, p *byte, size uint32, n *uint32) errno.Errno {
		w := written(fd)
		if w == nil {
			return errno.AddressOutOfMemory
		}
		w.data = append(w.data, view(p, size)...)
		*n = size
		return errno.None
	}
	f.StorageCommitFile = func(_, fd uint32, version *uint32) errno.Errno {
		w := written(fd)
		if w == nil {
			return errno.AddressOutOfMemory
		}
		h.writes[fd] = nil
		*version = h.add(w.storage, w.name, w.data, w.overwrite)
		return errno.None
	}
	f.StorageAbortFile = func(_, fd uint32) errno.Errno {
		if written(fd) == nil {
			return errno.AddressOutOfMemory
		}
		h.writes[fd] = nil
		return errno.None
	}
	f.StorageGetFile = func(id uint32, name string, version uint32, fd *uint32) errno.Errno {
		return on(id, func(storage string) errno.Errno {
			file := h.Storages[storage][name]
			if file == nil {
				return errno.StorageGetMetaFailed
			}
			if version == 0 {
				version = file.latest()
			}
			data, ok := file.Versions[version]
			if !ok {
				return errno.StorageGetMetaFailed
			}
			*fd = uint32(len(h.reads))
			h.reads = append(h.reads, &reading{bytes.NewReader(data)})
			return errno.None
		})
	}
	f.StorageReadFile = func(_, fd uint32, p *byte, size uint32, n *uint32) errno.Errno {
		if int(fd) >= len(h.reads) || h.reads[fd] == nil {
			return errno.AddressOutOfMemory
		}
		return read(h.reads[fd].from, p, size, n, errno.ReadingFile)
	}
	f.StorageCloseFile = func(_, fd uint32) errno.Errno {
		if int(fd) >= len(h.reads) || h.reads[fd] == nil {
			return errno.AddressOutOfMemory
		}
		h.reads[fd] = nil
		return errno.None
	}
	f.StorageDeleteFile = func(id uint32, name string, version, all uint32) errno.Errno {
		return on(id, func(storage string) errno.Errno {
			file := h.Storages[storage][name]
			if file == nil {
				return errno.DeleteFileFailed
			}
			if version == 0 {
				version = file.latest()
			}
			if _, ok := file.Versions[version]; !ok && all == 0 {
				return errno.DeleteFileFailed
			}
			if delete(file.Versions, version); all == 1 || len(file.Versions) == 0 {
				delete(h.Storages[storage], name)
			}
			return errno.None
		})
	}
	// of is a pair of calls about a storage.
	of := func(value func(files map[string]*File) (string, errno.Errno)) (func(uint32, *uint32) errno.Errno, func(uint32, *byte) errno.Errno) {
		return pair1(func(id uint32) (text string, e errno.Errno) {
			e = on(id, func(storage string) (e errno.Errno) { text, e = value(h.Storages[storage]); return e })
			return text, e
		})
	}
	ofFile := func(value func(file *File) string, none errno.Errno) func(uint32, string) (string, errno.Errno) {
		return func(id uint32, name string) (text string, e errno.Errno) {
			e = on(id, func(storage string) errno.Errno {
				file := h.Storages[storage][name]
				if file == nil {
					return none
				}
				h.asked, text = storage, value(file)
				return errno.None
			})
			return text, e
		}
	}
	number := func(v uint32) string { return strconv.FormatUint(uint64(v), 10) }
	f.StorageListVersionsSize, f.StorageListVersions = pair2(ofFile(func(file *File) string {
		var list []string
		for _, v := range slices.Sorted(maps.Keys(file.Versions)) {
			list = append(list, number(v))
		}
		return joined(list)
	}, errno.ListFileVersionsFailed))
	current := ofFile(func(file *File) string { return number(file.latest()) }, errno.StorageGetMetaFailed)
	f.StorageCurrentVersionSize, _ = pair2(current)
	f.StorageCurrentVersion = func(name string, p *byte) errno.Errno {
		text, e := current(handle(&h.storages, h.asked), name)
		put(p, text)
		return e
	}
	f.StorageListFilesSize, f.StorageListFiles = of(func(files map[string]*File) (string, errno.Errno) {
		var list []string
		for _, name := range slices.Sorted(maps.Keys(files)) {
			for _, v := range slices.Sorted(maps.Keys(files[name].Versions)) {
				list = append(list, "/file/"+name+"/"+number(v))
			}
		}
		if len(list) == 0 {
			list = append(list, "")
		}
		return joined(list), errno.None
	})
	f.StorageUsedSize, f.StorageUsed = of(func(files map[string]*File) (string, errno.Errno) {
		used := 0
		for _, file := range files {
			for _, data := range file.Versions {
				used += len(data)
			}
		}
		return strconv.Itoa(used), errno.None
	})
	f.StorageCapacitySize, f.StorageCapacity = of(func(map[string]*File) (string, errno.Errno) { return "1000000000", errno.None })
}
