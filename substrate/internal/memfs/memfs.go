// Package memfs is the file system of a guest: in memory, empty at first, gone
// with the instance, and bounded in bytes, in files and in open files.
package memfs

import (
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/tetratelabs/wazero/experimental/sys"
	wsys "github.com/tetratelabs/wazero/sys"
)

// Limits of one file system.
const (
	MaxBytes = 8 << 20
	MaxNodes = 1024
	MaxOpen  = 256
	maxName  = 255
	maxDepth = 64
)

// FS implements wazero's sys.FS. Like the guest, it is for one goroutine.
type FS struct {
	sys.UnimplementedFS
	root  node
	nodes int // files and folders made so far that are still there
	open  int // files and folders
	bytes int64
	take  func(int64) bool
	inode uint64
	now   func() int64 // in nanoseconds since 1970
}

var _ sys.FS = (*FS)(nil)

// A node is a file, or a folder where children is not nil or it is the root.
type node struct {
	dir      bool
	inode    uint64
	mode     fs.FileMode // permissions
	data     []byte
	children map[string]*node
	atim     int64
	mtim     int64
	links    int // 0: removed; its bytes are counted until it is closed
	open     int
}

// New returns an empty file system. now is its clock.
func New(now func() int64) *FS {
	return &FS{root: node{dir: true, inode: 1, mode: 0o755, links: 1}, inode: 1, now: now, take: func(int64) bool { return true }}
}

// Count has take asked before files grow by so many bytes, and told below zero when
// they shrink.
func (f *FS) Count(take func(bytes int64) bool) { f.take = take }

// Bytes is what the files take.
func (f *FS) Bytes() int64 { return f.bytes }

// split cleans a path: nothing leads out of the root.
func split(p string) []string {
	p = strings.Trim(path.Clean("/"+p), "/")
	if p == "" {
		return nil
	}
	return strings.Split(p, "/")
}

func (f *FS) find(p string) (*node, sys.Errno) {
	n := &f.root
	for _, name := range split(p) {
		if !n.dir {
			return nil, sys.ENOTDIR
		}
		next, ok := n.children[name]
		if !ok {
			return nil, sys.ENOENT
		}
		n = next
	}
	return n, 0
}

// parent returns the folder that a path is in, and its name there.
func (f *FS) parent(p string) (*node, string, sys.Errno) {
	parts := split(p)
	if len(parts) == 0 {
		return nil, "", sys.EEXIST // the root
	}
	name := parts[len(parts)-1]
	if len(name) > maxName || len(parts) > maxDepth {
		return nil, "", sys.ENAMETOOLONG
	}
	dir, errno := f.find(strings.Join(parts[:len(parts)-1], "/"))
	if errno == 0 && !dir.dir {
		errno = sys.ENOTDIR
	}
	return dir, name, errno
}

func (f *FS) make(dir *node, name string, isDir bool, perm fs.FileMode) (*node, sys.Errno) {
	if f.nodes >= MaxNodes {
		return nil, sys.EIO
	}
	f.nodes++
	f.inode++
	now := f.now()
	n := &node{dir: isDir, inode: f.inode, mode: perm & fs.ModePerm, atim: now, mtim: now, links: 1}
	if dir.children == nil {
		dir.children = map[string]*node{}
	}
	dir.children[name] = n
	dir.mtim = now
	return n, 0
}

