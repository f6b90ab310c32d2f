package main_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/testbin"
	"github.com/taubyte/taubyte/internal/testnet"
)

// A node joins a running network with a token and nothing else, and is put out again.
func TestMembers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cluster := filepath.Join(dir, "cluster")
	code, _, errOut := taubyte(t, nil, "init", "--development", cluster, "--node", "control=auth,tns,seer@"+freeAddr(t))
	require.Zero(t, code, errOut)
	control := filepath.Join(cluster, "control")
	anyPorts(t, filepath.Join(control, "taubyte.yaml"))
	start := func(config string) (p *testbin.Process, id string) {
		p = testbin.Start(t, nil, program(t), "start", "--json", "--builds", "plain", "--config", config)
		var n struct{ ID string }
		require.NoError(t, json.Unmarshal([]byte(p.Line()), &n))
		return p, n.ID
	}
	first, _ := start(filepath.Join(control, "taubyte.yaml"))
	api := []string{"--data", filepath.Join(control, "data")}
	ask := func(want int, args ...string) (out, errOut string) {
		t.Helper()
		code, out, errOut := taubyte(t, nil, append(args, api...)...)
		require.Equal(t, want, code, "%s%s", out, errOut)
		return out, errOut
	}
	members := func() map[string]string {
		out, _ := ask(0, "member", "list", "--json")
		var all []struct{ Name, State string }
		require.NoError(t, json.Unmarshal([]byte(out), &all))
		states := map[string]string{}
		for _, m := range all {
			states[m.Name] = m.State
		}
		return states
	}

	token, errOut := ask(0, "member", "add", "edge", "--roles", "substrate,monkey", "--valid", "5m")
	require.Contains(t, errOut, "secret")
	token = strings.TrimSpace(token)
	require.Equal(t, "invited", members()["edge"])
	ask(5, "member", "add", "edge", "--roles", "monkey")
	ask(3, "member", "add", "console", "--roles", "monkey")
	ask(3, "member", "add", "x", "--roles", "pilot")
	ask(2, "member", "fly", "x")
	ask(2, "member", "add")

	node := filepath.Join(dir, "edge")
	cmd := exec.Command(program(t), "join", "-", "--data", node, "--listen", freeAddr(t), "--api", "127.0.0.1:0")
	cmd.Stdin = strings.NewReader(token + "\n")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "taubyte start --config "+filepath.Join(node, "taubyte.yaml"))
	code, _, _ = taubyte(t, nil, "join", token, "--data", node)
	require.Equal(t, 5, code, "the folder holds a node")
	code, _, errOut = taubyte(t, nil, "join", token, "--data", filepath.Join(dir, "second"))
	require.Equal(t, 5, code)
	require.Contains(t, errOut, "used already")
	code, _, _ = taubyte(t, nil, "join", "nonsense", "--data", filepath.Join(dir, "third"))
	require.Equal(t, 3, code)
	require.NoDirExists(t, filepath.Join(dir, "third"))

	edge, id := start(filepath.Join(node, "taubyte.yaml"))
	require.Equal(t, "member", members()["edge"])
	listed := func(name string) bool {
		out, _ := ask(0, "nodes", "--json")
		var all []struct{ ID, Name string }
		require.NoError(t, json.Unmarshal([]byte(out), &all))
		for _, n := range all {
			if n.ID == id {
				return n.Name == name
			}
		}
		return name == ""
	}
	testnet.Eventually(t, func() bool { return listed("edge") }, "it is in the directory, under the name that it was given")
	ask(0, "member", "renew", "edge", "--out", filepath.Join(dir, "membership"))
	renewed, err := os.ReadFile(filepath.Join(dir, "membership"))
	require.NoError(t, err)
	require.NotEmpty(t, renewed)

	began := time.Now()
	ask(0, "member", "revoke", "edge")
	testnet.Eventually(t, func() bool { return listed("") }, "it is out")
	t.Logf("out of the directory %s after the command", time.Since(began))
	require.Equal(t, "revoked", members()["edge"])
	ask(8, "member", "renew", "edge")
	require.NoError(t, edge.Interrupt(), edge.Said())

	// A new node takes its name.
	token, _ = ask(0, "member", "add", "edge", "--roles", "substrate", "--json")
	var i struct{ Token string }
	require.NoError(t, json.Unmarshal([]byte(token), &i))
	ask(0, "member", "revoke", "edge")
	code, _, errOut = taubyte(t, nil, "join", i.Token, "--data", filepath.Join(dir, "fourth"))
	require.NotZero(t, code)
	require.Contains(t, errOut, "revoked")
	require.NoError(t, first.Interrupt(), first.Said())
}
