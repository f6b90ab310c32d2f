package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPrune(t *testing.T) {
	require.NoError(t, prune(filepath.Join(t.TempDir(), "none"), 100))
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "wazero"), 0o700))
	for i := range 10 {
		path := filepath.Join(dir, "wazero", fmt.Sprint(i))
		require.NoError(t, os.WriteFile(path, make([]byte, 10), 0o600))
		when := time.Now().Add(-time.Duration(i) * time.Hour)
		require.NoError(t, os.Chtimes(path, when, when))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "wazero", "x.123.tmp"), nil, 0o600))
	require.NoError(t, prune(dir, 35))
	left, err := filepath.Glob(filepath.Join(dir, "wazero", "*"))
	require.NoError(t, err)
	for i := range left {
		left[i] = filepath.Base(left[i])
	}
	require.Equal(t, []string{"0", "1", "2"}, left, "the newest stay")
}

// Whatever a file holds, reading it as a shell does no harm, and what is filed is
// what was given.
func FuzzShell(f *testing.F) {
	f.Add([]byte("\x00asm\x01\x00\x00\x00\x04\x04\x01\x70\x01\x05\x09\x0a\x04\x01\x02\x00\x0b"))
	f.Add([]byte("00 7 name\nshell"))
	f.Add(encodeShell(7, "name", []byte("\x00asm\x01\x00\x00\x00")))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, name, _, ok := decodeShell(b)
		require.True(t, !ok || filepath.IsLocal(name))
		require.GreaterOrEqual(t, sizeOf(b), int64(0))
		shell := hollow(b)
		size, name, back, ok := decodeShell(encodeShell(len(b), filepath.Join("folder", "name"), shell))
		require.True(t, ok)
		require.Equal(t, len(b), size)
		require.Equal(t, filepath.Join("folder", "name"), name)
		require.Equal(t, shell, back)
	})
}
