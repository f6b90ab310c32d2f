package hoarder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rendezvous"
)

// lookStore has a store looked after soon.
func (s *Service) lookStore(id string) {
	s.mu.Lock()
	s.todoStores[id] = struct{}{}
	s.mu.Unlock()
	s.nudgeStores()
}

func (s *Service) lookAtAllStores() {
	s.mu.Lock()
	s.allStores = true
	s.mu.Unlock()
	s.nudgeStores()
}

func (s *Service) nudgeStores() {
	select {
	case s.dirtyStores <- struct{}{}:
	default:
	}
}

// tendStores brings the replicas that this node has and those that it should have
// together, one store after the other: so data moves at a modest pace.
func (s *Service) tendStores() {
	tick := time.NewTicker(s.o.interval)
	defer tick.Stop()
	s.lookAtAllStores()
	for {
		select {
		case <-s.dirtyStores:
		case <-tick.C:
			s.lookAtAllStores()
			s.closeIdle()
		case <-s.life.Done():
			return
		}
		if err := s.tendDue(s.life); err != nil && s.life.Err() == nil {
			s.o.log.Warn("looking after the stores", "err", err)
		}
	}
}

// tendDue looks after the stores that something was heard of, or after all.
func (s *Service) tendDue(ctx context.Context) error {
	s.mu.Lock()
	todo, all := s.todoStores, s.allStores
	s.todoStores, s.allStores = map[string]struct{}{}, false
	s.mu.Unlock()
	entries := map[string]*entry{}
	var err error
	if all {
		if err := s.forgetRevoked(ctx); err != nil {
			return err
		}
		if entries, err = s.storeEntries(ctx, ""); err != nil {
			return err
		}
	}
	for id := range todo {
		if entries[id] != nil {
			continue
		}
		e, err := s.storeEntry(ctx, id)
		if err != nil {
			return err
		}
		entries[id] = &e
	}
	if all {
		peers := map[peer.ID]bool{}
		for _, e := range entries {
			for _, p := range e.hosts {
				peers[p] = true
			}
		}
		s.stores.mu.Lock()
		s.stores.peers = peers
		s.stores.mu.Unlock()
		if err := s.returned(ctx); err != nil {
			return err
		}
		s.hearNew()
	}
	live := s.live()
	for _, h := range s.hostings() {
		if e := entries[h.ref.ID]; e != nil && h.ref.Gen < e.ref.Gen { // dropped
			s.work(h.ref.ID, func() error { return s.destroy(ctx, h.ref) })
		}
	}
	var errs error
	for _, e := range entries {
		if e.known {
			errs = errors.Join(errs, s.tendStore(ctx, *e, live))
		}
	}
	return errs
}

// tendStore does what this node has to do about a store.
func (s *Service) tendStore(ctx context.Context, e entry, live []peer.ID) error {
	if err := s.respecifyMine(ctx, e); err != nil {
		return err
	}
	s.stores.mu.Lock()
	mine := s.stores.all[e.ref]
	ready := mine != nil && mine.Ready
	s.stores.mu.Unlock()
	id, self := e.ref.ID, s.host.ID()
	if mine == nil && slices.Contains(e.hosts, self) {
		// The registry knows of a replica that is not on this disk: it was lost.
		s.o.log.Warn("a replica is not on this node's disk any more", "store", e.ref)
		for _, key := range []ds.Key{hostKey(e.ref, self), insyncKey(e.ref, self)} {
			if err := remove(ctx, s.registry, key); err != nil {
				return err
			}
		}
		e.hosts = s.withoutSelf(e.hosts)
	}
	top := s.top(e, live)
	settled := containsAll(e.hosts, top) && containsAll(live, top) // all that should have it do
	switch {
	case ready && !slices.Contains(top, self) && settled:
		s.work(id, func() error { return s.leave(ctx, mine, e, top) })
	case ready:
		if !slices.Contains(e.hosts, self) { // a crash came between, or it was given up
			if err := put(ctx, s.registry, hostKey(e.ref, self), struct{}{}); err != nil {
				return err
			}
		}
		if settled && slices.Index(top, self) == 0 {
			if err := s.giveUp(ctx, e, top, live); err != nil {
				return err
			}
		}
		switch {
		case s.rejoins(mine, e, live):
			s.work(id, func() error { return s.rejoin(ctx, mine, e) })
		case s.expires(mine, e, live):
			s.work(id, func() error { return s.expire(ctx, mine) })
		case s.unshared(mine) && containsAll(live, e.hosts):
			s.work(id, func() error { return s.share(ctx, mine, e) })
		}
	case slices.Contains(top, self) && slices.ContainsFunc(e.hosts, func(p peer.ID) bool { return slices.Contains(live, p) }):
		s.work(id, func() error { return s.join(ctx, e.ref, e.told) })
	case mine != nil && len(e.hosts) > 0 && !slices.Contains(top, self):
		s.work(id, func() error { return s.destroy(ctx, e.ref) }) // it was about to join
	}
	return nil
}

