package crdt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
)

// Option changes how a store is opened.
type Option func(*options)

type options struct {
	writers []taubyte.Role
	log     *slog.Logger
	history int64
}

// WithWriters names the roles whose nodes are the store's replicas: what others
// tell is refused before it is processed, and their pulls are not answered. On a
// node of no such role every write is ErrForbidden. The default is every member.
//
// It does not keep the content secret: new blocks go out by gossip, which any
// member of the network can listen to. Seal what others must not read.
func WithWriters(roles ...taubyte.Role) Option { return func(o *options) { o.writers = roles } }

// WithLogger sets where the store logs. The default is slog.Default().
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.log = l } }

// WithHistory sets how many bytes of past changes are kept for replicas that were
// away, in place of 1 MiB or half of what the store's records take, if that is
// more. One that misses more than there is catches up from a snapshot of the
// whole store, so the trap in a small history is traffic, in a large one disk.
func WithHistory(bytes int64) Option { return func(o *options) { o.history = bytes } }

// Store is a replica of a replicated Datastore. It is safe for concurrent use.
type Store struct {
	name string
	host taubyte.Host
	opts options
	log  *slog.Logger
	st   *state
	hub  *hub

	ops     chan *op
	life    context.Context // ends with Close
	stop    context.CancelFunc
	ended   chan struct{} // closed when the writing goroutine is gone
	wg      sync.WaitGroup
	mu      sync.Mutex // wg does not grow after life's end
	once    sync.Once
	err     error
	talk    *gossip
	puller  *puller
	unserve func() // it hands no streams over any more
}

var _ taubyte.Datastore = (*Store)(nil)

// Open opens the replica of the store of that name that is kept in store, and
// makes it if need be. Members that open the same name are its other replicas. A
// replica has one opener at a time. The datastore's batches must be atomic, as
// OpenDatastore's are: a crash in the middle of one leaves all of it or nothing.
func Open(ctx context.Context, h taubyte.Host, store taubyte.Datastore, name string, opts ...Option) (*Store, error) {
	s := &Store{name: name, host: h, opts: options{log: slog.Default()}, ops: make(chan *op, maxHanded), ended: make(chan struct{})}
	for _, opt := range opts {
		opt(&s.opts)
	}
	s.log = s.opts.log.With("store", name)
	if err := s.open(ctx, store); err != nil {
		return nil, fmt.Errorf("opening the store %s: %w", name, err)
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, store taubyte.Datastore) (err error) {
	root := ds.NewKey("/crdt").ChildString(s.name).String()
	if s.name == "" || strings.Contains(s.name, "/") || root != "/crdt/"+s.name {
		return fmt.Errorf("%w name", taubyte.ErrInvalid)
	}
	if s.st, err = openState(ctx, store, root); err != nil {
		return err
	}
	epoch, err := nextEpoch(ctx, store, root)
	if err != nil {
		return err
	}
	s.hub = newHub(epoch)
	eng, err := newEngine(s.st, s.log)
	if err != nil {
		return err
	}
	s.life, s.stop = context.WithCancel(context.Background())
	s.puller = newPuller(s)
	if s.talk, err = newGossip(s); err != nil {
		s.stop()
		return errors.Join(err, eng.close())
	}
	w := newWriter(s.name, s.st, eng, s.hub, s.talk, s.log)
	w.history = uint64(max(s.opts.history, 0))
	go func() {
		defer close(s.ended)
		w.run(s.life, s.ops)
	}()
	s.unserve = s.serve()
	if s.st.isLost() {
		s.log.Error("the replica's state is damaged: it takes no writes until it has another's")
		s.puller.repair()
	}
	s.wg.Go(s.talk.listen)
	s.wg.Go(s.talk.speak)
	s.wg.Go(s.talk.meet)
	s.wg.Go(s.puller.run)
	return nil
}

// Close ends the replica. It may be called twice. Writes that have not returned
// by then return ErrClosed, and may have been done.
func (s *Store) Close() error {
	s.once.Do(func() {
		s.unserve()
		s.mu.Lock()
		s.stop()
		s.mu.Unlock()
		s.talk.end()
		s.wg.Wait()
		<-s.ended
		s.err = s.talk.close()
		s.hub.close()
	})
	return s.err
}

// spawn runs f in a goroutine that Close waits for, unless the store is closed.
func (s *Store) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life.Err() != nil {
		return false
	}
	s.wg.Go(f)
	return true
}

func (s *Store) closed() error { return fmt.Errorf("store %s: %w", s.name, taubyte.ErrClosed) }

// Get implements Datastore.
func (s *Store) Get(ctx context.Context, key ds.Key) ([]byte, error) {
	if s.life.Err() != nil {
		return nil, s.closed()
	}
	raw, err := s.st.base.Get(ctx, ds.RawKey(s.st.root+recordsKey+key.String()))
	if err != nil {
		return nil, err
	}
	value, err := recordValue(raw)
	if err != nil {
		return nil, s.damaged(key.String(), err)
	}
	return value, nil
}

