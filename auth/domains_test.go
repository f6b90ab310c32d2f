package auth_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/tns"
)

// zone is a DNS server of the test with TXT records.
type zone struct {
	mu    sync.Mutex
	texts map[string][]string
	fails bool
}

func (z *zone) set(name string, texts ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.texts[name+"."] = texts
}

func (z *zone) fail(yes bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.fails = yes
}

func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	m := new(dns.Msg)
	m.SetReply(q)
	name := strings.ToLower(q.Question[0].Name)
	switch texts := z.texts[name]; {
	case z.fails:
		m.Rcode = dns.RcodeServerFailure
	case q.Question[0].Qtype != dns.TypeTXT || len(texts) == 0:
		m.Rcode = dns.RcodeNameError
	default:
		for _, v := range texts {
			var parts []string
			for ; len(v) > 255; v = v[255:] {
				parts = append(parts, v[:255])
			}
			m.Answer = append(m.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: append(parts, v)})
		}
	}
	_ = w.WriteMsg(m)
}

// serveZone starts the server and returns a resolver that asks it.
func serveZone(t *testing.T) (*zone, *net.Resolver) {
	t.Helper()
	z := &zone{texts: map[string][]string{}}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	l, err := net.Listen("tcp", pc.LocalAddr().String())
	require.NoError(t, err)
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: z}, {Listener: l, Handler: z}} {
		up, done := make(chan struct{}), make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		go func() { defer close(done); _ = s.ActivateAndServe() }()
		<-up
		t.Cleanup(func() { _ = s.Shutdown(); <-done })
	}
	return z, &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, pc.LocalAddr().String())
	}}
}

// clock is a time that the test moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func TestOwnershipOfADomain(t *testing.T) {
	network := testnet.New(t)
	z, resolver := serveZone(t)
	c := &clock{at: time.Now()}
	ctx := t.Context()
	node := network.Node()
	registry, err := tns.New(ctx, node, node.Store, tns.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, registry.Close()) })
	settings := auth.WithSettings(auth.Settings{Zone: "cloud.test"})
	s := open(t, node, auth.WithResolver(resolver), auth.WithClock(c.now), settings)
	second := network.Node(taubyte.RoleAuth)
	other := open(t, second, auth.WithResolver(resolver), auth.WithClock(c.now), settings)
	for _, p := range []auth.Project{{ID: "QmShop"}, {ID: "QmRival"}} {
		_, err := s.CreateProject(ctx, p)
		require.NoError(t, err)
	}

	for host, want := range map[string]error{
		"": taubyte.ErrInvalid, "localhost": taubyte.ErrInvalid, "a b.example": taubyte.ErrInvalid, "../x.example": taubyte.ErrInvalid,
		"shop.cloud.test": taubyte.ErrInvalid, "*.*.example": taubyte.ErrInvalid,
	} {
		_, err := s.ClaimDomain(ctx, "QmShop", host)
		require.ErrorIs(t, err, want, host)
	}
	_, err = s.ClaimDomain(ctx, "QmNobody", "shop.example")
	require.ErrorIs(t, err, taubyte.ErrNotFound)
	_, err = s.CheckDomain(ctx, "QmShop", "shop.example")
	require.ErrorIs(t, err, taubyte.ErrNotFound, "nothing was claimed")
	stranger := taubyte.WithPrincipal(ctx, taubyte.Principal{Kind: taubyte.KindUser, Verb: taubyte.VerbDeploy, Projects: []taubyte.ProjectID{"QmShop"}})
	_, err = s.ClaimDomain(stranger, "QmShop", "shop.example")
	require.ErrorIs(t, err, taubyte.ErrForbidden, "who may deploy does not administer")

	mine, err := s.ClaimDomain(ctx, "QmShop", "Shop.example.")
	require.NoError(t, err)
	require.Equal(t, "_taubyte.shop.example", mine.Record)
	require.Equal(t, auth.DomainPending, mine.State)
	require.Equal(t, &auth.Delegation{Record: "_acme-challenge.shop.example", CNAME: "_acme-challenge.shop.example.cloud.test", NS: "seer.cloud.test"}, mine.Delegation)
	require.Empty(t, auth.DelegationOf(strings.Repeat("long.", 46)+"example", "cloud.test").CNAME, "no name is as long")
	check := func(s *auth.Service, project taubyte.ProjectID) auth.Domain {
		d, err := s.CheckDomain(ctx, project, "shop.example")
		require.NoError(t, err)
		return d
	}
	require.Equal(t, auth.DomainPending, check(s, "QmShop").State, "no record yet")

	// What is no token of this network, of this project, of this host.
	elsewhere, err := s.ClaimDomain(ctx, "QmShop", "other.example")
	require.NoError(t, err)
	theirs, err := s.ClaimDomain(ctx, "QmRival", "shop.example")
	require.NoError(t, err)
	z.set(mine.Record, "v=spf1", elsewhere.Token, mine.Token[:len(mine.Token)-4]+"AAAA", theirs.Token)
	require.Equal(t, auth.DomainPending, check(s, "QmShop").State)

	// The other node checks what this one has signed.
	z.set(mine.Record, "v=spf1", mine.Token)
	c.move(time.Second)
	testnet.Eventually(t, func() bool {
		d, err := other.CheckDomain(ctx, "QmShop", "shop.example")
		return err == nil && d.State == auth.DomainOwned
	}, "not owned")
	testnet.Eventually(t, func() bool {
		all, err := s.Domains(ctx, "QmShop")
		return err == nil && len(all) == 2 && all[1].State == auth.DomainOwned
	}, "not known here")

	// A rival whose record is there beside the owner's takes nothing over.
	require.Equal(t, auth.DomainPending, check(s, "QmRival").State)
	z.set(mine.Record, mine.Token, theirs.Token)
	require.Equal(t, auth.DomainTaken, check(s, "QmRival").State)
	require.Equal(t, auth.DomainOwned, check(s, "QmShop").State)

	// DNS that does not answer takes nothing away, nor does a lapse, nor a token's end.
	z.fail(true)
	_, err = s.CheckDomain(ctx, "QmShop", "shop.example")
	require.ErrorIs(t, err, taubyte.ErrUnavailable)
	z.fail(false)
	z.set(mine.Record)
	for range 5 {
		c.move(time.Hour)
		require.Equal(t, auth.DomainFailing, check(s, "QmShop").State)
	}
	z.set(mine.Record, mine.Token)
	require.Equal(t, auth.DomainOwned, check(s, "QmShop").State)
	c.move(2 * auth.DomainTokenTime)
	require.Equal(t, auth.DomainOwned, check(s, "QmShop").State)

	// The owner's record is replaced: a token that has ended shows nothing new, a fresh
	// one takes over.
	z.set(mine.Record, theirs.Token)
	require.Equal(t, auth.DomainPending, check(s, "QmRival").State)
	theirs, err = s.ClaimDomain(ctx, "QmRival", "shop.example")
	require.NoError(t, err)
	z.set(mine.Record, theirs.Token)
	require.Equal(t, auth.DomainOwned, check(s, "QmRival").State)
	all, err := s.Domains(ctx, "QmShop")
	require.NoError(t, err)
	require.Equal(t, auth.DomainLost, all[1].State)

	// One that is missing for a day and in three checks is lost.
	z.set(mine.Record)
	require.Equal(t, auth.DomainFailing, check(s, "QmRival").State)
	c.move(25 * time.Hour)
	require.Equal(t, auth.DomainFailing, check(s, "QmRival").State)
	require.Equal(t, auth.DomainLost, check(s, "QmRival").State)

	require.NoError(t, s.DropDomain(ctx, "QmRival", "shop.example"))
	require.ErrorIs(t, s.DropDomain(ctx, "QmRival", "shop.example"), taubyte.ErrNotFound)
	all, err = s.Domains(ctx, "QmRival")
	require.NoError(t, err)
	require.Empty(t, all)
}

