package monkey

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// cachePrefix begins the names of the folders below the work folder that outlive builds.
const cachePrefix = "taubyte-cache-"

// projectCache is the folder that a project keeps between its builds, and no other project
// sees. Commands have it as $CACHE.
func (s *Service) projectCache(project string) (Mount, error) {
	m := Mount{Name: "CACHE", Dir: filepath.Join(s.o.workDir, cacheName(project)), Write: true}
	if err := os.MkdirAll(m.Dir, 0o700); err != nil {
		return m, fmt.Errorf("making a folder for the project's cache: %w", err)
	}
	now := time.Now()
	_ = os.Chtimes(m.Dir, now, now)
	return m, nil
}

func cacheName(project string) string {
	sum := sha256.Sum256([]byte(project))
	return cachePrefix + hex.EncodeToString(sum[:12])
}

// dropCache forgets what a project has kept.
func (s *Service) dropCache(project string) error {
	s.cacheMu.Lock()
	defer s.cacheMu.Unlock()
	return s.remove(cacheName(project))
}

// pruneCaches removes what projects have kept and not used for long.
func (s *Service) pruneCaches() {
	entries, _ := os.ReadDir(s.o.workDir)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !strings.HasPrefix(e.Name(), cachePrefix) || time.Since(info.ModTime()) < cacheAge {
			continue
		}
		if err := s.remove(e.Name()); err != nil {
			s.o.log.Warn("removing a project's cache", "err", err)
		}
	}
}

// goCache is a project's cache with what the Go toolchain begins with in it.
func (s *Service) goCache(ctx context.Context, project string, tools *toolchain) (Mount, error) {
	s.cacheMu.Lock()
	defer s.cacheMu.Unlock()
	m, err := s.projectCache(project)
	if err != nil {
		return m, ours(err)
	}
	root, err := os.OpenRoot(m.Dir)
	if err != nil {
		return m, ours(fmt.Errorf("opening the project's cache: %w", err))
	}
	defer root.Close()
	if _, err := root.Lstat("go-build"); err == nil {
		return m, nil
	}
	base, err := s.baseCache(ctx, tools)
	if err != nil {
		return m, err
	}
	if err := s.seed(ctx, base, m.Dir); err != nil {
		return m, ours(fmt.Errorf("filling the project's cache: %w", err))
	}
	return m, nil
}

// seed makes a project's cache anew, with a copy of the base in it: a build can write what
// it likes into its own.
func (s *Service) seed(ctx context.Context, base, dir string) error {
	beside := filepath.Base(dir) + ".new"
	if err := s.remove(beside); err != nil {
		return err
	}
	fresh := filepath.Join(s.o.workDir, beside)
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return err
	}
	to, err := os.OpenRoot(fresh)
	if err != nil {
		return err
	}
	defer to.Close()
	from, err := os.OpenRoot(base)
	if err != nil {
		return err
	}
	defer from.Close()
	if err := copyTree(ctx, tree{from, "."}, to, "go-build"); err != nil {
		return err
	}
	// Scripts may have kept something before there was Go.
	old, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer old.Close()
	if err := os.Rename(filepath.Join(fresh, "go-build"), filepath.Join(dir, "go-build")); err != nil {
		return err
	}
	_ = old.Chown(".", os.Geteuid(), os.Getegid()) // an environment gives all of it away anew
	return s.remove(beside)
}

// copyTree copies regular files and folders.
func copyTree(ctx context.Context, from tree, to *os.Root, at string) error {
	return from.walk(ctx, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		into := filepath.Join(at, filepath.FromSlash(name))
		if d.IsDir() {
			return to.MkdirAll(into, 0o700)
		}
		if !d.Type().IsRegular() {
			return nil
		}
		return copyFile(from, name, to, into, 0o600)
	})
}

// copyFile copies a regular file. The system does it where it can.
func copyFile(from tree, name string, to *os.Root, into string, mode fs.FileMode) error {
	in, err := from.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := to.OpenFile(into, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in.(treeFile).File)
	return errors.Join(err, out.Close())
}

// baseCache is a Go build cache that holds what every function needs, which the node has
// compiled from nothing but its own toolchain and SDK. No build can write to it.
func (s *Service) baseCache(ctx context.Context, tools *toolchain) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %q", tools.version, tools.root, goVars, tools.sdk)
	final := filepath.Join(s.o.cacheDir, "go-"+hex.EncodeToString(h.Sum(nil)[:12]))
	if _, err := os.Stat(final); err == nil {
		return final, nil
	}
	if err := os.MkdirAll(s.o.cacheDir, 0o700); err != nil {
		return "", ours(fmt.Errorf("making a folder for what builds begin with: %w", err))
	}
	work, err := os.MkdirTemp(s.o.cacheDir, "new-*")
	if err != nil {
		return "", ours(fmt.Errorf("making a folder for what builds begin with: %w", err))
	}
	root, err := os.OpenRoot(work)
	if err != nil {
		return "", ours(err)
	}
	defer func() {
		_ = root.Close()
		_ = os.RemoveAll(work)
	}()
	spec := Spec{Owner: "the node", Limits: s.o.limits, Log: io.Discard}
	for _, name := range []string{"SRC", "OUT", "TMP", "CACHE"} {
		if err := root.Mkdir(name, 0o700); err != nil {
			return "", ours(err)
		}
		spec.Mounts = append(spec.Mounts, Mount{Name: name, Dir: filepath.Join(work, name), Write: true})
	}
	spec.Mounts = append(spec.Mounts, tools.mounts()...)
	src, scratch := tree{root, "SRC"}, tree{root, "TMP"}
	if err := errors.Join(src.create("main.go", []byte(everyFunction)), muteTelemetry(scratch)); err != nil {
		return "", ours(err)
	}
	began := time.Now()
	g, err := newGoModule(src, scratch, tools, nil, false)
	if err == nil {
		err = s.compileGo(ctx, spec, "${SRC}", g, goBuild)
	}
	if err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", ours(fmt.Errorf("compiling what every function needs: %w", err))
	}
	// Given back by the user that had it, it appears whole or not at all.
	if err := os.Mkdir(final+".tmp-"+filepath.Base(work), 0o700); err != nil {
		return "", ours(err)
	}
	whole := final + ".tmp-" + filepath.Base(work)
	defer os.RemoveAll(whole)
	to, err := os.OpenRoot(whole)
	if err != nil {
		return "", ours(err)
	}
	defer to.Close()
	if err := copyTree(ctx, tree{root, "CACHE/go-build"}, to, "."); err != nil {
		return "", ours(err)
	}
	if err := os.Rename(whole, final); err != nil {
		if _, there := os.Stat(final); there != nil { // nobody else was first
			return "", ours(err)
		}
	}
	s.o.log.Info("compiled what every function needs", "took", time.Since(began), "folder", final)
	return final, nil
}

// everyFunction imports what a function does.
const everyFunction = `package main

import (
	"github.com/taubyte/taubyte/substrate/guest/event"
)

//go:wasmexport handle
func handle(e uint32) uint32 {
	event.HTTP(e).WriteString("")
	return 0
}

func main() {}
`
