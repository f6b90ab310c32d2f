package taubyte_test

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testnet"
)

// copyOf is the authority as another node has it.
func copyOf(t *testing.T, a *taubyte.Authority) *taubyte.Authority {
	t.Helper()
	text, err := a.MarshalText()
	require.NoError(t, err)
	b := new(taubyte.Authority)
	require.NoError(t, b.UnmarshalText(text))
	return b
}

// echoing starts a host that answers streams.
func echoing(t *testing.T, store taubyte.Datastore, peers []*taubyte.NodeHost, opts ...taubyte.HostOption) *taubyte.NodeHost {
	t.Helper()
	var infos []peer.AddrInfo
	for _, p := range peers {
		infos = append(infos, info(p))
	}
	h, err := taubyte.NewHost(t.Context(), store, append(opts, taubyte.WithPeers(infos...), taubyte.WithLogger(testnet.Logger(t)))...)
	require.NoError(t, err)
	h.SetStreamHandler("/test/echo", func(s network.Stream) {
		_, _ = io.Copy(s, s)
		_ = s.Close()
	})
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	for _, p := range peers {
		testnet.Eventually(t, func() bool { return call(t.Context(), h, p) == nil && call(t.Context(), p, h) == nil }, "no connection")
	}
	return h
}

func call(ctx context.Context, from, to *taubyte.NodeHost) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	s, err := from.NewStream(ctx, to.ID(), "/test/echo")
	if err != nil {
		return err
	}
	defer s.Close()
	_ = s.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(s, "hello"); err != nil {
		return err
	}
	_ = s.CloseWrite()
	got, err := io.ReadAll(s)
	if err == nil && string(got) != "hello" {
		err = fmt.Errorf("got %q", got)
	}
	return err
}

// Swarm key and root are replaced on three nodes that call each other all the time, and
// that break and make connections anew. No call fails. Who has the old keys is out.
func TestKeysAreReplacedUnderLoad(t *testing.T) {
	testnet.CheckLeaks(t)
	authority, err := taubyte.NewAuthority()
	require.NoError(t, err)
	before := copyOf(t, authority) // leaked
	second := copyOf(t, authority)
	var kept atomic.Int32
	keeper := taubyte.WithKeeper(func(_ taubyte.Network, a *taubyte.Authority) error {
		if a != nil {
			kept.Add(1)
		}
		return nil
	})
	first := echoing(t, taubyte.MemoryDatastore(), nil, taubyte.WithAuthority(authority, taubyte.Roles()...), keeper)
	other := echoing(t, taubyte.MemoryDatastore(), []*taubyte.NodeHost{first}, taubyte.WithAuthority(second, taubyte.Roles()...), keeper)
	source := func(_ context.Context, p peer.ID) ([]byte, error) { // as an auth node does
		return second.Sign(p, "", []taubyte.Role{taubyte.RoleHoarder}, time.Hour)
	}
	disk := taubyte.MemoryDatastore()
	worker := echoing(t, disk, []*taubyte.NodeHost{first, other}, taubyte.WithMembership(before.Network(), source))
	hosts := []*taubyte.NodeHost{first, other, worker}

	ctx, stop := context.WithCancel(t.Context())
	var calls, failed atomic.Int64
	var wg sync.WaitGroup
	for i, from := range hosts {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if err := call(context.WithoutCancel(ctx), from, hosts[(i+1+n%2)%3]); err != nil {
					failed.Add(1)
					t.Log("a call failed:", err)
				}
				calls.Add(1)
			}
		})
	}
	start := time.Now()
	for _, kind := range []taubyte.KeyKind{taubyte.KeySwarm, taubyte.KeyRoot} {
		for range 3 {
			testnet.Eventually(t, func() bool { return len(first.Members().Behind(t.Context(), kind)) == 0 }, "all members have it")
			signed, next, err := authority.Rotate(kind)
			require.NoError(t, err)
			require.NoError(t, first.Members().Adopt(t.Context(), signed, next))
			require.ErrorIs(t, first.Members().Adopt(t.Context(), signed, next), taubyte.ErrConflict)
		}
	}
	for _, h := range hosts {
		testnet.Eventually(t, func() bool { return h.Members().Network().Version == 6 }, "the last version")
		n := h.Members().Network()
		require.Equal(t, authority.Network().SwarmKey, n.SwarmKey)
		require.True(t, n.Root.Equals(authority.Network().Root))
		require.Empty(t, n.OtherSwarmKeys)
		require.Empty(t, n.OtherRoots)
	}
	took := time.Since(start)
	stop()
	wg.Wait()
	t.Logf("%d calls while both keys were replaced in %s, %d failed", calls.Load(), took, failed.Load())
	require.Zero(t, failed.Load())
	require.EqualValues(t, 12, kept.Load(), "both nodes of role auth keep the authority at each step")
	require.True(t, second.Network().Root.Equals(authority.Network().Root))
	require.NotEqual(t, before.Network().SwarmKey, authority.Network().SwarmKey)
	require.False(t, before.Network().Root.Equals(authority.Network().Root))

	// With the old swarm key there is no connection, with the old root no membership.
	plain, err := libp2p.New(libp2p.NoListenAddrs, libp2p.PrivateNetwork(before.Network().SwarmKey), libp2p.DisableMetrics())
	require.NoError(t, err)
	short, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.Error(t, plain.Connect(short, info(first)))
	require.NoError(t, plain.Close())
	forged := authority.Network()
	forged.Root = before.Network().Root
	intruder, err := taubyte.NewHost(t.Context(), taubyte.MemoryDatastore(), taubyte.WithLogger(testnet.Logger(t)),
		taubyte.WithMembership(forged, func(_ context.Context, p peer.ID) ([]byte, error) {
			return before.Sign(p, "", taubyte.Roles(), time.Hour)
		}))
	require.NoError(t, err)
	requireShutOut(t, intruder.NewStream, intruder.Connect, info(first))
	require.NoError(t, intruder.Close())

	// A node that is started again with the configuration of old goes by what it kept.
	require.NoError(t, worker.Close())
	worker = echoing(t, disk, []*taubyte.NodeHost{first, other}, taubyte.WithMembership(before.Network(), source))
	require.EqualValues(t, 6, worker.Members().Network().Version)
	// And so does an authority that was kept.
	third := copyOf(t, authority)
	echoing(t, taubyte.MemoryDatastore(), []*taubyte.NodeHost{first, other, worker}, taubyte.WithAuthority(third, taubyte.RoleTNS))
}

