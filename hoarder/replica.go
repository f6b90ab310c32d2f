package hoarder

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/crdt"
)

// The keys of a store's replicas.
//
//	/d/+<part>/+<part>…             entry of a database: its key, cut at each slash
//	/f/<name>/<version>/<nonce>     version of a file of a storage; the name in hex
//	/m/<peer>                       mark: what <peer> has written so far
//
// A mark is in the batch of the writes that it counts. So a replica that has the
// mark has the writes and whatever their writer had.
const (
	entries = "/d"
	files   = "/f"
	marks   = "/m"
)

// A mark says how many writes a replica made, and what they did to the store's size.
type mark struct {
	seq   uint64 // only ever grows
	bytes int64
	items int64
}

func (m mark) encode() []byte {
	b := binary.AppendUvarint(nil, m.seq)
	return binary.AppendVarint(binary.AppendVarint(b, m.bytes), m.items)
}

func decodeMark(b []byte) (m mark, err error) {
	var n [3]int
	if m.seq, n[0] = binary.Uvarint(b); n[0] > 0 {
		if m.bytes, n[1] = binary.Varint(b[n[0]:]); n[1] > 0 {
			m.items, n[2] = binary.Varint(b[n[0]+n[1]:])
		}
	}
	if n[2] <= 0 {
		return m, fmt.Errorf("%w mark of a replica", taubyte.ErrInvalid)
	}
	return m, nil
}

func markKey(p peer.ID) ds.Key { return ds.RawKey(marks + "/" + p.String()) }

// position says of some replicas how many of their writes somebody has seen.
type position map[peer.ID]uint64

// MarshalJSON has peers as their text, which encoding/json does not do for keys.
func (p position) MarshalJSON() ([]byte, error) {
	text := make(map[string]uint64, len(p))
	for id, seq := range p {
		text[id.String()] = seq
	}
	return json.Marshal(text)
}

// UnmarshalJSON decodes what MarshalJSON wrote.
func (p *position) UnmarshalJSON(b []byte) error {
	var text map[string]uint64
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	*p = make(position, len(text))
	for name, seq := range text {
		id, err := peer.Decode(name)
		if err != nil {
			return err
		}
		(*p)[id] = seq
	}
	return nil
}

// replica is a store's replica on this node, while it is open.
type replica struct {
	s    *Service
	h    *hosting
	ref  ref
	kind kind
	data *crdt.Store
	stop context.CancelFunc
	life context.Context
	wg   sync.WaitGroup

	opened time.Time
	// taking ends when uploads are refused; refuse ends it.
	taking context.Context
	refuse context.CancelFunc

	mu     sync.Mutex
	spec   spec
	marks  map[peer.ID]mark
	offset mark   // what the marks' sums are wrong by: concurrent writes
	above  uint64 // the numbers of this life
	// committing is the number of the group that is being written, whose mark is taken
	// over when it is on disk.
	committing uint64
	moved      chan struct{} // closed when a mark grows
	queue      []*change
	commits    bool  // a goroutine works on the queue
	counted    int64 // writes since the last count
	foreign    bool  // others wrote since the last count
	unsure     bool  // a commit failed: what is in the store has to be read again
	coming     int64 // bytes of uploads under way

	confirms confirming

	written bool // since it was last asked; guarded by hosting.saving
	filling filling
}

// storeName is a store's name as a crdt.
func storeName(r ref) string { return "store-" + r.String() }

func (s *Service) openReplica(ctx context.Context, h *hosting, k kind, sp spec) (*replica, error) {
	r := h.ref
	data, err := crdt.Open(ctx, s.host, s.base, storeName(r), crdt.WithWriters(taubyte.RoleHoarder), crdt.WithLogger(s.o.log))
	if err != nil {
		return nil, err
	}
	rep := &replica{s: s, h: h, ref: r, kind: k, data: data, spec: sp, opened: time.Now(), marks: map[peer.ID]mark{}, moved: make(chan struct{})}
	rep.life, rep.stop = context.WithCancel(s.life)
	rep.taking, rep.refuse = context.WithCancel(rep.life)
	rep.filling.init()
	rep.confirms.init()
	if err := rep.start(ctx); err != nil {
		return nil, errors.Join(err, rep.close())
	}
	return rep, nil
}

