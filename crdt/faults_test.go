package crdt_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/crdt"
	"github.com/taubyte/taubyte/internal/testnet"
)

// Links are cut again and again while all members write.
func TestCutLinks(t *testing.T) {
	nw := testnet.New(t)
	nodes := []*testnet.Node{nw.Node(), nw.Node(), nw.Node()}
	var stores []*crdt.Store
	for _, n := range nodes {
		stores = append(stores, open(t, n, crdt.WithHistory(8<<10)))
	}
	for round := range 10 {
		for i, s := range stores {
			for n := range 10 {
				put(t, s, fmt.Sprintf("/own/%d/%d/%d", i, round, n), "v")
				put(t, s, fmt.Sprintf("/shared/%d", n), fmt.Sprint(i, round))
			}
		}
		a, b := rand.IntN(3), rand.IntN(3)
		if a != b {
			require.NoError(t, nodes[a].Network().ClosePeer(nodes[b].ID()))
		}
	}
	for _, s := range stores {
		testnet.Eventually(t, func() bool { return len(all(t, s)) == 310 }, "all keys")
	}
	for _, s := range stores[1:] {
		testnet.Eventually(t, func() bool {
			return fmt.Sprint(all(t, s)) == fmt.Sprint(all(t, stores[0]))
		}, "one value for each key")
	}
}

// A disk that refuses a write costs that write; watchers that can't be told
// what is on it list again.
func TestDiskFull(t *testing.T) {
	nw := testnet.New(t)
	disk := &flaky{Datastore: taubyte.MemoryDatastore()}
	a := open(t, nw.NodeOn(disk))
	b := open(t, nw.Node())
	events, err := a.Watch(t.Context(), ds.NewKey("/"), 0)
	require.NoError(t, err)
	put(t, a, "/k", "1")
	require.Equal(t, "1", string(next(t, events).Value))

	disk.fail.Store(failBefore)
	require.ErrorIs(t, a.Put(t.Context(), ds.NewKey("/k"), []byte("2")), errDisk)
	require.Equal(t, "1", get(t, a, "/k"))
	require.True(t, next(t, events).Lost)

	disk.fail.Store(failAfter)
	require.ErrorIs(t, a.Put(t.Context(), ds.NewKey("/k"), []byte("3")), errDisk)
	require.True(t, next(t, events).Lost)

	put(t, a, "/k2", "4")
	testnet.Eventually(t, func() bool { return get(t, b, "/k2") == "4" && get(t, b, "/k") == get(t, a, "/k") }, "the other member")
}

// A block of the log that can't be read any more is worth a line in the log
// and a snapshot, not a member that never gets in sync.
func TestDamagedHistory(t *testing.T) {
	nw := testnet.New(t)
	na := nw.Node()
	a := open(t, na)
	for i := range 20 {
		put(t, a, fmt.Sprintf("/k/%d", i), "v")
	}
	damaged := 0
	for k := range all(t, na.Store) {
		if ds.RawKey("/crdt/test/l").IsAncestorOf(ds.RawKey(k)) && damaged < 5 {
			require.NoError(t, na.Store.Put(t.Context(), ds.RawKey(k), []byte("damage")))
			damaged++
		}
	}
	require.Equal(t, 5, damaged)
	b := open(t, nw.Node())
	require.NoError(t, b.Synced(t.Context()))
	require.Len(t, all(t, b), 20)
}

// A flipped bit in a record is an error that says so, never a wrong value, and
// mended with what another member has.
func TestDamagedRecord(t *testing.T) {
	nw := testnet.New(t)
	n := nw.Node()
	a := open(t, n)
	put(t, a, "/k", "v")
	put(t, a, "/l", "v")
	flip := func(k string) {
		at := ds.RawKey("/crdt/test/s/v" + k)
		raw, err := n.Store.Get(t.Context(), at)
		require.NoError(t, err)
		raw = append([]byte(nil), raw...)
		raw[len(raw)-1] ^= 4
		require.NoError(t, n.Store.Put(t.Context(), at, raw))
	}
	flip("/k")
	_, err := a.Get(t.Context(), ds.NewKey("/k"))
	require.ErrorContains(t, err, "record of /k: damaged")
	require.Error(t, a.Put(t.Context(), ds.NewKey("/k"), []byte("w")), "nobody is there to mend it")
	put(t, a, "/other", "v")

	b := open(t, nw.Node())
	mended := func(k string) func() bool {
		return func() bool {
			v, err := a.Get(t.Context(), ds.NewKey(k))
			return err == nil && string(v) == "v"
		}
	}
	testnet.Eventually(t, mended("/k"), "the record from the other member")
	require.Len(t, all(t, b), 3)
	flip("/l")
	_, err = a.Get(t.Context(), ds.NewKey("/l"))
	require.Error(t, err)
	testnet.Eventually(t, mended("/l"), "the record from the other member")
	put(t, a, "/k", "w")
	st, err := a.Stats(t.Context())
	require.NoError(t, err)
	require.Equal(t, 3, int(st.Keys))
}
