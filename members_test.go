package taubyte_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"path/filepath"
	"sync"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testnet"
)

// promised is how long a peer that is no member stays connected at most, and slack
// what a busy machine may add.
const promised, slack = 5 * time.Second, 5 * time.Second

// gone waits until a peer is not connected, and says how long that took.
func gone(t *testing.T, h taubyte.Host, p peer.ID, what string) {
	t.Helper()
	start := time.Now()
	testnet.Eventually(t, func() bool { return h.Network().Connectedness(p) != network.Connected }, "%s is disconnected", what)
	took := time.Since(start)
	t.Logf("%s: disconnected after %s", what, took)
	require.Less(t, took, promised+slack)
}

func TestStrangersAreDisconnected(t *testing.T) {
	t.Parallel()
	net := testnet.New(t)
	member := net.Node()
	other, err := taubyte.NewAuthority()
	require.NoError(t, err)
	sign := func(a *taubyte.Authority, lifetime time.Duration, of peer.ID) func(peer.ID) []byte {
		return func(p peer.ID) []byte {
			if of != "" {
				p = of
			}
			signed, err := a.Sign(p, "", taubyte.Roles(), lifetime)
			require.NoError(t, err)
			time.Sleep(2 * time.Millisecond)
			return signed
		}
	}
	var all sync.WaitGroup
	for what, s := range map[string]func(peer.ID) []byte{
		"one that does not speak the protocol":  nil,
		"a member of another network":           sign(other, time.Hour, ""),
		"one with the membership of another":    sign(net.Authority, time.Hour, member.ID()),
		"one whose membership has ended":        sign(net.Authority, time.Millisecond, ""),
		"one that shows something else than it": func(peer.ID) []byte { return []byte("let me in") },
		"one that shows nothing":                func(peer.ID) []byte { return nil },
	} {
		i := net.Intruder(member, s)
		all.Go(func() { gone(t, member, i.ID(), what) })
	}
	hung := net.Intruder(member, nil)
	hung.SetStreamHandler("/taubyte/membership/2", func(s network.Stream) { _, _ = io.Copy(io.Discard, s) })
	all.Go(func() { gone(t, member, hung.ID(), "one that hangs") })
	all.Wait()
}

// failing is a source that signs so often for so long, and fails from then on.
func failing(a *taubyte.Authority, times int, lifetime time.Duration) taubyte.MembershipSource {
	return func(_ context.Context, p peer.ID) ([]byte, error) {
		if times--; times < 0 {
			return nil, errors.New("no more")
		}
		return a.Sign(p, "", taubyte.Roles(), lifetime)
	}
}

// subscribe joins a topic on some nodes and waits until each sees all others there: what
// is published once before that may reach only some.
func subscribe(t *testing.T, name string, nodes ...*testnet.Node) (topics []*pubsub.Topic, subs []*pubsub.Subscription) {
	t.Helper()
	for _, n := range nodes {
		topic, err := n.PubSub().Join(name)
		require.NoError(t, err)
		sub, err := topic.Subscribe()
		require.NoError(t, err)
		topics, subs = append(topics, topic), append(subs, sub)
	}
	for _, topic := range topics {
		testnet.Eventually(t, func() bool { return len(topic.ListPeers()) == len(nodes)-1 }, "gossip")
	}
	return topics, subs
}

// hears waits for a message of an author, and for no other.
func hears(t *testing.T, sub *pubsub.Subscription, author peer.ID) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	m, err := sub.Next(ctx)
	require.NoError(t, err)
	require.Equal(t, author, m.GetFrom())
}

func TestAMembershipEndsOnTime(t *testing.T) {
	t.Parallel()
	net := testnet.New(t)
	a := net.Node()
	const life = 6 * time.Second // what comes before its end takes a loaded machine a while
	b := net.Member(failing(net.Authority, 1, life))
	ends := time.Now().Add(life)
	stream := make(chan network.Stream, 1)
	a.SetStreamHandler("/test/1", func(s network.Stream) { stream <- s })
	mine, err := b.NewStream(t.Context(), a.ID(), "/test/1")
	require.NoError(t, err)
	_, err = mine.Write([]byte("x"))
	require.NoError(t, err)
	s := <-stream
	topics, subs := subscribe(t, "t", a, b)
	require.NoError(t, topics[1].Publish(t.Context(), []byte("member")))
	hears(t, subs[0], b.ID())

	testnet.Eventually(t, func() bool { return a.Network().Connectedness(b.ID()) != network.Connected }, "disconnected")
	t.Logf("disconnected %s after the end", time.Since(ends))
	require.Less(t, time.Since(ends), promised+slack)
	_, err = io.ReadAll(s)
	require.Error(t, err, "no stream is left open")
	// It connects again and again, and gets nowhere.
	_ = topics[1].Publish(t.Context(), []byte("former member"))
	_, err = a.Member(t.Context(), b.ID())
	require.Error(t, err)
	_, ok := a.Members().Known(b.ID())
	require.False(t, ok)
	require.NoError(t, topics[0].Publish(t.Context(), []byte("own")))
	hears(t, subs[0], a.ID())
}

