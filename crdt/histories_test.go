package crdt_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/ipfs/go-ds-crdt/pb"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/crdt"
	"github.com/taubyte/taubyte/internal/testnet"
)

// flaky is a datastore whose next commit can be made to fail: with nothing on
// disk, as on a full one, or with everything, as when the answer is lost.
type flaky struct {
	taubyte.Datastore
	fail atomic.Int32
}

const (
	failBefore = 1
	failAfter  = 2
)

var errDisk = errors.New("no space left on device")

func (f *flaky) Batch(ctx context.Context) (ds.Batch, error) {
	b, err := f.Datastore.Batch(ctx)
	return &flakyBatch{b, f}, err
}

type flakyBatch struct {
	ds.Batch
	f *flaky
}

func (b *flakyBatch) Commit(ctx context.Context) error {
	switch b.f.fail.Swap(0) {
	case failBefore:
		return errDisk
	case failAfter:
		if err := b.Batch.Commit(ctx); err != nil {
			return err
		}
		return errDisk
	}
	return b.Batch.Commit(ctx)
}

// written is what the model knows of a block: its changes, and all blocks that
// its writer had then.
type written struct {
	dot      crdt.Dot
	priority uint64
	changes  map[string][]byte
	past     map[crdt.Dot]bool
	acked    bool
}

type member struct {
	disk *flaky
	*crdt.Replica
	seen int // of what it told, in the model
}

// model is a network of replicas, and what they should hold, worked out in the
// plainest way from everything that was ever written: a value stays until a
// write or a deletion that knew of it; among several the one of the highest
// priority counts, then the greatest.
type model struct {
	t       *rapid.T
	members []*member
	blocks  [][]byte
	written []written
}

var historyKeys = []string{"/a", "/a/b", "/c"}

func (m *model) expected(r *member) map[string]string {
	var known []written
	for _, w := range m.written {
		if r.Has(w.dot) {
			known = append(known, w)
		}
	}
	out := map[string]string{}
	for _, key := range historyKeys {
		var best *written
		for i, w := range known {
			value, ok := w.changes[key]
			if !ok || value == nil {
				continue
			}
			if slices.ContainsFunc(known, func(later written) bool {
				_, touches := later.changes[key]
				return touches && later.past[w.dot]
			}) {
				continue
			}
			if best == nil || w.priority > best.priority ||
				w.priority == best.priority && bytes.Compare(value, best.changes[key]) > 0 {
				best = &known[i]
			}
		}
		if best != nil {
			out[key] = string(best.changes[key])
		}
	}
	return out
}

func (m *model) holds(r *member) map[string]string {
	res, err := r.disk.Query(context.Background(), query.Query{Prefix: crdt.RecordsPrefix().String()})
	require.NoError(m.t, err)
	entries, err := res.Rest()
	require.NoError(m.t, err)
	out := map[string]string{}
	for _, e := range entries {
		v, err := crdt.RecordValue(e.Value)
		require.NoError(m.t, err)
		out[strings.TrimPrefix(e.Key, crdt.RecordsPrefix().String())] = string(v)
	}
	return out
}

func (m *model) check() {
	for i, r := range m.members {
		require.Equal(m.t, m.expected(r), m.holds(r), "member %d", i)
		keys, heads, height := r.Meta()
		require.Equal(m.t, len(m.holds(r)), int(keys), "member %d counts its keys", i)
		require.ElementsMatch(m.t, m.tips(r), heads, "member %d", i)
		for _, w := range m.written {
			if r.Has(w.dot) {
				require.GreaterOrEqual(m.t, height, w.priority)
				for d := range w.past {
					require.True(m.t, r.Has(d), "member %d has %v and not %v, which came before", i, w.dot, d)
				}
			}
		}
	}
}

// tips returns the blocks that no other one that the member has builds upon.
func (m *model) tips(r *member) (tips []crdt.Dot) {
	under := map[crdt.Dot]bool{}
	for _, w := range m.written {
		if r.Has(w.dot) {
			maps.Copy(under, w.past)
		}
	}
	for _, w := range m.written {
		if r.Has(w.dot) && !under[w.dot] {
			tips = append(tips, w.dot)
		}
	}
	return tips
}

func (m *model) any(name string) *member {
	return m.members[rapid.IntRange(0, len(m.members)-1).Draw(m.t, name)]
}

