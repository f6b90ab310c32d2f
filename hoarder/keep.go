package hoarder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/unixfs"
)

// fetchTimeout bounds bringing one DAG to this node: long enough for gigabytes,
// and an end for content that nobody has any more.
const fetchTimeout = 10 * time.Minute

// have is the node's own record of a DAG on its disk.
type have struct {
	Size int64 `json:"size"`
	// Dropping: its blocks are being deleted, or are to be.
	Dropping bool `json:"dropping,omitempty"`
}

// intent is the node's own record of a DAG that it began to fetch.
type intent struct {
	Claims []KeepOptions `json:"claims,omitempty"`
}

func haveKey(root cid.Cid) ds.Key  { return ds.KeyWithNamespaces([]string{"have", root.String()}) }
func fetchKey(root cid.Cid) ds.Key { return ds.KeyWithNamespaces([]string{"fetch", root.String()}) }

// held lists what the node has.
func (s *Service) held(ctx context.Context) (map[cid.Cid]have, error) {
	all := map[cid.Cid]have{}
	err := each(ctx, s.local, "/have", func(key ds.Key, value []byte) error {
		var h have
		root, err := cid.Decode(key.Name())
		if err == nil {
			err = json.Unmarshal(value, &h)
		}
		if err != nil {
			return fmt.Errorf("%w record %s of the node's content: %w", taubyte.ErrInvalid, key, err)
		}
		all[root] = h
		return nil
	})
	return all, err
}

// has reports whether the whole DAG is on this node's disk, to stay.
func (s *Service) has(ctx context.Context, root cid.Cid) (h have, ok bool, err error) {
	value, err := s.local.Get(ctx, haveKey(root))
	if errors.Is(err, ds.ErrNotFound) {
		return h, false, nil
	}
	if err == nil {
		err = json.Unmarshal(value, &h)
	}
	if err != nil {
		return h, false, fmt.Errorf("reading the record of %s: %w", root, err)
	}
	return h, !h.Dropping, nil
}

// keep has the DAG on this node's disk and in the registry.
func (s *Service) keep(ctx context.Context, root cid.Cid, o KeepOptions) error {
	if err := o.check(); err != nil {
		return fmt.Errorf("keeping %s: %w", root, err)
	}
	if err := checkRoot(root); err != nil {
		return fmt.Errorf("keeping %s: %w", root, err)
	}
	if s.life.Err() != nil {
		return fmt.Errorf("keeping %s: %w", root, taubyte.ErrClosed)
	}
	ok, err := s.claimHeld(ctx, root, o)
	if err == nil && !ok {
		err = s.fetch(ctx, root, &o)
	}
	if err != nil {
		return fmt.Errorf("keeping %s: %w", root, err)
	}
	return nil
}

func checkRoot(root cid.Cid) error {
	if !root.Defined() || root.Type() != cid.Raw && root.Type() != cid.DagProtobuf {
		return fmt.Errorf("%w root %q: neither raw nor dag-pb", taubyte.ErrInvalid, root)
	}
	return nil
}

// claimHeld records the claim where the content is here already.
func (s *Service) claimHeld(ctx context.Context, root cid.Cid, o KeepOptions) (bool, error) {
	release, err := s.holds.hold(ctx, inner)
	if err != nil {
		return false, err
	}
	defer release()
	h, ok, err := s.has(ctx, root)
	if err != nil || !ok {
		return false, err
	}
	return true, s.record(ctx, root, h.Size, o)
}

// record states in the registry that the node has the root, and the claims.
func (s *Service) record(ctx context.Context, root cid.Cid, size int64, claims ...KeepOptions) error {
	if err := put(ctx, s.registry, replicaKey(root, s.host.ID()), Replica{Peer: s.host.ID(), Size: size}); err != nil {
		return err
	}
	for _, o := range claims {
		// Written anew if it stands there already: somebody may just be releasing what is
		// there, and takes away no more than that.
		c := Claim{KeepOptions: o, Since: time.Now().UTC()}
		if err := put(ctx, s.registry, claimKey(root, o.Project, s.host.ID()), c); err != nil {
			return err
		}
	}
	return nil
}

// A fetch is under way, for as long as somebody waits for it.
type fetch struct {
	claims []KeepOptions
	users  int
	cancel context.CancelCauseFunc
	done   chan struct{}
	err    error
}

var errAbandoned = errors.New("nobody waits for it any more")

