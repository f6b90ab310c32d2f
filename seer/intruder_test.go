package seer_test

import (
	"crypto/rand"
	"encoding/json"
	"net"
	"sync/atomic"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/seer"
)

// substrate signs memberships as what runs strangers' code.
func substrate(t *testing.T, nw *testnet.Net, name string) func(peer.ID) []byte {
	return func(p peer.ID) []byte {
		signed, err := nw.Authority.Sign(p, name, []taubyte.Role{taubyte.RoleSubstrate}, time.Hour)
		require.NoError(t, err)
		return signed
	}
}

func topicOf(t *testing.T, i *testnet.Intruder) *pubsub.Topic {
	t.Helper()
	topic, err := i.PubSub.Join("/taubyte/seer/heartbeat/2")
	require.NoError(t, err)
	t.Cleanup(func() { _ = topic.Close() })
	testnet.Eventually(t, func() bool { return len(topic.ListPeers()) > 0 }, "peers of the topic")
	return topic
}

func TestForgedHeartbeatsDialNobody(t *testing.T) {
	nw := testnet.New(t)
	n := nw.Node()
	a := join(t, n)
	i := nw.Intruder(n, substrate(t, nw, ""))
	topic := topicOf(t, i)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	var dialled atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			dialled.Add(1)
			_ = c.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	known := len(n.Peerstore().PeersWithAddrs())
	own := substrate(t, nw, "")(i.ID())
	body := func(id peer.ID, seq int) []byte {
		raw, err := json.Marshal(map[string]any{"id": id, "services": []string{"/y/1"}, "addrs": []string{"/ip4/127.0.0.1/tcp/" + port},
			"sequence": seq, "startedAt": time.Now(), "interval": beat})
		require.NoError(t, err)
		return raw
	}
	for range 300 {
		sk, _, err := crypto.GenerateEd25519Key(rand.Reader)
		require.NoError(t, err)
		id, err := peer.IDFromPrivateKey(sk)
		require.NoError(t, err)
		// With the membership of another: made-up signers have none of their own.
		require.NoError(t, topic.Publish(t.Context(), carrying(own, body(id, 1)), pubsub.WithSecretKeyAndPeerId(sk, id)))
	}
	seq := 0
	testnet.Eventually(t, func() bool { // its own come after those, and are believed
		seq++
		require.NoError(t, topic.Publish(t.Context(), carrying(own, body(i.ID(), seq))))
		return len(a.Find("/y/1")) == 1
	}, "the intruder's own heartbeat")
	require.LessOrEqual(t, len(n.Peerstore().PeersWithAddrs()), known+1, "no address of theirs is remembered")
	require.Len(t, a.Nodes(), 2)
	require.Zero(t, dialled.Load(), "connections to the address that they named")
}

func TestForgedLoadIsRefused(t *testing.T) {
	nw := testnet.New(t)
	n := nw.Node()
	a := join(t, n)
	i := nw.Intruder(n, substrate(t, nw, ""))
	topic := topicOf(t, i)
	own, started, seq := substrate(t, nw, "")(i.ID()), time.Now(), 0
	say := func(load string) {
		seq++
		raw, err := json.Marshal(map[string]any{"id": i.ID(), "services": []string{}, "addrs": []string{}, "load": json.RawMessage(load),
			"sequence": seq, "startedAt": started, "interval": time.Second})
		require.NoError(t, err)
		require.NoError(t, topic.Publish(t.Context(), carrying(own, raw)))
	}
	for _, load := range []string{
		`{"cpu":-1e300}`, `{"cpu":1e300}`, `{"memory":-0.1}`, `{"memory":2}`, `{"inFlight":-1}`, `{"queued":-9223372036854775808}`, `{"inFlight":9223372036854775807}`, `{"cpu":"NaN"}`,
	} {
		say(load)
	}
	say(`{"cpu":0.5,"memory":1,"inFlight":3}`)
	testnet.Eventually(t, func() bool {
		node, ok := a.Node(i.ID())
		require.True(t, !ok || node.Load.InFlight == 3, "%+v", node.Load)
		return ok
	}, "a load that can be")
}

func TestNamesComeFromMembershipsAlone(t *testing.T) {
	nw := testnet.New(t)
	n := nw.Node()
	s, err := seer.New(t.Context(), n, n.Store, seer.WithInterval(beat), seer.WithLogger(testnet.Logger(t)), seer.WithDNS("127.0.0.1:0", "cloud.example"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	join(t, nw.Named("edge", taubyte.RoleSubstrate), seer.WithPublic("192.0.2.1"))
	ask := question(t, s.DNSAddr(), "udp")
	testnet.Eventually(t, func() bool { return len(ask("edge.cloud.example", dns.TypeA).Answer) == 1 }, "the node's name")

	i := nw.Intruder(n, substrate(t, nw, "other"))
	topic, own := topicOf(t, i), substrate(t, nw, "other")(i.ID())
	for seq, name := range []string{"edge", "console", "gateway", "EDGE", ""} {
		raw, err := json.Marshal(map[string]any{"id": i.ID(), "name": name, "services": []string{"/taubyte/gateway/1"}, "addrs": []string{}, "public": []string{"192.0.2.66"},
			"sequence": seq + 1, "startedAt": time.Unix(1, 0), "interval": time.Minute})
		require.NoError(t, err)
		require.NoError(t, topic.Publish(t.Context(), carrying(own, raw)))
	}
	testnet.Eventually(t, func() bool { return len(ask("other.cloud.example", dns.TypeA).Answer) == 1 }, "it has the name that the root gave it")
	for range 20 {
		for _, name := range []string{"edge", "console", "gateway", "www"} {
			for _, rr := range ask(name+".cloud.example", dns.TypeA).Answer {
				require.NotEqual(t, "192.0.2.66", rr.(*dns.A).A.String(), name)
			}
		}
		time.Sleep(beat / 5)
	}

	// A revoked node leaves the directory and DNS at once.
	start := time.Now()
	nw.Revoke(n, i.ID())
	testnet.Eventually(t, func() bool {
		_, there := s.Node(i.ID())
		return !there && len(ask("other.cloud.example", dns.TypeA).Answer) == 0
	}, "gone")
	t.Logf("gone from the directory and from DNS %s after the revocation", time.Since(start))
	require.Less(t, time.Since(start), 10*time.Second)
	_ = topic.Publish(t.Context(), carrying(own, []byte("{}")))
}
