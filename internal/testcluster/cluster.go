package testcluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/taubyte/taubyte/internal/testnet"
)

// Config says what Start starts.
type Config struct {
	Nodes Topology
	// Isolated gives each node a network of its own, which links and cuts need.
	// Where that is not possible the test is skipped.
	Isolated bool
	// Skewable runs the nodes with a clock that Node.Skew moves. It needs a program
	// with a changed standard library, which takes minutes to build the first time.
	Skewable bool
	// Logs is the level at which the nodes log: "info" unless set.
	Logs string
}

// A Cluster is running nodes. Its methods are for the test's goroutine; faults may
// be switched while loads run.
type Cluster struct {
	t, root testing.TB // the test that runs, and the one that the cluster lives as long as
	config  Config
	program string
	dir     string
	wire    *wire // nil unless isolated
	http    *http.Client

	mu    sync.Mutex // the nodes, which Join and Revoke change
	nodes []*Node
	last  int // byte of the address of the newest
}

// clientAddrs are the last bytes of the addresses that users come from.
const firstClient, clientAddrs = 201, 32

// Start starts a cluster and waits until every node knows every other. It is ended
// with the test.
func Start(t testing.TB, config Config) *Cluster {
	t.Helper()
	if config.Isolated {
		if err := isolation(); err != nil {
			t.Skipf("this machine can't give each node a network: %v", err)
		}
	}
	if config.Logs == "" {
		config.Logs = "info"
	}
	c := &Cluster{t: t, root: t, config: config, dir: t.TempDir(), http: &http.Client{
		Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true},
	}}
	c.program = program(t, config.Skewable)
	if config.Isolated {
		var err error
		c.wire, err = newWire()
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, c.wire.Close()) })
		host := []byte{254}
		for i := range clientAddrs {
			host = append(host, byte(firstClient+i))
		}
		require.NoError(t, c.wire.plug(host...))
	}
	t.Cleanup(c.explain)
	c.init()
	for _, n := range c.nodes {
		n.Start()
	}
	c.AwaitWhole()
	return c
}

// Use makes t, a subtest of the one that started the cluster, the one that fails when
// something does, until the returned function is called.
func (c *Cluster) Use(t testing.TB) (restore func()) {
	before := c.t
	c.t = t
	return func() { c.t = before }
}

// init makes the network and its machines.
func (c *Cluster) init() {
	args := []string{"init", "--development", filepath.Join(c.dir, "nodes")}
	for _, spec := range c.config.Nodes {
		if spec.Roles == "all" {
			spec.Roles = "auth,tns,seer,hoarder,patrick,monkey,substrate,gateway"
		}
		n := c.newNode(spec)
		args = append(args, "--node", fmt.Sprintf("%s=%s@%s", spec.Name, spec.Roles, n.multiaddr()))
	}
	out, err := exec.Command(c.program, args...).CombinedOutput()
	require.NoError(c.t, err, "%s", out)
	for _, n := range c.nodes {
		n.configure()
		if n.Disk > 0 {
			require.NoError(c.t, n.machine.mountDisk(n.data(), n.Disk))
		}
	}
}

func (c *Cluster) newNode(spec Spec) *Node {
	c.t.Helper()
	c.last++
	require.Less(c.t, c.last, firstClient, "too many nodes")
	last := byte(c.last)
	n := &Node{Spec: spec, c: c, last: last, dir: filepath.Join(c.dir, "nodes", spec.Name), log: filepath.Join(c.dir, spec.Name+".log")}
	var prepare func() error
	if c.wire != nil {
		ip := c.wire.addr(last).String()
		n.p2p, n.api, n.users = ip+":4001", ip+":4002", ip+":80"
		prepare = func() error { return c.wire.plug(last) }
	} else {
		n.p2p, n.api, n.users = freeAddr(c.root), freeAddr(c.root), freeAddr(c.root)
	}
	var err error
	n.machine, err = newMachine(c.wire != nil, prepare)
	require.NoError(c.t, err)
	c.root.Cleanup(n.end)
	c.mu.Lock()
	c.nodes = append(c.nodes, n)
	c.mu.Unlock()
	return n
}

func freeAddr(t testing.TB) string { return fmt.Sprintf("127.0.0.1:%d", testnet.FreePort(t)) }

// configure writes the node's own addresses into its configuration.
func (n *Node) configure() {
	file := filepath.Join(n.dir, "taubyte.yaml")
	text, err := os.ReadFile(file)
	require.NoError(n.c.t, err)
	var config map[string]any
	require.NoError(n.c.t, yaml.Unmarshal(text, &config))
	config["api"] = n.api
	config["builds"] = "plain" // the projects are the test's
	if n.has("gateway") {
		config["http"] = n.users
	}
	text, err = yaml.Marshal(config)
	require.NoError(n.c.t, err)
	require.NoError(n.c.t, os.WriteFile(file, text, 0o600))
}

