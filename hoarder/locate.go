package hoarder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rendezvous"
)

// place is where a store is.
type place struct {
	ID    string    `json:"id"`
	Gen   uint64    `json:"gen"`
	Hosts []peer.ID `json:"hosts"` // alive, at least one
}

type openRequest struct {
	Kind     kind     `json:"kind"`
	Instance Instance `json:"instance"`
	Spec     spec     `json:"spec"`
}

func (o openRequest) check() error {
	if err := o.Instance.check(); err != nil {
		return err
	}
	if o.Kind != kindDatabase && o.Kind != kindStorage {
		return fmt.Errorf("%w kind of store %q", taubyte.ErrInvalid, o.Kind)
	}
	if o.Spec.Min < 1 || o.Spec.Size < 1 {
		return fmt.Errorf("%w specification of a store", taubyte.ErrInvalid)
	}
	_, err := o.Spec.withDefaults(0)
	return err
}

// locate finds a store's replicas, and makes it at its first opening.
func (s *Service) locate(ctx context.Context, o openRequest) (place, error) {
	if err := o.check(); err != nil {
		return place{}, err
	}
	if err := mayReach(ctx, o.Kind, o.Instance); err != nil {
		return place{}, err
	}
	if s.life.Err() != nil {
		return place{}, taubyte.ErrClosed
	}
	id := o.Instance.id(o.Kind)
	e, err := s.storeEntry(ctx, id)
	if err != nil {
		return place{}, err
	}
	if !e.known || len(e.hosts) == 0 {
		// It may be that others made it and this node has not heard of it.
		if err := s.hearOthers(ctx); err != nil {
			return place{}, fmt.Errorf("%w: %w", taubyte.ErrUnavailable, err)
		}
		if e, err = s.storeEntry(ctx, id); err != nil {
			return place{}, err
		}
	}
	if err := ctx.Err(); err != nil {
		return place{}, err
	}
	if !e.known && len(e.hosts) == 0 {
		if err := s.mayMake(ctx, o.Instance); err != nil {
			return place{}, err
		}
	}
	if !e.known || e.Spec != o.Spec {
		e.known, e.told = true, told{Kind: o.Kind, Instance: o.Instance, Spec: o.Spec, Since: time.Now().UTC()}
		if err := put(ctx, s.registry, toldKey(id, s.host.ID()), e.told); err != nil {
			return place{}, err
		}
	}
	if err := s.respecifyMine(ctx, e); err != nil {
		return place{}, err
	}
	live := s.live()
	if len(e.hosts) == 0 {
		hosts, err := s.found(ctx, e, live)
		return place{ID: id, Gen: e.ref.Gen, Hosts: hosts}, err
	}
	hosts := slices.DeleteFunc(e.hosts, func(p peer.ID) bool { return !slices.Contains(live, p) })
	if len(hosts) == 0 {
		return place{}, fmt.Errorf("%w: no replica of the store is there", taubyte.ErrUnavailable)
	}
	s.lookStore(id)
	return place{ID: id, Gen: e.ref.Gen, Hosts: rendezvous.Rank(id, hosts)}, nil
}

// mayMake returns ErrFull when a project has as many stores as it may have: their names
// can come from the users of its functions.
func (s *Service) mayMake(ctx context.Context, i Instance) error {
	entries, err := s.storeEntries(ctx, "")
	if err != nil {
		return err
	}
	n := 0
	for _, e := range entries {
		if e.known && e.Instance.Project == i.Project {
			n++
		}
	}
	if n >= s.o.perProject {
		return fmt.Errorf("%w: project %s has %d databases and storages", ErrFull, i.Project, n)
	}
	return nil
}

// hearWait bounds the time that one hoarder may take to tell what it knows. Who hangs
// keeps no store from being made, if this node has heard it before: a new store is known
// to two before it is used.
const hearWait = askWait

