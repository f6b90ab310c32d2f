package monkey

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/taubyte/taubyte"
)

// linked is a tree in which a symbolic link is what it leads to, for websites: builders
// make links, and content has none. One that leads out of the tree, nowhere, or to a folder that it
// is in, is taubyte.ErrInvalid.
type linked struct{ tree }

var _ fs.ReadDirFS = linked{}

// ReadDir implements fs.ReadDirFS.
func (t linked) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(t.tree, name)
	if err != nil {
		return nil, err
	}
	for i, e := range entries {
		if e.Type()&fs.ModeSymlink == 0 {
			continue
		}
		if entries[i], err = t.follow(name, e.Name()); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// follow is the entry that a link in a directory stands for.
func (t linked) follow(dir, name string) (fs.DirEntry, error) {
	link := path.Join(dir, name)
	end, err := t.end(link)
	if err != nil {
		return nil, err
	}
	info, err := t.Stat(end)
	if err != nil {
		return nil, fmt.Errorf("reading the output: %w", err)
	}
	for in := dir; info.IsDir(); in = path.Dir(in) {
		above, err := t.end(in)
		if err != nil {
			return nil, err
		}
		if above == end {
			return nil, fmt.Errorf("%w output: the link %s leads to a folder that it is in", taubyte.ErrInvalid, link)
		}
		if in == "." {
			break
		}
	}
	return linkedEntry{info, name}, nil
}

// mostLinks bounds the links that lead to one another, as Linux does.
const mostLinks = 40

// end is where a path leads over all links, without one.
func (t linked) end(name string) (string, error) {
	at, links := ".", 0
	for rest := name; rest != ""; {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		switch part {
		case "", ".":
			continue
		case "..":
			if at == "." {
				return "", fmt.Errorf("%w output: the link %s leads out of the website", taubyte.ErrInvalid, name)
			}
			at = path.Dir(at)
			continue
		}
		at = path.Join(at, part)
		info, err := t.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("%w output: the link %s leads to %s, which is not there", taubyte.ErrInvalid, name, at)
		}
		if err != nil {
			return "", fmt.Errorf("reading the output: %w", err)
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			continue
		}
		to, err := t.ReadLink(at)
		if err != nil {
			return "", fmt.Errorf("reading the output: %w", err)
		}
		if links++; links > mostLinks {
			return "", fmt.Errorf("%w output: the link %s leads over more than %d links", taubyte.ErrInvalid, name, mostLinks)
		}
		if path.IsAbs(to) {
			return "", fmt.Errorf("%w output: the link %s leads out of the website, to %s", taubyte.ErrInvalid, name, to)
		}
		at, rest = path.Dir(at), to+"/"+rest
	}
	return at, nil
}

// linkedEntry is a file or folder under the name of a link.
type linkedEntry struct {
	info fs.FileInfo
	name string
}

func (e linkedEntry) Name() string               { return e.name }
func (e linkedEntry) IsDir() bool                { return e.info.IsDir() }
func (e linkedEntry) Type() fs.FileMode          { return e.info.Mode().Type() }
func (e linkedEntry) Info() (fs.FileInfo, error) { return e.info, nil }
