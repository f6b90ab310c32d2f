package gateway

import (
	"math"
	"sync/atomic"
	"time"
)

// Budgets of what the gateway sends beside the users' requests, so that it does not
// make an overload worse.
const (
	// A request earns a fifth of a retry: five may be saved up for each that came, and
	// retriesSaved in all, as many as may be under way at a node that is lost.
	retryShare, retriesSaved = 0.2, 5_000
	// And a tenth of a second request beside one that is slow.
	hedgeShare, hedgesSaved = 0.1, 100
)

const token = 1_000

// budget allows a share of the requests.
type budget struct {
	tokens     atomic.Int64
	earns, cap int64
}

func newBudget(share float64, saved int64) *budget {
	b := &budget{earns: int64(share * token), cap: saved * token}
	b.tokens.Store(b.cap)
	return b
}

func (b *budget) earn() {
	if b.tokens.Load() < b.cap {
		b.tokens.Add(b.earns)
	}
}

func (b *budget) spend() bool {
	if b.tokens.Add(-token) >= 0 {
		return true
	}
	b.tokens.Add(token)
	return false
}

// When a second node is asked: after hedgeFactor times what most requests of the route
// take, hedgeLeast at least, and hedgeUnknown where that is not known.
const (
	hedgeFactor  = 1.5
	hedgeLeast   = 250 * time.Millisecond
	hedgeUnknown = time.Second
)

// latencies are how long routes take, about their 80th percentile, in nanoseconds.
// Routes whose hashes collide share a place, which only makes hedging earlier or later.
type latencies struct{ slots [1 << 12]atomic.Uint64 }

// observe moves the estimate towards what an answer took. Two at the same time may count
// as one.
func (l *latencies) observe(route uint64, took time.Duration) {
	slot, x := &l.slots[route%uint64(len(l.slots))], float64(took)
	switch q := math.Float64frombits(slot.Load()); {
	case q == 0:
		slot.Store(math.Float64bits(x))
	case x > q:
		slot.Store(math.Float64bits(min(q*1.05, x)))
	default:
		slot.Store(math.Float64bits(max(q*0.99, x, 1)))
	}
}

func (l *latencies) hedgeAfter(route uint64) time.Duration {
	q := math.Float64frombits(l.slots[route%uint64(len(l.slots))].Load())
	if q == 0 {
		return hedgeUnknown
	}
	return max(time.Duration(hedgeFactor*q), hedgeLeast)
}