// Node returns a node by its name.
func (c *Cluster) Node(name string) *Node {
	c.t.Helper()
	for _, n := range c.Nodes() {
		if n.Name == name {
			return n
		}
	}
	require.FailNow(c.t, "no node "+name)
	return nil
}

// Nodes lists the nodes, or those that have a role.
func (c *Cluster) Nodes(role ...string) []*Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*Node
	for _, n := range c.nodes {
		if len(role) == 0 || slices.ContainsFunc(role, n.has) {
			all = append(all, n)
		}
	}
	return all
}

// SetLink changes the way between two nodes, in both directions.
func (c *Cluster) SetLink(a, b *Node, l Link) {
	c.t.Helper()
	require.NotNil(c.t, c.wire, "links need Config.Isolated")
	c.wire.set(a.last, b.last, l)
	c.wire.set(b.last, a.last, l)
}

// Cut parts the nodes of one side from all others. Users reach both sides.
func (c *Cluster) Cut(side ...string) {
	c.t.Helper()
	for _, a := range c.Nodes() {
		for _, b := range c.Nodes() {
			if a != b && slices.Contains(side, a.Name) && !slices.Contains(side, b.Name) {
				c.SetLink(a, b, Link{Cut: true})
			}
		}
	}
}

// SetUsersLink changes the way between a node and all users, in both directions.
func (c *Cluster) SetUsersLink(n *Node, l Link) {
	c.t.Helper()
	require.NotNil(c.t, c.wire, "links need Config.Isolated")
	for i := range clientAddrs {
		c.wire.set(n.last, byte(firstClient+i), l)
		c.wire.set(byte(firstClient+i), n.last, l)
	}
}

// Heal makes all links perfect again.
func (c *Cluster) Heal() {
	c.t.Helper()
	for _, a := range c.Nodes() {
		for _, b := range c.Nodes() {
			if a != b {
				c.SetLink(a, b, Link{})
			}
		}
		c.SetUsersLink(a, Link{})
	}
}

// AwaitWhole waits until every running node answers, and every directory sees every
// running node and nothing of the others but as gone.
func (c *Cluster) AwaitWhole() time.Duration {
	c.t.Helper()
	began := time.Now()
	c.Await("every node sees every other", time.Minute, func() error {
		running := 0
		for _, n := range c.Nodes() {
			if n.Running() {
				running++
			}
		}
		for _, n := range c.Nodes() {
			if !n.Running() {
				continue
			}
			if err := n.Get("/healthz", nil); err != nil {
				return err
			}
			if !n.has("seer") {
				continue
			}
			var seen []struct{ Name, Health string }
			if err := n.Get("/v1/seer/nodes", &seen); err != nil {
				return err
			}
			alive := 0
			for _, s := range seen {
				if s.Health == "alive" {
					alive++
				}
			}
			if alive < running {
				return fmt.Errorf("%s sees %d of %d nodes: %v", n.Name, alive, running, seen)
			}
		}
		return nil
	})
	return time.Since(began)
}

// Await polls until do returns nil, and returns how long that took. When it takes too
// long it fails the test with the last error.
func (c *Cluster) Await(what string, within time.Duration, do func() error) time.Duration {
	c.t.Helper()
	began := time.Now()
	for {
		err := do()
		if err == nil {
			return time.Since(began)
		}
		if time.Since(began) > within {
			require.FailNow(c.t, what+": not within "+within.String(), "%v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Get asks a node's API, as its owner, and decodes the answer unless into is nil.
func (n *Node) Get(path string, into any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.api+path, nil)
	if err != nil {
		return err
	}
	if path != "/healthz" {
		token, err := n.Token()
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := n.c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %s", n.Name, path, resp.Status, strings.TrimSpace(string(body)))
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(body, into)
}

// Command runs a command of the reference server with the node's data: its output,
// and what it said when it failed.
func (n *Node) Command(args ...string) (string, error) {
	args = append(args, "--data", n.data())
	cmd := exec.Command(n.c.program, args...)
	var out, said strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &said
	err := n.machine.start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		err = fmt.Errorf("taubyte %s: %w: %s", strings.Join(args, " "), err, said.String())
	}
	return out.String(), err
}

// explain shows the end of each node's log when the test has failed.
func (c *Cluster) explain() {
	if !c.root.Failed() {
		return
	}
	if keep := os.Getenv("TESTCLUSTER_KEEP"); keep != "" {
		for _, n := range c.Nodes() {
			text, err := os.ReadFile(n.log)
			err = errors.Join(err, os.MkdirAll(keep, 0o755), os.WriteFile(filepath.Join(keep, n.Name+".log"), text, 0o600))
			if err != nil {
				c.t.Log(err)
			}
		}
		c.t.Logf("the logs of the nodes are in %s", keep)
		return
	}
	for _, n := range c.Nodes() {
		c.t.Logf("--- the end of the log of %s (all of it: set TESTCLUSTER_KEEP to a folder)\n%s", n.Name, n.LogTail(15))
	}
}
