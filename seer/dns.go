package seer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/miekg/dns"

	"github.com/taubyte/taubyte"
)

const (
	answerTTL   = 30 // seconds: how long a node that is gone may be answered with
	negativeTTL = 10
	maxAnswers  = 8   // addresses in one answer
	rateLimit   = 200 // queries a second from one address, in the long run
	rateBurst   = 400
	rateClients = 1 << 16 // addresses that are counted
)

// gatewayProtocol is what a gateway provides; seer can't import it.
const gatewayProtocol protocol.ID = "/taubyte/gateway/1"

// dnsServer answers for one zone:
//
//	<service>.<zone>   the nodes that run a service
//	<node>.<zone>      the node of that name
//	<zone>             the gateways
//	a project's host   the gateways
//	a name with texts  the TXT records that nodes of role auth asked for, of any zone
//	_acme-challenge.<host of a project>   nothing, while it has no texts: the zone that
//	                                      the host's owner delegates to this server
//
// Nothing else is there. Answers come from a picture of the directory that is swapped
// when it changes.
type dnsServer struct {
	agent   *Agent
	zone    string // with the dot at its end, lower-case
	hosts   func(string) Presence
	addr    string
	udp     *dns.Server
	tcp     *dns.Server
	picture atomic.Pointer[picture]
	texts   *texts
	limit   limiter
	stop    context.CancelFunc
	wg      sync.WaitGroup
}

// picture is what the zone holds at a moment: addresses by first label, sorted.
type picture struct {
	serial   uint32
	names    map[string][]netip.Addr
	gateways []netip.Addr
}

func startDNS(ctx context.Context, addr, zone string, hosts func(string) Presence, a *Agent) (*dnsServer, error) {
	zone = dns.CanonicalName(zone)
	if zone == "." {
		return nil, fmt.Errorf("%w DNS server: no zone", taubyte.ErrInvalid)
	}
	if hosts == nil {
		hosts = func(string) Presence { return Absent }
	}
	d := &dnsServer{agent: a, zone: zone, hosts: hosts, texts: &texts{}, limit: limiter{clients: map[netip.Addr]*bucket{}}}
	pc, l, err := listenBoth(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("listening for DNS: %w", err)
	}
	d.addr = pc.LocalAddr().String()
	life, stop := context.WithCancel(context.Background())
	d.stop = stop
	d.picture.Store(&picture{})
	d.redraw(a.Nodes())
	handler := dns.HandlerFunc(d.serve)
	var up sync.WaitGroup
	up.Add(2)
	d.udp = &dns.Server{PacketConn: pc, Handler: handler, NotifyStartedFunc: up.Done, UDPSize: dns.DefaultMsgSize}
	d.tcp = &dns.Server{Listener: l, Handler: handler, NotifyStartedFunc: up.Done, MaxTCPQueries: 128,
		IdleTimeout: func() time.Duration { return 10 * time.Second }}
	d.wg.Go(func() { _ = d.udp.ActivateAndServe() })
	d.wg.Go(func() { _ = d.tcp.ActivateAndServe() })
	up.Wait()
	d.wg.Go(func() {
		for {
			changed := a.Changed()
			d.redraw(a.Nodes())
			select {
			case <-changed:
			case <-life.Done():
				return
			}
			select { // heartbeats come in crowds
			case <-time.After(200 * time.Millisecond):
			case <-life.Done():
				return
			}
		}
	})
	return d, nil
}

// listenBoth takes a port for UDP and for TCP. Where any will do, that of one may be taken
// for the other: then another is tried.
func listenBoth(ctx context.Context, addr string) (net.PacketConn, net.Listener, error) {
	for try := 0; ; try++ {
		pc, err := new(net.ListenConfig).ListenPacket(ctx, "udp", addr)
		if err != nil {
			return nil, nil, err
		}
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", pc.LocalAddr().String())
		if err == nil {
			return pc, l, nil
		}
		err = errors.Join(err, pc.Close())
		if try == 20 || !strings.HasSuffix(addr, ":0") {
			return nil, nil, err
		}
	}
}