func TestAMembershipIsRenewedInTime(t *testing.T) {
	t.Parallel()
	net := testnet.New(t)
	a := net.Node()
	// It is renewed after two thirds, and what is left has to be enough for a loaded machine.
	b := net.Member(failing(net.Authority, 1000, 4500*time.Millisecond))
	lost := make(chan struct{}, 8)
	a.Network().Notify(&network.NotifyBundle{DisconnectedF: func(network.Network, network.Conn) { lost <- struct{}{} }})
	first, ok := a.Members().Known(b.ID())
	require.True(t, ok)
	testnet.Eventually(t, func() bool {
		m, ok := a.Members().Known(b.ID())
		require.True(t, ok, "the new one is known before the old one ends")
		return m.NotBefore.After(first.NotAfter.Add(time.Second))
	}, "renewed more than once")
	require.Empty(t, lost, "it stayed connected")
}

func TestRevocation(t *testing.T) {
	t.Parallel()
	net := testnet.New(t)
	dir := filepath.Join(t.TempDir(), "store")
	store, err := taubyte.OpenDatastore(dir)
	require.NoError(t, err)
	a, b, bad := net.NodeOn(store), net.Node(), net.Node()
	topics, subs := subscribe(t, "t", a, b, bad)
	require.NoError(t, topics[2].Publish(t.Context(), []byte("member")))
	for _, sub := range subs {
		hears(t, sub, bad.ID())
	}
	aside := testnet.New(t) // a node of the same network that is connected to nobody
	aside.Authority = net.Authority
	cut := aside.Node()

	net.Revoke(a, bad.ID())
	for _, n := range []*testnet.Node{a, b} {
		gone(t, n, bad.ID(), "a revoked member")
		require.True(t, n.Members().Revoked(bad.ID()))
		_, err = n.Member(t.Context(), bad.ID())
		require.ErrorIs(t, err, taubyte.ErrForbidden)
	}
	requireShutOut(t, bad.NewStream, bad.Connect, a.Info())
	require.False(t, cut.Members().Revoked(bad.ID()))
	require.NoError(t, cut.Connect(t.Context(), b.Info()))
	testnet.Eventually(t, func() bool { return cut.Members().Revoked(bad.ID()) }, "who was cut off learns of it from whom it meets")

	// It is remembered over a restart.
	require.NoError(t, a.Close())
	net.Forget(a)
	again, err := taubyte.NewHost(t.Context(), store, taubyte.WithAuthority(net.Authority, taubyte.Roles()...), taubyte.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	require.True(t, again.Members().Revoked(bad.ID()))
	require.NoError(t, again.Close())
	require.NoError(t, store.Close())
}

func TestRevocationsMerge(t *testing.T) {
	net := testnet.New(t)
	a, b := net.Node(), net.Node()
	require.NoError(t, a.Network().ClosePeer(b.ID()))
	var ids []peer.ID
	for i := range 100 { // more than one question brings
		_, pub, err := crypto.GenerateEd25519Key(rand.Reader)
		require.NoError(t, err)
		id, err := peer.IDFromPublicKey(pub)
		require.NoError(t, err)
		ids = append(ids, id)
		net.Revoke([]*testnet.Node{a, b}[i%2], id)
	}
	net.Revoke(a, ids[0])
	net.Revoke(b, ids[0]) // both, each with its own signature
	_ = b.Connect(t.Context(), a.Info())
	for _, n := range []*testnet.Node{a, b} {
		for _, id := range ids {
			testnet.Eventually(t, func() bool { return n.Members().Revoked(id) }, "all are known to both")
		}
	}

	other, err := taubyte.NewAuthority()
	require.NoError(t, err)
	forged, err := other.Revoke(b.ID())
	require.NoError(t, err)
	require.ErrorIs(t, a.Members().Revoke(t.Context(), forged), taubyte.ErrForbidden)
	require.ErrorIs(t, a.Members().Revoke(t.Context(), []byte("x")), taubyte.ErrForbidden)
	require.False(t, a.Members().Revoked(b.ID()))
}

func TestGossipOfWhoIsNoMember(t *testing.T) {
	net := testnet.New(t)
	a, b := net.Node(), net.Node()
	i := net.Intruder(a, func(p peer.ID) []byte {
		signed, err := net.Authority.Sign(p, "", []taubyte.Role{taubyte.RoleSubstrate}, time.Hour)
		require.NoError(t, err)
		return signed
	})
	_, subs := subscribe(t, "t", a, b)
	topic, err := i.PubSub.Join("t")
	require.NoError(t, err)
	testnet.Eventually(t, func() bool { return len(topic.ListPeers()) == 1 }, "the intruder is a member")
	for range 100 {
		sk, _, err := crypto.GenerateEd25519Key(rand.Reader)
		require.NoError(t, err)
		id, err := peer.IDFromPrivateKey(sk)
		require.NoError(t, err)
		require.NoError(t, topic.Publish(t.Context(), []byte("made up"), pubsub.WithSecretKeyAndPeerId(sk, id)))
	}
	require.NoError(t, topic.Publish(t.Context(), []byte("its own")))
	hears(t, subs[0], i.ID())
	// b is not connected to the intruder: it learns who that is from a, which passed the
	// message on.
	testnet.Eventually(t, func() bool {
		require.NoError(t, topic.Publish(t.Context(), []byte("its own")))
		_, ok := b.Members().Known(i.ID())
		return ok
	}, "who is not connected is known")
	hears(t, subs[1], i.ID())
	require.Equal(t, network.NotConnected, b.Network().Connectedness(i.ID()))
}

func TestMessagesIntroduceTheirAuthor(t *testing.T) {
	net := testnet.New(t)
	a, b := net.Node(), net.Node()
	for _, n := range []*testnet.Node{a, b} {
		remove, err := n.Members().Introduce("t", func(m []byte) []byte { return m })
		require.NoError(t, err)
		defer remove()
		_, err = n.Members().Introduce("t", func(m []byte) []byte { return m })
		require.ErrorIs(t, err, taubyte.ErrConflict)
	}
	_, subs := subscribe(t, "t", a, b)
	var signed []byte
	i := net.Intruder(a, func(p peer.ID) []byte {
		var err error
		signed, err = net.Authority.Sign(p, "", []taubyte.Role{taubyte.RoleSubstrate}, time.Hour)
		require.NoError(t, err)
		return signed
	})
	topic, err := i.PubSub.Join("t")
	require.NoError(t, err)
	testnet.Eventually(t, func() bool { return len(topic.ListPeers()) == 1 }, "the intruder is a member")
	require.NoError(t, topic.Publish(t.Context(), []byte("no membership")))
	require.NoError(t, topic.Publish(t.Context(), b.Members().Signed()))
	var m taubyte.Membership
	testnet.Eventually(t, func() (ok bool) { // gossip passes on when its mesh is made
		require.NoError(t, topic.Publish(t.Context(), signed))
		m, ok = b.Members().Known(i.ID())
		return ok
	}, "b learns who it is")
	hears(t, subs[1], i.ID())
	require.Equal(t, []taubyte.Role{taubyte.RoleSubstrate}, m.Roles)
	require.Len(t, b.Members().All(), 3)
}

func TestAdmissionOfAMemberCostsNothing(t *testing.T) {
	net := testnet.New(t)
	a, b := net.Node(), net.Node()
	ctx, id := t.Context(), b.ID()
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if _, err := a.Member(ctx, id); err != nil {
			t.Fatal(err)
		}
	}))
}

