package hoarder_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/internal/testnet"
)

// cluster is some hoarders and a node that has none.
type cluster struct {
	t      *testing.T
	opts   []hoarder.Option
	net    *testnet.Net
	nodes  []*testnet.Node
	at     map[peer.ID]*hoarder.Service
	caller *testnet.Node
}

func newCluster(t *testing.T, n int, opts ...hoarder.Option) *cluster {
	c := &cluster{t: t, opts: append([]hoarder.Option{hoarder.WithReach(time.Second)}, opts...), net: testnet.New(t), at: map[peer.ID]*hoarder.Service{}}
	for range n {
		c.join()
	}
	c.caller = c.net.Node(taubyte.RoleSubstrate)
	return c
}

// join adds a hoarder.
func (c *cluster) join() *testnet.Node { return c.joinOn(taubyte.MemoryDatastore()) }

func (c *cluster) joinOn(store taubyte.Datastore) *testnet.Node {
	n := c.net.NodeOn(store, taubyte.RoleHoarder)
	c.nodes = append(c.nodes, n)
	c.at[n.ID()] = start(c.t, n, c.opts...)
	return n
}

// stop ends a hoarder and its node.
func (c *cluster) stop(id peer.ID) {
	require.NoError(c.t, c.at[id].Close())
	i := slices.IndexFunc(c.nodes, func(n *testnet.Node) bool { return n.ID() == id })
	require.NoError(c.t, c.nodes[i].Close())
	c.net.Forget(c.nodes[i])
	c.nodes = slices.Delete(c.nodes, i, i+1)
	delete(c.at, id)
}

// hosts are the nodes on whose disk a store is.
func (c *cluster) hosts() (ids []peer.ID) {
	for _, n := range c.nodes {
		if hasKeys(c.t, n, "/crdt/store-") {
			ids = append(ids, n.ID())
		}
	}
	return ids
}

// ready are the nodes that have said that they have all of the store.
func (c *cluster) ready(i hoarder.Instance) (ids []peer.ID) {
	stores, err := c.at[c.nodes[0].ID()].Stores(c.t.Context())
	require.NoError(c.t, err)
	for _, s := range stores {
		if s.Instance == i {
			for _, r := range s.Replicas {
				if r.Live {
					ids = append(ids, r.Peer)
				}
			}
		}
	}
	return ids
}

func (c *cluster) wantReady(i hoarder.Instance, n int) []peer.ID {
	c.t.Helper()
	var ids []peer.ID
	testnet.Eventually(c.t, func() bool { ids = c.ready(i); return len(ids) == n }, "%d replicas", n)
	return ids
}

func TestReplicasFailOver(t *testing.T) {
	c := newCluster(t, 3)
	cl := client(t, c.caller)
	d := database(t, cl, named("notes"), hoarder.DatabaseSpec{})
	s := storage(t, cl, named("files"), hoarder.StorageSpec{})
	c.wantReady(named("notes"), 3)
	big := noise(11, 900_000)
	for round := range 2 {
		for i := range 20 {
			key := fmt.Sprintf("k%d", i)
			require.NoError(t, d.Put(t.Context(), key, fmt.Appendf(nil, "%d-%d", round, i)))
			wantValue(t, d, key, fmt.Sprintf("%d-%d", round, i))
		}
		put(t, s, "f", append(big, byte(round)), true)
		require.Len(t, content(t, s, "f", 0), len(big)+1)
		testnet.Eventually(t, func() bool { return len(c.ready(named("files"))) == 3-round }, "storage's replicas")
		// The one that served is the one that goes.
		c.stop(served(t, c, d))
		for i := range 20 {
			wantValue(t, d, fmt.Sprintf("k%d", i), fmt.Sprintf("%d-%d", round, i))
		}
		require.NoError(t, d.Put(t.Context(), "k0", []byte("after")))
		wantValue(t, d, "k0", "after")
		require.True(t, bytes.Equal(append(big, byte(round)), content(t, s, "f", 0)))
	}
}

