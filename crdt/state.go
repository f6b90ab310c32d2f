package crdt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
)

// Keys of a replica in the node's datastore, below its root:
//
//	/s/m            meta: heads, height, what the log holds
//	/s/w/<writer>   how far the writer's blocks were applied, and are in the log
//	/s/v/<key>      record of a key
//	/l/<writer>/<n> log: the block of that dot
//
// What is below /s is one query, and so one consistent view.
const (
	metaKey    = "/s/m"
	writersKey = "/s/w"
	recordsKey = "/s/v"
	logKey     = "/l"
)

type head struct {
	cid    cid.Cid
	dot    dot
	height uint64
}

// meta is what a replica knows of itself beside records and log.
type meta struct {
	height    uint64 // greatest height of an applied block
	keys      uint64
	bytes     uint64 // of records
	logBlocks uint64
	logBytes  uint64
	heads     []head
}

func (m meta) encode() []byte {
	b := append(make([]byte, sumLen), 2) // format
	for _, n := range []uint64{m.height, m.keys, m.bytes, m.logBlocks, m.logBytes, uint64(len(m.heads))} {
		b = binary.AppendUvarint(b, n)
	}
	for _, h := range m.heads {
		b = append(b, hashSlice(h.cid)...)
		b = appendDot(b, h.dot)
		b = binary.AppendUvarint(b, h.height)
	}
	return seal(b)
}

func hashSlice(c cid.Cid) []byte {
	h := hashOf(c)
	return h[:]
}

func decodeMeta(b []byte) (m meta, err error) {
	d, err := unseal(b)
	if err != nil {
		return m, err
	}
	if f := d.take(1); f[0] != 2 {
		return m, fmt.Errorf("%w: format %d", errMalformed, f[0])
	}
	for _, p := range []*uint64{&m.height, &m.keys, &m.bytes, &m.logBlocks, &m.logBytes} {
		*p = d.uvarint()
	}
	for range d.count(32 + 8 + 2) {
		var h hash
		copy(h[:], d.take(len(h)))
		m.heads = append(m.heads, head{cid: h.cid(), dot: d.dot(), height: d.uvarint()})
	}
	return m, d.end()
}

// state is what a replica keeps, and the changes to it that are not on disk
// yet. One goroutine changes it; flush makes all changes since the last one
// durable at once, and load forgets them, so that what is on disk is always the
// state after some whole groups of writes.
type state struct {
	base ds.Batching
	root string

	// Owned by the writing goroutine.
	dirty   map[string][]byte // the log and what belongs to writers; nil: deleted
	records map[string]*held  // what was read or changed since the last flush
	meta    meta
	changed vector // writers' new numbers

	mu    sync.RWMutex // guards what follows, which is as on disk
	seen  vector       // which blocks were applied
	floor vector       // which of them are not in the log any more
	disk  meta
	lost  bool // the three are a guess, from what is left; see rebuild
}

// held is a record in memory: go-ds-crdt looks at each several times.
type held struct {
	record
	dirty bool
}

func openState(ctx context.Context, base ds.Batching, root string) (*state, error) {
	st := &state{base: base, root: root}
	return st, st.load(ctx)
}

// load reads what is on disk, in place of what is in memory.
func (st *state) load(ctx context.Context) error {
	seen, floor, disk := vector{}, vector{}, meta{}
	raw, err := st.base.Get(ctx, ds.RawKey(st.root+metaKey))
	switch {
	case errors.Is(err, ds.ErrNotFound):
	case err != nil:
		return err
	default:
		if disk, err = decodeMeta(raw); err != nil {
			return st.rebuild(ctx)
		}
	}
	res, err := st.base.Query(ctx, query.Query{Prefix: st.root + writersKey})
	if err != nil {
		return err
	}
	defer res.Close()
	for r := range res.Next() {
		if r.Error != nil {
			return r.Error
		}
		last, low, err := decodeWriter(strings.TrimPrefix(r.Key, st.root+writersKey), r.Value)
		if err != nil {
			return st.rebuild(ctx)
		}
		seen[last.writer] = last.seq
		if low > 0 {
			floor[last.writer] = low
		}
	}
	st.set(seen, floor, disk, false)
	return nil
}

func (st *state) set(seen, floor vector, disk meta, lost bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.seen, st.floor, st.disk, st.lost = seen, floor, disk, lost
	st.drop()
}

// encodeWriter names the writer's last block that was applied, and the last of
// which that is not in the log.
func encodeWriter(last dot, floor uint64) []byte {
	return seal(binary.AppendUvarint(appendDot(make([]byte, sumLen), last), floor))
}

func decodeWriter(key string, value []byte) (last dot, floor uint64, err error) {
	d, err := unseal(value)
	if err != nil {
		return last, 0, err
	}
	last, floor = d.dot(), d.uvarint()
	if key != "/"+last.writer.String() {
		d.fail()
	}
	return last, floor, d.end()
}

func (st *state) drop() {
	st.dirty, st.records, st.changed = map[string][]byte{}, map[string]*held{}, vector{}
	st.meta = st.disk
	st.meta.heads = slices.Clone(st.disk.heads)
}

func (st *state) has(d dot) bool { return d.seq <= st.last(d.writer) }