// damaged has a record that can't be read replaced by another member's.
func (s *Store) damaged(key string, err error) error {
	if s.puller.repair() {
		s.log.Error("damaged record", "key", key, "err", err)
	}
	return fmt.Errorf("store %s: record of %s: %w", s.name, key, err)
}

// Has implements Datastore.
func (s *Store) Has(ctx context.Context, key ds.Key) (bool, error) {
	if s.life.Err() != nil {
		return false, s.closed()
	}
	return s.st.base.Has(ctx, ds.RawKey(s.st.root+recordsKey+key.String()))
}

// GetSize implements Datastore.
func (s *Store) GetSize(ctx context.Context, key ds.Key) (int, error) {
	value, err := s.Get(ctx, key)
	if err != nil {
		return -1, err
	}
	return len(value), nil
}

// Query implements Datastore. Its result is one consistent view if the datastore
// below gives that, as OpenDatastore's does.
func (s *Store) Query(ctx context.Context, q query.Query) (query.Results, error) {
	if s.life.Err() != nil {
		return nil, s.closed()
	}
	root := s.st.root + recordsKey
	prefix := ds.NewKey(q.Prefix).String()
	below := query.Query{Prefix: root + strings.TrimSuffix(prefix, "/"), KeysOnly: q.KeysOnly && !q.ReturnsSizes && len(q.Filters) == 0}
	rest := q
	if len(q.Orders) == 1 && q.Orders[0] == (query.OrderByKey{}) {
		below.Orders, rest.Orders = q.Orders, nil // the engine below may have it for nothing
	}
	res, err := s.st.base.Query(ctx, below)
	if err != nil {
		return nil, err
	}
	found := query.ResultsFromIterator(q, query.Iterator{
		Next: func() (query.Result, bool) {
			r, ok := res.NextSync()
			if !ok || r.Error != nil {
				return r, ok
			}
			e := query.Entry{Key: strings.TrimPrefix(r.Key, root), Size: -1}
			if !below.KeysOnly {
				value, err := recordValue(r.Value)
				if err != nil {
					return query.Result{Error: s.damaged(e.Key, err)}, true
				}
				e.Size = len(value)
				if !q.KeysOnly || len(q.Filters) > 0 {
					e.Value = value
				}
			}
			return query.Result{Entry: e}, true
		},
		Close: res.Close,
	})
	return query.NaiveQueryApply(rest, found), nil
}

// Put implements Datastore. The value is on this node's disk when it returns,
// and on its way to the other replicas.
func (s *Store) Put(ctx context.Context, key ds.Key, value []byte) error {
	return s.submit(ctx, []write{{key: key.String(), value: value}})
}

// Delete implements Datastore. A value that another member writes at the same
// time, not knowing of the deletion, stays.
func (s *Store) Delete(ctx context.Context, key ds.Key) error {
	return s.submit(ctx, []write{{key: key.String(), remove: true}})
}

// Batch implements Datastore. What is in a batch is written by Commit alone. A
// batch of up to 256 KiB becomes visible at once, here and on each other replica;
// of more, in parts that are in order.
func (s *Store) Batch(context.Context) (ds.Batch, error) {
	return &batch{s: s}, nil
}

type batch struct {
	s      *Store
	mu     sync.Mutex
	writes []write
}

func (b *batch) Put(_ context.Context, key ds.Key, value []byte) error {
	b.add(write{key: key.String(), value: append([]byte(nil), value...)})
	return nil
}

func (b *batch) Delete(_ context.Context, key ds.Key) error {
	b.add(write{key: key.String(), remove: true})
	return nil
}

func (b *batch) add(w write) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writes = append(b.writes, w)
}

func (b *batch) Commit(ctx context.Context) error {
	b.mu.Lock()
	writes := b.writes
	b.writes = nil
	b.mu.Unlock()
	err := b.s.submit(ctx, writes)
	if err != nil { // so that Commit can be called again
		b.mu.Lock()
		b.writes = append(writes, b.writes...)
		b.mu.Unlock()
	}
	return err
}

// Sync implements Datastore. There is nothing for it to do: what was written
// is durable.
func (s *Store) Sync(context.Context, ds.Key) error {
	if s.life.Err() != nil {
		return s.closed()
	}
	return nil
}

// Stats says how a replica is doing.
type Stats struct {
	Keys         uint64 // in the store
	Bytes        uint64 // that they take, about
	HistoryBytes uint64 // of past changes, kept for other replicas
	Blocks       uint64 // of past changes, the same
	Height       uint64 // longest chain of changes ever; also the greatest priority
	Heads        int    // changes that no other builds upon; more than one after concurrent writes
	Writers      int    // lives of replicas that ever wrote
	Peers        int    // other replicas that are connected
}