// served is the node whose replica has the client's next call.
func served(t *testing.T, c *cluster, d *hoarder.Database) peer.ID {
	t.Helper()
	id := hoarder.Nearest(d)
	require.Contains(t, c.at, id)
	return id
}

func TestEveryReplicaTakesWrites(t *testing.T) {
	c := newCluster(t, 3)
	var ds []*hoarder.Database
	for _, n := range c.nodes {
		d := database(t, c.at[n.ID()], named("x"), hoarder.DatabaseSpec{Size: 1 << 20})
		require.NoError(t, d.Put(t.Context(), n.ID().String(), make([]byte, 48)))
		ds = append(ds, d)
	}
	c.wantReady(named("x"), 3)
	for _, d := range ds {
		testnet.Eventually(t, func() bool {
			keys, err := d.List(t.Context(), "")
			require.NoError(t, err)
			used, err := d.Used(t.Context())
			require.NoError(t, err)
			return len(keys) == 3 && used == 300
		}, "all writes everywhere, and counted")
	}
}

func TestTakeover(t *testing.T) {
	c := newCluster(t, 2)
	cl := client(t, c.caller)
	spec := hoarder.DatabaseSpec{Min: 2, Max: 2}
	d := database(t, cl, named("notes"), spec)
	for i := range 50 {
		require.NoError(t, d.Put(t.Context(), fmt.Sprintf("k%d", i), noise(i, 1000)))
	}
	s := storage(t, cl, named("files"), hoarder.StorageSpec{Min: 2, Max: 2})
	put(t, s, "f", noise(4, 600_000), false)
	c.wantReady(named("notes"), 2)
	c.wantReady(named("files"), 2)
	fresh := c.join()
	gone := c.nodes[0].ID()
	if gone == served(t, c, d) {
		gone = c.nodes[1].ID()
	}
	c.stop(gone)
	testnet.Eventually(t, func() bool {
		return slices.Contains(c.ready(named("notes")), fresh.ID()) && slices.Contains(c.ready(named("files")), fresh.ID())
	}, "taken over")
	// The fresh one alone has all of it.
	for _, n := range slices.Clone(c.nodes) {
		if n != fresh {
			c.stop(n.ID())
		}
	}
	for i := range 50 {
		v, err := d.Get(t.Context(), fmt.Sprintf("k%d", i))
		require.NoError(t, err)
		require.Equal(t, noise(i, 1000), v)
	}
	require.Equal(t, noise(4, 600_000), content(t, s, "f", 0))
}

// A replica that was away while others were written to serves nothing old.
func TestAwayAndBack(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.nodes[0], c.nodes[1]
	d := database(t, c.at[a.ID()], named("x"), hoarder.DatabaseSpec{})
	s := storage(t, c.at[a.ID()], named("x"), hoarder.StorageSpec{})
	require.NoError(t, d.Put(t.Context(), "k", []byte("old")))
	put(t, s, "f", []byte("old"), false)
	testnet.Eventually(t, func() bool { return len(c.ready(named("x"))) == 4 }, "of both, two replicas")
	c.stop(b.ID())
	require.NoError(t, d.Put(t.Context(), "k", []byte("new")))
	put(t, s, "f", []byte("new"), true)

	back := c.joinOn(b.Store)
	require.Equal(t, b.ID(), back.ID())
	at := c.at[back.ID()]
	testnet.Eventually(t, func() bool { return back.Network().Connectedness(a.ID()) == network.Connected }, "connected")
	testnet.Eventually(t, func() bool {
		known, err := back.Peerstore().SupportsProtocols(a.ID(), hoarder.Protocol)
		return err == nil && len(known) > 0
	}, "seen")
	wantValue(t, database(t, at, named("x"), hoarder.DatabaseSpec{}), "k", "new")
	require.Equal(t, "new", string(content(t, storage(t, at, named("x"), hoarder.StorageSpec{}), "f", 0)))

	// And what was written while it was away reaches it without anybody asking.
	c.stop(back.ID())
	require.NoError(t, d.Put(t.Context(), "k", []byte("newer")))
	put(t, s, "f", []byte("newer"), true)
	back = c.joinOn(b.Store)
	at = c.at[back.ID()]
	testnet.Eventually(t, func() bool { return hoarder.Active(at, named("x")) && !hasDirty(t, a) }, "handed over")
	c.stop(a.ID())
	wantValue(t, database(t, at, named("x"), hoarder.DatabaseSpec{}), "k", "newer")
	require.Equal(t, "newer", string(content(t, storage(t, at, named("x"), hoarder.StorageSpec{}), "f", 0)))
}

