package crdt

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-ds-crdt/pb"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
)

// op is one thing for the writing goroutine to do.
type op struct {
	writes []write                              // by this member
	blocks []arrived                            // or of another one
	run    func(context.Context, *writer) error // or something of its own
	err    error
	done   chan struct{} // closed when it is durable, or err is set
	failed func(error)   // instead of done, for an operation that nobody waits for
}

// arrived is a block that a member told.
type arrived struct {
	*block
	from peer.ID
}

// Limits of what shares a write to disk: operations, and bytes of keys and values.
const (
	maxGroup      = 1024
	maxGroupBytes = 16 << 20
)

func (o *op) size() (n int) {
	for _, w := range o.writes {
		n += len(w.key) + len(w.value)
	}
	for _, b := range o.blocks {
		n += len(b.raw)
	}
	return n
}

// submit has writes done, in order, with those of other callers.
func (s *Store) submit(ctx context.Context, writes []write) error {
	if s.life.Err() != nil {
		return s.closed()
	}
	marked := make([]write, len(writes))
	for i, w := range writes {
		if err := checkKey(w.key); err != nil {
			return fmt.Errorf("store %s: %w key: %w", s.name, taubyte.ErrInvalid, err)
		}
		if len(w.value) > maxValue {
			return fmt.Errorf("store %s: %w: the value of %s has %d bytes, the most is %d", s.name, taubyte.ErrTooLarge, w.key, len(w.value), maxValue)
		}
		marked[i] = write{key: w.key, remove: w.remove}
		if !w.remove {
			marked[i].value = append(append(make([]byte, 0, len(w.value)+1), valueMark), w.value...)
		}
	}
	if len(marked) == 0 {
		return nil
	}
	return s.do(ctx, &op{writes: marked})
}

// do waits for an operation. When ctx or the store ends after it was handed
// over, it may be done nevertheless.
func (s *Store) do(ctx context.Context, o *op) error {
	o.done = make(chan struct{})
	if err := s.hand(ctx, o); err != nil {
		return err
	}
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ended:
		select {
		case <-o.done:
			return o.err
		default:
			return s.closed()
		}
	}
}

// hand gives an operation to the writing goroutine.
func (s *Store) hand(ctx context.Context, o *op) error {
	select {
	case s.ops <- o:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.life.Done():
		return s.closed()
	}
}

// maxHanded is how many operations may wait for the writing goroutine; more
// wait to be handed over.
const maxHanded = 64

// writer is the one goroutine that changes a replica. It takes all operations
// that wait, makes one block of the writes of this member, merges it and the
// blocks of others, and makes everything durable with one write to disk: group
// commit.
type writer struct {
	name    string
	st      *state
	engine  *engine
	hub     *hub
	net     others
	log     *slog.Logger
	history uint64   // bytes; 0 is the default
	id      writerID // of this life; zero before its first write
	broken  bool     // what is on disk has to be read again

	waiting      map[dot][]arrived // blocks, by what they wait for
	waitingBytes int

	changed []Event  // since the last flush, in their order
	fresh   []*block // made since the last flush

	pruneAt uint64 // bytes of the log
}

// others is what the writer needs of the other replicas.
type others interface {
	// mayWrite returns ErrForbidden if this member may not write.
	mayWrite(context.Context) error
	// tell tells them new blocks of this one, and that there are changes.
	tell([]*block)
	// want says that a block is missing that peer p builds upon.
	want(p peer.ID)
	// repair has records that can't be read replaced by another's.
	repair()
	// everywhere returns what every connected one is known to have, and false
	// if there is one of which that is not known.
	everywhere() (vector, bool)
}

// Limits of what is held of blocks that came before what they build upon.
const (
	maxWaiting      = 4096
	maxWaitingBytes = 16 << 20
)

func newWriter(name string, st *state, e *engine, h *hub, net others, log *slog.Logger) *writer {
	return &writer{name: name, st: st, engine: e, hub: h, net: net, log: log, waiting: map[dot][]arrived{}}
}

func (w *writer) run(life context.Context, ops <-chan *op) {
	defer func() {
		if err := w.engine.close(); err != nil {
			w.log.Warn("closing go-ds-crdt", "err", err)
		}
	}()
	// What was taken is finished: its caller waits.
	ctx := context.WithoutCancel(life)
	for {
		select {
		case <-life.Done():
			return
		case o := <-ops:
			w.group(ctx, o, ops)
		}
	}
}