// Stats returns what the replica is made of now.
func (s *Store) Stats(context.Context) (Stats, error) {
	if s.life.Err() != nil {
		return Stats{}, s.closed()
	}
	s.st.mu.RLock()
	m, writers := s.st.disk, len(s.st.seen)
	s.st.mu.RUnlock()
	return Stats{
		Keys: m.keys, Bytes: m.bytes, HistoryBytes: m.logBytes, Blocks: m.logBlocks,
		Height: m.height, Heads: len(m.heads), Writers: writers, Peers: len(s.Peers()),
	}, nil
}

// Peers returns the other members that have the store open and are connected.
func (s *Store) Peers() []peer.ID { return s.talk.peers() }

// Synced returns when the replica has every change that the members that are
// connected now had when it was called. Members that can't be reached are left
// out, and so are those that hang: two seconds when another has answered, else five.
// Alone it returns at once.
func (s *Store) Synced(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		from    peer.ID
		reached bool
		err     error
	}
	waiting := s.talk.candidates()
	under := map[peer.ID]*progress{}
	answers := make(chan answer, len(waiting))
	// One begins when another has answered, or is slow to.
	begin := func() {
		if len(waiting) == 0 || len(under) >= maxPulls {
			return
		}
		from, pr := waiting[0], &progress{}
		waiting, under[from] = waiting[1:], pr
		if !s.spawn(func() {
			reached, err := s.pullUntil(ctx, from, pr)
			answers <- answer{from, reached, err}
		}) {
			answers <- answer{from, false, s.closed()}
		}
	}
	slow := time.NewTicker(headStart)
	defer slow.Stop()
	begin()
	for answered := false; len(under) > 0; begin() {
		select {
		case a := <-answers:
			if _, ok := under[a.from]; !ok {
				continue
			}
			delete(under, a.from)
			answered = answered || a.reached
			switch {
			case s.life.Err() != nil:
				return s.closed()
			case errors.Is(a.err, errHung):
				s.log.Debug("not in sync with a member that hangs", "peer", a.from)
			case a.err != nil:
				return fmt.Errorf("store %s: not in sync with %s: %w", s.name, a.from, a.err)
			}
		case <-slow.C:
			for from, pr := range under {
				if answered && pr.waits(waitForHung) {
					delete(under, from)
					s.log.Debug("not in sync with a member that hangs", "peer", from)
				}
			}
		case <-ctx.Done():
			return fmt.Errorf("store %s: not in sync with %d members: %w", s.name, len(under), ctx.Err())
		}
	}
	return nil
}

// SyncedWith returns when the replica has every change that one other member had when
// it was called. A member that can't be reached, or does not answer before ctx ends, is
// an error.
func (s *Store) SyncedWith(ctx context.Context, p peer.ID) error {
	if s.life.Err() != nil {
		return s.closed()
	}
	return s.pull(ctx, p, &progress{})
}

// pullUntil pulls from a member until that worked, or it is gone, or hangs.
func (s *Store) pullUntil(ctx context.Context, from peer.ID, pr *progress) (reached bool, err error) {
	for {
		if err = s.pull(ctx, from, pr); err == nil {
			return true, nil
		}
		if !s.connected(from) || errors.Is(err, errNone) && s.talk.hasNone(from) {
			return false, nil
		}
		if ctx.Err() != nil || errors.Is(err, errHung) {
			return false, errors.Join(ctx.Err(), err)
		}
		pr.work()
		s.log.Debug("not in sync yet", "peer", from, "err", err)
		if !pause(ctx, retryPull) {
			return false, errors.Join(ctx.Err(), err)
		}
	}
}

// Await returns when the replica has a value for a key that another member has written,
// or is about to.
func (s *Store) Await(ctx context.Context, key ds.Key) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		has, err := s.Has(ctx, key)
		if has || err != nil {
			return err
		}
		if !pause(ctx, wait) {
			return ctx.Err()
		}
		if wait > 10*time.Millisecond { // gossip may have been lost
			if err := s.Synced(ctx); err != nil {
				return err
			}
		}
	}
}

// Watch returns every change of a key under prefix, local and remote, in the
// order in which this replica applied them, from the event after a token on; 0
// stands for now. The channel closes when ctx ends or the store closes.
//
// A watcher holds nobody up. One that is too slow, or comes with a token that is
// too old, gets an event that says Lost, and lists the prefix again. Tokens
// sort by time, those of an earlier life of the replica before those of a later.
// Changes of one key in one batch are one event, and so are those that the
// replica slept through.
func (s *Store) Watch(ctx context.Context, prefix ds.Key, after Token) (<-chan Event, error) {
	if s.life.Err() != nil {
		return nil, s.closed()
	}
	out := make(chan Event)
	at := s.hub.start(after)
	if !s.spawn(func() { s.feed(ctx, prefix, at, out) }) {
		return nil, s.closed()
	}
	return out, nil
}
