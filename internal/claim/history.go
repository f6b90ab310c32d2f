package claim

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
)

// A Grant is a lease on a piece of work: the record of the arbiter that granted it.
type Grant struct {
	Fence   uint64
	Arbiter peer.ID
	Holder  peer.ID
}

func (g Grant) compare(o Grant) int {
	return cmp.Or(cmp.Compare(g.Fence, o.Fence), cmp.Compare(g.Arbiter, o.Arbiter))
}

// Kind says how a lease ended. Of several ends of one lease the larger kind counts.
type Kind int

const (
	// Lost: the holder was not heard of in time. The keeper of the lease says so, and
	// what the holder says later counts more.
	Lost Kind = iota + 1
	// Returned: the holder gave the work back.
	Returned
	// Final: the holder has a result. A later lease can still bring another.
	Final
	// Settled: the holder has the result of the work. No other lease changes it.
	Settled
)

// An End is how a lease ended, as By has recorded it.
type End[R any] struct {
	Kind Kind
	By   peer.ID
	// At is the time by the clock of By. It chooses between two records of one word.
	At     time.Time
	Result R
}

// before reports whether e counts more than o.
func (e End[R]) before(o End[R]) bool {
	return cmp.Or(cmp.Compare(o.Kind, e.Kind), e.At.Compare(o.At), cmp.Compare(e.By, o.By)) < 0
}

// A History is what a node knows of one piece of work. The zero value knows nothing.
// It is not safe for concurrent use.
type History[R any] struct {
	grants []Grant // by fence
	ends   map[uint64][]End[R]
}

// Add takes a grant in. Taking one in again changes nothing.
func (h *History[R]) Add(g Grant) {
	if i, found := slices.BinarySearchFunc(h.grants, g, Grant.compare); !found {
		h.grants = slices.Insert(h.grants, i, g)
	}
}

// AddEnd takes in how the lease with that fencing number ended. Of a kind, the newest
// record of a node replaces an earlier one.
func (h *History[R]) AddEnd(fence uint64, e End[R]) {
	if h.ends == nil {
		h.ends = map[uint64][]End[R]{}
	}
	ends := h.ends[fence]
	same := func(o End[R]) bool { return o.By == e.By && (o.Kind == Lost) == (e.Kind == Lost) }
	if i := slices.IndexFunc(ends, same); i >= 0 {
		ends[i] = e
		return
	}
	h.ends[fence] = append(ends, e)
}

// Grants returns the leases, by fencing number. The caller must not change it.
func (h *History[R]) Grants() []Grant { return h.grants }

// Newest returns the lease with the largest fencing number.
func (h *History[R]) Newest() (Grant, bool) {
	if len(h.grants) == 0 {
		return Grant{}, false
	}
	return h.grants[len(h.grants)-1], true
}

// End returns how a lease ended.
func (h *History[R]) End(fence uint64) (best End[R], ok bool) {
	for _, e := range h.ends[fence] {
		if !ok || e.before(best) {
			best, ok = e, true
		}
	}
	return best, ok
}

// State is whether a piece of work is to be had.
type State int

const (
	Free State = iota // nobody has it, and it has no result
	Held              // somebody has a lease that has not ended
	Done              // it has a result
)

// A Status is what the records of a piece of work come to.
type Status[R any] struct {
	State State
	// Grant is the lease that counts: the one that holds the work or brought its
	// result, else the last.
	Grant Grant
	// End is how that lease ended; its Kind is 0 while it has not.
	End End[R]
	// Counted is how many leases ended or go on that were not returned.
	Counted int
	// Returned is how many leases were returned since the last that was not.
	Returned int
}

// Status folds the records. Leases below since no longer count, unless one of them
// has settled the work.
func (h *History[R]) Status(since uint64) (s Status[R]) {
	for _, g := range h.grants {
		end, ended := h.End(g.Fence)
		if g.Fence < since && end.Kind != Settled {
			continue
		}
		s.Grant, s.End = g, end
		switch {
		case !ended:
			s.State = Held
		case end.Kind >= Final:
			s.State = Done
		default:
			s.State = Free
		}
		if end.Kind == Returned {
			s.Returned++
			continue
		}
		s.Counted++
		s.Returned = 0
		if end.Kind == Settled {
			return s
		}
	}
	return s
}

// ErrUnknown: the node has no record of the lease. It may be on its way.
var ErrUnknown = errors.New("the lease is not known")

// Check returns nil where the holder has the work under that fencing number. It is
// taubyte.ErrForbidden for the lease of another, taubyte.ErrConflict for one that is
// over, and ErrUnknown.
func (h *History[R]) Check(fence uint64, holder peer.ID) error {
	if err := h.mayEnd(fence, holder); err != nil {
		return err
	}
	if end, ended := h.End(fence); ended {
		if end.Kind == Lost {
			return fmt.Errorf("%w: the lease has run out", taubyte.ErrConflict)
		}
		return fmt.Errorf("%w: the lease has ended", taubyte.ErrConflict)
	}
	return nil
}

// CheckEnd returns nil where the holder may still say how its lease ended: it has not
// done so, and there is no later lease. That the lease has run out does no harm.
func (h *History[R]) CheckEnd(fence uint64, holder peer.ID) error {
	if err := h.mayEnd(fence, holder); err != nil {
		return err
	}
	if end, ended := h.End(fence); ended && end.Kind != Lost {
		return fmt.Errorf("%w: the lease has ended", taubyte.ErrConflict)
	}
	return nil
}

func (h *History[R]) mayEnd(fence uint64, holder peer.ID) error {
	known := false
	for _, g := range h.grants {
		if g.Fence == fence {
			if known = g.Holder == holder; known {
				break
			}
			return fmt.Errorf("%w: %s has no such lease", taubyte.ErrForbidden, holder)
		}
	}
	newest, _ := h.Newest()
	switch {
	case newest.Fence > fence:
		return fmt.Errorf("%w: the lease is lost to a later one", taubyte.ErrConflict)
	case !known:
		return ErrUnknown
	}
	return nil
}