// containsAll reports whether all of some are among the others.
func containsAll(all, some []peer.ID) bool {
	for _, p := range some {
		if !slices.Contains(all, p) {
			return false
		}
	}
	return true
}

// works is how many stores a node works on at a time: data moves at a modest pace.
const works = 2

// work does something about a store in the background, unless something is being
// done; when all hands are full, the next look over everything tries again.
func (s *Service) work(id string, do func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.working[id] {
		s.again[id] = true
		return
	}
	if len(s.working) >= works || s.life.Err() != nil {
		return
	}
	s.working[id] = true
	s.wg.Go(func() {
		err := do()
		switch {
		case err == nil || s.life.Err() != nil:
		case errors.Is(err, taubyte.ErrUnavailable):
			s.o.log.Debug("a store has to wait", "store", id, "err", err)
		default:
			s.o.log.Warn("working on a store", "store", id, "err", err)
		}
		s.mu.Lock()
		full := len(s.working) >= works
		delete(s.working, id)
		more := s.again[id]
		delete(s.again, id)
		s.mu.Unlock()
		switch {
		case err != nil: // not at once again
		case full:
			s.lookAtAllStores() // there are hands again
		case more:
			s.lookStore(id) // something changed meanwhile
		}
	})
}

// giveUp takes hosts out of the registry that are gone, as all that should have the
// store have it. One that comes back enters itself again.
func (s *Service) giveUp(ctx context.Context, e entry, top, live []peer.ID) error {
	for _, p := range e.hosts {
		if !slices.Contains(live, p) && !slices.Contains(top, p) && s.goneFor(p, s.patience(e, live)) {
			if err := remove(ctx, s.registry, hostKey(e.ref, p)); err != nil {
				return err
			}
		}
	}
	return nil
}

// patience is how long a host may be away before another takes its place. Where
// enough are left there is no hurry to copy everything.
func (s *Service) patience(e entry, live []peer.ID) time.Duration {
	there := 0
	for _, p := range e.hosts {
		if slices.Contains(live, p) {
			there++
		}
	}
	if there >= e.Spec.Min {
		return s.o.grace * 10
	}
	return s.o.grace
}

// top are the hoarders that should have a store: the first in its order of those that
// are there, or have been till a moment ago, and have room.
func (s *Service) top(e entry, live []peer.ID) []peer.ID {
	patience := s.patience(e, live)
	candidates := slices.DeleteFunc(slices.Clone(live), func(p peer.ID) bool {
		return slices.Contains(e.full, p) && !slices.Contains(e.hosts, p)
	})
	for _, p := range e.hosts {
		if slices.Contains(live, p) {
			s.back(p)
			continue
		}
		if !s.goneFor(p, patience) {
			candidates = append(candidates, p)
		}
	}
	ranked := rendezvous.Rank(e.ref.ID, candidates)
	return ranked[:min(e.Spec.Max, len(ranked))]
}

