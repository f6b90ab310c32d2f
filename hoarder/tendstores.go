package hoarder

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
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
		for _, id := range s.dueStores() {
			if err := s.tendStore(s.life, id); err != nil && s.life.Err() == nil {
				s.o.log.Warn("looking after a store", "store", id, "err", err)
			}
		}
	}
}

func (s *Service) dueStores() []string {
	s.mu.Lock()
	todo, all := s.todoStores, s.allStores
	s.todoStores, s.allStores = map[string]struct{}{}, false
	s.mu.Unlock()
	if all {
		for _, h := range s.hostings() {
			todo[h.ref.ID] = struct{}{}
		}
		if err := s.eachStore(s.life, func(id string) { todo[id] = struct{}{} }); err != nil && s.life.Err() == nil {
			s.o.log.Warn("looking over the stores", "err", err)
		}
	}
	return slices.Sorted(maps.Keys(todo))
}

// tendStore does what this node has to do about a store.
func (s *Service) tendStore(ctx context.Context, id string) error {
	e, err := s.storeEntry(ctx, id)
	if err != nil {
		return err
	}
	var mine *hosting
	for _, h := range s.hostings() {
		switch {
		case h.ref.ID != id:
		case h.ref.Gen < e.ref.Gen: // dropped
			if err := s.destroy(ctx, h.ref); err != nil {
				return err
			}
		case h.ref == e.ref:
			mine = h
		}
	}
	if !e.known {
		return nil
	}
	if err := s.respecifyMine(ctx, e); err != nil {
		return err
	}
	top := s.top(e)
	switch {
	case mine != nil && mine.Ready:
		if !slices.Contains(e.hosts, s.host.ID()) { // a crash came between
			if err := put(ctx, s.registry, hostKey(e.ref, s.host.ID()), struct{}{}); err != nil {
				return err
			}
		}
		if err := s.expire(ctx, mine, e); err != nil {
			return err
		}
		if !slices.Contains(top, s.host.ID()) && s.allThere(top, e) {
			return s.leave(ctx, mine, e)
		}
		return s.share(ctx, mine, e)
	case slices.Contains(top, s.host.ID()) && s.anyThere(e):
		return s.join(ctx, e.ref, e.told)
	case mine != nil && len(e.hosts) > 0 && !slices.Contains(top, s.host.ID()):
		return s.destroy(ctx, e.ref) // it was about to join
	}
	return nil
}

// top are the hoarders that should have a store: the first in its order of those that
// are there, or have been till a moment ago, and have room.
func (s *Service) top(e entry) []peer.ID {
	live := s.live()
	there := 0
	for _, p := range e.hosts {
		if slices.Contains(live, p) {
			there++
		}
	}
	candidates := slices.DeleteFunc(slices.Clone(live), func(p peer.ID) bool {
		return slices.Contains(e.full, p) && !slices.Contains(e.hosts, p)
	})
	for _, p := range e.hosts {
		if slices.Contains(live, p) {
			s.back(p)
			continue
		}
		// Where enough are left, there is no hurry to copy everything.
		patience := s.o.grace
		if there >= e.Spec.Min {
			patience *= 10
		}
		if !s.goneFor(p, patience) {
			candidates = append(candidates, p)
		}
	}
	ranked := rank([]byte(e.ref.ID), candidates)
	return ranked[:min(e.Spec.Max, len(ranked))]
}

func (s *Service) allThere(top []peer.ID, e entry) bool {
	live := s.live()
	for _, p := range top {
		if !slices.Contains(e.hosts, p) || !slices.Contains(live, p) {
			return false
		}
	}
	return true
}

