package taubyte

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// Members is what a host knows of the members of its network, and its gate: it lets
// members in and nobody else. Host.Members returns it. It is safe for concurrent use.
//
// Each side of a connection shows its membership; a peer that has shown no good one
// after 5 seconds is disconnected, and one whose membership ends or is revoked is at
// once. What was verified is remembered, for peers that are not connected as well, so
// that what they say by gossip can be believed without asking them.
//
// On a libp2p host that the program handed in (WithLibp2p) a peer that shows nothing
// stays connected: it may be there for the program's own protocols. The host's
// streams and gossip are closed to it all the same.
type Members struct {
	host    host.Host
	network *atomic.Pointer[Network]
	shared  bool // the libp2p host is the program's
	log     *slog.Logger
	revoked *revocations

	// Of the network's keys: see Adopt.
	configured    crypto.PubKey // the root that the host was made with
	authority     *Authority    // nil unless the host was made with one
	keep          func(Network, *Authority) error
	adopting      sync.Mutex
	signedNetwork atomic.Pointer[[]byte]
	versions      sync.Map      // peer.ID → uint64: the version that it has shown
	renewing      chan struct{} // the root is another: the own membership is to be renewed

	ctx    context.Context // ends with the host
	cancel context.CancelFunc
	wg     sync.WaitGroup

	own     atomic.Pointer[member] // this node
	table   sync.Map               // peer.ID → *member: read for every stream and message, without a lock
	carried sync.Map               // topic → func([]byte) []byte: see Introduce

	mu       sync.Mutex
	count    int // entries of table
	asking   map[peer.ID]*admission
	greeting map[peer.ID]bool
	pending  map[peer.ID]bool // asked who the author of a message is
}

// A member is a membership that was verified. It is not changed.
type member struct {
	Membership
	signed []byte
	// stale: its connection has ended since. On the next one it shows the membership
	// that it has then.
	stale bool
}

type admission struct {
	done chan struct{}
	m    Membership
	err  error
}

const (
	// admissionTime is what a connected peer has to show its membership: within the 5
	// seconds that are promised.
	admissionTime = 4500 * time.Millisecond
	// tendEvery is how often ends of memberships are looked for.
	tendEvery = 500 * time.Millisecond
	// maxMembers bounds the table. Only what the root signed gets into it.
	maxMembers = 1 << 14
)