func (m *model) write(r *member, fail int32) {
	changes := map[string][]byte{}
	var list []crdt.Change
	for range rapid.IntRange(1, 3).Draw(m.t, "writes") {
		c := crdt.Change{Key: rapid.SampledFrom(historyKeys).Draw(m.t, "key")}
		if !rapid.Bool().Draw(m.t, "delete") {
			c.Value = []byte(rapid.SampledFrom([]string{"", "x", "y", "z"}).Draw(m.t, "value"))
		}
		list = append(list, c)
		changes[c.Key] = c.Value
	}
	past := map[crdt.Dot]bool{}
	for _, w := range m.written {
		if r.Has(w.dot) {
			past[w.dot] = true
		}
	}
	before := m.holds(r)
	r.disk.fail.Store(fail)
	err := r.Write(list...)
	r.disk.fail.Store(0)
	// A write with no effect commits nothing; and when it is dropping history
	// that fails, the write is done.
	if fail != 0 && err != nil {
		require.ErrorIs(m.t, err, errDisk)
		if fail == failBefore {
			require.Equal(m.t, before, m.holds(r), "what failed left nothing")
			return
		}
		// It is on disk though nobody was told: others get it by pulls. The
		// model finds it there.
		for _, raw := range r.Unmodelled(func(d crdt.Dot) bool { return m.knows(d) }) {
			m.note(raw, changes, past, false)
		}
		return
	}
	require.NoError(m.t, err)
	told := r.Told()[r.seen:]
	r.seen = len(r.Told())
	require.LessOrEqual(m.t, len(told), 1)
	for _, raw := range told {
		m.note(raw, changes, past, true)
	}
}

func (m *model) knows(d crdt.Dot) bool {
	return slices.ContainsFunc(m.written, func(w written) bool { return w.dot == d })
}

func (m *model) note(raw []byte, changes map[string][]byte, past map[crdt.Dot]bool, acked bool) {
	dot, priority := crdt.Describe(raw)
	require.False(m.t, m.knows(dot), "%v was written twice", dot)
	m.blocks = append(m.blocks, raw)
	m.written = append(m.written, written{dot: dot, priority: priority, changes: maps.Clone(changes), past: past, acked: acked})
}

func (m *model) reopen(r *member) {
	require.NoError(m.t, r.Close())
	var err error
	r.Replica, err = crdt.OpenReplica(r.disk, 600)
	require.NoError(m.t, err)
	r.seen = 0
}

// Any order of delivery, duplicates, losses, partitions, history dropped on any
// members at any time, failing disks and crashes: a replica always holds what the
// writes that it has seen amount to, and once all have pulled from all, every
// acknowledged write is everywhere.
func TestHistories(t *testing.T) {
	testnet.CheckLeaks(t)
	snapshots := 0
	defer func() {
		if !t.Failed() {
			require.Greater(t, snapshots, 10, "histories are long enough to be dropped")
		}
	}()
	rapid.Check(t, func(t *rapid.T) {
		m := &model{t: t}
		for range rapid.IntRange(2, 4).Draw(t, "members") {
			disk := &flaky{Datastore: taubyte.MemoryDatastore()}
			r, err := crdt.OpenReplica(disk, 600) // two or three blocks
			require.NoError(t, err)
			m.members = append(m.members, &member{disk: disk, Replica: r})
		}
		defer func() {
			for _, r := range m.members {
				require.NoError(t, r.Close())
			}
		}()
		pull := func(to, from *member) error {
			snap, err := to.Pull(from.Replica)
			if snap {
				snapshots++
			}
			return err
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			r := m.any("member")
			switch rapid.SampledFrom([]string{"write", "write", "write", "deliver", "deliver", "pull", "crash", "acked", "disk"}).Draw(t, "step") {
			case "write":
				m.write(r, 0)
			case "deliver":
				if len(m.blocks) > 0 {
					require.NoError(t, r.Deliver(rapid.SampledFrom(m.blocks).Draw(t, "block")))
				}
			case "pull":
				require.NoError(t, pull(r, m.any("from")))
			case "crash":
				m.reopen(r)
			case "acked":
				r.Acked = !r.Acked
			case "disk":
				fail := rapid.Int32Range(failBefore, failAfter).Draw(t, "failure")
				if rapid.Bool().Draw(t, "in a pull") {
					r.disk.fail.Store(fail)
					if err := pull(r, m.any("from")); err != nil {
						require.ErrorIs(t, err, errDisk)
					}
					r.disk.fail.Store(0)
				} else {
					m.write(r, fail)
				}
				if rapid.Bool().Draw(t, "and crash") {
					m.reopen(r)
				}
			}
			m.check()
		}
		for range 2 {
			for _, to := range m.members {
				for _, from := range m.members {
					require.NoError(t, pull(to, from))
				}
			}
		}
		m.check()
		for _, r := range m.members {
			require.Equal(t, m.holds(m.members[0]), m.holds(r))
			for _, w := range m.written {
				require.True(t, r.Has(w.dot), "a write is lost (acknowledged: %v)", w.acked)
			}
		}
	})
}