// last is the number of the writer's last block that was applied, on disk or
// not.
func (st *state) last(w writerID) uint64 {
	if seq, ok := st.changed[w]; ok {
		return seq
	}
	return st.seen[w] // its only writer is this goroutine
}

// vector returns a copy of what is on disk.
func (st *state) vector() vector {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return maps.Clone(st.seen)
}

// vectors returns copies of what was applied, and what of that is no longer in
// the log.
func (st *state) vectors() (seen, floor vector) {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return maps.Clone(st.seen), maps.Clone(st.floor)
}

func (st *state) covers(v vector) bool {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return st.seen.covers(v)
}

// record returns what is held of a key: nil for nothing.
func (st *state) record(ctx context.Context, key string) (record, error) {
	if h, ok := st.records[key]; ok {
		return h.record, nil
	}
	raw, err := st.base.Get(ctx, ds.RawKey(st.root+recordsKey+key))
	var r record
	switch {
	case errors.Is(err, ds.ErrNotFound):
	case err != nil:
		return nil, err
	default:
		if r, err = decodeRecord(raw); err != nil {
			return nil, fmt.Errorf("record of %s: %w", key, err)
		}
	}
	st.records[key] = &held{record: r}
	return r, nil
}

// setRecord replaces old, the record that the key has.
func (st *state) setRecord(key string, old, r record) {
	if old != nil {
		st.meta.keys--
		st.meta.bytes -= min(st.meta.bytes, recordSize(key, old))
	}
	if len(r) > 0 {
		st.meta.keys++
		st.meta.bytes += recordSize(key, r)
	}
	st.records[key] = &held{record: r, dirty: true}
}

func recordSize(key string, r record) uint64 {
	n := len(key)
	for _, v := range r {
		n += len(v.value) + 48
	}
	return uint64(n)
}

func blockKey(d dot) string {
	return logKey + "/" + d.writer.String() + "/" + strconv.FormatUint(d.seq, 16)
}

// logged adds an applied block to the log.
func (st *state) logged(b *block) {
	st.dirty[blockKey(b.dot)] = seal(append(make([]byte, sumLen, sumLen+len(b.raw)), b.raw...))
	st.meta.logBlocks++
	st.meta.logBytes += uint64(len(b.raw))
	st.changed[b.dot.writer] = b.dot.seq
	st.meta.height = max(st.meta.height, b.delta.Priority)
}

// errLog says that a block that should be in the log can't be read from it.
var errLog = errors.New("block not in the log")

// fromLog reads a block that a replica has and has not dropped.
func (st *state) fromLog(ctx context.Context, d dot) (*block, error) {
	raw, err := st.base.Get(ctx, ds.RawKey(st.root+blockKey(d)))
	if err != nil {
		return nil, fmt.Errorf("%w: %s/%d: %w", errLog, d.writer, d.seq, err)
	}
	b, err := parseLogged(raw)
	if err == nil && b.dot != d {
		err = errMalformed
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s/%d: %w", errLog, d.writer, d.seq, err)
	}
	return b, nil
}

func parseLogged(raw []byte) (*block, error) {
	d, err := unseal(raw)
	if err != nil {
		return nil, err
	}
	return parseBlock(d.b)
}

// flush makes the changes durable, all or none. After an error nobody knows
// which, until load.
func (st *state) flush(ctx context.Context, floor vector) error {
	if st.clean() && len(floor) == 0 {
		return nil
	}
	if err := st.write(ctx, floor); err != nil {
		return err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	maps.Copy(st.seen, st.changed)
	maps.Copy(st.floor, floor)
	st.disk, st.lost = st.meta, false
	st.drop()
	return nil
}

func (st *state) clean() bool {
	if len(st.dirty) > 0 || len(st.changed) > 0 {
		return false
	}
	for _, h := range st.records {
		if h.dirty {
			return false
		}
	}
	return true
}

func (st *state) write(ctx context.Context, floor vector) error {
	batch, err := st.base.Batch(ctx)
	if err != nil {
		return err
	}
	for key, h := range st.records {
		switch {
		case !h.dirty:
		case len(h.record) == 0:
			err = batch.Delete(ctx, ds.RawKey(st.root+recordsKey+key))
		default:
			err = batch.Put(ctx, ds.RawKey(st.root+recordsKey+key), h.encode())
		}
		if err != nil {
			return err
		}
	}
	for key, value := range st.dirty {
		if value == nil {
			err = batch.Delete(ctx, ds.RawKey(st.root+key))
		} else {
			err = batch.Put(ctx, ds.RawKey(st.root+key), value)
		}
		if err != nil {
			return err
		}
	}
	touched := maps.Clone(st.changed)
	maps.Copy(touched, floor)
	for w := range touched {
		low := st.floor[w]
		if f, ok := floor[w]; ok {
			low = f
		}
		if err := batch.Put(ctx, ds.RawKey(st.root+writersKey+"/"+w.String()), encodeWriter(dot{w, st.last(w)}, low)); err != nil {
			return err
		}
	}
	if err := batch.Put(ctx, ds.RawKey(st.root+metaKey), st.meta.encode()); err != nil {
		return err
	}
	return batch.Commit(ctx)
}
