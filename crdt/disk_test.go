package crdt_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/crdt"
	"github.com/taubyte/taubyte/internal/testnet"
)

// limited is a datastore that refuses everything while its disk is full.
type limited struct {
	taubyte.Datastore
	full atomic.Bool
}

func (l *limited) Batch(ctx context.Context) (ds.Batch, error) {
	b, err := l.Datastore.Batch(ctx)
	return &limitedBatch{b, l}, err
}

type limitedBatch struct {
	ds.Batch
	l *limited
}

func (b *limitedBatch) Commit(ctx context.Context) error {
	if b.l.full.Load() {
		return syscall.ENOSPC
	}
	return b.Batch.Commit(ctx)
}

// Many write when the disk becomes full and when it has room again, and another
// member writes meanwhile. What was acknowledged is there.
func TestDiskFullForAWhile(t *testing.T) {
	nw := testnet.New(t)
	below, err := taubyte.OpenDatastore(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, below.Close()) })
	disk := &limited{Datastore: below}
	a, b := open(t, nw.NodeOn(disk)), open(t, nw.Node())
	var acked sync.Map
	var refused atomic.Int64
	var wg sync.WaitGroup
	const writers, each = 8, 30
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if w == 0 && (i == 10 || i == 20) {
					disk.full.Store(i == 10)
				}
				k := fmt.Sprintf("/k/%d/%d", w, i)
				switch err := a.Put(context.Background(), ds.NewKey(k), []byte(k)); {
				case err == nil:
					acked.Store(k, true)
				default:
					refused.Add(1)
					if w > 0 { // until it is there
						for a.Put(context.Background(), ds.NewKey(k), []byte(k)) != nil {
							_ = b.Put(context.Background(), ds.NewKey("/b"), []byte("b"))
						}
						acked.Store(k, true)
					}
				}
			}
		})
	}
	wg.Wait()
	require.Positive(t, refused.Load())
	put(t, b, "/b", "b")
	n := 1
	acked.Range(func(k, _ any) bool {
		n++
		require.Equal(t, k, get(t, a, k.(string)))
		return true
	})
	testnet.Eventually(t, func() bool { return len(all(t, b)) == n && len(all(t, a)) == n }, "%d keys", n)
	require.Equal(t, all(t, a), all(t, b))
}

// copyDir is what a crash leaves of a folder.
func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	require.NoError(t, os.CopyFS(filepath.Join(to, "copy"), os.DirFS(from)))
	return filepath.Join(to, "copy")
}

// newest returns the newest of the engine's files that end so.
func newest(t *testing.T, dir, suffix string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	return files[len(files)-1]
}

// The end of the engine's log is missing after a crash, also where the disk had
// confirmed it. What the replica misses, its own writes among it, it gets from
// another; what it writes then is told from what it wrote before.
func TestTornLog(t *testing.T) {
	nw := testnet.New(t)
	b := open(t, nw.Node())
	dir := t.TempDir()
	d, err := taubyte.OpenDatastore(dir)
	require.NoError(t, err)
	na := nw.NodeOn(d)
	a, err := crdt.Open(t.Context(), na, d, "test")
	require.NoError(t, err)
	for i := range 60 {
		put(t, a, fmt.Sprintf("/k/%d", i), fmt.Sprint(i))
	}
	require.NoError(t, a.Delete(t.Context(), ds.NewKey("/k/0")))
	crashed := copyDir(t, dir)
	testnet.Eventually(t, func() bool { return same(t, a, b) }, "the other member")
	require.NoError(t, a.Close())
	require.NoError(t, na.Close())
	require.NoError(t, d.Close())
	nw.Forget(na)

	for i, torn := range []int64{0, 1, 100, 10_000} {
		dir := copyDir(t, crashed)
		log := newest(t, dir, ".log")
		info, err := os.Stat(log)
		require.NoError(t, err)
		require.NoError(t, os.Truncate(log, max(info.Size()-torn, 0)))
		d, err := taubyte.OpenDatastore(dir)
		require.NoError(t, err)
		na := nw.NodeOn(d)
		a, err := crdt.Open(t.Context(), na, d, "test")
		require.NoError(t, err)
		left := len(all(t, a))
		if torn == 0 {
			require.Equal(t, 59, left)
		}
		testnet.Eventually(t, func() bool { return same(t, a, b) }, "the other member")
		t.Logf("%d keys were left without the last %d bytes, %d after catching up", left, torn, len(all(t, a)))
		put(t, a, fmt.Sprintf("/new/%d", i), "v")
		testnet.Eventually(t, func() bool { return get(t, b, fmt.Sprintf("/new/%d", i)) == "v" }, "a new write")
		require.Len(t, all(t, b), 59+i+1)
		require.NoError(t, a.Close())
		require.NoError(t, na.Close())
		require.NoError(t, d.Close())
		nw.Forget(na)
	}
}

