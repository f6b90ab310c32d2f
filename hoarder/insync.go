package hoarder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rendezvous"
)

// The in-sync set of a store, as each replica has it: the others without whose
// confirmation it acknowledges no write. It is in the node's record of the store, and,
// for those who look, in the registry:
//
//	/insync/<id>/<life>/<peer>   the set of <peer>
//
// It follows that a replica has every acknowledged write if it is in the sets of all
// that acknowledge any. One that starts is active, which is to say that it answers,
// once an active replica has taken it into its set and it has all that this one has. Where
// none is active, those that start become active together when each is there that is in
// the set of one of them: one that is not could have gone on alone.

// insync is what the registry says of a replica's set.
type insync struct {
	Set []peer.ID `json:"set"` // the others in it
	Seq uint64    `json:"seq"`
}

func insyncKey(r ref, p peer.ID) ds.Key {
	return ds.KeyWithNamespaces([]string{"insync", r.ID, strconv.FormatUint(r.Gen, 10), p.String()})
}

// Bounds of calls about a set. Who does not answer in that time is taken as away; the
// pulse of the connection finds a hung one about as soon.
const (
	askWait   = 700 * time.Millisecond
	admitWait = 5 * time.Second
	// standWait is how long a call waits until the replica is active: there may be
	// another one.
	standWait = 1500 * time.Millisecond
	// settleWait is how long one goes on trying to be active, before it is looked at
	// again at the interval or when it is used.
	settleWait = 10 * time.Second
)

// answers reports whether the replica may answer for the store now: it is active, and
// all in its set count on it.
func (s *Service) answers(h *hosting) bool {
	s.stores.mu.Lock()
	defer s.stores.mu.Unlock()
	return s.answersLocked(h)
}

func (s *Service) answersLocked(h *hosting) bool {
	if !h.active || !h.Ready || h.leaving {
		return false
	}
	for _, p := range h.Set {
		if l, ok := h.links[p]; !ok || !s.leases.good(p, l) {
			return false
		}
	}
	return true
}

// doubt has every replica make sure that it still has what the others have.
func (s *Service) doubt() {
	s.stores.mu.Lock()
	defer s.stores.mu.Unlock()
	for _, h := range s.stores.all {
		if len(h.Set) > 0 {
			h.active = false
			h.doubts++
		}
	}
}

// shares reports whether another is in the set of some store.
func (s *Service) shares(p peer.ID) bool {
	s.stores.mu.Lock()
	defer s.stores.mu.Unlock()
	for _, h := range s.stores.all {
		if slices.Contains(h.Set, p) {
			return true
		}
	}
	return false
}

// dropMember takes another out of the set, once it knows or its lease has run out. It is
// on disk and in the registry before a write is acknowledged without it.
func (s *Service) dropMember(ctx context.Context, h *hosting, p peer.ID, doubts int) error {
	if !slices.Contains(s.recordOf(h).Set, p) {
		return nil
	}
	quiet, err := s.leases.shut(ctx, p)
	if err != nil {
		return err
	}
	// It may be that it was this node that did not get on: then the other could have gone
	// on without it.
	for ticks := s.ticks.Load(); s.ticks.Load() == ticks; {
		if !pause(ctx, 5*time.Millisecond) {
			return ctx.Err()
		}
	}
	s.stores.mu.Lock()
	doubted := h.doubts != doubts
	s.stores.mu.Unlock()
	if doubted {
		return fmt.Errorf("%w: this node was stopped", taubyte.ErrUnavailable)
	}
	if !slices.Contains(s.recordOf(h).Set, p) {
		return nil // somebody else was faster
	}
	s.o.log.Info("a replica is not in sync any more", "store", h.ref, "peer", p, "silent", quiet != nil)
	if quiet != nil {
		if err := s.fellSilent(ctx, h, *quiet); err != nil {
			return err
		}
	}
	return s.setMember(ctx, h, p, nil)
}

// setMember puts another into the set, or takes it out where there is no link.
func (s *Service) setMember(ctx context.Context, h *hosting, p peer.ID, l *link) error {
	s.stores.mu.Lock()
	if l != nil {
		h.links[p] = *l
	} else {
		delete(h.links, p)
	}
	s.stores.mu.Unlock()
	if l != nil {
		s.leases.keep(p)
	}
	return s.changeSet(ctx, h, func(set []peer.ID) []peer.ID {
		set = slices.DeleteFunc(slices.Clone(set), func(q peer.ID) bool { return q == p })
		if l != nil {
			set = append(set, p)
			slices.Sort(set)
		}
		return set
	})
}

