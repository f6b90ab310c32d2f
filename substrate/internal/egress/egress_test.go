package egress_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/substrate/internal/egress"
)

func TestPolicy(t *testing.T) {
	var p egress.Policy
	for addr := range strings.FieldsSeq(`127.0.0.1 127.8.8.8 10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 169.254.169.254 100.64.0.1 100.127.255.255
		168.63.129.16 224.0.0.1 239.255.255.255 255.255.255.255 240.0.0.1 0.0.0.0 0.1.2.3 198.18.0.1 192.0.0.8
		::1 :: fe80::1 fe80::1%eth0 fc00::1 fd00:ec2::254 ff02::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::127.0.0.1
		64:ff9b::a9fe:a9fe 64:ff9b:1::1 2002:7f00:1::1 2001::1 fec0::1 100::1`) {
		require.ErrorIs(t, p.Check(netip.MustParseAddr(addr)), taubyte.ErrForbidden, addr)
	}
	require.ErrorIs(t, p.Check(netip.Addr{}), taubyte.ErrForbidden)
	for addr := range strings.FieldsSeq(`1.1.1.1 8.8.8.8 172.15.0.1 172.32.0.1 100.63.255.255 100.128.0.1 168.63.129.17 2606:4700::1111 2001:4860:4860::8888 ::ffff:1.1.1.1`) {
		require.NoError(t, p.Check(netip.MustParseAddr(addr)), addr)
	}
	p.Allow = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
	require.NoError(t, p.Check(netip.MustParseAddr("10.1.2.3")))
	require.NoError(t, p.Check(netip.MustParseAddr("::ffff:10.1.2.3")))
	require.Error(t, p.Check(netip.MustParseAddr("10.2.2.3")))
}

// This machine's own addresses are closed, public ones too: those of its interfaces and
// those by which others know it.
func TestOwnAddresses(t *testing.T) {
	own := netip.MustParseAddr("203.0.113.7")
	p := egress.Policy{Own: func() []netip.Addr { return []netip.Addr{own} }}
	require.ErrorIs(t, p.Check(own), taubyte.ErrForbidden)
	require.ErrorIs(t, p.Check(netip.MustParseAddr("::ffff:203.0.113.7")), taubyte.ErrForbidden)
	require.NoError(t, p.Check(netip.MustParseAddr("203.0.113.8")))
	p.Allow = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	require.NoError(t, p.Check(own))

	addrs, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.(*net.IPNet).IP)
		require.True(t, ok)
		require.ErrorIs(t, egress.Policy{}.Check(ip), taubyte.ErrForbidden, ip)
	}
}

// The DNS answers for nothing of private networks.
func TestResolves(t *testing.T) {
	var p egress.Policy
	n := p.Network(nil)
	defer n.Close()
	for name := range strings.FieldsSeq(`10.0.0.5 127.0.0.1 169.254.169.254 ::1 fd00::1 fe80::1%eth0 ::ffff:10.0.0.1
		db db. localhost LOCALHOST. a.localhost printer.local metadata.google.internal Metadata.Google.Internal. svc.cluster.local
		router.home.arpa home.arpa internal nas.lan db.corp x.intranet x.private x.home x.localdomain
		5.0.0.10.in-addr.arpa 10.in-addr.arpa 1.0.0.127.in-addr.arpa 168.192.IN-ADDR.ARPA. in-addr.arpa
		1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa d.f.ip6.arpa`) {
		require.False(t, n.Resolves(name), name)
		require.False(t, n.Tells(name), name)
	}
	require.False(t, n.Resolves(""))
	for name := range strings.FieldsSeq(`1.1.1.1 2606:4700::1111 example.com example.com. a.internal.example.com local.example.com notlocal.net
		1.1.1.1.in-addr.arpa 8.in-addr.arpa 1.1.1.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.7.4.6.0.6.2.ip6.arpa`) {
		require.True(t, n.Resolves(name), name)
		require.True(t, n.Tells(name), name)
	}
}

// A name that leads to a forbidden address is as forbidden as the address, and so
// is where a redirect leads.
func TestClient(t *testing.T) {
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("reached") }))
	defer inside.Close()
	var p egress.Policy
	n := p.Network(nil)
	defer n.Close()
	for _, url := range []string{inside.URL, strings.Replace(inside.URL, "127.0.0.1", "localhost", 1)} {
		_, err := n.HTTP().Get(url)
		require.ErrorIs(t, err, taubyte.ErrForbidden, url)
	}

	outside := httptest.NewServer(http.RedirectHandler("http://[::1]:9/", http.StatusFound))
	defer outside.Close()
	p.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	n = p.Network(nil)
	defer n.Close()
	_, err := n.HTTP().Get(outside.URL)
	require.ErrorIs(t, err, taubyte.ErrForbidden)
}
