package testcluster

import (
	"fmt"
	"os/exec"
	"strings"

	"github.com/stretchr/testify/require"
)

// Join adds a new node to the running network, as its owner would: with a token from
// a node that runs auth, and nothing else. It is started.
func (c *Cluster) Join(via *Node, spec Spec) *Node {
	c.t.Helper()
	token, err := via.Command("member", "add", spec.Name, "--roles", spec.Roles)
	require.NoError(c.t, err)
	n := c.newNode(spec)
	args := []string{"join", "-", "--data", n.dir, "--listen", n.multiaddr(), "--api", n.api}
	if n.has("gateway") {
		args = append(args, "--http", n.users)
	}
	cmd := exec.Command(c.program, args...)
	cmd.Stdin = strings.NewReader(token)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	err = n.machine.start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		err = fmt.Errorf("%w: %s", err, said.String())
	}
	require.NoError(c.t, err, "%s joins", spec.Name)
	n.Start()
	return n
}

// Revoke puts a node out of the network for good, and forgets it.
func (c *Cluster) Revoke(via, n *Node) {
	c.t.Helper()
	_, err := via.Command("member", "revoke", n.Name)
	require.NoError(c.t, err)
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, other := range c.nodes {
		if other == n {
			c.nodes = append(c.nodes[:i], c.nodes[i+1:]...)
			return
		}
	}
}