// respecifyMine takes over what a store should be now.
func (s *Service) respecifyMine(ctx context.Context, e entry) error {
	s.stores.mu.Lock()
	h := s.stores.all[e.ref]
	same := h == nil || h.Spec == e.Spec
	s.stores.mu.Unlock()
	if same {
		return nil
	}
	if err := s.saveHosting(ctx, h, func(h *hosted) { h.told, h.Expires = e.told, time.Time{} }); err != nil {
		return err
	}
	s.stores.mu.Lock()
	rep := h.rep
	s.stores.mu.Unlock()
	if rep != nil {
		rep.mu.Lock()
		rep.spec = e.Spec
		rep.mu.Unlock()
	}
	return nil
}

// unshared reports whether something was written here that others may not have, and
// nobody writes any more.
func (s *Service) unshared(h *hosting) bool {
	s.stores.mu.Lock()
	defer s.stores.mu.Unlock()
	return h.Dirty && h.users == 0 && time.Since(h.used) > s.o.interval
}

// share has the other replicas take over what was written here: they may be closed,
// or have been away.
func (s *Service) share(ctx context.Context, h *hosting, e entry) error {
	s.stores.mu.Lock()
	h.users++
	s.stores.mu.Unlock()
	defer s.doneQuietly(h)
	return s.handOver(ctx, h, e)
}

// handOver has every other replica get what is here and answer for the store as well,
// and if they all do, remembers it. The caller is a user of the store.
func (s *Service) handOver(ctx context.Context, h *hosting, e entry) error {
	rep, err := s.openIt(ctx, h, false)
	if err != nil {
		return err
	}
	h.saving.Lock()
	rep.written = false
	h.saving.Unlock()
	e.hosts = s.others(h, e)
	if _, n := s.wakeOthers(ctx, e, rep.position(), rep.kind == kindStorage); n < len(e.hosts) || !s.allActive(ctx, h, e) {
		return fmt.Errorf("%w: not all replicas have all", taubyte.ErrUnavailable) // they are asked again
	}
	h.saving.Lock()
	defer h.saving.Unlock()
	if rep.written {
		return nil
	}
	return s.saveLocked(ctx, h, func(h *hosted) { h.Dirty = false })
}

// allActive reports whether all other replicas are in the set and answer for the store.
func (s *Service) allActive(ctx context.Context, h *hosting, e entry) bool {
	set, _ := s.setOf(h)
	answers := s.askAll(ctx, h, e)
	for _, p := range e.hosts {
		if !answers[p].Active || !answers[p].In || !slices.Contains(set, p) {
			return false
		}
	}
	return true
}

// leave gives a replica up that is one too many, once those that should have the store
// have all of it.
func (s *Service) leave(ctx context.Context, h *hosting, e entry, top []peer.ID) error {
	s.stores.mu.Lock()
	h.leaving = true // nothing new is written
	h.users++
	s.stores.mu.Unlock()
	handed := false
	rep, err := s.openLeaving(ctx, h)
	if err == nil {
		e.hosts = top
		_, n := s.wakeOthers(ctx, e, rep.position(), rep.kind == kindStorage)
		handed = n == len(top) && s.allActive(ctx, h, e)
	}
	s.doneQuietly(h)
	if !handed {
		s.stores.mu.Lock()
		h.leaving = false
		s.stores.mu.Unlock()
		return err
	}
	return s.destroy(ctx, h.ref)
}

// handAllOver has the others get what was written here, as far as they do within a
// moment: for a node that is about to close.
func (s *Service) handAllOver() {
	ctx, cancel := context.WithTimeout(s.life, wakeTimeout)
	defer cancel()
	var wg sync.WaitGroup
	hands := make(chan struct{}, 16)
	for _, h := range s.hostings() {
		s.stores.mu.Lock()
		due := h.rep != nil && h.Dirty && h.active && !h.leaving
		if due {
			h.users++
		}
		s.stores.mu.Unlock()
		if !due {
			continue
		}
		wg.Go(func() {
			defer s.done(h)
			hands <- struct{}{}
			defer func() { <-hands }()
			e, err := s.storeEntry(ctx, h.ref.ID)
			if err == nil && e.ref == h.ref {
				live := s.live() // for who is away there is no waiting
				e.hosts = slices.DeleteFunc(e.hosts, func(p peer.ID) bool { return !slices.Contains(live, p) })
				for err = s.handOver(ctx, h, e); err != nil && pause(ctx, 50*time.Millisecond); {
					err = s.handOver(ctx, h, e)
				}
			}
			if err != nil {
				s.o.log.Debug("handing a store over", "store", h.ref, "err", err)
			}
		})
	}
	wg.Wait()
}

