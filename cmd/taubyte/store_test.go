package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/testbin"
)

// Two registries; the store of one can't be opened any more. The command that the
// error names lets it start again, under its old identity, and it fills from the other.
func TestStoreReset(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cluster")
	code, _, errOut := taubyte(t, nil, "init", "--development", dir,
		"--node", "a=auth,tns@"+freeAddr(t), "--node", "b=auth,tns@"+freeAddr(t))
	require.Zero(t, code, errOut)
	for _, name := range []string{"a", "b"} {
		anyPorts(t, filepath.Join(dir, name, "taubyte.yaml"))
	}
	type node struct {
		*testbin.Process
		ID string
	}
	start := func(name string) *node {
		n := &node{Process: testbin.Start(t, nil, program(t), "start", "--json", "--builds", "plain", "--config", filepath.Join(dir, name, "taubyte.yaml"))}
		require.NoError(t, json.Unmarshal([]byte(n.Line()), n))
		return n
	}
	start("a")
	b := start("b")
	data := filepath.Join(dir, "b", "data")
	code, _, errOut = taubyte(t, nil, "store", "reset", "--data", data)
	require.Equal(t, 5, code, "it runs: %s", errOut)
	require.NoError(t, b.Interrupt())

	manifests, err := filepath.Glob(filepath.Join(data, "store", "MANIFEST-*"))
	require.NoError(t, err)
	for _, m := range manifests {
		require.NoError(t, os.Truncate(m, 10))
	}
	code, _, errOut = taubyte(t, nil, "start", "--config", filepath.Join(dir, "b", "taubyte.yaml"))
	require.Equal(t, 7, code, errOut)
	require.Contains(t, errOut, "taubyte store reset --data "+data)

	code, out, errOut := taubyte(t, nil, "store", "reset", "--data", data)
	require.Zero(t, code, errOut)
	require.Contains(t, out, "store.damaged-")
	require.Contains(t, out, "rm -r ")
	require.Equal(t, b.ID, start("b").ID)

	alone := t.TempDir()
	require.NoError(t, os.CopyFS(filepath.Join(alone, "data"), os.DirFS(filepath.Join(dir, "a", "data"))))
	for _, args := range [][]string{{"--data", filepath.Join(alone, "data")}, {"--data", filepath.Join(alone, "data"), "--yes"}, {"--data", alone, "--yes"}} {
		code, _, errOut = taubyte(t, nil, append([]string{"store", "reset"}, args...)...)
		switch len(args) {
		case 2:
			require.Equal(t, 5, code, "alone: %s", errOut)
			require.Contains(t, errOut, "--yes")
		default:
			if args[1] == alone {
				require.Equal(t, 4, code, "no store: %s", errOut)
			} else {
				require.Zero(t, code, errOut)
			}
		}
	}
}
