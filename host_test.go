package taubyte_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ipfs/boxo/blockservice"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testnet"
)

func TestHostKeepsItsIdentity(t *testing.T) {
	testnet.CheckLeaks(t)
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), "store")
	var ids []peer.ID
	for range 2 {
		store, err := taubyte.OpenDatastore(dir)
		require.NoError(t, err)
		h, err := taubyte.NewHost(ctx, store)
		require.NoError(t, err)
		m, err := h.Member(ctx, h.ID())
		require.NoError(t, err)
		require.ElementsMatch(t, taubyte.Roles(), m.Roles, "a lone node holds every role")
		ids = append(ids, h.ID())
		require.NoError(t, h.Close())
		require.NoError(t, h.Close(), "Close may be called twice")
		require.NoError(t, store.Close())
	}
	require.Equal(t, ids[0], ids[1])
}

func TestStoreRefusesWhatIsNotItsOwn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	store, err := taubyte.OpenDatastore(dir)
	require.NoError(t, err)
	_, err = taubyte.OpenDatastore(dir)
	require.ErrorIs(t, err, taubyte.ErrConflict, "in use")
	require.NoError(t, store.Put(t.Context(), ds.NewKey("/a"), []byte("1")))
	require.NoError(t, store.Close())

	foreign := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(foreign, "letter.txt"), []byte("hi"), 0o600))
	_, err = taubyte.OpenDatastore(foreign)
	require.ErrorIs(t, err, taubyte.ErrInvalid)
	entries, err := os.ReadDir(foreign)
	require.NoError(t, err)
	require.Len(t, entries, 1, "a foreign folder is not touched")

	require.NoError(t, os.WriteFile(filepath.Join(dir, "TAUBYTE-STORE"), []byte("taubyte store 99\n"), 0o600))
	_, err = taubyte.OpenDatastore(dir)
	require.ErrorIs(t, err, taubyte.ErrInvalid, "a later format")
}

// refusal is how long a block may take to come before that is taken for a refusal.
const refusal = 700 * time.Millisecond

// A member that is no hoarder is given the blocks that a rule lets it have.
func TestBlocksAreSharedByRules(t *testing.T) {
	net := testnet.New(t)
	a := net.Node(taubyte.RoleGateway)
	hoarder, seer, monkey := net.Node(taubyte.RoleHoarder), net.Node(taubyte.RoleSeer), net.Node(taubyte.RoleMonkey)
	one, two := blocks.NewBlock([]byte("one")), blocks.NewBlock([]byte("two"))
	require.NoError(t, a.Blocks().AddBlocks(t.Context(), []blocks.Block{one, two}))
	// A want that follows upon the end of another for the same block may get lost in
	// bitswap, so it is asked several times for what should come.
	gives := func(to *testnet.Node, b blocks.Block, times int) bool {
		for range times {
			ctx, cancel := context.WithTimeout(t.Context(), refusal)
			_, err := to.Blocks().GetBlock(ctx, b.Cid())
			cancel()
			if err == nil {
				return true
			}
		}
		return false
	}
	const arrival, once = 40, 1
	require.True(t, gives(hoarder, two, arrival))
	require.False(t, gives(seer, one, once))
	stop := a.ShareBlocks(func(m taubyte.Membership, c cid.Cid) bool {
		return m.Has(taubyte.RoleSeer) && bytes.Equal(c.Hash(), one.Cid().Hash())
	})
	require.True(t, gives(seer, one, arrival))
	require.False(t, gives(seer, two, once))
	require.False(t, gives(monkey, one, once))
	stop()
	stop()
	require.False(t, gives(net.Node(taubyte.RoleSeer), one, once))
}

func TestMembersShareBlocksAndGossip(t *testing.T) {
	net := testnet.New(t)
	a, b := net.Node(), net.Node()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	block := blocks.NewBlock([]byte("shared"))
	require.NoError(t, a.Blocks().AddBlock(ctx, block))
	got, err := blockservice.NewSession(ctx, b.Blocks()).GetBlock(ctx, block.Cid())
	require.NoError(t, err)
	require.Equal(t, block.RawData(), got.RawData())

	topicA, err := a.PubSub().Join("t")
	require.NoError(t, err)
	topicB, err := b.PubSub().Join("t")
	require.NoError(t, err)
	sub, err := topicB.Subscribe()
	require.NoError(t, err)
	testnet.Eventually(t, func() bool { return len(topicA.ListPeers()) == 1 }, "no gossip peer")
	require.NoError(t, topicA.Publish(ctx, []byte("hello")))
	msg, err := sub.Next(ctx)
	require.NoError(t, err)
	require.Equal(t, a.ID(), msg.GetFrom())
	sub.Cancel()
}

