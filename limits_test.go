package taubyte_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testnet"
)

// ownAddress is one of this machine's addresses, if possible none of loopback: libp2p
// by itself has no limits for that.
func ownAddress(t testing.TB) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			return n.IP.String()
		}
	}
	return "127.0.0.1"
}

func TestManyMembersBehindOneAddress(t *testing.T) { testMembers(t, 14) }

// BenchmarkMany is the larger of what the tests have, once each.
func BenchmarkMany(b *testing.B) {
	for _, members := range []int{14, 50} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			for b.Loop() {
				testMembers(b, members)
			}
		})
	}
	b.Run("streams=20000", func(b *testing.B) {
		for b.Loop() {
			testStreams(b, 20_000)
		}
	})
}

// testMembers has so many members at one address, each of which connects to all.
func testMembers(t testing.TB, members int) {
	testnet.CheckLeaks(t)
	a, err := taubyte.NewAuthority()
	require.NoError(t, err)
	addr := ownAddress(t)
	var hosts []*taubyte.NodeHost
	var peers []peer.AddrInfo
	began := time.Now()
	for range members {
		h, err := taubyte.NewHost(context.Background(), taubyte.MemoryDatastore(), taubyte.WithAuthority(a, taubyte.RoleSeer), taubyte.WithPeers(peers...),
			taubyte.WithListenAddrs(ma.StringCast("/ip4/"+addr+"/tcp/0")), taubyte.WithLogger(testnet.Logger(t)))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, h.Close()) })
		hosts, peers = append(hosts, h), append(peers, peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()})
	}
	for _, h := range hosts {
		for _, p := range peers {
			testnet.Eventually(t, func() bool {
				return h.ID() == p.ID || h.Network().Connectedness(p.ID) == network.Connected
			}, "a member behind %s does not reach another", addr)
		}
	}
	t.Logf("%d members at %s had each other as peers after %s", members, addr, time.Since(began))
}

func TestStreamsOfMembers(t *testing.T) {
	testStreams(t, 2_000)
}

// testStreams has so many streams open at once between two nodes, and uses them.
func testStreams(t testing.TB, streams int) {
	const protocol = "/test/echo/1"
	n := testnet.New(t)
	here, there := n.Node(), n.Node()
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	there.SetStreamHandler(protocol, func(s network.Stream) {
		wg.Add(1)
		defer wg.Done()
		_, _ = io.Copy(s, s)
		_ = s.Close()
	})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	began := time.Now()
	open := make([]network.Stream, streams)
	errs := make(chan error, streams)
	word := []byte("hello")
	talk := func(s network.Stream) error {
		if _, err := s.Write(word); err != nil {
			return err
		}
		got := make([]byte, len(word))
		if _, err := io.ReadFull(s, got); err != nil || !bytes.Equal(got, word) {
			return fmt.Errorf("read %q, %w", got, err)
		}
		return nil
	}
	for i := range open { // all at the same time
		go func() {
			s, err := here.NewStream(context.Background(), there.ID(), protocol)
			if open[i] = s; err == nil {
				err = talk(s)
			}
			errs <- err
		}()
	}
	for range open {
		require.NoError(t, <-errs)
	}
	took := time.Since(began)
	runtime.GC()
	runtime.ReadMemStats(&after)
	for _, s := range open {
		require.NoError(t, talk(s), "it is still good")
	}
	inUse := func(m *runtime.MemStats) uint64 { return m.HeapInuse + m.StackInuse }
	t.Logf("%d streams opened in %s; both ends of one take %.1f KiB", streams, took, float64(inUse(&after)-inUse(&before))/1024/float64(streams))
	for _, s := range open {
		require.NoError(t, s.Reset())
	}
}