func newMembers(h host.Host, n *atomic.Pointer[Network], shared bool, revoked *revocations, log *slog.Logger) *Members {
	g := &Members{
		host: h, network: n, shared: shared, revoked: revoked, log: log, renewing: make(chan struct{}, 1),
		asking: map[peer.ID]*admission{}, greeting: map[peer.ID]bool{}, pending: map[peer.ID]bool{},
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g
}

// open starts answering and asking. The gate needs its own membership first.
func (g *Members) open() {
	g.host.SetStreamHandler(membershipProtocol, g.answer)
	g.host.Network().Notify(g.notifiee())
	for _, p := range g.host.Network().Peers() { // there may be some already
		g.greet(p)
	}
	g.spawn(g.tend)
}

func (g *Members) close() {
	g.host.Network().StopNotify(g.notifiee())
	g.host.RemoveStreamHandler(membershipProtocol)
	g.mu.Lock()
	g.cancel() // under the lock: after it nothing is spawned
	g.mu.Unlock()
	g.wg.Wait()
}

// spawn runs f until the gate is closed, unless it is.
func (g *Members) spawn(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ctx.Err() == nil {
		g.wg.Go(f)
	}
}

// membersNotifiee is comparable, which StopNotify needs.
type membersNotifiee struct {
	*network.NoopNotifiee // its methods need no value
	g                     *Members
}

func (g *Members) notifiee() network.Notifiee { return membersNotifiee{g: g} }

func (n membersNotifiee) Connected(_ network.Network, c network.Conn) { n.g.greet(c.RemotePeer()) }

func (n membersNotifiee) Disconnected(net network.Network, c network.Conn) {
	p := c.RemotePeer()
	if net.Connectedness(p) == network.Connected {
		return
	}
	n.g.mu.Lock()
	defer n.g.mu.Unlock()
	if m := n.g.lookup(p); m != nil {
		n.g.table.Store(p, &member{Membership: m.Membership, signed: m.signed, stale: true})
	}
}

// greet asks a new peer for its membership without waiting for the first stream to
// need it, and disconnects it when it shows none in time.
func (g *Members) greet(p peer.ID) {
	g.mu.Lock()
	busy := g.greeting[p]
	g.greeting[p] = true
	g.mu.Unlock()
	if busy {
		return
	}
	g.spawn(func() {
		err := g.admitInTime(p)
		g.mu.Lock()
		delete(g.greeting, p)
		g.mu.Unlock()
		if err != nil && g.ctx.Err() == nil {
			g.log.Warn("peer refused", "peer", p, "err", err)
			_ = g.host.Network().ClosePeer(p)
		}
	})
}

// admitInTime returns why a connected peer has to go, and nil where it may stay.
func (g *Members) admitInTime(p peer.ID) error {
	ctx, cancel := context.WithTimeout(g.ctx, admissionTime)
	defer cancel()
	for {
		err := g.meet(ctx, p)
		switch {
		case err == nil, g.host.Network().Connectedness(p) != network.Connected:
			return nil
		case errors.Is(err, ErrForbidden):
			return err
		}
		// It may be starting: what it listens with is there before its protocols.
		if !sleep(ctx, 100*time.Millisecond) {
			if g.shared || g.current(p, time.Now()) != nil { // a member that is slow, or the program's own peer
				return nil
			}
			return fmt.Errorf("%w: no membership shown within %s: %w", ErrForbidden, admissionTime, err)
		}
	}
}

// lookup returns what the table holds of a peer.
func (g *Members) lookup(p peer.ID) *member {
	if v, ok := g.table.Load(p); ok {
		return v.(*member)
	}
	return nil
}

// current returns a member whose membership holds now, or nil.
func (g *Members) current(p peer.ID, now time.Time) *member {
	m := g.lookup(p)
	if p == g.host.ID() {
		m = g.own.Load()
	}
	if m == nil || !now.Before(m.NotAfter) {
		return nil
	}
	return m
}

// learn takes a peer's signed membership in. The newest counts.
func (g *Members) learn(p peer.ID, signed []byte) (*member, error) {
	have := g.lookup(p)
	if have == nil || !bytes.Equal(have.signed, signed) {
		m, err := g.network.Load().Verify(signed, p, time.Now())
		if err != nil {
			return nil, err
		}
		if have == nil || !m.NotBefore.Before(have.NotBefore) {
			have = &member{Membership: m, signed: bytes.Clone(signed)}
		}
	}
	if have.stale {
		have = &member{Membership: have.Membership, signed: have.signed}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.revoked.has(p) { // under the lock: whoever revokes it takes it out after
		return nil, fmt.Errorf("%w: the membership of %s is revoked", ErrForbidden, p)
	}
	if g.lookup(p) == nil {
		if g.count >= maxMembers {
			g.evictLocked()
		}
		g.count++
	}
	g.table.Store(p, have)
	return have, nil
}

// evictLocked makes room: of those that are not connected, who would end first goes.
func (g *Members) evictLocked() {
	var first *member
	g.table.Range(func(_, v any) bool {
		if m := v.(*member); (first == nil || m.NotAfter.Before(first.NotAfter)) && g.host.Network().Connectedness(m.Peer) != network.Connected {
			first = m
		}
		return true
	})
	if first != nil {
		g.table.Delete(first.Peer)
		g.count--
	}
}

func (g *Members) forget(p peer.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, there := g.table.LoadAndDelete(p); there {
		g.count--
	}
}

func (g *Members) setOwn(signed []byte, m Membership) {
	g.own.Store(&member{Membership: m, signed: signed})
}

// admit returns p's membership, from memory or from p. Those who ask for the same
// peer at the same time share one answer.
func (g *Members) admit(ctx context.Context, p peer.ID) (Membership, error) {
	if p == g.host.ID() {
		return g.own.Load().Membership, nil
	}
	if m := g.current(p, time.Now()); m != nil && (!m.stale || g.host.Network().Connectedness(p) != network.Connected) {
		return m.Membership, nil
	}
	if g.revoked.has(p) {
		return Membership{}, fmt.Errorf("%w: the membership of %s is revoked", ErrForbidden, p)
	}
	g.mu.Lock()
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

// ask resolves an admission. It runs on the gate's own time: a caller that gives up
// does not fail the others. Values of the first caller's context (libp2p keeps dial
// options there) are kept.
func (g *Members) ask(caller context.Context, p peer.ID, a *admission) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(caller), admissionTime)
	defer cancel()
	stop := context.AfterFunc(g.ctx, cancel)
	defer stop()
	err := g.meet(ctx, p)
	if err == nil {
		if m := g.current(p, time.Now()); m != nil {
			a.m = m.Membership
		} else {
			err = fmt.Errorf("%w: %s is no member any more", ErrForbidden, p)
		}
	}
	a.err = err
	g.mu.Lock()
	delete(g.asking, p)
	g.mu.Unlock()
	close(a.done)
	if errors.Is(err, ErrForbidden) {
		_ = g.host.Network().ClosePeer(p)
	}
}

// guard holds a handler's streams back until their peer is admitted.
func (g *Members) guard(h network.StreamHandler) network.StreamHandler {
	return func(s network.Stream) {
		p := s.Conn().RemotePeer()
		if m := g.current(p, time.Now()); m == nil || m.stale {
			ctx, cancel := context.WithTimeout(g.ctx, admissionTime)
			_, err := g.admit(ctx, p)
			cancel()
			if err != nil {
				_ = s.Reset()
				return
			}
		}
		h(s)
	}
}

// tend ends connections of those whose membership has ended or was revoked, and asks
// for memberships that are about to end: their peers should have renewed them.
func (g *Members) tend() {
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	asked := map[peer.ID]time.Time{}
	for {
		select {
		case <-tick.C:
		case <-g.ctx.Done():
			return
		}
		now := time.Now()
		g.table.Range(func(_, v any) bool {
			m := v.(*member)
			margin := min(m.NotAfter.Sub(m.NotBefore)/6, time.Minute)
			switch {
			case !now.Before(m.NotAfter):
				delete(asked, m.Peer)
				g.forget(m.Peer)
				if g.host.Network().Connectedness(m.Peer) == network.Connected {
					g.log.Warn("peer refused", "peer", m.Peer, "err", "its membership ended and it has shown no other")
					_ = g.host.Network().ClosePeer(m.Peer)
				}
			case m.NotAfter.Sub(now) < margin && now.Sub(asked[m.Peer]) > margin/3 && g.host.Network().Connectedness(m.Peer) == network.Connected:
				asked[m.Peer] = now
				g.spawn(func() {
					ctx, cancel := context.WithTimeout(g.ctx, admissionTime)
					defer cancel()
					_ = g.meet(ctx, m.Peer)
				})
			}
			return true
		})
		for p, at := range asked {
			if now.Sub(at) > time.Minute {
				delete(asked, p)
			}
		}
		for _, p := range g.revoked.peers() {
			if g.host.Network().Connectedness(p) == network.Connected {
				_ = g.host.Network().ClosePeer(p)
			}
		}
		g.revoked.expire(g.ctx, now)
	}
}

// Signed returns this node's own membership as the root signed it.
func (g *Members) Signed() []byte { return g.own.Load().signed }

// Known returns a peer's membership from memory: it asks nobody. ok is false where
// none is known that holds now.
func (g *Members) Known(p peer.ID) (m Membership, ok bool) {
	if known := g.current(p, time.Now()); known != nil {
		return known.Membership, true
	}
	return Membership{}, false
}

// All returns the memberships that are known and hold now, this node's own included.
func (g *Members) All() []Membership {
	all := []Membership{g.own.Load().Membership}
	now := time.Now()
	g.table.Range(func(_, v any) bool {
		if m := v.(*member); now.Before(m.NotAfter) && m.Peer != g.host.ID() {
			all = append(all, m.Membership)
		}
		return true
	})
	return all
}

// Revoke makes known what Authority.Revoke signed: at once to all connected members,
// who tell theirs, and to others when they connect. It is kept in the host's store. A
// node that has it closes its connections to the peer and refuses its streams, calls
// and gossip. The same again changes nothing.
//
// ErrForbidden: the network's root did not sign it, or it has ended. ErrTooLarge: the
// node remembers no more.
func (g *Members) Revoke(ctx context.Context, signed []byte) error {
	return g.revoke(ctx, "", signed)
}

// Revoked reports whether a peer's membership is known to be revoked.
func (g *Members) Revoked(p peer.ID) bool { return g.revoked.has(p) }

// revoke takes revocations in that a peer has told of.
func (g *Members) revoke(ctx context.Context, from peer.ID, signed ...[]byte) error {
	var errs []error
	var news [][]byte
	for _, s := range signed {
		rev, fresh, err := g.revoked.add(ctx, s)
		if err != nil {
			errs = append(errs, err)
		}
		if !fresh {
			continue
		}
		news = append(news, s)
		g.forget(rev.Peer)
		if rev.Peer == g.host.ID() {
			g.log.Error("this node's membership is revoked: it is no member any more")
			continue
		}
		g.log.Warn("member revoked", "peer", rev.Peer)
		_ = g.host.Network().ClosePeer(rev.Peer)
	}
	if len(news) > 0 {
		g.tell(from, news)
	}
	return errors.Join(errs...)
}

// tell shows this node's membership, and news of revocations, to all connected
// members but one. It does not wait.
func (g *Members) tell(except peer.ID, news [][]byte) {
	const atOnce = 64
	places := make(chan struct{}, atOnce)
	for _, p := range g.host.Network().Peers() {
		if p == except || g.current(p, time.Now()) == nil {
			continue
		}
		g.spawn(func() {
			select {
			case places <- struct{}{}:
			case <-g.ctx.Done():
				return
			}
			defer func() { <-places }()
			for wait := 200 * time.Millisecond; ; wait *= 2 {
				ctx, cancel := context.WithTimeout(g.ctx, admissionTime)
				err := g.meet(ctx, p, news...)
				cancel()
				if err == nil || wait > 2*time.Second || g.host.Network().Connectedness(p) != network.Connected || !sleep(g.ctx, wait) {
					return // who was not reached is told on its next connection
				}
			}
		})
	}
}

// HandleStrangers sets a handler that peers reach which are no members, for as long
// as a connection has to show a membership. It is for how a node becomes a member, and
// for nothing else. remove takes it back.
func (g *Members) HandleStrangers(id protocol.ID, h network.StreamHandler) (remove func(), err error) {
	if slices.Contains(g.host.Mux().Protocols(), id) {
		return nil, fmt.Errorf("%w: this host already speaks %s", ErrConflict, id)
	}
	g.host.SetStreamHandler(id, h)
	return func() { g.host.RemoveStreamHandler(id) }, nil
}
