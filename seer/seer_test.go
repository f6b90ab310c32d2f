package seer_test

import (
	"encoding/binary"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/seer"
)

// beat is the interval of heartbeats: a machine that stops for half a second makes nobody suspect.
const beat = 200 * time.Millisecond

func join(t *testing.T, n *testnet.Node, opts ...seer.Option) *seer.Agent {
	t.Helper()
	a, err := seer.Join(t.Context(), n, append([]seer.Option{seer.WithInterval(beat), seer.WithLogger(testnet.Logger(t))}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	return a
}

func health(a *seer.Agent, id peer.ID) seer.Health {
	n, _ := a.Node(id)
	return n.Health
}

func TestNodesKnowEachOther(t *testing.T) {
	nw := testnet.New(t)
	hub := nw.Named("hub")
	left := nw.Node()
	a, b := join(t, hub), join(t, left, seer.WithPlace("eu/1"))
	withdraw, err := left.Provide("/x/1", "x")
	require.NoError(t, err)
	remove := b.Report(func(l *seer.Load) { l.InFlight = 7 })
	testnet.Eventually(t, func() bool {
		n, ok := a.Node(left.ID())
		return ok && n.Health == seer.Alive && n.Load.InFlight == 7 && n.Place == "eu/1" && len(n.Services) == 1
	}, "the hub knows what the other runs and how busy it is")
	require.Equal(t, []peer.ID{left.ID()}, a.Find("/x/1"))
	require.Empty(t, a.Find("/y/1"))
	testnet.Eventually(t, func() bool { n, ok := b.Node(hub.ID()); return ok && n.Name == "hub" }, "the other knows the hub")

	withdraw()
	remove()
	testnet.Eventually(t, func() bool { return len(a.Find("/x/1")) == 0 }, "a service that ended is not found")
	b.Drain()
	testnet.Eventually(t, func() bool { return health(a, left.ID()) == seer.Draining }, "it drains")
}

func TestOneAgentForAHost(t *testing.T) {
	nw := testnet.New(t)
	n, other := nw.Node(), nw.Node()
	watch := join(t, other)
	a, b := join(t, n), join(t, n)
	testnet.Eventually(t, func() bool { return health(watch, n.ID()) == seer.Alive }, "seen")
	require.NoError(t, a.Close())
	require.NoError(t, a.Close(), "once more is no error, and takes nobody's share")
	require.Equal(t, seer.Alive, health(watch, n.ID()), "somebody still holds it")
	require.NoError(t, b.Close())
	testnet.Eventually(t, func() bool { return health(watch, n.ID()) == seer.Gone }, "it says that it leaves")

	join(t, n)
	testnet.Eventually(t, func() bool { return health(watch, n.ID()) == seer.Alive }, "it is back")
}

func TestALostNodeIsNoticed(t *testing.T) {
	nw := testnet.New(t)
	n := nw.Node()
	a := join(t, n)
	lost := nw.Node()
	join(t, lost)
	testnet.Eventually(t, func() bool { return health(a, lost.ID()) == seer.Alive }, "seen")
	_, err := lost.Provide("/x/1", "x")
	require.NoError(t, err)
	testnet.Eventually(t, func() bool { return len(a.Find("/x/1")) == 1 }, "found")
	nw.Forget(lost)
	require.NoError(t, lost.Close()) // as if its cable were cut: it can't say so
	testnet.Eventually(t, func() bool { return health(a, lost.ID()) == seer.Gone }, "gone")
	require.Empty(t, a.Find("/x/1"))
}

func TestAForgedHeartbeatIsNotBelieved(t *testing.T) {
	nw := testnet.New(t)
	honest, victim, liar := nw.Node(), nw.Node(), nw.Node()
	a := join(t, honest)
	join(t, victim)
	testnet.Eventually(t, func() bool { return health(a, victim.ID()) == seer.Alive }, "seen")

	topic, err := liar.PubSub().Join("/taubyte/seer/heartbeat/2")
	require.NoError(t, err)
	defer topic.Close()
	testnet.Eventually(t, func() bool { return len(topic.ListPeers()) == 2 }, "peers of the topic")
	forge := func(about peer.ID, service string) {
		raw, err := json.Marshal(map[string]any{
			"id": about, "name": "forged", "services": []string{service}, "addrs": []string{}, "leaving": about == victim.ID(),
			"sequence": 1 << 40, "startedAt": time.Now().Add(time.Hour), "interval": beat,
		})
		require.NoError(t, err)
		require.NoError(t, topic.Publish(t.Context(), carrying(liar.Members().Signed(), raw)))
	}
	forge(victim.ID(), "/x/1")
	require.NoError(t, topic.Publish(t.Context(), []byte("no heartbeat")))
	require.NoError(t, topic.Publish(t.Context(), make([]byte, 64<<10)))
	forge(liar.ID(), "/y/1") // about itself: believed, and it comes after the others
	testnet.Eventually(t, func() bool { return len(a.Find("/y/1")) == 1 }, "what it says of itself")
	n, _ := a.Node(liar.ID())
	require.Empty(t, n.Name, "but for its name")
	// The forged one would be the newest for an hour. A starved machine makes the victim late.
	testnet.Eventually(t, func() bool { return health(a, victim.ID()) == seer.Alive }, "what the victim says of itself holds")
	require.NotContains(t, a.Find("/x/1"), victim.ID())
}

// carrying is a message as the agents send it.
func carrying(signed, body []byte) []byte {
	return append(append(binary.AppendUvarint(nil, uint64(len(signed))), signed...), body...)
}

func TestAClockThatWasSetBackKeepsNobodyOut(t *testing.T) {
	nw := testnet.New(t)
	n, wrong := nw.Node(), nw.Node()
	a := join(t, n)
	topic, err := wrong.PubSub().Join("/taubyte/seer/heartbeat/2")
	require.NoError(t, err)
	testnet.Eventually(t, func() bool { return len(topic.ListPeers()) > 0 }, "peers of the topic")
	raw, err := json.Marshal(map[string]any{
		"id": wrong.ID(), "services": []protocol.ID{}, "addrs": []string{}, "sequence": 7, "startedAt": time.Now().Add(24 * time.Hour), "interval": beat,
	})
	require.NoError(t, err)
	require.NoError(t, topic.Publish(t.Context(), carrying(wrong.Members().Signed(), raw)))
	testnet.Eventually(t, func() bool { return health(a, wrong.ID()) == seer.Alive }, "its clock is a day ahead")
	require.NoError(t, topic.Close())
	testnet.Eventually(t, func() bool { return health(a, wrong.ID()) == seer.Gone }, "it stops")
	join(t, wrong)
	testnet.Eventually(t, func() bool { return health(a, wrong.ID()) == seer.Alive }, "and is back with its clock set right")
}

func TestAServiceCountsByItsRole(t *testing.T) {
	nw := testnet.New(t)
	n, edge := nw.Node(), nw.Node(taubyte.RoleSubstrate)
	s, err := seer.New(t.Context(), n, n.Store, seer.WithInterval(beat), seer.WithLogger(testnet.Logger(t)), seer.WithDNS("127.0.0.1:0", "cloud.example"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	for _, id := range []protocol.ID{"/taubyte/substrate/1", "/taubyte/gateway/1", "/taubyte/auth/1"} {
		_, err := edge.Provide(id, "x")
		require.NoError(t, err)
	}
	join(t, edge, seer.WithPublic("192.0.2.66"))
	testnet.Eventually(t, func() bool { return len(s.Find("/taubyte/substrate/1")) == 1 }, "what it may run is found")
	require.Empty(t, s.Find("/taubyte/auth/1"), "what it may not is not")
	ask := question(t, s.DNSAddr(), "udp")
	testnet.Eventually(t, func() bool { return len(ask("substrate.cloud.example", dns.TypeA).Answer) == 1 }, "in DNS as well")
	require.Empty(t, ask("gateway.cloud.example", dns.TypeA).Answer)
}

func TestNodesLearnOfEachOtherFromAThird(t *testing.T) {
	nw := testnet.New(t)
	hub := nw.Node()
	one := nw.Node()
	// The other knows the hub alone.
	h, err := taubyte.NewHost(t.Context(), taubyte.MemoryDatastore(), taubyte.WithAuthority(nw.Authority, taubyte.RoleSubstrate), taubyte.WithPeers(hub.Info()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	join(t, hub)
	join(t, one)
	join(t, &testnet.Node{NodeHost: h})
	testnet.Eventually(t, func() bool {
		s, err := h.NewStream(t.Context(), one.ID(), "/ipfs/ping/1.0.0")
		if err == nil {
			_ = s.Reset()
		}
		return err == nil
	}, "it can be dialled")
}

// hosts are those of projects: a generated one, and one with a name between.
func hosts(host string) seer.Presence {
	switch host {
	case "my-app-12345678.cloud.example", "www.team.cloud.example", "shop.example.com", "*.wild.example.com":
		return seer.Served
	case "team.cloud.example":
		return seer.Above
	case "early.cloud.example", "early.example.com":
		return seer.Unknown
	}
	return seer.Absent
}

// startDNS runs a seer with a zone on one node, gateways at public addresses on it
// and on another.
func startDNS(t *testing.T) (*seer.Service, string) {
	t.Helper()
	nw := testnet.New(t)
	n, edge := nw.Named("control"), nw.Named("edge")
	s, err := seer.New(t.Context(), n, n.Store, seer.WithInterval(beat), seer.WithLogger(testnet.Logger(t)),
		seer.WithDNS("127.0.0.1:0", "Cloud.Example"), seer.WithPublic("192.0.2.1"), seer.WithHosts(hosts))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	_, err = edge.Provide("/taubyte/gateway/1", "gateway")
	require.NoError(t, err)
	join(t, edge, seer.WithPublic("192.0.2.2", "2001:db8::2"))
	ask := question(t, s.DNSAddr(), "udp")
	testnet.Eventually(t, func() bool { return len(ask("gateway.cloud.example", dns.TypeA).Answer) == 1 }, "the gateway is known")
	return s, s.DNSAddr()
}

func question(t *testing.T, addr, network string) func(string, uint16) *dns.Msg {
	c := &dns.Client{Net: network, Timeout: 5 * time.Second}
	return func(name string, typ uint16) *dns.Msg {
		t.Helper()
		m := new(dns.Msg)
		m.SetQuestion(dns.Fqdn(name), typ)
		r, _, err := c.Exchange(m, addr)
		require.NoError(t, err)
		return r
	}
}

func TestDNS(t *testing.T) {
	s, addr := startDNS(t)
	for _, network := range []string{"udp", "tcp"} {
		ask := question(t, addr, network)
		a := func(name string) string { return ask(name, dns.TypeA).Answer[0].(*dns.A).A.String() }
		require.Equal(t, "192.0.2.2", a("gateway.cloud.example"), "a service")
		require.Equal(t, "192.0.2.1", a("seer.cloud.example"))
		require.Equal(t, "192.0.2.2", a("edge.cloud.example"), "a node")
		require.Equal(t, "192.0.2.2", a("my-app-12345678.cloud.example"), "a generated name: the gateways")
		require.Equal(t, "192.0.2.2", a("cloud.example"))
		r := ask("eDgE.cLoUd.ExAmPlE", dns.TypeAAAA)
		require.Equal(t, "2001:db8::2", r.Answer[0].(*dns.AAAA).AAAA.String())
		require.Equal(t, "eDgE.cLoUd.ExAmPlE.", r.Answer[0].Header().Name, "the question's case")
		require.True(t, r.Authoritative)

		soa := ask("cloud.example", dns.TypeSOA)
		require.NotZero(t, soa.Answer[0].(*dns.SOA).Serial)
		require.Equal(t, "seer.cloud.example.", ask("cloud.example", dns.TypeNS).Answer[0].(*dns.NS).Ns)
		for _, name := range []string{"a.b", "console", "zzz-no-such", "api", "x.edge", "x.gateway", "my-app-12345679", "_acme-challenge.edge", "xn--a"} {
			none := ask(name+".cloud.example", dns.TypeA)
			require.Equal(t, dns.RcodeNameError, none.Rcode, name)
			require.Empty(t, none.Answer)
			require.IsType(t, &dns.SOA{}, none.Ns[0])
		}
		require.Equal(t, "192.0.2.2", a("www.team.cloud.example"))
		between := ask("team.cloud.example", dns.TypeA)
		require.Equal(t, dns.RcodeSuccess, between.Rcode, "there are names below it")
		require.Empty(t, between.Answer)
		require.Equal(t, dns.RcodeServerFailure, ask("early.cloud.example", dns.TypeA).Rcode)
		for _, name := range []string{"cloud.example", "edge.cloud.example", "none.cloud.example"} {
			for _, typ := range []uint16{dns.TypeAXFR, dns.TypeIXFR, dns.TypeMAILB, dns.TypeMAILA, dns.TypeTSIG, dns.TypeTKEY} {
				r := ask(name, typ)
				require.Equal(t, dns.RcodeRefused, r.Rcode, "%s %s", name, dns.TypeToString[typ])
				require.Empty(t, r.Answer)
			}
		}
		require.Len(t, ask("edge.cloud.example", dns.TypeANY).Answer, 2)
		ns := ask("cloud.example", dns.TypeNS).Answer[0].(*dns.NS).Ns
		require.NotEmpty(t, ask(ns, dns.TypeA).Answer, "the name server has an address")
		empty := ask("edge.cloud.example", dns.TypeMX)
		require.Equal(t, dns.RcodeSuccess, empty.Rcode, "the name is there, that type is not")
		require.Empty(t, empty.Answer)
		require.IsType(t, &dns.SOA{}, empty.Ns[0])
		require.Empty(t, ask("hoarder.cloud.example", dns.TypeA).Answer, "a service that nobody runs")
		require.Equal(t, dns.RcodeRefused, ask("www.example.org", dns.TypeA).Rcode)
		require.Equal(t, dns.RcodeRefused, ask("notcloud.example", dns.TypeA).Rcode)
	}
	m := new(dns.Msg)
	m.SetQuestion("edge.cloud.example.", dns.TypeA)
	m.SetEdns0(4096, false)
	r, _, err := new(dns.Client).Exchange(m, addr)
	require.NoError(t, err)
	require.NotNil(t, r.IsEdns0())
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
}

// One content of a zone has one serial, whichever seer is asked.
func TestSerialsAgree(t *testing.T) {
	nw := testnet.New(t)
	start := func(n *testnet.Node) func(string, uint16) *dns.Msg {
		s, err := seer.New(t.Context(), n, n.Store, seer.WithInterval(beat), seer.WithLogger(testnet.Logger(t)), seer.WithDNS("127.0.0.1:0", "cloud.example"))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		return question(t, s.DNSAddr(), "udp")
	}
	seers := []func(string, uint16) *dns.Msg{start(nw.Named("one")), start(nw.Named("two"))}
	serials := func() (all []uint32) {
		for _, ask := range seers {
			all = append(all, ask("cloud.example", dns.TypeSOA).Answer[0].(*dns.SOA).Serial)
		}
		return all
	}
	agree := func(after uint32, names ...string) (serial uint32) {
		testnet.Eventually(t, func() bool {
			for _, ask := range seers {
				for _, name := range names {
					if len(ask(name+".cloud.example", dns.TypeA).Answer) == 0 {
						return false
					}
				}
			}
			all := serials()
			serial = all[0]
			for _, s := range all {
				if s != serial || s <= after {
					return false
				}
			}
			return true
		}, "one serial, greater than %d, with %v", after, names)
		return serial
	}
	first := agree(0, "one", "two")
	edge := nw.Named("edge")
	join(t, edge, seer.WithPublic("192.0.2.9"))
	second := agree(first, "one", "two", "edge")
	// One that comes later takes the serial that there is, unless it changes the zone.
	seers = append(seers, start(nw.Named("three")))
	agree(second, "one", "two", "edge", "three")
}

// A node that is given no address for users has those at which other nodes reach it.
func TestANodeHasTheAddressesThatOthersReachItBy(t *testing.T) {
	nw := testnet.New(t)
	n, edge := nw.Named("control"), nw.Named("edge")
	s, err := seer.New(t.Context(), n, n.Store, seer.WithInterval(beat), seer.WithLogger(testnet.Logger(t)), seer.WithDNS("127.0.0.1:0", "cloud.example"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	_, err = edge.Provide("/taubyte/gateway/1", "gateway")
	require.NoError(t, err)
	join(t, edge)
	ask := question(t, s.DNSAddr(), "udp")
	for _, name := range []string{"cloud.example", "gateway.cloud.example", "edge.cloud.example", "seer.cloud.example", "control.cloud.example"} {
		testnet.Eventually(t, func() bool {
			r := ask(name, dns.TypeA)
			return len(r.Answer) == 1 && r.Answer[0].(*dns.A).A.String() == "127.0.0.1"
		}, "%s", name)
	}
}

// The only node of a service is better than none while its heartbeats are late.
func TestASuspectNodeIsAnsweredWithWhereThereIsNoOther(t *testing.T) {
	nw := testnet.New(t)
	n, lost := nw.Node(), nw.Named("lost")
	s, err := seer.New(t.Context(), n, n.Store, seer.WithInterval(time.Second), seer.WithLogger(testnet.Logger(t)), seer.WithDNS("127.0.0.1:0", "cloud.example"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	_, err = lost.Provide("/taubyte/hoarder/1", "x")
	require.NoError(t, err)
	a, err := seer.Join(t.Context(), lost, seer.WithInterval(time.Second), seer.WithPublic("192.0.2.7"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = a.Close() })
	ask := question(t, s.DNSAddr(), "udp")
	testnet.Eventually(t, func() bool { return len(ask("hoarder.cloud.example", dns.TypeA).Answer) == 1 }, "seen")
	nw.Forget(lost)
	require.NoError(t, lost.Close())
	testnet.Eventually(t, func() bool { return health(s.Agent, lost.ID()) == seer.Suspect }, "suspect")
	require.Len(t, ask("hoarder.cloud.example", dns.TypeA).Answer, 1)
	require.Len(t, ask("lost.cloud.example", dns.TypeA).Answer, 1)
}

func TestDNSRateIsBounded(t *testing.T) {
	_, addr := startDNS(t)
	conn, err := dns.Dial("udp", addr)
	require.NoError(t, err)
	defer conn.Close()
	m := new(dns.Msg)
	m.SetQuestion("edge.cloud.example.", dns.TypeA)
	answered := 0
	for range 2000 {
		if conn.WriteMsg(m) != nil {
			continue
		}
	}
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(500*time.Millisecond)))
	for {
		if _, err := conn.ReadMsg(); err != nil {
			break
		}
		answered++
	}
	require.Positive(t, answered)
	require.Less(t, answered, 1500)
}

func TestAPI(t *testing.T) {
	s, _ := startDNS(t)
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		return w
	}
	var nodes []seer.Node
	require.NoError(t, json.Unmarshal(get("/nodes?service=/taubyte/gateway/1").Body.Bytes(), &nodes))
	require.Len(t, nodes, 1)
	require.Equal(t, "edge", nodes[0].Name)
	require.Equal(t, http.StatusOK, get("/nodes/control").Code)
	require.Equal(t, http.StatusNotFound, get("/nodes/none").Code)
	testnet.Eventually(t, func() bool { return strings.Contains(get("/nodes/control/usage").Body.String(), "health") }, "its history")

	// The methods check who asks; the directory that the node itself has is no method of these.
	_, err := s.Directory(testnet.Reader(t.Context()), "")
	require.NoError(t, err)
	for what, ctx := range testnet.Outsiders(t.Context(), "shop") {
		_, err := s.Directory(ctx, "")
		require.ErrorIs(t, err, taubyte.ErrForbidden, what)
		_, err = s.Named(ctx, "control")
		require.ErrorIs(t, err, taubyte.ErrForbidden, what)
		_, err = s.Usage(ctx, nodes[0].ID)
		require.ErrorIs(t, err, taubyte.ErrForbidden, what)
		require.ErrorIs(t, s.AddText(ctx, "_acme-challenge.x.test", "v", time.Minute), taubyte.ErrForbidden, what)
		require.ErrorIs(t, s.RemoveText(ctx, "_acme-challenge.x.test", "v"), taubyte.ErrForbidden, what)
	}
	require.NoError(t, s.AddText(t.Context(), "_acme-challenge.x.test", "v", time.Minute))
}

// A resolver comes to the texts by a CNAME into the zone, asking for the names above them on
// its way, and by the delegation of one name of another zone.
func TestDNSOfTexts(t *testing.T) {
	s, addr := startDNS(t)
	ask := question(t, addr, "udp")
	text := func(name string) string {
		r := ask(name, dns.TypeTXT)
		require.True(t, r.Authoritative)
		require.Len(t, r.Answer, 1)
		return r.Answer[0].(*dns.TXT).Txt[0]
	}
	const inZone, outside = "_acme-challenge.shop.example.com.cloud.example", "_acme-challenge.shop.example.com"
	require.NoError(t, s.AddText(t.Context(), inZone, "one", time.Minute))
	require.NoError(t, s.AddText(t.Context(), inZone, "two", time.Minute))
	require.NoError(t, s.AddText(t.Context(), "_acme-challenge.other.example.com.cloud.example", "x", time.Minute))
	require.Len(t, ask(inZone, dns.TypeTXT).Answer, 2)
	require.NoError(t, s.RemoveText(t.Context(), inZone, "two"))
	require.Equal(t, "one", text(inZone))
	for _, above := range []string{"com", "example.com", "shop.example.com"} {
		r := ask(above+".cloud.example", dns.TypeA)
		require.Equal(t, dns.RcodeSuccess, r.Rcode, above)
		require.True(t, r.Authoritative)
		require.Empty(t, r.Answer)
		require.Equal(t, "cloud.example.", r.Ns[0].(*dns.SOA).Hdr.Name)
	}
	require.NoError(t, s.RemoveText(t.Context(), inZone, "one"))
	require.NoError(t, s.RemoveText(t.Context(), inZone, "one"))
	require.Equal(t, dns.RcodeNameError, ask("shop.example.com.cloud.example", dns.TypeA).Rcode)
	require.Equal(t, dns.RcodeSuccess, ask("example.com.cloud.example", dns.TypeA).Rcode, "the other is there")

	// What is delegated for a host that is served is a zone of this server, with texts and
	// without.
	for _, name := range []string{outside, "_acme-challenge.wild.example.com"} {
		for _, texts := range []int{0, 1} {
			if texts > 0 {
				require.NoError(t, s.AddText(t.Context(), name, "value", time.Minute))
				require.Equal(t, "value", text(name))
			}
			require.Equal(t, name+".", ask(name, dns.TypeSOA).Answer[0].(*dns.SOA).Hdr.Name)
			require.Equal(t, "seer.cloud.example.", ask(name, dns.TypeNS).Answer[0].(*dns.NS).Ns)
			r := ask(name, dns.TypeA)
			require.Equal(t, dns.RcodeSuccess, r.Rcode)
			require.True(t, r.Authoritative)
			require.Empty(t, r.Answer)
			require.Equal(t, name+".", r.Ns[0].(*dns.SOA).Hdr.Name)
		}
		require.NoError(t, s.RemoveText(t.Context(), name, "value"))
		require.Empty(t, ask(name, dns.TypeTXT).Answer)
	}
	require.Equal(t, dns.RcodeServerFailure, ask("_acme-challenge.early.example.com", dns.TypeTXT).Rcode)
	for _, name := range []string{"shop.example.com", "_acme-challenge.none.example.com", "x._acme-challenge.shop.example.com", "_acme-challenge"} {
		require.Equal(t, dns.RcodeRefused, ask(name, dns.TypeTXT).Rcode, name)
	}
}

// FuzzHeartbeat checks that whatever a member says of itself takes no node down,
// and that nothing is believed of another.
func FuzzHeartbeat(f *testing.F) {
	nw := testnet.New(f)
	n, other := nw.Node(), nw.Node()
	a, err := seer.Join(f.Context(), n, seer.WithInterval(beat), seer.WithLogger(testnet.Logger(f)))
	require.NoError(f, err)
	f.Cleanup(func() { require.NoError(f, a.Close()) })
	topic, err := other.PubSub().Join("/taubyte/seer/heartbeat/2")
	require.NoError(f, err)
	f.Cleanup(func() { require.NoError(f, topic.Close()) })
	for _, seed := range []string{
		``, `{}`, `[]`, `{"id":"` + n.ID().String() + `","name":"forged","interval":1}`,
		`{"id":"` + other.ID().String() + `","addrs":["/ip4/1.2.3.4","x"],"services":["/taubyte/auth/1",""],"interval":1000000,"sequence":18446744073709551615}`,
		`{"id":"` + other.ID().String() + `","interval":60000000000,"startedAt":"9999-01-01T00:00:00Z","leaving":true}`,
	} {
		f.Add(carrying(other.Members().Signed(), []byte(seed)))
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		_ = topic.Publish(t.Context(), raw)
		self, ok := a.Node(n.ID())
		require.True(t, ok)
		require.Empty(t, self.Name)
	})
}
