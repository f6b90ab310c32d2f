package crdt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	crdt "github.com/ipfs/go-ds-crdt"
	"github.com/ipfs/go-ds-crdt/pb"
	ipld "github.com/ipfs/go-ipld-format"
	"google.golang.org/protobuf/proto"
)

// engine runs go-ds-crdt, which decides what a block does to the set and to the
// heads. It stands between go-ds-crdt's three interfaces and the replica: it is
// the Broadcaster that hands it one block at a time, each after all that the
// block builds upon; the DAG service that has this block; and the datastore,
// which keeps a record for each key in place of go-ds-crdt's own layout. Since
// blocks come in causal order and once, a removed version can't come back, and
// nothing is kept of it: no tombstone, no mark for a processed block.
type engine struct {
	ds.Batching // nil: only what is overridden below is called
	st          *state
	log         *slog.Logger
	crdt        *crdt.Datastore

	in   chan []byte
	done chan struct{}
	busy bool // owned by Next

	mu         sync.Mutex // go-ds-crdt has goroutines of its own
	ctx        context.Context
	cur        *block
	values     map[string][]byte // of cur
	merged     bool
	failed     error
	queried    record // of the key whose versions go-ds-crdt is looking through
	queriedKey string
}

func newEngine(st *state, log *slog.Logger) (*engine, error) {
	e := &engine{st: st, log: log, in: make(chan []byte), done: make(chan struct{}, 1), ctx: context.Background()}
	return e, e.start()
}

func (e *engine) start() (err error) {
	o := crdt.DefaultOptions()
	o.Logger = engineLog{e}
	o.NumWorkers = 1
	o.RepairInterval = 0 // nothing is ever half processed
	o.RebroadcastInterval = time.Hour
	e.busy = false
	e.crdt, err = crdt.New(e, ds.NewKey("/"), dag{e: e}, e, o)
	return err
}

func (e *engine) close() error { return e.crdt.Close() }

// restart makes go-ds-crdt read the heads again, after they were changed behind
// its back.
func (e *engine) restart() error {
	if err := e.close(); err != nil {
		return err
	}
	return e.start()
}

// apply merges a block whose every dependency was applied.
func (e *engine) apply(ctx context.Context, b *block) error {
	values := make(map[string][]byte, len(b.delta.Elements))
	for _, el := range b.delta.Elements {
		values[el.Key] = el.Value
	}
	e.mu.Lock()
	e.ctx, e.cur, e.values, e.merged, e.failed = ctx, b, values, false, nil
	e.mu.Unlock()
	told, err := proto.Marshal(&pb.CRDTBroadcast{Heads: []*pb.Head{{Cid: b.cid.Bytes()}}})
	if err != nil {
		return err
	}
	e.in <- told
	<-e.done
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cur, e.values, e.queried = nil, nil, nil
	if e.failed == nil && !e.merged {
		e.failed = errors.New("not merged")
	}
	if e.failed != nil {
		return fmt.Errorf("merging block %s: %w", b.cid, e.failed)
	}
	return nil
}

// Next implements crdt.Broadcaster. Its being called again says that the block
// before was processed.
func (e *engine) Next(ctx context.Context) ([]byte, error) {
	if e.busy {
		e.busy = false
		e.done <- struct{}{}
	}
	select {
	case told := <-e.in:
		e.busy = true
		return told, nil
	case <-ctx.Done():
		return nil, crdt.ErrNoMoreBroadcast
	}
}

// Broadcast implements crdt.Broadcaster. Replicas tell each other what they
// have in a way of their own.
func (e *engine) Broadcast(context.Context, []byte) error { return nil }

// The datastore, as far as go-ds-crdt uses it. Its keys: /s/k/<key>/v and /p,
// value and priority; /s/s/<key>/<block> and /s/t/<key>/<block>, versions and
// their removal; /h/<block>, heads; /b/<block>, processed; /d, dirty.

func (e *engine) Get(_ context.Context, k ds.Key) ([]byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	key := k.String()
	if key == "/crdt_version" {
		return binary.AppendUvarint(nil, 2), nil // version 1: nothing to migrate
	}
	name, what, ok := valueOrPriority(key)
	if !ok {
		return nil, ds.ErrNotFound
	}
	r, err := e.st.record(e.ctx, name)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, ds.ErrNotFound
	}
	if what == 'v' {
		return r[0].value, nil
	}
	return binary.AppendUvarint(nil, r[0].priority+1), nil
}

func valueOrPriority(key string) (name string, what byte, ok bool) {
	rest, ok := strings.CutPrefix(key, "/s/k")
	if !ok || len(rest) < 3 {
		return "", 0, false
	}
	return rest[:len(rest)-2], rest[len(rest)-1], true
}

