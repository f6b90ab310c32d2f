package guestsdk

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/taubyte/taubyte"
)

// written is the first line of a workspace file that ForEditors has written.
const written = "// Written by taubyte sdk for editors, go vet and go test on this machine. Leave it out of git.\n"

// ForEditors writes the file go.work into a folder, so that editors and the go command find
// the SDK for each function in it that has a go.mod: for the folder of one function or of all.
// It returns the folders of the functions. The SDK itself is kept in the folder cache.
//
// A go.work that it has not written is taubyte.ErrConflict; a folder without a go.mod in it
// is taubyte.ErrNotFound, and two modules of one name, which no workspace can have, are
// taubyte.ErrInvalid.
func ForEditors(cache, dir string) (functions []string, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("write a workspace for editors: %w", err)
	}
	file := filepath.Join(dir, "go.work")
	if had, err := os.ReadFile(file); err == nil && !bytes.HasPrefix(had, []byte(written)) {
		return nil, fmt.Errorf("%w: there is a %s already, which is somebody's own", taubyte.ErrConflict, file)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("write a workspace for editors: %w", err)
	}
	goVersion := Minimum
	names := map[string]string{}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch base := filepath.Base(path); {
		case err != nil:
			return err
		case d.IsDir() && path != dir && (strings.HasPrefix(base, ".") || base == "node_modules" || base == "vendor" || base == "testdata"):
			return fs.SkipDir
		case d.IsDir() || base != "go.mod":
			return nil
		}
		gomod, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		function, name := filepath.Dir(path), directive(gomod, "module")
		if other, ok := names[name]; ok {
			return fmt.Errorf("%w workspace: %s and %s are both the module %s: give each a name of its own", taubyte.ErrInvalid, other, function, name)
		}
		names[name] = function
		functions = append(functions, function)
		goVersion = latest(goVersion, directive(gomod, "go"))
		return nil
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("write a workspace for editors: %w", err)
	case len(functions) == 0:
		return nil, fmt.Errorf("%w: there is no go.mod in %s: make one in a function's folder by go mod init NAME", taubyte.ErrNotFound, dir)
	}
	sdk, err := Folder(cache)
	if err != nil {
		return nil, err
	}
	text := fmt.Appendf(nil, "%s\ngo %s\n\nuse (\n", written, goVersion)
	for _, function := range functions {
		rel, err := filepath.Rel(dir, function)
		if err != nil {
			return nil, fmt.Errorf("write a workspace for editors: %w", err)
		}
		text = fmt.Appendf(text, "\t%s\n", strconv.Quote("./"+filepath.ToSlash(rel)))
	}
	text = fmt.Appendf(text, "\t%s\n)\n\nreplace github.com/taubyte/go-sdk-symbols => %s\n", quote(sdk), quote(filepath.Join(sdk, "go-sdk-symbols")))
	if err := replaceFile(file, text); err != nil {
		return nil, fmt.Errorf("write a workspace for editors: %w", err)
	}
	return functions, nil
}