// Strangers do not take the room of members.
func TestStrangersAreBounded(t *testing.T) {
	n := testnet.New(t)
	h := n.Node()
	port, err := h.Addrs()[0].ValueForProtocol(ma.P_TCP)
	require.NoError(t, err)
	var conns []net.Conn
	t.Cleanup(func() {
		for _, c := range conns {
			_ = c.Close()
		}
	})
	dial := func(from string, times int) (open []net.Conn) {
		for range times {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 5 * time.Second}
			c, err := d.DialContext(t.Context(), "tcp", "127.0.0.1:"+port)
			require.NoError(t, err)
			conns, open = append(conns, c), append(open, c)
		}
		return open
	}
	alive := func(all []net.Conn) int {
		var count atomic.Int64
		var wg sync.WaitGroup
		for _, c := range all {
			wg.Go(func() {
				_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
				_, err := io.Copy(io.Discard, c)
				if errors.Is(err, os.ErrDeadlineExceeded) { // not closed
					count.Add(1)
				}
			})
		}
		wg.Wait()
		return int(count.Load())
	}
	flood := dial("127.0.0.9", 200)
	kept := 0
	testnet.Eventually(t, func() bool {
		kept = alive(flood)
		return kept <= 128
	}, "so many connections of strangers from one address")
	t.Logf("%d of 200 connections of a stranger are open", kept)
	require.Positive(t, kept)
	// A member comes in meanwhile, from another address.
	began := time.Now()
	member := n.Node()
	require.Equal(t, network.Connected, member.Network().Connectedness(h.ID()))
	t.Logf("a member was connected after %s", time.Since(began))
}

// A stranger that has the swarm key opens few streams before it is sent away.
func TestStreamsOfStrangersAreBounded(t *testing.T) {
	n := testnet.New(t)
	h := n.Node()
	stranger, err := libp2p.New(libp2p.PrivateNetwork(n.Authority.Network().SwarmKey), libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Security(noise.ID, noise.New), libp2p.NoListenAddrs, libp2p.DisableRelay(), libp2p.DisableMetrics())
	require.NoError(t, err)
	defer stranger.Close()
	require.NoError(t, stranger.Connect(t.Context(), h.Info()))
	opened := 0
	for _, c := range stranger.Network().ConnsToPeer(h.ID()) {
		for range 1_000 {
			s, err := c.NewStream(t.Context())
			if err != nil {
				break
			}
			// One that was refused is reset.
			if _, err = s.Write([]byte("\x13/multistream/1.0.0\n")); err != nil {
				continue
			}
			_ = s.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := s.Read(make([]byte, 1)); err == nil {
				opened++
			}
		}
	}
	t.Logf("a stranger had %d of 1,000 streams", opened)
	require.LessOrEqual(t, opened, 128)
}

// A connection that its peer ended before it was accepted counts no more: whoever lost
// many comes in again.
func TestLostConnectionsTakeNoRoom(t *testing.T) {
	n := testnet.New(t)
	h, member := n.Node(), n.Node()
	addr := ma.StringCast("/ip4/127.0.0.1/tcp/0")
	l, err := h.Network().(*swarm.Swarm).TransportForListening(addr).Listen(addr)
	require.NoError(t, err)
	defer l.Close()
	dial := func() transport.CapableConn {
		c, err := member.Network().(*swarm.Swarm).TransportForDialing(l.Multiaddr()).Dial(t.Context(), l.Multiaddr(), h.ID())
		require.NoError(t, err)
		return c
	}
	inbound := func() (n int) {
		require.NoError(t, h.Network().ResourceManager().ViewPeer(member.ID(), func(s network.PeerScope) error {
			n = s.Stat().NumConnsInbound
			return nil
		}))
		return n
	}
	before := inbound()
	count := func(want int) {
		t.Helper()
		testnet.Eventually(t, func() bool { return inbound() == before+want }, "%d connections", want)
	}
	const lost = 12 // of the 16 that a member has
	var conns []transport.CapableConn
	for range lost {
		conns = append(conns, dial())
	}
	count(lost)
	for _, c := range conns {
		require.NoError(t, c.Close())
	}
	// Those that have not been seen to be lost by then are accepted before it.
	c := dial()
	for last := false; !last; {
		accepted, err := l.Accept()
		require.NoError(t, err)
		if last = accepted.RemoteMultiaddr().Equal(c.LocalMultiaddr()); last {
			count(1)
		}
		require.NoError(t, accepted.Close())
	}
	require.NoError(t, c.Close())
	count(0)
}