func TestStrangersAreKeptOut(t *testing.T) {
	t.Parallel()
	net := testnet.New(t)
	member := net.Node()
	reached := make(chan peer.ID, 8)
	member.SetStreamHandler("/test/1", func(s network.Stream) {
		reached <- s.Conn().RemotePeer()
		_, _ = s.Write([]byte("secret"))
		_ = s.Close()
	})

	t.Run("without the swarm key", func(t *testing.T) {
		stranger, err := libp2p.New(libp2p.NoListenAddrs)
		require.NoError(t, err)
		defer stranger.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		require.Error(t, stranger.Connect(ctx, member.Info()))
	})

	t.Run("with the swarm key and no membership", func(t *testing.T) {
		stranger, err := libp2p.New(libp2p.NoListenAddrs, libp2p.PrivateNetwork(net.Authority.Network().SwarmKey))
		require.NoError(t, err)
		defer stranger.Close()
		requireShutOut(t, stranger.NewStream, stranger.Connect, member.Info())
	})

	t.Run("with a membership that another root signed", func(t *testing.T) {
		other, err := taubyte.NewAuthority()
		require.NoError(t, err)
		// The swarm key leaked; the root key did not.
		forged := taubyte.Network{SwarmKey: net.Authority.Network().SwarmKey, Root: other.Network().Root}
		h, err := taubyte.NewHost(t.Context(), taubyte.MemoryDatastore(),
			taubyte.WithMembership(forged, func(_ context.Context, p peer.ID) ([]byte, error) {
				return other.Sign(p, "", taubyte.Roles(), time.Hour)
			}), taubyte.WithLogger(testnet.Logger(t)))
		require.NoError(t, err)
		defer h.Close()
		requireShutOut(t, h.NewStream, h.Connect, member.Info())
		_, err = member.Member(t.Context(), h.ID())
		require.Error(t, err)
	})

	select {
	case p := <-reached:
		t.Fatalf("%s reached a handler", p)
	default:
	}
}

func requireShutOut[PID ~string](t *testing.T, newStream func(context.Context, peer.ID, ...PID) (network.Stream, error), connect func(context.Context, peer.AddrInfo) error, to peer.AddrInfo) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_ = connect(ctx, to) // may succeed: memberships are asked for after it
	s, err := newStream(ctx, to.ID, "/test/1")
	if err != nil {
		return
	}
	got, err := io.ReadAll(s)
	require.Error(t, err, "the stream is reset")
	require.Empty(t, got)
}

func TestMembershipEnds(t *testing.T) {
	a, err := taubyte.NewAuthority()
	require.NoError(t, err)
	id, err := peer.Decode("12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf")
	require.NoError(t, err)
	signed, err := a.Sign(id, "", []taubyte.Role{taubyte.RoleTNS}, time.Hour)
	require.NoError(t, err)

	m, err := a.Network().Verify(signed, id, time.Now())
	require.NoError(t, err)
	require.True(t, m.Has(taubyte.RoleTNS))
	require.False(t, m.Has(taubyte.RoleAuth))

	_, err = a.Network().Verify(signed, id, time.Now().Add(2*time.Hour))
	require.ErrorIs(t, err, taubyte.ErrForbidden, "ended")
	_, err = a.Network().Verify(signed, id, time.Now().Add(-time.Hour))
	require.ErrorIs(t, err, taubyte.ErrForbidden, "not begun")
	_, err = a.Network().Verify(signed, peer.ID("other"), time.Now())
	require.ErrorIs(t, err, taubyte.ErrForbidden, "another's")
	signed[len(signed)-1] ^= 1
	_, err = a.Network().Verify(signed, id, time.Now())
	require.ErrorIs(t, err, taubyte.ErrForbidden, "tampered with")
}

func TestAuthorityAndNetworkAreKept(t *testing.T) {
	a, err := taubyte.NewAuthority()
	require.NoError(t, err)
	text, err := a.MarshalText()
	require.NoError(t, err)
	var b taubyte.Authority
	require.NoError(t, b.UnmarshalText(text))

	raw, err := json.Marshal(a.Network())
	require.NoError(t, err)
	var n taubyte.Network
	require.NoError(t, json.Unmarshal(raw, &n))
	require.Equal(t, b.Network().SwarmKey, n.SwarmKey)
	require.True(t, b.Network().Root.Equals(n.Root))

	require.ErrorIs(t, b.UnmarshalText([]byte("AAAA")), taubyte.ErrInvalid)
	require.ErrorIs(t, json.Unmarshal([]byte(`{"swarmKey":"AAAA"}`), &n), taubyte.ErrInvalid)
}

func TestLocalServices(t *testing.T) {
	net := testnet.New(t)
	h := net.Node()
	withdraw, err := h.Provide("/x/1", "service")
	require.NoError(t, err)
	_, err = h.Provide("/x/1", "second")
	require.ErrorIs(t, err, taubyte.ErrConflict)
	require.Equal(t, "service", h.Local("/x/1"))
	withdraw()
	withdraw()
	require.Nil(t, h.Local("/x/1"))
}

func FuzzVerifyMembership(f *testing.F) {
	a, err := taubyte.NewAuthority()
	require.NoError(f, err)
	signed, err := a.Sign("p", "", []taubyte.Role{taubyte.RoleTNS}, time.Hour)
	require.NoError(f, err)
	f.Add(signed)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := a.Network().Verify(b, "p", time.Now())
		if err == nil {
			require.Equal(t, peer.ID("p"), m.Peer)
		}
	})
}
