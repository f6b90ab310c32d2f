package hoarder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/crdt"
	"github.com/taubyte/taubyte/internal/rendezvous"
	"github.com/taubyte/taubyte/internal/rpc"
)

// follow turns events of the registry into roots to look at.
func (s *Service) follow(events <-chan crdt.Event) {
	for e := range events {
		if e.Lost {
			s.lookAtAll()
			s.lookAtAllStores()
			continue
		}
		if id, ok := isStoreKey(e.Key); ok {
			s.lookStore(id)
		} else if parts := e.Key.List(); len(parts) >= 3 {
			if root, err := cid.Decode(parts[1]); err == nil {
				s.look(root)
			}
		}
	}
}

// watchPeers looks at everything when hoarders come and go.
func (s *Service) watchPeers() error {
	sub, err := s.host.EventBus().Subscribe([]any{
		new(event.EvtPeerIdentificationCompleted), new(event.EvtPeerProtocolsUpdated), new(event.EvtPeerConnectednessChanged),
	})
	if err != nil {
		return fmt.Errorf("watching peers: %w", err)
	}
	s.wg.Go(func() {
		defer sub.Close()
		for {
			select {
			case _, ok := <-sub.Out():
				if !ok {
					return
				}
				s.lookAtAll()
				s.lookAtAllStores()
			case <-s.life.Done():
				return
			}
		}
	})
	return nil
}

func (s *Service) look(root cid.Cid) {
	s.mu.Lock()
	s.todo[root] = struct{}{}
	s.mu.Unlock()
	s.nudge()
}

func (s *Service) lookAtAll() {
	s.mu.Lock()
	s.all = true
	s.mu.Unlock()
	s.nudge()
}

func (s *Service) nudge() {
	select {
	case s.dirty <- struct{}{}:
	default:
	}
}

// tend brings what this node holds and what the registry asks for together.
func (s *Service) tend() {
	tick := time.NewTicker(s.o.interval)
	defer tick.Stop()
	s.lookAtAll()
	for {
		select {
		case <-s.dirty:
		case <-tick.C:
			s.lookAtAll()
		case <-s.life.Done():
			return
		}
		for _, root := range s.due() {
			if err := s.reconcile(s.life, root); err != nil && s.life.Err() == nil {
				s.o.log.Warn("looking after content", "root", root, "err", err)
			}
		}
	}
}

func (s *Service) due() []cid.Cid {
	s.mu.Lock()
	todo, all := s.todo, s.all
	s.todo, s.all = map[cid.Cid]struct{}{}, false
	s.mu.Unlock()
	if all {
		items, err := s.Items(s.life)
		for _, i := range items {
			todo[i.Root] = struct{}{}
		}
		held, err2 := s.held(s.life)
		for root := range held {
			todo[root] = struct{}{}
		}
		if err = errors.Join(err, err2); err != nil && s.life.Err() == nil {
			s.o.log.Warn("looking over the registry", "err", err)
		}
	}
	roots := make([]cid.Cid, 0, len(todo))
	for root := range todo {
		roots = append(roots, root)
	}
	return roots
}

// fetches is how many DAGs a node pulls from others at a time.
const fetches = 4

// reconcile does what this node has to do about a root.
func (s *Service) reconcile(ctx context.Context, root cid.Cid) error {
	h, ok, err := s.has(ctx, root)
	if err != nil {
		return err
	}
	item, err := s.Item(ctx, root)
	if err != nil && !errors.Is(err, taubyte.ErrNotFound) {
		return err
	}
	item.Root = root
	switch {
	case h.Dropping, ok && (len(item.Claims) == 0 || s.surplus(item)):
		return s.collectSoon(root)
	case ok: // a crash may have come between the record and the statement
		return s.record(ctx, root, h.Size)
	default:
		self := s.host.ID()
		if h == (have{}) && slices.ContainsFunc(item.Replicas, func(r Replica) bool { return r.Peer == self }) {
			// The registry knows of a replica that is not on this disk: it was lost.
			s.o.log.Warn("content is not on this node's disk any more", "root", root)
			if err := remove(ctx, s.registry, replicaKey(root, self)); err != nil {
				return err
			}
			item.Replicas = slices.DeleteFunc(item.Replicas, func(r Replica) bool { return r.Peer == self })
		}
		if len(item.Claims) > 0 && s.mine(item) {
			s.pull(root)
		}
	}
	return nil
}

