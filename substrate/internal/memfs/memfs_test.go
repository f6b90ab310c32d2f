package memfs_test

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero/experimental/sys"

	"github.com/taubyte/taubyte/substrate/internal/memfs"
)

func newFS() *memfs.FS {
	now := int64(0)
	return memfs.New(func() int64 { now++; return now })
}

func ok(t *testing.T, errno sys.Errno) {
	t.Helper()
	require.Zero(t, errno)
}

func write(t *testing.T, f *memfs.FS, name, text string) {
	t.Helper()
	file, errno := f.OpenFile(name, sys.O_WRONLY|sys.O_CREAT|sys.O_TRUNC, 0o600)
	ok(t, errno)
	n, errno := file.Write([]byte(text))
	ok(t, errno)
	require.Equal(t, len(text), n)
	ok(t, file.Close())
	ok(t, file.Close())
}

func read(t *testing.T, f *memfs.FS, name string) string {
	t.Helper()
	file, errno := f.OpenFile(name, sys.O_RDONLY, 0)
	ok(t, errno)
	defer file.Close()
	buf := make([]byte, 100)
	n, errno := file.Read(buf)
	ok(t, errno)
	end, errno := file.Read(buf[n:])
	ok(t, errno)
	require.Zero(t, end)
	return string(buf[:n])
}

func TestFiles(t *testing.T) {
	f := newFS()
	_, errno := f.OpenFile("a", sys.O_RDONLY, 0)
	require.Equal(t, sys.ENOENT, errno)
	write(t, f, "a", "hello")
	require.Equal(t, "hello", read(t, f, "/a"))
	require.Equal(t, "hello", read(t, f, "../../a"), "nothing leads out of the root")
	_, errno = f.OpenFile("a", sys.O_CREAT|sys.O_EXCL|sys.O_WRONLY, 0)
	require.Equal(t, sys.EEXIST, errno)
	_, errno = f.OpenFile("a", sys.O_DIRECTORY, 0)
	require.Equal(t, sys.ENOTDIR, errno)
	_, errno = f.OpenFile("a/b", sys.O_CREAT|sys.O_WRONLY, 0)
	require.Equal(t, sys.ENOTDIR, errno)
	_, errno = f.OpenFile(strings.Repeat("x", 256), sys.O_CREAT|sys.O_WRONLY, 0)
	require.Equal(t, sys.ENAMETOOLONG, errno)

	file, errno := f.OpenFile("a", sys.O_RDWR|sys.O_APPEND, 0)
	ok(t, errno)
	_, errno = file.Write([]byte(" there"))
	ok(t, errno)
	at, errno := file.Seek(-5, 2)
	ok(t, errno)
	require.EqualValues(t, 6, at)
	_, errno = file.Pwrite([]byte("T"), 6)
	ok(t, errno)
	_, errno = file.Pwrite([]byte("!"), 13)
	ok(t, errno)
	ok(t, file.Truncate(15))
	st, errno := file.Stat()
	ok(t, errno)
	require.EqualValues(t, 15, st.Size)
	ok(t, file.Close())
	require.Equal(t, "hello There\x00\x00!\x00", read(t, f, "a"))
	_, errno = file.Write(nil)
	require.Equal(t, sys.EBADF, errno)
	_, errno = file.Read(nil)
	require.Equal(t, sys.EBADF, errno)

	// What was cut off does not come back.
	file, _ = f.OpenFile("a", sys.O_RDWR, 0)
	ok(t, file.Truncate(2))
	ok(t, file.Truncate(6))
	ok(t, file.Close())
	require.Equal(t, "he\x00\x00\x00\x00", read(t, f, "a"))
}

