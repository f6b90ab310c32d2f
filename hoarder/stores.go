package hoarder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
)

// hosting is a store that this node has a replica of.
type hosting struct {
	ref    ref
	gate   lock       // who has it opens or closes
	saving sync.Mutex // held while the record is changed

	// Guarded by stores.mu.
	hosted
	rep      *replica
	users    int
	idle     chan struct{} // closed when users comes to 0, if somebody waits for it
	used     time.Time
	asked    time.Time // when another replica last asked it to be open
	leaving  bool
	woken    time.Time // when the others were last asked to be open
	active   bool      // it has all acknowledged writes, as long as the links are good
	was      bool      // it was that in this life of the service
	doubts   int       // how often that was put in doubt
	links    map[peer.ID]link
	standing *standUp // becoming active is under way
}

// hosted is the node's own record of a store.
type hosted struct {
	told
	Ready bool `json:"ready"`           // it has the data
	Dirty bool `json:"dirty,omitempty"` // other replicas may not have all that was written here
	// Set is the in-sync set without this node; SetSeq grows with each change.
	Set    []peer.ID `json:"set,omitempty"`
	SetSeq uint64    `json:"setseq,omitempty"`
	// Silent are replicas that may be going on without this one.
	Silent []silent `json:"silent,omitempty"`
	// Expires is when the first of a storage's files does, or zero.
	Expires time.Time `json:"expires,omitzero"`
}

// stores are the replicas of this node.
type stores struct {
	mu   sync.Mutex
	all  map[ref]*hosting
	open int
	// peers are the hoarders that the registry names as having some store.
	peers map[peer.ID]bool
}

func newHosting(r ref, h hosted) *hosting {
	return &hosting{ref: r, hosted: h, gate: make(lock, 1), links: map[peer.ID]link{}}
}

// loadStores reads what the node hosts. None of it is opened.
func (s *Service) loadStores(ctx context.Context) error {
	s.stores.all = map[ref]*hosting{}
	return each(ctx, s.local, "/hosted", func(key ds.Key, value []byte) error {
		parts := key.List()
		var h hosted
		err := json.Unmarshal(value, &h)
		gen, err2 := strconv.ParseUint(parts[len(parts)-1], 10, 64)
		if err = errors.Join(err, err2); err != nil || len(parts) != 3 {
			return fmt.Errorf("%w record %s of a store: %w", taubyte.ErrInvalid, key, err)
		}
		r := ref{parts[1], gen}
		s.stores.all[r] = newHosting(r, h)
		return nil
	})
}

// recordOf returns what the node's record of a store says.
func (s *Service) recordOf(h *hosting) hosted {
	s.stores.mu.Lock()
	defer s.stores.mu.Unlock()
	return h.hosted
}

// saveHosting writes the record of a store as change leaves it.
func (s *Service) saveHosting(ctx context.Context, h *hosting, change func(*hosted)) error {
	h.saving.Lock()
	defer h.saving.Unlock()
	return s.saveLocked(ctx, h, change)
}

func (s *Service) saveLocked(ctx context.Context, h *hosting, change func(*hosted)) error {
	s.stores.mu.Lock()
	next, here := h.hosted, s.stores.all[h.ref] == h
	s.stores.mu.Unlock()
	if !here {
		return errElsewhere
	}
	change(&next)
	if err := put(ctx, s.local, hostedKey(h.ref), next); err != nil {
		return err
	}
	s.stores.mu.Lock()
	defer s.stores.mu.Unlock()
	h.hosted = next
	return nil
}

// reading is with for what writes nothing: the answer counts only if the replica still
// has all acknowledged writes when it is made. whole says that it is about all that is
// there: like one that there is no such thing, it can't be given in doubt.
func (s *Service) reading(ctx context.Context, r ref, k kind, after position, whole bool, do func(*replica) error) error {
	return s.with(ctx, r, k, after, func(rep *replica) error {
		err := do(rep)
		missed := errors.Is(err, taubyte.ErrNotFound)
		if err != nil && !missed {
			return err
		}
		s.stores.mu.Lock()
		good, doubt := s.answersLocked(rep.h), s.inDoubtLocked(rep.h)
		s.stores.mu.Unlock()
		switch {
		case !good:
			return fmt.Errorf("store %s: %w: the replica fell out of sync", r, taubyte.ErrUnavailable)
		case doubt && (missed || whole):
			return fmt.Errorf("store %s: %w", r, errDoubt)
		}
		return err
	})
}

// with runs do on the open replica of a store that has what after says.
func (s *Service) with(ctx context.Context, r ref, k kind, after position, do func(*replica) error) error {
	h, rep, err := s.use(ctx, r, k)
	if err != nil {
		return err
	}
	defer s.done(h)
	if err := rep.reach(ctx, after); err != nil {
		return err
	}
	return do(rep)
}

