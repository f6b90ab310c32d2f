package taubyte

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// membershipProtocol: whoever opens a stream of it is sent the other side's
// signed membership and the end of the stream.
const membershipProtocol protocol.ID = "/taubyte/membership/1"

const (
	maxMembershipSize = 8 << 10
	admissionTimeout  = 10 * time.Second
)

// gate lets members in and nobody else. Each side asks the other for its
// membership, once for a connection, and holds back every other stream until
// it has seen a good one; a peer that has none is disconnected.
type gate struct {
	host    host.Host
	network Network
	log     *slog.Logger

	ctx    context.Context // ends with the host
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	own     []byte                 // this node's signed membership
	ownM    Membership             // and what it says
	members map[peer.ID]Membership // shown and good; dropped with the last connection
	asking  map[peer.ID]*admission // under way
}

type admission struct {
	done chan struct{}
	m    Membership
	err  error
}

func newGate(h host.Host, n Network, log *slog.Logger) *gate {
	g := &gate{host: h, network: n, log: log, members: map[peer.ID]Membership{}, asking: map[peer.ID]*admission{}}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g
}

// open starts answering and asking. The gate needs its own membership first.
func (g *gate) open() {
	g.host.SetStreamHandler(membershipProtocol, g.show)
	g.host.Network().Notify(g.notifiee())
	for _, p := range g.host.Network().Peers() { // a host that was handed in may have peers
		g.greet(p)
	}
}

func (g *gate) close() {
	g.host.Network().StopNotify(g.notifiee())
	g.host.RemoveStreamHandler(membershipProtocol)
	g.mu.Lock()
	g.cancel() // under the lock: after it no greet begins
	g.mu.Unlock()
	g.wg.Wait()
}

// gateNotifiee is comparable, which StopNotify needs.
type gateNotifiee struct {
	*network.NoopNotifiee // its methods need no value
	g                     *gate
}

func (g *gate) notifiee() network.Notifiee { return gateNotifiee{g: g} }

func (n gateNotifiee) Connected(_ network.Network, c network.Conn) { n.g.greet(c.RemotePeer()) }

func (n gateNotifiee) Disconnected(net network.Network, c network.Conn) {
	if net.Connectedness(c.RemotePeer()) == network.Connected {
		return
	}
	n.g.mu.Lock()
	delete(n.g.members, c.RemotePeer())
	n.g.mu.Unlock()
}

// greet asks a new peer for its membership without waiting for the first
// stream to need it, so that strangers do not linger.
func (g *gate) greet(p peer.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ctx.Err() != nil {
		return
	}
	g.wg.Go(func() {
		if _, err := g.admit(g.ctx, p); errors.Is(err, ErrForbidden) {
			g.log.Warn("peer refused", "peer", p, "err", err)
		}
	})
}

func (g *gate) setOwn(signed []byte, m Membership) {
	g.mu.Lock()
	g.own, g.ownM = signed, m
	g.mu.Unlock()
}

func (g *gate) ownMembership() Membership {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ownM
}

// show answers a peer that asks.
func (g *gate) show(s network.Stream) {
	defer s.Close()
	g.mu.Lock()
	own := g.own
	g.mu.Unlock()
	_ = s.SetDeadline(time.Now().Add(admissionTimeout))
	if _, err := s.Write(own); err != nil {
		_ = s.Reset()
	}
}

// admit returns p's membership, from memory or from p. Those who ask for the
// same peer at the same time share one answer.
func (g *gate) admit(ctx context.Context, p peer.ID) (Membership, error) {
	if p == g.host.ID() {
		return g.ownMembership(), nil
	}
	g.mu.Lock()
	if m, ok := g.members[p]; ok {
		if time.Now().Before(m.NotAfter.Add(clockSkew)) {
			g.mu.Unlock()
			return m, nil
		}
		delete(g.members, p)
	}
	a, ok := g.asking[p]
	if !ok {
		if g.ctx.Err() != nil {
			g.mu.Unlock()
			return Membership{}, fmt.Errorf("host: %w", ErrClosed)
		}
		a = &admission{done: make(chan struct{})}
		g.asking[p] = a
		g.wg.Go(func() { g.ask(ctx, p, a) })
	}
	g.mu.Unlock()
	select {
	case <-a.done:
		return a.m, a.err
	case <-ctx.Done():
		return Membership{}, ctx.Err()
	}
}

// ask resolves an admission. It runs on the gate's own time: a caller that
// gives up does not fail the others. Values of the first caller's context
// (libp2p keeps dial options there) are kept.
func (g *gate) ask(caller context.Context, p peer.ID, a *admission) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(caller), admissionTimeout)
	defer cancel()
	stop := context.AfterFunc(g.ctx, cancel)
	defer stop()

	signed, err := g.fetch(ctx, p)
	if err == nil {
		a.m, err = g.network.Verify(signed, p, time.Now())
	}
	a.err = err

	g.mu.Lock()
	delete(g.asking, p)
	if err == nil && g.host.Network().Connectedness(p) == network.Connected {
		g.members[p] = a.m
	}
	g.mu.Unlock()
	close(a.done)

	if errors.Is(err, ErrForbidden) {
		_ = g.host.Network().ClosePeer(p)
	}
}

func (g *gate) fetch(ctx context.Context, p peer.ID) ([]byte, error) {
	s, err := g.host.NewStream(ctx, p, membershipProtocol)
	if err != nil {
		return nil, fmt.Errorf("asking %s for its membership: %w", p, err)
	}
	defer s.Close()
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	_ = s.CloseWrite()
	b, err := io.ReadAll(io.LimitReader(s, maxMembershipSize+1))
	if err != nil {
		return nil, fmt.Errorf("asking %s for its membership: %w", p, err)
	}
	if len(b) > maxMembershipSize {
		return nil, fmt.Errorf("%w: %s shows a membership of more than %d bytes", ErrForbidden, p, maxMembershipSize)
	}
	return b, nil
}

// guard holds a handler's streams back until their peer is admitted.
func (g *gate) guard(h network.StreamHandler) network.StreamHandler {
	return func(s network.Stream) {
		ctx, cancel := context.WithTimeout(g.ctx, admissionTimeout)
		_, err := g.admit(ctx, s.Conn().RemotePeer())
		cancel()
		if err != nil {
			_ = s.Reset()
			return
		}
		h(s)
	}
}
