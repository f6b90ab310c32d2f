package auth_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/internal/testnet"
)

func newKey(t *testing.T) crypto.PrivKey {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	require.NoError(t, err)
	return key
}

// twoAuths starts two auth nodes that see each other.
func twoAuths(t *testing.T) (net *testnet.Net, a, b *testnet.Node, sa, sb *auth.Service) {
	t.Helper()
	net = testnet.New(t)
	a, b = net.Named("one", taubyte.RoleAuth), net.Named("two", taubyte.RoleAuth)
	with := []auth.Option{auth.WithAuthority(net.Authority), auth.WithSettings(auth.Settings{Zone: "cloud.example"})}
	sa, sb = open(t, a, with...), open(t, b, with...)
	for _, s := range []*auth.Service{sa, sb} { // each has the other's records
		testnet.Eventually(t, func() bool {
			all, err := s.Members(t.Context())
			require.NoError(t, err)
			return len(all) == 2
		}, "members signed elsewhere are recorded when they are first seen")
	}
	for _, pair := range [][2]*testnet.Node{{a, b}, {b, a}} {
		testnet.Eventually(t, func() bool {
			known, err := pair[0].Peerstore().SupportsProtocols(pair[1].ID(), auth.Protocol)
			return err == nil && len(known) > 0
		}, "they know what the other runs")
	}
	return net, a, b, sa, sb
}

// member starts a host with what it was admitted with.
func member(t *testing.T, net *testnet.Net, key crypto.PrivKey, a auth.Admission) *taubyte.NodeHost {
	t.Helper()
	var peers []peer.AddrInfo
	for _, s := range a.Peers {
		info, err := peer.AddrInfoFromString(s)
		require.NoError(t, err)
		peers = append(peers, *info)
	}
	h, err := taubyte.NewHost(t.Context(), taubyte.MemoryDatastore(), taubyte.WithIdentity(key), taubyte.WithPeers(peers...), taubyte.WithLogger(testnet.Logger(t)),
		taubyte.WithMembership(a.Network, func(context.Context, peer.ID) ([]byte, error) { return a.Membership, nil }))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	return h
}

func state(t *testing.T, s *auth.Service, name string) auth.MemberState {
	t.Helper()
	all, err := s.Members(t.Context())
	require.NoError(t, err)
	for _, m := range all {
		if m.Name == name {
			return m.State
		}
	}
	return ""
}