func (e *engine) Has(_ context.Context, k ds.Key) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if id, ok := strings.CutPrefix(k.String(), "/b"); ok {
		// All that a block links to was applied before it.
		return e.cur == nil || id != e.cur.id || e.merged, nil
	}
	return false, nil // no tombstones, never dirty
}

func (e *engine) Put(_ context.Context, k ds.Key, v []byte) error {
	return e.write([]write{{key: k.String(), value: v}})
}

func (e *engine) Delete(_ context.Context, k ds.Key) error {
	return e.write([]write{{key: k.String(), remove: true}})
}

// Query is asked for the heads at start, and for the versions of a key.
func (e *engine) Query(_ context.Context, q query.Query) (query.Results, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []query.Entry
	if q.Prefix == "/h" {
		for _, h := range e.st.meta.heads {
			out = append(out, query.Entry{Key: "/h" + blockID(h.cid.Hash()), Value: binary.AppendUvarint(nil, h.height)})
		}
	} else if name, ok := strings.CutPrefix(q.Prefix, "/s/s"); ok {
		var err error
		e.queriedKey = name
		if e.queried, err = e.st.record(e.ctx, name); err != nil {
			return nil, err
		}
		for _, v := range e.queried {
			out = append(out, query.Entry{Key: q.Prefix + v.hash.id()})
		}
	}
	return list(q, out), nil
}

// listed is the results of a query that are all there. Those of go-datastore start a
// goroutine, which for every key of a block costs more than the rest.
type listed struct {
	query   query.Query
	entries []query.Entry
	next    chan query.Result
}

func list(q query.Query, entries []query.Entry) *listed {
	l := &listed{query: q, entries: entries, next: make(chan query.Result, len(entries))}
	for _, e := range entries {
		l.next <- query.Result{Entry: e}
	}
	close(l.next)
	return l
}

func (l *listed) Query() query.Query           { return l.query }
func (l *listed) Next() <-chan query.Result    { return l.next }
func (l *listed) Rest() ([]query.Entry, error) { return l.entries, nil }
func (l *listed) Close() error                 { return nil }
func (l *listed) Done() <-chan struct{}        { return closed }

func (l *listed) NextSync() (query.Result, bool) {
	r, ok := <-l.next
	return r, ok
}

var closed = func() <-chan struct{} { c := make(chan struct{}); close(c); return c }()

func (e *engine) Sync(context.Context, ds.Key) error { return nil }

func (e *engine) Close() error { return nil }

func (e *engine) Batch(context.Context) (ds.Batch, error) { return &engineBatch{e: e}, nil }

type engineBatch struct {
	e      *engine
	writes []write
}

func (b *engineBatch) Put(_ context.Context, k ds.Key, v []byte) error {
	b.writes = append(b.writes, write{key: k.String(), value: v})
	return nil
}

func (b *engineBatch) Delete(_ context.Context, k ds.Key) error {
	b.writes = append(b.writes, write{key: k.String(), remove: true})
	return nil
}

func (b *engineBatch) Commit(context.Context) error { return b.e.write(b.writes) }

// write is a change of a key.
type write struct {
	key    string
	value  []byte
	remove bool
}

// write does the writes of go-ds-crdt that belong together: first what versions
// there are, then which of them counts, which it may have changed its mind about
// on the way.
func (e *engine) write(writes []write) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	last := map[string]int{}
	for i, w := range writes {
		if strings.HasPrefix(w.key, "/s/k") {
			last[w.key] = i
		} else if err := e.write1(w); err != nil {
			return e.fail(err)
		}
	}
	for i, w := range writes {
		if n, ok := last[w.key]; !ok || n != i {
			continue
		}
		if err := e.choose(w); err != nil {
			return e.fail(err)
		}
	}
	return nil
}

func (e *engine) fail(err error) error {
	if e.failed == nil {
		e.failed = err
	}
	return err
}

func (e *engine) write1(w write) error {
	if e.cur == nil {
		return nil // before a block was given there is nothing to write
	}
	switch {
	case strings.HasPrefix(w.key, "/s/s"), strings.HasPrefix(w.key, "/s/t"):
		return e.version(w)
	case strings.HasPrefix(w.key, "/h/"):
		return e.head(w)
	case strings.HasPrefix(w.key, "/b/"):
		e.merged = true
		return nil
	}
	return fmt.Errorf("unknown key %s", w.key)
}

