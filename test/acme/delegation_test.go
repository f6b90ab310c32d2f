package acme_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/acme"
	"github.com/taubyte/taubyte/internal/testnet"
)

// By DNS-01 alone, as resolvers see it: a wildcard for the cluster's zone; hosts of
// customers, whose zones nobody but them writes to, and who have delegated the record once,
// by CNAME or by NS; and one who has not yet.
func TestTheChallengeIsDelegatedToTheClustersDNS(t *testing.T) {
	n := newNetwork(t, nil)
	first, second, gateway := n.three(acme.WithMethods(acme.DNS01))
	w := newWorld(t, zone, func() []string { return []string{first.Seer.DNSAddr(), second.Seer.DNSAddr()} })
	n.dns.ask(w.resolve)
	byCNAME := auth.DelegationOf("*.shop.example.com", zone)
	require.Equal(t, auth.Delegation{Record: "_acme-challenge.shop.example.com", CNAME: "_acme-challenge.shop.example.com." + zone, NS: "seer." + zone}, byCNAME)
	cname := func(host string) string {
		d := auth.DelegationOf(host, zone)
		return d.Record + ". CNAME " + d.CNAME + "."
	}
	ns := func(host string) string {
		d := auth.DelegationOf(host, zone)
		return d.Record + ". NS " + d.NS + "."
	}
	w.customers.set(cname("*.shop.example.com"), ns("*.example.org"), ns("www.example.org"))

	a, b := "a-"+lower(projectA[len(projectA)-8:])+"."+zone, "b-"+lower(projectB[len(projectB)-8:])+"."+zone
	own := []string{"shop.example.com", "*.shop.example.com", "*.example.org", "late.example.com"}
	for _, host := range own {
		require.NoError(t, first.TNS.Verify(t.Context(), projectA, host, true))
	}
	deploy(t, first.TNS, projectA, 1, append(own, a)...)
	deploy(t, first.TNS, projectB, 1, b)

	one := n.serves(gateway, a, nil)
	require.Equal(t, one.SerialNumber, n.serves(gateway, b, nil).SerialNumber, "one for the zone")
	require.ElementsMatch(t, []string{"*." + zone, zone}, one.DNSNames)
	require.Equal(t, []string{"shop.example.com"}, n.serves(gateway, "shop.example.com", nil).DNSNames)
	require.Equal(t, []string{"*.shop.example.com"}, n.serves(gateway, "any.shop.example.com", nil).DNSNames)
	require.Equal(t, []string{"*.example.org"}, n.serves(gateway, "www.example.org", nil).DNSNames)
	_, err := handshake(gateway.Gateway.TLSAddr(), "a.b.shop.example.com", n.pebble.roots())
	require.Error(t, err)

	// Who has not delegated is told what to do, and the authority has not been asked to look.
	late := auth.DelegationOf("late.example.com", zone)
	testnet.Eventually(t, func() bool {
		all, err := second.ACME.Certificates(t.Context())
		require.NoError(t, err)
		for _, c := range all {
			if slices.Contains(c.Hosts, "late.example.com") && c.State == acme.StateFailing {
				return strings.Contains(c.Error, late.Record+" does not lead") && strings.Contains(c.Error, late.CNAME) && strings.Contains(c.Error, late.NS)
			}
		}
		return false
	}, "told")
	for line := range strings.Lines(n.pebble.said.String()) {
		require.False(t, strings.Contains(line, "Pulled a task") && strings.Contains(line, "late.example.com"), line)
	}
	w.customers.set(cname("late.example.com"))
	require.NoError(t, first.ACME.Renew(t.Context(), "late.example.com"))
	n.serves(gateway, "late.example.com", nil)
}