func TestANodeJoinsWithAToken(t *testing.T) {
	net, a, b, sa, sb := twoAuths(t)
	ctx := t.Context()
	i, err := sa.AddMember(ctx, "edge", []taubyte.Role{taubyte.RoleSubstrate}, time.Minute)
	require.NoError(t, err)
	require.Equal(t, auth.StateInvited, state(t, sa, "edge"))
	_, err = sb.AddMember(ctx, "edge", []taubyte.Role{taubyte.RoleMonkey}, 0)
	require.ErrorIs(t, err, taubyte.ErrConflict, "the name is given")
	_, err = sb.AddMember(ctx, "one", []taubyte.Role{taubyte.RoleMonkey}, 0)
	require.ErrorIs(t, err, taubyte.ErrConflict, "the name of a member that nobody invited")
	for _, name := range []string{"", "console", "gateway", "Edge", "a.b"} {
		_, err = sa.AddMember(ctx, name, []taubyte.Role{taubyte.RoleMonkey}, 0)
		require.ErrorIs(t, err, taubyte.ErrInvalid, name)
	}
	_, err = sa.AddMember(ctx, "x", nil, 0)
	require.ErrorIs(t, err, taubyte.ErrInvalid)
	_, err = sa.AddMember(ctx, "x", []taubyte.Role{taubyte.RoleMonkey}, 365*24*time.Hour)
	require.ErrorIs(t, err, taubyte.ErrInvalid)

	// Nothing that is kept lets anybody in.
	secret := i.Token
	for _, s := range []*testnet.Node{a, b} {
		requireNowhere(t, s.Store, secret[len(secret)-20:])
	}
	_, err = auth.Join(ctx, "no token", newKey(t))
	require.ErrorIs(t, err, taubyte.ErrInvalid)
	_, err = auth.Join(ctx, secret[:len(secret)-4], newKey(t))
	require.ErrorIs(t, err, taubyte.ErrInvalid)

	key := newKey(t)
	admitted, err := auth.Join(ctx, secret, key)
	require.NoError(t, err)
	require.Equal(t, "edge", admitted.Name)
	require.Equal(t, "cloud.example", admitted.Settings.Zone)
	require.Nil(t, admitted.Authority, "the root key is for auth nodes")
	again, err := auth.Join(ctx, secret, key)
	require.NoError(t, err, "a lost answer costs nothing")
	require.Equal(t, admitted.Name, again.Name)
	_, err = auth.Join(ctx, secret, newKey(t))
	require.ErrorIs(t, err, taubyte.ErrConflict, "it was used")

	h := member(t, net, key, admitted)
	for _, n := range []*testnet.Node{a, b} {
		testnet.Eventually(t, func() bool {
			m, ok := n.Members().Known(h.ID())
			return ok && m.Name == "edge" && m.Has(taubyte.RoleSubstrate) && !m.Has(taubyte.RoleAuth)
		}, "it is a member")
	}
	c := auth.NewClient(h)
	defer c.Close()
	signed, err := c.RenewMembership(ctx)
	require.NoError(t, err)
	m, err := net.Authority.Network().Verify(signed, h.ID(), time.Now())
	require.NoError(t, err)
	require.Equal(t, "edge", m.Name)

	// What is for auth nodes it may not.
	_, err = c.AddMember(ctx, "friend", []taubyte.Role{taubyte.RoleAuth}, 0)
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	_, err = c.Members(ctx)
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	require.ErrorIs(t, c.RevokeMember(ctx, "one"), taubyte.ErrForbidden)
	_, err = c.RenewMember(ctx, "one")
	require.ErrorIs(t, err, taubyte.ErrForbidden)

	// Revoked on one auth node, it is out everywhere.
	testnet.Eventually(t, func() bool { return state(t, sb, "edge") == auth.StateMember }, "the other knows it")
	start := time.Now()
	require.NoError(t, sb.RevokeMember(ctx, "edge"))
	for _, n := range []*testnet.Node{a, b} {
		testnet.Eventually(t, func() bool {
			return n.Members().Revoked(h.ID()) && n.Network().Connectedness(h.ID()) != network.Connected
		}, "it is out")
	}
	t.Logf("out on both %s after the revocation", time.Since(start))
	require.Less(t, time.Since(start), 10*time.Second)
	_, err = sa.Renew(ctx, m)
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	_, err = sb.RenewMember(ctx, "edge")
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	_, err = auth.Join(ctx, secret, key)
	require.Error(t, err)
	require.ErrorIs(t, sb.RevokeMember(ctx, "nobody"), taubyte.ErrNotFound)
	require.ErrorIs(t, sb.RevokeMember(ctx, "two"), taubyte.ErrConflict, "itself")
	_, err = sa.RenewMember(ctx, "nobody")
	require.ErrorIs(t, err, taubyte.ErrNotFound)
	// Its name is free.
	_, err = sa.AddMember(ctx, "edge", []taubyte.Role{taubyte.RoleSubstrate}, 0)
	require.NoError(t, err)
}

