package egress_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/substrate/internal/egress"
)

func rules(t *testing.T, allow ...string) *egress.Rules {
	t.Helper()
	r, err := egress.ParseRules(allow)
	require.NoError(t, err)
	return r
}

func TestRules(t *testing.T) {
	r := rules(t, "api.example.com", "*.example.org", "192.0.2.0/24", "2001:db8::7")
	for _, name := range []string{"api.example.com", "API.Example.com", "api.example.com.", "a.example.org", "a.b.example.org"} {
		require.True(t, r.Name(name), name)
	}
	for _, name := range []string{"example.com", "x.api.example.com", "example.org", ".example.org", "badexample.org", "api.example.com.evil.test", "", "*.example.org.evil.test"} {
		require.False(t, r.Name(name), name)
	}
	for addr, want := range map[string]bool{"192.0.2.7": true, "::ffff:192.0.2.7": true, "192.0.3.7": false, "2001:db8::7": true, "2001:db8::8": false} {
		require.Equal(t, want, r.Addr(netip.MustParseAddr(addr)), addr)
	}
	var all *egress.Rules
	require.True(t, all.Name("any.example.net"))
	require.True(t, all.Addr(netip.MustParseAddr("1.1.1.1")))
	none := rules(t)
	require.False(t, none.Name("any.example.net"))
	require.False(t, none.Addr(netip.MustParseAddr("1.1.1.1")))
	for _, bad := range []string{"", "*", "*.", "a.*.b", "https://x.example.com", "x.example.com/path", "x.example.com:443", "192.0.2.0/64"} {
		_, err := egress.ParseRules([]string{bad})
		require.ErrorIs(t, err, taubyte.ErrInvalid, bad)
	}
}

// resolver has every name lead to 127.0.0.1, but inside.example.test, which leads to an
// address that is never allowed.
func resolver(t *testing.T) *net.Resolver {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	started := make(chan struct{})
	s := &dns.Server{PacketConn: pc, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		a := new(dns.Msg).SetReply(q)
		to := "127.0.0.1"
		if strings.HasPrefix(q.Question[0].Name, "inside.") {
			to = "10.0.0.1"
		}
		if q.Question[0].Qtype == dns.TypeA {
			if rr, err := dns.NewRR(fmt.Sprintf("%s A %s", q.Question[0].Name, to)); err == nil {
				a.Answer = append(a.Answer, rr)
			}
		}
		_ = w.WriteMsg(a)
	})}
	go func() { _ = s.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { _ = s.Shutdown() })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", pc.LocalAddr().String())
	}}
}

// A project's list limits what is reached by name and by address, at every step of a
// redirection, and opens nothing that the policy closes.
func TestNetwork(t *testing.T) {
	p := egress.Policy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Resolver: resolver(t)}
	var port string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if to := r.URL.Query().Get("to"); to != "" {
			http.Redirect(w, r, "http://"+to+":"+port+"/", http.StatusFound)
		}
	}))
	defer s.Close()
	_, port, _ = strings.Cut(strings.TrimPrefix(s.URL, "http://"), ":")

	for _, c := range []struct {
		allow        []string
		reached, not string
	}{
		{nil, "", "127.0.0.1 api.example.test"},
		{[]string{"api.example.test"}, "api.example.test API.EXAMPLE.TEST", "127.0.0.1 other.example.test a.api.example.test"},
		{[]string{"*.example.test"}, "api.example.test a.b.example.test", "example.test 127.0.0.1 inside.example.test"},
		{[]string{"127.0.0.0/30"}, "127.0.0.1 any.example.test", "127.0.0.9 inside.example.test"},
		{[]string{"inside.example.test", "10.0.0.0/8"}, "", "inside.example.test 10.0.0.1"},
	} {
		n := p.Network(rules(t, c.allow...))
		get := func(url string) error {
			resp, err := n.HTTP().Get(url)
			if err == nil {
				err = resp.Body.Close()
			}
			return err
		}
		for host := range strings.FieldsSeq(c.reached) {
			require.NoError(t, get("http://"+host+":"+port), "%s with %s", host, c.allow)
			for other := range strings.FieldsSeq(c.not) {
				require.ErrorIs(t, get("http://"+host+":"+port+"/?to="+other), taubyte.ErrForbidden, "%s by %s with %s", other, host, c.allow)
			}
		}
		for host := range strings.FieldsSeq(c.not) {
			require.ErrorIs(t, get("http://"+host+":"+port), taubyte.ErrForbidden, "%s with %s", host, c.allow)
			_, err := n.DialContext(t.Context(), "tcp", net.JoinHostPort(host, port))
			require.ErrorIs(t, err, taubyte.ErrForbidden)
		}
		n.Close()
	}
	n := p.Network(rules(t, "*.example.test", "192.0.2.0/24"))
	require.True(t, n.Resolves("a.example.test"))
	require.False(t, n.Resolves("a.example.net"))
	require.True(t, n.Resolves("192.0.2.1"))
	require.False(t, n.Resolves("192.0.3.1"))
	require.True(t, p.Network(nil).Resolves("a.example.net"))
}
