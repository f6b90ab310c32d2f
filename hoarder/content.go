package hoarder

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/exchange"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/taubyte/taubyte"
)

const (
	// refusedFor is how long hoarders may go on refusing before that is the answer: what
	// they know of a deployment that is new may be on its way to them.
	refusedFor = 3 * time.Second
	// firstStall and mostStall are how long a block may not come before hoarders are asked
	// again: the one that was sending may be gone.
	firstStall = 3 * time.Second
	mostStall  = 24 * time.Second
)

// Content returns the blocks of content that a project keeps, for a node that runs a
// branch of it: those on this node, and the others from hoarders that open the content to
// it. One that they refuse is ErrForbidden or ErrNotFound, within seconds; while none is in
// reach, fetching goes on until its context ends.
//
// A node of role hoarder is given all blocks, and asks nobody.
func (c *Client) Content(project taubyte.ProjectID, branch taubyte.Branch, root cid.Cid) blockservice.BlockService {
	all := c.host.Blocks()
	if m, ok := c.host.Members().Known(c.host.ID()); ok && m.Has(taubyte.RoleHoarder) {
		return all
	}
	return blockservice.New(all.Blockstore(), &content{
		Interface: all.Exchange(), c: c, turn: make(chan struct{}, 1),
		request: contentRequest{Root: root.String(), Project: project, Branch: branch},
	})
}

// Content is Client.Content.
func (s *Service) Content(project taubyte.ProjectID, branch taubyte.Branch, root cid.Cid) blockservice.BlockService {
	return s.peers.Content(project, branch, root)
}

// content is the exchange of blocks of one DAG. It is asked for what is not on this node.
type content struct {
	exchange.Interface
	c       *Client
	request contentRequest

	turn   chan struct{} // held by who asks hoarders
	opened time.Time     // guarded by turn: when they last said yes
	no     error         // guarded by turn: how they last refused,
	noAt   time.Time     // and when
}

var _ exchange.SessionExchange = (*content)(nil)

// Close does nothing: the exchange is the host's.
func (x *content) Close() error { return nil }

// NewSession implements exchange.SessionExchange.
func (x *content) NewSession(ctx context.Context) exchange.Fetcher {
	return &contentSession{x: x, life: ctx, inner: x.session(ctx)}
}

func (x *content) session(ctx context.Context) exchange.Fetcher {
	if s, ok := x.Interface.(exchange.SessionExchange); ok {
		return s.NewSession(ctx)
	}
	return x.Interface
}

func (x *content) GetBlock(ctx context.Context, k cid.Cid) (blocks.Block, error) {
	s := contentSession{x: x, life: ctx, inner: x.Interface}
	return s.GetBlock(ctx, k)
}

func (x *content) GetBlocks(ctx context.Context, ks []cid.Cid) (<-chan blocks.Block, error) {
	s := contentSession{x: x, life: ctx, inner: x.Interface}
	return s.GetBlocks(ctx, ks)
}

// contentSession fetches blocks of one DAG. A session of the exchange goes on asking the
// nodes that had the first blocks, so where those are silent another one is begun, for all
// that follows as well.
type contentSession struct {
	x    *content
	life context.Context // of the sessions

	mu    sync.Mutex
	inner exchange.Fetcher
}

func (s *contentSession) fetcher() exchange.Fetcher {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inner
}

// renew puts another session in the place of one that was of no use.
func (s *contentSession) renew(useless exchange.Fetcher) exchange.Fetcher {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inner == useless {
		s.inner = s.x.session(s.life)
	}
	return s.inner
}

// GetBlock has hoarders open the content and fetches a block, again and again until ctx
// ends.
func (s *contentSession) GetBlock(ctx context.Context, k cid.Cid) (blocks.Block, error) {
	x, from := s.x, s.fetcher()
	again := time.Time{}
	for stall := firstStall; ; stall = min(2*stall, mostStall) {
		err := x.open(ctx, again)
		if err != nil && !errors.Is(err, taubyte.ErrUnavailable) {
			return nil, err
		}
		attempt, cancel := context.WithTimeout(ctx, stall)
		b, failed := from.GetBlock(attempt, k)
		cancel()
		if failed == nil {
			return b, nil
		}
		if ctx.Err() != nil {
			if err != nil {
				return nil, fmt.Errorf("%w: %w", err, ctx.Err())
			}
			return nil, ctx.Err()
		}
		// What was asked for and denied is not asked for again in the same session, and a
		// want may get lost that comes at the moment at which the last one ends.
		again, from = time.Now(), s.renew(from)
		if !pause(ctx, firstStall/30) {
			return nil, ctx.Err()
		}
	}
}