// hasDirty reports whether the node has writes that others may not have.
func hasDirty(t *testing.T, n *testnet.Node) bool {
	t.Helper()
	res, err := n.Store.Query(t.Context(), query.Query{Prefix: "/hoarder/hosted"})
	require.NoError(t, err)
	all, err := res.Rest()
	require.NoError(t, err)
	return slices.ContainsFunc(all, func(e query.Entry) bool { return bytes.Contains(e.Value, []byte(`"dirty":true`)) })
}

// A replica that misses a write of the caller does not answer it with what was before.
func TestOldAnswersAreNone(t *testing.T) {
	c := newCluster(t, 2, hoarder.WithGrace(time.Hour)) // nobody is given up
	a, b := c.nodes[0], c.nodes[1]
	d := database(t, client(t, c.caller), named("x"), hoarder.DatabaseSpec{})
	require.NoError(t, d.Put(t.Context(), "k", []byte("old")))
	c.wantReady(named("x"), 2)
	mend := testnet.Cut(a, b)
	testnet.Eventually(t, func() bool {
		hoarder.Prefer(d, a.ID())
		return d.Put(t.Context(), "k", []byte("new")) == nil
	}, "a goes on without b")
	testnet.Eventually(t, func() bool {
		hoarder.Prefer(d, b.ID())
		v, err := d.Get(t.Context(), "k") // perhaps by the way back to the other
		require.False(t, err == nil && string(v) != "new", "b answers %q", v)
		require.NotErrorIs(t, err, taubyte.ErrNotFound)
		return err == nil
	}, "what was written")
	mend()
	testnet.Eventually(t, func() bool {
		hoarder.Prefer(d, b.ID())
		copies, err := d.PutCopies(t.Context(), "k", []byte("newest"))
		return err == nil && copies == hoarder.Copies{Disks: 2, Wanted: 2}
	}, "they meet again")
	testnet.Eventually(t, func() bool {
		v, err := d.Get(t.Context(), "k")
		require.False(t, err == nil && string(v) != "newest", "answered %q", v)
		return err == nil
	}, "what was written after the cut")

	hoarder.Saw(d, a.ID(), 1<<60) // what nobody has
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	v, err := d.Get(ctx, "k")
	require.Error(t, err, "and not %q", v)
	require.NotErrorIs(t, err, taubyte.ErrNotFound)
}

// Once a replica is given up, so is what only it had.
func TestWhatALostReplicaHad(t *testing.T) {
	c := newCluster(t, 2, hoarder.WithGrace(time.Second))
	a := c.nodes[0]
	d := database(t, client(t, c.caller), named("x"), hoarder.DatabaseSpec{})
	testnet.Eventually(t, func() bool {
		copies, err := d.PutCopies(t.Context(), "k", []byte("v"))
		return err == nil && copies == hoarder.Copies{Disks: 2, Wanted: 2}
	}, "two disks")
	hoarder.Saw(d, a.ID(), 1<<60)
	c.stop(a.ID())
	testnet.Eventually(t, func() bool {
		v, err := d.Get(t.Context(), "k")
		return err == nil && string(v) == "v"
	}, "without it")
}

// Replicas that were cut apart for longer than the grace, each of which went on alone, are
// one again after the cut.
func TestReplicasMeetAgain(t *testing.T) {
	c := newCluster(t, 2, hoarder.WithGrace(time.Second))
	c.met()
	a, b := c.nodes[0], c.nodes[1]
	da := database(t, c.at[a.ID()], named("x"), hoarder.DatabaseSpec{})
	require.NoError(t, da.Put(t.Context(), "of both", []byte("1")))
	db := database(t, c.at[b.ID()], named("x"), hoarder.DatabaseSpec{})
	c.inSync(named("x"))
	mend := testnet.Cut(a, b)
	for _, d := range []*hoarder.Database{da, db} {
		testnet.Eventually(t, func() bool {
			_, err := d.Get(t.Context(), "of neither")
			return errors.Is(err, taubyte.ErrNotFound)
		}, "it has given the other up")
	}
	require.NoError(t, da.Put(t.Context(), "of a", []byte("1")))
	require.NoError(t, db.Put(t.Context(), "of b", []byte("1")))
	mend()
	began := time.Now()
	for _, d := range []*hoarder.Database{da, db} {
		testnet.Eventually(t, func() bool {
			copies, err := d.PutCopies(t.Context(), "after", []byte("1"))
			return err == nil && copies == hoarder.Copies{Disks: 2, Wanted: 2}
		}, "on two disks")
		testnet.Eventually(t, func() bool {
			keys, err := d.List(t.Context(), "")
			return err == nil && len(keys) == 4
		}, "all that was written")
	}
	t.Logf("one again %s after the cut", time.Since(began).Round(time.Millisecond))
}

func TestBalanceWhenNodesJoin(t *testing.T) {
	c := newCluster(t, 1)
	first := c.nodes[0].ID()
	cl := client(t, c.caller)
	var ds []*hoarder.Database
	const stores = 12
	for i := range stores {
		d := database(t, cl, named(fmt.Sprint(i)), hoarder.DatabaseSpec{Max: 1})
		require.NoError(t, d.Put(t.Context(), "k", fmt.Append(nil, i)))
		ds = append(ds, d)
	}
	fresh := c.join()
	moved := func() (n int) {
		for i := range stores {
			if ids := c.ready(named(fmt.Sprint(i))); len(ids) == 1 && ids[0] == fresh.ID() {
				n++
			}
		}
		return n
	}
	testnet.Eventually(t, func() bool { return moved() > 0 }, "some move")
	testnet.Eventually(t, func() bool {
		for i := range stores {
			if len(c.ready(named(fmt.Sprint(i)))) != 1 {
				return false
			}
		}
		return true
	}, "each has one replica")
	require.Less(t, moved(), stores, "not all: %v", first)
	for i, d := range ds {
		wantValue(t, d, "k", fmt.Sprint(i))
		require.NoError(t, d.Put(t.Context(), "l", nil))
		wantValue(t, d, "l", "")
	}
}

// reads reports whether a version of a file can be read and is what is wanted.
func reads(t *testing.T, s *hoarder.Storage, name string, version uint32, want string) bool {
	r, _, err := s.Open(t.Context(), name, version)
	if err != nil {
		return false
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return err == nil && string(b) == want
}

// Both sides of a cut add a version of one file.
func TestConcurrentAdditions(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.at[c.nodes[0].ID()], c.at[c.nodes[1].ID()]
	sa := storage(t, a, named("v"), hoarder.StorageSpec{Versioning: true})
	put(t, sa, "f", []byte("first"), false)
	sb := storage(t, b, named("v"), hoarder.StorageSpec{Versioning: true})
	pa, pb := storage(t, a, named("p"), hoarder.StorageSpec{}), storage(t, b, named("p"), hoarder.StorageSpec{})
	put(t, pa, "f", []byte("first"), false)
	c.wantReady(named("v"), 2)
	c.wantReady(named("p"), 2)
	mend := testnet.Cut(c.nodes[0], c.nodes[1])
	put(t, sa, "f", []byte("of a"), false)
	put(t, pa, "f", []byte("of a"), true)
	time.Sleep(2 * time.Millisecond) // the clock tells which is later
	put(t, sb, "f", []byte("of b"), false)
	put(t, pb, "f", []byte("of b"), true)
	mend()
	for _, s := range []*hoarder.Storage{sa, sb} {
		testnet.Eventually(t, func() bool {
			vs, err := s.Versions(t.Context(), "f")
			return err == nil && len(vs) == 3
		}, "both")
		for i, want := range []string{"first", "of a", "of b"} {
			// Until the two have taken each other in again the other one may be asked.
			testnet.Eventually(t, func() bool { return reads(t, s, "f", uint32(i+1), want) }, "version %d", i+1)
		}
	}
	require.EqualValues(t, 4, put(t, sb, "f", nil, false).Version)
	for _, s := range []*hoarder.Storage{pa, pb} {
		testnet.Eventually(t, func() bool { return reads(t, s, "f", 0, "of b") }, "the later one")
		testnet.Eventually(t, func() bool { // as long as one is silent for the other, neither lists
			vs, err := s.Versions(t.Context(), "f")
			return err == nil && len(vs) == 1
		}, "one version")
	}
	put(t, pa, "f", []byte("next"), true)
	for _, s := range []*hoarder.Storage{pa, pb} {
		testnet.Eventually(t, func() bool {
			used, err := s.Used(t.Context())
			return err == nil && used == 4
		}, "what was lost is not counted")
	}
}

func TestStoresRestart(t *testing.T) {
	dir := t.TempDir()
	net := testnet.New(t)
	var used int64
	for life := range 3 {
		func() {
			store, err := taubyte.OpenDatastore(dir)
			require.NoError(t, err)
			defer func() { require.NoError(t, store.Close()) }()
			n := net.NodeOn(store)
			defer func() { require.NoError(t, n.Close()); net.Forget(n) }()
			h, err := hoarder.New(t.Context(), n, store, hoarder.WithLogger(testnet.Logger(t)), hoarder.WithOpenStores(2))
			require.NoError(t, err)
			defer func() { require.NoError(t, h.Close()) }()
			for i := range 6 { // more than are open at a time
				d := database(t, h, named(fmt.Sprint(i)), hoarder.DatabaseSpec{Size: 1000})
				if life > 0 {
					wantValue(t, d, "k", fmt.Sprint(life-1, i))
					n, err := d.Used(t.Context())
					require.NoError(t, err)
					require.Equal(t, used, n, "counted as before")
				}
				require.NoError(t, d.Put(t.Context(), "k", fmt.Append(nil, life, i)))
				require.ErrorIs(t, d.Put(t.Context(), "l", make([]byte, 996)), hoarder.ErrFull)
				used, err = d.Used(t.Context())
				require.NoError(t, err)
			}
			s := storage(t, h, named("f"), hoarder.StorageSpec{Versioning: true})
			put(t, s, "f", noise(life, 300_000), false)
			for v := range life + 1 {
				require.Equal(t, noise(v, 300_000), content(t, s, "f", uint32(v+1)))
			}
		}()
	}
}

func TestWhoMayCall(t *testing.T) {
	net := testnet.New(t)
	n, gateway := net.Node(taubyte.RoleHoarder), net.Node(taubyte.RoleGateway, taubyte.RoleMonkey)
	start(t, n)
	c := client(t, gateway)
	_, err := c.Database(t.Context(), named("x"), hoarder.DatabaseSpec{})
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	require.ErrorIs(t, c.Drop(t.Context(), named("x")), taubyte.ErrForbidden)
	_, err = c.Storage(t.Context(), named("x"), hoarder.StorageSpec{})
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	require.False(t, errors.Is(err, taubyte.ErrNotFound))
}

func TestReplicasAreAway(t *testing.T) {
	c := newCluster(t, 2)
	cl := client(t, c.caller)
	d := database(t, cl, named("x"), hoarder.DatabaseSpec{Max: 1})
	require.NoError(t, d.Put(t.Context(), "k", nil))
	c.stop(served(t, c, d))
	// Who has no data does not make do without.
	_, err := d.Get(t.Context(), "k")
	require.ErrorIs(t, err, taubyte.ErrUnavailable)
	require.NotErrorIs(t, err, taubyte.ErrNotFound)
	_, err = client(t, c.caller).Database(t.Context(), named("x"), hoarder.DatabaseSpec{Max: 1})
	require.ErrorIs(t, err, taubyte.ErrUnavailable)
	require.Empty(t, c.hosts())
}

// Where a new store is, is known to two when it can be used: were the one to go, the
// others would make an empty one.
func TestWhereAStoreIsIsKnown(t *testing.T) {
	c := newCluster(t, 2)
	for i, n := range c.nodes {
		testnet.Eventually(t, func() bool {
			known, err := n.Peerstore().SupportsProtocols(c.nodes[1-i].ID(), hoarder.Protocol)
			return err == nil && len(known) > 0
		}, "they have met")
	}
	for i := range 20 {
		at := c.at[c.nodes[i%2].ID()]
		database(t, at, named(fmt.Sprint(i)), hoarder.DatabaseSpec{Max: 1})
		for _, s := range c.at {
			hosts, err := hoarder.Hosts(t.Context(), s, named(fmt.Sprint(i)))
			require.NoError(t, err)
			require.Len(t, hosts, 1)
		}
	}
}

// A hoarder without a replica passes on what its own node asks for.
func TestThroughAnotherHoarder(t *testing.T) {
	c := newCluster(t, 2)
	d := database(t, c.at[c.nodes[0].ID()], named("x"), hoarder.DatabaseSpec{Max: 1})
	require.NoError(t, d.Put(t.Context(), "k", []byte("v")))
	s := storage(t, c.at[c.nodes[0].ID()], named("x"), hoarder.StorageSpec{Max: 1})
	put(t, s, "f", noise(2, 500_000), false)
	for _, n := range c.nodes {
		o := client(t, n)
		wantValue(t, database(t, o, named("x"), hoarder.DatabaseSpec{Max: 1}), "k", "v")
		s := storage(t, o, named("x"), hoarder.StorageSpec{Max: 1})
		r, f, err := s.Open(t.Context(), "f", 0)
		require.NoError(t, err)
		for _, at := range []int64{400_000, 0, f.Size - 1, 262_144} {
			_, err := r.Seek(at, io.SeekStart)
			require.NoError(t, err)
			b, err := io.ReadAll(r)
			require.NoError(t, err)
			require.True(t, bytes.Equal(noise(2, 500_000)[at:], b), "from %d", at)
		}
		require.NoError(t, r.Close())
		put(t, s, "g", []byte("by "+n.ID().String()), true)
		require.Equal(t, "by "+n.ID().String(), string(content(t, s, "g", 0)))
	}
}

func TestDropEverywhere(t *testing.T) {
	c := newCluster(t, 3)
	cl := client(t, c.caller)
	d := database(t, cl, named("x"), hoarder.DatabaseSpec{})
	s := storage(t, cl, named("x"), hoarder.StorageSpec{})
	require.NoError(t, d.Put(t.Context(), "k", nil))
	put(t, s, "f", noise(1, 500_000), false)
	testnet.Eventually(t, func() bool { return len(c.ready(named("x"))) == 6 }, "of both, three replicas")
	for _, n := range c.nodes {
		testnet.Eventually(t, func() bool { return blockCount(t, n) > 0 }, "the file is everywhere")
	}
	require.NoError(t, c.at[c.nodes[0].ID()].Drop(t.Context(), named("x")))
	testnet.Eventually(t, func() bool { return len(c.hosts()) == 0 }, "gone everywhere")
	for _, n := range c.nodes {
		testnet.Eventually(t, func() bool { return blockCount(t, n) == 0 }, "and its blocks")
	}
	wantNoKey(t, d, "k")
	require.NoError(t, d.Put(t.Context(), "k", []byte("again")))
	wantValue(t, d, "k", "again")
	list, err := s.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, list)
}