// hearOthers returns when the registry has what the hoarders know that this node is
// connected to, also if they have only just met. Each is asked at the same time.
func (s *Service) hearOthers(ctx context.Context) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs error
	for _, p := range s.host.Network().Peers() {
		wg.Go(func() {
			if err := s.hear(ctx, p); err != nil {
				mu.Lock()
				errs = errors.Join(errs, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errs
}

// hearNew hears those that have come, in the background.
func (s *Service) hearNew() {
	for _, p := range s.live() {
		s.mu.Lock()
		if _, asked := s.heard[p]; !asked && p != s.host.ID() && s.life.Err() == nil {
			s.heard[p] = false // it is being asked
			s.wg.Go(func() {
				if err := s.hear(s.life, p); err != nil {
					s.mu.Lock()
					delete(s.heard, p)
					s.mu.Unlock()
				}
			})
		}
		s.mu.Unlock()
	}
}

func (s *Service) hear(ctx context.Context, p peer.ID) error {
	ctx, cancel := context.WithTimeout(ctx, hearWait)
	defer cancel()
	m, err := s.host.Member(ctx, p)
	if err != nil || !m.Has(taubyte.RoleHoarder) {
		return nil // a stranger, or not reached
	}
	// Until it has identified itself, nobody knows what it replicates.
	for known, _ := s.host.Peerstore().GetProtocols(p); len(known) == 0; known, _ = s.host.Peerstore().GetProtocols(p) {
		if !pause(ctx, 5*time.Millisecond) {
			break
		}
	}
	if known, err := s.host.Peerstore().SupportsProtocols(p, Protocol); err != nil || len(known) == 0 {
		return nil // its hoarder does not run
	}
	err = s.registry.SyncedWith(ctx, p)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.heard[p] = true
		return nil
	}
	if s.heard[p] || s.host.Network().Connectedness(p) != network.Connected {
		return nil
	}
	return fmt.Errorf("not heard yet what %s knows: %w", p, err)
}

// found has a store's first replicas made, by the first hoarders in the store's order
// that can: as many as there should be at least. It returns who has one.
func (s *Service) found(ctx context.Context, e entry, live []peer.ID) ([]peer.ID, error) {
	candidates := slices.DeleteFunc(rendezvous.Rank(e.ref.ID, live), func(p peer.ID) bool { return slices.Contains(e.full, p) })
	var hosts []peer.ID
	var errs error
	for i, p := range candidates {
		var err error
		if p == s.host.ID() {
			err = s.begin(ctx, e.ref, e.told)
		} else {
			begin, cancel := context.WithTimeout(ctx, foundWait)
			err = s.peers.begin(begin, p, e.ref, e.told)
			cancel()
		}
		if err == nil {
			hosts, candidates = []peer.ID{p}, candidates[i+1:]
			break
		}
		if ctx.Err() != nil {
			return nil, err
		}
		errs = errors.Join(errs, err)
	}
	if len(hosts) == 0 {
		if errs == nil {
			errs = errFull
		}
		return nil, fmt.Errorf("%w: nobody can host the store: %w", taubyte.ErrUnavailable, errs)
	}
	for len(hosts) < e.Spec.Min && len(candidates) > 0 {
		p := candidates[0]
		candidates = candidates[1:]
		join, cancel := context.WithTimeout(ctx, foundWait)
		var err error
		if p == s.host.ID() {
			err = s.join(join, e.ref, e.told, hosts...)
		} else {
			err = s.peers.join(join, p, e.ref, joinRequest{e.told, hosts})
		}
		cancel()
		if err != nil {
			s.o.log.Debug("a replica is made later", "store", e.ref, "peer", p, "err", err)
			continue
		}
		hosts = append(hosts, p)
	}
	if len(hosts) == 1 {
		s.confirm(ctx, e.ref, hosts[0], live)
	}
	return hosts, nil
}

// foundWait bounds the time that one hoarder may take to make a replica that is empty.
const foundWait = 2 * time.Second

// confirm waits until two hoarders know who has a store's first replica, if there are
// two. Were it known to that one alone, its loss in the next moments would lead to an
// empty store where there is one that can't be reached.
func (s *Service) confirm(ctx context.Context, r ref, first peer.ID, live []peer.ID) {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	ask := []func() error{func() error { return s.knows(ctx, r, first) }}
	if first == s.host.ID() {
		ask = nil
		for _, p := range live {
			if p != first {
				ask = append(ask, func() error { return s.peers.knows(ctx, p, r, first) })
			}
		}
	}
	answers := make(chan error, len(ask))
	for _, a := range ask {
		go func() { answers <- a() }()
	}
	var errs error
	confirmed := len(ask) == 0
	for range ask {
		err := <-answers
		if err == nil {
			confirmed = true
			cancel() // the others need not answer
		}
		errs = errors.Join(errs, err)
	}
	if !confirmed {
		s.o.log.Warn("no other hoarder knows yet who has the new store", "store", r, "host", first, "err", errs)
	}
}

// knows returns when this node knows that another has a replica.
func (s *Service) knows(ctx context.Context, r ref, p peer.ID) error {
	return s.registry.Await(ctx, hostKey(r, p))
}
