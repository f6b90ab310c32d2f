package crdt

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
)

// Messages of the store's topic: a kind, and then
//
//	blocks: new blocks of the author, each with its length before it
//	have:   the vector of the author
const (
	kindBlocks = 1
	kindHave   = 2
)

const (
	maxMessage = 1 << 20
	// inMessage is how many bytes of blocks go into one message. What is
	// bigger is pulled.
	inMessage = 512 << 10
	// maxUntold bounds what waits to be told. More is pulled.
	maxUntold = 8 << 20
	// After a change a replica says soon what it has, for those that missed a
	// message, and then less and less often.
	soonest, latest = 100 * time.Millisecond, 5 * time.Second
)

// gossip tells the members of a store's topic what is new.
type gossip struct {
	s     *Store
	topic *pubsub.Topic
	sub   *pubsub.Subscription
	meets *pubsub.TopicEventHandler

	mu     sync.Mutex
	untold []*block
	bytes  int
	fresh  chan struct{} // something is untold, or changed
	acked  map[peer.ID]vector
	joined map[peer.ID]bool // those that were in the topic once
	lacks  map[peer.ID]bool // those that have other stores, were asked for this one, and never joined
}

func newGossip(s *Store) (*gossip, error) {
	g := &gossip{s: s, fresh: make(chan struct{}, 1), acked: map[peer.ID]vector{}, joined: map[peer.ID]bool{}, lacks: map[peer.ID]bool{}}
	ps, name := s.host.PubSub(), string(s.protocol())
	if err := ps.RegisterTopicValidator(name, g.validate); err != nil {
		return nil, fmt.Errorf("%w: is it open already on this host? %w", taubyte.ErrConflict, err)
	}
	var err error
	if g.topic, err = ps.Join(name); err != nil {
		return nil, errors.Join(err, ps.UnregisterTopicValidator(name))
	}
	if g.sub, err = g.topic.Subscribe(pubsub.WithBufferSize(1024)); err != nil {
		return nil, errors.Join(err, g.close())
	}
	if g.meets, err = g.topic.EventHandler(); err != nil {
		g.sub.Cancel()
		return nil, errors.Join(err, g.close())
	}
	return g, nil
}

// end ends what goroutines wait on.
func (g *gossip) end() {
	g.sub.Cancel()
	g.meets.Cancel()
}

func (g *gossip) close() error {
	return errors.Join(g.topic.Close(), g.s.host.PubSub().UnregisterTopicValidator(g.topic.String()))
}

// validate passes on and takes what replicas say of themselves. The signature
// of the author was checked before.
func (g *gossip) validate(ctx context.Context, _ peer.ID, msg *pubsub.Message) pubsub.ValidationResult {
	author := msg.GetFrom()
	if author == g.s.host.ID() {
		return pubsub.ValidationAccept
	}
	if len(msg.Data) == 0 || len(msg.Data) > maxMessage {
		return pubsub.ValidationReject
	}
	switch err := g.s.isWriter(ctx, author); {
	case errors.Is(err, taubyte.ErrForbidden):
		g.s.log.Warn("change refused", "author", author, "err", err)
		return pubsub.ValidationReject
	case err != nil:
		return pubsub.ValidationIgnore // not reached now; what it has is pulled later
	}
	return pubsub.ValidationAccept
}

// isWriter returns ErrForbidden for a member that is no replica of the store.
func (s *Store) isWriter(ctx context.Context, p peer.ID) error {
	m, err := s.host.Member(ctx, p)
	if err != nil {
		return err
	}
	if len(s.opts.writers) > 0 && !m.Has(s.opts.writers...) {
		return fmt.Errorf("%w: %s is %v and none of %v", taubyte.ErrForbidden, p, m.Roles, s.opts.writers)
	}
	return nil
}

func (g *gossip) listen() {
	for {
		msg, err := g.sub.Next(g.s.life)
		if err != nil {
			return
		}
		if from := msg.GetFrom(); from != g.s.host.ID() {
			if err := g.hear(from, msg.Data); err != nil && g.s.life.Err() == nil {
				g.s.log.Warn("change refused", "author", from, "err", err)
			}
		}
	}
}

func (g *gossip) hear(from peer.ID, data []byte) error {
	d := decoder{b: data[1:]}
	switch data[0] {
	case kindHave:
		v := d.vector()
		if err := d.end(); err != nil {
			return err
		}
		g.has(from, v)
		return nil
	case kindBlocks:
		var blocks []arrived
		for len(d.b) > 0 {
			b, err := parseBlock(d.bytes())
			if err != nil {
				return err
			}
			blocks = append(blocks, arrived{b, from})
		}
		if err := d.end(); err != nil {
			return err
		}
		// Not waited for, so that what comes fast shares a write to disk.
		return g.s.hand(g.s.life, &op{blocks: blocks, failed: func(err error) {
			g.s.log.Warn("change refused", "author", from, "err", err)
		}})
	}
	return nil // of a later version
}

// has takes note of what a member has.
func (g *gossip) has(p peer.ID, v vector) {
	g.mu.Lock()
	g.acked[p] = v
	g.mu.Unlock()
	if !g.s.st.covers(v) {
		g.s.puller.want(p)
	}
}

