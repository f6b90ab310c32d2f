package acme_test

import (
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

// serveNames answers DNS queries, over UDP and TCP, at an address of its own.
func serveNames(t *testing.T, handler dns.Handler) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	pc, err := net.ListenPacket("udp", l.Addr().String())
	require.NoError(t, err)
	for _, s := range []*dns.Server{{Listener: l, Handler: handler}, {PacketConn: pc, Handler: handler}} {
		up := make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		done := make(chan struct{})
		go func() { defer close(done); _ = s.ActivateAndServe() }()
		<-up
		t.Cleanup(func() { _ = s.Shutdown(); <-done })
	}
	return l.Addr().String()
}

// owners is an authoritative server of some zones: the root, or those of customers.
type owners struct {
	t     *testing.T
	zones []string

	mu      sync.Mutex
	records []dns.RR
}

// set adds records, as they stand in a zone file.
func (o *owners) set(records ...string) {
	o.t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, text := range records {
		rr, err := dns.NewRR(text)
		require.NoError(o.t, err)
		o.records = append(o.records, rr)
	}
}

func (o *owners) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	o.answer(m, dns.CanonicalName(q.Question[0].Name), q.Question[0].Qtype)
	_ = w.WriteMsg(m)
}

func (o *owners) answer(m *dns.Msg, name string, typ uint16) {
	o.mu.Lock()
	defer o.mu.Unlock()
	zone := ""
	for _, z := range o.zones {
		if dns.IsSubDomain(z, name) {
			zone = z
		}
	}
	if zone == "" {
		m.Rcode = dns.RcodeRefused
		return
	}
	there := false
	for _, rr := range o.records {
		at := rr.Header().Name
		switch {
		case rr.Header().Rrtype == dns.TypeNS && at != zone && dns.IsSubDomain(at, name):
			m.Ns = append(m.Ns, rr) // that zone is another server's
		case at == name && (rr.Header().Rrtype == typ || rr.Header().Rrtype == dns.TypeCNAME):
			m.Answer = append(m.Answer, rr)
		}
		there = there || dns.IsSubDomain(name, at)
	}
	if len(m.Ns) > 0 {
		m.Answer = nil
		return
	}
	m.Authoritative = true
	if !there && name != zone {
		m.Rcode = dns.RcodeNameError
	}
}

// world is a root, its customers' zones and the zone of a cluster, which real servers
// answer for; and a resolver of it. That one follows delegations and CNAMEs, asks a server
// for no more of a name than the server has to know (RFC 9156), takes a name that is not
// there to have nothing below (RFC 8020), and believes nobody who is not the authority.
type world struct {
	root      string
	customers *owners
	servers   func(nameserver string) []string // their addresses

	mu   sync.Mutex
	turn int
}

func newWorld(t *testing.T, zone string, seers func() []string) *world {
	root := &owners{t: t, zones: []string{"."}}
	root.set("example.com. NS ns.customers.test.", "example.org. NS ns.customers.test.", zone+". NS seer."+zone+".")
	w := &world{root: serveNames(t, root), customers: &owners{t: t, zones: []string{"example.com.", "example.org."}}}
	customers := serveNames(t, w.customers)
	w.servers = func(nameserver string) []string {
		switch nameserver {
		case "ns.customers.test.":
			return []string{customers}
		case "seer." + zone + ".":
			return seers()
		}
		return nil
	}
	return w
}

// resolve answers a query as a recursive server does.
func (w *world) resolve(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	name, typ := dns.CanonicalName(q.Question[0].Name), q.Question[0].Qtype
	for range 8 {
		in := w.follow(name, typ)
		if in == nil {
			break
		}
		m.Rcode, m.Answer = in.Rcode, append(m.Answer, in.Answer...)
		target := ""
		for _, rr := range in.Answer {
			if c, ok := rr.(*dns.CNAME); ok && typ != dns.TypeCNAME {
				target = dns.CanonicalName(c.Target)
			}
		}
		if target == "" {
			return m
		}
		name = target
	}
	m.Rcode = dns.RcodeServerFailure
	return m
}

// follow finds the authority for a name, from the root, and returns its answer. nil: there
// is none that answers.
func (w *world) follow(name string, typ uint16) *dns.Msg {
	at, zone := []string{w.root}, "."
	labels := dns.SplitDomainName(name)
	for i := len(labels) - 1; i >= 0; {
		part, want := dns.Fqdn(strings.Join(labels[i:], ".")), dns.TypeA
		if i == 0 {
			want = typ
		}
		in := w.ask(at, part, want)
		switch {
		case in == nil || in.Rcode != dns.RcodeSuccess && in.Rcode != dns.RcodeNameError:
			return nil
		case !in.Authoritative:
			if len(in.Ns) == 0 {
				return nil
			}
			ns, ok := in.Ns[0].(*dns.NS)
			if !ok || ns.Hdr.Name == zone || !dns.IsSubDomain(zone, ns.Hdr.Name) || !dns.IsSubDomain(ns.Hdr.Name, part) {
				return nil
			}
			at, zone = w.servers(ns.Ns), ns.Hdr.Name
		case i == 0 || in.Rcode == dns.RcodeNameError:
			return in
		default:
			i--
		}
	}
	return nil
}

// ask asks the servers of a zone, beginning with another each time.
func (w *world) ask(servers []string, name string, typ uint16) *dns.Msg {
	w.mu.Lock()
	w.turn++
	turn := w.turn
	w.mu.Unlock()
	q := new(dns.Msg)
	q.SetQuestion(name, typ)
	q.RecursionDesired = false
	for i := range servers {
		in, _, err := (&dns.Client{Timeout: 5 * time.Second}).Exchange(q, servers[(turn+i)%len(servers)])
		if err == nil {
			return in
		}
	}
	return nil
}
