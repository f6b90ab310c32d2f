package monkey

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/taubyte/taubyte"
)

// unpack writes an archive of a commit below root. Nothing that the archive says can lead
// out of it, or make more of it than limit bytes and maxEntries files and folders.
func unpack(root *os.Root, r io.Reader, limit int64) error {
	u := unpacking{root: root, left: limit, made: map[string]bool{".": true}}
	archive := tar.NewReader(r)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			// The end of the stream says whether it was whole.
			if _, err := io.Copy(io.Discard, io.LimitReader(r, limit)); err != nil {
				return fmt.Errorf("unpacking the source: %w", err)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("unpacking the source: %w", err)
		}
		name := path.Clean(h.Name)
		switch {
		case h.Typeflag == tar.TypeXGlobalHeader, name == ".":
			continue // git's note of the commit
		case !fs.ValidPath(name):
			return fmt.Errorf("%w source: it holds the name %q", taubyte.ErrInvalid, h.Name)
		case h.Size > u.left:
			return fmt.Errorf("the source: %w: more than %d bytes", taubyte.ErrTooLarge, limit)
		}
		u.left -= h.Size
		if err := u.one(archive, h, name); err != nil {
			return fmt.Errorf("unpacking %s: %w", name, err)
		}
	}
}

// unpacking is an archive on its way to disk.
type unpacking struct {
	root    *os.Root
	left    int64           // bytes
	entries int             // so far
	made    map[string]bool // folders
}

// folder makes a folder and those on the way to it.
func (u *unpacking) folder(name string) error {
	if u.made[name] {
		return nil
	}
	if err := u.count(name); err != nil { // before the way is followed
		return err
	}
	if err := u.folder(path.Dir(name)); err != nil {
		return err
	}
	if err := u.root.Mkdir(filepath.FromSlash(name), 0o700); err != nil {
		if info, e := u.root.Stat(filepath.FromSlash(name)); e != nil || !info.IsDir() {
			return err
		}
	}
	u.made[name] = true
	return nil
}

func (u *unpacking) count(name string) error {
	u.entries++
	return bounds(u.entries, name)
}

func (u *unpacking) one(r io.Reader, h *tar.Header, name string) (err error) {
	if h.Typeflag == tar.TypeDir {
		return u.folder(name)
	}
	if err := u.count(name); err != nil {
		return err
	}
	if err := u.folder(path.Dir(name)); err != nil {
		return err
	}
	file := filepath.FromSlash(name)
	switch h.Typeflag {
	case tar.TypeReg:
		mode := fs.FileMode(0o600)
		if h.FileInfo().Mode()&0o100 != 0 {
			mode = 0o700
		}
		f, err := u.root.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		_, err = io.Copy(f, r)
		return err
	case tar.TypeSymlink:
		return u.root.Symlink(h.Linkname, file)
	}
	return fmt.Errorf("%w source: an entry of type %q", taubyte.ErrInvalid, h.Typeflag)
}