// group does an operation and those that wait behind it. Those whose write has just
// been done get a chance to hand over the next: else the first of them to come has a
// write to disk of its own while all others wait for it.
func (w *writer) group(ctx context.Context, o *op, ops <-chan *op) {
	group, bytes := []*op{o}, o.size()
	for yielded := false; o.run == nil && len(group) < maxGroup && bytes < maxGroupBytes; {
		select {
		case o = <-ops:
			yielded = false
			if o.run == nil {
				group, bytes = append(group, o), bytes+o.size()
				continue
			}
			w.finish(group, w.commit(ctx, group))
			group = []*op{o}
		default:
			if !yielded {
				runtime.Gosched()
				yielded = true
				continue
			}
		}
		break
	}
	if o.run == nil {
		w.finish(group, w.commit(ctx, group))
		return
	}
	err := w.mend(ctx)
	if err == nil {
		err = o.run(ctx, w)
	}
	w.finish(group, err)
}

func (w *writer) finish(group []*op, err error) {
	for _, o := range group {
		if o.err == nil {
			o.err = err
		}
		if o.failed == nil {
			close(o.done)
		} else if o.err != nil {
			o.failed(o.err)
		}
	}
}

// commit does a group: all of it or, when it returns an error, nothing. An
// operation whose blocks are no good has its own error.
func (w *writer) commit(ctx context.Context, group []*op) error {
	if err := w.mend(ctx); err != nil {
		return err
	}
	if w.st.lost {
		return fmt.Errorf("store %s: %w: %w: it waits for another replica", w.name, taubyte.ErrUnavailable, errLost)
	}
	var writes []write
	for _, o := range group {
		writes = append(writes, o.writes...)
		for _, b := range o.blocks {
			if err := w.receive(ctx, b); errors.Is(err, taubyte.ErrInvalid) {
				o.err = err
			} else if err != nil {
				return w.undo(ctx, err)
			}
		}
	}
	if len(writes) > 0 {
		if err := w.local(ctx, writes); err != nil {
			return w.undo(ctx, err)
		}
	}
	return w.flush(ctx)
}

// undo goes back to what is on disk, which after a write that went wrong may be
// the state before it or the one after it.
func (w *writer) undo(ctx context.Context, err error) error {
	w.changed, w.fresh = nil, nil
	w.id = writerID{} // its last numbers may be on disk or not
	w.forget()
	w.broken = true
	w.log.Error("write undone", "err", err)
	if errors.Is(err, errDamaged) {
		w.net.repair()
	}
	return errors.Join(fmt.Errorf("store %s: %w", w.name, err), w.mend(ctx))
}

// mend reads again what is on disk, if need be.
func (w *writer) mend(ctx context.Context) error {
	if !w.broken {
		return nil
	}
	if err := w.st.load(ctx); err != nil {
		return fmt.Errorf("store %s: reading its state again: %w", w.name, err)
	}
	if err := w.engine.restart(); err != nil {
		return fmt.Errorf("store %s: %w", w.name, err)
	}
	w.broken = false
	w.hub.lose() // what changed is not known
	return nil
}

// flush makes what was done durable, tells watchers and other members, and
// drops history that nobody needs.
func (w *writer) flush(ctx context.Context) error {
	if err := w.st.flush(ctx, nil); err != nil {
		return w.undo(ctx, err)
	}
	w.hub.publish(w.changed)
	w.net.tell(w.fresh)
	w.changed, w.fresh = nil, nil
	if err := w.prune(ctx); err != nil {
		w.log.Warn("history not dropped", "err", err)
	}
	return nil
}

// note keeps the event of a key that may just have been changed.
func (w *writer) note(ctx context.Context, key string, before record) error {
	r, err := w.st.record(ctx, key)
	if err != nil {
		return err
	}
	if len(r) == len(before) && len(r) == 0 || len(r) > 0 && len(before) > 0 && r[0].hash == before[0].hash {
		return nil // the value that counts is the same
	}
	e := Event{Key: ds.RawKey(key), Deleted: len(r) == 0}
	if len(r) > 0 {
		e.Value = r[0].value[1:]
	}
	w.changed = append(w.changed, e)
	return nil
}

// local makes blocks of this member's writes and merges them.
func (w *writer) local(ctx context.Context, writes []write) error {
	if err := w.net.mayWrite(ctx); err != nil {
		return err
	}
	// A key is in a delta once; the last write counts.
	last := make(map[string]int, len(writes))
	for i, wr := range writes {
		last[wr.key] = i
	}
	delta, size := new(pb.Delta), 0
	for i, wr := range writes {
		if last[wr.key] != i {
			continue
		}
		if len(delta.Elements)+len(delta.Tombstones) >= maxGroup || size > 0 && size+len(wr.value) > splitAt {
			if err := w.add(ctx, delta); err != nil {
				return err
			}
			delta, size = new(pb.Delta), 0
		}
		r, err := w.st.record(ctx, wr.key)
		if err != nil {
			return err
		}
		// A write takes the place of all versions that it knows of. So there
		// are never more than concurrent ones, and a deletion that removes one
		// uncovers none that was overwritten long ago.
		for _, v := range r {
			delta.Tombstones = append(delta.Tombstones, &pb.Element{Key: wr.key, Id: v.hash.id()})
			size += len(wr.key) + idLen
		}
		if !wr.remove {
			delta.Elements = append(delta.Elements, &pb.Element{Key: wr.key, Value: wr.value})
			size += len(wr.key) + len(wr.value)
		}
	}
	if len(delta.Elements)+len(delta.Tombstones) == 0 {
		return nil
	}
	return w.add(ctx, delta)
}