func TestFolders(t *testing.T) {
	f := newFS()
	ok(t, f.Mkdir("d", 0o700))
	require.Equal(t, sys.EEXIST, f.Mkdir("d", 0o700))
	require.Equal(t, sys.EEXIST, f.Mkdir("/", 0o700))
	require.Equal(t, sys.ENOENT, f.Mkdir("x/y", 0o700))
	ok(t, f.Mkdir("d/e", 0o700))
	write(t, f, "d/b", "b")
	write(t, f, "d/a", "a")

	dir, errno := f.OpenFile("d", sys.O_RDONLY|sys.O_DIRECTORY, 0)
	ok(t, errno)
	entries, errno := dir.Readdir(2)
	ok(t, errno)
	require.Equal(t, "a", entries[0].Name)
	require.Len(t, entries, 2)
	entries, errno = dir.Readdir(2)
	ok(t, errno)
	require.Len(t, entries, 1)
	require.True(t, entries[0].IsDir())
	ok(t, dir.Close())

	require.Equal(t, sys.ENOTEMPTY, f.Rmdir("d"))
	require.Equal(t, sys.EISDIR, f.Unlink("d"))
	require.Equal(t, sys.ENOTDIR, f.Rmdir("d/a"))
	require.Equal(t, sys.EINVAL, f.Rename("d", "d/e/d"))
	require.Equal(t, sys.ENOTDIR, f.Rename("d/e", "d/a"))
	require.Equal(t, sys.EISDIR, f.Rename("d/a", "d/e"))
	ok(t, f.Rename("d/a", "d/b"))
	require.Equal(t, "a", read(t, f, "d/b"))
	ok(t, f.Rename("d/b", "d/e/c"))
	ok(t, f.Unlink("d/e/c"))
	require.Equal(t, sys.ENOENT, f.Unlink("d/e/c"))
	ok(t, f.Rmdir("d/e"))
	ok(t, f.Rmdir("d"))
	require.Equal(t, sys.EEXIST, f.Rmdir("/"))
	st, errno := f.Stat("/")
	ok(t, errno)
	require.True(t, st.Mode.IsDir())
	write(t, f, "x", "")
	ok(t, f.Chmod("x", 0o640|fs.ModeDir))
	ok(t, f.Utimens("x", 5, sys.UTIME_OMIT))
	st, _ = f.Lstat("x")
	require.Equal(t, fs.FileMode(0o640), st.Mode)
	require.EqualValues(t, 5, st.Atim)
}

// It is the host's memory: there is an end of it, and what is removed is given
// back, once nobody has it open.
func TestBounds(t *testing.T) {
	f := newFS()
	fill := func() (written int) {
		file, errno := f.OpenFile("big", sys.O_RDWR|sys.O_CREAT, 0)
		ok(t, errno)
		ok(t, f.Unlink("big"))
		for {
			n, errno := file.Write(make([]byte, 100_000))
			written += n
			if errno != 0 {
				require.Equal(t, sys.EIO, errno)
				break
			}
		}
		require.Equal(t, sys.EIO, file.Truncate(1<<40))
		_, errno = file.Pwrite([]byte("x"), 1<<40)
		require.Equal(t, sys.EIO, errno)
		ok(t, file.Close())
		return written
	}
	first := fill()
	require.Greater(t, first, memfs.MaxBytes/2)
	require.LessOrEqual(t, first, memfs.MaxBytes)
	require.Equal(t, first, fill())

	made := 0
	for ; made < 10_000; made++ {
		file, errno := f.OpenFile(strings.Repeat("x", made%200+1)+string(rune('a'+made/200)), sys.O_WRONLY|sys.O_CREAT, 0)
		if errno != 0 {
			require.Equal(t, sys.EIO, errno)
			break
		}
		ok(t, file.Close())
	}
	require.LessOrEqual(t, made, memfs.MaxNodes)
}

// No path breaks it.
func FuzzPaths(f *testing.F) {
	f.Add("a/b", "../c", "d")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		fs := newFS()
		_ = fs.Mkdir(a, 0o700)
		if file, errno := fs.OpenFile(b, sys.O_CREAT|sys.O_RDWR, 0o600); errno == 0 {
			_, _ = file.Write([]byte(c))
			_ = file.Close()
		}
		_ = fs.Rename(a, b)
		_ = fs.Rename(b, c)
		_ = fs.Unlink(c)
		_ = fs.Rmdir(a)
		_, _ = fs.Stat(c)
	})
}

// A file system has so many open files at a time, and asks before it grows.
func TestCounted(t *testing.T) {
	f := newFS()
	var files []sys.File
	for range memfs.MaxOpen {
		file, errno := f.OpenFile("a", sys.O_RDWR|sys.O_CREAT, 0o600)
		ok(t, errno)
		files = append(files, file)
	}
	for _, name := range []string{"a", "/", "b"} {
		_, errno := f.OpenFile(name, sys.O_RDONLY, 0)
		require.Equal(t, sys.EIO, errno)
	}
	ok(t, files[1].Close())
	ok(t, files[1].Close())
	folder, errno := f.OpenFile("/", sys.O_RDONLY, 0)
	ok(t, errno)
	_, errno = f.OpenFile("a", sys.O_RDONLY, 0)
	require.Equal(t, sys.EIO, errno)
	ok(t, folder.Close())

	taken, most := int64(0), int64(1000)
	f.Count(func(n int64) bool {
		if taken+n > most {
			return false
		}
		taken += n
		return true
	})
	_, errno = files[0].Write(make([]byte, 900))
	ok(t, errno)
	require.Equal(t, f.Bytes(), taken)
	_, errno = files[0].Write(make([]byte, 900))
	require.Equal(t, sys.EIO, errno)
	require.Equal(t, f.Bytes(), taken)
	ok(t, f.Unlink("a"))
	require.EqualValues(t, 900, taken, "still open")
	for _, file := range files {
		ok(t, file.Close())
	}
	require.Zero(t, taken)
	require.Zero(t, f.Bytes())
}