func (r *replica) start(ctx context.Context) error {
	events, err := r.data.Watch(r.life, ds.NewKey(marks), 0)
	if err != nil {
		return err
	}
	if err := r.count(ctx); err != nil {
		return err
	}
	// After a disk was lost, the numbers go on above those that were lost.
	r.above = uint64(time.Now().UnixMicro())
	r.wg.Go(func() { r.follow(events) })
	if r.kind == kindStorage {
		return r.followFiles()
	}
	return nil
}

// close ends the replica. Nobody uses it any more.
func (r *replica) close() error {
	r.stop()
	r.wg.Wait()
	return r.data.Close()
}

// follow keeps the marks current.
func (r *replica) follow(events <-chan crdt.Event) {
	for e := range events {
		if e.Lost {
			if err := r.readMarks(r.life); err != nil && r.life.Err() == nil {
				r.s.o.log.Warn("reading the marks of a store", "store", r.ref, "err", err)
			}
			continue
		}
		r.mark(e.Key, e.Value)
	}
}

// mark takes over a mark that another wrote, or this node before it lost its disk: who
// has it fill its replica again says how far that one had come.
func (r *replica) mark(key ds.Key, value []byte) {
	p, err := peer.Decode(key.Name())
	if err != nil {
		return
	}
	m, err := decodeMark(value)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if m.seq <= r.marks[p].seq || p == r.s.host.ID() && m.seq == r.committing {
		return
	}
	r.marks[p] = m
	r.foreign = true
	r.grown()
}

// grown wakes who waits for marks. Callers hold mu.
func (r *replica) grown() {
	close(r.moved)
	r.moved = make(chan struct{})
}

func (r *replica) readMarks(ctx context.Context) error {
	return each(ctx, r.data, marks, func(key ds.Key, value []byte) error {
		r.mark(key, value)
		return nil
	})
}

// count adds up what is in the store, and so sets right what concurrent writes at
// several replicas have miscounted. Nothing is committed meanwhile.
func (r *replica) count(ctx context.Context) error {
	var sum, told mark
	seen := map[peer.ID]mark{}
	// One query is one view of entries and marks.
	res, err := r.data.Query(ctx, query.Query{})
	if err != nil {
		return fmt.Errorf("counting store %s: %w", r.ref, err)
	}
	defer res.Close()
	for e := range res.Next() {
		if e.Error != nil {
			return fmt.Errorf("counting store %s: %w", r.ref, e.Error)
		}
		if name, ok := strings.CutPrefix(e.Key, marks+"/"); ok {
			p, err := peer.Decode(name)
			if err != nil {
				continue
			}
			m, err := decodeMark(e.Value)
			if err != nil {
				return fmt.Errorf("counting store %s: %w", r.ref, err)
			}
			seen[p] = m
			told.bytes += m.bytes
			told.items += m.items
			continue
		}
		n, err := r.weigh(e.Key, e.Value)
		if err != nil {
			return fmt.Errorf("counting store %s: %w", r.ref, err)
		}
		sum.bytes += n
		sum.items++
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for p, m := range seen {
		if r.marks[p].seq < m.seq {
			r.marks[p] = m // otherwise it has grown since the view
		}
	}
	r.offset = mark{bytes: sum.bytes - told.bytes, items: sum.items - told.items}
	r.counted, r.foreign, r.unsure = 0, false, false
	r.grown()
	return nil
}

// weigh is what an entry counts against the store's size.
func (r *replica) weigh(key string, value []byte) (int64, error) {
	if r.kind == kindStorage {
		v, err := decodeVersion(value)
		return v.Size, err
	}
	return int64(len(entryName(key)) + len(value)), nil
}

// total is what the store holds. Callers hold mu.
func (r *replica) total() mark {
	t := r.offset
	for _, m := range r.marks {
		t.bytes += m.bytes
		t.items += m.items
	}
	return mark{bytes: max(t.bytes, 0), items: max(t.items, 0)}
}

func (r *replica) size() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.total().bytes
}