// fetch brings the DAG to this node's disk and records it, with the claim if there
// is one. Calls for the same root share the work.
func (s *Service) fetch(ctx context.Context, root cid.Cid, claim *KeepOptions) error {
	s.mu.Lock()
	f := s.fetching[root]
	if f == nil {
		if s.life.Err() != nil {
			s.mu.Unlock()
			return taubyte.ErrClosed
		}
		f = &fetch{done: make(chan struct{})}
		var work context.Context
		work, f.cancel = context.WithCancelCause(s.life)
		s.fetching[root] = f
		s.wg.Go(func() { s.run(work, root, f) })
	}
	f.users++
	if claim != nil {
		f.claims = append(f.claims, *claim)
	}
	s.mu.Unlock()

	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
	}
	s.mu.Lock()
	if f.users--; f.users == 0 {
		f.cancel(errAbandoned)
	}
	s.mu.Unlock()
	return fmt.Errorf("%w: its blocks did not arrive in time: %w", taubyte.ErrUnavailable, ctx.Err())
}

func (s *Service) run(ctx context.Context, root cid.Cid, f *fetch) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	defer f.cancel(nil)
	f.err = s.bring(ctx, root, f)
	s.mu.Lock()
	if s.fetching[root] == f {
		delete(s.fetching, root)
	}
	s.mu.Unlock()
	close(f.done)
	if f.err == nil {
		s.o.log.Debug("content kept", "root", root)
		return
	}
	if s.life.Err() != nil {
		return // the next life goes on with it
	}
	s.o.log.Warn("content not kept", "root", root, "err", f.err)
	end, cancel := context.WithTimeout(s.life, time.Minute)
	defer cancel()
	if err := s.abandon(end, root, errors.Is(f.err, errFull)); err != nil {
		s.o.log.Warn("clearing up after content that was not kept", "root", root, "err", err)
	}
}

func (s *Service) bring(ctx context.Context, root cid.Cid, f *fetch) error {
	s.mu.Lock()
	claims := f.claims
	s.mu.Unlock()
	if err := put(ctx, s.local, fetchKey(root), intent{Claims: claims}); err != nil {
		return err
	}
	taken, err := s.reserve(ctx, root)
	defer func() { s.space.give(taken) }()
	if err != nil {
		return err
	}
	for {
		var size int64
		began := s.holds.seen()
		err := unixfs.Walk(ctx, s.host.Blocks(), root, func(_ cid.Cid, n int) error {
			if size += int64(n); size <= taken {
				return nil
			}
			more := size - taken
			if err := s.space.take(more); err != nil {
				return err
			}
			taken += more
			return nil
		})
		if err != nil {
			return err
		}
		ok, err := s.settle(ctx, root, size, began, f)
		if err != nil {
			return err
		}
		if ok {
			taken -= size // it stays counted
			return nil
		}
	}
}

// reserve counts in what the root says that its DAG is large, before a block of it
// is stored.
func (s *Service) reserve(ctx context.Context, root cid.Cid) (int64, error) {
	b, err := s.host.Blocks().GetBlock(ctx, root)
	if err != nil {
		return 0, fmt.Errorf("reading the root: %w", err)
	}
	size := int64(len(b.RawData()))
	if root.Type() == cid.DagProtobuf {
		node, err := merkledag.DecodeProtobufBlock(b)
		if err != nil {
			return 0, fmt.Errorf("%w root: %w", taubyte.ErrInvalid, err)
		}
		for _, l := range node.Links() {
			if n := int64(l.Size); n > 0 && size+n > size { // a lie is found out by counting
				size += n
			}
		}
	}
	if err := s.space.take(size); err != nil {
		return 0, err
	}
	return size, nil
}

// settle records a DAG that has arrived, unless a block of it was collected since it
// began to: collection does not run beside it. Where none has run, nothing is read again.
func (s *Service) settle(ctx context.Context, root cid.Cid, size int64, began uint64, f *fetch) (bool, error) {
	release, err := s.holds.hold(ctx, inner)
	if err != nil {
		return false, err
	}
	defer release()
	old, _, err := s.has(ctx, root)
	if err != nil {
		return false, err
	}
	if s.holds.seen() != began {
		whole := true
		store := s.host.Blocks().Blockstore()
		err = walkLocal(ctx, store, root, func(c cid.Cid) error {
			has, err := store.Has(ctx, c)
			whole = whole && has
			return err
		})
		if err != nil || !whole {
			return false, err
		}
	}
	if err := put(ctx, s.local, haveKey(root), have{Size: size}); err != nil {
		return false, err
	}
	s.space.give(old.Size) // was counted for the record that this one replaces
	s.mu.Lock()
	claims := f.claims
	delete(s.fetching, root) // who comes now finds the record
	s.mu.Unlock()
	if err := s.record(ctx, root, size, claims...); err != nil {
		return false, err
	}
	_ = remove(ctx, s.registry, fullKey(root, s.host.ID()))
	return true, remove(ctx, s.local, fetchKey(root))
}