// OpenFile implements sys.FS.
func (f *FS) OpenFile(p string, flag sys.Oflag, perm fs.FileMode) (sys.File, sys.Errno) {
	n, errno := f.find(p)
	switch {
	case f.open >= MaxOpen:
		return nil, sys.EIO
	case errno == sys.ENOENT && flag&sys.O_CREAT != 0 && flag&sys.O_DIRECTORY == 0:
		dir, name, errno := f.parent(p)
		if errno != 0 {
			return nil, errno
		}
		if n, errno = f.make(dir, name, false, perm); errno != 0 {
			return nil, errno
		}
	case errno != 0:
		return nil, errno
	case flag&sys.O_CREAT != 0 && flag&sys.O_EXCL != 0:
		return nil, sys.EEXIST
	}
	access := flag & (sys.O_RDWR | sys.O_WRONLY)
	if n.dir {
		if access != sys.O_RDONLY || flag&sys.O_TRUNC != 0 {
			return nil, sys.EISDIR
		}
		n.open++
		f.open++
		return &folder{fs: f, node: n}, 0
	}
	if flag&sys.O_DIRECTORY != 0 {
		return nil, sys.ENOTDIR
	}
	n.open++
	f.open++
	file := &file{fs: f, node: n, read: access != sys.O_WRONLY, write: access != sys.O_RDONLY, append: flag&sys.O_APPEND != 0}
	if flag&sys.O_TRUNC != 0 && file.write {
		if errno := file.Truncate(0); errno != 0 {
			return nil, errno
		}
	}
	return file, 0
}

// Stat implements sys.FS.
func (f *FS) Stat(p string) (wsys.Stat_t, sys.Errno) {
	n, errno := f.find(p)
	if errno != 0 {
		return wsys.Stat_t{}, errno
	}
	return n.stat(), 0
}

// Lstat implements sys.FS. There are no links.
func (f *FS) Lstat(p string) (wsys.Stat_t, sys.Errno) { return f.Stat(p) }

func (n *node) stat() wsys.Stat_t {
	mode := n.mode
	if n.dir {
		mode |= fs.ModeDir
	}
	return wsys.Stat_t{Ino: n.inode, Mode: mode, Nlink: 1, Size: int64(len(n.data)), Atim: n.atim, Mtim: n.mtim, Ctim: n.mtim}
}

// Mkdir implements sys.FS.
func (f *FS) Mkdir(p string, perm fs.FileMode) sys.Errno {
	dir, name, errno := f.parent(p)
	if errno != 0 {
		return errno
	}
	if _, there := dir.children[name]; there {
		return sys.EEXIST
	}
	_, errno = f.make(dir, name, true, perm)
	return errno
}

// Chmod implements sys.FS.
func (f *FS) Chmod(p string, perm fs.FileMode) sys.Errno {
	n, errno := f.find(p)
	if errno == 0 {
		n.mode = perm & fs.ModePerm
	}
	return errno
}

// Utimens implements sys.FS.
func (f *FS) Utimens(p string, atim, mtim int64) sys.Errno {
	n, errno := f.find(p)
	if errno == 0 {
		n.touch(atim, mtim)
	}
	return errno
}

func (n *node) touch(atim, mtim int64) {
	if atim != sys.UTIME_OMIT {
		n.atim = atim
	}
	if mtim != sys.UTIME_OMIT {
		n.mtim = mtim
	}
}

// Rename implements sys.FS.
func (f *FS) Rename(from, to string) sys.Errno {
	src, name, errno := f.parent(from)
	if errno != 0 {
		return errno
	}
	n, ok := src.children[name]
	if !ok {
		return sys.ENOENT
	}
	dst, newName, errno := f.parent(to)
	if errno != 0 {
		return errno
	}
	if n.dir && n.holds(dst) {
		return sys.EINVAL
	}
	if old, there := dst.children[newName]; there {
		switch {
		case old == n:
			return 0
		case old.dir && !n.dir:
			return sys.EISDIR
		case !old.dir && n.dir:
			return sys.ENOTDIR
		case len(old.children) > 0:
			return sys.ENOTEMPTY
		}
		f.remove(dst, newName, old)
	}
	delete(src.children, name)
	if dst.children == nil {
		dst.children = map[string]*node{}
	}
	dst.children[newName] = n
	return 0
}

