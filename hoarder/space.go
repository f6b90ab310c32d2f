package hoarder

import (
	"context"
	"fmt"
	"sync"

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
// hold meanwhile waits for its end. Holding twice is never a deadlock.
type holds struct {
	mu       sync.Mutex
	n        int
	sweeping bool
	changed  chan struct{} // closed when n comes to 0 or a sweep ends
}

func (h *holds) init() { h.changed = make(chan struct{}) }

func (h *holds) signal() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// hold returns the release, which may be called twice.
func (h *holds) hold(ctx context.Context) (release func(), err error) {
	h.mu.Lock()
	for h.sweeping {
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
	h.mu.Unlock()
	return sync.OnceFunc(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.n--; h.n == 0 {
			h.signal()
		}
	}), nil
}

// sweep runs collect alone.
func (h *holds) sweep(ctx context.Context, collect func() error) error {
	h.mu.Lock()
	for h.n > 0 || h.sweeping {
		changed := h.changed
		h.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
		h.mu.Lock()
	}
	h.sweeping = true
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.sweeping = false
		h.signal()
	}()
	return collect()
}

// Hold keeps garbage collection on this node away until release is called: for
// programs that add blocks here and then call Keep.
func (s *Service) Hold(ctx context.Context) (release func(), err error) { return s.holds.hold(ctx) }
