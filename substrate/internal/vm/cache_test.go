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
