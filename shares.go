package taubyte

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

// shares are the rules by which blocks are given to other members.
type shares struct {
	mu    sync.Mutex
	rules atomic.Pointer[[]*func(Membership, cid.Cid) bool] // read for each block asked for
}

// ShareBlocks implements Host.
func (h *NodeHost) ShareBlocks(may func(Membership, cid.Cid) bool) (stop func()) {
	h.shares.change(func(rules []*func(Membership, cid.Cid) bool) []*func(Membership, cid.Cid) bool {
		return append(rules, &may)
	})
	return func() {
		h.shares.change(func(rules []*func(Membership, cid.Cid) bool) []*func(Membership, cid.Cid) bool {
			return slices.DeleteFunc(rules, func(r *func(Membership, cid.Cid) bool) bool { return r == &may })
		})
	}
}

func (s *shares) change(how func([]*func(Membership, cid.Cid) bool) []*func(Membership, cid.Cid) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rules []*func(Membership, cid.Cid) bool
	if now := s.rules.Load(); now != nil {
		rules = slices.Clone(*now)
	}
	rules = how(rules)
	s.rules.Store(&rules)
}

// mayFetch decides about each block that a peer asks for, and whether it is told that
// the block is here.
func (h *NodeHost) mayFetch(p peer.ID, c cid.Cid) bool {
	m, ok := h.gate.Known(p)
	if !ok {
		return false
	}
	if m.Has(RoleHoarder) {
		return true
	}
	if rules := h.shares.rules.Load(); rules != nil {
		for _, may := range *rules {
			if (*may)(m, c) {
				return true
			}
		}
	}
	return false
}
