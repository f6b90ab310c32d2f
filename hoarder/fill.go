package hoarder

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/crdt"
	"github.com/taubyte/taubyte/internal/unixfs"
)

// filling is what a storage's replica has yet to fetch of its files.
type filling struct {
	mu      sync.Mutex
	missing map[string]version // by their key in the store
	changed chan struct{}      // closed when one came or went
	more    chan struct{}
}

func (f *filling) init() {
	f.missing, f.changed, f.more = map[string]version{}, make(chan struct{}), make(chan struct{}, 1)
}

func (f *filling) set(key string, v *version) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if v == nil {
		delete(f.missing, key)
	} else {
		f.missing[key] = *v
		select {
		case f.more <- struct{}{}:
		default:
		}
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *filling) rest() (map[string]version, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.missing), f.changed
}

// followFiles keeps the DAGs on disk as the store's files come and go.
func (r *replica) followFiles() error {
	events, err := r.data.Watch(r.life, ds.NewKey(files), 0)
	if err != nil {
		return err
	}
	if err := r.compareFiles(r.life, nil); err != nil {
		return err
	}
	r.wg.Go(func() {
		for e := range events {
			if err := r.fileChanged(e); err != nil && r.life.Err() == nil {
				r.s.o.log.Warn("following a storage", "store", r.ref, "err", err)
			}
		}
	})
	r.wg.Go(r.fill)
	return nil
}

func (r *replica) fileChanged(e crdt.Event) error {
	if e.Lost {
		// Among the changes, so that none is half done.
		_, _, err := r.change(r.life, func(t *tx) error { return r.compareFiles(t.ctx, t) })
		return err
	}
	key := e.Key.String()
	if e.Deleted {
		r.filling.set(key, nil)
		return r.s.releaseFile(r.life, r.ref, key)
	}
	v, err := decodeVersion(e.Value)
	if err != nil {
		return err
	}
	if here, err := r.s.keepsFile(r.life, r.ref, key); err != nil || here {
		return err
	}
	r.filling.set(key, &v)
	return nil
}

// compareFiles finds what is missing here of the store's files, and gives up what is
// not one any more.
func (r *replica) compareFiles(ctx context.Context, t *tx) error {
	all, err := r.records(ctx, files, t)
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, v := range all {
		wanted[v.key] = true
		here, err := r.s.keepsFile(ctx, r.ref, v.key)
		if err != nil {
			return err
		}
		if !here {
			r.filling.set(v.key, &v)
		}
	}
	var gone []string
	if err := r.s.keptFiles(ctx, r.ref, func(key string, _ kept) error {
		if !wanted[key] {
			gone = append(gone, key)
		}
		return nil
	}); err != nil {
		return err
	}
	for _, key := range gone {
		if err := r.s.releaseFile(ctx, r.ref, key); err != nil {
			return err
		}
	}
	return nil
}

// What could not be fetched rests so long at first, and up to so long.
const retryFill, mostFill = time.Second, time.Minute

// fill fetches what is missing.
func (r *replica) fill() {
	rest := retryFill
	for {
		missing, _ := r.filling.rest()
		failed := false
		for key, v := range missing {
			err := r.s.fetchFile(r.life, r, key, v)
			if r.life.Err() != nil {
				return
			}
			if err != nil {
				failed = true
				r.s.o.log.Warn("fetching a file of a storage", "store", r.ref, "root", v.CID, "err", err)
				continue
			}
			r.filling.set(key, nil)
		}
		if failed {
			if !pause(r.life, rest) {
				return
			}
			rest = min(2*rest, mostFill)
			continue
		}
		rest = retryFill
		select {
		case <-r.filling.more:
		case <-r.life.Done():
			return
		}
	}
}

// fillAll returns when every file that the store has now is here.
func (r *replica) fillAll(ctx context.Context) error {
	_, _, err := r.change(ctx, func(t *tx) error { return r.compareFiles(t.ctx, t) })
	if err != nil {
		return err
	}
	for {
		missing, changed := r.filling.rest()
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w: %d files have not arrived: %w", taubyte.ErrUnavailable, len(missing), ctx.Err())
		case <-r.life.Done():
			return errElsewhere
		}
	}
}

