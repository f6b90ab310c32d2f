package hoarder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
)

// Nodes of role substrate are given blocks of content that is opened, and of nothing
// else. Such a node names a root and for which branch it wants it; if the branch runs
// and its project keeps the root, the blocks of the DAG are open to that role for a
// while. Content exchange then looks each block up in one map.

const (
	// openFor is how long content is open after the last one asked for it. Who fetches
	// for longer asks again.
	openFor = 2 * time.Minute
	// maxOpened bounds how many blocks are open: about 60 MB of memory. Beyond it that
	// content is closed first whose time is over first.
	maxOpened = 1 << 20
)

// blockKey is the end of a block's hash: enough to know it by. Blocks are stored by
// hash, whatever CID leads to them.
type blockKey [16]byte

func keyOf(c cid.Cid) (k blockKey) {
	h := c.Hash()
	copy(k[:], h[max(len(h)-len(k), 0):])
	return k
}

// opened is the content that is open.
type opened struct {
	mu     sync.RWMutex
	blocks map[blockKey]uint32 // by how many of the roots
	roots  map[cid.Cid]*opening
}

type opening struct {
	until  time.Time
	blocks []blockKey
	done   chan struct{} // closed when its blocks are open, or err is set
	err    error
}

func (o *opened) init() { o.blocks, o.roots = map[blockKey]uint32{}, map[cid.Cid]*opening{} }

// mayFetch is the rule of content exchange.
func (o *opened) mayFetch(m taubyte.Membership, c cid.Cid) bool {
	if !m.Has(taubyte.RoleSubstrate) {
		return false
	}
	k := keyOf(c)
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.blocks[k] > 0
}

// closeLocked takes a root's blocks out.
func (o *opened) closeLocked(root cid.Cid) {
	for _, k := range o.roots[root].blocks {
		if o.blocks[k]--; o.blocks[k] == 0 {
			delete(o.blocks, k)
		}
	}
	delete(o.roots, root)
}

// expire closes what was not asked for any more.
func (o *opened) expire(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for root, op := range o.roots {
		if over(op.done) && now.After(op.until) {
			o.closeLocked(root)
		}
	}
	if len(o.roots) == 0 {
		o.init() // a map keeps the room that it once had
	}
}

// makeRoomLocked closes what ends first, but not the root that comes in.
func (o *opened) makeRoomLocked(n int) {
	for len(o.blocks)+n > maxOpened {
		var first cid.Cid
		for root, op := range o.roots {
			if over(op.done) && (!first.Defined() || op.until.Before(o.roots[first].until)) {
				first = root
			}
		}
		if !first.Defined() {
			return
		}
		o.closeLocked(first)
	}
}

// over reports whether a channel is closed.
func over(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// open opens a DAG that is on this node's disk. Those who ask at the same time share the
// work.
func (s *Service) open(ctx context.Context, root cid.Cid) error {
	o := &s.opened
	o.mu.Lock()
	op := o.roots[root]
	if op == nil {
		op = &opening{done: make(chan struct{})}
		s.mu.Lock()
		if s.life.Err() != nil {
			s.mu.Unlock()
			o.mu.Unlock()
			return taubyte.ErrClosed
		}
		s.wg.Go(func() { s.openWhole(root, op) })
		s.mu.Unlock()
		o.roots[root] = op
	}
	op.until = time.Now().Add(s.o.openFor)
	o.mu.Unlock()
	select {
	case <-op.done:
		return op.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Service) openWhole(root cid.Cid, op *opening) {
	var keys []blockKey
	err := walkLocal(s.life, s.host.Blocks().Blockstore(), root, func(c cid.Cid) error {
		keys = append(keys, keyOf(c))
		return nil
	})
	o := &s.opened
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		op.err = fmt.Errorf("opening %s: %w", root, err)
		delete(o.roots, root)
	} else {
		o.makeRoomLocked(len(keys))
		op.blocks = keys
		for _, k := range keys {
			o.blocks[k]++
		}
	}
	close(op.done)
}

// closeOpened closes content whose time is over.
func (s *Service) closeOpened() {
	tick := time.NewTicker(max(s.o.openFor/8, 10*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			s.opened.expire(now)
		case <-s.life.Done():
			return
		}
	}
}

// contentRequest asks for content to be opened.
type contentRequest struct {
	Root    string            `json:"root"`
	Project taubyte.ProjectID `json:"project"`
	Branch  taubyte.Branch    `json:"branch"`
}

type contentAnswer struct {
	Open bool `json:"open"` // here
	// Holders are others that have it.
	Holders []peer.ID `json:"holders,omitempty"`
}

// openContent opens what a project keeps. granted says whether the branch runs.
func (s *Service) openContent(ctx context.Context, in contentRequest, granted func(Instance) error) (a contentAnswer, err error) {
	root, err := parseRoot(in.Root)
	if err == nil {
		err = checkRoot(root)
	}
	if err == nil && (!validProject(in.Project) || in.Branch == "" || len(in.Branch) > MaxKey || !utf8.ValidString(string(in.Branch))) {
		err = fmt.Errorf("%w project %.100q or branch %.100q", taubyte.ErrInvalid, in.Project, in.Branch)
	}
	if err == nil {
		err = mayReach(ctx, kindContent, Instance{Project: in.Project, Branch: in.Branch})
	}
	if err == nil {
		err = granted(Instance{Project: in.Project, Branch: in.Branch})
	}
	if err != nil {
		return a, err
	}
	item, err := s.claimedBy(ctx, root, in.Project)
	if err != nil {
		// Another hoarder may have been asked to keep it a moment ago.
		if unheard := s.hearOthers(ctx); unheard != nil {
			return a, fmt.Errorf("%w: %w", taubyte.ErrUnavailable, unheard)
		}
		if item, err = s.claimedBy(ctx, root, in.Project); err != nil {
			return a, err
		}
	}
	for _, r := range item.Replicas {
		if r.Live && r.Peer != s.host.ID() {
			a.Holders = append(a.Holders, r.Peer)
		}
	}
	_, here, err := s.has(ctx, root)
	if err == nil && here {
		err = s.open(ctx, root)
		a.Open = err == nil
	}
	return a, err
}

func (s *Service) claimedBy(ctx context.Context, root cid.Cid, project taubyte.ProjectID) (Item, error) {
	item, err := s.item(ctx, root)
	if err != nil && !errors.Is(err, taubyte.ErrNotFound) {
		return item, err
	}
	if !slices.ContainsFunc(item.Claims, func(c Claim) bool { return c.Project == project }) {
		return item, fmt.Errorf("%w: project %s keeps no content %s", taubyte.ErrNotFound, project, root)
	}
	return item, nil
}
