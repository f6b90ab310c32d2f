package tns_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

const (
	first  taubyte.ProjectID = "QmRPRQww8rci6fpkK5Tp8NGjyGQUyrTgQm5j7BnFJqi4DW"
	second taubyte.ProjectID = "QmZVgwcxiZxnv1R5tyq7mkgEhcDNayt7pDLHmCx4SpVrbb"
)

// owns waits until a table leads a host to a project; "" is nobody.
func owns(t testing.TB, tab *tns.Table, host string, p taubyte.ProjectID) {
	t.Helper()
	testnet.Eventually(t, func() bool {
		owner, _, _ := tab.Owner(host)
		return owner == p
	}, "%s is %s's", host, p)
}

// claim publishes the next deployment of a project, with the hosts.
func claim(t testing.TB, r registry, p taubyte.ProjectID, branch taubyte.Branch, order int, hosts ...string) {
	t.Helper()
	c := project(p, "unused")
	c.Domains = nil
	for i, h := range hosts {
		c.Domains = append(c.Domains, config.Domain{Common: config.Common{ID: "d", Name: fmt.Sprint(i)}, FQDN: h})
	}
	_, err := r.Publish(t.Context(), p, branch, part(uint64(order), c))
	require.NoError(t, err)
}

func states(claims []tns.Claim) (all []string) {
	for _, c := range claims {
		all = append(all, fmt.Sprintf("%s %s %s", c.Project, c.Branch, c.State))
	}
	return all
}

func TestPreviewNamesAreNobodyElses(t *testing.T) {
	nw := testnet.New(t)
	s := service(t, nw.Node(), tns.WithZone("z.example"), tns.WithOpenDomains())
	tab := table(t, s)
	long := taubyte.Branch(strings.Repeat("very-long-", 20))
	branches := []taubyte.Branch{"feature-x", "feature/x", "Feature-X", "a--b", "a", "äöü", "-", long, long + "2"}
	hosts := []string{"www.shop.example", "www-shop.example", "*.shop.example", "b--c.z.example", "plain.z.example", strings.Repeat("x", 60) + ".z.example"}
	n := 0
	for _, p := range []taubyte.ProjectID{shop, first} {
		for _, branch := range branches {
			for i, h := range hosts {
				// A branch for each, as each has one configuration.
				claim(t, s, p, branch+taubyte.Branch(fmt.Sprintf("/%d", i)), 1, h)
				n++
			}
		}
		// As they stand these are names; the two halves of another split differ.
		claim(t, s, p, "a", 1, "b--c.z.example", "plain.z.example")
		claim(t, s, p, "a--b", 1, "c.z.example")
	}
	testnet.Eventually(t, func() bool { return tab.Serving(first, "a--b") == 1 && len(tab.Deployments()) == n+4 }, "all are there")
	served := map[string]bool{}
	for _, r := range tab.Routes() {
		label, _, _ := strings.Cut(r.Host, ".")
		require.LessOrEqual(t, len(label), 63)
		require.Regexp(t, `^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`, label)
		served[fmt.Sprintf("%s %s", r.Route.Project, r.Route.Branch)] = true
	}
	require.Len(t, served, n+4, "each branch of each project has a name of its own")

	// What stands as it is written has a short name as well; one project has it.
	owner, branch, ok := tab.Owner("a--plain.z.example")
	require.True(t, ok)
	require.Equal(t, shop, owner)
	require.EqualValues(t, "a", branch)
	conflicts, err := s.Conflicts(t.Context(), first)
	require.NoError(t, err)
	require.Len(t, conflicts, 1)
	require.Equal(t, "a--plain.z.example", conflicts[0].Host)
}

