package vm

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// maxCacheBytes bounds the folder of compiled code. A node compiles again what
// it has dropped, so the number is no promise to anybody.
const maxCacheBytes = 2 << 30

// prune removes, when a node starts, what an interrupted write left and the files
// that were unused for longest, beyond so many bytes. Nobody else uses the folder.
func prune(dir string, most int64) error {
	type file struct {
		path string
		size int64
		made time.Time
	}
	var files []file
	var errs []error
	making, _ := filepath.Glob(filepath.Join(dir, makingPrefix+"*"))
	for _, m := range making {
		errs = append(errs, os.RemoveAll(m))
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if strings.HasSuffix(path, ".tmp") {
			errs = append(errs, os.Remove(path))
			return nil
		}
		info, err := d.Info()
		if err == nil {
			files = append(files, file{path, info.Size(), info.ModTime()})
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	slices.SortFunc(files, func(a, b file) int { return b.made.Compare(a.made) })
	var total int64
	for _, f := range files {
		if total += f.size; total > most {
			errs = append(errs, os.Remove(f.path))
		}
	}
	return errors.Join(append(errs, err)...)
}