func (d *dnsServer) Close() error {
	d.stop()
	err := errors.Join(d.udp.Shutdown(), d.tcp.Shutdown())
	d.wg.Wait()
	d.agent.zone.Store(nil)
	return err
}

// draw makes the picture of a directory. Where nobody of a name is surely alive, those
// that may be are better than none.
func draw(nodes []Node) *picture {
	p := newPicture(nodes, Alive)
	maybe := newPicture(nodes, Suspect)
	for name, addrs := range maybe.names {
		if _, ok := p.names[name]; !ok {
			p.names[name] = addrs
		}
	}
	if len(p.gateways) == 0 {
		p.gateways = maybe.gateways
	}
	for _, r := range taubyte.Roles() { // also where nobody runs it
		if _, ok := p.names[string(r)]; !ok {
			p.names[string(r)] = nil
		}
	}
	return p
}

// newPicture is the picture of the nodes of one health.
func newPicture(nodes []Node, health Health) *picture {
	p := &picture{names: map[string][]netip.Addr{}}
	for _, n := range nodes {
		if n.Health != health {
			continue
		}
		var addrs []netip.Addr
		for _, s := range n.Public {
			if a, err := netip.ParseAddr(s); err == nil {
				addrs = append(addrs, a.Unmap())
			}
		}
		// The root gives a name once. Should two have it, all agree on whose it is.
		if _, taken := p.names[n.Name]; !taken && taubyte.CheckNodeName(n.Name) == nil {
			p.names[n.Name] = addrs
		}
		for _, id := range n.Services {
			// "/taubyte/<service>/<version>"
			if parts := strings.Split(string(id), "/"); len(parts) == 4 && parts[1] == "taubyte" && slices.Contains(taubyte.Roles(), taubyte.Role(parts[2])) {
				p.names[parts[2]] = append(p.names[parts[2]], addrs...)
			}
			if id == gatewayProtocol {
				p.gateways = append(p.gateways, addrs...)
			}
		}
	}
	for name, addrs := range p.names {
		p.names[name] = sorted(addrs)
	}
	p.gateways = sorted(p.gateways)
	return p
}

// sorted returns addresses in order, each once.
func sorted(addrs []netip.Addr) []netip.Addr {
	addrs = slices.Clone(addrs)
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
}

// redraw swaps the picture in, with the serial that all seers give it.
func (d *dnsServer) redraw(nodes []Node) {
	next, now := draw(nodes), d.picture.Load()
	state := &zoneState{Digest: next.digest(d.zone)}
	before := d.agent.zone.Load()
	if before == nil {
		before = &zoneState{}
	}
	state.Serial = d.agent.serial(*before, state.Digest, time.Now())
	if *state == *before && now.serial != 0 {
		return
	}
	next.serial = state.Serial
	d.picture.Store(next)
	d.agent.zone.Store(state)
	d.agent.Announce()
}

func (d *dnsServer) serve(w dns.ResponseWriter, q *dns.Msg) {
	udp := w.RemoteAddr().Network() == "udp"
	if udp && !d.limit.allow(w.RemoteAddr()) {
		return // an answer would help who forges addresses
	}
	m := new(dns.Msg)
	m.SetReply(q)
	m.Authoritative = true
	size := dns.MinMsgSize
	if opt := q.IsEdns0(); opt != nil {
		if size = int(opt.UDPSize()); size < dns.MinMsgSize {
			size = dns.MinMsgSize
		}
		size = min(size, 1232) // what crosses everywhere unfragmented
		m.SetEdns0(1232, false)
		if opt.Version() != 0 {
			m.Rcode = dns.RcodeBadVers
			_ = w.WriteMsg(m)
			return
		}
	}
	switch {
	case q.Opcode != dns.OpcodeQuery:
		m.Rcode = dns.RcodeNotImplemented
	case len(q.Question) != 1 || q.Question[0].Qclass != dns.ClassINET || notOffered(q.Question[0].Qtype):
		m.Authoritative = false
		m.Rcode = dns.RcodeRefused
	default:
		d.answer(m, q.Question[0])
	}
	if udp {
		m.Truncate(size)
	}
	_ = w.WriteMsg(m)
}

