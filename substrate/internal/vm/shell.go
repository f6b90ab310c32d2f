package vm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/tetratelabs/wazero"

	"github.com/taubyte/taubyte/internal/meter"
)

// Shells keep on disk what a node needs to run a module again: its compiled code,
// in a file of wazero's cache, and the module without the code of its functions,
// its shell. To decode and validate the code and to meter it takes several times
// as long as all else, and whoever has the compiled code does not need it.
//
// wazero finds compiled code by the module's bytes, and so would not find it for
// the shell. Therefore both are compiled, each into a folder of its own; the
// module's compiled code is then filed under the name that the shell's got. What
// wazero takes from the module beside that code is the same in both.
//
// A shell that wazero does not find the code for would be compiled as it is, into
// functions that all trap. It can't come to that unseen: shells are filed by a
// print of the platform, and load checks that it was the file that was read.
type shells struct {
	dir   string // of the cache
	print string // of wazero's version and of the processor
}

// foldersOf wazero's and ours, in the cache.
const (
	shellFolder  = "shells"
	makingPrefix = "making-"
)

// newShells returns nil where there is no compiled code to keep.
func newShells(ctx context.Context, dir string) (*shells, error) {
	if err := os.MkdirAll(filepath.Join(dir, shellFolder), 0o700); err != nil {
		return nil, err
	}
	s := &shells{dir: dir}
	// A module with one function that does nothing.
	probe := []byte("\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x0a\x04\x01\x02\x00\x0b")
	making, err := s.making()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(making)
	if s.print, err = compileInto(ctx, making, probe); err != nil || s.print == "" {
		return nil, err
	}
	return s, nil
}

func (s *shells) making() (string, error) { return os.MkdirTemp(s.dir, makingPrefix) }

// path is where a module's shell is filed.
func (s *shells) path(id cid.Cid) string {
	h := sha256.Sum256(fmt.Appendf(nil, "%s\n%d\n%s", s.print, meter.Version, id))
	return filepath.Join(s.dir, shellFolder, hex.EncodeToString(h[:]))
}

// compileInto compiles a module with a cache in an empty folder, and returns the
// name of the file there that has the code; empty: wazero has no compiler for
// this platform.
func compileInto(ctx context.Context, dir string, module []byte) (name string, err error) {
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return "", err
	}
	r := wazero.NewRuntimeWithConfig(ctx, mode(false).WithCompilationCache(cache))
	defer func() {
		background := context.WithoutCancel(ctx)
		err = errors.Join(err, r.Close(background), cache.Close(background))
	}()
	if _, err := compile(ctx, r, module); err != nil {
		return "", err
	}
	return name, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			name, err = filepath.Rel(dir, path)
		}
		return err
	})
}

// make compiles a metered module and files what load needs. The error is wazero's
// where it is the module's fault.
func (s *shells) make(ctx context.Context, id cid.Cid, size int, metered []byte) error {
	shell := hollow(metered)
	var names [2]string
	var folders [2]string
	var err error
	for i, module := range [][]byte{metered, shell} {
		if folders[i], err = s.making(); err != nil {
			return err
		}
		defer os.RemoveAll(folders[i])
		if names[i], err = compileInto(ctx, folders[i], module); err != nil {
			return err
		}
		if names[i] == "" {
			return nil // a module without code
		}
	}
	if err := os.MkdirAll(filepath.Dir(filepath.Join(s.dir, names[1])), 0o700); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(folders[0], names[0]), filepath.Join(s.dir, names[1])); err != nil {
		return err
	}
	record := encodeShell(size, names[1], shell)
	temporary := filepath.Join(folders[0], shellFolder)
	if err := os.WriteFile(temporary, record, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, s.path(id))
}

// load gives a module's shell to the runtime, with its compiled code. It returns
// nil where there is none that is whole.
func (s *shells) load(ctx context.Context, r wazero.Runtime, id cid.Cid) (m translated, size int) {
	record, err := os.ReadFile(s.path(id))
	if err != nil {
		return translated{}, 0
	}
	size, name, shell, ok := decodeShell(record)
	if !ok {
		return translated{}, 0
	}
	code := filepath.Join(s.dir, name)
	file, err := os.Open(code) // open, so that no other file can be taken for it
	if err != nil {
		return translated{}, 0
	}
	before, err := file.Stat()
	if err != nil {
		_ = file.Close()
		return translated{}, 0
	}
	compiled, err := compile(ctx, r, shell)
	after, lost := os.Stat(code)
	_ = file.Close()
	if err != nil {
		_ = os.Remove(code) // it is damaged
		return translated{}, 0
	}
	if lost != nil || !os.SameFile(before, after) {
		_ = compiled.Close(ctx)
		_ = os.Remove(code) // it was compiled from the shell
		return translated{}, 0
	}
	now := time.Now()
	_ = os.Chtimes(code, now, now) // prune drops what was unused for longest
	_ = os.Chtimes(s.path(id), now, now)
	return translated{compiled: compiled, extra: sizeOf(shell), size: before.Size()}, size
}

// A shell is filed behind a line that has the digest of the rest, the size of the
// module's file and the name of the file with its compiled code.

func encodeShell(size int, name string, shell []byte) []byte {
	rest := append(fmt.Appendf(nil, "%d %s\n", size, filepath.ToSlash(name)), shell...)
	digest := sha256.Sum256(rest)
	return append(fmt.Appendf(nil, "%x ", digest), rest...)
}

func decodeShell(record []byte) (size int, name string, shell []byte, ok bool) {
	digest, rest, _ := bytes.Cut(record, []byte(" "))
	if want := sha256.Sum256(rest); hex.EncodeToString(want[:]) != string(digest) {
		return 0, "", nil, false
	}
	line, shell, _ := bytes.Cut(rest, []byte("\n"))
	if _, err := fmt.Sscanf(string(line), "%d %s", &size, &name); err != nil || !filepath.IsLocal(filepath.FromSlash(name)) {
		return 0, "", nil, false
	}
	return size, filepath.FromSlash(name), shell, true
}

// hollow returns a metered module with all functions' code replaced by a trap, and
// a section that tells it from every other module: two may differ in their code
// alone. Metered modules have no such section.
func hollow(module []byte) []byte {
	out := append([]byte{}, module[:min(len(module), headerLength)]...)
	for id, content := range sectionsOf(module) {
		if id == sectionCode {
			functions, _ := binary.Uvarint(content)
			functions = min(functions, uint64(len(content)))
			content = binary.AppendUvarint(nil, functions)
			for range functions {
				content = append(content, 3, 0, 0x00, 0x0b) // 3 bytes, no locals, unreachable, end
			}
		}
		out = append(binary.AppendUvarint(append(out, id), uint64(len(content))), content...)
	}
	digest := sha256.Sum256(module)
	const name = "taubyte/shell"
	out = append(out, 0, byte(1+len(name)+len(digest)), byte(len(name)))
	return append(append(out, name...), digest[:]...)
}
