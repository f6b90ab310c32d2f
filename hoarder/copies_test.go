package hoarder_test

import (
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/internal/testnet"
)

func TestKeepWaitsForTwo(t *testing.T) {
	c := newCluster(t, 2, hoarder.WithInterval(time.Hour)) // nobody pulls by himself
	c.met()
	a, b := c.nodes[0], c.nodes[1]
	root := add(t, a, 1, 700<<10)
	copies, err := c.at[a.ID()].KeepCopies(t.Context(), root, for_("P"))
	require.NoError(t, err)
	require.Equal(t, hoarder.Copies{Disks: 2, Wanted: 2}, copies)
	require.True(t, onDisk(t, a, root) && onDisk(t, b, root))

	c.kill(b.ID())
	testnet.Eventually(t, func() bool { return a.Network().Connectedness(b.ID()) != network.Connected }, "gone")
	one, err := c.at[a.ID()].KeepCopies(t.Context(), add(t, a, 2, 1000), for_("P"))
	require.NoError(t, err)
	require.Equal(t, 1, one.Disks)
}

// emptied is a node that comes back with its identity and nothing else.
func emptied(t *testing.T, c *cluster, gone *testnet.Node) *testnet.Node {
	fresh := taubyte.MemoryDatastore()
	id, err := gone.Store.Get(t.Context(), ds.NewKey("/host/identity"))
	require.NoError(t, err)
	require.NoError(t, fresh.Put(t.Context(), ds.NewKey("/host/identity"), id))
	back := c.joinOn(fresh)
	require.Equal(t, gone.ID(), back.ID())
	return back
}

// A holder whose disk is lost is not counted, and what it had is fetched again.
func TestLostDiskOfContent(t *testing.T) {
	c := newCluster(t, 2)
	c.met()
	a, b := c.nodes[0], c.nodes[1]
	var roots []cid.Cid
	for i := range 8 {
		root := add(t, a, i, 100<<10)
		copies, err := c.at[a.ID()].KeepCopies(t.Context(), root, for_("P"))
		require.NoError(t, err)
		require.Equal(t, 2, copies.Disks)
		roots = append(roots, root)
	}
	back := emptied(t, c, c.kill(b.ID()))
	for _, root := range roots {
		testnet.Eventually(t, func() bool { return onDisk(t, back, root) }, "fetched again")
		require.True(t, onDisk(t, a, root))
	}
}

// The copy that took over is not given up for one that the registry knows of and that is
// on no disk any more.
func TestLastCopyIsNotSurplus(t *testing.T) {
	c := newCluster(t, 2)
	c.met()
	a, b := c.nodes[0], c.nodes[1]
	var roots []cid.Cid
	for i := range 8 {
		root := add(t, b, i, 100<<10)
		require.NoError(t, c.at[b.ID()].Keep(t.Context(), root, hoarder.KeepOptions{Project: "P", Min: 1, Max: 1}))
		roots = append(roots, root)
	}
	for _, root := range roots {
		testnet.Eventually(t, func() bool { _, err := c.at[a.ID()].Item(t.Context(), root); return err == nil }, "known")
	}
	require.NoError(t, c.at[b.ID()].Close()) // its blocks can still be had
	for _, root := range roots {
		testnet.Eventually(t, func() bool { return onDisk(t, a, root) }, "taken over")
	}
	back := emptied(t, c, c.kill(b.ID()))
	testnet.Eventually(t, func() bool {
		for _, root := range roots {
			i, err := c.at[back.ID()].Item(t.Context(), root)
			if err != nil || len(i.Replicas) != 1 {
				return false
			}
		}
		return true
	}, "one replica each")
	for _, root := range roots {
		require.True(t, onDisk(t, a, root) || onDisk(t, back, root))
	}
}

// A Keep that comes after a Release that it has not heard of counts.
func TestKeepAfterRelease(t *testing.T) {
	c := newCluster(t, 2, hoarder.WithGrace(time.Hour))
	c.met()
	a, b := c.nodes[0], c.nodes[1]
	sa, sb := c.at[a.ID()], c.at[b.ID()]
	root := add(t, b, 1, 300<<10)
	one := hoarder.KeepOptions{Project: "P", Min: 1}
	require.NoError(t, sb.Keep(t.Context(), root, one))
	testnet.Eventually(t, func() bool { i, err := sa.Item(t.Context(), root); return err == nil && len(i.Claims) == 1 }, "known")
	mend := testnet.Cut(a, b)
	testnet.Eventually(t, func() bool { return a.Network().Connectedness(b.ID()) != network.Connected }, "cut")
	require.NoError(t, sa.Release(t.Context(), root, "P"))
	require.NoError(t, sb.Keep(t.Context(), root, one))
	mend()
	require.NoError(t, a.Connect(t.Context(), b.Info()))
	testnet.Eventually(t, func() bool { _, err := sa.Item(t.Context(), root); return err == nil }, "heard")
	require.True(t, onDisk(t, b, root))
	_, err := sb.Item(t.Context(), root)
	require.NoError(t, err)
}
