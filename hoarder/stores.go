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
	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
)

// The registry's keys of databases and storages.
//
//	/store/<id>/<peer>            what the store is; <peer> was told
//	/host/<id>/<life>/<peer>      <peer> has a replica with all data
//	/dropped/<id>/<life>/<peer>   that life of the store is over; <peer> was told
//	/full/<id>/<peer>             <peer> has no room for it
//
// and in the node's own store
//
//	/hosted/<id>/<life>           it has a replica, or is about to
//
// Lives are numbers: a store that was dropped begins its next one, with a crdt of
// another name. So nothing that a replica of the old one still says gets into it,
// and hoarders that make it anew at the same time make the same.

// told is what a hoarder was told of a store.
type told struct {
	Kind     kind      `json:"kind"`
	Instance Instance  `json:"instance"`
	Spec     spec      `json:"spec"`
	Since    time.Time `json:"since"`
}

func toldKey(id string, p peer.ID) ds.Key {
	return ds.KeyWithNamespaces([]string{"store", id, p.String()})
}

func hostKey(r ref, p peer.ID) ds.Key {
	return ds.KeyWithNamespaces([]string{"host", r.ID, strconv.FormatUint(r.Gen, 10), p.String()})
}

func droppedKey(r ref, p peer.ID) ds.Key {
	return ds.KeyWithNamespaces([]string{"dropped", r.ID, strconv.FormatUint(r.Gen, 10), p.String()})
}

func storeFullKey(id string, p peer.ID) ds.Key {
	return ds.KeyWithNamespaces([]string{"full", id, p.String()})
}

func hostedKey(r ref) ds.Key {
	return ds.KeyWithNamespaces([]string{"hosted", r.ID, strconv.FormatUint(r.Gen, 10)})
}

// entry is what the registry knows of a store.
type entry struct {
	ref   ref // the life that it is in, or would begin
	known bool
	told
	hosts []peer.ID // of that life
	full  []peer.ID
}

// storeEntry reads a store's entry. Of what several hoarders were told the newest
// counts, and every hoarder reads it alike.
func (s *Service) storeEntry(ctx context.Context, id string) (entry, error) {
	e := entry{ref: ref{ID: id, Gen: 1}}
	var from string
	err := each(ctx, s.registry, "/store/"+id, func(key ds.Key, value []byte) error {
		var t told
		if json.Unmarshal(value, &t) != nil {
			return nil // another version's
		}
		if c := t.Since.Compare(e.Since); !e.known || c > 0 || c == 0 && key.Name() > from {
			e.known, e.told, from = true, t, key.Name()
		}
		return nil
	})
	if err != nil {
		return e, err
	}
	err = each(ctx, s.registry, "/dropped/"+id, func(key ds.Key, _ []byte) error {
		if gen, _, ok := lifeAndPeer(key); ok && gen >= e.ref.Gen {
			e.ref.Gen = gen + 1
		}
		return nil
	})
	if err != nil {
		return e, err
	}
	err = each(ctx, s.registry, "/host/"+id, func(key ds.Key, _ []byte) error {
		if gen, p, ok := lifeAndPeer(key); ok && gen == e.ref.Gen {
			e.hosts = append(e.hosts, p)
		}
		return nil
	})
	if err != nil {
		return e, err
	}
	return e, each(ctx, s.registry, "/full/"+id, func(key ds.Key, _ []byte) error {
		if p, err := peer.Decode(key.Name()); err == nil {
			e.full = append(e.full, p)
		}
		return nil
	})
}

// lifeAndPeer are the last parts of a key.
func lifeAndPeer(key ds.Key) (uint64, peer.ID, bool) {
	parts := key.List()
	if len(parts) != 4 {
		return 0, "", false
	}
	gen, err := strconv.ParseUint(parts[2], 10, 62)
	p, err2 := peer.Decode(parts[3])
	return gen, p, err == nil && err2 == nil
}

// hosting is a store that this node has a replica of.
type hosting struct {
	ref    ref
	gate   lock       // who has it opens or closes
	check  lock       // who has it catches up with the others
	saving sync.Mutex // held while the record is changed

	// Guarded by stores.mu.
	hosted
	rep      *replica
	users    int
	idle     chan struct{} // closed when users comes to 0, if somebody waits for it
	used     time.Time
	asked    time.Time // when another replica last asked it to be open
	leaving  bool
	verified bool      // the open replica has what the others had
	woken    time.Time // when the others were last asked to be open
}

// hosted is the node's own record of a store.
type hosted struct {
	told
	Ready bool `json:"ready"`           // it has the data
	Dirty bool `json:"dirty,omitempty"` // other replicas may not have all that was written here
	// Expires is when the first of a storage's files does, or zero.
	Expires time.Time `json:"expires,omitzero"`
}

// stores are the replicas of this node.
type stores struct {
	mu   sync.Mutex
	all  map[ref]*hosting
	open int
}

