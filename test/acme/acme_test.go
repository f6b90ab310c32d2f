package acme_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth/acme"
	"github.com/taubyte/taubyte/cloud"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

const (
	projectA = "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG"
	projectB = "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"
	zone     = "cloud.test"
)

// network is three nodes, of which two run auth, and an ACME server.
type network struct {
	t         *testing.T
	authority *taubyte.Authority
	pebble    *pebble
	dns       *resolver
	nodes     []*cloud.Node
	dead      *cloud.Node // whose host was taken away
}

var gatewayAddrs = []string{"127.0.0.1", "127.0.0.2"}

// newNetwork makes one that has no nodes yet. The test, which mostly waits, runs beside
// others from here.
func newNetwork(t *testing.T, edit func(*pebbleConfig)) *network {
	t.Helper()
	t.Parallel()
	testnet.CheckLeaks(t)
	a, err := taubyte.NewAuthority()
	require.NoError(t, err)
	n := &network{t: t, authority: a, dns: startDNS(t, gatewayAddrs...)}
	c := pebbleConfig{HTTPPort: testnet.FreePort(t, gatewayAddrs...), TLSPort: testnet.FreePort(t, gatewayAddrs...), DNS: n.dns.Addr, AuthzReuse: 50}
	if edit != nil {
		edit(&c)
	}
	n.pebble = startPebble(t, c)
	return n
}

func (n *network) open(addr string, roles []taubyte.Role, opts ...acme.Option) *cloud.Node {
	n.t.Helper()
	return n.openAt(filepath.Join(n.t.TempDir(), "node"), addr, roles, opts...)
}

// openAt is open in a folder.
func (n *network) openAt(dir, addr string, roles []taubyte.Role, opts ...acme.Option) *cloud.Node {
	n.t.Helper()
	var peers []peer.AddrInfo
	for _, o := range n.nodes {
		peers = append(peers, peer.AddrInfo{ID: o.Host.ID(), Addrs: o.Host.Addrs()})
	}
	all := append([]acme.Option{
		acme.WithDirectory(n.pebble.Directory), acme.WithHTTPClient(n.pebble.client()), acme.WithBackoff(300 * time.Millisecond),
		acme.WithLeaseTime(2 * time.Second), acme.WithResolver(n.dns.lookup()),
	}, opts...)
	node, err := cloud.Open(n.t.Context(), dir,
		cloud.WithServices(roles...), cloud.WithAuthority(n.authority), cloud.WithZone(zone), cloud.WithDNS("127.0.0.1:0"),
		cloud.WithHTTP(fmt.Sprintf("%s:%d", addr, n.pebble.HTTPPort)), cloud.WithHTTPS(fmt.Sprintf("%s:%d", addr, n.pebble.TLSPort)),
		cloud.WithACME(all...), cloud.WithHost(taubyte.WithPeers(peers...)), cloud.WithLogger(testnet.Logger(n.t)))
	require.NoError(n.t, err)
	n.t.Cleanup(func() {
		if err := node.Close(); node != n.dead {
			require.NoError(n.t, err)
		}
	})
	n.nodes = append(n.nodes, node)
	return node
}

// three starts two nodes with auth, one of which has a gateway as well, and a gateway.
func (n *network) three(opts ...acme.Option) (first, second, gateway *cloud.Node) {
	first = n.open(gatewayAddrs[0], []taubyte.Role{taubyte.RoleAuth, taubyte.RoleTNS, taubyte.RoleSeer, taubyte.RoleGateway}, opts...)
	second = n.open("", []taubyte.Role{taubyte.RoleAuth, taubyte.RoleSeer}, opts...)
	gateway = n.open(gatewayAddrs[1], []taubyte.Role{taubyte.RoleGateway}, opts...)
	for _, a := range n.nodes {
		for _, b := range n.nodes {
			testnet.Eventually(n.t, func() bool { _, err := a.Host.Member(n.t.Context(), b.Host.ID()); return err == nil }, "not connected")
		}
	}
	return first, second, gateway
}

