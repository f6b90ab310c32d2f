package dev

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long a folder must be quiet before a save counts as done:
// editors write a file in several steps, and tools write many files.
const settle = 80 * time.Millisecond

// Watch calls changed after each burst of changes in the folder, one call at a
// time, until ctx ends. A change during a call leads to another call. What git
// keeps for itself (.git) is not watched.
func (f *Folder) Watch(ctx context.Context, changed func()) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watching %s: %w", f.dir, err)
	}
	defer w.Close()
	if err := watchTree(w, f.dir); err != nil {
		return fmt.Errorf("watching %s: %w", f.dir, err)
	}
	quiet := time.NewTimer(0)
	if !quiet.Stop() {
		<-quiet.C
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-quiet.C:
			changed()
		case e, ok := <-w.Events:
			if !ok {
				return fmt.Errorf("watching %s: the watcher ended", f.dir)
			}
			if filepath.Base(e.Name) == ".git" || e.Op == fsnotify.Chmod {
				continue
			}
			if e.Has(fsnotify.Create) {
				// A new folder is watched too; what was written into it before
				// that is part of this change.
				_ = watchTree(w, e.Name)
			}
			quiet.Reset(settle)
		case _, ok := <-w.Errors:
			if !ok {
				return fmt.Errorf("watching %s: the watcher ended", f.dir)
			}
			quiet.Reset(settle) // events were lost: something changed
		}
	}
}

// watchTree watches a folder and all folders in it. A file, or what is gone by
// now, is no error.
func watchTree(w *fsnotify.Watcher, root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if !d.IsDir() {
			return nil
		}
		if d.Name() == ".git" {
			return fs.SkipDir
		}
		return w.Add(path)
	})
}
