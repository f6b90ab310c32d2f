package hoarder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	ipld "github.com/ipfs/go-ipld-format"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rendezvous"
)

// walkLocal visits the CIDs of a DAG as far as its blocks are on disk, and reads
// only those that have links. Missing blocks are visited as well.
func walkLocal(ctx context.Context, store blockstore.Blockstore, root cid.Cid, visit func(cid.Cid) error) error {
	seen := cid.NewSet()
	seen.Add(root)
	for stack := []cid.Cid{root}; len(stack) > 0; {
		c := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if err := visit(c); err != nil {
			return err
		}
		if c.Type() != cid.DagProtobuf {
			continue
		}
		b, err := store.Get(ctx, c)
		if ipld.IsNotFound(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading block %s: %w", c, err)
		}
		node, err := merkledag.DecodeProtobufBlock(b)
		if err != nil {
			return fmt.Errorf("%w block %s: %w", taubyte.ErrInvalid, c, err)
		}
		for _, l := range node.Links() {
			if seen.Visit(l.Cid) {
				stack = append(stack, l.Cid)
			}
		}
	}
	return nil
}

// collectSafely gives up a copy that is one too many only when others have theirs on
// disk, and as many as are wanted: they are asked.
func (s *Service) collectSafely(ctx context.Context, root cid.Cid) error {
	asked := time.Now()
	item, err := s.Item(ctx, root)
	switch {
	case errors.Is(err, taubyte.ErrNotFound):
	case err != nil:
		return err
	case len(item.Claims) > 0:
		// Those before this one in the order, which keep theirs.
		least, most := item.Wanted()
		stay := rendezvous.Rank(root.KeyString(), item.holders())
		if len(s.elsewhere(ctx, root, stay[:min(most, len(stay))], true)) < least {
			return nil
		}
	}
	return s.collectRoot(ctx, root, asked)
}

// collectRoot deletes the blocks that only this root needs, if it is still
// unwanted here. Nothing is kept or settled meanwhile. asked is when others said that
// they have it.
func (s *Service) collectRoot(ctx context.Context, root cid.Cid, asked time.Time) error {
	return s.holds.sweep(ctx, func() error {
		h, ok, err := s.has(ctx, root)
		if err != nil || !ok && !h.Dropping {
			return err
		}
		if ok {
			switch item, err := s.Item(ctx, root); {
			case err == nil:
				if len(item.Claims) > 0 && (!s.surplus(item) || s.promises.bind(root) || time.Since(asked) > promise/2) {
					return nil // claimed meanwhile, or another one counts on it, or it took too long
				}
			case !errors.Is(err, taubyte.ErrNotFound):
				return err
			}
		}
		// From here on it counts as gone, whenever the node stops.
		if err := put(ctx, s.local, haveKey(root), have{Size: h.Size, Dropping: true}); err != nil {
			return err
		}
		if err := remove(ctx, s.registry, replicaKey(root, s.host.ID())); err != nil {
			return err
		}
		n, err := s.deleteUnshared(ctx, root)
		if err != nil {
			return err
		}
		if err := remove(ctx, s.local, haveKey(root)); err != nil {
			return err
		}
		s.space.give(h.Size)
		s.o.log.Debug("content deleted", "root", root, "blocks", n)
		return s.roomAgain(ctx)
	})
}

// deleteUnshared deletes the blocks of a root that no other root of this node
// reaches, and returns how many.
func (s *Service) deleteUnshared(ctx context.Context, root cid.Cid) (int, error) {
	// Blocks are stored by their hash, whatever CID leads to them.
	unshared := map[string]cid.Cid{}
	if err := s.reach(ctx, root, unshared); err != nil {
		return 0, err
	}
	if err := s.spareWanted(ctx, unshared); err != nil {
		return 0, err
	}
	// The root last: as long as it is there, the rest can be found again.
	n := 0
	last, found := unshared[string(root.Hash())]
	delete(unshared, string(root.Hash()))
	for _, c := range unshared {
		deleted, err := s.deleteBlock(ctx, c)
		if err != nil {
			return n, err
		}
		n += deleted
	}
	if !found {
		return n, nil
	}
	deleted, err := s.deleteBlock(ctx, last)
	return n + deleted, err
}

