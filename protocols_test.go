package taubyte_test

import (
	"testing"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/testnet"
)

// speaks reports whether a node knows that another speaks a protocol.
func speaks(t *testing.T, n, other *testnet.Node, id protocol.ID) bool {
	known, err := n.Peerstore().SupportsProtocols(other.ID(), id)
	require.NoError(t, err)
	return len(known) > 0
}

// What a node begins and ends to speak, its peers know, also where libp2p's identify
// loses it.
func TestPeersKnowWhatANodeSpeaks(t *testing.T) {
	net := testnet.New(t)
	a, b := net.Node(), net.Node()
	const first, second protocol.ID = "/test/first/1", "/test/second/1"
	handler := func(s network.Stream) { _ = s.Reset() }
	a.SetStreamHandler(first, handler)
	testnet.Eventually(t, func() bool { return speaks(t, b, a, first) }, "identify and the announcement")

	b.RemoveStreamHandler("/ipfs/id/push/1.0.0") // every push is lost from here on
	a.SetStreamHandler(second, handler)
	testnet.Eventually(t, func() bool { return speaks(t, b, a, second) && speaks(t, b, a, first) }, "the announcement alone")
	a.RemoveStreamHandler(first)
	testnet.Eventually(t, func() bool { return speaks(t, b, a, second) && !speaks(t, b, a, first) }, "one ended")

	// Again on the next connection.
	require.NoError(t, b.Network().ClosePeer(a.ID()))
	require.NoError(t, b.Peerstore().SetProtocols(a.ID()))
	require.NoError(t, b.Connect(t.Context(), a.Info()))
	testnet.Eventually(t, func() bool { return speaks(t, b, a, second) }, "a new connection")
}

// An old answer of identify that arrives late does not stay.
func TestALateIdentificationDoesNotStay(t *testing.T) {
	net := testnet.New(t)
	a, b := net.Node(), net.Node()
	const id protocol.ID = "/test/first/1"
	a.SetStreamHandler(id, func(s network.Stream) { _ = s.Reset() })
	testnet.Eventually(t, func() bool { return speaks(t, b, a, id) }, "known")
	identified, err := b.EventBus().Emitter(new(event.EvtPeerIdentificationCompleted))
	require.NoError(t, err)
	defer identified.Close()
	for range 3 {
		require.NoError(t, b.Peerstore().RemoveProtocols(a.ID(), id))
		require.NoError(t, identified.Emit(event.EvtPeerIdentificationCompleted{Peer: a.ID()}))
		testnet.Eventually(t, func() bool { return speaks(t, b, a, id) }, "known again")
	}
}
