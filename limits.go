package taubyte

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/x/rate"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Limits between nodes. They are set by what is promised: 20,000 WebSockets and 10,000
// requests in flight between one gateway and one substrate node. libp2p's own are for
// a public network of strangers: by default one peer gets about 92 streams, and one
// address 8 connections.
//
// A stream costs about 10 KiB on each node while it is idle. What its peer sends and
// nobody has read yet is kept, up to the stream's window: 256 KiB at first, and up to
// maxWindow where the reader is fast enough to need it. The resource manager counts
// whole windows, so that its "memory" is what members could fill, not what they do.
const (
	memberStreams = 32 << 10 // of one member, in each direction
	nodeStreams   = 64 << 10 // of all members, in each direction
	memberConns   = 16       // both sides may dial at once, over several addresses
	nodeConns     = 4 << 10  // a file descriptor each
	firstWindow   = 256 << 10
	maxWindow     = 4 << 20 // 40 MB/s where a round trip takes 100 ms
	// windows is how often the first windows of all streams fit into the memory that is
	// counted. Windows grow only while half of it is free; a stream that finds none at all
	// would end its whole connection.
	windows = 3
)

// Limits of strangers: connections that were accepted and whose peer has shown no
// membership yet. A member is one for some milliseconds.
const (
	// addressStrangers is how many there are at a time from one address (IPv6: one /64).
	// So many members behind one address may reconnect in the same moment; more try again.
	addressStrangers = 128
	// totalStrangers is how many there are from addresses that no member came from, and,
	// apart from these, from addresses that one did: a flood from elsewhere does not keep
	// members from coming back.
	totalStrangers = 512
	// strangerStreams is how many streams a stranger has open.
	strangerStreams = 128
	// knownAddresses is how many addresses of members are remembered.
	knownAddresses = 4 << 10
)

// connRate is how many connections one address makes, however they end.
var connRate = rate.Limit{RPS: 50, Burst: 512}

// limiter is the host's resource manager: one that is wide, for members, and in front
// of it a narrow one for strangers.
type limiter struct {
	network.ResourceManager
	isMember atomic.Pointer[func(peer.ID) bool]

	mu        sync.Mutex
	conns     map[*strangerConn]struct{}
	addresses map[netip.Prefix]int      // of conns
	streams   map[peer.ID]int           // inbound, of strangers
	known     map[netip.Prefix]struct{} // where members came from
	totals    [2]int                    // of conns: from unknown addresses, and from known ones
}

// newLimiter makes the resource manager of a host. Who is a member it is told later.
func newLimiter() (*limiter, error) {
	defaults := rcmgr.DefaultLimits // of libp2p's own protocols, which stay
	libp2p.SetDefaultServiceLimits(&defaults)
	const memory = rcmgr.LimitVal64(windows * nodeStreams * firstWindow)
	streams := func(n rcmgr.LimitVal) rcmgr.ResourceLimits {
		return rcmgr.ResourceLimits{Streams: 2 * n, StreamsInbound: n, StreamsOutbound: n, Memory: memory}
	}
	all := streams(nodeStreams)
	all.Conns, all.ConnsInbound, all.ConnsOutbound, all.FD = 2*nodeConns, nodeConns, nodeConns, 2*nodeConns
	one := streams(memberStreams)
	one.Conns, one.ConnsInbound, one.ConnsOutbound, one.FD = 2*memberConns, memberConns, memberConns, 2*memberConns
	limits := rcmgr.PartialLimitConfig{
		System: all, Transient: all, // strangers are counted here, by limiter
		ServiceDefault: streams(nodeStreams), ServicePeerDefault: streams(memberStreams),
		ProtocolDefault: streams(nodeStreams), ProtocolPeerDefault: streams(memberStreams),
		PeerDefault: one,
		Conn:        rcmgr.ResourceLimits{Memory: memory},
		Stream:      rcmgr.ResourceLimits{Memory: 2 * maxWindow},
	}
	many := func(bits ...int) (all []rcmgr.ConnLimitPerSubnet) {
		for _, b := range bits {
			all = append(all, rcmgr.ConnLimitPerSubnet{PrefixLength: b, ConnCount: nodeConns})
		}
		return all
	}
	local := []rate.PrefixLimit{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}, {Prefix: netip.MustParsePrefix("::1/128")}}
	m, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits.Build(defaults.Scale(1<<30, nodeConns))),
		rcmgr.WithMetricsDisabled(), // they are the process's
		rcmgr.WithLimitPerSubnet(many(32), many(56, 48)),
		rcmgr.WithConnRateLimiters(&rate.Limiter{NetworkPrefixLimits: local, SubnetRateLimiter: rate.SubnetLimiter{
			IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: connRate}},
			IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 64, Limit: connRate}},
			GracePeriod:      time.Minute,
		}}))
	if err != nil {
		return nil, fmt.Errorf("limits between nodes: %w", err)
	}
	return &limiter{
		ResourceManager: m, conns: map[*strangerConn]struct{}{}, addresses: map[netip.Prefix]int{},
		streams: map[peer.ID]int{}, known: map[netip.Prefix]struct{}{},
	}, nil
}