// reach adds the blocks of a DAG, as far as they are on disk.
func (s *Service) reach(ctx context.Context, root cid.Cid, into map[string]cid.Cid) error {
	return walkLocal(ctx, s.host.Blocks().Blockstore(), root, func(c cid.Cid) error {
		into[string(c.Hash())] = c
		return nil
	})
}

// deleteBlock deletes a block that is there, unless an upload has need of it.
func (s *Service) deleteBlock(ctx context.Context, c cid.Cid) (n int, err error) {
	store := s.host.Blocks().Blockstore()
	err = s.pins.unlessPinned(c, func() error {
		has, err := store.Has(ctx, c)
		if err == nil && has {
			n = 1
			err = store.DeleteBlock(ctx, c)
		}
		if err != nil {
			return fmt.Errorf("deleting block %s: %w", c, err)
		}
		return nil
	})
	return n, err
}

// spareWanted takes those blocks out that are part of something that is to stay.
func (s *Service) spareWanted(ctx context.Context, blocks map[string]cid.Cid) error {
	others, err := s.held(ctx)
	if err != nil {
		return err
	}
	wanted := cid.NewSet()
	for c, h := range others {
		if !h.Dropping {
			wanted.Add(c)
		}
	}
	if err := each(ctx, s.local, "/fetch", func(key ds.Key, _ []byte) error {
		if c, err := cid.Decode(key.Name()); err == nil {
			wanted.Add(c)
		}
		return nil
	}); err != nil {
		return err
	}
	if err := each(ctx, s.local, "/file", func(key ds.Key, value []byte) error {
		var k kept
		if err := json.Unmarshal(value, &k); err != nil {
			return fmt.Errorf("reading the record %s of a file: %w", key, err)
		}
		wanted.Add(k.Root)
		return nil
	}); err != nil {
		return err
	}
	s.pins.mu.Lock()
	for c := range s.pins.filling {
		wanted.Add(c)
	}
	s.pins.mu.Unlock()
	return wanted.ForEach(func(other cid.Cid) error {
		if len(blocks) == 0 {
			return nil
		}
		return walkLocal(ctx, s.host.Blocks().Blockstore(), other, func(c cid.Cid) error {
			delete(blocks, string(c.Hash()))
			return nil
		})
	})
}

// collectTrash has the blocks deleted soon that storages left behind.
func (s *Service) collectTrash() {
	select {
	case s.trash <- struct{}{}:
	default:
	}
}

// emptyTrash deletes what storages left behind, whenever there is some, and at the
// interval what could not be deleted before.
func (s *Service) emptyTrash() {
	tick := time.NewTicker(s.o.interval)
	defer tick.Stop()
	for {
		if err := s.sweepTrash(s.life); err != nil && s.life.Err() == nil {
			s.o.log.Warn("deleting content of storages", "err", err)
		}
		select {
		case <-tick.C:
		case <-s.trash:
		case <-s.life.Done():
			return
		}
	}
}

