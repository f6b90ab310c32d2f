package vm_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/substrate/internal/vm"
)

// guests are those in stock Go under testdata, and the exports that they are asked for.
var guests = []string{"gopong", "handler"}

// buildGo builds a guest with the toolchain of this machine.
func buildGo(t testing.TB, dir string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "main.wasm")
	c := exec.Command("go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", out, ".")
	c.Dir = dir
	c.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=-mod=mod", "GOWORK=off")
	text, err := c.CombinedOutput()
	require.NoError(t, err, string(text))
	code, err := os.ReadFile(out)
	require.NoError(t, err)
	return code
}

// compiled is an engine's option with which a guest's code need not be compiled by
// this process where that takes a minute, as it does under the race detector,
// which sees nothing of the code that comes out. These tests without the detector
// have then done it, into a cache that this process takes it from.
func compiled(t *testing.T) func(*vm.Config) {
	t.Helper()
	if !raceEnabled {
		return func(*vm.Config) {}
	}
	dir, err := compiledElsewhere()
	require.NoError(t, err)
	return func(c *vm.Config) { c.CacheDir = dir }
}

var compiledElsewhere = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "taubyte-vm-test")
	if err != nil {
		return "", err
	}
	atEnd = append(atEnd, func() { _ = os.RemoveAll(dir) })
	self := filepath.Join(dir, "plain.test.exe")
	if text, err := exec.Command("go", "test", "-race=false", "-c", "-o", self, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, text)
	}
	cache := filepath.Join(dir, "cache")
	c := exec.Command(self, "-test.run", "^TestCompileForOthers$")
	c.Env = append(os.Environ(), cacheVariable+"="+cache)
	if text, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, text)
	}
	return cache, nil
})

const cacheVariable = "TAUBYTE_VM_TEST_CACHE"

var atEnd []func()

func TestMain(m *testing.M) {
	code := m.Run()
	for _, f := range atEnd {
		f()
	}
	os.Exit(code)
}

// TestCompileForOthers fills a cache for another process, or else one of its own.
func TestCompileForOthers(t *testing.T) {
	dir := os.Getenv(cacheVariable)
	names := guests
	if dir == "" {
		dir, names = t.TempDir(), nil
	}
	e := engine(t, func(c *vm.Config) { c.CacheDir = dir })
	for _, name := range names {
		m, err := load(t, e, buildGo(t, filepath.Join("testdata", name)))
		require.NoError(t, err)
		m.Release()
	}
}

// stockGo loads a guest in stock Go and makes a function of it.
func stockGo(t *testing.T, e *vm.Engine, name, call string, interpret bool, change ...func(*vm.Spec)) *vm.Function {
	t.Helper()
	code := buildGo(t, filepath.Join("testdata", name))
	fetched := false
	m, err := e.Load(t.Context(), idOf(t, code), func(context.Context) ([]byte, error) { fetched = true; return code, nil })
	require.NoError(t, err)
	require.False(t, fetched && raceEnabled && !interpret, "compiled here")
	s := spec(m, call)
	s.Memory = 64 << 20
	for _, do := range change {
		do(&s)
	}
	f, err := e.NewFunction(s)
	require.NoError(t, err)
	t.Cleanup(f.Close)
	return f
}
