// Package blockshare is content exchange among the nodes of one role: the blocks that a
// service has put into it or read through it are marked in the node's store, and given
// to members of that role. Members of role hoarder are given all blocks anyway; nobody
// else is given one.
package blockshare

import (
	"context"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/datastore/dshelp"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"

	"github.com/taubyte/taubyte"
)

// Blocks is the blocks of a host, as a service of one role sees them. It is safe for
// concurrent use.
type Blocks struct {
	blockservice.BlockService
	marked marked
	stop   func()
}

// New shares blocks of the host with members of the role. The marks are kept in the
// store, under "/shared": the service passes its own namespace of it. Stop ends it.
func New(host taubyte.Host, store ds.Batching, role taubyte.Role) *Blocks {
	m := marked{host.Blocks().Blockstore(), store}
	return &Blocks{
		// Written through, so that a block which is here already is marked as well.
		BlockService: blockservice.New(m, host.Blocks().Exchange(), blockservice.WriteThrough(true)),
		marked:       m,
		stop: host.ShareBlocks(func(to taubyte.Membership, c cid.Cid) bool {
			if !to.Has(role) {
				return false
			}
			is, err := store.Has(context.Background(), mark(c))
			return err == nil && is
		}),
	}
}

// Stop ends the sharing. It may be called twice.
func (b *Blocks) Stop() { b.stop() }

// Mark shares a block that came here by another way.
func (b *Blocks) Mark(ctx context.Context, c cid.Cid) error { return b.marked.mark(ctx, c) }

// mark is a block's key: its hash, whatever CID leads to it.
func mark(c cid.Cid) ds.Key {
	return ds.NewKey("/shared").Child(dshelp.MultihashToDsKey(c.Hash()))
}

// marked is the host's blockstore, which notes what goes through it.
type marked struct {
	blockstore.Blockstore
	store ds.Batching
}

func (m marked) mark(ctx context.Context, c cid.Cid) error {
	if is, err := m.store.Has(ctx, mark(c)); err != nil || is {
		return err
	}
	return m.store.Put(ctx, mark(c), []byte{})
}

func (m marked) Put(ctx context.Context, b blocks.Block) error {
	if err := m.mark(ctx, b.Cid()); err != nil {
		return err
	}
	return m.Blockstore.Put(ctx, b)
}

func (m marked) PutMany(ctx context.Context, bs []blocks.Block) error {
	batch, err := m.store.Batch(ctx)
	if err != nil {
		return err
	}
	for _, b := range bs {
		if err := batch.Put(ctx, mark(b.Cid()), []byte{}); err != nil {
			return err
		}
	}
	if err := batch.Commit(ctx); err != nil { // first, so that no block is here and lacks its mark
		return err
	}
	return m.Blockstore.PutMany(ctx, bs)
}

func (m marked) DeleteBlock(ctx context.Context, c cid.Cid) error {
	if err := m.Blockstore.DeleteBlock(ctx, c); err != nil {
		return err
	}
	return m.store.Delete(ctx, mark(c))
}