func newHosting(r ref, h hosted) *hosting {
	return &hosting{ref: r, hosted: h, gate: make(lock, 1), check: make(lock, 1)}
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

// use opens a replica that serves, and keeps it open until done.
func (s *Service) use(ctx context.Context, r ref, k kind) (*hosting, *replica, error) {
	s.stores.mu.Lock()
	h := s.stores.all[r]
	if h == nil || !h.Ready || h.leaving || s.life.Err() != nil {
		s.stores.mu.Unlock()
		return nil, nil, errElsewhere
	}
	if k != "" && h.Kind != k {
		s.stores.mu.Unlock()
		return nil, nil, fmt.Errorf("%w: it is a %s", taubyte.ErrInvalid, h.Kind)
	}
	h.users++
	h.used = time.Now()
	rep := h.rep
	good := rep != nil && h.verified
	s.stores.mu.Unlock()
	if good {
		return h, rep, nil
	}
	rep, err := s.open(ctx, h, true)
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

// open opens the replica; the caller is one of its users. With verify it has what
// the other replicas had.
func (s *Service) open(ctx context.Context, h *hosting, verify bool) (*replica, error) {
	rep, err := s.openIt(ctx, h, false)
	if err != nil || !verify {
		return rep, err
	}
	// Not under the gate: two that catch up with each other have each other open it.
	if err := h.check.lock(ctx); err != nil {
		return nil, err
	}
	defer h.check.unlock()
	s.stores.mu.Lock()
	good := h.verified
	s.stores.mu.Unlock()
	if good {
		return rep, nil
	}
	if err := s.catchUp(ctx, h, rep); err != nil {
		return nil, err
	}
	s.stores.mu.Lock()
	h.verified = true
	s.stores.mu.Unlock()
	return rep, nil
}

// openIt is open without a look at others. leaving says that it may be on its way out.
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
	rep, err := s.openReplica(ctx, h.ref, is.Kind, is.Spec)
	if err != nil {
		return nil, err
	}
	s.stores.mu.Lock()
	defer s.stores.mu.Unlock()
	h.rep, h.verified = rep, false
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
	h.rep, h.verified = nil, false
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
		p, err := s.found(ctx, e, live)
		return place{ID: id, Gen: e.ref.Gen, Hosts: []peer.ID{p}}, err
	}
	hosts := slices.DeleteFunc(e.hosts, func(p peer.ID) bool { return !slices.Contains(live, p) })
	if len(hosts) == 0 {
		return place{}, fmt.Errorf("%w: no replica of the store is there", taubyte.ErrUnavailable)
	}
	s.lookStore(id)
	return place{ID: id, Gen: e.ref.Gen, Hosts: rank([]byte(id), hosts)}, nil
}

// hearOthers returns when the registry has what the hoarders know that this node is
// connected to, also if they have only just met.
func (s *Service) hearOthers(ctx context.Context) error {
	for _, p := range s.host.Network().Peers() {
		ask, cancel := context.WithTimeout(ctx, wakeTimeout)
		m, err := s.host.Member(ask, p)
		// Until they have identified themselves, nobody knows what they replicate.
		for err == nil && m.Has(taubyte.RoleHoarder) {
			if known, _ := s.host.Peerstore().GetProtocols(p); len(known) > 0 || !pause(ask, 5*time.Millisecond) {
				break
			}
		}
		cancel()
	}
	return s.registry.Synced(ctx)
}

// found has a store's first replica made, by the first hoarder in the store's order
// that can.
func (s *Service) found(ctx context.Context, e entry, live []peer.ID) (peer.ID, error) {
	candidates := slices.DeleteFunc(rank([]byte(e.ref.ID), live), func(p peer.ID) bool { return slices.Contains(e.full, p) })
	var errs error
	for _, p := range candidates {
		var err error
		if p == s.host.ID() {
			err = s.begin(ctx, e.ref, e.told)
		} else {
			err = s.peers.begin(ctx, p, e.ref, e.told)
		}
		if err == nil {
			return p, nil
		}
		if ctx.Err() != nil {
			return "", err
		}
		errs = errors.Join(errs, err)
	}
	if errs == nil {
		errs = errFull
	}
	return "", fmt.Errorf("%w: nobody can host the store: %w", taubyte.ErrUnavailable, errs)
}

// eachStore calls do for each store that the registry has, dropped or not.
func (s *Service) eachStore(ctx context.Context, do func(id string)) error {
	res, err := s.registry.Query(ctx, query.Query{Prefix: "/store", KeysOnly: true})
	if err != nil {
		return err
	}
	defer res.Close()
	for e := range res.Next() {
		if e.Error != nil {
			return e.Error
		}
		if id, ok := isStoreKey(ds.RawKey(e.Key)); ok {
			do(id)
		}
	}
	return nil
}

// A Store is a database or storage and what the registry knows of it.
type Store struct {
	Kind     string    `json:"kind"` // "database" or "storage"
	Instance Instance  `json:"instance"`
	Min      int       `json:"min"` // replicas
	Max      int       `json:"max"`
	Size     int64     `json:"size"`               // bytes that it may have
	Replicas []Replica `json:"replicas,omitempty"` // without their sizes
}

// Stores lists the databases and storages, in no order that means anything.
func (s *Service) Stores(ctx context.Context) ([]Store, error) {
	var ids []string
	if err := s.eachStore(ctx, func(id string) { ids = append(ids, id) }); err != nil {
		return nil, fmt.Errorf("listing the stores: %w", err)
	}
	live := s.live()
	all := []Store{}
	for _, id := range slices.Compact(slices.Sorted(slices.Values(ids))) {
		e, err := s.storeEntry(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("listing the stores: %w", err)
		}
		if !e.known {
			continue
		}
		st := Store{Kind: string(e.Kind), Instance: e.Instance, Min: e.Spec.Min, Max: e.Spec.Max, Size: e.Spec.Size}
		for _, p := range e.hosts {
			st.Replicas = append(st.Replicas, Replica{Peer: p, Live: slices.Contains(live, p)})
		}
		all = append(all, st)
	}
	return all, nil
}

// isStoreKey returns the store that a key of the registry is about.
func isStoreKey(key ds.Key) (id string, ok bool) {
	parts := key.List()
	if len(parts) < 3 {
		return "", false
	}
	switch parts[0] {
	case "store", "host", "dropped":
		return parts[1], true
	case "full":
		return parts[1], len(parts[1]) == idLen // a CID is longer
	}
	return "", false
}