func TestTokensThatAreRefused(t *testing.T) {
	_, _, _, sa, sb := twoAuths(t)
	ctx := t.Context()
	roles := []taubyte.Role{taubyte.RoleMonkey}
	short, err := sa.AddMember(ctx, "short", roles, 50*time.Millisecond)
	require.NoError(t, err)
	time.Sleep(60 * time.Millisecond)
	_, err = auth.Join(ctx, short.Token, newKey(t))
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	require.ErrorContains(t, err, "ended at")
	_, err = sb.AddMember(ctx, "short", roles, 0)
	require.NoError(t, err, "its name is free again")

	taken, err := sa.AddMember(ctx, "taken", roles, 0)
	require.NoError(t, err)
	testnet.Eventually(t, func() bool { return state(t, sb, "taken") == auth.StateInvited }, "the other knows it")
	require.NoError(t, sb.RevokeMember(ctx, "taken"))
	testnet.Eventually(t, func() bool { return state(t, sa, "taken") == "" }, "so does the first")
	_, err = auth.Join(ctx, taken.Token, newKey(t))
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	require.ErrorContains(t, err, "revoked")

	forAuth, err := sa.AddMember(ctx, "three", []taubyte.Role{taubyte.RoleAuth}, 0)
	require.NoError(t, err)
	admitted, err := auth.Join(ctx, forAuth.Token, newKey(t))
	require.NoError(t, err)
	require.NotNil(t, admitted.Authority, "who runs auth signs memberships")
}

func TestOneTokenAdmitsOneNode(t *testing.T) {
	_, _, _, sa, sb := twoAuths(t)
	ctx := t.Context()
	for round := range 3 {
		name := []string{"a", "b", "c"}[round]
		i, err := sa.AddMember(ctx, name, []taubyte.Role{taubyte.RoleMonkey}, 0)
		require.NoError(t, err)
		j, err := sb.AddMember(ctx, name+"x", []taubyte.Role{taubyte.RoleMonkey}, 0) // asks its own maker first
		require.NoError(t, err)
		var wg sync.WaitGroup
		errs := make(chan error, 8)
		keys := make([]crypto.PrivKey, 4)
		for n := range keys {
			keys[n] = newKey(t)
		}
		for n, key := range keys {
			wg.Go(func() {
				_, err := auth.Join(ctx, []string{i.Token, j.Token}[n%2], key)
				errs <- err
			})
		}
		wg.Wait()
		close(errs)
		admitted := 0
		for err := range errs {
			if err == nil {
				admitted++
			} else {
				require.ErrorIs(t, err, taubyte.ErrConflict)
			}
		}
		require.Equal(t, 2, admitted, "one for each token")
	}
}

