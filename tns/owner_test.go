package tns_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

// state is what came of a project's claim to a host.
func state(t testing.TB, s registry, p taubyte.ProjectID, host string) tns.ClaimState {
	t.Helper()
	all, err := s.Claims(t.Context(), host)
	require.NoError(t, err)
	for _, c := range all {
		if c.Project == p {
			return c.State
		}
	}
	return ""
}

// An owner that serves nothing at a name has it all the same, in the registry and in
// every table.
func TestAnOwnerWithoutRoutesHasTheHost(t *testing.T) {
	nw := testnet.New(t)
	s := service(t, nw.Node())
	ready := make(chan struct{})
	tab := table(t, s, tns.WithPrepare(func(ctx context.Context, d *tns.Deployment) error {
		if d.Project != first {
			return nil
		}
		select {
		case <-ready:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}))
	claim(t, s, second, "main", 1, "bank.example.com")
	owns(t, tab, "bank.example.com", second)
	require.Equal(t, tns.Found, tab.Lookup("bank.example.com", "/api", "GET").Status)
	require.NoError(t, s.Verify(t.Context(), first, "bank.example.com", true))
	c := &config.Project{ID: first, Name: "owner"}
	c.Domains = []config.Domain{{Common: config.Common{ID: "d", Name: "d"}, FQDN: "bank.example.com"}}
	_, err := s.Publish(t.Context(), first, "main", part(1, c))
	require.NoError(t, err)

	owns(t, tab, "bank.example.com", "") // the loser lets go though the owner is not ready
	require.Equal(t, tns.ClaimServed, state(t, s, first, "bank.example.com"))
	require.Equal(t, tns.ClaimLost, state(t, s, second, "bank.example.com"))
	close(ready)
	owns(t, tab, "bank.example.com", first)
	require.Equal(t, tns.NoPath, tab.Lookup("bank.example.com", "/api", "GET").Status)

	// The name goes back when the owner leaves it.
	require.NoError(t, s.Remove(t.Context(), first, "main"))
	owns(t, tab, "bank.example.com", second)
	require.Equal(t, tns.Found, tab.Lookup("bank.example.com", "/api", "GET").Status)
}

func TestNamesOfTheClusterAreReserved(t *testing.T) {
	nw := testnet.New(t)
	reserved := []string{"*.z.example", "gateway.z.example", "tns.z.example", "auth.z.example", "console.z.example", "api.z.example", "ns.z.example", "ns2.z.example"}
	for _, opts := range [][]tns.Option{nil, {tns.WithOpenDomains()}, {tns.WithVerifiedOnly()}} {
		s := service(t, nw.Named("athena"), append(opts, tns.WithZone("z.example"))...)
		tab := table(t, s)
		claim(t, s, first, "main", 1, append([]string{"ours.z.example", "www.gateway.example"}, reserved...)...)
		testnet.Eventually(t, func() bool { return tab.Serving(first, "main") == 1 }, "it is known")
		for _, host := range append(reserved, "athena.z.example") {
			require.NoError(t, s.Verify(t.Context(), first, host, true), "the owner of the zone errs")
		}
		for _, host := range reserved {
			require.Equal(t, tns.ClaimReserved, state(t, s, first, host), host)
			require.Equal(t, tns.NoHost, tab.Lookup(strings.Replace(host, "*", "any", 1), "/api", "GET").Status, host)
		}
		lost, err := s.Conflicts(t.Context(), first)
		require.NoError(t, err)
		require.Contains(t, lost[len(lost)-1].String(), "the cluster's own")

		claim(t, s, second, "main", 1, "athena.z.example", "hermes.z.example", "zeus.z.example")
		testnet.Eventually(t, func() bool { return state(t, s, second, "athena.z.example") == tns.ClaimReserved }, "a node's name")
		require.NoError(t, s.Close())
	}
}

// A node that comes takes its name from the project that had it, on every node of the
// registry.
func TestANodeTakesItsName(t *testing.T) {
	nw := testnet.New(t)
	a, b := service(t, nw.Node(), tns.WithZone("z.example")), service(t, nw.Node(), tns.WithZone("z.example"))
	tab := table(t, b)
	claim(t, a, first, "main", 1, "hermes.z.example", "other.z.example")
	owns(t, tab, "hermes.z.example", first)
	nw.Named("hermes", taubyte.RoleSubstrate)
	owns(t, tab, "hermes.z.example", "")
	owns(t, tab, "other.z.example", first)
	for _, s := range []registry{a, b} {
		testnet.Eventually(t, func() bool { return state(t, s, first, "hermes.z.example") == tns.ClaimReserved }, "it is a node's")
	}
}

// Whoever chooses an id that ends like another's gets none of its names.
func TestGeneratedNamesAreOfTheFirstProjectWithTheEnd(t *testing.T) {
	nw := testnet.New(t)
	node := nw.Node()
	s := service(t, node, tns.WithZone("z.example"), tns.WithVerifiedOnly())
	tab := table(t, s)
	end := strings.ToLower(string(first[len(first)-8:]))
	thief := taubyte.ProjectID("Qm" + strings.Repeat("a", 36) + end)
	mine, later := end+"1.z.example", "shop-"+end+".z.example"
	claim(t, s, first, "main", 1, mine)
	owns(t, tab, mine, first)
	claim(t, s, thief, "main", 1, mine, later)
	claim(t, s, thief, "next", 1, later)
	testnet.Eventually(t, func() bool { return tab.Serving(thief, "next") == 1 }, "it is known")
	require.Equal(t, tns.ClaimLost, state(t, s, thief, mine))
	require.Equal(t, tns.ClaimUnverified, state(t, s, thief, later), "a name that nobody claimed yet")
	require.Equal(t, tns.NoHost, tab.Lookup(later, "/api", "GET").Status)
	require.Equal(t, tns.NoHost, tab.Lookup("next--"+later, "/api", "GET").Status, "nor its previews")

	// Neither by leaving nor by a restart does the first lose them.
	require.NoError(t, s.Remove(t.Context(), first, "main"))
	require.Equal(t, tns.ClaimUnverified, state(t, s, thief, mine))
	require.NoError(t, s.Close())
	s = service(t, node, tns.WithZone("z.example"), tns.WithVerifiedOnly())
	tab = table(t, s)
	require.Equal(t, tns.ClaimUnverified, state(t, s, thief, mine))
	claim(t, s, first, "main", 2, later)
	owns(t, tab, later, first)
}

// Close ends watches, those that nobody reads too.
func TestAWatchEndsWithItsRegistry(t *testing.T) {
	nw := testnet.New(t)
	s := service(t, nw.Node())
	claim(t, s, first, "main", 1, "a.example.com")
	changes, err := s.Watch(context.Background(), "")
	require.NoError(t, err)
	require.NoError(t, s.Close())
	_, open := <-changes
	require.False(t, open)
	changes, err = s.Watch(context.Background(), "")
	require.NoError(t, err)
	_, open = <-changes
	require.False(t, open)
}

// Who publishes, and who goes back, is told which host names the branch does not get.
func TestThePublisherIsToldOfLostHosts(t *testing.T) {
	nw := testnet.New(t)
	s := service(t, nw.Node(taubyte.RoleTNS))
	remote := tns.NewClient(nw.Node(taubyte.RoleMonkey))
	defer remote.Close()
	claim(t, s, first, "main", 1, "h.example.com")
	for order, r := range []registry{s, remote} {
		d, err := r.Publish(t.Context(), second, "main", part(uint64(order+1), project(second, "h.example.com")))
		require.NoError(t, err)
		require.Equal(t, []string{string(second) + " main lost"}, states(d.Conflicts))
		require.Equal(t, first, d.Conflicts[0].Owner)
	}
	d, err := s.Rollback(t.Context(), second, "main", 1)
	require.NoError(t, err)
	require.Len(t, d.Conflicts, 1)
	now, err := s.Current(t.Context(), second, "main")
	require.NoError(t, err)
	require.Empty(t, now.Conflicts, "it is no part of the deployment")
}