// use opens a replica that answers for the store, and keeps it open until done.
func (s *Service) use(ctx context.Context, r ref, k kind) (*hosting, *replica, error) {
	s.stores.mu.Lock()
	h := s.stores.all[r]
	if h == nil || !h.Ready || h.leaving || s.life.Err() != nil {
		s.stores.mu.Unlock()
		return nil, nil, errElsewhere
	}
	if err := mayReach(ctx, h.Kind, h.Instance); err != nil {
		s.stores.mu.Unlock()
		return nil, nil, err
	}
	if k != "" && h.Kind != k {
		s.stores.mu.Unlock()
		return nil, nil, fmt.Errorf("%w: it is a %s", taubyte.ErrInvalid, h.Kind)
	}
	h.users++
	h.used = time.Now()
	rep := h.rep
	good := s.answersLocked(h)
	s.stores.mu.Unlock()
	var err error
	if !good {
		err = s.stand(ctx, h)
	}
	if err == nil && rep == nil {
		rep, err = s.openIt(ctx, h, false)
	}
	if err != nil {
		s.done(h)
		return nil, nil, err
	}
	return h, rep, nil
}

func (s *Service) done(h *hosting) {
	s.stores.mu.Lock()
	defer s.stores.mu.Unlock()
	h.used = time.Now()
	if h.users--; h.users == 0 && h.idle != nil {
		close(h.idle)
		h.idle = nil
	}
}

// lock is a mutex that is waited for as long as a context allows.
type lock chan struct{}

func (l lock) lock(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l lock) unlock() { <-l }

// openIt opens the replica; the caller is one of its users. leaving says that it may be
// on its way out.
func (s *Service) openIt(ctx context.Context, h *hosting, leaving bool) (*replica, error) {
	if err := h.gate.lock(ctx); err != nil {
		return nil, err
	}
	defer h.gate.unlock()
	s.stores.mu.Lock()
	rep, is := h.rep, h.hosted
	here := s.stores.all[h.ref] == h && (!h.leaving || leaving) && s.life.Err() == nil
	s.stores.mu.Unlock()
	if !here {
		return nil, errElsewhere
	}
	if rep != nil {
		return rep, nil
	}
	s.closeSurplus()
	rep, err := s.openReplica(ctx, h, is.Kind, is.Spec)
	if err != nil {
		return nil, err
	}
	s.stores.mu.Lock()
	defer s.stores.mu.Unlock()
	h.rep = rep
	s.stores.open++
	return rep, nil
}

// shut closes the replica if nobody uses it. The caller has its lock.
func (s *Service) shut(h *hosting) (bool, error) {
	s.stores.mu.Lock()
	rep := h.rep
	if h.users > 0 || rep == nil {
		s.stores.mu.Unlock()
		return rep == nil, nil
	}
	h.rep = nil
	s.stores.open--
	s.stores.mu.Unlock()
	return true, rep.close()
}

// tryShut closes the replica if that can be done at once.
func (s *Service) tryShut(h *hosting) {
	select {
	case h.gate <- struct{}{}:
		defer h.gate.unlock()
		if _, err := s.shut(h); err != nil {
			s.o.log.Warn("closing a store", "store", h.ref, "err", err)
		}
	default:
	}
}

// closeSurplus makes room for one more open replica: those go that were not used for
// the longest time.
func (s *Service) closeSurplus() {
	s.stores.mu.Lock()
	surplus := s.stores.open + 1 - s.o.openStores
	var idle []*hosting
	if surplus > 0 {
		for _, h := range s.stores.all {
			if h.rep != nil && h.users == 0 {
				idle = append(idle, h)
			}
		}
		slices.SortFunc(idle, func(a, b *hosting) int { return a.used.Compare(b.used) })
	}
	s.stores.mu.Unlock()
	for _, h := range idle[:max(0, min(surplus, len(idle)))] {
		s.tryShut(h)
	}
}

// closeStores closes all replicas; nothing is begun any more.
func (s *Service) closeStores() {
	for _, h := range s.hostings() {
		_ = s.shutForGood(context.Background(), h) // without an end there is no error
		h.gate.unlock()
	}
}

// shutForGood closes a replica that nobody new uses, once those are done who do. The
// caller then has its lock, unless there is an error of ctx.
func (s *Service) shutForGood(ctx context.Context, h *hosting) error {
	for {
		s.stores.mu.Lock()
		if h.users > 0 && h.idle == nil {
			h.idle = make(chan struct{})
		}
		idle := h.idle
		if h.rep != nil {
			h.rep.refuse() // an upload could take for ever
		}
		s.stores.mu.Unlock()
		if idle != nil {
			select {
			case <-idle:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err := h.gate.lock(ctx); err != nil {
			return err
		}
		if shut, err := s.shut(h); shut {
			if err != nil {
				s.o.log.Warn("closing a store", "store", h.ref, "err", err)
			}
			return nil
		}
		h.gate.unlock()
	}
}

func (s *Service) hostings() []*hosting {
	s.stores.mu.Lock()
	defer s.stores.mu.Unlock()
	all := make([]*hosting, 0, len(s.stores.all))
	for _, h := range s.stores.all {
		all = append(all, h)
	}
	return all
}

// serves reports whether this node serves the store.
func (s *Service) serves(r ref) bool {
	s.stores.mu.Lock()
	defer s.stores.mu.Unlock()
	h := s.stores.all[r]
	return h != nil && h.Ready && !h.leaving
}