// abandon gives up a fetch: what has arrived is marked for collection.
func (s *Service) abandon(ctx context.Context, root cid.Cid, full bool) error {
	release, err := s.holds.hold(ctx, inner)
	if err != nil {
		return err
	}
	defer release()
	if _, ok, err := s.has(ctx, root); err != nil || ok {
		return err
	}
	if full {
		if err := put(ctx, s.registry, fullKey(root, s.host.ID()), struct{}{}); err != nil {
			return err
		}
	}
	h, _, err := s.has(ctx, root)
	if err != nil {
		return err
	}
	h.Dropping = true
	if err := put(ctx, s.local, haveKey(root), h); err != nil {
		return err
	}
	err = remove(ctx, s.local, fetchKey(root))
	s.look(root)
	return err
}

// resume takes up what an earlier life was fetching.
func (s *Service) resume(ctx context.Context) error {
	return each(ctx, s.local, "/fetch", func(key ds.Key, value []byte) error {
		var i intent
		root, err := cid.Decode(key.Name())
		if err == nil {
			err = json.Unmarshal(value, &i)
		}
		if err != nil {
			return fmt.Errorf("%w record %s of a fetch: %w", taubyte.ErrInvalid, key, err)
		}
		for _, o := range i.Claims {
			s.wg.Go(func() { _ = s.keep(s.life, root, o) }) // logged where it fails
		}
		if len(i.Claims) == 0 {
			s.wg.Go(func() { _ = s.fetch(s.life, root, nil) })
		}
		return nil
	})
}

// Release takes a project's claim back. What nobody claims any more is deleted
// everywhere. Releasing what is not kept does nothing.
//
// It takes the verb deploy on the project, or a node of the roles hoarder, monkey,
// patrick or tns.
func (s *Service) Release(ctx context.Context, root cid.Cid, project taubyte.ProjectID) error {
	if err := taubyte.Allow(ctx, taubyte.VerbDeploy, project, keepers...); err != nil {
		return err
	}
	if !validProject(project) {
		return fmt.Errorf("releasing %s: %w project %q", root, taubyte.ErrInvalid, project)
	}
	if err := checkRoot(root); err != nil {
		return fmt.Errorf("releasing %s: %w", root, err)
	}
	prefix := ds.KeyWithNamespaces([]string{"claim", root.String(), string(project)})
	res, err := s.registry.Query(ctx, query.Query{Prefix: prefix.String(), KeysOnly: true})
	if err != nil {
		return fmt.Errorf("releasing %s: %w", root, err)
	}
	entries, err := res.Rest()
	if err != nil {
		return fmt.Errorf("releasing %s: %w", root, err)
	}
	for _, e := range entries {
		if err := remove(ctx, s.registry, ds.RawKey(e.Key)); err != nil {
			return fmt.Errorf("releasing %s: %w", root, err)
		}
	}
	return nil
}

// audit drops the records of content whose root is not on the disk: what the registry
// says of it is taken back, and it is fetched again. It costs one look-up for each.
func (s *Service) audit(ctx context.Context) error {
	store := s.host.Blocks().Blockstore()
	var lost []ds.Key
	look := func(key ds.Key, root cid.Cid) error {
		has, err := store.Has(ctx, root)
		if err == nil && !has {
			lost = append(lost, key)
		}
		return err
	}
	all, err := s.held(ctx)
	if err != nil {
		return err
	}
	for root, h := range all {
		if !h.Dropping {
			if err := look(haveKey(root), root); err != nil {
				return fmt.Errorf("looking for %s on the disk: %w", root, err)
			}
		}
	}
	if err := each(ctx, s.local, "/file", func(key ds.Key, value []byte) error {
		var k kept
		if err := json.Unmarshal(value, &k); err != nil || k.Size == 0 {
			return err
		}
		return look(key, k.Root)
	}); err != nil {
		return err
	}
	if len(lost) > 0 {
		s.o.log.Error("content is not on this node's disk any more; it is fetched again", "roots", len(lost))
	}
	for _, key := range lost {
		if err := remove(ctx, s.local, key); err != nil {
			return err
		}
	}
	return nil
}
