package hoarder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
)

// joinTimeout bounds bringing a store's data to this node.
const joinTimeout = 10 * time.Minute

// begin makes this node the first replica of a store's life, which is empty.
func (s *Service) begin(ctx context.Context, r ref, t told) error {
	return s.serve(ctx, r, t, nil)
}

// join makes this node a further replica. It serves when it has the data. from are
// nodes that have it, besides those that the registry knows.
func (s *Service) join(ctx context.Context, r ref, t told, from ...peer.ID) error {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	return s.serve(ctx, r, t, func(h *hosting, rep *replica) error {
		e, err := s.storeEntry(ctx, h.ref.ID)
		if err != nil {
			return err
		}
		if e.ref.Gen > h.ref.Gen {
			return errElsewhere
		}
		e.ref = h.ref
		e.hosts = append(e.hosts, from...)
		in := 0
		var errs error
		for p, st := range s.askAll(ctx, h, e) {
			if !st.Active {
				continue
			}
			// All that it has already, files as well, before its writers wait for this one.
			pos, err := s.peers.wake(ctx, p, h.ref, wakeRequest{})
			if err == nil {
				err = rep.reachFor(ctx, pos, true, p)
			}
			if err == nil && rep.kind == kindStorage {
				err = rep.fillAll(ctx)
			}
			if err == nil {
				err = s.enter(ctx, h, rep, p)
			}
			if err != nil {
				errs = errors.Join(errs, err)
				continue
			}
			in++
		}
		if in == 0 {
			errs = errors.Join(fmt.Errorf("%w: no other replica takes it in", taubyte.ErrUnavailable), errs)
			return errs
		}
		return nil
	})
}

// serve opens a replica, has it filled and states that it is there.
func (s *Service) serve(ctx context.Context, r ref, t told, fill func(*hosting, *replica) error) error {
	if !s.space.room() {
		return errors.Join(errFull, put(ctx, s.registry, storeFullKey(r.ID, s.host.ID()), struct{}{}))
	}
	s.stores.mu.Lock()
	h := s.stores.all[r]
	if s.life.Err() != nil {
		s.stores.mu.Unlock()
		return taubyte.ErrClosed
	}
	if h == nil {
		h = newHosting(r, hosted{told: t})
		s.stores.all[r] = h
	}
	ready := h.Ready
	h.users++
	s.stores.mu.Unlock()
	defer s.done(h)
	if ready { // asked twice
		return put(ctx, s.registry, hostKey(r, s.host.ID()), struct{}{})
	}
	// On disk before there is any data, so that none is ever forgotten.
	if err := s.saveHosting(ctx, h, func(h *hosted) { h.SetSeq = max(h.SetSeq, 1) }); err != nil {
		return err
	}
	rep, err := s.openIt(ctx, h, false)
	if err == nil && fill != nil {
		err = fill(h, rep)
	}
	if err == nil {
		err = s.saveHosting(ctx, h, func(h *hosted) { h.Ready = true })
	}
	if err != nil {
		return fmt.Errorf("hosting store %s: %w", r, err)
	}
	s.stores.mu.Lock()
	h.active, h.was = true, true
	s.stores.mu.Unlock()
	return put(ctx, s.registry, hostKey(r, s.host.ID()), struct{}{})
}

// wakeTimeout bounds a call to another replica.
const wakeTimeout = 3 * time.Second

// wakeOthers has the other replicas that are there open, so that they hear of
// changes, and returns what they have and how many they are. With after, they count
// once they have that, and with content once they have all files as well.
func (s *Service) wakeOthers(ctx context.Context, e entry, after position, content bool) (position, int) {
	live := s.live()
	have := position{}
	n := 0
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, p := range e.hosts {
		if p == s.host.ID() || !slices.Contains(live, p) {
			continue
		}
		wg.Go(func() {
			timeout := wakeTimeout
			if content {
				timeout = joinTimeout
			}
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			pos, err := s.peers.wake(ctx, p, e.ref, wakeRequest{After: after, Content: content})
			if err != nil {
				s.o.log.Debug("another replica did not answer", "store", e.ref, "peer", p, "err", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			n++
			for p, seq := range pos {
				have[p] = max(have[p], seq)
			}
		})
	}
	wg.Wait()
	return have, n
}

// othersHave is what the other replicas have that are there.
func (s *Service) othersHave(ctx context.Context, r ref) position {
	e, err := s.storeEntry(ctx, r.ID)
	if err != nil || e.ref != r {
		return position{}
	}
	pos, _ := s.wakeOthers(ctx, e, nil, false)
	return pos
}

// wake is the other side of wakeOthers: it opens the replica, and says what it has once
// it has what is asked for.
func (s *Service) wake(ctx context.Context, r ref, in wakeRequest) (position, error) {
	s.stores.mu.Lock()
	h := s.stores.all[r]
	if h == nil || h.leaving || s.life.Err() != nil {
		s.stores.mu.Unlock()
		return nil, errElsewhere
	}
	h.users++
	h.asked = time.Now()
	s.stores.mu.Unlock()
	defer s.doneQuietly(h)
	rep, err := s.openIt(ctx, h, false)
	if err != nil {
		return nil, err
	}
	if err := rep.reach(ctx, in.After); err != nil {
		return nil, err
	}
	if in.Content && rep.kind == kindStorage {
		if err := rep.fillAll(ctx); err != nil {
			return nil, err
		}
	}
	if in.File != "" && rep.kind == kindStorage {
		if err := rep.waitFor(ctx, in.File, contentTimeout); err != nil {
			return nil, err
		}
	}
	return rep.position(), nil
}

// markDirty remembers on disk, before the first write since all replicas were known
// to be alike, that they may not be.
func (s *Service) markDirty(ctx context.Context, r *replica) error {
	s.stores.mu.Lock()
	h := s.stores.all[r.ref]
	s.stores.mu.Unlock()
	if h == nil {
		return errElsewhere
	}
	h.saving.Lock()
	defer h.saving.Unlock()
	r.written = true
	if s.recordOf(h).Dirty {
		return nil
	}
	return s.saveLocked(ctx, h, func(h *hosted) { h.Dirty = true })
}

// Drop removes the instance's database and storage with all that is in them. An
// instance that is opened again afterwards is empty. It takes the verb administer on the
// project, or a node of role hoarder.
func (s *Service) Drop(ctx context.Context, i Instance) error {
	if err := taubyte.Allow(ctx, taubyte.VerbAdminister, i.Project, taubyte.RoleHoarder); err != nil {
		return err
	}
	if err := i.check(); err != nil {
		return err
	}
	if s.life.Err() != nil {
		return taubyte.ErrClosed
	}
	for _, k := range []kind{kindDatabase, kindStorage} {
		if err := s.drop(ctx, i.id(k)); err != nil {
			return fmt.Errorf("dropping %s %q: %w", k, i.Name, err)
		}
	}
	return nil
}

func (s *Service) drop(ctx context.Context, id string) error {
	if err := s.hearOthers(ctx); err != nil {
		s.o.log.Warn("dropping a store while not in touch", "store", id, "err", err)
	}
	e, err := s.storeEntry(ctx, id)
	if err != nil || !e.known && len(e.hosts) == 0 {
		return err
	}
	if err := put(ctx, s.registry, droppedKey(e.ref, s.host.ID()), struct{}{}); err != nil {
		return err
	}
	if err := s.forget(ctx, id); err != nil {
		return err
	}
	// The others would hear of it; this frees their disks now.
	live := s.live()
	var wg sync.WaitGroup
	for _, p := range e.hosts {
		if p != s.host.ID() && slices.Contains(live, p) {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, wakeTimeout)
				defer cancel()
				if err := s.peers.destroy(ctx, p, e.ref); err != nil {
					s.o.log.Debug("a replica goes later", "store", e.ref, "peer", p, "err", err)
				}
			})
		}
	}
	wg.Wait()
	return s.destroy(ctx, e.ref)
}