// told records what a verifier is told.
type told struct {
	mu   sync.Mutex
	said map[string]bool
	err  error
}

func (v *told) Verify(_ context.Context, project taubyte.ProjectID, host string, verified bool) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.err == nil {
		v.said[string(project)+" "+host] = verified
	}
	return v.err
}

func TestTheRegistryIsToldWhoOwnsADomain(t *testing.T) {
	network := testnet.New(t)
	z, resolver := serveZone(t)
	v := &told{said: map[string]bool{}, err: errors.New("away")}
	s := open(t, network.Node(), auth.WithResolver(resolver), auth.WithVerifier(v))
	ctx := t.Context()
	_, err := s.CreateProject(ctx, auth.Project{ID: "QmShop"})
	require.NoError(t, err)
	d, err := s.ClaimDomain(ctx, "QmShop", "*.shop.example")
	require.NoError(t, err)
	require.Equal(t, "_taubyte.shop.example", d.Record)
	require.Nil(t, d.Delegation, "there is no zone")
	z.set(d.Record, d.Token)
	_, err = s.CheckDomain(ctx, "QmShop", "*.shop.example")
	require.Error(t, err, "what the registry was not told is not so")
	all, err := s.Domains(ctx, "QmShop")
	require.NoError(t, err)
	require.Equal(t, auth.DomainPending, all[0].State)
	v.mu.Lock()
	v.err = nil
	v.mu.Unlock()
	_, err = s.CheckDomain(ctx, "QmShop", "*.shop.example")
	require.NoError(t, err)
	require.True(t, v.said["QmShop *.shop.example"])
	require.NoError(t, s.DropDomain(ctx, "QmShop", "*.shop.example"))
	require.False(t, v.said["QmShop *.shop.example"])
}

func FuzzDomainToken(f *testing.F) {
	network := testnet.New(f)
	node := network.Node()
	s, err := auth.New(f.Context(), node, node.Store, auth.WithLogger(testnet.Logger(f)))
	require.NoError(f, err)
	f.Cleanup(func() { _ = s.Close() })
	f.Add("eyJhbGciOiJFUzI1NiIsImtpZCI6ImFiY2RlZjAxMjM0NSJ9.eyJzdWIiOiJRbSJ9.AAAA")
	f.Add("..")
	f.Fuzz(func(t *testing.T, text string) {
		if err := s.CheckDomainToken(t.Context(), text); err == nil {
			t.Fatalf("accepted: %q", text)
		}
	})
}
