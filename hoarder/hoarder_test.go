package hoarder_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ipfs/boxo/blockservice"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/internal/unixfs"
)

func noise(seed, n int) []byte {
	b := make([]byte, n)
	rand.New(rand.NewSource(int64(seed))).Read(b)
	return b
}

func add(t *testing.T, n *testnet.Node, seed, size int) cid.Cid {
	t.Helper()
	root, err := unixfs.AddFile(t.Context(), n.Blocks(), bytes.NewReader(noise(seed, size)))
	require.NoError(t, err)
	return root
}

func start(t *testing.T, n *testnet.Node, opts ...hoarder.Option) *hoarder.Service {
	t.Helper()
	opts = append([]hoarder.Option{
		hoarder.WithLogger(testnet.Logger(t)), hoarder.WithInterval(100 * time.Millisecond), hoarder.WithGrace(200 * time.Millisecond),
		hoarder.WithGrants(hoarder.GrantAll()),
	}, opts...)
	s, err := hoarder.New(t.Context(), n, n.Store, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func for_(project string) hoarder.KeepOptions {
	return hoarder.KeepOptions{Project: taubyte.ProjectID(project), Class: "test"}
}

// onDisk reports whether the whole DAG is on the node.
func onDisk(t *testing.T, n *testnet.Node, root cid.Cid) bool {
	t.Helper()
	_, err := unixfs.Fetch(t.Context(), blockservice.New(n.Blocks().Blockstore(), nil), root)
	return err == nil
}

// anyOnDisk reports whether any of the DAG's blocks is there, going by the blocks of
// another node that has all.
func anyOnDisk(t *testing.T, n, whole *testnet.Node, root cid.Cid) bool {
	t.Helper()
	found := false
	require.NoError(t, unixfs.Walk(t.Context(), whole.Blocks(), root, func(c cid.Cid, _ int) error {
		has, err := n.Blocks().Blockstore().Has(t.Context(), c)
		found = found || has
		return err
	}))
	return found
}

func live(i hoarder.Item) (peers []peer.ID) {
	for _, r := range i.Replicas {
		if r.Live {
			peers = append(peers, r.Peer)
		}
	}
	return peers
}

func TestKeepFromAnotherNode(t *testing.T) {
	net := testnet.New(t)
	builder, keeper := net.Node(taubyte.RoleMonkey), net.Node(taubyte.RoleHoarder)
	start(t, keeper)
	c := hoarder.NewClient(builder)
	defer c.Close()
	root := add(t, builder, 1, 1<<20)

	require.NoError(t, c.Keep(t.Context(), root, for_("P1")))
	require.True(t, onDisk(t, keeper, root), "on disk when Keep returns")
	require.NoError(t, c.Keep(t.Context(), root, for_("P2")))
	require.NoError(t, c.Keep(t.Context(), root, for_("P2")))

	item, err := c.Item(t.Context(), root)
	require.NoError(t, err)
	require.Len(t, item.Claims, 2)
	require.Equal(t, []peer.ID{keeper.ID()}, live(item))
	require.GreaterOrEqual(t, item.Size, int64(1<<20))
	items, err := c.Items(t.Context())
	require.NoError(t, err)
	require.Len(t, items, 1)

	// One claim less is still a claim.
	require.NoError(t, c.Release(t.Context(), root, "P1"))
	require.True(t, onDisk(t, keeper, root))
	require.NoError(t, c.Release(t.Context(), root, "P2"))
	testnet.Eventually(t, func() bool { return !anyOnDisk(t, keeper, builder, root) }, "freed")
	testnet.Eventually(t, func() bool { _, err := c.Item(t.Context(), root); return err != nil }, "forgotten")
	_, err = c.Item(t.Context(), root)
	require.ErrorIs(t, err, taubyte.ErrNotFound)
	require.NoError(t, c.Release(t.Context(), root, "P2"), "twice does nothing")
}

func TestBadRequests(t *testing.T) {
	net := testnet.New(t)
	keeper, substrate := net.Node(), net.Node(taubyte.RoleSubstrate)
	s := start(t, keeper)
	root := add(t, keeper, 1, 100)
	for _, o := range []hoarder.KeepOptions{{}, for_("../x"), for_("a/b"), {Project: "P", Min: 3, Max: 2}, {Project: "P", Min: -1}, {Project: "P", Min: 1 << 30}} {
		require.ErrorIs(t, s.Keep(t.Context(), root, o), taubyte.ErrInvalid, "%+v", o)
	}
	require.ErrorIs(t, s.Keep(t.Context(), cid.Undef, for_("P")), taubyte.ErrInvalid)
	require.ErrorIs(t, s.Release(t.Context(), root, "a/b"), taubyte.ErrInvalid)

	c := hoarder.NewClient(substrate)
	defer c.Close()
	require.ErrorIs(t, c.Keep(t.Context(), root, for_("P")), taubyte.ErrForbidden, "runs strangers' code")
	require.ErrorIs(t, c.Release(t.Context(), root, "P"), taubyte.ErrForbidden)
	_, err := c.Items(t.Context())
	require.ErrorIs(t, err, taubyte.ErrForbidden)

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err = s.Keep(ctx, blocks.NewBlock([]byte("nobody has it")).Cid(), for_("P"))
	require.ErrorIs(t, err, taubyte.ErrUnavailable)
	items, err := s.Items(t.Context())
	require.NoError(t, err)
	require.Empty(t, items, "what did not arrive is not kept")
}

func TestReplicas(t *testing.T) {
	net := testnet.New(t)
	var nodes []*testnet.Node
	var services []*hoarder.Service
	for range 4 {
		n := net.Node(taubyte.RoleHoarder)
		nodes = append(nodes, n)
		services = append(services, start(t, n))
	}
	root := add(t, nodes[0], 7, 600<<10)
	require.NoError(t, services[0].Keep(t.Context(), root, hoarder.KeepOptions{Project: "P", Min: 2, Max: 3}))
	holders := func(of int) []peer.ID {
		i, err := services[of].Item(t.Context(), root)
		if err != nil {
			return nil
		}
		return live(i)
	}
	testnet.Eventually(t, func() bool { return len(holders(0)) >= 2 && len(holders(3)) >= 2 }, "a second replica")

	// A holder goes away for good: another takes its place.
	lost := -1
	for i, n := range nodes[1:] {
		if slices.Contains(holders(0), n.ID()) {
			lost = i + 1
		}
	}
	require.Positive(t, lost)
	require.True(t, onDisk(t, nodes[lost], root))
	require.NoError(t, services[lost].Close())
	require.NoError(t, nodes[lost].Close())
	testnet.Eventually(t, func() bool {
		got := holders(0)
		return len(got) >= 2 && !slices.Contains(got, nodes[lost].ID())
	}, "repaired")
}

func TestSurplusIsFreed(t *testing.T) {
	net := testnet.New(t)
	var nodes []*testnet.Node
	var services []*hoarder.Service
	for range 3 {
		n := net.Node(taubyte.RoleHoarder)
		nodes = append(nodes, n)
		services = append(services, start(t, n))
	}
	root := add(t, nodes[0], 9, 300<<10)
	for _, s := range services {
		require.NoError(t, s.Keep(t.Context(), root, hoarder.KeepOptions{Project: "P", Min: 1, Max: 1}))
	}
	testnet.Eventually(t, func() bool {
		for _, s := range services {
			if i, err := s.Item(t.Context(), root); err != nil || len(i.Replicas) != 1 {
				return false
			}
		}
		return true
	}, "one replica is left")
	left := func() (n int) {
		for _, node := range nodes {
			if onDisk(t, node, root) {
				n++
			}
		}
		return n
	}
	testnet.Eventually(t, func() bool { return left() == 1 }, "the others' blocks are gone") // after their word
}

func TestCapacity(t *testing.T) {
	net := testnet.New(t)
	builder := net.Node(taubyte.RoleMonkey)
	small, large := net.Node(taubyte.RoleHoarder), net.Node(taubyte.RoleHoarder)
	s := start(t, small, hoarder.WithCapacity(1<<20))
	a, b := add(t, builder, 1, 700<<10), add(t, builder, 2, 700<<10)
	require.NoError(t, s.Keep(t.Context(), a, for_("P")))
	err := s.Keep(t.Context(), b, for_("P"))
	require.ErrorIs(t, err, taubyte.ErrUnavailable)
	require.ErrorContains(t, err, "full")
	testnet.Eventually(t, func() bool { return !anyOnDisk(t, small, builder, b) }, "nothing of it stays")
	require.True(t, onDisk(t, small, a))

	// The client finds the one with room.
	start(t, large)
	c := hoarder.NewClient(builder)
	defer c.Close()
	testnet.Eventually(t, func() bool { return c.Keep(t.Context(), b, for_("P")) == nil }, "kept by the other")
	require.True(t, onDisk(t, large, b))

	// Freed room is room.
	require.NoError(t, s.Release(t.Context(), a, "P"))
	testnet.Eventually(t, func() bool { return s.Keep(t.Context(), b, for_("P2")) == nil }, "room again")
}

func TestSharedBlocksStay(t *testing.T) {
	net := testnet.New(t)
	n := net.Node()
	s := start(t, n)
	shared := noise(3, 600<<10)
	tree := func(extra string) cid.Cid {
		root, err := unixfs.AddFS(t.Context(), n.Blocks(), fstest.MapFS{"shared": {Data: shared}, extra: {Data: noise(len(extra), 300<<10)}})
		require.NoError(t, err)
		return root
	}
	a, b, c := tree("a"), tree("bb"), tree("ccc")
	for _, r := range []cid.Cid{a, b, c} {
		require.NoError(t, s.Keep(t.Context(), r, for_("P")))
	}
	require.NoError(t, s.Release(t.Context(), a, "P"))
	require.NoError(t, s.Release(t.Context(), b, "P"))
	testnet.Eventually(t, func() bool { return !onDisk(t, n, a) && !onDisk(t, n, b) }, "freed")
	require.True(t, onDisk(t, n, c), "its blocks were shared")

	// Blocks that nobody asked hoarder to keep are not its to delete.
	other := add(t, n, 11, 600<<10)
	require.NoError(t, s.Release(t.Context(), c, "P"))
	testnet.Eventually(t, func() bool { return !onDisk(t, n, c) }, "freed")
	require.True(t, onDisk(t, n, other))
}

// A build adds content that shares blocks with what is released at that moment.
func TestHold(t *testing.T) {
	net := testnet.New(t)
	n := net.Node()
	s := start(t, n)
	c := hoarder.NewClient(n)
	defer c.Close()
	for i := range 10 {
		root := add(t, n, i, 700<<10)
		require.NoError(t, s.Keep(t.Context(), root, for_("P")))
		require.NoError(t, s.Release(t.Context(), root, "P"))
		release, err := c.Hold(t.Context())
		require.NoError(t, err)
		again := add(t, n, i, 700<<10)
		require.NoError(t, c.Keep(t.Context(), again, for_("P")))
		release()
		release()
		require.True(t, onDisk(t, n, again))
	}
	for i := range 10 {
		require.True(t, onDisk(t, n, add(t, n, i, 700<<10)))
	}
}

func TestKeepAndReleaseAtOnce(t *testing.T) {
	net := testnet.New(t)
	a, b := net.Node(taubyte.RoleMonkey), net.Node(taubyte.RoleHoarder)
	s := start(t, b)
	root := add(t, a, 5, 700<<10)
	for i := range 10 {
		done := make(chan error, 1)
		go func() { done <- s.Release(t.Context(), root, "P1") }()
		require.NoError(t, s.Keep(t.Context(), root, for_(fmt.Sprint("Q", i))))
		require.NoError(t, <-done)
		require.True(t, onDisk(t, b, root), "wanted, so here")
		require.NoError(t, s.Keep(t.Context(), root, for_("P1")))
		require.NoError(t, s.Release(t.Context(), root, taubyte.ProjectID(fmt.Sprint("Q", i))))
	}
}

func TestRestart(t *testing.T) {
	net := testnet.New(t)
	store := taubyte.MemoryDatastore()
	builder, keeper := net.Node(taubyte.RoleMonkey), net.NodeOn(store, taubyte.RoleHoarder)
	s := start(t, keeper)
	kept, released, half := add(t, builder, 1, 600<<10), add(t, builder, 2, 600<<10), add(t, builder, 3, 4<<20)
	require.NoError(t, s.Keep(t.Context(), kept, for_("P")))
	require.NoError(t, s.Keep(t.Context(), released, for_("P")))

	// Stopped while it fetches: a block is gone from the only node that has it.
	var leaf cid.Cid
	require.NoError(t, unixfs.Walk(t.Context(), builder.Blocks(), half, func(c cid.Cid, _ int) error {
		if c.Type() == cid.Raw {
			leaf = c
		}
		return nil
	}))
	block, err := builder.Blocks().GetBlock(t.Context(), leaf)
	require.NoError(t, err)
	require.NoError(t, builder.Blocks().DeleteBlock(t.Context(), leaf))
	failed := make(chan error, 1)
	go func() { failed <- s.Keep(t.Context(), half, for_("P")) }()
	testnet.Eventually(t, func() bool {
		has, err := keeper.Blocks().Blockstore().Has(t.Context(), half)
		return err == nil && has
	}, "begun")
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	require.Error(t, <-failed)
	require.ErrorIs(t, s.Keep(t.Context(), kept, for_("P")), taubyte.ErrClosed)

	require.NoError(t, builder.Blocks().AddBlock(t.Context(), block))
	s = start(t, keeper)
	testnet.Eventually(t, func() bool {
		i, err := s.Item(t.Context(), half)
		return err == nil && len(i.Claims) == 1 && len(live(i)) == 1
	}, "the fetch is taken up again")
	require.True(t, onDisk(t, keeper, half))
	i, err := s.Item(t.Context(), kept)
	require.NoError(t, err)
	require.Equal(t, []peer.ID{keeper.ID()}, live(i))
	require.NoError(t, s.Release(t.Context(), released, "P"))
	testnet.Eventually(t, func() bool { return !anyOnDisk(t, keeper, builder, released) }, "freed")
	require.True(t, onDisk(t, keeper, kept))
}
