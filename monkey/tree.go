package monkey

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/taubyte/taubyte"
)

// What the node reads of a tree that a stranger has made.
const (
	// maxEntries bounds the files and folders of a source, and of a result.
	maxEntries = 200_000
	// maxDepth bounds how deep folders are nested in one.
	maxDepth = 64
	// maxText bounds a file that people write and the node parses.
	maxText = 4 << 20
)

// A tree is a folder that a stranger's build has, or may have, written to. All that the
// node itself reads there it reads by a tree: no link leads out of it, no device and no
// pipe is opened, and directories and files end.
//
// It is a file system (fs.FS).
type tree struct {
	root *os.Root
	dir  string // in root
}

var (
	_ fs.ReadLinkFS = tree{}
	_ fs.ReadFileFS = tree{}
)

func (t tree) sub(dir string) tree { return tree{t.root, t.at(dir)} }

func (t tree) at(name string) string { return path.Join(t.dir, name) }

// Open opens a regular file or a directory.
func (t tree) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	f, err := t.root.OpenFile(t.at(name), os.O_RDONLY|dontWait, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		err = fmt.Errorf("%w file: %s is neither a directory nor a regular file", taubyte.ErrInvalid, name)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return treeFile{f}, nil
}

// Lstat implements fs.ReadLinkFS.
func (t tree) Lstat(name string) (fs.FileInfo, error) { return t.root.Lstat(t.at(name)) }

// Stat implements fs.StatFS: a pipe is not opened to be looked at.
func (t tree) Stat(name string) (fs.FileInfo, error) { return t.root.Stat(t.at(name)) }

// ReadLink implements fs.ReadLinkFS.
func (t tree) ReadLink(name string) (string, error) { return t.root.Readlink(t.at(name)) }

// ReadFile reads a file that people write.
func (t tree) ReadFile(name string) ([]byte, error) {
	f, err := t.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxText+1))
	if err == nil && len(text) > maxText {
		err = fmt.Errorf("%w: %s has more than %d bytes", taubyte.ErrTooLarge, name, maxText)
	}
	return text, err
}

// create makes a file that is not there. A link of that name is in the way.
func (t tree) create(name string, text []byte) error {
	f, err := t.root.OpenFile(t.at(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// replace puts a file in the place of what has its name, which is not written to: it may be
// a link, or another name of a file elsewhere.
func (t tree) replace(name string, text []byte) error {
	mode := fs.FileMode(0o600)
	if info, err := t.Lstat(name); err == nil && info.Mode()&0o100 != 0 && info.Mode().IsRegular() {
		mode = 0o700
	}
	if err := t.root.Remove(t.at(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := t.create(name, text); err != nil {
		return err
	}
	return t.root.Chmod(t.at(name), mode)
}

// walk is fs.WalkDir within bounds.
func (t tree) walk(ctx context.Context, dir string, do fs.WalkDirFunc) error {
	return fs.WalkDir(t, dir, bounded(ctx, do))
}

// bounded stops a walk that does not end.
func bounded(ctx context.Context, do fs.WalkDirFunc) fs.WalkDirFunc {
	entries := 0
	return func(name string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		entries++
		if err := bounds(entries, name); err != nil {
			return err
		}
		return do(name, d, err)
	}
}

// bounds returns an error for a tree that has too many entries, or one that is too deep.
func bounds(entries int, name string) error {
	switch {
	case entries > maxEntries:
		return fmt.Errorf("%w: more than %d files and folders", taubyte.ErrTooLarge, maxEntries)
	case strings.Count(name, "/") > maxDepth:
		return fmt.Errorf("%w: folders are nested more than %d deep", taubyte.ErrTooLarge, maxDepth)
	}
	return nil
}

// treeFile is a file of which no directory is read without end.
type treeFile struct{ *os.File }

// ReadDir implements fs.ReadDirFile.
func (f treeFile) ReadDir(n int) ([]fs.DirEntry, error) {
	if n > 0 {
		return f.File.ReadDir(n)
	}
	entries, err := f.File.ReadDir(maxEntries + 1)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err == nil {
		err = bounds(len(entries), "")
	}
	return entries, err
}

// removeAll removes a folder of parent in which a build may have taken its own
// permissions away, and nested folders as deep as it liked: what is too deep for one
// walk is moved up, and removed by another.
func removeAll(parent *os.Root, name string) error {
	var errs []error
	moved := 0
	for left := []string{name}; len(left) > 0; {
		top := left[len(left)-1]
		left = left[:len(left)-1]
		_ = fs.WalkDir(parent.FS(), top, func(at string, d fs.DirEntry, err error) error {
			if d == nil || !d.IsDir() {
				return nil
			}
			if err != nil {
				return fs.SkipDir
			}
			_ = parent.Chmod(at, 0o700) // before it is read
			if strings.Count(at, "/") < maxDepth {
				return nil
			}
			moved++
			up := fmt.Sprintf("%s-deep-%d", name, moved)
			if parent.Rename(at, up) == nil {
				left = append(left, up)
			}
			return fs.SkipDir
		})
		errs = append(errs, parent.RemoveAll(top))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("removing a build's folder: %w", err)
	}
	return nil
}