// What a peer of the right role, but gone bad, may try.
func TestForgedBlocks(t *testing.T) {
	testnet.CheckLeaks(t)
	r, err := crdt.OpenReplica(taubyte.MemoryDatastore(), 0)
	require.NoError(t, err)
	defer func() { require.NoError(t, r.Close()) }()
	require.NoError(t, r.Write(crdt.Change{Key: "/k", Value: []byte("honest")}))
	element := func(key, value string) *pb.Element { return &pb.Element{Key: key, Value: []byte(value)} }
	for name, raw := range map[string][]byte{
		"a priority that none could beat": r.Forge(1<<62, 1, element("/k", "\x01evil")),
		"a leap in priority":              r.Forge(3, 1, element("/k", "\x01evil")),
		"a priority below its links":      r.Forge(1, 1, element("/k", "\x01evil")),
		"no priority":                     r.Forge(0, 1, element("/k", "\x01evil")),
		"no number":                       r.Forge(2, 0, element("/k", "\x01evil")),
		"one key twice":                   r.Forge(2, 1, element("/k", "\x01evil"), element("/k", "\x01evil")),
		"a key that is no key":            r.Forge(2, 1, element("/k/../../x", "\x01evil")),
		"no mark":                         r.Forge(2, 1, element("/k", "")),
		"too big":                         r.Forge(2, 1, element("/k", "\x01"+strings.Repeat("x", 1<<20))),
	} {
		if raw != nil {
			require.ErrorIs(t, r.Deliver(raw), taubyte.ErrInvalid, name)
		}
	}
	// A number that skips some waits for ever, and is not merged.
	require.NoError(t, r.Deliver(r.Forge(2, 7, element("/k", "\x01evil"))))
	_, heads, height := r.Meta()
	require.Len(t, heads, 1)
	require.Equal(t, 1, int(height))
	require.NoError(t, r.Deliver(r.Forge(2, 1, element("/k", "\x01fair"))))
	_, _, height = r.Meta()
	require.Equal(t, 2, int(height))
	require.NoError(t, r.Write(crdt.Change{Key: "/k", Value: []byte("mine")}))
}

// Blocks that wait for what never comes are forgotten at some point.
func TestEndlessOrphans(t *testing.T) {
	testnet.CheckLeaks(t)
	r, err := crdt.OpenReplica(taubyte.MemoryDatastore(), 0)
	require.NoError(t, err)
	defer func() { require.NoError(t, r.Close()) }()
	big := "\x01" + strings.Repeat("x", 512<<10)
	for i := range 100 {
		require.NoError(t, r.Deliver(r.Forge(2, uint64(i+2), &pb.Element{Key: fmt.Sprintf("/%d", i), Value: []byte(big)})))
		require.LessOrEqual(t, r.Waiting(), 16<<20)
	}
	require.NoError(t, r.Write(crdt.Change{Key: "/k", Value: []byte("mine")}))
}

func FuzzDecode(f *testing.F) {
	r, err := crdt.OpenReplica(taubyte.MemoryDatastore(), 0)
	require.NoError(f, err)
	f.Cleanup(func() { require.NoError(f, r.Close()) })
	require.NoError(f, r.Write(crdt.Change{Key: "/k", Value: []byte("v")}, crdt.Change{Key: "/l", Value: []byte("v")}))
	require.NoError(f, r.Write(crdt.Change{Key: "/k"}))
	for _, raw := range r.Told() {
		f.Add(raw)
	}
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(_ *testing.T, raw []byte) {
		_ = crdt.ParseBlock(raw)
		_ = crdt.DecodeRecord(raw)
		_, _ = crdt.RecordValue(raw)
		_ = crdt.DecodeMeta(raw)
		_ = crdt.ReadVector(raw)
		for _, kind := range []byte("mwr") {
			_ = crdt.ReadSnapshot(kind, raw)
		}
	})
}
