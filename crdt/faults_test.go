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

// flip flips a bit in the middle of every entry below a key.
func flip(t *testing.T, d taubyte.Datastore, below string) {
	t.Helper()
	flipped := 0
	for k, v := range all(t, d) {
		if k != below && !ds.RawKey(below).IsAncestorOf(ds.RawKey(k)) {
			continue
		}
		raw := []byte(v)
		raw[len(raw)/2] ^= 4
		require.NoError(t, d.Put(t.Context(), ds.RawKey(k), raw))
		flipped++
	}
	require.Positive(t, flipped)
}

// A replica whose bookkeeping is damaged still reads, and gets it from another
// member, which gets what only this one has.
func TestDamagedBookkeeping(t *testing.T) {
	for _, damage := range [][]string{{"/m"}, {"/w"}, {"/m", "/w"}} {
		t.Run(fmt.Sprint(damage), func(t *testing.T) {
			nw := testnet.New(t)
			na, nb := nw.Node(), nw.Node()
			a, err := crdt.Open(t.Context(), na, na.Store, "test", crdt.WithHistory(2<<10))
			require.NoError(t, err)
			b := open(t, nb, crdt.WithHistory(2<<10))
			for i := range 100 {
				put(t, a, fmt.Sprintf("/a/%d", i%10), fmt.Sprint(i))
				put(t, b, fmt.Sprintf("/b/%d", i%10), fmt.Sprint(i))
			}
			put(t, a, "/gone", "v")
			require.NoError(t, b.Synced(t.Context()))
			require.NoError(t, a.Synced(t.Context()))
			require.NoError(t, na.Network().ClosePeer(nb.ID()))
			testnet.Eventually(t, func() bool { return len(a.Peers()) == 0 }, "alone")
			put(t, a, "/own", "a") // nobody else has it
			require.NoError(t, a.Delete(t.Context(), ds.NewKey("/gone")))
			require.NoError(t, a.Close())
			put(t, b, "/meanwhile", "b")
			require.NoError(t, b.Delete(t.Context(), ds.NewKey("/b/0")))
			for _, what := range damage {
				flip(t, na.Store, "/crdt/test/s"+what)
			}

			a = open(t, na, crdt.WithHistory(2<<10))
			require.Equal(t, "a", get(t, a, "/own"))
			testnet.Eventually(t, func() bool {
				err := na.Connect(t.Context(), nb.Info())
				return err == nil && a.Put(t.Context(), ds.NewKey("/new"), []byte("a")) == nil
			}, "writing again")
			want := map[string]string{"/own": "a", "/new": "a", "/meanwhile": "b"}
			for i := range 10 {
				want[fmt.Sprintf("/a/%d", i)] = fmt.Sprint(90 + i)
				if i > 0 {
					want[fmt.Sprintf("/b/%d", i)] = fmt.Sprint(90 + i)
				}
			}
			for _, s := range []*crdt.Store{a, b} {
				testnet.Eventually(t, func() bool { return len(all(t, s)) == len(want) }, "all of it")
				require.Equal(t, want, all(t, s))
			}
			st, err := a.Stats(t.Context())
			require.NoError(t, err)
			require.Equal(t, len(want), int(st.Keys))
			require.NoError(t, a.Close())
			a = open(t, na)
			put(t, a, "/again", "a") // what was mended is on disk
			testnet.Eventually(t, func() bool { return get(t, b, "/again") == "a" }, "the other member")
		})
	}
}

// A replica that is alone with damaged bookkeeping reads, and says why it does not
// write.
func TestDamagedBookkeepingAlone(t *testing.T) {
	nw := testnet.New(t)
	n := nw.Node()
	s, err := crdt.Open(t.Context(), n, n.Store, "test")
	require.NoError(t, err)
	put(t, s, "/k", "v")
	require.NoError(t, s.Close())
	flip(t, n.Store, "/crdt/test/s/m")
	s = open(t, n)
	require.Equal(t, "v", get(t, s, "/k"))
	err = s.Put(t.Context(), ds.NewKey("/k"), nil)
	require.ErrorIs(t, err, taubyte.ErrUnavailable)
	require.ErrorContains(t, err, "damaged")
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
