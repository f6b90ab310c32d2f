package hoarder

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rendezvous"
)

// Copies says on how many disks something is that was acknowledged.
type Copies struct {
	Disks  int `json:"disks"`  // that have it
	Wanted int `json:"wanted"` // that should, as far as there are hoarders
}

// Degraded reports whether there are fewer than wanted.
func (c Copies) Degraded() bool { return c.Disks < c.Wanted }

// promise is how long a hoarder keeps what it has told another that it has. That one gives
// up its own copy in half of that, or asks again.
const promise = 10 * time.Second

// hasRequest asks a hoarder whether it has a root.
type hasRequest struct {
	Root  string `json:"root"`
	Fetch bool   `json:"fetch,omitempty"` // it should fetch it
	Keep  bool   `json:"keep,omitempty"`  // it should promise to keep it: the caller gives its own up
}

type hasAnswer struct {
	Has bool `json:"has"`
}

// promises are the roots that others count on, and until when.
type promises struct {
	mu  sync.Mutex
	all map[cid.Cid]time.Time
}

func (p *promises) give(root cid.Cid) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for c, until := range p.all {
		if now.After(until) {
			delete(p.all, c)
		}
	}
	if p.all == nil {
		p.all = map[cid.Cid]time.Time{}
	}
	p.all[root] = now.Add(promise)
}

func (p *promises) bind(root cid.Cid) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Before(p.all[root])
}

// hasForAnother looks on the disk, not into the registry, and where it is asked to,
// promises to keep what it finds for a while.
func (s *Service) hasForAnother(ctx context.Context, root cid.Cid, fetch, keep bool) (bool, error) {
	for range 2 {
		release, err := s.holds.hold(ctx, inner) // nothing is being deleted now
		if err != nil {
			return false, err
		}
		_, ok, err := s.has(ctx, root)
		if err == nil && ok {
			ok, err = s.host.Blocks().Blockstore().Has(ctx, root)
		}
		if ok && err == nil && keep {
			s.promises.give(root)
		}
		release()
		if err != nil || ok || !fetch {
			return ok, err
		}
		if err := s.fetch(ctx, root, nil); err != nil {
			return false, err
		}
		fetch = false
	}
	return false, nil
}

// elsewhere returns which of some hoarders have a root on their disks now. They are asked
// all at once.
func (s *Service) elsewhere(ctx context.Context, root cid.Cid, holders []peer.ID, keep bool) (have []peer.ID) {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, p := range holders {
		if p == s.host.ID() {
			continue
		}
		wg.Go(func() {
			if ok, err := s.peers.has(ctx, p, hasRequest{Root: root.String(), Keep: keep}); err == nil && ok {
				mu.Lock()
				defer mu.Unlock()
				have = append(have, p)
			}
		})
	}
	wg.Wait()
	return have
}

// holders are the hoarders that are there and say that they have it.
func (i *Item) holders() (ids []peer.ID) {
	for _, r := range i.Replicas {
		if r.Live {
			ids = append(ids, r.Peer)
		}
	}
	return ids
}

// KeepCopies is Keep, and says on how many disks the content is: it waits until as many
// hoarders have it as are wanted, or the others say that they can't, as long as ctx
// allows.
//
// It takes the verb deploy on the project that it is kept for, a job of the project, or
// a node of the roles hoarder, monkey, patrick or tns.
func (s *Service) KeepCopies(ctx context.Context, root cid.Cid, o KeepOptions) (Copies, error) {
	if err := taubyte.AllowJob(ctx, o.Project, "", "", keepers...); err != nil {
		return Copies{}, err
	}
	if err := s.keep(ctx, root, o); err != nil {
		return Copies{}, err
	}
	live := s.live()
	c := Copies{Disks: 1, Wanted: min(o.least(), len(live))}
	if c.Disks >= c.Wanted {
		return c, nil
	}
	item, err := s.item(ctx, root)
	if err != nil {
		return c, nil // it is kept, and released already
	}
	have := s.elsewhere(ctx, root, item.holders(), false)
	c.Disks += len(have)
	// Those are asked that would pull it in any case.
	candidates := slices.DeleteFunc(rendezvous.Rank(root.KeyString(), live), func(p peer.ID) bool {
		return p == s.host.ID() || slices.Contains(have, p) || slices.Contains(item.full, p)
	})
	for c.Disks < c.Wanted && len(candidates) > 0 && ctx.Err() == nil {
		n := min(c.Wanted-c.Disks, len(candidates))
		answers := make(chan bool, n)
		for _, p := range candidates[:n] {
			go func() {
				wait, cancel := context.WithTimeout(ctx, 10*time.Second+time.Duration(item.Size>>20)*time.Second)
				defer cancel()
				ok, err := s.peers.has(wait, p, hasRequest{Root: root.String(), Fetch: true})
				if err != nil {
					s.o.log.Debug("another hoarder does not keep content", "root", root, "peer", p, "err", err)
				}
				answers <- err == nil && ok
			}()
		}
		for range n {
			if <-answers {
				c.Disks++
			}
		}
		candidates = candidates[n:]
	}
	if c.Degraded() {
		s.o.log.Warn("content is on fewer disks than wanted", "root", root, "disks", c.Disks, "wanted", c.Wanted)
	}
	return c, nil
}

// Keep makes a root the project's content. It returns when this node has the whole DAG on
// disk and the registry says so, and as many other hoarders as are wanted have it, of
// those that are there: KeepCopies tells how many do. Keeping again is the same as
// keeping once. Errors: taubyte.ErrUnavailable when there is no room, or when ctx ends
// before all blocks were found. KeepCopies says who may.
func (s *Service) Keep(ctx context.Context, root cid.Cid, o KeepOptions) error {
	_, err := s.KeepCopies(ctx, root, o)
	return err
}
