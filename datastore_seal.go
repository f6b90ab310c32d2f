package taubyte

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// sealFile says what the engine's list of tables (its manifest) and its logs looked
// like when they were last synced. The engine takes the first record of a manifest
// that it can't read for the end of it, and a log that is not there for one that was
// never written: it would open an older state as if it were the newest and then delete
// what is newer. The seal tells the two apart before the engine looks.
//
// Each line is a CRC-32C in hexadecimal, a space and the state as JSON; the last line
// counts. A last line without its end was cut by a crash, before what it says was
// relied upon.
const sealFile = "TAUBYTE-SEAL"

// maxSeal is the size at which the seal is written anew.
const maxSeal = 64 << 10

// sealState is what a line says.
type sealState struct {
	Manifests map[string]sealedManifest `json:"manifests"`
	Logs      []string                  `json:"logs"`
}

type sealedManifest struct {
	Size int64  `json:"size"`
	Sum  uint32 `json:"sum"` // CRC-32C of that many bytes
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (s sealState) line() ([]byte, error) {
	raw, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(raw, castagnoli), raw), nil
}

// parseSeal returns what a seal file says. It reports false for one that can't be
// read: then nothing can be told by it.
func parseSeal(raw []byte) (s sealState, ok bool) {
	raw = raw[:bytes.LastIndexByte(raw, '\n')+1]
	if len(raw) == 0 {
		return s, false
	}
	raw = raw[:len(raw)-1]
	line := raw[bytes.LastIndexByte(raw, '\n')+1:]
	sum, body, _ := bytes.Cut(line, []byte(" "))
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if err != nil || crc32.Checksum(body, castagnoli) != uint32(want) || json.Unmarshal(body, &s) != nil {
		return sealState{}, false
	}
	return s, true
}

// sealed is a file system that the engine works on, which keeps the seal.
type sealed struct {
	vfs.FS
	dir string

	mu    sync.Mutex
	state sealState
	out   vfs.File
	size  int
}

func newSealed(disk vfs.FS, dir string) *sealed {
	return &sealed{FS: disk, dir: dir, state: sealState{Manifests: map[string]sealedManifest{}}}
}

func (s *sealed) Unwrap() vfs.FS { return s.FS }

// check compares the folder with its seal, before the engine opens it.
func (s *sealed) check() error {
	names, err := s.FS.List(s.dir)
	if err != nil {
		return err
	}
	raw, err := s.read(sealFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	state, ok := parseSeal(raw)
	desc, err := pebble.Peek(s.dir, s.FS)
	if err != nil {
		return err
	}
	if !desc.Exists {
		// A crash while the store was made leaves a manifest and nothing else.
		for _, name := range names {
			if len(state.Manifests) > 0 && len(state.Logs) > 0 || strings.HasSuffix(name, ".sst") || strings.HasPrefix(name, "OPTIONS-") {
				return fmt.Errorf("the file that names its manifest (marker.manifest.…) is missing")
			}
		}
		return nil
	}
	manifest := filepath.Base(desc.ManifestFilename)
	raw, err = s.read(manifest)
	if err != nil {
		return err
	}
	if !ok { // of an earlier version, or itself damaged: nothing can be told
		s.state.Manifests[manifest] = sealedManifest{int64(len(raw)), crc32.Checksum(raw, castagnoli)}
		return nil
	}
	want, ok := state.Manifests[manifest]
	if !ok {
		return fmt.Errorf("%s is not the manifest that was written last", manifest)
	}
	if int64(len(raw)) < want.Size {
		return fmt.Errorf("%s has %d bytes and had %d", manifest, len(raw), want.Size)
	}
	if crc32.Checksum(raw[:want.Size], castagnoli) != want.Sum {
		return fmt.Errorf("%s is not what was written to it", manifest)
	}
	for _, log := range state.Logs {
		if !slices.Contains(names, log) {
			return fmt.Errorf("the log %s is missing", log)
		}
	}
	s.state = state
	return nil
}

func (s *sealed) read(name string) ([]byte, error) {
	f, err := s.FS.Open(s.FS.PathJoin(s.dir, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// change makes the seal say something else, durably.
func (s *sealed) change(f func(*sealState)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := sealState{Manifests: maps.Clone(s.state.Manifests), Logs: slices.Clone(s.state.Logs)}
	f(&next)
	line, err := next.line()
	if err != nil {
		return err
	}
	if s.out == nil || s.size+len(line) > maxSeal {
		err = s.replace(line)
	} else if _, err = s.out.Write(line); err == nil {
		err = s.out.Sync()
	}
	if err != nil {
		return fmt.Errorf("sealing: %w", err)
	}
	s.state, s.size = next, s.size+len(line)
	return nil
}

// replace begins a new seal file with a line.
func (s *sealed) replace(line []byte) error {
	path := s.FS.PathJoin(s.dir, sealFile)
	f, err := s.FS.Create(path+".new", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(line)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = s.FS.Rename(path+".new", path)
	}
	if err == nil {
		err = s.syncDir()
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if s.out != nil {
		_ = s.out.Close()
	}
	s.out, s.size = f, 0
	return nil
}

func (s *sealed) syncDir() error {
	d, err := s.FS.OpenDir(s.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (s *sealed) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out == nil {
		return nil
	}
	out := s.out
	s.out = nil
	return out.Close()
}

func isManifest(name string) bool { return strings.HasPrefix(name, "MANIFEST-") }
func isLog(name string) bool      { return strings.HasSuffix(name, ".log") }

func (s *sealed) Create(path string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.FS.Create(path, category)
	if err != nil {
		return nil, err
	}
	name := s.FS.PathBase(path)
	switch {
	case isManifest(name):
		return &sealedFile{File: f, fs: s, name: name}, nil
	case isLog(name):
		if err = s.syncDir(); err == nil {
			err = s.change(func(st *sealState) { st.Logs = append(st.Logs, name) })
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return f, nil
}

func (s *sealed) Remove(path string) error {
	name := s.FS.PathBase(path)
	if isManifest(name) || isLog(name) {
		err := s.change(func(st *sealState) {
			delete(st.Manifests, name)
			st.Logs = slices.DeleteFunc(st.Logs, func(l string) bool { return l == name })
		})
		if err != nil {
			return err
		}
	}
	return s.FS.Remove(path)
}

// sealedFile is a manifest that is being written.
type sealedFile struct {
	vfs.File
	fs   *sealed
	name string
	m    sealedManifest
}

func (f *sealedFile) Write(p []byte) (int, error) {
	f.m.Sum = crc32.Update(f.m.Sum, castagnoli, p)
	n, err := f.File.Write(p)
	f.m.Size += int64(n)
	return n, err // after an error the engine syncs the file no more
}

func (f *sealedFile) Sync() error {
	if err := f.File.Sync(); err != nil {
		return err
	}
	m := f.m
	return f.fs.change(func(st *sealState) { st.Manifests[f.name] = m })
}