// waitFor returns when a file is here. It waits only so long: another replica may have
// it.
func (r *replica) waitFor(ctx context.Context, key string, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	look := time.NewTicker(20 * time.Millisecond) // for one whose event is on its way
	defer look.Stop()
	for {
		_, changed := r.filling.rest()
		if here, err := r.s.keepsFile(ctx, r.ref, key); err != nil || here {
			return err
		}
		if is, err := r.data.Has(ctx, ds.RawKey(key)); err != nil || !is {
			if err == nil {
				err = fmt.Errorf("%w: no such file", taubyte.ErrNotFound)
			}
			return err
		}
		select {
		case <-changed:
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: the content has not arrived: %w", taubyte.ErrUnavailable, ctx.Err())
		}
	}
}

// fetchFile brings a file's DAG here, if it is still one.
func (s *Service) fetchFile(ctx context.Context, r *replica, key string, v version) error {
	if is, err := r.data.Has(ctx, ds.RawKey(key)); err != nil || !is {
		return err
	}
	if err := s.space.take(v.Size); err != nil {
		return err
	}
	taken := true
	defer func() {
		if taken {
			s.space.give(v.Size)
		}
	}()
	s.filling(v.CID, 1)
	defer s.filling(v.CID, -1)
	// Garbage unless it becomes a file, whatever happens meanwhile.
	s.garbage.Lock()
	err := put(ctx, s.local, garbageKey(v.CID), garbage{time.Now()})
	s.garbage.Unlock()
	if err != nil {
		return err
	}
	for {
		// What the record says of the size was believed; it is a replica's word.
		if v.Size > 0 { // bitswap carries no empty blocks, and nobody reads them
			if err := s.fetchBlocks(ctx, v.CID); err != nil {
				return err
			}
		}
		whole, err := s.settleFile(ctx, r, key, v)
		if err != nil {
			return err
		}
		if whole {
			break
		}
	}
	taken = false
	// It may have been removed before there was something to give up.
	if is, err := r.data.Has(ctx, ds.RawKey(key)); err != nil || is {
		return err
	}
	return s.releaseFile(ctx, r.ref, key)
}

// stall is how long no block may come. Whoever had it may be gone, and another have it
// meanwhile.
const stall = 15 * time.Second

func (s *Service) fetchBlocks(ctx context.Context, root cid.Cid) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t := time.AfterFunc(stall, cancel)
	defer t.Stop()
	return unixfs.Walk(ctx, s.host.Blocks(), root, func(cid.Cid, int) error {
		t.Reset(stall)
		return nil
	})
}

// settleFile records a file whose DAG has arrived, unless some of it was collected
// meanwhile.
func (s *Service) settleFile(ctx context.Context, r *replica, key string, v version) (bool, error) {
	release, err := s.holds.hold(ctx, short)
	if err != nil {
		return false, err
	}
	defer release()
	whole := true
	store := s.host.Blocks().Blockstore()
	if v.Size == 0 {
		return true, s.keepFile(ctx, r.ref, key, v.CID, 0)
	}
	err = walkLocal(ctx, store, v.CID, func(c cid.Cid) error {
		has, err := store.Has(ctx, c)
		whole = whole && has
		return err
	})
	if err != nil || !whole {
		return false, err
	}
	return true, s.keepFile(ctx, r.ref, key, v.CID, v.Size)
}

// filling counts the fetches of a root that are under way.
func (s *Service) filling(root cid.Cid, n int) {
	s.pins.mu.Lock()
	defer s.pins.mu.Unlock()
	if s.pins.filling == nil {
		s.pins.filling = map[cid.Cid]int{}
	}
	if s.pins.filling[root] += n; s.pins.filling[root] == 0 {
		delete(s.pins.filling, root)
	}
}

// contentTimeout bounds a question whether a file is here; who asks has a bound of its
// own.
const contentTimeout = 10 * time.Minute
