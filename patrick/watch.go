package patrick

import (
	"context"
	"fmt"
	"sync"

	"github.com/taubyte/taubyte"
)

// broadcast hands changed jobs to watchers. For each it keeps no more than the
// newest state of each job that it has not taken yet.
type broadcast struct {
	mu       sync.Mutex
	watchers map[*watcher]bool
	closed   bool
	done     chan struct{}
	wg       sync.WaitGroup
}

type watcher struct {
	may     func(Job) bool
	pending map[taubyte.JobID]Job
	order   []taubyte.JobID
	wake    chan struct{} // has room for one
}

func newBroadcast() *broadcast {
	return &broadcast{watchers: map[*watcher]bool{}, done: make(chan struct{})}
}

func (b *broadcast) close() {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.done)
	}
	b.mu.Unlock()
	b.wg.Wait()
}

func (b *broadcast) send(jobs []Job) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for w := range b.watchers {
		for _, j := range jobs {
			if !w.may(j) {
				continue
			}
			if _, waits := w.pending[j.ID]; !waits {
				w.order = append(w.order, j.ID)
			}
			w.pending[j.ID] = j
		}
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// watch hands those jobs on that the watcher may see.
func (b *broadcast) watch(ctx context.Context, may func(Job) bool) (<-chan Job, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, fmt.Errorf("patrick: %w", taubyte.ErrClosed)
	}
	w := &watcher{may: may, pending: map[taubyte.JobID]Job{}, wake: make(chan struct{}, 1)}
	b.watchers[w] = true
	out := make(chan Job)
	b.wg.Go(func() {
		defer close(out)
		b.feed(ctx, w, out)
		b.mu.Lock()
		delete(b.watchers, w)
		b.mu.Unlock()
	})
	return out, nil
}

func (b *broadcast) feed(ctx context.Context, w *watcher, out chan<- Job) {
	for {
		select {
		case <-w.wake:
		case <-ctx.Done():
			return
		case <-b.done:
			return
		}
		for {
			b.mu.Lock()
			if len(w.order) == 0 {
				b.mu.Unlock()
				break
			}
			j := w.pending[w.order[0]]
			delete(w.pending, w.order[0])
			w.order = w.order[1:]
			b.mu.Unlock()
			select {
			case out <- j:
			case <-ctx.Done():
				return
			case <-b.done:
				return
			}
		}
	}
}
