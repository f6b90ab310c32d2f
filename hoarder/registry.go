package hoarder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
)

// The registry's keys. Each is written by one node only, the one at its end.
//
//	/claim/<root>/<project>/<peer>   a project wants the root; <peer> took the call
//	/replica/<root>/<peer>           <peer> has the whole DAG on disk
//	/full/<root>/<peer>              <peer> has no room for it
//
// and those of the node's own store:
//
//	/have/<root>    the DAG is on disk; counted, and deleted one day
//	/fetch/<root>   it is being fetched; taken up again after a crash

// KeepOptions say for whom content is kept, and how often.
type KeepOptions struct {
	Project taubyte.ProjectID `json:"project"`
	// Class says what it is, for people: "website", "function" …
	Class string `json:"class,omitempty"`
	// Min is how many hoarders should hold it, as far as there are so many; 0 stands for 2,
	// or for Max if that is less.
	Min int `json:"min,omitempty"`
	// Max is how many may; 0 stands for any number.
	Max int `json:"max,omitempty"`
}

// maxReplicas bounds what a claim may ask for.
const maxReplicas = 1000

// least is how many hoarders should hold it.
func (o KeepOptions) least() int {
	switch {
	case o.Min > 0:
		return o.Min
	case o.Max > 0:
		return min(defaultMin, o.Max)
	}
	return defaultMin
}

func (o KeepOptions) check() error {
	if !validProject(o.Project) {
		return fmt.Errorf("%w project %q", taubyte.ErrInvalid, o.Project)
	}
	if o.Min < 0 || o.Max < 0 || o.Max > 0 && o.Max < o.Min || o.Min > maxReplicas || o.Max > maxReplicas {
		return fmt.Errorf("%w replicas: from %d to %d", taubyte.ErrInvalid, o.Min, o.Max)
	}
	if len(o.Class) > 64 {
		return fmt.Errorf("%w class: %d bytes long", taubyte.ErrInvalid, len(o.Class))
	}
	return nil
}

// validProject: a part of a key.
func validProject(p taubyte.ProjectID) bool {
	return p != "" && len(p) <= 128 && !strings.ContainsFunc(string(p), func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	})
}

// A Claim is a project's wish.
type Claim struct {
	KeepOptions
	Since time.Time `json:"since"`
}

// A Replica is a hoarder that has said that it holds the whole DAG.
type Replica struct {
	Peer peer.ID `json:"peer"`
	Size int64   `json:"size"`
	Live bool    `json:"live"` // as the answering node sees it
}

// An Item is a root and what the registry knows of it.
type Item struct {
	Root     cid.Cid   `json:"root"`
	Claims   []Claim   `json:"claims"`
	Replicas []Replica `json:"replicas"`
	Size     int64     `json:"size"` // bytes of the DAG

	full []peer.ID // have no room for it
}

// Wanted is the number of replicas that the claims ask for together: the largest
// minimum, and no maximum unless all have one.
func (i Item) Wanted() (min, max int) {
	unbounded := false
	for _, c := range i.Claims {
		min = larger(min, c.least())
		max = larger(max, c.Max)
		unbounded = unbounded || c.Max == 0
	}
	if unbounded {
		return min, 0
	}
	return min, larger(min, max)
}

func larger(a, b int) int {
	if a > b {
		return a
	}
	return b
}

// Items lists what is kept or wanted, by root. It takes the verb read on everything, or
// a node.
func (s *Service) Items(ctx context.Context) ([]Item, error) {
	if err := taubyte.Allow(ctx, taubyte.VerbRead, "", taubyte.Roles()...); err != nil {
		return nil, err
	}
	roots := map[cid.Cid]*Item{}
	for _, prefix := range []string{"/claim", "/replica"} {
		if err := s.collect(ctx, prefix, roots); err != nil {
			return nil, err
		}
	}
	items := make([]Item, 0, len(roots))
	for _, i := range roots {
		i.settle()
		items = append(items, *i)
	}
	slices.SortFunc(items, func(a, b Item) int { return strings.Compare(a.Root.KeyString(), b.Root.KeyString()) })
	return items, nil
}

// Item returns one of the Items, or taubyte.ErrNotFound. Items says who may; a function
// is told of what its project keeps, and that its project does.
func (s *Service) Item(ctx context.Context, root cid.Cid) (Item, error) {
	p := taubyte.PrincipalOf(ctx)
	if p.Kind != taubyte.KindFunction {
		if err := taubyte.Allow(ctx, taubyte.VerbRead, "", taubyte.Roles()...); err != nil {
			return Item{}, err
		}
		return s.item(ctx, root)
	}
	if err := taubyte.AllowNode(ctx, users...); err != nil {
		return Item{}, err
	}
	item, err := s.item(ctx, root)
	if err != nil {
		return Item{}, err
	}
	item.Claims = slices.DeleteFunc(item.Claims, func(c Claim) bool { return !slices.Contains(p.Projects, c.Project) })
	if len(item.Claims) == 0 {
		return Item{}, fmt.Errorf("%w: the project of %s does not keep %s", taubyte.ErrNotFound, p, root)
	}
	return item, nil
}