// holds says whether a folder is n or somewhere in it.
func (n *node) holds(dir *node) bool {
	if n == dir {
		return true
	}
	for _, c := range n.children {
		if c.dir && c.holds(dir) {
			return true
		}
	}
	return false
}

// Rmdir implements sys.FS.
func (f *FS) Rmdir(p string) sys.Errno { return f.drop(p, true) }

// Unlink implements sys.FS.
func (f *FS) Unlink(p string) sys.Errno { return f.drop(p, false) }

func (f *FS) drop(p string, isDir bool) sys.Errno {
	dir, name, errno := f.parent(p)
	if errno != 0 {
		return errno
	}
	n, ok := dir.children[name]
	switch {
	case !ok:
		return sys.ENOENT
	case isDir && !n.dir:
		return sys.ENOTDIR
	case !isDir && n.dir:
		return sys.EISDIR
	case len(n.children) > 0:
		return sys.ENOTEMPTY
	}
	f.remove(dir, name, n)
	return 0
}

func (f *FS) remove(dir *node, name string, n *node) {
	delete(dir.children, name)
	n.links = 0
	f.nodes--
	f.forget(n)
}

// forget gives back the bytes of a file that is neither linked nor open.
func (f *FS) forget(n *node) {
	if n.links == 0 && n.open == 0 {
		f.bytes -= int64(cap(n.data))
		f.take(-int64(cap(n.data)))
		n.data = nil
	}
}

// resize changes the length of a file.
func (f *FS) resize(n *node, size int64) sys.Errno {
	old := int64(cap(n.data))
	if size > old {
		room := size
		if old > 0 { // it may go on growing: do not copy each time
			room = min(size+size/4, max(size, MaxBytes-f.bytes+old))
		}
		if f.bytes-old+room > MaxBytes || !f.take(room-old) {
			return sys.EIO
		}
		data := make([]byte, size, room)
		copy(data, n.data)
		n.data = data
		f.bytes += room - old
	} else {
		if size > int64(len(n.data)) {
			clear(n.data[len(n.data):size])
		}
		n.data = n.data[:size]
	}
	n.mtim = f.now()
	return 0
}

// position is int64 by a name that go vet does not take for io.Seeker's, whose
// result is another.
type position = int64

// file is an open file.
type file struct {
	sys.UnimplementedFile
	fs                  *FS
	node                *node
	at                  int64
	read, write, append bool
	closed              bool
}

var _ sys.File = (*file)(nil)

func (f *file) Ino() (wsys.Inode, sys.Errno)       { return f.node.inode, 0 }
func (f *file) Stat() (wsys.Stat_t, sys.Errno)     { return f.node.stat(), 0 }
func (f *file) IsAppend() bool                     { return f.append }
func (f *file) Sync() sys.Errno                    { return 0 }
func (f *file) Datasync() sys.Errno                { return 0 }
func (f *file) Utimens(atim, mtim int64) sys.Errno { f.node.touch(atim, mtim); return 0 }

func (f *file) SetAppend(on bool) sys.Errno {
	f.append = on
	return 0
}

func (f *file) Read(p []byte) (int, sys.Errno) {
	n, errno := f.Pread(p, f.at)
	f.at += int64(n)
	return n, errno
}

func (f *file) Pread(p []byte, off int64) (int, sys.Errno) {
	switch {
	case f.closed || !f.read:
		return 0, sys.EBADF
	case off < 0:
		return 0, sys.EINVAL
	case off >= int64(len(f.node.data)):
		return 0, 0
	}
	return copy(p, f.node.data[off:]), 0
}

func (f *file) Write(p []byte) (int, sys.Errno) {
	if f.append {
		f.at = int64(len(f.node.data))
	}
	n, errno := f.Pwrite(p, f.at)
	f.at += int64(n)
	return n, errno
}

