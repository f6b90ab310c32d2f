package claim

import "time"

// Timing is a node's own clock on leases. What a node does not keep itself it times as
// well: should it become the keeper, the holder has a whole lease's time to be heard.
// It is not safe for concurrent use.
type Timing[K comparable] struct {
	ttl    time.Duration
	ticked time.Time
	leases map[K]*timed
}

type timed struct {
	fence uint64
	until time.Time
	heard time.Time // of the holder
	cut   time.Time // since when the holder's connection is gone, if it was there
	near  bool      // the holder's connection was there when it was last heard of
	taken bool      // the holder was heard of
}

// NewTiming returns the clock on leases that last for ttl without being renewed.
func NewTiming[K comparable](ttl time.Duration) *Timing[K] {
	return &Timing[K]{ttl: ttl, leases: map[K]*timed{}}
}

// Begin times a lease. It does nothing where the lease is timed already.
func (t *Timing[K]) Begin(k K, fence uint64, now time.Time) {
	if l := t.leases[k]; l == nil || l.fence != fence {
		t.leases[k] = &timed{fence: fence, until: now.Add(t.ttl)}
	}
}

// Forget ends the timing of a key's lease.
func (t *Timing[K]) Forget(k K) { delete(t.leases, k) }

// Hear notes that a lease's holder was heard of, and returns until when the lease lasts.
func (t *Timing[K]) Hear(k K, fence uint64, now time.Time) (until time.Time) {
	t.Begin(k, fence, now)
	l := t.leases[k]
	l.heard = now
	l.until, l.cut, l.near, l.taken = now.Add(t.ttl), time.Time{}, false, true
	return l.until
}

// Heard reports whether this node has heard of a lease's holder within the lease's time.
// A keeper asks the other nodes before it gives a holder up: one that does not reach the
// keeper may reach them.
func (t *Timing[K]) Heard(k K, fence uint64, now time.Time) bool {
	l := t.leases[k]
	return l != nil && l.fence == fence && !l.heard.IsZero() && now.Sub(l.heard) < t.ttl
}

// A View is what a node sees of a lease.
type View struct {
	Kept bool // this node looks after it
	Near bool // its holder is connected to this node
}

// An Expired lease is one whose holder was not heard of in time.
type Expired[K comparable] struct {
	Key   K
	Fence uint64
	// Taken: the holder was heard of after the grant. If not, it may never have learnt
	// of the lease.
	Taken bool
}

// Tick returns the leases that have run out, of those that this node keeps. It is called
// several times in a lease's time; a node that was stopped for longer than that has heard
// nobody, and begins anew with all leases. The lease of a holder whose connection has
// gone, and that was not heard of over another, runs out after half its time.
func (t *Timing[K]) Tick(now time.Time, view func(K) View) (out []Expired[K]) {
	stopped := !t.ticked.IsZero() && now.Sub(t.ticked) > t.ttl/2
	t.ticked = now
	for k, l := range t.leases {
		v := view(k)
		if stopped || !v.Kept {
			l.until, l.cut, l.near = now.Add(t.ttl), time.Time{}, v.Near
			if !v.Kept {
				l.taken = true // as far as this node knows
			}
			continue
		}
		switch {
		case v.Near:
			l.near, l.cut = true, time.Time{}
		case l.near && l.cut.IsZero():
			l.cut = now
		}
		if now.Before(l.until) && (l.cut.IsZero() || now.Sub(l.cut) < t.ttl/2) {
			continue
		}
		out = append(out, Expired[K]{k, l.fence, l.taken})
	}
	return out
}