// deploy has a project serve hosts.
func deploy(t *testing.T, registry *tns.Service, project taubyte.ProjectID, order uint64, hosts ...string) {
	t.Helper()
	c := &config.Project{ID: project}
	for i, h := range hosts {
		c.Domains = append(c.Domains, config.Domain{Common: config.Common{ID: taubyte.ResourceID(fmt.Sprintf("%s-%d", project, i)), Name: fmt.Sprint("d", i)}, FQDN: h, CertType: "auto"})
	}
	_, err := registry.Publish(t.Context(), project, "main", tns.Part{
		Repository: taubyte.RepositoryID("local/" + string(project)), Commit: "c", Order: order, Time: time.Now(), Config: c,
	})
	require.NoError(t, err)
}

// handshake connects to a gateway by TLS and returns the certificate that it shows.
func handshake(addr, host string, roots *x509.CertPool) (*x509.Certificate, error) {
	conn, err := tls.Dial("tcp", addr, &tls.Config{ServerName: host, RootCAs: roots})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0], nil
}

// serves waits until a gateway shows a certificate of the server for a host.
func (n *network) serves(node *cloud.Node, host string, good func(*x509.Certificate) bool) (leaf *x509.Certificate) {
	n.t.Helper()
	roots := n.pebble.roots()
	var err error
	testnet.Eventually(n.t, func() bool {
		leaf, err = handshake(node.Gateway.TLSAddr(), host, roots)
		return err == nil && (good == nil || good(leaf))
	}, "%s is not served by HTTPS: %v", host, err)
	return leaf
}

func TestACertificateIsServedByEachGateway(t *testing.T) {
	n := newNetwork(t, nil)
	first, second, gateway := n.three()
	began := time.Now()
	generated := "shop-" + lower(projectA[len(projectA)-8:]) + "." + zone
	deploy(t, first.TNS, projectA, 1, generated, "shop.example.com")

	one := n.serves(first, generated, nil)
	two := n.serves(gateway, generated, nil)
	require.Equal(t, one.SerialNumber, two.SerialNumber, "one certificate, at each gateway")
	t.Logf("served %s after the deployment", time.Since(began).Round(time.Millisecond))

	// A host whose ownership nobody has shown gets none, until it is.
	_, err := handshake(gateway.Gateway.TLSAddr(), "shop.example.com", n.pebble.roots())
	require.Error(t, err)
	require.NoError(t, first.TNS.Verify(t.Context(), projectA, "shop.example.com", true))
	n.serves(gateway, "shop.example.com", nil)

	// Two nodes that may order made one order for each.
	for _, node := range []*cloud.Node{first, second} {
		testnet.Eventually(t, func() bool {
			all, err := node.ACME.Certificates(t.Context())
			if err != nil || len(all) != 2 {
				return false
			}
			for _, c := range all {
				if c.State != acme.StateServed || c.Failures != 0 {
					return false
				}
			}
			return true
		}, "not listed")
	}
	require.Equal(t, 2, issued(n))

	// Names that nobody serves cause nothing.
	for i := range 50 {
		_, err := handshake(gateway.Gateway.TLSAddr(), fmt.Sprintf("no%d.example.com", i), n.pebble.roots())
		require.Error(t, err)
	}
	all, err := second.ACME.Certificates(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.Equal(t, 2, issued(n))

	// Each node renews what it is asked to, whichever of them ordered it before.
	for i, node := range []*cloud.Node{first, second} {
		require.NoError(t, node.ACME.Renew(t.Context(), generated))
		before := two.SerialNumber
		two = n.serves(gateway, generated, func(c *x509.Certificate) bool { return c.SerialNumber.Cmp(before) != 0 })
		require.Equal(t, 3+i, issued(n))
	}
}
