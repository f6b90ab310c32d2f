package crdt

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/ipfs/go-datastore/query"
)

// errLost says that a replica does not know any more what it has seen.
var errLost = errors.New("the replica's state is damaged")

func (st *state) isLost() bool {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return st.lost
}

// rebuild makes up for meta or numbers of writers that can't be read. Records and
// log say what the replica has seen at least: with a block all that it builds upon.
// That is not enough to apply further blocks, of which some might be known, or
// to write, since what the write builds upon might not be named. It is enough to
// be joined with the state of another replica: what only this one has stays.
func (st *state) rebuild(ctx context.Context) error {
	seen, floor, disk := vector{}, vector{}, meta{}
	know := func(d dot, priority uint64) {
		seen[d.writer] = max(seen[d.writer], d.seq)
		disk.height = max(disk.height, priority)
	}
	logged := map[dot]bool{}
	above := map[hash]bool{} // blocks that another builds upon
	err := st.each(ctx, logKey, func(_ string, value []byte) {
		b, err := parseLogged(value)
		if err != nil {
			return
		}
		know(b.dot, b.delta.Priority)
		logged[b.dot] = true
		for _, l := range b.node.Links() {
			above[hashOf(l.Cid)] = true
		}
		disk.logBlocks++
		disk.logBytes += uint64(len(b.raw))
		disk.heads = append(disk.heads, head{cid: b.cid, dot: b.dot, height: b.delta.Priority})
	})
	if err != nil {
		return err
	}
	disk.heads = slices.DeleteFunc(disk.heads, func(h head) bool { return above[hashOf(h.cid)] })
	err = st.each(ctx, recordsKey, func(key string, value []byte) {
		disk.keys++
		r, err := decodeRecord(value)
		if err != nil {
			disk.bytes += uint64(len(value))
			return
		}
		for _, v := range r {
			know(v.dot, v.priority)
		}
		disk.bytes += recordSize(key, r)
	})
	if err != nil {
		return err
	}
	for w, last := range seen {
		low := last
		for low > 0 && logged[dot{w, low}] {
			low--
		}
		if low > 0 {
			floor[w] = low
		}
	}
	st.set(seen, floor, disk, true)
	return nil
}

// keepRebuilt has all numbers of writers written at the next flush, and drops those
// that can't be read, with what is of no use in the log.
func (st *state) keepRebuilt(ctx context.Context, floor vector) error {
	for w, last := range st.seen {
		if _, ok := st.changed[w]; !ok {
			st.changed[w] = last
		}
	}
	for w := range st.changed {
		if _, ok := floor[w]; !ok {
			floor[w] = st.floor[w]
		}
	}
	err := st.each(ctx, writersKey, func(key string, value []byte) {
		if _, _, err := decodeWriter(key, value); err != nil {
			st.dirty[writersKey+key] = nil
		}
	})
	if err != nil {
		return err
	}
	return st.each(ctx, logKey, func(key string, value []byte) {
		if _, ok := st.dirty[logKey+key]; ok {
			return
		}
		b, err := parseLogged(value)
		if err == nil && b.dot.seq > floor[b.dot.writer] {
			return
		}
		st.dirty[logKey+key] = nil
		if err == nil {
			st.meta.logBlocks--
			st.meta.logBytes -= min(st.meta.logBytes, uint64(len(b.raw)))
		}
	})
}

// each calls f with all that is stored below a key.
func (st *state) each(ctx context.Context, below string, f func(key string, value []byte)) error {
	res, err := st.base.Query(ctx, query.Query{Prefix: st.root + below})
	if err != nil {
		return err
	}
	defer res.Close()
	for r := range res.Next() {
		if r.Error != nil {
			return r.Error
		}
		f(strings.TrimPrefix(r.Key, st.root+below), r.Value)
	}
	return nil
}