// position is what this replica has of each.
func (r *replica) position() position {
	r.mu.Lock()
	defer r.mu.Unlock()
	pos := position{}
	for p, m := range r.marks {
		pos[p] = m.seq
	}
	return pos
}

// reach returns when the replica has what the position says. What only a replica can
// tell that was given up, because it has been away for longer than the grace and there
// are others, is given up as well.
func (r *replica) reach(ctx context.Context, want position) error {
	if len(r.missing(want)) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.s.o.reach)
	defer cancel()
	return r.reachFor(ctx, want, false)
}

// freshFor is how long gossip about a store may not come yet after it was opened.
const freshFor = 2 * time.Second

// inFlight is how long what gossip carries may take before it is asked for.
const inFlight = 30 * time.Millisecond

// reachFor is reach for as long as ctx allows. What is old was not missed just now: it
// is asked for at once. from are nodes that have it, besides those that wrote it.
func (r *replica) reachFor(ctx context.Context, want position, old bool, from ...peer.ID) error {
	if len(r.missing(want)) == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var told position // of those that are away, what the others have of theirs
	first := inFlight
	if old || time.Since(r.opened) < freshFor {
		first = time.Millisecond
	}
	ask := time.NewTicker(first) // gossip may have been missed
	defer ask.Stop()
	under := pulls{busy: map[peer.ID]bool{}}
	for {
		r.mu.Lock()
		moved := r.moved
		r.mu.Unlock()
		missing := r.missing(want)
		if len(missing) == 0 {
			return nil
		}
		if !slices.ContainsFunc(missing, func(p peer.ID) bool { return p == r.s.host.ID() || !r.s.givenUp(ctx, r.ref, p) }) {
			if told == nil {
				told = r.s.othersHave(ctx, r.ref)
			}
			if !slices.ContainsFunc(missing, func(p peer.ID) bool { return told[p] > 0 && r.lacks(p, min(told[p], want[p])) }) {
				return nil
			}
		}
		select {
		case <-moved:
		case <-ask.C:
			ask.Reset(askAgain)
			r.pullAll(ctx, &under, append(missing, from...))
		case <-ctx.Done():
			return fmt.Errorf("store %s: %w: writes that were seen before have not arrived: %w", r.ref, taubyte.ErrUnavailable, ctx.Err())
		case <-r.life.Done():
			return errElsewhere
		}
	}
}

// askAgain is how long a member that was pulled from is not asked again.
const askAgain = 50 * time.Millisecond

// pulls are those that are under way.
type pulls struct {
	mu   sync.Mutex
	busy map[peer.ID]bool
}

// pullAll pulls from every other replica that is there, from each at its own pace: one
// that hangs holds up no other.
func (r *replica) pullAll(ctx context.Context, from *pulls, more []peer.ID) {
	peers := r.data.Peers()
	for _, p := range more {
		if !slices.Contains(peers, p) && r.s.host.Network().Connectedness(p) == network.Connected {
			peers = append(peers, p)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.life.Err() != nil {
		return
	}
	from.mu.Lock()
	defer from.mu.Unlock()
	for _, p := range peers {
		if from.busy[p] {
			continue
		}
		from.busy[p] = true
		r.wg.Go(func() {
			_ = r.data.SyncedWith(ctx, p) // again as long as somebody waits
			from.mu.Lock()
			defer from.mu.Unlock()
			from.busy[p] = false
		})
	}
}

// missing lists of whom the replica has less than the position says.
func (r *replica) missing(want position) (from []peer.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p, seq := range want {
		if r.marks[p].seq < seq {
			from = append(from, p)
		}
	}
	return from
}

func (r *replica) lacks(p peer.ID, seq uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.marks[p].seq < seq
}