func (s *Service) item(ctx context.Context, root cid.Cid) (Item, error) {
	roots := map[cid.Cid]*Item{}
	for _, prefix := range []string{"/claim/", "/replica/", "/full/"} {
		if err := s.collect(ctx, prefix+root.String(), roots); err != nil {
			return Item{}, err
		}
	}
	i, ok := roots[root]
	if !ok || len(i.Claims) == 0 && len(i.Replicas) == 0 {
		return Item{}, fmt.Errorf("%w: nobody keeps %s", taubyte.ErrNotFound, root)
	}
	i.settle()
	return *i, nil
}

// settle orders an item's parts, and leaves one claim of each project: that with the
// larger minimum where several nodes took one.
func (i *Item) settle() {
	slices.SortFunc(i.Claims, func(a, b Claim) int {
		if c := strings.Compare(string(a.Project), string(b.Project)); c != 0 {
			return c
		}
		if a.least() != b.least() {
			return b.least() - a.least()
		}
		return a.Since.Compare(b.Since)
	})
	i.Claims = slices.CompactFunc(i.Claims, func(a, b Claim) bool { return a.Project == b.Project })
	slices.SortFunc(i.Replicas, func(a, b Replica) int { return strings.Compare(string(a.Peer), string(b.Peer)) })
	for _, r := range i.Replicas {
		i.Size = max(i.Size, r.Size)
	}
}

// collect adds the entries under a prefix. An entry that can't be read is left
// out: it is another version's, and no reason to lose sight of the rest.
func (s *Service) collect(ctx context.Context, prefix string, into map[cid.Cid]*Item) error {
	live := s.live()
	return each(ctx, s.registry, prefix, func(key ds.Key, value []byte) error {
		parts := key.List()
		if len(parts) < 3 {
			return nil
		}
		root, err := cid.Decode(parts[1])
		if err != nil {
			return nil
		}
		i := into[root]
		if i == nil {
			i = &Item{Root: root}
			into[root] = i
		}
		switch parts[0] {
		case "claim":
			var c Claim
			if json.Unmarshal(value, &c) == nil && len(parts) == 4 {
				i.Claims = append(i.Claims, c)
			}
		case "replica":
			var r Replica
			if p, err := peer.Decode(parts[2]); err == nil && json.Unmarshal(value, &r) == nil && !s.host.Members().Revoked(p) {
				r.Peer, r.Live = p, slices.Contains(live, p)
				i.Replicas = append(i.Replicas, r)
			}
		case "full":
			if p, err := peer.Decode(parts[2]); err == nil {
				i.full = append(i.full, p)
			}
		}
		return nil
	})
}

func claimKey(root cid.Cid, project taubyte.ProjectID, p peer.ID) ds.Key {
	return ds.KeyWithNamespaces([]string{"claim", root.String(), string(project), p.String()})
}

func replicaKey(root cid.Cid, p peer.ID) ds.Key {
	return ds.KeyWithNamespaces([]string{"replica", root.String(), p.String()})
}

func fullKey(root cid.Cid, p peer.ID) ds.Key {
	return ds.KeyWithNamespaces([]string{"full", root.String(), p.String()})
}

// each calls do for every entry under a prefix.
func each(ctx context.Context, store ds.Read, prefix string, do func(ds.Key, []byte) error) error {
	res, err := store.Query(ctx, query.Query{Prefix: prefix})
	if err != nil {
		return fmt.Errorf("listing %s: %w", prefix, err)
	}
	defer res.Close()
	for r := range res.Next() {
		if r.Error != nil {
			return fmt.Errorf("listing %s: %w", prefix, r.Error)
		}
		if err := do(ds.RawKey(r.Key), r.Value); err != nil {
			return err
		}
	}
	return nil
}

// put writes an entry unless it stands there already: history only grows.
func put(ctx context.Context, store taubyte.Datastore, key ds.Key, v any) error {
	value, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", key, err)
	}
	if old, err := store.Get(ctx, key); err == nil && string(old) == string(value) {
		return nil
	}
	if err := store.Put(ctx, key, value); err != nil {
		return fmt.Errorf("writing %s: %w", key, err)
	}
	return nil
}

func remove(ctx context.Context, store taubyte.Datastore, key ds.Key) error {
	switch has, err := store.Has(ctx, key); {
	case err != nil:
		return fmt.Errorf("removing %s: %w", key, err)
	case !has:
		return nil
	}
	if err := store.Delete(ctx, key); err != nil && !errors.Is(err, ds.ErrNotFound) {
		return fmt.Errorf("removing %s: %w", key, err)
	}
	return nil
}

// read decodes an entry.
func read(ctx context.Context, store ds.Read, key ds.Key, out any) error {
	value, err := store.Get(ctx, key)
	if err == nil {
		err = json.Unmarshal(value, out)
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", key, err)
	}
	return nil
}
