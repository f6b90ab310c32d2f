package crdt

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"

	ds "github.com/ipfs/go-datastore"

	"github.com/taubyte/taubyte"
)

// What is kept for watchers that are behind, or come back with a token: events, and
// bytes of their keys and values, the newest group of writes in any case.
const (
	backlog      = 8192
	backlogBytes = 4 << 20
)

// eventBits of a token count the events in one life of the replica, those above
// them its lives.
const eventBits = 40

// nextEpoch counts the lives of a replica.
func nextEpoch(ctx context.Context, base taubyte.Datastore, root string) (uint64, error) {
	key := ds.RawKey(root + "/epoch")
	var epoch uint64
	raw, err := base.Get(ctx, key)
	if err == nil {
		epoch, _ = binary.Uvarint(raw)
	} else if !errors.Is(err, ds.ErrNotFound) {
		return 0, err
	}
	epoch++
	return epoch, base.Put(ctx, key, binary.AppendUvarint(nil, epoch))
}

// hub hands events to watchers. It keeps the newest in a ring that all watchers
// read at their own pace, so that a slow one holds nobody up and takes no memory.
type hub struct {
	mu     sync.Mutex
	ring   []Event       // as large as was needed so far
	bytes  int           // of the events in it
	first  Token         // that is kept
	next   Token         // of the next event
	more   chan struct{} // closed at the next event
	closed bool
}

func newHub(epoch uint64) *hub {
	first := Token(epoch<<eventBits + 1)
	return &hub{ring: make([]Event, 16), first: first, next: first, more: make(chan struct{})}
}

func (h *hub) at(t Token) *Event { return &h.ring[t%Token(len(h.ring))] }

func (e *Event) size() int { return len(e.Key.String()) + len(e.Value) }

// add keeps an event. Callers hold mu.
func (h *hub) add(e Event) {
	switch n := int(h.next - h.first); {
	case n == backlog:
		h.drop()
	case n == len(h.ring):
		old := h.ring
		h.ring = make([]Event, 2*n)
		for t := h.first; t < h.next; t++ {
			*h.at(t) = old[t%Token(n)]
		}
	}
	e.Token = h.next
	*h.at(h.next) = e
	h.bytes += e.size()
	h.next++
}

// drop forgets the oldest event. Callers hold mu.
func (h *hub) drop() {
	e := h.at(h.first)
	h.bytes -= e.size()
	*e = Event{}
	h.first++
}

func (h *hub) publish(events []Event) {
	if len(events) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	group := h.next
	for _, e := range events {
		h.add(e)
	}
	for h.bytes > backlogBytes && h.first < group {
		h.drop()
	}
	close(h.more)
	h.more = make(chan struct{})
}

// lose makes every watcher list again.
func (h *hub) lose() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.ring)
	h.bytes = 0
	h.next++
	h.first = h.next
	close(h.more)
	h.more = make(chan struct{})
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	clear(h.ring)
}

// start returns where a watch begins.
func (h *hub) start(after Token) Token {
	h.mu.Lock()
	defer h.mu.Unlock()
	if after == 0 {
		return h.next
	}
	return after + 1
}

// read returns the first event of the prefix at or after token at, and where to
// go on. When there is none it returns a channel that closes when there may be.
func (h *hub) read(prefix ds.Key, at Token) (e Event, next Token, found bool, wait <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if at > h.next || at < h.first {
		// Events are gone, or the token is of another life of the replica.
		return Event{Lost: true, Token: h.next - 1}, h.next, true, nil
	}
	for ; at < h.next; at++ {
		e = *h.at(at)
		if prefix.String() == "/" || prefix.Equal(e.Key) || prefix.IsAncestorOf(e.Key) {
			return e, at + 1, true, nil
		}
	}
	return Event{}, at, false, h.more
}

// feed sends a watcher its events until ctx ends or the hub closes.
func (s *Store) feed(ctx context.Context, prefix ds.Key, at Token, out chan<- Event) {
	defer close(out)
	for {
		e, next, found, wait := s.hub.read(prefix, at)
		at = next
		if !found {
			select {
			case <-wait:
			case <-ctx.Done():
				return
			case <-s.life.Done():
				return
			}
			continue
		}
		select {
		case out <- e:
		case <-ctx.Done():
			return
		case <-s.life.Done():
			return
		}
	}
}
