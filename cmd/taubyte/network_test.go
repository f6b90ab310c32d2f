package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/testbin"
	"github.com/taubyte/taubyte/internal/testnet"
)

// Both keys of a network of two processes are replaced by command, and the nodes come
// back with what they kept in their files.
func TestNetworkRotate(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cluster")
	code, _, errOut := taubyte(t, nil, "init", "--development", dir, "--node", "control=auth@"+freeAddr(t), "--node", "other=tns@"+freeAddr(t))
	require.Zero(t, code, errOut)
	start := func(name string) *testbin.Process {
		p := testbin.Start(t, nil, program(t), "start", "--json", "--builds", "plain", "--config", filepath.Join(dir, name, "taubyte.yaml"))
		p.Line()
		return p
	}
	type network struct {
		SwarmKey, Root             string
		OtherSwarmKeys, OtherRoots []string
		Version                    int
	}
	read := func() (n network) {
		raw, err := os.ReadFile(filepath.Join(dir, "other", "network.json"))
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(raw, &n))
		return n
	}
	rotate := func(kind string) {
		t.Helper()
		code, out, errOut := taubyte(t, nil, "network", "rotate", kind, "--data", filepath.Join(dir, "control", "data"))
		require.Zero(t, code, errOut)
		require.Contains(t, out, "is introduced")
		require.Contains(t, out, "is refused")
	}
	for _, name := range []string{"control", "other"} {
		anyPorts(t, filepath.Join(dir, name, "taubyte.yaml"))
	}
	before := read()
	control, other := start("control"), start("other")
	rotate("--swarm")
	rotate("--root")
	testnet.Eventually(t, func() bool { return read().Version == 6 }, "the last step")
	require.NoError(t, other.Interrupt(), other.Said())
	require.NoError(t, control.Interrupt(), control.Said())
	n := read()
	require.NotEqual(t, before.SwarmKey, n.SwarmKey)
	require.NotEqual(t, before.Root, n.Root)
	require.Empty(t, append(n.OtherSwarmKeys, n.OtherRoots...))

	// Without its store the node is a member by its files alone.
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "other", "data", "store")))
	start("control")
	start("other")
	rotate("--swarm") // which waits for both
	testnet.Eventually(t, func() bool { return read().Version == 9 }, "the last step")

	code, _, errOut = taubyte(t, nil, "network", "rotate", "--swarm", "--root", "--data", filepath.Join(dir, "control", "data"))
	require.Equal(t, 3, code, errOut)
}
