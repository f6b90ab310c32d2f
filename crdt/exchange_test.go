package crdt_test

import (
	"fmt"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/crdt"
	"github.com/taubyte/taubyte/internal/testnet"
)

// A node that meets one with many stores learns of them and of all else that it speaks.
func TestManyStoresOnOneHost(t *testing.T) {
	net := testnet.New(t)
	a, b := net.Node(), net.Node()
	const stores = 150 // more than libp2p tells of
	name := func(i int) string { return fmt.Sprintf("database-%d-of-a-project-with-a-rather-long-name", i) }
	replica := func(n *testnet.Node, i int) *crdt.Store {
		s, err := crdt.Open(t.Context(), n, n.Store, name(i))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		return s
	}
	var last *crdt.Store
	for i := range stores {
		last = replica(a, i)
	}
	require.NoError(t, last.Put(t.Context(), ds.NewKey("/x"), []byte("1")))
	got := replica(b, stores-1)
	testnet.Eventually(t, func() bool { has, err := got.Has(t.Context(), ds.NewKey("/x")); return err == nil && has }, "the last of them")
	spoken := func() []protocol.ID {
		known, err := b.Peerstore().GetProtocols(a.ID())
		require.NoError(t, err)
		return known
	}
	a.SetStreamHandler("/test/more/1", func(s network.Stream) { _ = s.Reset() })
	testnet.Eventually(t, func() bool {
		for _, id := range spoken() {
			if id == "/test/more/1" {
				return len(spoken()) < 128
			}
		}
		return false
	}, "what else it speaks")
}