func (f *file) Pwrite(p []byte, off int64) (int, sys.Errno) {
	switch {
	case f.closed || !f.write:
		return 0, sys.EBADF
	case off < 0:
		return 0, sys.EINVAL
	case off > MaxBytes:
		return 0, sys.EIO
	}
	if end := off + int64(len(p)); end > int64(len(f.node.data)) {
		if errno := f.fs.resize(f.node, end); errno != 0 {
			return 0, errno
		}
	}
	f.node.mtim = f.fs.now()
	return copy(f.node.data[off:], p), 0
}

func (f *file) Seek(offset position, whence int) (int64, sys.Errno) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += f.at
	case io.SeekEnd:
		offset += int64(len(f.node.data))
	default:
		return 0, sys.EINVAL
	}
	if f.closed {
		return 0, sys.EBADF
	}
	if offset < 0 {
		return 0, sys.EINVAL
	}
	f.at = offset
	return offset, 0
}

func (f *file) Truncate(size int64) sys.Errno {
	switch {
	case f.closed || !f.write:
		return sys.EBADF
	case size < 0:
		return sys.EINVAL
	case size > MaxBytes:
		return sys.EIO
	}
	return f.fs.resize(f.node, size)
}

func (f *file) Close() sys.Errno {
	if !f.closed {
		f.closed = true
		f.node.open--
		f.fs.open--
		f.fs.forget(f.node)
	}
	return 0
}

// folder is an open folder.
type folder struct {
	sys.UnimplementedFile
	sys.DirFile
	fs     *FS
	node   *node
	names  []string // not yet read
	begun  bool
	closed bool
}

var _ sys.File = (*folder)(nil)

func (d *folder) Ino() (wsys.Inode, sys.Errno)          { return d.node.inode, 0 }
func (d *folder) Stat() (wsys.Stat_t, sys.Errno)        { return d.node.stat(), 0 }
func (d *folder) IsDir() (bool, sys.Errno)              { return true, 0 }
func (d *folder) IsAppend() bool                        { return false }
func (d *folder) SetAppend(bool) sys.Errno              { return sys.EISDIR }
func (d *folder) Read([]byte) (int, sys.Errno)          { return 0, sys.EISDIR }
func (d *folder) Pread([]byte, int64) (int, sys.Errno)  { return 0, sys.EISDIR }
func (d *folder) Write([]byte) (int, sys.Errno)         { return 0, sys.EISDIR }
func (d *folder) Pwrite([]byte, int64) (int, sys.Errno) { return 0, sys.EISDIR }
func (d *folder) Truncate(int64) sys.Errno              { return sys.EISDIR }
func (d *folder) Sync() sys.Errno                       { return 0 }
func (d *folder) Datasync() sys.Errno                   { return 0 }
func (d *folder) Utimens(atim, mtim int64) sys.Errno    { d.node.touch(atim, mtim); return 0 }

// Seek to the start reads the folder anew.
func (d *folder) Seek(offset position, whence int) (int64, sys.Errno) {
	if offset != 0 || whence != io.SeekStart {
		return 0, sys.EINVAL
	}
	d.begun = false
	return 0, 0
}

func (d *folder) Readdir(n int) ([]sys.Dirent, sys.Errno) {
	if d.closed {
		return nil, sys.EBADF
	}
	if !d.begun {
		d.begun, d.names = true, slices.Sorted(maps.Keys(d.node.children))
	}
	if n <= 0 {
		n = len(d.names)
	}
	var out []sys.Dirent
	for len(out) < n && len(d.names) > 0 {
		name := d.names[0]
		d.names = d.names[1:]
		c, ok := d.node.children[name]
		if !ok {
			continue // removed meanwhile
		}
		var kind fs.FileMode
		if c.dir {
			kind = fs.ModeDir
		}
		out = append(out, sys.Dirent{Ino: c.inode, Name: name, Type: kind})
	}
	return out, 0
}

func (d *folder) Close() sys.Errno {
	if !d.closed {
		d.closed = true
		d.node.open--
		d.fs.open--
	}
	return 0
}
