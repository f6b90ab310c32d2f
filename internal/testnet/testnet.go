// Package testnet composes networks of real hosts on loopback for the tests.
package testnet

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
)

// A Node is a host and the store that it stands on.
type Node struct {
	*taubyte.NodeHost
	Store taubyte.Datastore
}

// Info is the node's address, for others to dial.
func (n *Node) Info() peer.AddrInfo {
	return peer.AddrInfo{ID: n.ID(), Addrs: n.Addrs()}
}

// A Net is a network whose members the test adds. Nodes are closed, last first,
// at the end of the test.
type Net struct {
	t         testing.TB
	Authority *taubyte.Authority
	nodes     []*Node
}

// New makes an empty network, and checks at the end of the test that no goroutine
// outlives it.
func New(t testing.TB) *Net {
	t.Helper()
	CheckLeaks(t)
	a, err := taubyte.NewAuthority()
	require.NoError(t, err)
	return &Net{t: t, Authority: a}
}

// Node adds a member with a memory store, connected to all earlier nodes. It
// holds the roles, or every role where none is named.
func (n *Net) Node(roles ...taubyte.Role) *Node {
	n.t.Helper()
	return n.NodeOn(taubyte.MemoryDatastore(), roles...)
}

// NodeOn is Node upon a given store, which the test closes if it needs closing.
func (n *Net) NodeOn(store taubyte.Datastore, roles ...taubyte.Role) *Node {
	n.t.Helper()
	return n.add(store, taubyte.WithAuthority(n.Authority, orAll(roles)...))
}

// Named is Node with a name in its membership.
func (n *Net) Named(name string, roles ...taubyte.Role) *Node {
	n.t.Helper()
	return n.add(taubyte.MemoryDatastore(), taubyte.WithAuthority(n.Authority, orAll(roles)...), taubyte.WithName(name))
}

// Member is Node with a membership from a source, which may be short, or fail.
func (n *Net) Member(source taubyte.MembershipSource) *Node {
	n.t.Helper()
	return n.add(taubyte.MemoryDatastore(), taubyte.WithMembership(n.Authority.Network(), source))
}

// Revoke makes known, from one node, that another is no member any more.
func (n *Net) Revoke(from *Node, p peer.ID) {
	n.t.Helper()
	signed, err := n.Authority.Revoke(p)
	require.NoError(n.t, err)
	require.NoError(n.t, from.Members().Revoke(n.t.Context(), signed))
}

func orAll(roles []taubyte.Role) []taubyte.Role {
	if len(roles) == 0 {
		return taubyte.Roles()
	}
	return roles
}

func (n *Net) add(store taubyte.Datastore, opts ...taubyte.HostOption) *Node {
	n.t.Helper()
	var peers []peer.AddrInfo
	for _, other := range n.nodes {
		peers = append(peers, other.Info())
	}
	h, err := taubyte.NewHost(context.Background(), store,
		append(opts, taubyte.WithPeers(peers...), taubyte.WithLogger(Logger(n.t)))...)
	require.NoError(n.t, err)
	node := &Node{NodeHost: h, Store: store}
	n.t.Cleanup(func() { require.NoError(n.t, h.Close()) })
	for _, p := range peers {
		Eventually(n.t, func() bool {
			_, err := h.Member(context.Background(), p.ID)
			return err == nil
		}, "no connection to %s", p.ID)
	}
	n.nodes = append(n.nodes, node)
	return node
}

// Forget leaves a node out of what later nodes connect to: it was closed.
func (n *Net) Forget(gone *Node) {
	for i, node := range n.nodes {
		if node == gone {
			n.nodes = append(n.nodes[:i], n.nodes[i+1:]...)
			return
		}
	}
}

// Eventually polls a condition for as long as a loaded machine may need.
func Eventually(t testing.TB, cond func() bool, format string, args ...any) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			require.FailNowf(t, "condition not met in time", format, args...)
		}
	}
}

// Logger logs into the test's output.
func Logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Nodes are the members, in the order in which they were added.
func (n *Net) Nodes() []*Node { return n.nodes }
