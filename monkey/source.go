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

// unpack writes an archive of a commit below root. Nothing that the archive says
// can lead out of it.
func unpack(root *os.Root, r io.Reader, limit int64) error {
	archive := tar.NewReader(r)
	left := limit
	for files := 0; ; files++ {
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
		case files > maxFiles || h.Size > left:
			return fmt.Errorf("%w source: more than %d bytes or %d files", taubyte.ErrTooLarge, limit, maxFiles)
		}
		left -= h.Size
		if err := unpackOne(root, archive, h, filepath.FromSlash(name)); err != nil {
			return fmt.Errorf("unpacking %s: %w", name, err)
		}
	}
}

func unpackOne(root *os.Root, r io.Reader, h *tar.Header, name string) (err error) {
	if h.Typeflag == tar.TypeDir {
		return root.MkdirAll(name, 0o700)
	}
	if err := root.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		mode := fs.FileMode(0o600)
		if h.FileInfo().Mode()&0o100 != 0 {
			mode = 0o700
		}
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		_, err = io.Copy(f, r)
		return err
	case tar.TypeSymlink:
		return root.Symlink(h.Linkname, name)
	}
	return fmt.Errorf("%w source: an entry of type %q", taubyte.ErrInvalid, h.Typeflag)
}

// removeAll removes a folder in which a build may have taken its own permissions
// away.
func removeAll(dir string) error {
	if err := os.RemoveAll(dir); err == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(name, 0o700) // before it is read
		}
		return nil
	})
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("removing a build's folder: %w", err)
	}
	return nil
}