func (w *writer) add(ctx context.Context, delta *pb.Delta) error {
	if w.id == (writerID{}) {
		if _, err := rand.Read(w.id[:]); err != nil {
			return err
		}
	}
	delta.Priority = w.st.meta.height + 1
	heads := w.st.meta.heads
	b, err := newBlock(delta, dot{w.id, w.st.last(w.id) + 1}, heads[:min(len(heads), maxLinks)])
	if err != nil {
		return err
	}
	if err := w.merge(ctx, b); err != nil {
		return err
	}
	w.fresh = append(w.fresh, b)
	return nil
}

// merge applies a block whose dependencies were applied.
func (w *writer) merge(ctx context.Context, b *block) error {
	keys := make([]string, 0, len(b.delta.Tombstones)+len(b.delta.Elements))
	before := make(map[string]record, cap(keys))
	for _, e := range slices.Concat(b.delta.Tombstones, b.delta.Elements) {
		if _, ok := before[e.Key]; ok {
			continue
		}
		r, err := w.st.record(ctx, e.Key)
		if err != nil {
			return err
		}
		before[e.Key] = r
		keys = append(keys, e.Key)
	}
	if err := w.engine.apply(ctx, b); err != nil {
		return err
	}
	w.st.logged(b)
	for _, key := range keys {
		if err := w.note(ctx, key, before[key]); err != nil {
			return err
		}
	}
	return nil
}

// receive merges a block of another member, and those that waited for it; or
// lets it wait.
func (w *writer) receive(ctx context.Context, b arrived) error {
	queue := []arrived{b}
	for len(queue) > 0 {
		b, queue = queue[0], queue[1:]
		if w.st.has(b.dot) {
			continue
		}
		if missing, ok := w.missing(b.block); ok {
			w.wait(missing, b)
			continue
		}
		if err := w.admit(b.block); err != nil {
			return fmt.Errorf("block %s of %s: %w", b.cid, b.from, err)
		}
		if err := w.merge(ctx, b.block); err != nil {
			return err
		}
		freed := w.waiting[b.dot]
		delete(w.waiting, b.dot)
		for _, f := range freed {
			w.waitingBytes -= len(f.raw)
		}
		queue = append(queue, freed...)
	}
	return nil
}

// missing returns something that a block builds upon and that was not applied.
func (w *writer) missing(b *block) (dot, bool) {
	if before := (dot{b.dot.writer, b.dot.seq - 1}); !w.st.has(before) {
		return before, true
	}
	for _, d := range b.deps {
		if !w.st.has(d) {
			return d, true
		}
	}
	return dot{}, false
}

// admit checks what can be told of a block only in its place. Its writer had
// nothing that is not here, so it can't stand higher than one above all.
func (w *writer) admit(b *block) error {
	if b.delta.Priority > w.st.meta.height+1 {
		return fmt.Errorf("%w: priority %d, one above all blocks is %d", taubyte.ErrInvalid, b.delta.Priority, w.st.meta.height+1)
	}
	for i, l := range b.node.Links() {
		for _, h := range w.st.meta.heads {
			if (h.cid == l.Cid) != (h.dot == b.deps[i]) || h.cid == l.Cid && h.height >= b.delta.Priority {
				return fmt.Errorf("%w: link to %s", taubyte.ErrInvalid, l.Cid)
			}
		}
	}
	return nil
}

func (w *writer) wait(missing dot, b arrived) {
	w.net.want(b.from)
	if len(w.waiting) >= maxWaiting || w.waitingBytes+len(b.raw) > maxWaitingBytes {
		w.forget() // what is forgotten is pulled
	}
	for _, other := range w.waiting[missing] {
		if other.dot == b.dot {
			return
		}
	}
	w.waiting[missing] = append(w.waiting[missing], b)
	w.waitingBytes += len(b.raw)
}

func (w *writer) forget() {
	clear(w.waiting)
	w.waitingBytes = 0
}

// pause waits, and reports false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
