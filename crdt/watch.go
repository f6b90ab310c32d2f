package crdt

import (
	"context"
	"sync"

	ds "github.com/ipfs/go-datastore"
)

// backlog is how many events are kept for watchers that are behind, or come back
// with a token.
const backlog = 8192

// hub hands events to watchers. It keeps the newest in a ring that all watchers
// read at their own pace, so that a slow one holds nobody up and takes no memory.
type hub struct {
	mu     sync.Mutex
	ring   [backlog]Event
	next   Token         // of the next event; the first is 1
	more   chan struct{} // closed at the next event
	closed bool
}

func newHub() *hub { return &hub{next: 1, more: make(chan struct{})} }

func (h *hub) publish(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e.Token = h.next
	h.ring[h.next%backlog] = e
	h.next++
	close(h.more)
	h.more = make(chan struct{})
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.closed = true
		close(h.more)
	}
}

// read returns the first event of the prefix at or after token at, and where to
// go on. When there is none it returns a channel that closes when there may be.
// lost: events between at and the oldest kept are gone.
func (h *hub) read(prefix ds.Key, at Token) (e Event, next Token, found, lost bool, wait <-chan struct{}, closed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if at > h.next { // a token of an earlier life of the store
		return e, h.next, false, true, nil, h.closed
	}
	if h.next > backlog && at < h.next-backlog {
		return e, h.next - backlog, false, true, nil, h.closed
	}
	for ; at < h.next; at++ {
		e = h.ring[at%backlog]
		if prefix.IsAncestorOf(e.Key) || prefix.Equal(e.Key) || prefix.String() == "/" {
			return e, at + 1, true, false, nil, h.closed
		}
	}
	return e, at, false, false, h.more, h.closed
}

func (h *hub) watch(ctx context.Context, prefix ds.Key, after Token) <-chan Event {
	out := make(chan Event)
	h.mu.Lock()
	at := after + 1
	if after == 0 {
		at = h.next
	}
	h.mu.Unlock()
	go func() {
		defer close(out)
		for {
			e, next, found, lost, wait, closed := h.read(prefix, at)
			at = next
			switch {
			case lost:
				e = Event{Lost: true, Token: at - 1}
			case found:
			case closed:
				return
			default:
				select {
				case <-wait:
				case <-ctx.Done():
					return
				}
				continue
			}
			select {
			case out <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}
