package acme_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	legoacme "github.com/go-acme/lego/v4/acme"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/acme"
	"github.com/taubyte/taubyte/cloud"
	"github.com/taubyte/taubyte/internal/rendezvous"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/seer"
)

type clock struct {
	mu  sync.Mutex
	off time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.off)
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off += d
}

// held returns the certificate that auth has for a host.
func held(t *testing.T, node *cloud.Node, host string) auth.Certificate {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changes, err := node.Auth.WatchCertificates(ctx)
	require.NoError(t, err)
	for _, c := range (<-changes).Set {
		for _, h := range c.Hosts {
			if h == host {
				return c
			}
		}
	}
	require.FailNow(t, "no certificate", host)
	return auth.Certificate{}
}

func TestRenewal(t *testing.T) {
	n := newNetwork(t, func(c *pebbleConfig) { c.AuthzReuse = 100 })
	c := &clock{}
	roles := []taubyte.Role{taubyte.RoleAuth, taubyte.RoleTNS, taubyte.RoleSeer, taubyte.RoleGateway}
	node := n.open(gatewayAddrs[0], roles, acme.WithClock(c.now))
	n.dns.lead(gatewayAddrs[0])
	host := "shop-" + lower(projectA[len(projectA)-8:]) + "." + zone
	deploy(t, node.TNS, projectA, 1, host)
	one := n.serves(node, host, nil)

	// The server's suggestion moves it: by the window that it gives now.
	testnet.Eventually(t, func() bool {
		all, err := node.ACME.Certificates(t.Context())
		return err == nil && len(all) == 1 && all[0].State == acme.StateServed && all[0].Next.After(c.now().Add(7*24*time.Hour))
	}, "planned")
	n.pebble.suggest(one, time.Now().Add(2*24*time.Hour), time.Now().Add(2*24*time.Hour+time.Minute))
	c.move(7 * time.Hour) // it is asked every six
	testnet.Eventually(t, func() bool {
		all, err := node.ACME.Certificates(t.Context())
		return err == nil && len(all) == 1 && all[0].Next.Before(time.Now().Add(3*24*time.Hour))
	}, "planned anew")
	require.Equal(t, 1, issued(n))
	c.move(2 * 24 * time.Hour)
	two := n.serves(node, host, func(x *x509.Certificate) bool { return x.SerialNumber.Cmp(one.SerialNumber) != 0 })
	require.Contains(t, n.pebble.said.String(), "is a replacement of", "the server is told which one is replaced")

	// One that is revoked is replaced as soon as the server is asked.
	revoke(t, n, node, held(t, node, host))
	c.move(7 * time.Hour)
	n.serves(node, host, func(x *x509.Certificate) bool { return x.SerialNumber.Cmp(two.SerialNumber) != 0 })
	require.Equal(t, 3, issued(n))
}

// revoke revokes a certificate with the account that ordered it.
func revoke(t *testing.T, n *network, node *cloud.Node, c auth.Certificate) {
	t.Helper()
	core, _ := account(t, n, node, "")
	block, _ := pem.Decode([]byte(c.Cert))
	require.NoError(t, core.Certificates.Revoke(legoacme.RevokeCertMessage{Certificate: base64.RawURLEncoding.EncodeToString(block.Bytes)}))
}

// The node that orders dies: the other finishes. So it does where the one that dies is
// the arbiter, and can't register the account that all use.
func TestAnotherNodeFinishes(t *testing.T) {
	t.Parallel()
	for name, arbiter := range map[string]int{"the arbiter lives": 0, "the arbiter dies": 1} {
		t.Run(name, func(t *testing.T) { anotherFinishes(t, arbiter) })
	}
}