func TestWhoLeavesAndReturnsBeginsAnew(t *testing.T) {
	nw := testnet.New(t)
	s := service(t, nw.Node(), tns.WithOpenDomains())
	tab := table(t, s)
	claim(t, s, first, "main", 1, "h.example.com")
	claim(t, s, first, "master", 1, "h.example.com")
	claim(t, s, second, "main", 1, "h.example.com")
	owns(t, tab, "h.example.com", first)
	require.NoError(t, s.Remove(t.Context(), first, "main"))
	claim(t, s, first, "main", 2, "h.example.com")
	owns(t, tab, "h.example.com", first) // it never left: master had it
	require.NoError(t, s.Remove(t.Context(), first, "main"))
	require.NoError(t, s.Remove(t.Context(), first, "master"))
	owns(t, tab, "h.example.com", second)
	claim(t, s, first, "main", 3, "h.example.com")
	testnet.Eventually(t, func() bool { return tab.Serving(first, "main") == 5 }, "it is back")
	owns(t, tab, "h.example.com", second)

	// To leave out the host is to leave as well, and going back is to return.
	claim(t, s, second, "main", 2, "other.example.com")
	owns(t, tab, "h.example.com", first)
	_, err := s.Rollback(t.Context(), second, "main", 1)
	require.NoError(t, err)
	testnet.Eventually(t, func() bool { return tab.Serving(second, "main") == 3 }, "it is back")
	owns(t, tab, "h.example.com", first)
}

