package testcluster

import (
	"context"
	"crypto/rand"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/cloud"
	"github.com/taubyte/taubyte/internal/testnet"
)

// Together is a cluster in the test's own process: nodes of package cloud on loopback,
// under the race detector where the test is, with their services at hand. Its faults
// are those that a process can do to itself: a node is closed and opened again, and
// connections are cut and refused. A node that crashes, hangs or has a slow network
// needs a process of its own, and Start.
type Together struct {
	t         testing.TB
	authority *taubyte.Authority
	dir       string
	nodes     []*Member

	mu   sync.Mutex
	side map[peer.ID]bool // of the cut, nil while there is none
}

// A Member is a node of Together. Its services are nil while it is closed.
type Member struct {
	*cloud.Node
	Spec
	c     *Together
	key   crypto.PrivKey
	host  host.Host
	roles []taubyte.Role
}

// StartTogether starts a topology in this process and waits until every node is
// connected to every other. Disks of Spec are not made.
func StartTogether(t testing.TB, nodes Topology) *Together {
	t.Helper()
	a, err := taubyte.NewAuthority()
	require.NoError(t, err)
	c := &Together{t: t, authority: a, dir: t.TempDir()}
	for _, spec := range nodes {
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		require.NoError(t, err)
		m := &Member{Spec: spec, c: c, key: key, roles: taubyte.Roles()}
		if spec.Roles != "all" {
			m.roles = nil
			for name := range strings.SplitSeq(spec.Roles, ",") {
				role, err := taubyte.ParseRole(name)
				require.NoError(t, err)
				m.roles = append(m.roles, role)
			}
		}
		c.nodes = append(c.nodes, m)
		t.Cleanup(m.Close)
		m.Open()
	}
	c.AwaitConnected()
	return c
}

// Node returns a member by its name.
func (c *Together) Node(name string) *Member {
	c.t.Helper()
	i := slices.IndexFunc(c.nodes, func(m *Member) bool { return m.Name == name })
	require.GreaterOrEqual(c.t, i, 0, "no node %s", name)
	return c.nodes[i]
}

// Open starts a node that is closed, on its old data. It connects to all that run.
func (m *Member) Open() {
	m.c.t.Helper()
	require.Nil(m.c.t, m.Node, "%s is open", m.Name)
	h, err := libp2p.New(
		libp2p.Identity(m.key),
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"),
		libp2p.Transport(tcp.NewTCPTransport, tcp.DisableReuseport()),
		libp2p.ConnectionGater(gater{m.c, m}),
		libp2p.DisableRelay(), libp2p.DisableMetrics(),
	)
	require.NoError(m.c.t, err)
	var peers []peer.AddrInfo
	for _, other := range m.c.nodes {
		if other != m && other.Node != nil {
			peers = append(peers, peer.AddrInfo{ID: other.host.ID(), Addrs: other.host.Addrs()})
		}
	}
	m.host = h
	m.Node, err = cloud.Open(context.Background(), filepath.Join(m.c.dir, m.Name), cloud.WithDevelopment(), cloud.WithName(m.Name),
		cloud.WithServices(m.roles...), cloud.WithAuthority(m.c.authority), cloud.WithLogger(testnet.Logger(m.c.t)),
		cloud.WithHost(taubyte.WithLibp2p(h), taubyte.WithPeers(peers...)))
	if err != nil {
		_ = h.Close()
	}
	require.NoError(m.c.t, err)
}

// Close ends a node in order.
func (m *Member) Close() {
	if m.Node == nil {
		return
	}
	node := m.Node
	m.Node = nil
	require.NoError(m.c.t, node.Close())
	require.NoError(m.c.t, m.host.Close())
}

// Cut closes the connections between one side and all others, and refuses new ones.
func (c *Together) Cut(side ...string) {
	c.t.Helper()
	ids := map[peer.ID]bool{}
	for _, name := range side {
		ids[c.idOf(c.Node(name))] = true
	}
	c.mu.Lock()
	c.side = ids
	c.mu.Unlock()
	for _, a := range c.nodes {
		for _, b := range c.nodes {
			if a.Node != nil && b.Node != nil && c.parted(c.idOf(a), c.idOf(b)) {
				require.NoError(c.t, a.host.Network().ClosePeer(b.host.ID()))
			}
		}
	}
}

// Heal lets all connect again.
func (c *Together) Heal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.side = nil
}

// AwaitConnected waits until every open node is connected to every other.
func (c *Together) AwaitConnected() {
	c.t.Helper()
	testnet.Eventually(c.t, func() bool {
		for _, a := range c.nodes {
			for _, b := range c.nodes {
				if a != b && a.Node != nil && b.Node != nil && a.host.Network().Connectedness(b.host.ID()) != network.Connected {
					return false
				}
			}
		}
		return true
	}, "the nodes are not connected")
}

func (c *Together) idOf(m *Member) peer.ID {
	id, err := peer.IDFromPrivateKey(m.key)
	require.NoError(c.t, err)
	return id
}

func (c *Together) parted(a, b peer.ID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.side != nil && c.side[a] != c.side[b]
}

// Await polls until cond holds.
func (c *Together) Await(what string, within time.Duration, cond func() bool) time.Duration {
	c.t.Helper()
	began := time.Now()
	for !cond() {
		require.Less(c.t, time.Since(began), within, what)
		time.Sleep(20 * time.Millisecond)
	}
	return time.Since(began)
}

// gater refuses connections across a cut.
type gater struct {
	c *Together
	m *Member
}

func (g gater) allows(p peer.ID) bool { return !g.c.parted(g.c.idOf(g.m), p) }

func (g gater) InterceptPeerDial(p peer.ID) bool                 { return g.allows(p) }
func (g gater) InterceptAddrDial(p peer.ID, _ ma.Multiaddr) bool { return g.allows(p) }
func (g gater) InterceptAccept(network.ConnMultiaddrs) bool      { return true }
func (g gater) InterceptSecured(_ network.Direction, p peer.ID, _ network.ConnMultiaddrs) bool {
	return g.allows(p)
}
func (g gater) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }
