package hoarder_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/internal/testnet"
)

// met waits until the hoarders of a cluster know each other.
func (c *cluster) met() {
	c.t.Helper()
	for _, n := range c.nodes {
		for _, other := range c.nodes {
			if n != other {
				testnet.Eventually(c.t, func() bool {
					known, err := n.Peerstore().SupportsProtocols(other.ID(), hoarder.Protocol)
					return err == nil && len(known) > 0
				}, "they have met")
			}
		}
	}
}

// kill ends a node at once, as far as a process can: nothing is handed over, and its
// connections break.
func (c *cluster) kill(id peer.ID) *testnet.Node {
	c.t.Helper()
	i := slices.IndexFunc(c.nodes, func(n *testnet.Node) bool { return n.ID() == id })
	n := c.nodes[i]
	_ = n.NodeHost.Host.Close()
	require.NoError(c.t, c.at[id].Close())
	require.NoError(c.t, n.Close())
	c.net.Forget(n)
	c.nodes = slices.Delete(c.nodes, i, i+1)
	delete(c.at, id)
	return n
}

// other is the hoarder that is not this one.
func (c *cluster) other(id peer.ID) peer.ID {
	i := slices.IndexFunc(c.nodes, func(n *testnet.Node) bool { return n.ID() != id })
	return c.nodes[i].ID()
}

// inSync waits until all hoarders answer for a store.
func (c *cluster) inSync(i hoarder.Instance) {
	c.t.Helper()
	for _, s := range c.at {
		testnet.Eventually(c.t, func() bool { return hoarder.Active(s, i) }, "in sync")
	}
}

// hang has a node keep its connections and answer no new call of a hoarder.
func hang(t *testing.T, n *testnet.Node) {
	held := make(chan struct{})
	t.Cleanup(func() { close(held) })
	n.SetStreamHandler(hoarder.Protocol, func(s network.Stream) { <-held; _ = s.Reset() })
	n.SetStreamHandlerMatch("/taubyte/crdt/1", func(id protocol.ID) bool { return id == "/taubyte/crdt/1/hoarder" },
		func(s network.Stream) { <-held; _ = s.Reset() })
	for _, p := range n.Network().Peers() {
		_ = n.Network().ClosePeer(p) // streams that are kept would go on
	}
}

// A write that was acknowledged is on two disks, whichever node goes in the next moment.
func TestAcknowledgedIsOnTwoDisks(t *testing.T) {
	c := newCluster(t, 2, hoarder.WithGrace(time.Minute))
	c.met()
	d := database(t, client(t, c.caller), named("notes"), hoarder.DatabaseSpec{})
	copies, err := d.PutCopies(t.Context(), "first", nil)
	require.NoError(t, err)
	require.Equal(t, 2, copies.Wanted)
	testnet.Eventually(t, func() bool {
		copies, err := d.PutCopies(t.Context(), "first", nil)
		return err == nil && copies == hoarder.Copies{Disks: 2, Wanted: 2}
	}, "two disks")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var mu sync.Mutex
	var acked []string
	var last time.Time
	var worst atomic.Int64
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				key, began := fmt.Sprintf("%d/%d", w, i), time.Now()
				if err := d.Put(ctx, key, []byte(key)); err == nil {
					mu.Lock()
					acked, last = append(acked, key), time.Now()
					mu.Unlock()
					worst.Store(max(worst.Load(), int64(time.Since(began))))
				}
			}
		})
	}
	time.Sleep(300 * time.Millisecond)
	gone := served(t, c, d)
	killed := time.Now()
	c.kill(gone)
	mu.Lock()
	before := len(acked)
	mu.Unlock()
	testnet.Eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(acked) > before+50 }, "writes go on")
	stop()
	wg.Wait()
	lost := 0
	for _, key := range acked {
		if v, err := d.Get(t.Context(), key); err != nil || string(v) != key {
			lost++
		}
	}
	t.Logf("%d writes acknowledged, %d of them before a replica was killed; %d lost; the slowest took %s; ended %s after the kill",
		len(acked), before, lost, time.Duration(worst.Load()).Round(time.Millisecond), last.Sub(killed).Round(time.Millisecond))
	require.Zero(t, lost)
	require.Less(t, time.Duration(worst.Load()), 5*time.Second)
	copies, err = d.PutCopies(t.Context(), "alone", nil)
	require.NoError(t, err)
	require.Equal(t, hoarder.Copies{Disks: 1, Wanted: 2}, copies, "the answer says so")
	stores, err := c.at[c.nodes[0].ID()].Stores(t.Context())
	require.NoError(t, err)
	require.True(t, stores[0].Degraded)
}

// The writes that one replica took alone are not there when only the other comes back:
// which says that it can't answer, and not that there is nothing.
func TestReplicaThatWasAwayDoesNotGuess(t *testing.T) {
	c := newCluster(t, 2)
	c.met()
	cl := client(t, c.caller)
	d := database(t, cl, named("x"), hoarder.DatabaseSpec{})
	require.NoError(t, d.Put(t.Context(), "old", []byte("1")))
	c.inSync(named("x"))
	a := served(t, c, d)
	b := c.kill(c.other(a))
	copies, err := d.PutCopies(t.Context(), "new", []byte("1"))
	require.NoError(t, err)
	require.True(t, copies.Degraded())
	gone := c.kill(a)
	back := c.joinOn(b.Store)
	d = database(t, client(t, back), named("x"), hoarder.DatabaseSpec{})
	for _, key := range []string{"old", "new", "never"} {
		_, err := d.Get(t.Context(), key)
		require.ErrorIs(t, err, taubyte.ErrUnavailable, key)
		require.NotErrorIs(t, err, taubyte.ErrNotFound)
	}
	require.ErrorIs(t, d.Put(t.Context(), "k", nil), taubyte.ErrUnavailable)
	t.Run("the other is back", func(t *testing.T) {
		c.t = t
		again := c.joinOn(gone.Store)
		defer c.kill(again.ID())
		began := time.Now()
		testnet.Eventually(t, func() bool { _, err := d.Get(t.Context(), "new"); return err == nil }, "both are there")
		t.Logf("answers %s after the other was back", time.Since(began).Round(time.Millisecond))
		wantNoKey(t, d, "never")
		c.inSync(named("x"))
	})
	c.t = t
	// Both had all: the one that stays goes on alone.
	testnet.Eventually(t, func() bool { _, err := d.Get(t.Context(), "new"); return err == nil }, "goes on")
}

// When a node is said to be lost for good, what waited for it goes on without.
func TestForget(t *testing.T) {
	c := newCluster(t, 2)
	c.met()
	d := database(t, client(t, c.caller), named("x"), hoarder.DatabaseSpec{})
	require.NoError(t, d.Put(t.Context(), "old", []byte("1")))
	c.inSync(named("x"))
	a := served(t, c, d)
	b := c.kill(c.other(a))
	require.NoError(t, d.Put(t.Context(), "new", []byte("1")))
	c.kill(a)
	back := c.joinOn(b.Store)
	at := c.at[back.ID()]
	d = database(t, at, named("x"), hoarder.DatabaseSpec{})
	_, err := d.Get(t.Context(), "old")
	require.ErrorIs(t, err, taubyte.ErrUnavailable)
	require.ErrorIs(t, at.Forget(t.Context(), back.ID()), taubyte.ErrInvalid)
	require.NoError(t, at.Forget(t.Context(), a))
	wantValue(t, d, "old", "1")
	wantNoKey(t, d, "new")
	require.NoError(t, d.Put(t.Context(), "more", nil))
}

// A hoarder that keeps its connections and answers nothing holds up neither the stores
// that it has a replica of nor new ones.
func TestHungReplica(t *testing.T) {
	c := newCluster(t, 3, hoarder.WithGrace(time.Minute))
	c.met()
	cl := client(t, c.caller)
	d := database(t, cl, named("x"), hoarder.DatabaseSpec{})
	s := storage(t, cl, named("x"), hoarder.StorageSpec{})
	require.NoError(t, d.Put(t.Context(), "k", nil))
	put(t, s, "f", noise(1, 300_000), true)
	c.inSync(named("x"))
	i := slices.IndexFunc(c.nodes, func(n *testnet.Node) bool { return n.ID() == served(t, c, d) })
	hang(t, c.nodes[i])
	hung := time.Now()
	var slowest, settled time.Duration
	for i := 0; time.Since(hung) < 4*time.Second; i++ {
		began := time.Now()
		require.NoError(t, d.Put(t.Context(), fmt.Sprint(i), nil))
		took := time.Since(began)
		_, err := d.Get(t.Context(), fmt.Sprint(i))
		require.NoError(t, err)
		slowest = max(slowest, took)
		if began.Sub(hung) > 2*time.Second {
			settled = max(settled, took)
		}
	}
	put(t, s, "f", noise(2, 300_000), true)
	require.Len(t, content(t, s, "f", 0), 300_000)
	began := time.Now()
	n := database(t, client(t, c.nodes[(i+1)%3]), named("new"), hoarder.DatabaseSpec{})
	copies, err := n.PutCopies(t.Context(), "k", nil)
	require.NoError(t, err)
	t.Logf("beside a hung hoarder: the slowest write %s, after two seconds %s; a new store %s, %v",
		slowest.Round(time.Millisecond), settled.Round(time.Millisecond), time.Since(began).Round(time.Millisecond), copies)
	require.Less(t, slowest, 8*time.Second)
	require.Less(t, settled, 2*time.Second)
	require.Less(t, time.Since(began), 10*time.Second)
}

// A node that comes back under its name with an empty disk has nothing, says so, and
// gets everything again, what it had written itself as well.
func TestEmptiedDisk(t *testing.T) {
	for _, wrote := range []bool{false, true} {
		t.Run(fmt.Sprintf("wrote=%v", wrote), func(t *testing.T) {
			c := newCluster(t, 2, hoarder.WithGrace(time.Minute))
			c.met()
			d := database(t, client(t, c.caller), named("x"), hoarder.DatabaseSpec{})
			require.NoError(t, d.Put(t.Context(), "k", []byte("v")))
			c.inSync(named("x"))
			loser := served(t, c, d)
			if !wrote {
				loser = c.other(loser)
			}
			gone := c.kill(loser)
			fresh := taubyte.MemoryDatastore()
			id, err := gone.Store.Get(t.Context(), ds.NewKey("/host/identity"))
			require.NoError(t, err)
			require.NoError(t, fresh.Put(t.Context(), ds.NewKey("/host/identity"), id))
			began := time.Now()
			back := c.joinOn(fresh)
			require.Equal(t, gone.ID(), back.ID())
			testnet.Eventually(t, func() bool {
				v, err := d.Get(t.Context(), "k")
				return err == nil && string(v) == "v"
			}, "read again")
			c.inSync(named("x"))
			t.Logf("full again after %s", time.Since(began).Round(time.Millisecond))
			c.kill(c.other(back.ID()))
			wantValue(t, d, "k", "v")
			require.NoError(t, d.Put(t.Context(), "k", []byte("w")), "numbers go on above those that were lost")
			wantValue(t, d, "k", "w")
		})
	}
}

// How long it takes until a store that is new has its first write on two disks.
func TestFirstWrite(t *testing.T) {
	c := newCluster(t, 2)
	c.met()
	cl := client(t, c.caller)
	var took []time.Duration
	const stores = 40
	degraded := 0
	for i := range stores {
		began := time.Now()
		d := database(t, cl, named(fmt.Sprint(i)), hoarder.DatabaseSpec{})
		copies, err := d.PutCopies(t.Context(), "k", nil)
		took = append(took, time.Since(began))
		require.NoError(t, err)
		if copies.Degraded() {
			degraded++ // a machine that is too busy to renew a lease
		}
	}
	slices.Sort(took)
	t.Logf("a new database with its first write: median %s, 99 of 100 %s; %d of %d on one disk", took[stores/2].Round(time.Millisecond), took[stores*99/100].Round(time.Millisecond), degraded, stores)
	require.Less(t, took[stores*99/100], 5*time.Second)
	require.Less(t, degraded, stores/4)
}