// muxer is yamux with room for as many streams. Its backlog is how many may be
// opened and not yet accepted; who opens more waits.
func muxer() libp2p.Option {
	conf := *yamux.DefaultTransport
	conf.AcceptBacklog = 2 << 10
	conf.MaxStreamWindowSize = maxWindow
	return libp2p.Muxer(yamux.ID, &conf)
}

// setMembers says who is a member, as far as that is known without asking.
func (l *limiter) setMembers(isMember func(peer.ID) bool) { l.isMember.Store(&isMember) }

func (l *limiter) member(p peer.ID) bool {
	f := l.isMember.Load()
	return p != "" && f != nil && (*f)(p)
}

// strangerConn is a connection that somebody has made to this host.
type strangerConn struct {
	network.ConnManagementScope
	l       *limiter
	address netip.Prefix
	known   int // the index of its total
	peer    atomic.Value
}

func (c *strangerConn) SetPeer(p peer.ID) error {
	c.peer.Store(p)
	return c.ConnManagementScope.SetPeer(p)
}

func (c *strangerConn) Done() {
	c.ConnManagementScope.Done()
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	c.l.releaseLocked(c)
}

// OpenConnection implements network.ResourceManager.
func (l *limiter) OpenConnection(dir network.Direction, usefd bool, endpoint ma.Multiaddr) (network.ConnManagementScope, error) {
	if dir != network.DirInbound {
		return l.ResourceManager.OpenConnection(dir, usefd, endpoint)
	}
	c := &strangerConn{l: l, address: addressOf(endpoint)}
	if !l.admit(c) {
		return nil, fmt.Errorf("too many connections without membership: %w", network.ErrResourceLimitExceeded)
	}
	scope, err := l.ResourceManager.OpenConnection(dir, usefd, endpoint)
	if err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.releaseLocked(c)
		return nil, err
	}
	c.ConnManagementScope = scope
	return c, nil
}

// addressOf is the address that a connection counts for.
func addressOf(endpoint ma.Multiaddr) netip.Prefix {
	ip, err := manet.ToIP(endpoint)
	if err != nil {
		return netip.Prefix{}
	}
	addr, _ := netip.AddrFromSlice(ip)
	addr = addr.Unmap()
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	prefix, _ := addr.Prefix(bits)
	return prefix
}

// admit counts a connection, if there is room.
func (l *limiter) admit(c *strangerConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.roomLocked(c) {
		// Some of those that are counted are members by now.
		for other := range l.conns {
			if p, _ := other.peer.Load().(peer.ID); l.member(p) {
				l.releaseLocked(other)
			}
		}
		if !l.roomLocked(c) {
			return false
		}
	}
	l.conns[c] = struct{}{}
	l.addresses[c.address]++
	l.totals[c.known]++
	return true
}

func (l *limiter) roomLocked(c *strangerConn) bool {
	c.known = 0
	if _, ok := l.known[c.address]; ok {
		c.known = 1
	}
	return l.addresses[c.address] < addressStrangers && l.totals[c.known] < totalStrangers
}

// releaseLocked stops counting a connection: it has ended, or is a member's.
func (l *limiter) releaseLocked(c *strangerConn) {
	if _, ok := l.conns[c]; !ok {
		return
	}
	delete(l.conns, c)
	l.totals[c.known]--
	if l.addresses[c.address]--; l.addresses[c.address] == 0 {
		delete(l.addresses, c.address)
	}
	if p, _ := c.peer.Load().(peer.ID); l.member(p) {
		if len(l.known) >= knownAddresses {
			clear(l.known) // members come again
		}
		l.known[c.address] = struct{}{}
	}
}

// strangerStream is one that a stranger has opened.
type strangerStream struct {
	network.StreamManagementScope
	release func()
}

func (s *strangerStream) Done() {
	s.StreamManagementScope.Done()
	s.release()
}

// OpenStream implements network.ResourceManager.
func (l *limiter) OpenStream(p peer.ID, dir network.Direction) (network.StreamManagementScope, error) {
	if dir != network.DirInbound || l.member(p) {
		return l.ResourceManager.OpenStream(p, dir)
	}
	l.mu.Lock()
	full := l.streams[p] >= strangerStreams
	if !full {
		l.streams[p]++
	}
	l.mu.Unlock()
	if full {
		return nil, fmt.Errorf("too many streams without membership: %w", network.ErrResourceLimitExceeded)
	}
	release := sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.streams[p]--; l.streams[p] == 0 {
			delete(l.streams, p)
		}
	})
	scope, err := l.ResourceManager.OpenStream(p, dir)
	if err != nil {
		release()
		return nil, err
	}
	return &strangerStream{scope, release}, nil
}