func (s *Service) anyThere(e entry) bool {
	live := s.live()
	return slices.ContainsFunc(e.hosts, func(p peer.ID) bool { return p != s.host.ID() && slices.Contains(live, p) })
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

// share has the other replicas take over what was written here, once nobody writes
// any more: they may be closed, or have been away.
func (s *Service) share(ctx context.Context, h *hosting, e entry) error {
	s.stores.mu.Lock()
	due := h.Dirty && h.users == 0 && time.Since(h.used) > s.o.interval
	if due {
		h.users++
	}
	s.stores.mu.Unlock()
	if !due {
		return nil
	}
	defer s.doneQuietly(h)
	rep, err := s.open(ctx, h, false)
	if err != nil {
		return err
	}
	if !s.handOver(ctx, rep, e) {
		return nil // some are away; when they come back they are told
	}
	return s.saveHosting(ctx, h, func(h *hosted) { h.Dirty = false })
}

// handOver reports whether every other replica has what is here.
func (s *Service) handOver(ctx context.Context, rep *replica, e entry) bool {
	others := 0
	for _, p := range e.hosts {
		if p != s.host.ID() {
			others++
		}
	}
	_, n := s.wakeOthers(ctx, e, rep.position(), rep.kind == kindStorage)
	return n == others
}

// leave gives a replica up that is one too many, once the others have all of it.
func (s *Service) leave(ctx context.Context, h *hosting, e entry) error {
	s.stores.mu.Lock()
	h.leaving = true // nothing new is written
	h.users++
	s.stores.mu.Unlock()
	handed := false
	rep, err := s.openLeaving(ctx, h)
	if err == nil {
		_, n := s.wakeOthers(ctx, e, rep.position(), rep.kind == kindStorage)
		handed = n >= min(e.Spec.Max, len(e.hosts)-1)
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

// openLeaving opens the replica of one that is leaving, and waits for the writes that
// are under way.
func (s *Service) openLeaving(ctx context.Context, h *hosting) (*replica, error) {
	for {
		s.stores.mu.Lock()
		rep, alone := h.rep, h.users == 1
		s.stores.mu.Unlock()
		if rep != nil && alone {
			return rep, nil
		}
		if rep == nil {
			if err := h.lock(ctx); err != nil {
				return nil, err
			}
			s.stores.mu.Lock()
			rep = h.rep
			s.stores.mu.Unlock()
			var err error
			if rep == nil {
				if rep, err = s.openReplica(ctx, h.ref, h.Kind, h.Spec); err == nil {
					s.stores.mu.Lock()
					h.rep, h.verified = rep, false
					s.stores.open++
					s.stores.mu.Unlock()
				}
			}
			h.unlock()
			if err != nil {
				return nil, err
			}
			continue
		}
		if !pause(ctx, 5*time.Millisecond) {
			return nil, ctx.Err()
		}
	}
}

// doneQuietly is done for what is no use by a caller.
func (s *Service) doneQuietly(h *hosting) {
	s.stores.mu.Lock()
	used := h.used
	s.stores.mu.Unlock()
	s.done(h)
	s.stores.mu.Lock()
	if h.users == 0 {
		h.used = used
	}
	s.stores.mu.Unlock()
}

// closeIdle closes replicas that nobody has used for a while, and keeps the other
// replicas of those that are used open.
func (s *Service) closeIdle() {
	const idle = 5 * time.Minute
	for _, h := range s.hostings() {
		s.stores.mu.Lock()
		open, unused := h.rep != nil, h.users == 0 && time.Since(h.used) > idle
		active := open && h.verified && time.Since(h.used) <= idle/2
		s.stores.mu.Unlock()
		switch {
		case open && unused:
			s.tryShut(h)
		case active:
			if e, err := s.storeEntry(s.life, h.ref.ID); err == nil && e.ref == h.ref {
				s.wakeOthers(s.life, e, nil, false)
			}
		}
	}
}

// expire removes the files of a storage whose time is over. The first of its replicas
// does, for all of them.
func (s *Service) expire(ctx context.Context, h *hosting, e entry) error {
	if h.Kind != kindStorage || h.Spec.TTL == 0 {
		return nil
	}
	live := s.live()
	hosts := slices.DeleteFunc(slices.Clone(e.hosts), func(p peer.ID) bool { return !slices.Contains(live, p) })
	if ranked := rank([]byte(e.ref.ID), hosts); len(ranked) > 0 && ranked[0] != s.host.ID() {
		return nil
	}
	if time.Now().Before(h.Expires) {
		return nil
	}
	err := s.with(ctx, h.ref, kindStorage, nil, func(rep *replica) error {
		var next time.Time
		_, err := rep.change(ctx, func(t *tx) error {
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
		if err != nil {
			return err
		}
		return s.saveHosting(ctx, h, func(h *hosted) { h.Expires = next })
	})
	if errors.Is(err, taubyte.ErrUnavailable) {
		return nil // later
	}
	if err != nil {
		return fmt.Errorf("removing files whose time is over: %w", err)
	}
	return nil
}
