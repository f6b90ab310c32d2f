package acme_test

import (
	"crypto/x509"
	"encoding/base64"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth/acme"
	"github.com/taubyte/taubyte/internal/testnet"
)

var eabKey = base64.RawURLEncoding.EncodeToString([]byte("a key of thirty-two bytes, or so"))

// By TLS-ALPN-01 alone, with an external account, under a profile.
func TestTLSALPNWithAnExternalAccountAndAProfile(t *testing.T) {
	n := newNetwork(t, func(c *pebbleConfig) {
		c.EAB = [2]string{"kid-1", eabKey}
		c.Profiles = map[string]any{
			"default":    map[string]any{"description": "long", "validityPeriod": 7776000},
			"shortlived": map[string]any{"description": "six days", "validityPeriod": 518400},
		}
	})
	roles := []taubyte.Role{taubyte.RoleAuth, taubyte.RoleTNS, taubyte.RoleSeer, taubyte.RoleGateway}
	node := n.open(gatewayAddrs[0], roles, acme.WithMethods(acme.TLSALPN01), acme.WithExternalAccount("kid-1", eabKey), acme.WithProfile("shortlived"))
	n.dns.lead(gatewayAddrs[0])
	require.NoError(t, node.TNS.Verify(t.Context(), projectA, "www.example.com", true))
	deploy(t, node.TNS, projectA, 1, "www.example.com")
	leaf := n.serves(node, "www.example.com", nil)
	require.InDelta(t, 6*24, leaf.NotAfter.Sub(leaf.NotBefore).Hours(), 1)
}

// provider is one of lego's kind: its records are seen after a while.
type provider struct {
	mu    sync.Mutex
	texts map[string][]string
	asked int
}

func (p *provider) Present(domain, _, authorization string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	name, value := record(domain, authorization)
	p.texts[name] = append(p.texts[name], value)
	return nil
}

func (p *provider) CleanUp(domain, _, authorization string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	name, value := record(domain, authorization)
	p.texts[name] = slices.DeleteFunc(p.texts[name], func(v string) bool { return v == value })
	return nil
}

func (p *provider) Timeout() (timeout, interval time.Duration) {
	return 30 * time.Second, 20 * time.Millisecond
}

// txt answers from the third question on.
func (p *provider) txt(name string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.texts[name]) > 0 {
		p.asked++
	}
	if p.asked < 3 {
		return nil
	}
	return slices.Clone(p.texts[name])
}

func TestAProviderOfLegoMakesRecords(t *testing.T) {
	n := newNetwork(t, nil)
	p := &provider{texts: map[string][]string{}}
	n.dns.txt = p.txt
	roles := []taubyte.Role{taubyte.RoleAuth, taubyte.RoleTNS, taubyte.RoleSeer, taubyte.RoleGateway}
	node := n.open(gatewayAddrs[0], roles, acme.WithMethods(acme.DNS01), acme.WithDNSProvider(p))
	require.NoError(t, node.TNS.Verify(t.Context(), projectA, "*.shop.example.com", true))
	deploy(t, node.TNS, projectA, 1, "*.shop.example.com")
	n.serves(node, "www.shop.example.com", nil)
	testnet.Eventually(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, values := range p.texts {
			if len(values) > 0 {
				return false
			}
		}
		return true
	}, "the records are removed")
}

// A failure is told, tried again by another method, and drops nothing.
func TestAFailureIsToldAndTriedAgain(t *testing.T) {
	n := newNetwork(t, func(c *pebbleConfig) { c.AuthzReuse = 0 })
	roles := []taubyte.Role{taubyte.RoleAuth, taubyte.RoleTNS, taubyte.RoleSeer, taubyte.RoleGateway}
	node := n.open(gatewayAddrs[0], roles, acme.WithBackoff(time.Second))
	n.dns.lead("127.0.0.3") // where nobody listens
	host := "shop-" + lower(projectA[len(projectA)-8:]) + "." + zone
	deploy(t, node.TNS, projectA, 1, host)
	testnet.Eventually(t, func() bool {
		all, err := node.ACME.Certificates(t.Context())
		return err == nil && len(all) == 1 && all[0].State == acme.StateFailing && strings.Contains(all[0].Error, "127.0.0.3") && all[0].Next.After(time.Now().Add(-time.Minute))
	}, "told")
	n.dns.lead(gatewayAddrs[0])
	leaf := n.serves(node, host, nil)

	// A renewal that fails: what is there serves on.
	n.dns.lead("127.0.0.3")
	require.NoError(t, node.ACME.Renew(t.Context(), host))
	testnet.Eventually(t, func() bool {
		all, err := node.ACME.Certificates(t.Context())
		return err == nil && len(all) == 1 && all[0].Failures > 0
	}, "failed")
	require.Equal(t, leaf.SerialNumber, n.serves(node, host, nil).SerialNumber)
	n.dns.lead(gatewayAddrs[0])
	n.serves(node, host, func(c *x509.Certificate) bool { return c.SerialNumber.Cmp(leaf.SerialNumber) != 0 })
}
