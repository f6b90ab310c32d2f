package crdt

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/taubyte/taubyte"
)

// snapshot is the state of a replica, one consistent view.
type snapshot struct {
	meta    *meta
	seen    vector
	records map[string]record
	bytes   int
}

func newSnapshot() *snapshot { return &snapshot{seen: vector{}, records: map[string]record{}} }

func (s *snapshot) read(kind byte, payload []byte) error {
	if s.bytes += len(payload) + 64; s.bytes > maxSnapshot {
		return fmt.Errorf("more than %d bytes", maxSnapshot)
	}
	d := decoder{b: payload}
	switch kind {
	case frameMeta:
		m, err := decodeMeta(payload)
		s.meta = &m
		return err
	case frameWriter:
		p := d.dot()
		s.seen[p.writer] = p.seq
		return d.end()
	default:
		key := string(d.bytes())
		if d.err != nil {
			return d.err
		}
		if err := checkKey(key); err != nil {
			return err
		}
		r, err := decodeRecord(d.b)
		s.records[key] = r
		return err
	}
}

// check looks for what no honest replica says. Each step of height took a block,
// so the blocks' number bounds every priority.
func (s *snapshot) check() error {
	if s.meta == nil {
		return fmt.Errorf("%w: no meta", errMalformed)
	}
	var blocks uint64
	for _, seq := range s.seen {
		if seq > maxPriority || blocks > math.MaxUint64-seq {
			return fmt.Errorf("%w: number %d", errMalformed, seq)
		}
		blocks += seq
	}
	if s.meta.height > blocks || s.meta.height > maxPriority {
		return fmt.Errorf("%w: height %d of %d blocks", errMalformed, s.meta.height, blocks)
	}
	for _, h := range s.meta.heads {
		if !s.seen.has(h.dot) || h.height > s.meta.height {
			return fmt.Errorf("%w: head %s", errMalformed, h.cid)
		}
	}
	for key, r := range s.records {
		for i, v := range r {
			if !s.seen.has(v.dot) || v.dot.seq == 0 || v.priority == 0 || v.priority > s.meta.height || len(v.value) > maxValue+1 || record(r[:i]).find(v.hash) >= 0 {
				return fmt.Errorf("%w: record of %q", errMalformed, key)
			}
		}
	}
	return nil
}

// view reads the replica's state in one query.
func (st *state) view(ctx context.Context, f func(kind byte, payload []byte) error) error {
	root := st.root
	res, err := st.base.Query(ctx, query.Query{Prefix: root + "/s"})
	if err != nil {
		return err
	}
	defer res.Close()
	for r := range res.Next() {
		if r.Error != nil {
			return r.Error
		}
		key := strings.TrimPrefix(r.Key, root)
		switch {
		case key == metaKey:
			err = f(frameMeta, r.Value)
		case strings.HasPrefix(key, writersKey):
			var p dot
			if p, _, err = decodeWriter(strings.TrimPrefix(key, writersKey), r.Value); err == nil {
				err = f(frameWriter, appendDot(nil, p))
			}
		default:
			if _, err := unseal(r.Value); err != nil {
				return fmt.Errorf("record of %s: %w", strings.TrimPrefix(key, recordsKey), err)
			}
			err = f(frameRecord, append(appendBytes(nil, []byte(strings.TrimPrefix(key, recordsKey))), r.Value...))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mergeSnapshot joins the state of another replica with this one's. What this
// one wrote and the other has not seen stays, blocks and all. Blocks that only
// the other has seen will not be in this one's log.
//
// To repair, it also replaces records that can't be read. Nothing is lost by that
// if the other has seen all that this one has. A replica that has lost its
// bookkeeping takes what it can get.
func (w *writer) mergeSnapshot(ctx context.Context, snap *snapshot, repair bool) error {
	if repair && !w.st.isLost() && !snap.seen.covers(w.st.vector()) {
		return fmt.Errorf("store %s: %w: it misses changes that are here", w.name, taubyte.ErrUnavailable)
	}
	if err := w.joinSnapshot(ctx, snap, repair); err != nil {
		return w.undo(ctx, err)
	}
	return nil
}

func (w *writer) joinSnapshot(ctx context.Context, snap *snapshot, repair bool) error {
	st := w.st
	own := st.vector()
	if err := w.joinRecords(ctx, own, snap, repair); err != nil {
		return err
	}
	var heads []head
	for _, h := range st.meta.heads {
		if isHead(snap.meta.heads, h) || !snap.seen.has(h.dot) {
			heads = append(heads, h)
		}
	}
	for _, h := range snap.meta.heads {
		// One too many does no harm, so a replica that does not know takes it.
		if !isHead(st.meta.heads, h) && (st.lost || !own.has(h.dot)) {
			heads = append(heads, h)
		}
	}
	st.meta.heads = heads
	st.meta.height = max(st.meta.height, snap.meta.height)
	floor := vector{}
	for id, seq := range snap.seen {
		if seq <= own[id] {
			continue
		}
		for n := st.floor[id] + 1; n <= own[id]; n++ {
			if err := st.unlog(ctx, dot{id, n}); err != nil {
				return err
			}
		}
		st.changed[id], floor[id] = seq, seq
	}
	if st.lost {
		if err := st.keepRebuilt(ctx, floor); err != nil {
			return err
		}
	}
	if err := st.flush(ctx, floor); err != nil {
		return err
	}
	w.hub.publish(w.changed)
	w.changed = nil
	w.net.tell(nil)
	w.forget() // blocks that wait may be known now; the others are pulled
	return w.engine.restart()
}

func isHead(heads []head, h head) bool {
	for _, other := range heads {
		if other.cid == h.cid {
			return true
		}
	}
	return false
}

func (w *writer) joinRecords(ctx context.Context, own vector, snap *snapshot, repair bool) error {
	join := func(key string, mine record) error {
		joined := mergeRecords(mine, own, snap.records[key], snap.seen)
		if same(mine, joined) {
			return nil
		}
		w.st.setRecord(key, mine, joined)
		return w.note(ctx, key, mine)
	}
	root := w.st.root + recordsKey
	res, err := w.st.base.Query(ctx, query.Query{Prefix: root})
	if err != nil {
		return err
	}
	defer res.Close()
	mine := map[string]bool{}
	for r := range res.Next() {
		if r.Error != nil {
			return r.Error
		}
		key := strings.TrimPrefix(r.Key, root)
		mine[key] = true
		rec, err := decodeRecord(r.Value)
		if err != nil && repair {
			w.log.Warn("damaged record replaced", "key", key)
			w.st.meta.keys--
			w.st.meta.bytes -= min(w.st.meta.bytes, uint64(len(r.Value)))
			w.st.setRecord(key, nil, snap.records[key])
			if err := w.note(ctx, key, nil); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("record of %s: %w", key, err)
		}
		if err := join(key, rec); err != nil {
			return err
		}
	}
	for key := range snap.records {
		if mine[key] {
			continue
		}
		if err := join(key, nil); err != nil {
			return err
		}
	}
	return nil
}

func same(a, b record) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].hash != b[i].hash {
			return false
		}
	}
	return true
}

// unlog drops a block from the log.
func (st *state) unlog(ctx context.Context, d dot) error {
	key := blockKey(d)
	n, err := st.base.GetSize(ctx, ds.RawKey(st.root+key))
	if errors.Is(err, ds.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("history %s/%d: %w", hex.EncodeToString(d.writer[:]), d.seq, err)
	}
	st.dirty[key] = nil
	st.meta.logBlocks--
	st.meta.logBytes -= min(st.meta.logBytes, uint64(max(n-sumLen, 0)))
	return nil
}