// collectSoon collects in the background: it waits for whoever holds.
func (s *Service) collectSoon(root cid.Cid) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.collecting[root] || s.life.Err() != nil {
		return nil
	}
	s.collecting[root] = true
	s.wg.Go(func() {
		err := s.collectSafely(s.life, root)
		s.mu.Lock()
		delete(s.collecting, root)
		s.mu.Unlock()
		if err != nil && s.life.Err() == nil {
			s.o.log.Warn("deleting content", "root", root, "err", err)
		}
	})
	return nil
}

// pull fetches a root in the background; when all hands are full, the next look
// over everything tries again.
func (s *Service) pull(root cid.Cid) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fetching[root] != nil || s.pulling >= fetches || s.life.Err() != nil {
		return
	}
	s.pulling++
	s.wg.Go(func() {
		err := s.fetch(s.life, root, nil) // logged where it fails
		s.mu.Lock()
		s.pulling--
		s.mu.Unlock()
		if err == nil {
			s.lookAtAll() // there are hands again
		}
	})
}

// live lists the hoarders that this node sees, itself among them: those that the
// directory of nodes names, and connected peers that speak the protocol.
func (s *Service) live() []peer.ID {
	live := []peer.ID{s.host.ID()}
	if f, ok := s.host.Local(rpc.FinderProtocol).(rpc.Finder); ok {
		live = append(live, f.Find(Protocol)...)
	}
	for _, p := range s.host.Network().Peers() {
		if known, err := s.host.Peerstore().SupportsProtocols(p, Protocol); err == nil && len(known) > 0 {
			live = append(live, p)
		}
	}
	live = slices.DeleteFunc(live, func(p peer.ID) bool { return p != s.host.ID() && s.host.Members().Revoked(p) })
	slices.Sort(live)
	return slices.Compact(live)
}

// mine reports whether this node is one of those that have to pull the item.
func (s *Service) mine(i Item) bool {
	wanted, _ := i.Wanted()
	var holders []peer.ID
	for _, r := range i.Replicas {
		if r.Live {
			holders = append(holders, r.Peer)
			s.back(r.Peer)
			wanted--
		} else if !s.gone(r.Peer) {
			wanted--
		}
	}
	if wanted <= 0 {
		return false
	}
	free := slices.DeleteFunc(s.live(), func(p peer.ID) bool {
		return slices.Contains(holders, p) || slices.Contains(i.full, p)
	})
	ranked := rendezvous.Rank(i.Root.KeyString(), free)
	return slices.Contains(ranked[:min(wanted, len(ranked))], s.host.ID())
}

// surplus reports whether so many others hold the item, all of them before this
// node in its order, that it may go here. The first in the order never goes.
func (s *Service) surplus(i Item) bool {
	_, most := i.Wanted()
	if most == 0 {
		return false
	}
	return slices.Index(rendezvous.Rank(i.Root.KeyString(), i.holders()), s.host.ID()) >= most
}

// gone reports whether a holder has been away for longer than the grace.
func (s *Service) gone(p peer.ID) bool { return s.goneFor(p, s.o.grace) }

func (s *Service) goneFor(p peer.ID, grace time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	since, ok := s.missing[p]
	if !ok {
		s.missing[p] = time.Now()
		return grace == 0
	}
	return time.Since(since) >= grace
}

func (s *Service) back(p peer.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.missing, p)
}

// announce provides the roots on the DHT, so that any member finds them without
// asking the registry.
func (s *Service) announce() {
	const again = 12 * time.Hour // provider records live for two days
	told := map[cid.Cid]time.Time{}
	tick := time.NewTicker(s.o.interval)
	defer tick.Stop()
	for {
		held, err := s.held(s.life)
		if err != nil && s.life.Err() == nil {
			s.o.log.Warn("announcing content", "err", err)
		}
		for root := range told {
			if _, ok := held[root]; !ok {
				delete(told, root)
			}
		}
		for root, h := range held {
			if h.Dropping || time.Since(told[root]) < again || len(s.host.Network().Peers()) == 0 {
				continue
			}
			ctx, cancel := context.WithTimeout(s.life, time.Minute)
			if s.host.Routing().Provide(ctx, root, true) == nil {
				told[root] = time.Now()
			}
			cancel()
		}
		select {
		case <-tick.C:
		case <-s.life.Done():
			return
		}
	}
}
