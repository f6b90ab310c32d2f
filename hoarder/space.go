package hoarder

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/taubyte/taubyte"
)

// space accounts for the bytes of what is held and of what is being fetched.
type space struct {
	mu       sync.Mutex
	capacity int64 // 0: no bound
	used     int64
}

var errFull = fmt.Errorf("%w: the hoarder is full", taubyte.ErrUnavailable)

// take counts bytes in before they are stored.
func (s *space) take(n int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.capacity > 0 && s.used+n > s.capacity {
		return fmt.Errorf("%w (%d of %d bytes used)", errFull, s.used, s.capacity)
	}
	s.used += n
	return nil
}

// room reports whether there is any.
func (s *space) room() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.capacity == 0 || s.used < s.capacity
}

func (s *space) give(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= n
}

// holds keep garbage collection away: it runs while nobody holds, and who wants to
// hold meanwhile waits for its end.
//
// So that it does run, new holds of programs wait as well once it has waited for a
// while, and so do the short ones of storages when only others of those are in its way.
// What Keep needs never waits for what waits: it may be called under a hold.
type holds struct {
	mu       sync.Mutex
	n        int
	outer    int // of these, by Hold
	sweeping bool
	turns    uint64        // how often a sweep began or ended
	waiting  time.Time     // since when a sweep waits; zero for none
	changed  chan struct{} // closed when n comes to 0 or a sweep ends
}

// starving is how long a sweep waits before new holds do.
const starving = 2 * time.Second

type holdKind int

const (
	inner holdKind = iota // perhaps under another one
	short                 // over in a moment, and under no other
	outer                 // of a program
)

func (h *holds) init() { h.changed = make(chan struct{}) }

func (h *holds) signal() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// blocked reports whether a new hold has to wait. Callers hold mu.
func (h *holds) blocked(k holdKind) bool {
	starved := !h.waiting.IsZero() && time.Since(h.waiting) > starving
	return h.sweeping || starved && (k == outer || k == short && h.outer == 0)
}

// hold returns the release, which may be called twice.
func (h *holds) hold(ctx context.Context, k holdKind) (release func(), err error) {
	h.mu.Lock()
	for h.blocked(k) {
		changed := h.changed
		h.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		h.mu.Lock()
	}
	h.n++
	if k == outer {
		h.outer++
	}
	h.mu.Unlock()
	return sync.OnceFunc(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if k == outer {
			h.outer--
		}
		if h.n--; h.n == 0 {
			h.signal()
		}
	}), nil
}

// sweep runs collect alone.
func (h *holds) sweep(ctx context.Context, collect func() error) error {
	h.mu.Lock()
	for h.n > 0 || h.sweeping {
		if h.waiting.IsZero() {
			h.waiting = time.Now()
		}
		changed := h.changed
		h.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			h.mu.Lock()
			h.waiting = time.Time{} // whoever else waits begins anew
			h.signal()
			h.mu.Unlock()
			return ctx.Err()
		}
		h.mu.Lock()
	}
	h.sweeping, h.waiting = true, time.Time{}
	h.turns++
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.sweeping = false
		h.turns++
		h.signal()
	}()
	return collect()
}

// seen returns a number that is another one, for who holds, once a sweep has run or
// gone on since.
func (h *holds) seen() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.turns
}

// Hold keeps garbage collection on this node away until release is called: for
// programs that add blocks here and then call Keep. A program that holds does not hold
// again before it has released: it could wait for itself.
func (s *Service) Hold(ctx context.Context) (release func(), err error) {
	return s.holds.hold(ctx, outer)
}