// openLeaving opens the replica of a store that this node is about to leave, and waits
// for what is under way there. The caller is one of its users.
func (s *Service) openLeaving(ctx context.Context, h *hosting) (*replica, error) {
	rep, err := s.openIt(ctx, h, true)
	for err == nil {
		s.stores.mu.Lock()
		alone := h.users == 1
		s.stores.mu.Unlock()
		if alone {
			break
		}
		if !pause(ctx, 5*time.Millisecond) {
			err = ctx.Err()
		}
	}
	return rep, err
}

// doneQuietly is done for what is no use by a caller.
func (s *Service) doneQuietly(h *hosting) {
	s.stores.mu.Lock()
	used := h.used
	s.stores.mu.Unlock()
	s.done(h)
	s.unused(h, used)
}

// unused takes back that a store was used since.
func (s *Service) unused(h *hosting, since time.Time) {
	s.stores.mu.Lock()
	defer s.stores.mu.Unlock()
	if h.users == 0 {
		h.used = since
	}
}

// idle is how long a replica stays open that nobody uses.
const idle = 5 * time.Minute

// closeIdle closes replicas that nobody has used for a while, and keeps the other
// replicas of those that are used open.
func (s *Service) closeIdle() {
	for _, h := range s.hostings() {
		s.stores.mu.Lock()
		unused := h.rep != nil && h.users == 0 && time.Since(h.used) > idle && time.Since(h.asked) > idle
		wake := h.rep != nil && h.active && time.Since(h.used) < idle/3 && time.Since(h.woken) > idle/3
		if wake {
			h.woken = time.Now()
		}
		s.stores.mu.Unlock()
		if unused {
			s.tryShut(h)
		}
		if !wake {
			continue
		}
		e, err := s.storeEntry(s.life, h.ref.ID)
		if err != nil || e.ref != h.ref {
			continue
		}
		s.mu.Lock()
		if s.life.Err() == nil {
			s.wg.Go(func() { s.wakeOthers(s.life, e, nil, false) })
		}
		s.mu.Unlock()
	}
}

// expires reports whether this node has to see to the files of a storage whose time is
// over: the first of its replicas does, for all of them.
func (s *Service) expires(h *hosting, e entry, live []peer.ID) bool {
	is := s.recordOf(h)
	if is.Kind != kindStorage || is.Spec.TTL == 0 || time.Now().Before(is.Expires) {
		return false
	}
	hosts := slices.DeleteFunc(slices.Clone(e.hosts), func(p peer.ID) bool { return !slices.Contains(live, p) })
	return len(hosts) == 0 || rendezvous.Rank(e.ref.ID, hosts)[0] == s.host.ID()
}

// expire removes the files of a storage whose time is over.
func (s *Service) expire(ctx context.Context, h *hosting) error {
	s.stores.mu.Lock()
	used := h.used
	s.stores.mu.Unlock()
	_, rep, err := s.use(ctx, h.ref, kindStorage)
	if err != nil {
		return err
	}
	defer func() {
		s.done(h)
		s.unused(h, used)
	}()
	var next time.Time
	_, _, err = rep.change(ctx, func(t *tx) error {
		all, err := rep.records(t.ctx, files, t)
		if err != nil {
			return err
		}
		now := time.Now()
		next = now.Add(t.spec.TTL)
		for _, v := range all {
			if at := v.Time.Add(t.spec.TTL); !now.Before(at) {
				err = t.remove(v.key)
			} else if at.Before(next) {
				next = at
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = s.saveHosting(ctx, h, func(h *hosted) { h.Expires = next })
	}
	if err != nil {
		return fmt.Errorf("removing files whose time is over: %w", err)
	}
	return nil
}