func TestVerifiedOwnersComeFirstAndLosersAreTold(t *testing.T) {
	nw := testnet.New(t)
	a, b := nw.Node(taubyte.RoleTNS), nw.Node(taubyte.RoleTNS)
	sa, sb := service(t, a), service(t, b)
	checker, edge := tns.NewClient(nw.Node(taubyte.RoleAuth)), tns.NewClient(nw.Node(taubyte.RoleSubstrate))
	defer checker.Close()
	defer edge.Close()
	ta, tb, te := table(t, sa), table(t, sb), table(t, edge)
	everywhere := func(p taubyte.ProjectID) {
		t.Helper()
		for _, tab := range []*tns.Table{ta, tb, te} {
			owns(t, tab, "h.example.com", p)
		}
	}
	known := func(s *tns.Service, p taubyte.ProjectID) {
		t.Helper()
		testnet.Eventually(t, func() bool { _, err := s.Current(t.Context(), p, "main"); return err == nil }, "it is known")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	claim(t, sa, first, "main", 1, "h.example.com")
	known(sb, first)
	claim(t, sb, second, "main", 1, "h.example.com")
	known(sa, second)
	everywhere(first)
	for _, r := range []registry{sa, sb, edge} {
		lost, err := r.Conflicts(ctx, second)
		require.NoError(t, err)
		require.Equal(t, []string{fmt.Sprintf("%s main lost", second)}, states(lost))
		require.Equal(t, fmt.Sprintf("host h.example.com is served for project %s", first), lost[0].String())
		lost, err = r.Conflicts(ctx, first)
		require.NoError(t, err)
		require.Empty(t, lost)
		claims, err := r.Claims(ctx, "H.example.com.")
		require.NoError(t, err)
		require.Equal(t, []string{fmt.Sprintf("%s main served", first), fmt.Sprintf("%s main lost", second)}, states(claims))
		all, err := r.Projects(ctx)
		require.NoError(t, err)
		require.Empty(t, all[0].Branches[0].Conflicts)
		require.Len(t, all[1].Branches[0].Conflicts, 1)
	}

	require.ErrorIs(t, edge.Verify(ctx, second, "h.example.com", true), taubyte.ErrForbidden)
	require.ErrorIs(t, checker.Verify(ctx, "a/b", "h.example.com", true), taubyte.ErrInvalid)
	require.ErrorIs(t, checker.Verify(ctx, second, "h/", true), taubyte.ErrInvalid)
	watch, err := edge.WatchProject(ctx, first, "", "")
	require.NoError(t, err)
	require.Empty(t, (<-watch).Conflicts)
	require.True(t, (<-watch).Ready)
	for range 2 { // once more is nothing new
		require.NoError(t, checker.Verify(ctx, second, "H.Example.com", true))
	}
	everywhere(second)
	told := <-watch
	require.EqualValues(t, 1, told.Sequence, "the same deployment")
	require.Len(t, told.Conflicts, 1, "that has lost its host")
	require.Equal(t, second, told.Conflicts[0].Owner)

	// The first that showed it keeps it.
	require.NoError(t, checker.Verify(ctx, first, "h.example.com", true))
	for _, s := range []*tns.Service{sa, sb} {
		testnet.Eventually(t, func() bool {
			claims, err := s.Claims(ctx, "h.example.com")
			return err == nil && len(claims) == 2 && claims[0].Verified && claims[1].Verified
		}, "both are verified")
	}
	everywhere(second)
	require.NoError(t, checker.Verify(ctx, second, "h.example.com", false))
	everywhere(first)
	require.NoError(t, checker.Verify(ctx, second, "h.example.com", true))
	testnet.Eventually(t, func() bool {
		claims, err := sa.Claims(ctx, "h.example.com")
		return err == nil && len(claims) == 2 && claims[1].Verified
	}, "verified again")
	everywhere(first)

	// All of it is there after a restart.
	require.NoError(t, sb.Close())
	tb2 := table(t, service(t, b))
	owns(t, tb2, "h.example.com", first)
}

func TestVerifiedOnly(t *testing.T) {
	nw := testnet.New(t)
	s := service(t, nw.Node(), tns.WithVerifiedOnly(), tns.WithZone("z.example"))
	tab := table(t, s)
	claim(t, s, shop, "main", 1, "h.example.com")
	claim(t, s, shop, "next", 1, "h.example.com")
	testnet.Eventually(t, func() bool { return tab.Serving(shop, "main") == 1 && tab.Serving(shop, "next") == 1 }, "they are known")
	owns(t, tab, "h.example.com", "")
	require.NotEmpty(t, tab.Routes(), "previews have names that were made for them")
	conflicts, err := s.Conflicts(t.Context(), shop)
	require.NoError(t, err)
	require.Equal(t, []string{fmt.Sprintf("%s main unverified", shop)}, states(conflicts))
	require.Contains(t, conflicts[0].String(), "until its ownership is shown")
	require.NoError(t, s.Verify(t.Context(), shop, "h.example.com", true))
	owns(t, tab, "h.example.com", shop)
	require.NoError(t, s.Verify(t.Context(), shop, "h.example.com", false))
	owns(t, tab, "h.example.com", "")
}

func TestWildcardHosts(t *testing.T) {
	nw := testnet.New(t)
	s := service(t, nw.Node(), tns.WithOpenDomains())
	tab := table(t, s)
	claim(t, s, first, "main", 1, "*.example.com")
	claim(t, s, second, "main", 1, "api.example.com")
	owns(t, tab, "any.example.com", first)
	owns(t, tab, "api.example.com", second) // an exact name beats a wildcard
	for _, host := range []string{"example.com", "a.b.example.com", ".example.com", "com"} {
		require.Equal(t, tns.NoHost, tab.Lookup(host, "/api", "GET").Status, host)
	}
	require.Equal(t, tns.Found, tab.Lookup("ANY.example.com:8443", "/api", "GET").Status)
	require.Zero(t, testing.AllocsPerRun(100, func() { tab.Lookup("any.example.com", "/docs/x", "GET") }))
	require.NoError(t, s.Remove(t.Context(), second, "main"))
	owns(t, tab, "api.example.com", first)
}

func TestAHostThatChangesHandsIsNotPreparedAnew(t *testing.T) {
	nw := testnet.New(t)
	s := service(t, nw.Node())
	var prepared atomic.Int32
	tab := table(t, s, tns.WithPrepare(func(context.Context, *tns.Deployment) error {
		prepared.Add(1)
		return nil
	}))
	claim(t, s, first, "main", 1, "h.example.com")
	claim(t, s, second, "main", 1, "h.example.com")
	testnet.Eventually(t, func() bool { return tab.Serving(second, "main") == 1 }, "it is known")
	owns(t, tab, "h.example.com", first)
	require.NoError(t, s.Verify(t.Context(), second, "h.example.com", true))
	owns(t, tab, "h.example.com", second)
	require.EqualValues(t, 2, prepared.Load())
}
