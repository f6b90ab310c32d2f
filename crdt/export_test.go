package crdt

import (
	"context"
	"log/slog"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-ds-crdt/pb"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
)

// Replica is a replica without a network, moved by a test step by step.
type Replica struct {
	w     *writer
	told  [][]byte
	Acked bool // whether the others are known to have everything
}

const root = "/crdt/test"

func OpenReplica(base taubyte.Datastore, history uint64) (*Replica, error) {
	ctx := context.Background()
	st, err := openState(ctx, base, root)
	if err != nil {
		return nil, err
	}
	epoch, err := nextEpoch(ctx, base, root)
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.DiscardHandler)
	e, err := newEngine(st, log)
	if err != nil {
		return nil, err
	}
	r := &Replica{}
	r.w = newWriter("test", st, e, newHub(epoch), r, log)
	r.w.history = history
	return r, nil
}

func (r *Replica) mayWrite(context.Context) error { return nil }
func (r *Replica) want(peer.ID)                   {}
func (r *Replica) repair()                        {}
func (r *Replica) tell(blocks []*block) {
	for _, b := range blocks {
		r.told = append(r.told, b.raw)
	}
}
func (r *Replica) everywhere() (vector, bool) { return r.w.st.vector(), r.Acked }

// Close ends the replica's goroutines; its memory is gone, as in a crash.
func (r *Replica) Close() error { return r.w.engine.close() }

// A Change is a write of a key; a nil Value removes it.
type Change struct {
	Key   string
	Value []byte
}

// Write makes the changes, in one group.
func (r *Replica) Write(changes ...Change) error {
	var writes []write
	for _, c := range changes {
		if c.Value == nil {
			writes = append(writes, write{key: c.Key, remove: true})
		} else {
			writes = append(writes, write{key: c.Key, value: append([]byte{valueMark}, c.Value...)})
		}
	}
	return r.do(&op{writes: writes})
}

func (r *Replica) do(o *op) error {
	o.done = make(chan struct{})
	ops := make(chan *op)
	r.w.group(context.Background(), o, ops)
	<-o.done
	return o.err
}

// Told returns the blocks that the replica told so far.
func (r *Replica) Told() [][]byte { return r.told }

// Deliver gives the replica a block.
func (r *Replica) Deliver(raw []byte) error {
	b, err := parseBlock(raw)
	if err != nil {
		return err
	}
	return r.do(&op{blocks: []arrived{{block: b}}})
}

// Pull makes the replica get what another has; snapshot says how.
func (r *Replica) Pull(from *Replica) (bySnapshot bool, err error) {
	ctx := context.Background()
	mine := r.w.st.vector()
	seen, floor := from.w.st.vectors()
	if mine.covers(floor) {
		return false, from.w.st.walk(ctx, mine, seen, func(b *block) (bool, error) {
			return true, r.Deliver(b.raw)
		})
	}
	snap := newSnapshot()
	if err := from.w.st.view(ctx, snap.read); err != nil {
		return true, err
	}
	if err := snap.check(); err != nil {
		return true, err
	}
	return true, r.do(&op{run: func(ctx context.Context, w *writer) error { return w.mergeSnapshot(ctx, snap, false) }})
}

// Dot is a block's name, as a value that can be compared.
type Dot struct {
	Writer string
	Seq    uint64
}

// Describe returns the dot of a told block, and its priority.
func Describe(raw []byte) (Dot, uint64) {
	b, err := parseBlock(raw)
	if err != nil {
		panic(err)
	}
	return Dot{b.dot.writer.String(), b.dot.seq}, b.delta.Priority
}

// Has reports whether the replica, as on disk, has a block.
func (r *Replica) Has(d Dot) bool {
	for w, seq := range r.w.st.vector() {
		if w.String() == d.Writer {
			return d.Seq <= seq
		}
	}
	return false
}

// Log returns how many blocks the replica has in its log.
func (r *Replica) Log() uint64 { return r.w.st.disk.logBlocks }

// Meta returns what the replica keeps of itself.
func (r *Replica) Meta() (keys uint64, heads []Dot, height uint64) {
	m := r.w.st.disk
	for _, h := range m.heads {
		heads = append(heads, Dot{h.dot.writer.String(), h.dot.seq})
	}
	return m.keys, heads, m.height
}

// RecordsPrefix is where the replica keeps records in its datastore.
func RecordsPrefix() ds.Key { return ds.NewKey(root + recordsKey) }

// RecordValue reads a record as Get does.
func RecordValue(raw []byte) ([]byte, error) { return recordValue(raw) }

// Forge makes a block that an honest replica never would: on the heads that r
// has, with a priority, a number and entries of the forger's choice.
func (r *Replica) Forge(priority, seq uint64, elements ...*pb.Element) []byte {
	delta := &pb.Delta{Priority: priority, Elements: elements}
	b, err := newBlock(delta, dot{writerID{6, 6, 6}, seq}, r.w.st.disk.heads)
	if err != nil {
		return nil
	}
	return b.raw
}

var (
	ParseBlock   = func(raw []byte) error { _, err := parseBlock(raw); return err }
	DecodeRecord = func(raw []byte) error { _, err := decodeRecord(raw); return err }
	DecodeMeta   = func(raw []byte) error { _, err := decodeMeta(raw); return err }
	ReadSnapshot = func(kind byte, raw []byte) error {
		s := newSnapshot()
		if err := s.read(kind, raw); err != nil {
			return err
		}
		return s.check()
	}
	ReadVector = func(raw []byte) error { d := decoder{b: raw}; d.vector(); return d.end() }
)

// Unmodelled returns the blocks in the replica's log that are not known.
func (r *Replica) Unmodelled(known func(Dot) bool) [][]byte {
	var out [][]byte
	seen, floor := r.w.st.vectors()
	_ = r.w.st.walk(context.Background(), floor, seen, func(b *block) (bool, error) {
		if !known(Dot{b.dot.writer.String(), b.dot.seq}) {
			out = append(out, b.raw)
		}
		return true, nil
	})
	return out
}

// Waiting returns how many bytes of blocks wait for what they build upon.
func (r *Replica) Waiting() int { return r.w.waitingBytes }