// mayWrite implements others.
func (g *gossip) mayWrite(ctx context.Context) error { return g.s.isWriter(ctx, g.s.host.ID()) }

// want implements others.
func (g *gossip) want(p peer.ID) { g.s.puller.want(p) }

// repair implements others.
func (g *gossip) repair() { g.s.puller.repair() }

// everywhere implements others.
func (g *gossip) everywhere() (vector, bool) {
	all := g.s.st.vector()
	for _, p := range g.topic.ListPeers() {
		g.mu.Lock()
		v, ok := g.acked[p]
		g.mu.Unlock()
		if !ok {
			return nil, false
		}
		for w, seq := range all {
			all[w] = min(seq, v[w])
		}
	}
	return all, true
}

// tell has blocks told, and soon what this replica has.
func (g *gossip) tell(blocks []*block) {
	g.mu.Lock()
	for _, b := range blocks {
		if g.bytes+len(b.raw) <= maxUntold && len(b.raw) <= inMessage {
			g.untold = append(g.untold, b)
			g.bytes += len(b.raw)
		}
	}
	g.mu.Unlock()
	select {
	case g.fresh <- struct{}{}:
	default:
	}
}

func (g *gossip) speak() {
	ctx, wait := g.s.life, soonest
	next := time.NewTimer(wait)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.fresh:
			if wait != soonest {
				wait = soonest
				next.Reset(wait)
			}
			for msg := g.message(); msg != nil && ctx.Err() == nil; msg = g.message() {
				g.publish(ctx, msg)
			}
		case <-next.C:
			g.publish(ctx, appendVector([]byte{kindHave}, g.s.st.vector()))
			wait = min(wait*3, latest)
			next.Reset(wait + rand.N(wait/4))
		}
	}
}

// publish tells the members of the topic. Whoever joins it later pulls: a message to
// nobody would be signed and checked for nothing.
func (g *gossip) publish(ctx context.Context, msg []byte) {
	if len(g.topic.ListPeers()) == 0 {
		return
	}
	if err := g.topic.Publish(ctx, msg); err != nil && ctx.Err() == nil {
		g.s.log.Warn("change not told", "err", err)
	}
}

// message takes what fits of the untold blocks; nil when there are none.
func (g *gossip) message() []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.untold) == 0 {
		return nil
	}
	msg := []byte{kindBlocks}
	n := 0
	for _, b := range g.untold {
		if n > 0 && len(msg)+len(b.raw) > inMessage {
			break
		}
		msg = appendBytes(msg, b.raw)
		g.bytes -= len(b.raw)
		n++
	}
	g.untold = slices.Delete(g.untold, 0, n)
	return msg
}

// meet pulls from replicas as they appear.
func (g *gossip) meet() {
	for _, p := range g.candidates() {
		g.s.puller.want(p)
	}
	for {
		e, err := g.meets.NextPeerEvent(g.s.life)
		if err != nil {
			return
		}
		if e.Type == pubsub.PeerJoin {
			g.mu.Lock()
			g.joined[e.Peer] = true
			delete(g.lacks, e.Peer)
			g.mu.Unlock()
			g.s.puller.want(e.Peer)
			g.tell(nil)
			continue
		}
		g.mu.Lock()
		delete(g.acked, e.Peer)
		g.mu.Unlock()
	}
}

// peers returns the connected members that replicate the store: those in its topic.
func (g *gossip) peers() []peer.ID { return g.writers(g.topic.ListPeers()) }

// candidates returns peers, and the connected members that replicate other stores and
// may replicate this one too: that a member is in a topic is heard of a moment after
// the connection.
func (g *gossip) candidates() []peer.ID {
	found := g.topic.ListPeers()
	h := g.s.host
	for _, p := range h.Network().Peers() {
		if ids, err := h.Peerstore().SupportsProtocols(p, Protocol); err != nil || len(ids) == 0 {
			continue
		}
		g.mu.Lock()
		lacks := g.lacks[p]
		g.mu.Unlock()
		if !lacks && !slices.Contains(found, p) {
			found = append(found, p)
		}
	}
	return g.writers(found)
}

// hasNone takes note that a member does not have the store open. It reports whether
// that is to be believed, and not of one that just opens it.
func (g *gossip) hasNone(p peer.ID) bool {
	if slices.Contains(g.topic.ListPeers(), p) {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.joined[p] {
		g.lacks[p] = true
	}
	return true
}

// wasHere reports whether a member was in the topic once.
func (g *gossip) wasHere(p peer.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.joined[p]
}

// writers leaves those that are connected and may replicate the store.
func (g *gossip) writers(of []peer.ID) []peer.ID {
	return slices.DeleteFunc(slices.Sorted(slices.Values(of)), func(p peer.ID) bool {
		ctx, cancel := context.WithTimeout(g.s.life, time.Second)
		defer cancel()
		return !g.s.connected(p) || g.s.isWriter(ctx, p) != nil
	})
}

func (s *Store) connected(p peer.ID) bool {
	return s.host.Network().Connectedness(p) == network.Connected
}
