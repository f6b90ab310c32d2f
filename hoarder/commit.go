package hoarder

import (
	"context"
	"errors"
	"fmt"

	ds "github.com/ipfs/go-datastore"

	"github.com/taubyte/taubyte"
)

// A change is something that a caller wants written.
type change struct {
	run  func(*tx) error // changes nothing when it fails
	seq  uint64          // of the commit that it is in
	err  error
	done chan struct{}
	// barrier: it waits for all commits before it, and writes nothing.
	barrier bool
	disks   int // on which it is when it is done
}

// groupSize is how many changes are committed together.
const groupSize = 256

// change has run done in the next commit, and returns the number of that commit, and on
// how many disks it is. One goroutine runs the changes of a replica, so each sees those
// before it; all that wait share one sync of the disk. When ctx ends, it may be done
// nevertheless.
func (r *replica) change(ctx context.Context, run func(*tx) error) (uint64, int, error) {
	c := &change{run: run}
	seq, err := r.submit(ctx, c)
	if err != nil {
		return seq, 0, err
	}
	return seq, c.disks, nil
}

func (r *replica) submit(ctx context.Context, c *change) (uint64, error) {
	c.done = make(chan struct{})
	r.mu.Lock()
	if r.life.Err() != nil {
		r.mu.Unlock()
		return 0, errElsewhere
	}
	r.queue = append(r.queue, c)
	if !r.commits {
		r.commits = true
		r.wg.Go(r.commit)
	}
	r.mu.Unlock()
	select {
	case <-c.done:
		return c.seq, c.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// commit works until the queue is empty.
func (r *replica) commit() {
	for {
		r.mu.Lock()
		n := min(len(r.queue), groupSize)
		if n == 0 {
			r.commits = false
			r.queue = nil
			r.mu.Unlock()
			return
		}
		group := r.queue[:n:n]
		r.queue = r.queue[n:]
		r.mu.Unlock()
		// What was taken is finished: its callers wait.
		ctx := context.WithoutCancel(r.life)
		if err := r.commitGroup(ctx, group); err != nil {
			for _, c := range group {
				if c.err == nil {
					c.err = err
				}
			}
		}
		r.mu.Lock()
		seq := r.marks[r.s.host.ID()].seq
		r.mu.Unlock()
		r.hand(group, seq)
	}
}

func (r *replica) commitGroup(ctx context.Context, group []*change) error {
	r.mu.Lock()
	total := r.total()
	// One count for at least as many writes as there are entries to count.
	stale := r.unsure || r.foreign && r.counted >= total.items
	r.mu.Unlock()
	if stale {
		if err := r.count(ctx); err != nil {
			return err
		}
	}
	t := &tx{ctx: ctx, r: r, values: map[string][]byte{}}
	r.mu.Lock()
	t.total, t.spec = r.total(), r.spec
	own := r.marks[r.s.host.ID()]
	r.mu.Unlock()
	before := t.total
	own.seq = max(own.seq, r.above) + 1
	for _, c := range group {
		if c.err = t.do(c.run); c.err == nil {
			c.seq = own.seq
		}
	}
	if len(t.order) == 0 {
		for _, c := range group {
			c.seq = 0 // nothing was written
		}
		return nil
	}
	own.bytes += t.total.bytes - before.bytes
	own.items += t.total.items - before.items
	if err := r.s.markDirty(ctx, r); err != nil {
		return err
	}
	r.mu.Lock()
	r.committing = own.seq
	r.mu.Unlock()
	if err := t.write(own); err != nil {
		r.mu.Lock()
		r.unsure = true
		r.mu.Unlock()
		return fmt.Errorf("store %s: %w", r.ref, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.marks[r.s.host.ID()] = own
	r.counted += int64(len(t.order))
	r.grown()
	return nil
}

// tx is a group of changes on its way.
type tx struct {
	ctx    context.Context
	r      *replica
	spec   spec
	total  mark              // of the store, with the changes so far
	values map[string][]byte // changed keys; nil: deleted
	order  []string
	undo   []func()
}

// do runs a change, and takes back what one did that failed.
func (t *tx) do(run func(*tx) error) error {
	t.undo = t.undo[:0]
	total, n := t.total, len(t.order)
	err := run(t)
	if err != nil {
		for i := len(t.undo) - 1; i >= 0; i-- {
			t.undo[i]()
		}
		t.total, t.order = total, t.order[:n]
	}
	return err
}

// get returns an entry as the changes before have left it; nil for none.
func (t *tx) get(key string) ([]byte, error) {
	if v, ok := t.values[key]; ok {
		return v, nil
	}
	v, err := t.r.data.Get(t.ctx, ds.RawKey(key))
	if errors.Is(err, ds.ErrNotFound) {
		return nil, nil
	}
	if v == nil && err == nil {
		v = []byte{}
	}
	return v, err
}

// set writes an entry, or with nil deletes it, if the store has room. old is what get
// returned.
func (t *tx) set(key string, old, value []byte) error {
	total := t.total
	if old != nil {
		n, err := t.r.weigh(key, old)
		if err != nil {
			return err
		}
		total.bytes -= n
		total.items--
	}
	if value != nil {
		n, err := t.r.weigh(key, value)
		if err != nil {
			return err
		}
		total.bytes += n
		total.items++
		if total.bytes > t.spec.Size && total.bytes > t.total.bytes {
			return fmt.Errorf("%w: %d of %d bytes are used, and it takes %d more", ErrFull, t.total.bytes, t.spec.Size, total.bytes-t.total.bytes)
		}
	}
	t.total = total
	if before, ok := t.values[key]; ok {
		t.undo = append(t.undo, func() { t.values[key] = before })
	} else {
		t.order = append(t.order, key)
		t.undo = append(t.undo, func() { delete(t.values, key) })
	}
	t.values[key] = value
	return nil
}

// remove deletes an entry if there is one.
func (t *tx) remove(key string) error {
	old, err := t.get(key)
	if err != nil || old == nil {
		return err
	}
	return t.set(key, old, nil)
}

func (t *tx) write(own mark) error {
	batch, err := t.r.data.Batch(t.ctx)
	if err != nil {
		return err
	}
	for _, key := range t.order {
		if value := t.values[key]; value != nil {
			err = batch.Put(t.ctx, ds.RawKey(key), value)
		} else {
			err = batch.Delete(t.ctx, ds.RawKey(key))
		}
		if err != nil {
			return err
		}
	}
	// Last: of a large batch it is in the last part.
	if err := batch.Put(t.ctx, markKey(t.r.s.host.ID()), own.encode()); err != nil {
		return err
	}
	if err := batch.Commit(t.ctx); err != nil {
		if errors.Is(err, taubyte.ErrClosed) {
			return errElsewhere
		}
		return err
	}
	return nil
}
