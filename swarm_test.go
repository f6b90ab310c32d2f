package taubyte_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testnet"
)

func swarmKey(t *testing.T) pnet.PSK {
	t.Helper()
	key := make([]byte, 32)
	_, err := rand.Read(key)
	require.NoError(t, err)
	return key
}

// hostUnder starts a host in the network of an authority that makes and takes
// connections under keys of the test's.
func hostUnder(t *testing.T, a *taubyte.Authority, in pnet.PSK, others ...pnet.PSK) *taubyte.NodeHost {
	t.Helper()
	n := a.Network()
	n.SwarmKey, n.OtherSwarmKeys = in, others
	h, err := taubyte.NewHost(t.Context(), taubyte.MemoryDatastore(),
		taubyte.WithMembership(n, func(_ context.Context, p peer.ID) ([]byte, error) {
			return a.Sign(p, "", taubyte.Roles(), time.Hour)
		}), taubyte.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	return h
}

func info(h *taubyte.NodeHost) peer.AddrInfo { return peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()} }

// A host takes connections under each of its network's keys, from hosts of libp2p's own
// private network as well, and none under another.
func TestSeveralSwarmKeys(t *testing.T) {
	t.Parallel()
	testnet.CheckLeaks(t)
	a, err := taubyte.NewAuthority()
	require.NoError(t, err)
	first, second, foreign := swarmKey(t), swarmKey(t), swarmKey(t)
	member := hostUnder(t, a, first, second)

	for _, c := range []struct {
		key pnet.PSK
		in  bool
	}{{first, true}, {second, true}, {foreign, false}} {
		plain, err := libp2p.New(libp2p.NoListenAddrs, libp2p.PrivateNetwork(c.key), libp2p.DisableMetrics())
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err = plain.Connect(ctx, info(member))
		cancel()
		if c.in {
			require.NoError(t, err)
		} else {
			require.Error(t, err)
		}
		require.NoError(t, plain.Close())
	}
	bare, err := libp2p.New(libp2p.NoListenAddrs, libp2p.DisableMetrics())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.Error(t, bare.Connect(ctx, info(member)), "without a key")
	require.NoError(t, bare.Close())
}

// Where the key in use is not understood, the others are tried.
func TestDialUnderAnotherSwarmKey(t *testing.T) {
	testnet.CheckLeaks(t)
	a, err := taubyte.NewAuthority()
	require.NoError(t, err)
	old, new, foreign := swarmKey(t), swarmKey(t), swarmKey(t)
	behind, ahead, out := hostUnder(t, a, old), hostUnder(t, a, new, old), hostUnder(t, a, foreign)
	require.NoError(t, ahead.Connect(t.Context(), info(behind)))
	_, err = ahead.Member(t.Context(), behind.ID())
	require.NoError(t, err)
	require.Error(t, out.Connect(t.Context(), info(behind)))
	require.NotEqual(t, network.Connected, behind.Network().Connectedness(out.ID()))
}

func TestNetworkWithSeveralKeysIsKept(t *testing.T) {
	a, err := taubyte.NewAuthority()
	require.NoError(t, err)
	n := a.Network()
	_, other, err := crypto.GenerateEd25519Key(rand.Reader)
	require.NoError(t, err)
	n.OtherSwarmKeys, n.OtherRoots, n.Version = []pnet.PSK{swarmKey(t)}, []crypto.PubKey{other}, 3
	raw, err := json.Marshal(n)
	require.NoError(t, err)
	var got taubyte.Network
	require.NoError(t, json.Unmarshal(raw, &got))
	again, err := json.Marshal(got)
	require.NoError(t, err)
	require.Equal(t, string(raw), string(again))
	require.True(t, got.OtherRoots[0].Equals(other))
}