// forget removes what the registry has of a store but that it was dropped.
func (s *Service) forget(ctx context.Context, id string) error {
	for _, prefix := range []string{"/store/", "/host/", "/full/", "/insync/"} {
		res, err := s.registry.Query(ctx, query.Query{Prefix: prefix + id, KeysOnly: true})
		if err != nil {
			return err
		}
		found, err := res.Rest()
		if err != nil {
			return err
		}
		for _, e := range found {
			if err := remove(ctx, s.registry, ds.RawKey(e.Key)); err != nil {
				return err
			}
		}
	}
	return nil
}

// destroyDropped is destroy for another hoarder that says the store was dropped. That
// is looked up.
func (s *Service) destroyDropped(ctx context.Context, r ref) error {
	if err := s.registry.Synced(ctx); err != nil {
		return err
	}
	e, err := s.storeEntry(ctx, r.ID)
	if err != nil {
		return err
	}
	if e.ref.Gen <= r.Gen {
		return fmt.Errorf("%w: store %s was not dropped", taubyte.ErrConflict, r)
	}
	return s.destroy(ctx, r)
}

// destroy deletes this node's replica of a store.
func (s *Service) destroy(ctx context.Context, r ref) error {
	s.stores.mu.Lock()
	h := s.stores.all[r]
	if h != nil {
		h.leaving = true
	}
	s.stores.mu.Unlock()
	if h == nil {
		return nil
	}
	if err := s.shutForGood(ctx, h); err != nil {
		return err
	}
	defer h.gate.unlock()
	if err := remove(ctx, s.registry, hostKey(r, s.host.ID())); err != nil {
		return err
	}
	if err := remove(ctx, s.registry, insyncKey(r, s.host.ID())); err != nil {
		return err
	}
	if err := s.releaseFiles(ctx, r); err != nil {
		return err
	}
	if err := clearPrefix(ctx, s.base, "/crdt/"+storeName(r)); err != nil {
		return err
	}
	h.saving.Lock()
	defer h.saving.Unlock()
	if err := remove(ctx, s.local, hostedKey(r)); err != nil {
		return err
	}
	s.stores.mu.Lock()
	delete(s.stores.all, r)
	s.stores.mu.Unlock()
	return nil
}

// clearPrefix deletes all keys below one, some at a time.
func clearPrefix(ctx context.Context, store taubyte.Datastore, prefix string) error {
	for {
		res, err := store.Query(ctx, query.Query{Prefix: prefix, KeysOnly: true, Limit: 1024})
		if err != nil {
			return fmt.Errorf("deleting %s: %w", prefix, err)
		}
		found, err := res.Rest()
		if err != nil {
			return fmt.Errorf("deleting %s: %w", prefix, err)
		}
		if len(found) == 0 {
			return nil
		}
		batch, err := store.Batch(ctx)
		if err != nil {
			return err
		}
		for _, e := range found {
			if err := batch.Delete(ctx, ds.RawKey(e.Key)); err != nil {
				return err
			}
		}
		if err := batch.Commit(ctx); err != nil {
			return fmt.Errorf("deleting %s: %w", prefix, err)
		}
	}
}

// givenUp reports whether a hoarder has been gone for longer than the grace, and is not
// counted as having a replica any more.
func (s *Service) givenUp(ctx context.Context, r ref, p peer.ID) bool {
	if slices.Contains(s.live(), p) {
		s.back(p)
		return false
	}
	if !s.gone(p) {
		return false
	}
	has, err := s.registry.Has(ctx, hostKey(r, p))
	return err == nil && !has
}
