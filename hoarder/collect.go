package hoarder

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	ipld "github.com/ipfs/go-ipld-format"

	"github.com/taubyte/taubyte"
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

// collectRoot deletes the blocks that only this root needs, if it is still
// unwanted here. Nothing is kept or settled meanwhile.
func (s *Service) collectRoot(ctx context.Context, root cid.Cid) error {
	return s.holds.sweep(ctx, func() error {
		h, ok, err := s.has(ctx, root)
		if err != nil || !ok && !h.Dropping {
			return err
		}
		if ok {
			switch item, err := s.Item(ctx, root); {
			case err == nil:
				if len(item.Claims) > 0 && !s.surplus(item) {
					return nil // claimed meanwhile
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
	store := s.host.Blocks().Blockstore()
	// Blocks are stored by their hash, whatever CID leads to them.
	unshared := map[string]cid.Cid{}
	if err := walkLocal(ctx, store, root, func(c cid.Cid) error {
		unshared[string(c.Hash())] = c
		return nil
	}); err != nil {
		return 0, err
	}
	others, err := s.held(ctx)
	if err != nil {
		return 0, err
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
		return 0, err
	}
	err = wanted.ForEach(func(other cid.Cid) error {
		if len(unshared) == 0 {
			return nil
		}
		return walkLocal(ctx, store, other, func(c cid.Cid) error {
			delete(unshared, string(c.Hash()))
			return nil
		})
	})
	if err != nil {
		return 0, err
	}
	// The root last: as long as it is there, the rest can be found again.
	n := 0
	last, found := unshared[string(root.Hash())]
	delete(unshared, string(root.Hash()))
	for _, c := range unshared {
		has, err := store.Has(ctx, c)
		if err == nil && has {
			err = store.DeleteBlock(ctx, c)
			n++
		}
		if err != nil {
			return n, fmt.Errorf("deleting block %s: %w", c, err)
		}
	}
	if found {
		if err := store.DeleteBlock(ctx, last); err != nil {
			return n, fmt.Errorf("deleting block %s: %w", last, err)
		}
		n++
	}
	return n, nil
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