func (s *Service) changeSet(ctx context.Context, h *hosting, change func([]peer.ID) []peer.ID) error {
	h.saving.Lock()
	is := s.recordOf(h)
	next := change(is.Set)
	if slices.Equal(next, is.Set) && is.SetSeq > 0 {
		h.saving.Unlock()
		return nil
	}
	err := s.saveLocked(ctx, h, func(h *hosted) { h.Set, h.SetSeq = next, h.SetSeq+1 })
	h.saving.Unlock()
	if err != nil {
		return err
	}
	if err := put(ctx, s.registry, insyncKey(h.ref, s.host.ID()), insync{next, is.SetSeq + 1}); err != nil {
		return err
	}
	if len(next) < len(is.Set) {
		s.confirmSet(ctx, h, is.SetSeq+1, append(slices.Clone(is.Set), next...))
	}
	s.stores.mu.Lock()
	defer s.stores.mu.Unlock()
	if h.rep != nil {
		h.rep.nudge()
	}
	return nil
}

// confirmSet has one more hoarder know of a set that has become smaller, if there is one
// that is not of the store: it is asked when this node is lost.
func (s *Service) confirmSet(ctx context.Context, h *hosting, seq uint64, members []peer.ID) {
	ctx, cancel := context.WithTimeout(ctx, askWait/2)
	defer cancel()
	for _, p := range rendezvous.Rank(h.ref.ID, s.live()) {
		if p == s.host.ID() || slices.Contains(members, p) {
			continue
		}
		if err := s.peers.knowsSet(ctx, p, h.ref, s.host.ID(), seq); err == nil || ctx.Err() != nil {
			return
		}
	}
}

// knowsSet returns when this node knows the set of another replica.
func (s *Service) knowsSet(ctx context.Context, r ref, p peer.ID, seq uint64) error {
	if err := s.registry.Await(ctx, insyncKey(r, p)); err != nil {
		return err
	}
	for {
		var is insync
		if err := read(ctx, s.registry, insyncKey(r, p), &is); err != nil || is.Seq >= seq {
			return err
		}
		if !pause(ctx, 5*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// rejoins reports whether the replica is not active, or others that are there are not in
// its set.
func (s *Service) rejoins(h *hosting, e entry, live []peer.ID) bool {
	s.stores.mu.Lock()
	defer s.stores.mu.Unlock()
	if !h.Ready || h.leaving {
		return false
	}
	if !h.active || h.SetSeq == 0 {
		return true
	}
	for _, p := range h.Set {
		if l, ok := h.links[p]; !ok || !s.leases.good(p, l) {
			return true
		}
	}
	return slices.ContainsFunc(e.hosts, func(p peer.ID) bool {
		return p != s.host.ID() && slices.Contains(live, p) && !slices.Contains(h.Set, p)
	})
}

// rejoin brings the set to what it should be: it is what heals after a cut.
func (s *Service) rejoin(ctx context.Context, h *hosting, e entry) error {
	s.stores.mu.Lock()
	h.users++
	s.stores.mu.Unlock()
	defer s.doneQuietly(h)
	if err := s.stand(ctx, h); err != nil {
		return err
	}
	rep, err := s.openIt(ctx, h, false)
	if err != nil {
		return err
	}
	var errs error
	for p, st := range s.askAll(ctx, h, e) {
		if !slices.Contains(s.recordOf(h).Set, p) && st.Active {
			errs = errors.Join(errs, s.enter(ctx, h, rep, p))
		}
	}
	return errs
}

// hoarders is how many there are, as far as this node knows, those included that are
// away and not given up.
type hoarders struct {
	mu    sync.Mutex
	n     int
	until time.Time
}

// wanted is how many disks a store should be on, of the hoarders that there are.
func (s *Service) wanted(h *hosting, least int) int {
	if least < 2 {
		return least
	}
	s.hoarders.mu.Lock()
	defer s.hoarders.mu.Unlock()
	if now := time.Now(); now.After(s.hoarders.until) {
		known := map[peer.ID]bool{}
		for _, p := range s.live() {
			known[p] = true
		}
		s.stores.mu.Lock()
		for p := range s.stores.peers {
			known[p] = true
		}
		s.stores.mu.Unlock()
		s.hoarders.n, s.hoarders.until = len(known), now.Add(time.Second)
	}
	return min(least, max(s.hoarders.n, 1+len(s.recordOf(h).Set)))
}