// choose puts the version first that go-ds-crdt made the key's value. It writes
// the value, then the priority.
func (e *engine) choose(w write) error {
	name, what, _ := valueOrPriority(w.key)
	if w.remove || e.cur == nil {
		return nil // a record without a version goes by itself
	}
	r, err := e.st.record(e.ctx, name)
	if err != nil {
		return err
	}
	if len(r) == 0 {
		return fmt.Errorf("no version of %s has its value", name)
	}
	value, same := w.value, func(version) bool { return true }
	if what == 'p' {
		p, n := binary.Uvarint(w.value)
		if n <= 0 {
			return errMalformed
		}
		value, same = r[0].value, func(v version) bool { return v.priority == p-1 }
	}
	i := slices.IndexFunc(r, func(v version) bool { return same(v) && bytes.Equal(v.value, value) })
	if i < 0 {
		return fmt.Errorf("no version of %s has its value", name)
	}
	if i > 0 {
		first := append(record{r[i]}, r[:i]...)
		e.st.setRecord(name, r, append(first, r[i+1:]...))
	}
	return nil
}

// version adds the current block's version of a key, or removes one.
func (e *engine) version(w write) error {
	i := strings.LastIndexByte(w.key, '/')
	name := w.key[len("/s/s"):i]
	h, err := parseID(w.key[i:])
	if err != nil {
		return err
	}
	old, err := e.st.record(e.ctx, name)
	if err != nil {
		return err
	}
	var r record
	for _, v := range old {
		if v.hash != h {
			r = append(r, v)
		}
	}
	if strings.HasPrefix(w.key, "/s/s") {
		r = append(r, version{hash: h, dot: e.cur.dot, priority: e.cur.delta.Priority, value: e.values[name]})
	} else if len(r) == len(old) {
		return nil
	}
	e.st.setRecord(name, old, r)
	return nil
}

func (e *engine) head(w write) error {
	h, err := parseID(w.key[len("/h"):])
	if err != nil {
		return err
	}
	c := h.cid()
	heads := e.st.meta.heads[:0]
	for _, old := range e.st.meta.heads {
		if old.cid != c {
			heads = append(heads, old)
		}
	}
	if !w.remove {
		height, n := binary.Uvarint(w.value)
		if n <= 0 || c != e.cur.cid {
			return fmt.Errorf("head %s", w.key)
		}
		heads = append(heads, head{cid: c, dot: e.cur.dot, height: height})
	}
	e.st.meta.heads = heads
	return nil
}

// dag is the DAG service that go-ds-crdt sees: the block that is being merged,
// and, in place of blocks of the past, the versions of a key that are left of
// them, which is what it looks for in these.
type dag struct {
	ipld.DAGService // nil
	e               *engine
}

func (d dag) Get(_ context.Context, c cid.Cid) (ipld.Node, error) {
	e := d.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cur != nil && c == e.cur.cid {
		return e.cur.node, nil
	}
	i := e.queried.find(hashOf(c))
	if i < 0 {
		return nil, e.fail(ipld.ErrNotFound{Cid: c})
	}
	v := e.queried[i]
	delta := &pb.Delta{Priority: v.priority, Elements: []*pb.Element{{Key: e.queriedKey, Value: v.value}}}
	data, err := proto.Marshal(delta)
	if err != nil {
		return nil, err
	}
	return merkledag.NodeWithData(data), nil
}

func (d dag) GetMany(ctx context.Context, cids []cid.Cid) <-chan *ipld.NodeOption {
	out := make(chan *ipld.NodeOption, len(cids))
	for _, c := range cids {
		n, err := d.Get(ctx, c)
		out <- &ipld.NodeOption{Node: n, Err: err}
	}
	close(out)
	return out
}

// engineLog takes go-ds-crdt's errors as the failure of the block that is being
// merged, and drops its chatter.
type engineLog struct{ e *engine }

func (l engineLog) errorf(msg string) {
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	_ = l.e.fail(errors.New(msg))
}

func (l engineLog) Error(args ...any)                 { l.errorf(fmt.Sprint(args...)) }
func (l engineLog) Errorf(format string, args ...any) { l.errorf(fmt.Sprintf(format, args...)) }
func (l engineLog) Fatal(args ...any)                 { l.errorf(fmt.Sprint(args...)) }
func (l engineLog) Fatalf(format string, args ...any) { l.errorf(fmt.Sprintf(format, args...)) }
func (l engineLog) Panic(args ...any)                 { l.errorf(fmt.Sprint(args...)) }
func (l engineLog) Panicf(format string, args ...any) { l.errorf(fmt.Sprintf(format, args...)) }
func (l engineLog) Warn(args ...any)                  { l.e.log.Debug(fmt.Sprint(args...)) }
func (l engineLog) Warnf(format string, args ...any)  { l.e.log.Debug(fmt.Sprintf(format, args...)) }
func (l engineLog) Debug(...any)                      {}
func (l engineLog) Debugf(string, ...any)             {}
func (l engineLog) Info(...any)                       {}
func (l engineLog) Infof(string, ...any)              {}
