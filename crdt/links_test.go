package crdt_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/crdt"
	"github.com/taubyte/taubyte/internal/testnet"
)

// badLinks are real hosts on loopback whose links can be cut, and lose messages.
type badLinks struct {
	t         *testing.T
	authority *taubyte.Authority
	loss      atomic.Int32 // per cent
	lost      atomic.Int64
	members   []*badHost
	stores    []*crdt.Store
}

func newBadLinks(t *testing.T, members int, opts ...crdt.Option) *badLinks {
	testnet.CheckLeaks(t)
	authority, err := taubyte.NewAuthority()
	require.NoError(t, err)
	n := &badLinks{t: t, authority: authority}
	for range members {
		n.add(opts...)
	}
	return n
}

func (n *badLinks) add(opts ...crdt.Option) {
	t := n.t
	b := &badHost{n: n, side: new(atomic.Int32)}
	p, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.ConnectionGater(b),
		libp2p.DisableRelay(), libp2p.DisableMetrics())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	b.Host = p
	var peers []peer.AddrInfo
	for _, other := range n.members {
		peers = append(peers, peer.AddrInfo{ID: other.ID(), Addrs: other.Addrs()})
	}
	n.members = append(n.members, b)
	disk := taubyte.MemoryDatastore()
	h, err := taubyte.NewHost(t.Context(), disk, taubyte.WithLibp2p(b), taubyte.WithPeers(peers...),
		taubyte.WithAuthority(n.authority, taubyte.Roles()...), taubyte.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	s, err := crdt.Open(t.Context(), h, disk, "test", append(opts, crdt.WithLogger(testnet.Logger(t)))...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	n.stores = append(n.stores, s)
	testnet.Eventually(t, func() bool { return len(s.Peers()) == len(peers) }, "peers")
}

// converged waits until all members hold so many keys, the same, and says how long
// that took.
func (n *badLinks) converged(keys int, since time.Time) {
	n.t.Helper()
	testnet.Eventually(n.t, func() bool { return len(all(n.t, n.stores[0])) == keys && same(n.t, n.stores...) }, "the same everywhere")
	n.t.Logf("%d keys the same on %d members after %s", keys, len(n.stores), time.Since(since))
}

// badHost is a host on one side of a partition: who is on another can't be
// reached. Of what it sends, and of the streams that it opens, some are lost.
type badHost struct {
	host.Host
	n    *badLinks
	side *atomic.Int32
}

func (b *badHost) reaches(p peer.ID) bool {
	for _, other := range b.n.members {
		if other.ID() == p {
			return other.side.Load() == b.side.Load()
		}
	}
	return false
}

// cut puts members on sides and closes the links between these.
func (n *badLinks) cut(sides ...int32) {
	for i, side := range sides {
		n.members[i].side.Store(side)
	}
	for _, a := range n.members {
		for _, b := range n.members {
			if !a.reaches(b.ID()) {
				require.NoError(n.t, a.Network().ClosePeer(b.ID()))
			}
		}
	}
}

// heal lets the hosts find each other again.
func (n *badLinks) heal() {
	for _, m := range n.members {
		m.side.Store(0)
	}
	for i, a := range n.members {
		for _, b := range n.members[:i] {
			require.NoError(n.t, a.Connect(n.t.Context(), peer.AddrInfo{ID: b.ID(), Addrs: b.Addrs()}))
		}
	}
}

func (b *badHost) InterceptPeerDial(p peer.ID) bool                 { return b.reaches(p) }
func (b *badHost) InterceptAddrDial(p peer.ID, _ ma.Multiaddr) bool { return b.reaches(p) }
func (b *badHost) InterceptAccept(network.ConnMultiaddrs) bool      { return true }
func (b *badHost) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) {
	return true, 0
}
func (b *badHost) InterceptSecured(_ network.Direction, p peer.ID, _ network.ConnMultiaddrs) bool {
	return b.reaches(p)
}

var errLoss = errors.New("lost")

func (b *badHost) loses() bool {
	if rand.Int32N(100) >= b.n.loss.Load() {
		return false
	}
	b.n.lost.Add(1)
	return true
}

// NewStream fails where a pull is lost, and otherwise loses gossip's messages, each of
// which is one write.
func (b *badHost) NewStream(ctx context.Context, p peer.ID, ids ...protocol.ID) (network.Stream, error) {
	if strings.HasPrefix(string(ids[0]), "/taubyte/crdt/") && b.loses() {
		return nil, errLoss
	}
	s, err := b.Host.NewStream(ctx, p, ids...)
	if err != nil || !strings.HasPrefix(string(s.Protocol()), "/meshsub/") {
		return s, err
	}
	return &badStream{Stream: s, b: b}, nil
}

type badStream struct {
	network.Stream
	b *badHost
}

func (s *badStream) Write(p []byte) (int, error) {
	if s.b.loses() {
		return len(p), nil
	}
	return s.Stream.Write(p)
}

// Of all messages of gossip, of its own as of ours, and of all pulls, 30 % are lost.
func TestMessageLoss(t *testing.T) {
	n := newBadLinks(t, 3, crdt.WithHistory(32<<10))
	n.loss.Store(30)
	start := time.Now()
	for i := range 60 {
		for j, s := range n.stores {
			put(t, s, fmt.Sprintf("/own/%d/%d", j, i%20), fmt.Sprint(i))
			put(t, s, fmt.Sprintf("/shared/%d", i%10), fmt.Sprint(j, i))
		}
	}
	t.Logf("360 puts in %s", time.Since(start))
	n.converged(3*20+10, time.Now())
	require.Positive(t, n.lost.Load())
	t.Logf("%d messages and pulls lost", n.lost.Load())
}

// Members on two sides write, and meet again.
func TestPartition(t *testing.T) {
	n := newBadLinks(t, 4, crdt.WithHistory(8<<10))
	put(t, n.stores[0], "/gone", "v")
	put(t, n.stores[0], "/kept", "v")
	n.converged(2, time.Now())
	n.cut(1, 1, 2, 2)
	for i, s := range n.stores {
		testnet.Eventually(t, func() bool { return len(s.Peers()) == 1 }, "two sides")
		for k := range 60 {
			put(t, s, fmt.Sprintf("/own/%d/%d", i, k%30), "v")
			put(t, s, fmt.Sprintf("/shared/%d", k%10), fmt.Sprint(i, k))
		}
	}
	require.NoError(t, n.stores[0].Delete(t.Context(), ds.NewKey("/gone")))
	require.NoError(t, n.stores[1].Delete(t.Context(), ds.NewKey("/kept")))
	put(t, n.stores[3], "/kept", "written on the other side")
	for _, side := range [][]*crdt.Store{n.stores[:2], n.stores[2:]} {
		testnet.Eventually(t, func() bool { return same(t, side...) }, "one side")
	}
	require.False(t, same(t, n.stores...))
	n.heal()
	n.converged(4*30+10+1, time.Now())
	require.Equal(t, "written on the other side", get(t, n.stores[0], "/kept"))
}
