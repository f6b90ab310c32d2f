package testnet

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/stretchr/testify/require"
)

// An Intruder is a libp2p host that has the swarm key and keeps no rule of a Host: it
// gossips what it likes and lets everybody in.
type Intruder struct {
	host.Host
	PubSub *pubsub.PubSub
}

// Intruder makes one, and connects it to a node. sign makes the membership that it
// shows; nil shows none and does not even speak the protocol.
func (n *Net) Intruder(to *Node, sign func(peer.ID) []byte) *Intruder {
	n.t.Helper()
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.PrivateNetwork(n.Authority.Network().SwarmKey),
		libp2p.Transport(tcp.NewTCPTransport), libp2p.Security(noise.ID, noise.New), libp2p.DisableRelay(), libp2p.DisableMetrics())
	require.NoError(n.t, err)
	n.t.Cleanup(func() { _ = h.Close() })
	if sign != nil {
		answer, err := json.Marshal(map[string]any{"membership": sign(h.ID()), "digest": []byte{}})
		require.NoError(n.t, err)
		answer = append(binary.AppendUvarint(nil, uint64(len(answer))), answer...)
		h.SetStreamHandler("/taubyte/membership/2", func(s network.Stream) {
			defer s.Close()
			_, _ = io.Copy(io.Discard, bufio.NewReader(s))
			_, _ = s.Write(answer)
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.t.Cleanup(cancel)
	ps, err := pubsub.NewGossipSub(ctx, h, pubsub.WithFloodPublish(true))
	require.NoError(n.t, err)
	i := &Intruder{Host: h, PubSub: ps}
	require.NoError(n.t, h.Connect(ctx, to.Info()))
	return i
}