// sweepTrash deletes the blocks of all garbage at once: what is to stay is walked
// over once for all of it. Its records go last.
func (s *Service) sweepTrash(ctx context.Context) error {
	if some, err := s.hasTrash(ctx); err != nil || !some {
		return err
	}
	return s.holds.sweep(ctx, func() error {
		blocks := map[string]cid.Cid{}
		records := map[ds.Key][]byte{}
		if err := each(ctx, s.local, "/garbage", func(key ds.Key, value []byte) error {
			if !s.overdue(value) {
				return nil
			}
			root, err := cid.Decode(key.Name())
			if err == nil {
				records[key] = value
				err = s.reach(ctx, root, blocks)
			}
			return err
		}); err != nil {
			return err
		}
		if err := each(ctx, s.local, "/upload", func(key ds.Key, value []byte) error {
			if s.pins.isActive(key) {
				return nil
			}
			records[key] = value
			for len(value) > 0 {
				n, c, err := cid.CidFromBytes(value)
				if err != nil {
					return fmt.Errorf("reading the record %s of an upload: %w", key, err)
				}
				blocks[string(c.Hash())] = c
				value = value[n:]
			}
			return nil
		}); err != nil {
			return err
		}
		if err := s.spareWanted(ctx, blocks); err != nil {
			return err
		}
		// Roots may go before what is below them, so a sweep that is cut off must not
		// lose sight of the rest.
		now, later := part(blocks, sweepSize)
		if err := s.noteTrash(ctx, now, records); err != nil {
			return err
		}
		if len(later) > 0 {
			if err := s.noteTrash(ctx, later, nil); err != nil {
				return err
			}
			s.collectTrash()
		}
		n := 0
		for _, c := range now {
			deleted, err := s.deleteBlock(ctx, c)
			if err != nil {
				return err
			}
			n += deleted
		}
		for key, value := range records {
			if err := s.removeTrash(ctx, key, value); err != nil {
				return err
			}
		}
		s.o.log.Debug("content of storages deleted", "blocks", n)
		return s.roomAgain(ctx)
	})
}

// sweepSize is how many blocks are deleted at once, while nothing is kept or added.
const sweepSize = 1024

func part(blocks map[string]cid.Cid, n int) (first, rest []cid.Cid) {
	for _, c := range blocks {
		first = append(first, c)
	}
	n = min(n, len(first))
	return first[:n], first[n:]
}

// noteTrash writes blocks down as those of an upload that nobody waits for.
func (s *Service) noteTrash(ctx context.Context, blocks []cid.Cid, records map[ds.Key][]byte) error {
	if len(blocks) == 0 {
		return nil
	}
	var value []byte
	for _, c := range blocks {
		value = append(value, c.Bytes()...)
	}
	key := ds.KeyWithNamespaces([]string{"upload", newNonce(), "0"})
	if err := s.local.Put(ctx, key, value); err != nil {
		return fmt.Errorf("writing %s: %w", key, err)
	}
	if records != nil {
		records[key] = value
	}
	return nil
}

// removeTrash removes a record, unless it was written anew: what it says may have
// become garbage after it was found wanted.
func (s *Service) removeTrash(ctx context.Context, key ds.Key, value []byte) error {
	s.garbage.Lock()
	defer s.garbage.Unlock()
	now, err := s.local.Get(ctx, key)
	if err == nil && string(now) == string(value) {
		err = s.local.Delete(ctx, key)
	}
	if err != nil {
		return fmt.Errorf("removing %s: %w", key, err)
	}
	return nil
}

// overdue reports whether the grace of a record of garbage is over.
func (s *Service) overdue(record []byte) bool {
	var g garbage
	return json.Unmarshal(record, &g) != nil || time.Since(g.Since) >= s.o.grace
}

func (s *Service) hasTrash(ctx context.Context) (some bool, err error) {
	err = each(ctx, s.local, "/garbage", func(_ ds.Key, value []byte) error {
		some = some || s.overdue(value)
		return nil
	})
	if err != nil || some {
		return some, err
	}
	return some, each(ctx, s.local, "/upload", func(key ds.Key, _ []byte) error {
		some = some || !s.pins.isActive(key)
		return nil
	})
}

// roomAgain takes back what this node said of having no room.
func (s *Service) roomAgain(ctx context.Context) error {
	var mine []ds.Key
	err := each(ctx, s.registry, "/full", func(key ds.Key, _ []byte) error {
		if key.Name() == s.host.ID().String() {
			mine = append(mine, key)
		}
		return nil
	})
	for _, key := range mine {
		err = errors.Join(err, remove(ctx, s.registry, key))
	}
	return err
}