func TestNodeNames(t *testing.T) {
	for _, good := range []string{"a", "edge", "g2", "node-1", "frankfurt"} {
		require.NoError(t, taubyte.CheckNodeName(good), good)
	}
	for _, bad := range []string{"", "Edge", "a.b", "-a", "a-", "seer", "gateway", "console", "api", "www", "ns", "ns1", "localhost", "12345678", "my-app-12345678", "main--shop", "ä", "a b",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"} {
		require.ErrorIs(t, taubyte.CheckNodeName(bad), taubyte.ErrInvalid, bad)
	}
	net := testnet.New(t)
	n := net.Named("edge")
	m, err := net.Node().Member(t.Context(), n.ID())
	require.NoError(t, err)
	require.Equal(t, "edge", m.Name)
	_, err = net.Authority.Sign(n.ID(), "console", nil, time.Hour)
	require.ErrorIs(t, err, taubyte.ErrInvalid)
	_, err = net.Authority.Sign(n.ID(), "", nil, 2*taubyte.MaxMembershipLifetime)
	require.ErrorIs(t, err, taubyte.ErrInvalid)
}

func FuzzVerifyRevocation(f *testing.F) {
	a, err := taubyte.NewAuthority()
	require.NoError(f, err)
	signed, err := a.Revoke("p")
	require.NoError(f, err)
	f.Add(signed)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := a.Network().VerifyRevocation(b, time.Now())
		if err == nil {
			require.Equal(t, peer.ID("p"), r.Peer)
		}
	})
}

// FuzzShownMemberships sends a member what a peer may send of the membership protocol.
func FuzzShownMemberships(f *testing.F) {
	net := testnet.New(f)
	member := net.Node()
	i := net.Intruder(member, func(p peer.ID) []byte {
		signed, err := net.Authority.Sign(p, "", taubyte.Roles(), time.Hour)
		require.NoError(f, err)
		return signed
	})
	f.Add([]byte{}, true)
	f.Add([]byte{255, 255, 255, 255, 255, 255, 255, 255, 255, 1}, true)
	f.Add([]byte("\x02{}\x01x"), true)
	f.Add([]byte(`{"membership":"AAAA","digest":"AA==","who":"x"}`), false)
	f.Fuzz(func(t *testing.T, b []byte, framed bool) {
		s, err := i.NewStream(t.Context(), member.ID(), "/taubyte/membership/2")
		if err != nil {
			t.Skip() // shut out for what it sent before
		}
		if !framed {
			b = append([]byte{byte(len(b))}, b...)
		}
		_, _ = s.Write(b)
		_ = s.CloseWrite()
		answer, _ := io.ReadAll(s)
		require.Less(t, len(answer), 1<<12)
	})
}
