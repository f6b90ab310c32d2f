// Package archive keeps source files in one text file: each under a line
// "-- name --".
package archive

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// File is one file of an archive.
type File struct {
	Name string // with slashes
	Data []byte
}

// Collect gives the files of a module's source that a build needs, by name:
// no tests, no test data and no generators.
func Collect(source fs.FS) ([]File, error) {
	var files []File
	err := fs.WalkDir(source, ".", func(name string, d fs.DirEntry, err error) error {
		base := path.Base(name)
		switch {
		case err != nil:
			return err
		case d.IsDir():
			if base == "testdata" || name == "internal/gen" || base != "." && strings.HasPrefix(base, ".") {
				return fs.SkipDir
			}
			return nil
		case base == "go.mod", path.Ext(base) == ".go" && !strings.HasSuffix(base, "_test.go"):
			data, err := fs.ReadFile(source, name)
			if err != nil {
				return err
			}
			files = append(files, File{name, data})
		}
		return nil
	})
	return files, err
}

// Format gives the text of an archive.
func Format(files []File) ([]byte, error) {
	var b bytes.Buffer
	for _, f := range files {
		if !bytes.HasSuffix(f.Data, []byte("\n")) || bytes.HasPrefix(f.Data, []byte("-- ")) || bytes.Contains(f.Data, []byte("\n-- ")) {
			return nil, fmt.Errorf("%s can't stand in an archive: a line starts with \"-- \", or the last has no end", f.Name)
		}
		fmt.Fprintf(&b, "-- %s --\n%s", f.Name, f.Data)
	}
	return b.Bytes(), nil
}

// Parse gives the files of an archive.
func Parse(text []byte) ([]File, error) {
	var files []File
	for len(text) > 0 {
		line, rest, _ := bytes.Cut(text, []byte("\n"))
		name, ok := bytes.CutPrefix(line, []byte("-- "))
		if name, ok = cutSuffix(name, ok, " --"); !ok || !fs.ValidPath(string(name)) {
			return nil, fmt.Errorf("%q is no file's header", line)
		}
		end := len(rest)
		if bytes.HasPrefix(rest, []byte("-- ")) {
			end = 0
		} else if i := bytes.Index(rest, []byte("\n-- ")); i >= 0 {
			end = i + 1
		}
		files = append(files, File{string(name), rest[:end:end]})
		text = rest[end:]
	}
	return files, nil
}

func cutSuffix(b []byte, ok bool, suffix string) ([]byte, bool) {
	if !ok {
		return nil, false
	}
	return bytes.CutSuffix(b, []byte(suffix))
}
