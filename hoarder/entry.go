package hoarder

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
)

// The registry's keys of databases and storages.
//
//	/store/<id>/<peer>            what the store is; <peer> was told
//	/host/<id>/<life>/<peer>      <peer> has a replica with all data
//	/dropped/<id>/<life>/<peer>   that life of the store is over; <peer> was told
//	/full/<id>/<peer>             <peer> has no room for it
//	/insync/<id>/<life>/<peer>    the in-sync set of <peer>
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
	from  peer.ID   // who was told that
	hosts []peer.ID // of that life
	sets  map[peer.ID]insync
	full  []peer.ID
}

// storeEntry reads a store's entry.
func (s *Service) storeEntry(ctx context.Context, id string) (entry, error) {
	all, err := s.storeEntries(ctx, "/"+id)
	if e, ok := all[id]; ok {
		return *e, err
	}
	return entry{ref: ref{ID: id, Gen: 1}}, err
}

// storeEntries reads the entries of one store, or of all where below is empty. Of what
// several hoarders were told of a store the newest counts, and every hoarder reads it
// alike.
func (s *Service) storeEntries(ctx context.Context, below string) (map[string]*entry, error) {
	all := map[string]*entry{}
	of := func(id string) *entry {
		e := all[id]
		if e == nil {
			e = &entry{ref: ref{ID: id, Gen: 1}}
			all[id] = e
		}
		return e
	}
	err := each(ctx, s.registry, "/store"+below, func(key ds.Key, value []byte) error {
		var t told
		id, p, ok := storeAndPeer(key)
		if !ok || json.Unmarshal(value, &t) != nil {
			return nil // another version's
		}
		e := of(id)
		if c := t.Since.Compare(e.Since); !e.known || c > 0 || c == 0 && p > e.from {
			e.known, e.told, e.from = true, t, p
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = each(ctx, s.registry, "/dropped"+below, func(key ds.Key, _ []byte) error {
		if r, _, ok := lifeAndPeer(key); ok && r.Gen >= of(r.ID).ref.Gen {
			of(r.ID).ref.Gen = r.Gen + 1
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = each(ctx, s.registry, "/host"+below, func(key ds.Key, _ []byte) error {
		if r, p, ok := lifeAndPeer(key); ok && r == of(r.ID).ref && !s.host.Members().Revoked(p) {
			of(r.ID).hosts = append(of(r.ID).hosts, p)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = each(ctx, s.registry, "/insync"+below, func(key ds.Key, value []byte) error {
		var is insync
		if r, p, ok := lifeAndPeer(key); ok && r == of(r.ID).ref && json.Unmarshal(value, &is) == nil {
			e := of(r.ID)
			if e.sets == nil {
				e.sets = map[peer.ID]insync{}
			}
			e.sets[p] = is
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, each(ctx, s.registry, "/full"+below, func(key ds.Key, _ []byte) error {
		if id, p, ok := storeAndPeer(key); ok && len(id) == idLen { // a CID is longer
			of(id).full = append(of(id).full, p)
		}
		return nil
	})
}

// storeAndPeer are the last parts of a key.
func storeAndPeer(key ds.Key) (string, peer.ID, bool) {
	parts := key.List()
	if len(parts) != 3 {
		return "", "", false
	}
	p, err := peer.Decode(parts[2])
	return parts[1], p, err == nil
}

// lifeAndPeer are the last parts of a key.
func lifeAndPeer(key ds.Key) (ref, peer.ID, bool) {
	parts := key.List()
	if len(parts) != 4 {
		return ref{}, "", false
	}
	gen, err := strconv.ParseUint(parts[2], 10, 62)
	p, err2 := peer.Decode(parts[3])
	return ref{parts[1], gen}, p, err == nil && err2 == nil
}

// A Store is a database or storage and what the registry knows of it.
type Store struct {
	Kind     string    `json:"kind"` // "database" or "storage"
	Instance Instance  `json:"instance"`
	Min      int       `json:"min"` // replicas
	Max      int       `json:"max"`
	Size     int64     `json:"size"`               // bytes that it may have
	Replicas []Replica `json:"replicas,omitempty"` // without their sizes
	// InSync are the replicas that have every acknowledged write. It is degraded when they
	// are fewer than Min, or than there are hoarders: writes are acknowledged nevertheless,
	// and say so (Copies).
	InSync   []peer.ID `json:"insync,omitempty"`
	Degraded bool      `json:"degraded,omitempty"`
}

// inSync are the hosts that are there and in the sets of all that are.
func (e *entry) inSync(live []peer.ID) (ids []peer.ID) {
	for _, p := range e.hosts {
		in := slices.Contains(live, p)
		for _, q := range e.hosts {
			if is, ok := e.sets[q]; ok && q != p && slices.Contains(live, q) {
				in = in && slices.Contains(is.Set, p)
			}
		}
		if in {
			ids = append(ids, p)
		}
	}
	return ids
}

// Stores lists the databases and storages, in no order that means anything. It takes the
// verb read on everything, or a node of role hoarder.
func (s *Service) Stores(ctx context.Context) ([]Store, error) {
	if err := taubyte.Allow(ctx, taubyte.VerbRead, "", taubyte.RoleHoarder); err != nil {
		return nil, err
	}
	entries, err := s.storeEntries(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("listing the stores: %w", err)
	}
	live := s.live()
	all := []Store{}
	for _, id := range slices.Sorted(maps.Keys(entries)) {
		e := entries[id]
		if !e.known {
			continue
		}
		st := Store{Kind: string(e.Kind), Instance: e.Instance, Min: e.Spec.Min, Max: e.Spec.Max, Size: e.Spec.Size}
		for _, p := range e.hosts {
			st.Replicas = append(st.Replicas, Replica{Peer: p, Live: slices.Contains(live, p)})
		}
		st.InSync = e.inSync(live)
		st.Degraded = len(st.InSync) < min(e.Spec.Min, max(len(live), len(e.hosts)))
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
	case "store", "host", "dropped", "insync":
		return parts[1], true
	case "full":
		return parts[1], len(parts[1]) == idLen // a CID is longer
	}
	return "", false
}