// anotherFinishes has the first or the second of two nodes be the arbiter.
func anotherFinishes(t *testing.T, arbiter int) {
	n := newNetwork(t, nil)
	dirs := [2]string{filepath.Join(t.TempDir(), "first"), filepath.Join(t.TempDir(), "second")}
	identities(t, dirs, arbiter)
	n.dns.lead(gatewayAddrs[0])
	hang := make(chan struct{})
	first := n.openAt(dirs[0], gatewayAddrs[0], []taubyte.Role{taubyte.RoleAuth, taubyte.RoleTNS, taubyte.RoleSeer, taubyte.RoleGateway})
	// Of the second, no order ever ends, so that it dies with those under way.
	stuck := n.pebble.client()
	stuck.Transport = waits{stuck.Transport, hang}
	second := n.openAt(dirs[1], "", []taubyte.Role{taubyte.RoleAuth}, acme.WithHTTPClient(stuck))
	n.dead = second
	let := sync.OnceFunc(func() { close(hang) })
	t.Cleanup(let)
	var hosts []string
	for i := range 6 {
		hosts = append(hosts, string(rune('a'+i))+"-"+lower(projectA[len(projectA)-8:])+"."+zone)
	}
	testnet.Eventually(t, func() bool {
		return slices.ContainsFunc(first.Seer.Nodes(), func(o seer.Node) bool {
			return o.ID == second.Host.ID() && slices.Contains(o.Services, acme.Protocol)
		})
	}, "they know each other")
	deploy(t, first.TNS, projectA, 1, hosts...)
	states := func() (ordering, served int) {
		all, err := first.ACME.Certificates(t.Context())
		require.NoError(t, err)
		for _, c := range all {
			switch c.State {
			case acme.StateOrdering:
				ordering++
			case acme.StateServed:
				served++
			}
		}
		return ordering, served
	}
	testnet.Eventually(t, func() bool { o, s := states(); return o+s == len(hosts) && o > 0 && s > 0 }, "some are the second's")
	ordering, _ := states()
	began := time.Now()
	_ = second.Host.Close() // as a crash: nothing is handed back
	let()
	for _, h := range hosts {
		n.serves(first, h, nil)
	}
	t.Logf("%d orders of the node that died were made by the other within %s", ordering, time.Since(began).Round(time.Millisecond))
	require.Equal(t, len(hosts), issued(n), "one certificate each")
}

// identities gives two nodes' folders identities of which one is the arbiter of all orders.
func identities(t *testing.T, dirs [2]string, arbiter int) {
	t.Helper()
	var keys [2]crypto.PrivKey
	var ids [2]peer.ID
	for {
		for i := range keys {
			key, _, err := crypto.GenerateEd25519Key(rand.Reader)
			require.NoError(t, err)
			keys[i] = key
			ids[i], err = peer.IDFromPrivateKey(key)
			require.NoError(t, err)
		}
		if rendezvous.Best("acme", ids[:]) == ids[arbiter] {
			break
		}
	}
	for i, dir := range dirs {
		raw, err := crypto.MarshalPrivateKey(keys[i])
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(dir, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "identity.key"), []byte(base64.StdEncoding.EncodeToString(raw)), 0o600))
	}
}

// waits is a transport whose requests wait until the channel closes, and then fail.
type waits struct {
	http.RoundTripper
	until chan struct{}
}

func (w waits) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case <-w.until:
	case <-r.Context().Done():
	}
	return nil, http.ErrServerClosed
}

// The rates are of all nodes together.
func TestRatesHoldForAllNodes(t *testing.T) {
	n := newNetwork(t, nil)
	first, second, _ := n.three(acme.WithLimits(acme.Limits{Orders: 2, Per: time.Hour}))
	var hosts []string
	for i := range 5 {
		hosts = append(hosts, string(rune('a'+i))+"-"+lower(projectA[len(projectA)-8:])+"."+zone)
	}
	deploy(t, first.TNS, projectA, 1, hosts...)
	testnet.Eventually(t, func() bool {
		served, later := map[string]bool{}, map[string]bool{}
		for _, node := range []*cloud.Node{first, second} {
			all, err := node.ACME.Certificates(t.Context())
			require.NoError(t, err)
			for _, c := range all {
				switch {
				case c.State == acme.StateServed:
					served[c.Hosts[0]] = true
				case c.Next.After(time.Now().Add(30 * time.Minute)): // the node whose turn it is knows
					later[c.Hosts[0]] = true
				}
			}
		}
		return len(served) == 2 && len(later) == 3
	}, "two are ordered, three wait")
	require.Equal(t, 2, issued(n))
}