// notOffered reports whether a type asks for something else than records of it (RFC 6895,
// 3.1): a transfer of the zone, a mailbox of old, a key. Of these there is only ANY.
func notOffered(t uint16) bool { return t >= 128 && t < dns.TypeANY || t == dns.TypeOPT }

// answer fills in what the zone has for a question. The question's case is kept in
// the answer (0x20 encoding).
func (d *dnsServer) answer(m *dns.Msg, q dns.Question) {
	name := dns.CanonicalName(q.Name)
	if texts := d.texts.of(name); len(texts) > 0 {
		d.answerText(m, q, texts)
		return
	}
	if !dns.IsSubDomain(d.zone, name) {
		d.delegated(m, q)
		return
	}
	p := d.picture.Load()
	label := strings.TrimSuffix(strings.TrimSuffix(name, d.zone), ".")
	addrs, known := p.names[label]
	if label == "" {
		addrs, known = p.gateways, true
	}
	// A name above one that has texts is there: a resolver that asks for it on its way
	// looks no further where it is not (RFC 8020).
	if !known && !d.texts.below(name) {
		switch d.hosts(strings.TrimSuffix(name, ".")) {
		case Served:
			addrs = p.gateways
		case Above: // the name is there, and has nothing
		case Unknown:
			m.Authoritative = false
			m.Rcode = dns.RcodeServerFailure
			return
		default:
			m.Rcode = dns.RcodeNameError
			m.Ns = []dns.RR{d.soa(p)}
			return
		}
	}
	header := func(t uint16) dns.RR_Header {
		return dns.RR_Header{Name: q.Name, Rrtype: t, Class: dns.ClassINET, Ttl: answerTTL}
	}
	addrs = slices.Clone(addrs)
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	for _, a := range addrs {
		if len(m.Answer) == maxAnswers {
			break
		}
		switch {
		case a.Is4() && (q.Qtype == dns.TypeA || q.Qtype == dns.TypeANY):
			m.Answer = append(m.Answer, &dns.A{Hdr: header(dns.TypeA), A: a.AsSlice()})
		case a.Is6() && (q.Qtype == dns.TypeAAAA || q.Qtype == dns.TypeANY):
			m.Answer = append(m.Answer, &dns.AAAA{Hdr: header(dns.TypeAAAA), AAAA: a.AsSlice()})
		}
	}
	if label == "" {
		switch q.Qtype {
		case dns.TypeSOA:
			m.Answer = append(m.Answer, d.soa(p))
		case dns.TypeNS:
			m.Answer = append(m.Answer, &dns.NS{Hdr: header(dns.TypeNS), Ns: "seer." + d.zone})
		}
	}
	if len(m.Answer) == 0 {
		m.Ns = []dns.RR{d.soa(p)} // the name is there, and nothing of that type
	}
}

func (d *dnsServer) soa(p *picture) dns.RR {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: d.zone, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: negativeTTL},
		Ns:  "seer." + d.zone, Mbox: "hostmaster." + d.zone, Serial: p.serial,
		Refresh: 3600, Retry: 600, Expire: 86400, Minttl: negativeTTL,
	}
}

// limiter bounds the answers to one address by token bucket.
type limiter struct {
	mu      sync.Mutex
	clients map[netip.Addr]*bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

func (l *limiter) allow(addr net.Addr) bool {
	u, ok := addr.(*net.UDPAddr)
	if !ok {
		return true
	}
	ip, ok := netip.AddrFromSlice(u.IP)
	if !ok {
		return true
	}
	if ip = ip.Unmap(); ip.Is6() {
		p, _ := ip.Prefix(56) // a household has as many addresses
		ip = p.Addr()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	b, ok := l.clients[ip]
	if !ok {
		if len(l.clients) >= rateClients {
			clear(l.clients)
		}
		b = &bucket{tokens: rateBurst, at: now}
		l.clients[ip] = b
	}
	b.tokens = min(rateBurst, b.tokens+now.Sub(b.at).Seconds()*rateLimit)
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
