package vm_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/substrate/internal/vm"
	. "github.com/taubyte/taubyte/substrate/internal/wasmtest"
)

func filesIn(t *testing.T, dir string) (files []string) {
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	}))
	return files
}

// answers starts an engine on a folder and says what a module there answers, and
// whether its file was asked for.
func answers(t *testing.T, dir string, id cid.Cid, code []byte) (text string, fetched bool) {
	e := engine(t, func(c *vm.Config) { c.CacheDir = dir })
	m, err := e.Load(t.Context(), id, func(context.Context) ([]byte, error) { fetched = true; return code, nil })
	require.NoError(t, err)
	f, err := e.NewFunction(spec(m, "ping"))
	require.NoError(t, err)
	text = get(t, f, "/").Body.String()
	f.Close()
	require.NoError(t, e.Close())
	return text, fetched
}

// After a restart a module is there without its file.
func TestCompiledCodeIsKeptOnDisk(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 {
		text, fetched := answers(t, dir, idOf(t, Pong()), Pong())
		require.Equal(t, "PONG", text)
		require.Equal(t, i == 0, fetched)
		require.Len(t, filesIn(t, dir), 2, "the shell and the code")
	}
}

// counted answers with a digit that is in its code alone.
func counted(digit byte) []byte {
	m := New(1)
	write := m.SDK("eventHttpWrite", "iiii:i")
	m.Func("ping", "i:", "", I32(16), I32(int32(digit)), Store, Get(0), I32(16), I32(1), I32(0), Call(write), Drop)
	return m.Bytes()
}

// Modules that differ in nothing but their code are kept apart, in memory and on disk.
func TestCompiledCodeIsTheModulesOwn(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		e := engine(t, func(c *vm.Config) { c.CacheDir = dir })
		for _, digit := range []byte("123") {
			f := function(t, e, counted(digit), "ping")
			require.Equal(t, string(digit), get(t, f, "/").Body.String())
		}
		f := function(t, e, counted('1'), "ping")
		require.Equal(t, "1", get(t, f, "/").Body.String())
	}
	require.Len(t, filesIn(t, dir), 6)
}

// Whatever becomes of the files, the module is compiled again.
func TestDamagedCache(t *testing.T) {
	code := Pong()
	for name, harm := range map[string]func(path string, b []byte) error{
		"gone":    func(path string, _ []byte) error { return os.Remove(path) },
		"empty":   func(path string, _ []byte) error { return os.WriteFile(path, nil, 0o600) },
		"cut":     func(path string, b []byte) error { return os.WriteFile(path, b[:len(b)-9], 0o600) },
		"halved":  func(path string, b []byte) error { return os.WriteFile(path, b[:len(b)/2], 0o600) },
		"flipped": func(path string, b []byte) error { b[len(b)-20] ^= 1; return os.WriteFile(path, b, 0o600) },
		"other":   func(path string, b []byte) error { return os.WriteFile(path, []byte("something else"), 0o600) },
		"other end": func(path string, b []byte) error {
			return os.WriteFile(path, bytes.Replace(b, []byte("wazero"), []byte("../../"), 1), 0o600)
		},
		"stale": func(path string, b []byte) error { // as of another version
			return os.WriteFile(path, bytes.Replace(b, []byte("WAZEVO\x03dev"), []byte("WAZEVO\x03v00"), 1), 0o600)
		},
	} {
		for which := range 2 {
			dir := t.TempDir()
			text, _ := answers(t, dir, idOf(t, code), code)
			require.Equal(t, "PONG", text)
			file := filesIn(t, dir)[which]
			b, err := os.ReadFile(file)
			require.NoError(t, err)
			require.NoError(t, harm(file, b))
			for range 2 {
				text, _ = answers(t, dir, idOf(t, code), code)
				require.Equal(t, "PONG", text, "%s: %s", name, file)
			}
			_, fetched := answers(t, dir, idOf(t, code), code)
			require.False(t, fetched, "%s: %s is not mended", name, file)
		}
	}
}

// What was refused is not kept, and a limit holds for what was.
func TestCacheKeepsNoRefusal(t *testing.T) {
	dir := t.TempDir()
	m := New(1)
	m.Func("ping", "i:i", "") // which returns nothing
	e := engine(t, func(c *vm.Config) { c.CacheDir = dir })
	_, err := load(t, e, m.Bytes())
	require.ErrorIs(t, err, taubyte.ErrInvalid)
	require.Empty(t, filesIn(t, dir))
	require.NoError(t, e.Close())

	answers(t, dir, idOf(t, Pong()), Pong())
	e = engine(t, func(c *vm.Config) { c.CacheDir, c.ModuleBytes = dir, 20 })
	_, err = e.Load(t.Context(), idOf(t, Pong()), func(context.Context) ([]byte, error) { return nil, errors.New("not asked for") })
	require.ErrorIs(t, err, taubyte.ErrInvalid)
}

// A module without any code is one all the same.
func TestCacheOfAModuleWithoutCode(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		e := engine(t, func(c *vm.Config) { c.CacheDir = dir })
		m, err := load(t, e, New(1).Bytes())
		require.NoError(t, err)
		m.Release()
		require.NoError(t, e.Close())
	}
}

// Code that no instance uses is given up where there is too much of it, and is
// there again for the next.
func TestUnusedCodeIsGivenUp(t *testing.T) {
	dir := t.TempDir()
	e := engine(t, func(c *vm.Config) { c.CacheDir, c.Code, c.Idle = dir, 0, 20*time.Millisecond })
	var fs []*vm.Function
	for _, digit := range []byte("123") {
		fs = append(fs, function(t, e, counted(digit), "ping"))
	}
	testnet.Eventually(t, func() bool { return e.Code() == 0 }, "code kept")
	require.Len(t, e.Modules(), 3)
	for range 2 {
		for i, f := range fs {
			require.Equal(t, string(rune('1'+i)), get(t, f, "/").Body.String())
		}
		testnet.Eventually(t, func() bool { return e.Code() == 0 }, "code kept")
	}

	// Also where it has gone from the disk by then.
	for _, file := range filesIn(t, dir) {
		require.NoError(t, os.Remove(file))
	}
	require.Equal(t, "1", get(t, fs[0], "/").Body.String())

	// While many ask and it is given up all the time.
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				for i, f := range fs {
					w := httptest.NewRecorder()
					if err := f.ServeHTTP(w, httptest.NewRequest("GET", "/", nil)); err != nil || w.Body.String() != string(rune('1'+i)) {
						t.Errorf("%v, %d %s", err, w.Code, w.Body)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}
