package vm

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A pool is the instances of a function. Who gets one has one of a limited
// number of places, and others wait in a queue of limited length; giving one
// back never waits.
type pool struct {
	f       *Function
	places  chan struct{} // one is taken for each instance at work
	waiting atomic.Int32
	queue   int32

	mu     sync.Mutex
	idle   []*instance // the one used last is the last
	work   int         // instances at work or in the making
	closed bool
}

func newPool(f *Function, concurrency, queue int) *pool {
	return &pool{f: f, places: make(chan struct{}, concurrency), queue: int32(queue)}
}

// get returns an instance. It is put back, whatever becomes of it.
func (p *pool) get(ctx context.Context, deadline time.Time) (*instance, error) {
	select {
	case p.places <- struct{}{}:
	default:
		if err := p.wait(ctx, deadline); err != nil {
			return nil, err
		}
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		<-p.places
		return nil, ErrGone
	}
	p.work++
	var in *instance
	if n := len(p.idle); n > 0 {
		in, p.idle[n-1] = p.idle[n-1], nil
		p.idle = p.idle[:n-1]
	}
	p.mu.Unlock()
	if in != nil {
		return in, nil
	}
	in, err := p.f.instantiate(ctx, deadline)
	if err != nil {
		p.put(nil, false)
		return nil, err
	}
	return in, nil
}

// wait takes a place as soon as one is free.
func (p *pool) wait(ctx context.Context, deadline time.Time) error {
	defer p.waiting.Add(-1)
	if p.waiting.Add(1) > p.queue {
		return ErrBusy
	}
	t := time.NewTimer(time.Until(deadline))
	defer t.Stop()
	select {
	case p.places <- struct{}{}:
		return nil
	case <-t.C:
		return ErrBusy
	case <-ctx.Done():
		return ctx.Err()
	}
}

// put gives back what get returned. An instance that is not whole is not used
// again.
func (p *pool) put(in *instance, whole bool) {
	p.mu.Lock()
	keep := whole && !p.closed && !in.spent() && p.f.current(in)
	if keep {
		in.since = time.Now()
		p.idle = append(p.idle, in)
		p.work--
	}
	p.mu.Unlock()
	if !keep {
		if in != nil {
			in.close()
		}
		p.mu.Lock()
		p.work--
		p.mu.Unlock()
		p.ended()
	}
	<-p.places
}

// close takes no more calls and drops the idle instances.
func (p *pool) close() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	p.work++ // for ourselves, until the idle ones are gone
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, in := range idle {
		in.close()
	}
	p.mu.Lock()
	p.work--
	p.mu.Unlock()
	p.ended()
}

// refresh drops the idle instances that are not as new ones are. put keeps no such either:
// it looks with the lock held, after what is new was set. It returns how many it dropped.
func (p *pool) refresh() int {
	p.mu.Lock()
	var old []*instance
	p.idle = slices.DeleteFunc(p.idle, func(in *instance) bool {
		if p.f.current(in) {
			return false
		}
		old = append(old, in)
		return true
	})
	if !p.closed {
		p.work++ // so that the function is there until they are closed
	}
	closed := p.closed
	p.mu.Unlock()
	for _, in := range old {
		in.close()
	}
	if closed {
		return len(old)
	}
	p.mu.Lock()
	p.work--
	p.mu.Unlock()
	p.ended()
	return len(old)
}

// ended releases the function after the last instance.
func (p *pool) ended() {
	p.mu.Lock()
	last := p.closed && p.work == 0
	if last {
		p.work = -1 // never again
	}
	p.mu.Unlock()
	if last {
		p.f.release()
	}
}

// trim drops the instances that have been idle since a time before that, but
// the newest, of which it tells since when it is idle and what it weighs.
func (p *pool) trim(before time.Time) (since time.Time, weight int64, ok bool) {
	p.mu.Lock()
	n := 0
	for n < len(p.idle)-1 && p.idle[n].since.Before(before) {
		n++
	}
	old := p.cut(0, n)
	if ok = len(p.idle) > 0; ok {
		last := p.idle[len(p.idle)-1]
		since, weight = last.since, last.weight()
	}
	p.mu.Unlock()
	for _, in := range old {
		in.close()
	}
	return since, weight, ok
}

// cut takes the idle instances i to j out. The lock is held.
func (p *pool) cut(i, j int) []*instance {
	out := slices.Clone(p.idle[i:j])
	p.idle = slices.Delete(p.idle, i, j)
	return out
}

// drop drops the instance that has been idle since then, and returns what it
// gave back.
func (p *pool) drop(since time.Time) int64 {
	p.mu.Lock()
	i := slices.IndexFunc(p.idle, func(in *instance) bool { return in.since.Equal(since) })
	if i < 0 {
		p.mu.Unlock()
		return 0
	}
	in := p.cut(i, i+1)[0]
	p.mu.Unlock()
	weight := in.weight()
	in.close()
	return weight
}

func (p *pool) idleSince() []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	times := make([]time.Time, len(p.idle))
	for i, in := range p.idle {
		times[i] = in.since
	}
	return times
}

func (p *pool) count() (idle, working int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle), max(p.work, 0)
}