// GetBlocks is GetBlock for several blocks.
func (s *contentSession) GetBlocks(ctx context.Context, ks []cid.Cid) (<-chan blocks.Block, error) {
	if err := s.x.open(ctx, time.Time{}); err != nil && !errors.Is(err, taubyte.ErrUnavailable) {
		return nil, err
	}
	from := s.fetcher()
	attempt, cancel := context.WithCancel(ctx)
	in, err := from.GetBlocks(attempt, ks)
	if err != nil {
		cancel()
		return nil, err
	}
	out := make(chan blocks.Block)
	go func() { // ends with ctx, as that of the exchange does
		defer close(out)
		for stall := firstStall; ; stall = min(2*stall, mostStall) {
			ks = forward(ctx, in, out, ks, stall)
			// What is wanted already is not asked for again, so it is given up first.
			cancel()
			if len(ks) == 0 || ctx.Err() != nil {
				return
			}
			if err := s.x.open(ctx, time.Now()); err != nil && !errors.Is(err, taubyte.ErrUnavailable) {
				return // who waits for a block asks for it, and hears why
			}
			if !pause(ctx, firstStall/30) {
				return
			}
			from = s.renew(from)
			attempt, cancel = context.WithCancel(ctx)
			if in, err = from.GetBlocks(attempt, ks); err != nil {
				cancel()
				return
			}
		}
	}()
	return out, nil
}

// forward passes blocks on until one does not come for so long, and returns which are
// missing then.
func forward(ctx context.Context, in <-chan blocks.Block, out chan<- blocks.Block, ks []cid.Cid, stall time.Duration) []cid.Cid {
	missing := slices.Clone(ks)
	stalled := time.NewTimer(stall)
	defer stalled.Stop()
	for len(missing) > 0 {
		select {
		case b, ok := <-in:
			if !ok {
				return missing
			}
			select {
			case out <- b:
			case <-ctx.Done():
				return missing
			}
			missing = slices.DeleteFunc(missing, func(k cid.Cid) bool { return k.Equals(b.Cid()) })
			stalled.Reset(stall)
		case <-stalled.C:
			return missing
		case <-ctx.Done():
			return missing
		}
	}
	return missing
}

// open has a hoarder open the content, unless one has lately, and since a time.
// ErrUnavailable says that none could be asked.
func (x *content) open(ctx context.Context, since time.Time) error {
	select {
	case x.turn <- struct{}{}:
		defer func() { <-x.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if time.Since(x.opened) < openFor/2 && !x.opened.Before(since) {
		return nil
	}
	if x.no != nil && time.Since(x.noAt) < refusedFor/3 { // those who have waited meanwhile
		return x.no
	}
	for began := time.Now(); ; {
		err := x.c.openContent(ctx, x.request)
		refused := errors.Is(err, taubyte.ErrForbidden) || errors.Is(err, taubyte.ErrNotFound)
		switch {
		case err == nil:
			x.opened, x.no = time.Now(), nil
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%w: %w", taubyte.ErrUnavailable, err)
		case refused && time.Since(began) < refusedFor:
			if !pause(ctx, refusedFor/10) {
				return err
			}
			continue
		case refused:
			x.no, x.noAt = err, time.Now()
		case !errors.Is(err, taubyte.ErrInvalid):
			err = fmt.Errorf("%w: %w", taubyte.ErrUnavailable, err)
		}
		return err
	}
}

// openContent returns when a hoarder that has the content has opened it.
func (c *Client) openContent(ctx context.Context, in contentRequest) error {
	var a contentAnswer
	if err := c.rpc.Call(ctx, http.MethodPost, "/content", in, &a); err != nil || a.Open {
		return err
	}
	err := fmt.Errorf("%w: no hoarder in reach has content %s", taubyte.ErrUnavailable, in.Root)
	for _, p := range a.Holders {
		var of contentAnswer
		if e := c.rpc.CallPeer(ctx, p, http.MethodPost, "/content", in, &of); e == nil && of.Open {
			return nil
		} else if e != nil {
			err = errors.Join(err, e)
		}
	}
	return err
}
