package monkey

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/taubyte/taubyte"
)

// A lack is something of a commit that its source has not.
type lack struct {
	path string
	why  string
	name bool // it is left out for its name alone
}

func (l lack) String() string {
	if utf8.ValidString(l.path) {
		return l.path + " " + l.why
	}
	return strconv.Quote(l.path) + " " + l.why
}

// below reports whether it is in a folder of the source.
func (l lack) below(dir string) bool { return dir == "." || strings.HasPrefix(l.path, dir+"/") }

// What a commit only refers to, and what is left out of it.
const (
	lackLFS    = "is a pointer of Git LFS: the file itself is not part of the push"
	lackAnnex  = "is a pointer of git-annex: the file itself is not part of the push"
	lackModule = "is a submodule: its content is not part of the push"
	lackName   = "is left out: its name is not UTF-8"
)

// maxPointer is the largest file that a pointer may be (git-lfs, docs/spec.md).
const maxPointer = 1024

var pointerRule = regexp.MustCompile(`\Aversion https?://[!-~]+\n(ext-[!-~ ]+\n)*oid [a-z0-9]+:[0-9a-f]{32,128}\nsize [0-9]+\n\z`)

// pointer says what a file is that stands for another, "" of any other.
func pointer(text []byte) string {
	switch {
	case pointerRule.Match(text):
		return lackLFS
	case bytes.HasPrefix(text, []byte("/annex/objects/")) && bytes.IndexByte(text, '\n') == len(text)-1:
		return lackAnnex
	}
	return ""
}

// unpack writes an archive of a commit below root, and returns what it lacks. Nothing that
// the archive says can lead out of root, or make more of it than limit bytes and
// maxEntries files and folders.
func unpack(root *os.Root, r io.Reader, limit int64) ([]lack, error) {
	u := unpacking{root: root, left: limit, made: map[string]bool{".": true}, empty: map[string]bool{}}
	archive := tar.NewReader(r)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			// The end of the stream says whether it was whole.
			if _, err := io.Copy(io.Discard, io.LimitReader(r, limit)); err != nil {
				return nil, fmt.Errorf("unpacking the source: %w", err)
			}
			for _, name := range slices.Sorted(maps.Keys(u.empty)) {
				u.lacks = append(u.lacks, lack{path: name, why: lackModule})
			}
			return u.lacks, nil
		}
		if err != nil {
			return nil, fmt.Errorf("unpacking the source: %w", err)
		}
		name := path.Clean(h.Name)
		switch {
		case h.Typeflag == tar.TypeXGlobalHeader, name == ".":
			continue // git's note of the commit
		case !fs.ValidPath(strings.ToValidUTF8(name, "_")):
			return nil, fmt.Errorf("%w source: it holds the name %q", taubyte.ErrInvalid, h.Name)
		case h.Size > u.left:
			return nil, fmt.Errorf("the source: %w: more than %d bytes", taubyte.ErrTooLarge, limit)
		}
		u.left -= h.Size
		if err := u.one(archive, h, name); err != nil {
			return nil, fmt.Errorf("unpacking %s: %w", name, err)
		}
	}
}

// unpacking is an archive on its way to disk.
type unpacking struct {
	root    *os.Root
	left    int64           // bytes
	entries int             // so far
	made    map[string]bool // folders
	empty   map[string]bool // those with nothing in them: git has none but for submodules
	lacks   []lack
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
	delete(u.empty, path.Dir(name))
	if !utf8.ValidString(name) {
		if h.Typeflag == tar.TypeDir {
			return nil
		}
		u.lacks = append(u.lacks, lack{path: name, why: lackName, name: true})
		return u.count(name)
	}
	if h.Typeflag == tar.TypeDir {
		u.empty[name] = true
		return u.folder(name)
	}
	if err := u.count(name); err != nil {
		return err
	}
	if r, err = u.look(r, h, name); err != nil {
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

// look notes an entry that stands for something else, and returns its content.
func (u *unpacking) look(r io.Reader, h *tar.Header, name string) (io.Reader, error) {
	switch {
	case h.Typeflag == tar.TypeSymlink && strings.Contains(h.Linkname, ".git/annex/objects/"):
		u.lacks = append(u.lacks, lack{path: name, why: lackAnnex})
	case h.Typeflag == tar.TypeReg && h.Size <= maxPointer:
		text, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		if why := pointer(text); why != "" {
			u.lacks = append(u.lacks, lack{path: name, why: why})
		}
		return bytes.NewReader(text), nil
	}
	return r, nil
}
