package unixfs

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"

	"github.com/taubyte/taubyte"
)

// fetchers is how many blocks a walk asks for at a time.
const fetchers = 16

// Fetch brings every block of the DAG to the local disk, those that are not
// there from whoever has them, and returns the size of all.
func Fetch(ctx context.Context, bs blockservice.BlockService, root cid.Cid) (int64, error) {
	var size atomic.Int64
	err := Walk(ctx, bs, root, func(_ cid.Cid, n int) error {
		size.Add(int64(n))
		return nil
	})
	return size.Load(), err
}

// Walk visits every block of the DAG once, in no order, and reads each through
// bs; several at a time, but visit is called by one goroutine at a time. An error of
// visit ends the walk.
func Walk(ctx context.Context, bs blockservice.BlockService, root cid.Cid, visit func(c cid.Cid, size int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	session := blockservice.NewSession(ctx, bs)
	var mu sync.Mutex
	links := func(ctx context.Context, c cid.Cid) ([]*ipld.Link, error) {
		links, err := func() ([]*ipld.Link, error) {
			b, err := session.GetBlock(ctx, c)
			if err != nil {
				return nil, fmt.Errorf("reading block %s: %w", c, available(err))
			}
			mu.Lock()
			err = visit(c, len(b.RawData()))
			mu.Unlock()
			if err != nil {
				return nil, err
			}
			switch c.Type() {
			case cid.Raw:
				return nil, nil
			case cid.DagProtobuf:
				node, err := merkledag.DecodeProtobufBlock(b)
				if err != nil {
					return nil, fmt.Errorf("%w block %s: %w", taubyte.ErrInvalid, c, err)
				}
				return node.Links(), nil
			}
			return nil, fmt.Errorf("%w block %s: neither raw nor dag-pb", taubyte.ErrInvalid, c)
		}()
		if err != nil {
			cancel(err) // the other readers would wait for their blocks
		}
		return links, err
	}
	seen := cid.NewSet()
	err := merkledag.Walk(ctx, links, root, seen.Visit, merkledag.Concurrency(fetchers))
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return fmt.Errorf("walking %s: %w", root, err)
}
