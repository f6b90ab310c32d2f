package cloud_test

import (
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/cloud"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

// The zone of a node whose gateway listens on all addresses has addresses, and the hosts
// that tns knows of. What nobody has does not exist.
func TestTheZoneHasWhatTnsKnows(t *testing.T) {
	testnet.CheckLeaks(t)
	n, err := cloud.Open(t.Context(), t.TempDir(), cloud.WithServices(taubyte.RoleTNS, taubyte.RoleSeer, taubyte.RoleGateway),
		cloud.WithHTTP("0.0.0.0:0"), cloud.WithDNS("127.0.0.1:0"), cloud.WithZone("z.test"), cloud.WithDevelopment(), cloud.WithName("core"),
		cloud.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	c := &dns.Client{Net: "tcp", Timeout: 5 * time.Second}
	ask := func(name string) (code int, addrs []string) {
		m := new(dns.Msg)
		m.SetQuestion(name+".", dns.TypeA)
		r, _, err := c.Exchange(m, n.Seer.DNSAddr())
		require.NoError(t, err)
		for _, rr := range r.Answer {
			addrs = append(addrs, rr.(*dns.A).A.String())
		}
		return r.Rcode, addrs
	}
	served := func(name string) {
		t.Helper()
		testnet.Eventually(t, func() bool { code, addrs := ask(name); return code == dns.RcodeSuccess && len(addrs) > 0 }, "%s", name)
	}
	for _, name := range []string{"z.test", "gateway.z.test", "seer.z.test", "core.z.test"} {
		served(name)
	}
	var domains []config.Domain
	for _, d := range []struct{ id, host string }{{"a", "shop.z.test"}, {"b", "www.team.z.test"}} {
		domains = append(domains, config.Domain{Common: config.Common{ID: taubyte.ResourceID(d.id)}, FQDN: d.host})
	}
	_, err = n.TNS.Publish(t.Context(), "project", "main", tns.Part{Repository: "local/x", Commit: "c", Config: &config.Project{ID: "project", Resources: config.Resources{
		Domains:  domains,
		Websites: []config.Website{{Common: config.Common{ID: "w"}, Domains: []taubyte.ResourceID{"a", "b"}, Paths: []string{"/"}}},
	}}})
	require.NoError(t, err)
	served("shop.z.test")
	served("www.team.z.test")
	testnet.Eventually(t, func() bool { code, addrs := ask("team.z.test"); return code == dns.RcodeSuccess && addrs == nil }, "a name above a host")
	served("soon.z.test") // in development a label is whose it will be
	for _, name := range []string{"console.z.test", "api.z.test", "x.shop.z.test", "x.team.z.test", "a--b.z.test"} {
		code, _ := ask(name)
		require.Equal(t, dns.RcodeNameError, code, name)
	}
}

func TestALabelOfTheZoneIsNobodysUntilItIsDeployed(t *testing.T) {
	testnet.CheckLeaks(t)
	n, err := cloud.Open(t.Context(), t.TempDir(), cloud.WithServices(taubyte.RoleTNS, taubyte.RoleSeer, taubyte.RoleGateway),
		cloud.WithPublic("192.0.2.4", "2001:db8::4"), cloud.WithDNS("127.0.0.1:0"), cloud.WithZone("z.test"), cloud.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	ask := func(name string, typ uint16) *dns.Msg {
		m := new(dns.Msg)
		m.SetQuestion(name+".", typ)
		r, _, err := new(dns.Client).Exchange(m, n.Seer.DNSAddr())
		require.NoError(t, err)
		return r
	}
	testnet.Eventually(t, func() bool { return ask("soon.z.test", dns.TypeA).Rcode == dns.RcodeNameError }, "it is known that there is nothing")
	testnet.Eventually(t, func() bool { return len(ask("z.test", dns.TypeA).Answer) == 1 }, "the gateway")
	require.Equal(t, "192.0.2.4", ask("z.test", dns.TypeA).Answer[0].(*dns.A).A.String())
	require.Equal(t, "2001:db8::4", ask("seer.z.test", dns.TypeAAAA).Answer[0].(*dns.AAAA).AAAA.String())
}