func TestOneNameAtATime(t *testing.T) {
	_, _, _, sa, sb := twoAuths(t)
	var wg sync.WaitGroup
	errs := make(chan error, 8)
	for n := range 8 {
		wg.Go(func() {
			_, err := []*auth.Service{sa, sb}[n%2].AddMember(t.Context(), "edge", []taubyte.Role{taubyte.RoleMonkey}, 0)
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	given := 0
	for err := range errs {
		if err == nil {
			given++
		} else {
			require.ErrorIs(t, err, taubyte.ErrConflict)
		}
	}
	require.Equal(t, 1, given)
}

func requireNowhere(t *testing.T, store taubyte.Datastore, secret string) {
	t.Helper()
	results, err := store.Query(t.Context(), query.Query{})
	require.NoError(t, err)
	all, err := results.Rest()
	require.NoError(t, err)
	for _, e := range all {
		require.False(t, strings.Contains(string(e.Value), secret), e.Key)
	}
}

// at has a token ask one node alone.
func at(t *testing.T, text string, n *testnet.Node) string {
	t.Helper()
	const prefix = "taubyte-join-1-"
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(text, prefix))
	require.NoError(t, err)
	var fields map[string]any
	require.NoError(t, json.Unmarshal(raw, &fields))
	info := n.Info()
	addrs, err := peer.AddrInfoToP2pAddrs(&info)
	require.NoError(t, err)
	fields["addrs"] = []string{addrs[0].String()}
	raw, err = json.Marshal(fields)
	require.NoError(t, err)
	return prefix + base64.RawURLEncoding.EncodeToString(raw)
}

// Two auth nodes that do not see each other each admit a node with one token, and give
// one name to two nodes: when they meet, the earlier has it.
func TestWhatAPartitionAdmitted(t *testing.T) {
	net, aside := testnet.New(t), testnet.New(t)
	aside.Authority = net.Authority
	a, b := net.Named("one", taubyte.RoleAuth), aside.Named("two", taubyte.RoleAuth)
	sa, sb := open(t, a, auth.WithAuthority(net.Authority)), open(t, b, auth.WithAuthority(net.Authority))
	ctx, roles := t.Context(), []taubyte.Role{taubyte.RoleMonkey}
	require.NoError(t, b.Connect(ctx, a.Info()))
	i, err := sa.AddMember(ctx, "edge", roles, 0)
	require.NoError(t, err)
	testnet.Eventually(t, func() bool { return state(t, sb, "edge") == auth.StateInvited }, "the other knows it")

	cut := func() bool {
		for _, pair := range [][2]*testnet.Node{{a, b}, {b, a}} {
			pair[0].Peerstore().ClearAddrs(pair[1].ID())
			_ = pair[0].Network().ClosePeer(pair[1].ID())
		}
		return a.Network().Connectedness(b.ID()) != network.Connected && b.Network().Connectedness(a.ID()) != network.Connected
	}
	testnet.Eventually(t, cut, "cut")
	first, second := newKey(t), newKey(t)
	_, err = auth.Join(ctx, at(t, i.Token, a), first)
	require.NoError(t, err)
	_, err = auth.Join(ctx, at(t, i.Token, b), second)
	require.NoError(t, err, "no node can know")
	x, err := sa.AddMember(ctx, "twice", roles, 0)
	require.NoError(t, err)
	y, err := sb.AddMember(ctx, "twice", roles, 0)
	require.NoError(t, err)
	later := newKey(t)
	_, err = auth.Join(ctx, at(t, y.Token, b), later)
	require.NoError(t, err)
	require.Equal(t, network.NotConnected, a.Network().Connectedness(b.ID()))

	require.NoError(t, b.Connect(ctx, a.Info()))
	stays, err := peer.IDFromPrivateKey(first)
	require.NoError(t, err)
	goes, err := peer.IDFromPrivateKey(second)
	require.NoError(t, err)
	loser, err := peer.IDFromPrivateKey(later)
	require.NoError(t, err)
	start := time.Now()
	for _, n := range []*testnet.Node{a, b} {
		testnet.Eventually(t, func() bool { return n.Members().Revoked(goes) }, "the later admission is revoked")
		require.False(t, n.Members().Revoked(stays))
	}
	t.Logf("revoked on both %s after the healing", time.Since(start))
	for _, s := range []*auth.Service{sa, sb} {
		testnet.Eventually(t, func() bool {
			all, err := s.Members(ctx)
			require.NoError(t, err)
			for _, m := range all {
				if m.Peer == loser && m.Conflict != "" {
					return true
				}
			}
			return false
		}, "who lost the name is told")
		signed, err := s.RenewMember(ctx, loser.String())
		require.NoError(t, err)
		m, err := net.Authority.Network().Verify(signed, loser, time.Now())
		require.NoError(t, err)
		require.Empty(t, m.Name)
	}
	admitted, err := auth.Join(ctx, at(t, x.Token, b), newKey(t))
	require.NoError(t, err)
	require.Equal(t, "twice", admitted.Name)
}

func FuzzJoinToken(f *testing.F) {
	f.Add("taubyte-join-1-e30")
	f.Add("taubyte-join-1-" + base64.RawURLEncoding.EncodeToString([]byte(`{"id":"x","secret":"AA==","addrs":["/ip4/127.0.0.1/tcp/1"],"network":{"swarmKey":"AA==","root":"AA=="}}`)))
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = auth.ParseToken(text)
	})
}