// A bit flips in a table of the engine. No value is ever wrong: the store says
// what it can't read, and an empty one in its place fills from the other member.
func TestBitFlipInATable(t *testing.T) {
	nw := testnet.New(t)
	b := open(t, nw.Node())
	dir := t.TempDir()
	for range 2 { // what is in the log becomes a table when it is opened again
		d, err := taubyte.OpenDatastore(dir)
		require.NoError(t, err)
		na := nw.NodeOn(d)
		a, err := crdt.Open(t.Context(), na, d, "test")
		require.NoError(t, err)
		for i := range 50 {
			put(t, a, fmt.Sprintf("/k/%d", i), fmt.Sprint(i))
		}
		testnet.Eventually(t, func() bool { return same(t, a, b) }, "the other member")
		require.NoError(t, a.Close())
		require.NoError(t, na.Close())
		require.NoError(t, d.Close())
		nw.Forget(na)
	}
	want := all(t, b)
	require.Len(t, want, 50)
	table := newest(t, dir, ".sst")
	info, err := os.Stat(table)
	require.NoError(t, err)
	said := 0
	for i := range int64(4) {
		dir := copyDir(t, dir)
		f, err := os.OpenFile(filepath.Join(dir, filepath.Base(table)), os.O_RDWR, 0)
		require.NoError(t, err)
		at := (2*i + 1) * info.Size() / 8
		bit := make([]byte, 1)
		_, err = f.ReadAt(bit, at)
		require.NoError(t, err)
		bit[0] ^= 1
		_, err = f.WriteAt(bit, at)
		require.NoError(t, err)
		require.NoError(t, f.Close())

		if err := read(t, dir, want); err != nil {
			said++
			t.Logf("a bit at %d of %d: %v", at, info.Size(), err)
		}
	}
	require.Positive(t, said)

	d, err := taubyte.OpenDatastore(t.TempDir())
	require.NoError(t, err)
	na := nw.NodeOn(d)
	a, err := crdt.Open(t.Context(), na, d, "test")
	require.NoError(t, err)
	testnet.Eventually(t, func() bool { return same(t, a, b) }, "the other member")
	require.Equal(t, want, all(t, a))
	require.NoError(t, a.Close())
	require.NoError(t, na.Close())
	require.NoError(t, d.Close())
}

// read opens a replica, alone, and returns the first error. What it reads without one
// is right.
func read(t *testing.T, dir string, want map[string]string) error {
	d, err := taubyte.OpenDatastore(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	h, err := taubyte.NewHost(t.Context(), d, taubyte.WithLogger(testnet.Logger(t)))
	if err != nil {
		return err
	}
	defer func() { require.NoError(t, h.Close()) }()
	s, err := crdt.Open(t.Context(), h, d, "test", crdt.WithLogger(testnet.Logger(t)))
	if err != nil {
		return err
	}
	defer func() { require.NoError(t, s.Close()) }()
	var first error
	for k, v := range want {
		switch got, err := s.Get(t.Context(), ds.NewKey(k)); {
		case err != nil:
			first = err
		default:
			require.Equal(t, v, string(got))
		}
	}
	res, err := s.Query(t.Context(), query.Query{})
	if err != nil {
		return err
	}
	defer res.Close()
	for r := range res.Next() {
		if r.Error != nil {
			return r.Error
		}
		require.Equal(t, want[r.Key], string(r.Value))
	}
	return first
}