// A node that was away for the first steps gets the newest description when it comes
// back, as long as its keys are not retired.
func TestNodeThatMissedANewKey(t *testing.T) {
	testnet.CheckLeaks(t)
	authority, err := taubyte.NewAuthority()
	require.NoError(t, err)
	before := copyOf(t, authority)
	first := echoing(t, taubyte.MemoryDatastore(), nil, taubyte.WithAuthority(authority, taubyte.Roles()...))
	for _, kind := range []taubyte.KeyKind{taubyte.KeySwarm, taubyte.KeySwarm, taubyte.KeyRoot, taubyte.KeyRoot} {
		signed, next, err := authority.Rotate(kind)
		require.NoError(t, err)
		require.NoError(t, first.Members().Adopt(t.Context(), signed, next))
	}
	var asked atomic.Bool
	late := echoing(t, taubyte.MemoryDatastore(), []*taubyte.NodeHost{first}, taubyte.WithMembership(before.Network(), func(_ context.Context, p peer.ID) ([]byte, error) {
		signer := authority
		if asked.CompareAndSwap(false, true) { // what it had when it went
			signer = before
		}
		return signer.Sign(p, "", []taubyte.Role{taubyte.RoleTNS}, time.Hour)
	}))
	testnet.Eventually(t, func() bool { return late.Members().Network().Version == 4 }, "the newest description")
	testnet.Eventually(t, func() bool { return len(first.Members().Behind(t.Context(), taubyte.KeyRoot)) == 0 }, "a membership of the new root")
}

// A description that no root of the network signed changes nothing.
func TestForeignDescriptionIsRefused(t *testing.T) {
	testnet.CheckLeaks(t)
	nw := testnet.New(t)
	member := nw.Node()
	foreign, err := taubyte.NewAuthority()
	require.NoError(t, err)
	signed, next, err := foreign.Rotate(taubyte.KeySwarm)
	require.NoError(t, err)
	require.ErrorIs(t, member.Members().Adopt(t.Context(), signed, next), taubyte.ErrForbidden)
	require.ErrorIs(t, member.Members().Adopt(t.Context(), signed[:10], next), taubyte.ErrForbidden)
	require.Zero(t, member.Members().Network().Version)
	_, _, err = nw.Authority.Rotate("passport")
	require.ErrorIs(t, err, taubyte.ErrInvalid)
}
