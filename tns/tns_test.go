package tns_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/crdt"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

const shop taubyte.ProjectID = "QmYJREDH1g4quMigBJutYMBgxTwWTJhEtvcrVzrQrxWvfj"

func asset(t testing.TB, text string) cid.Cid {
	sum, err := multihash.Sum([]byte(text), multihash.SHA2_256, -1)
	require.NoError(t, err)
	return cid.NewCidV1(cid.Raw, sum)
}

// project is a configuration with a function and a website on one host.
func project(id taubyte.ProjectID, host string) *config.Project {
	get := config.Function{Common: config.Common{ID: "get", Name: "get"}, Type: "http", Method: "get", Domains: []taubyte.ResourceID{"d"}, Paths: []string{"/api"}, Source: "."}
	post := get
	post.ID, post.Name, post.Method = "post", "post", "POST"
	return &config.Project{ID: id, Name: string(id), Resources: config.Resources{
		Domains:   []config.Domain{{Common: config.Common{ID: "d", Name: "d"}, FQDN: host, CertType: "auto"}},
		Functions: []config.Function{get, post},
		Websites: []config.Website{
			{Common: config.Common{ID: "site", Name: "site"}, Domains: []taubyte.ResourceID{"d"}, Paths: []string{"/"}},
			{Common: config.Common{ID: "docs", Name: "docs"}, Domains: []taubyte.ResourceID{"d"}, Paths: []string{"/docs"}},
		},
	}}
}

func part(order uint64, c *config.Project) tns.Part {
	return tns.Part{Repository: "local/all", Commit: taubyte.Commit(fmt.Sprintf("%040d", order)), Order: order, Config: c}
}

func service(t testing.TB, n *testnet.Node, opts ...tns.Option) *tns.Service {
	t.Helper()
	s, err := tns.New(t.Context(), n, n.Store, append([]tns.Option{tns.WithLogger(testnet.Logger(t))}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func table(t testing.TB, w tns.Watcher, opts ...tns.TableOption) *tns.Table {
	t.Helper()
	tab, err := tns.NewTable(t.Context(), w, append(opts, tns.WithTableLogger(testnet.Logger(t)))...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tab.Close()) })
	return tab
}

func TestPublishMergesParts(t *testing.T) {
	nw := testnet.New(t)
	s := service(t, nw.Node())
	ctx := t.Context()

	_, err := s.Current(ctx, shop, "main")
	require.ErrorIs(t, err, taubyte.ErrNotFound)
	d, err := s.Publish(ctx, shop, "main", part(10, project(shop, "shop.example.com")))
	require.NoError(t, err)
	require.EqualValues(t, 1, d.Sequence)
	site := asset(t, "site")
	d, err = s.Publish(ctx, shop, "main", tns.Part{Repository: "github/1", Commit: "c", Order: 3, Assets: map[taubyte.ResourceID]cid.Cid{"site": site}})
	require.NoError(t, err)
	require.NotNil(t, d.Config(), "the other repository's part stays")
	got, ok := d.Asset("site")
	require.True(t, ok)
	require.Equal(t, site, got)

	same, err := s.Publish(ctx, shop, "main", part(10, project(shop, "shop.example.com")))
	require.NoError(t, err)
	require.Equal(t, d.Sequence, same.Sequence, "the same part again changes nothing")
	_, err = s.Publish(ctx, shop, "main", part(9, project(shop, "old.example.com")))
	require.ErrorIs(t, err, taubyte.ErrConflict, "an older build that ends later")
	_, err = s.Publish(ctx, shop, "main", part(11, project("another", "x.example.com")))
	require.ErrorIs(t, err, taubyte.ErrInvalid)
	for _, bad := range []struct {
		p taubyte.ProjectID
		b taubyte.Branch
	}{{"", "main"}, {"a/b", "main"}, {"p", ""}} {
		_, err = s.Publish(ctx, bad.p, bad.b, tns.Part{Repository: "r/1"})
		require.ErrorIs(t, err, taubyte.ErrInvalid)
	}

	projects, err := s.Projects(ctx)
	require.NoError(t, err)
	require.Len(t, projects, 1)
	require.Equal(t, string(shop), projects[0].Name)
}

func TestConcurrentPartsAllCount(t *testing.T) {
	nw := testnet.New(t)
	s := service(t, nw.Node())
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			_, err := s.Publish(t.Context(), shop, "main", tns.Part{Repository: taubyte.RepositoryID(fmt.Sprintf("local/%d", i)), Order: 1})
			require.NoError(t, err)
		})
	}
	wg.Wait()
	d, err := s.Current(t.Context(), shop, "main")
	require.NoError(t, err)
	require.Len(t, d.Parts, 20)
}

func TestHistoryRollbackAndRemoval(t *testing.T) {
	nw := testnet.New(t)
	n := nw.Node()
	s := service(t, n)
	ctx := t.Context()
	const branch = "feature/äöü" // any branch name
	for i := range 3 {
		_, err := s.Publish(ctx, shop, branch, part(uint64(i+1), project(shop, "shop.example.com")))
		require.NoError(t, err)
	}
	d, err := s.Rollback(ctx, shop, branch, 1)
	require.NoError(t, err)
	require.EqualValues(t, 4, d.Sequence)
	require.Equal(t, part(1, nil).Commit, d.Commit())
	_, err = s.Rollback(ctx, shop, branch, 99)
	require.ErrorIs(t, err, taubyte.ErrNotFound)

	for order := range 4 {
		_, err = s.Publish(ctx, shop, branch, part(uint64(order), project(shop, "shop.example.com")))
		if order == 1 {
			require.NoError(t, err, "what is there, once more")
		} else {
			require.ErrorIs(t, err, taubyte.ErrConflict, "an old build does not come back by being delivered again")
		}
	}
	require.NoError(t, s.Remove(ctx, shop, branch))
	require.NoError(t, s.Remove(ctx, shop, branch), "twice is no error")
	_, err = s.Publish(ctx, shop, branch, part(2, project(shop, "shop.example.com")))
	require.ErrorIs(t, err, taubyte.ErrConflict, "nor after the branch went")
	_, err = s.Current(ctx, shop, branch)
	require.ErrorIs(t, err, taubyte.ErrNotFound)
	history, err := s.History(ctx, shop, branch)
	require.NoError(t, err)
	require.Len(t, history, 4, "nothing is lost")
	require.EqualValues(t, 4, history[0].Sequence)

	require.NoError(t, s.Close())
	again := service(t, n) // on the same store
	_, err = again.Current(ctx, shop, branch)
	require.ErrorIs(t, err, taubyte.ErrNotFound)
	d, err = again.Publish(ctx, shop, branch, part(9, project(shop, "shop.example.com")))
	require.NoError(t, err)
	require.EqualValues(t, 6, d.Sequence)
}

func TestLookup(t *testing.T) {
	nw := testnet.New(t)
	s := service(t, nw.Node(), tns.WithOpenDomains())
	tab := table(t, s)
	_, err := s.Publish(t.Context(), shop, "main", part(1, project(shop, "shop.example.com")))
	require.NoError(t, err)
	testnet.Eventually(t, func() bool { return tab.Serving(shop, "main") == 1 }, "the table follows")

	for _, c := range []struct {
		host, path, method string
		status             tns.MatchStatus
		want               taubyte.ResourceID
		allow              string
	}{
		{"shop.example.com", "/api", "GET", tns.Found, "get", ""},
		{"SHOP.Example.com:8080", "/api", "GET", tns.Found, "get", ""},
		{"shop.example.com.", "/api", "POST", tns.Found, "post", ""},
		{"shop.example.com", "/api", "HEAD", tns.Found, "get", ""},
		{"shop.example.com", "/api", "DELETE", tns.NoMethod, "", "GET, HEAD, POST"},
		{"shop.example.com", "/api/more", "GET", tns.Found, "site", ""},
		{"shop.example.com", "/", "GET", tns.Found, "site", ""},
		{"shop.example.com", "/docs", "GET", tns.Found, "docs", ""},
		{"shop.example.com", "/docs/x", "HEAD", tns.Found, "docs", ""},
		{"shop.example.com", "/docsx", "GET", tns.Found, "site", ""},
		{"shop.example.com", "/docs/x", "POST", tns.NoMethod, "", "GET, HEAD"},
		{"other.example.com", "/", "GET", tns.NoHost, "", ""},
		{"", "/", "GET", tns.NoHost, "", ""},
		{string(make([]byte, 500)), "/", "GET", tns.NoHost, "", ""},
	} {
		m := tab.Lookup(c.host, c.path, c.method)
		require.Equal(t, c.status, m.Status, "%s %s%s", c.method, c.host, c.path)
		require.Equal(t, c.allow, m.Allow)
		if c.want != "" {
			require.Equal(t, c.want, m.Route.Resource, "%s %s%s", c.method, c.host, c.path)
		}
	}
	require.Equal(t, "/docs", tab.Lookup("shop.example.com", "/docs/x", "GET").Route.Prefix)
	require.Zero(t, testing.AllocsPerRun(100, func() { tab.Lookup("SHOP.example.com:80", "/docs/x", "GET") }))

	// What is removed from the configuration is gone from the table.
	less := project(shop, "shop.example.com")
	less.Functions, less.Websites = less.Functions[:1], nil
	_, err = s.Publish(t.Context(), shop, "main", part(2, less))
	require.NoError(t, err)
	testnet.Eventually(t, func() bool { return tab.Serving(shop, "main") == 2 }, "the table follows")
	require.Equal(t, tns.NoPath, tab.Lookup("shop.example.com", "/", "GET").Status)
	require.Equal(t, "GET, HEAD", tab.Lookup("shop.example.com", "/api", "POST").Allow)
	require.NoError(t, s.Remove(t.Context(), shop, "main"))
	testnet.Eventually(t, func() bool { return tab.Lookup("shop.example.com", "/api", "GET").Status == tns.NoHost }, "removed")
	require.Empty(t, tab.Routes())
}

func TestProductionBranchesAreRanked(t *testing.T) {
	nw := testnet.New(t)
	s := service(t, nw.Node(), tns.WithOpenDomains(), tns.WithProductionBranches("live", "main"))
	tab := table(t, s)
	for _, branch := range []taubyte.Branch{"main", "live"} {
		_, err := s.Publish(t.Context(), shop, branch, part(1, project(shop, "www.shop.example")))
		require.NoError(t, err)
	}
	testnet.Eventually(t, func() bool {
		m := tab.Lookup("www.shop.example", "/api", "GET")
		return m.Status == tns.Found && m.Route.Branch == "live"
	}, "the first of them counts")
	require.NoError(t, s.Remove(t.Context(), shop, "live"))
	testnet.Eventually(t, func() bool {
		m := tab.Lookup("www.shop.example", "/api", "GET")
		return m.Status == tns.Found && m.Route.Branch == "main"
	}, "then the next")
}

func TestAFunctionAndAWebsiteShareAPath(t *testing.T) {
	nw := testnet.New(t)
	s := service(t, nw.Node(), tns.WithOpenDomains())
	tab := table(t, s)
	c := project(shop, "shop.example.com")
	c.Functions = c.Functions[1:] // POST /api alone
	c.Websites[1].Paths = []string{"/api"}
	_, err := s.Publish(t.Context(), shop, "main", part(1, c))
	require.NoError(t, err)
	testnet.Eventually(t, func() bool { return tab.Serving(shop, "main") == 1 }, "the table follows")
	require.EqualValues(t, "post", tab.Lookup("shop.example.com", "/api", "POST").Route.Resource)
	require.EqualValues(t, "docs", tab.Lookup("shop.example.com", "/api", "GET").Route.Resource)
	require.Equal(t, "GET, HEAD, POST", tab.Lookup("shop.example.com", "/api", "PUT").Allow)
}

func TestPreviews(t *testing.T) {
	nw := testnet.New(t)
	s := service(t, nw.Node(), tns.WithZone("Cloud.Example."), tns.WithOpenDomains())
	tab := table(t, s)
	for _, branch := range []taubyte.Branch{"main", "Feature/X"} {
		_, err := s.Publish(t.Context(), shop, branch, part(1, project(shop, "www.shop.example")))
		require.NoError(t, err)
	}
	testnet.Eventually(t, func() bool { return tab.Serving(shop, "Feature/X") == 1 && tab.Serving(shop, "main") == 1 }, "both are served")
	require.EqualValues(t, "main", tab.Lookup("www.shop.example", "/api", "GET").Route.Branch)
	require.EqualValues(t, "main", tab.Lookup("www.shop.example.cloud.example", "/api", "GET").Route.Branch, "by its alias in the zone")
	previews := 0
	for _, r := range tab.Routes() {
		if r.Route.Branch == "Feature/X" {
			require.Regexp(t, `^feature-x--www-shop-example--[a-z2-7]{12}\.cloud\.example$`, r.Host)
			previews++
		}
	}
	require.Equal(t, 4, previews)
}

func TestAHostHasOneOwner(t *testing.T) {
	nw := testnet.New(t)
	const zone = "cloud.example"
	s := service(t, nw.Node(), tns.WithZone(zone))
	tab := table(t, s)
	generated := "app-rqrxwvfj." + zone // ends like shop's id
	first := taubyte.ProjectID("QmRPRQww8rci6fpkK5Tp8NGjyGQUyrTgQm5j7BnFJqi4DW")
	serves := func(host string, p taubyte.ProjectID) {
		t.Helper()
		testnet.Eventually(t, func() bool {
			m := tab.Lookup(host, "/api", "GET")
			return m.Status == tns.Found && m.Route.Project == p
		}, "%s is %s's", host, p)
	}
	_, err := s.Publish(t.Context(), first, "main", part(1, project(first, "www.example.com")))
	require.NoError(t, err)
	serves("www.example.com", first)
	_, err = s.Publish(t.Context(), shop, "main", part(1, project(shop, "www.example.com")))
	require.NoError(t, err)
	testnet.Eventually(t, func() bool { return tab.Serving(shop, "main") == 1 }, "the second is known")
	serves("www.example.com", first) // who came first keeps it
	owner, branch, ok := tab.Owner("WWW.example.com:8443")
	require.True(t, ok)
	require.Equal(t, first, owner)
	require.Equal(t, taubyte.Branch("main"), branch)
	_, _, ok = tab.Owner("nobody.example.com")
	require.False(t, ok)
	require.NoError(t, s.Remove(t.Context(), first, "main"))
	serves("www.example.com", shop) // until it goes

	_, err = s.Publish(t.Context(), first, "main", part(2, project(first, generated)))
	require.NoError(t, err)
	serves(generated, first)
	_, err = s.Publish(t.Context(), shop, "main", part(2, project(shop, generated)))
	require.NoError(t, err)
	serves(generated, shop) // made for it: verified beats first

	// A name with the ends of two ids in it was made for one of them.
	both := "pynvqi4dw-rqrxwvfj." + zone
	_, err = s.Publish(t.Context(), first, "main", part(3, project(first, both)))
	require.NoError(t, err)
	serves(both, first)
	_, err = s.Publish(t.Context(), shop, "main", part(3, project(shop, both)))
	require.NoError(t, err)
	serves(both, shop)
}

func TestPreparationComesBeforeTheSwitch(t *testing.T) {
	nw := testnet.New(t)
	s := service(t, nw.Node(), tns.WithOpenDomains())
	var mu sync.Mutex
	var fail error
	release := make(chan struct{})
	var prepared atomic.Uint64
	tab := table(t, s, tns.WithPrepare(func(ctx context.Context, d *tns.Deployment) error {
		if d.Sequence == 2 { // never ends by itself: a newer one ends it
			<-ctx.Done()
			return ctx.Err()
		}
		if d.Sequence == 3 {
			<-release
		}
		mu.Lock()
		defer mu.Unlock()
		prepared.Store(d.Sequence)
		return fail
	}))
	publish := func(order uint64) {
		_, err := s.Publish(t.Context(), shop, "main", part(order, project(shop, "shop.example.com")))
		require.NoError(t, err)
	}
	publish(1)
	testnet.Eventually(t, func() bool { return tab.Serving(shop, "main") == 1 }, "1 is served")
	publish(2)
	publish(3)
	require.EqualValues(t, 1, tab.Serving(shop, "main"), "the old one is served while the new one is prepared")
	close(release)
	testnet.Eventually(t, func() bool { return tab.Serving(shop, "main") == 3 }, "3 is served")

	mu.Lock()
	fail = errors.New("no disk")
	mu.Unlock()
	publish(4)
	testnet.Eventually(t, func() bool { return prepared.Load() == 4 }, "4 was tried")
	require.EqualValues(t, 3, tab.Serving(shop, "main"))
	mu.Lock()
	fail = nil
	mu.Unlock()
	testnet.Eventually(t, func() bool { return tab.Serving(shop, "main") == 4 }, "4 is tried again")
}

func TestAnotherNodeFollows(t *testing.T) {
	nw := testnet.New(t)
	a, b, edge := nw.Node(taubyte.RoleTNS), nw.Node(taubyte.RoleTNS), nw.Node(taubyte.RoleSubstrate)
	worker := nw.Node(taubyte.RoleMonkey)
	sa, sb := service(t, a, tns.WithOpenDomains()), service(t, b, tns.WithOpenDomains())
	client := tns.NewClient(edge)
	defer client.Close()
	tab := table(t, client)
	pub := tns.NewClient(worker)
	defer pub.Close()

	_, err := pub.Publish(t.Context(), shop, "main", part(1, project(shop, "shop.example.com")))
	require.NoError(t, err)
	_, err = client.Publish(t.Context(), shop, "main", part(2, project(shop, "shop.example.com")))
	require.ErrorIs(t, err, taubyte.ErrForbidden, "a substrate node publishes nothing")
	for _, s := range []*tns.Service{sa, sb} {
		testnet.Eventually(t, func() bool { d, err := s.Current(t.Context(), shop, "main"); return err == nil && d.Sequence == 1 }, "both replicas have it")
	}
	testnet.Eventually(t, func() bool { return tab.Lookup("shop.example.com", "/api", "GET").Status == tns.Found }, "the edge follows")
	d, err := client.Current(t.Context(), shop, "main")
	require.NoError(t, err)
	require.Equal(t, part(1, nil).Commit, d.Commit())
	_, err = client.Current(t.Context(), shop, "none")
	require.ErrorIs(t, err, taubyte.ErrNotFound)
	history, err := client.History(t.Context(), shop, "main")
	require.NoError(t, err)
	require.Len(t, history, 1)

	// With one replica gone the other serves, with both gone the table stays.
	require.NoError(t, sa.Close())
	_, err = pub.Publish(t.Context(), shop, "main", part(3, project(shop, "shop.example.com")))
	require.NoError(t, err)
	testnet.Eventually(t, func() bool { return tab.Serving(shop, "main") == 2 }, "the edge goes on with the other")
	require.NoError(t, sb.Close())
	testnet.Eventually(t, func() bool { age, heard := tab.Age(); return heard && age > 0 }, "the table says that it is old")
	require.Equal(t, tns.Found, tab.Lookup("shop.example.com", "/api", "GET").Status)
}

func TestOneOfSeveralConfigurationsCounts(t *testing.T) {
	older, newer := project(shop, "a.example.com"), project(shop, "b.example.com")
	d := &tns.Deployment{Parts: map[taubyte.RepositoryID]tns.Part{
		"local/1": {Repository: "local/1", Order: 1, Config: older, Assets: map[taubyte.ResourceID]cid.Cid{"f": asset(t, "1")}},
		"local/2": {Repository: "local/2", Order: 2, Config: newer, Assets: map[taubyte.ResourceID]cid.Cid{"f": asset(t, "2")}},
	}}
	for range 100 {
		require.Same(t, newer, d.Config())
		c, ok := d.Asset("f")
		require.True(t, ok)
		require.Equal(t, asset(t, "2"), c)
	}
}

func TestADeploymentThatNobodyHasHoldsUpNoOther(t *testing.T) {
	nw := testnet.New(t)
	a, b := nw.Node(taubyte.RoleTNS), nw.Node(taubyte.RoleTNS)
	store, err := crdt.Open(t.Context(), a, a.Store, "tns", crdt.WithWriters(taubyte.RoleTNS))
	require.NoError(t, err)
	lost := asset(t, "nobody has this")
	require.NoError(t, store.Put(t.Context(), ds.NewKey(fmt.Sprintf("/history/lost/main/%016d/%s", 1, lost)), []byte("{}")))
	require.NoError(t, store.Close())
	sa, sb := service(t, a), service(t, b)
	_, err = sa.Publish(t.Context(), shop, "main", part(1, project(shop, "shop.example.com")))
	require.NoError(t, err)
	testnet.Eventually(t, func() bool { _, err := sb.Current(t.Context(), shop, "main"); return err == nil }, "the other project goes on")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = sa.Publish(ctx, "lost", "main", part(1, project("lost", "l.example.com")))
	require.Error(t, err, "a branch whose deployment is not here is not begun anew")
}

func TestBothSidesOfAPartitionCount(t *testing.T) {
	nw := testnet.New(t)
	a, b := nw.Node(taubyte.RoleTNS), nw.Node(taubyte.RoleTNS)
	// Each publishes while the other is away: five deployments of one repository
	// here, one of another there.
	sa := service(t, a)
	for i := range 5 {
		_, err := sa.Publish(t.Context(), shop, "main", part(uint64(i+1), project(shop, "shop.example.com")))
		require.NoError(t, err)
	}
	require.NoError(t, sa.Close())
	lone, err := taubyte.NewHost(t.Context(), b.Store, taubyte.WithLogger(testnet.Logger(t))) // nobody's neighbour
	require.NoError(t, err)
	sb, err := tns.New(t.Context(), lone, b.Store)
	require.NoError(t, err)
	site := asset(t, "site")
	_, err = sb.Publish(t.Context(), shop, "main", tns.Part{Repository: "github/1", Order: 1, Assets: map[taubyte.ResourceID]cid.Cid{"site": site}})
	require.NoError(t, err)
	require.NoError(t, sb.Close())
	require.NoError(t, lone.Close())

	sa, sb = service(t, a), service(t, b)
	for _, s := range []*tns.Service{sa, sb} {
		testnet.Eventually(t, func() bool {
			d, err := s.Current(t.Context(), shop, "main")
			return err == nil && len(d.Parts) == 2 && d.Sequence == 5 && d.Config() != nil
		}, "both parts are there on both")
	}
	d, err := sb.Publish(t.Context(), shop, "main", part(9, project(shop, "new.example.com")))
	require.NoError(t, err)
	require.EqualValues(t, 6, d.Sequence)
	testnet.Eventually(t, func() bool {
		d, err := sa.Current(t.Context(), shop, "main")
		return err == nil && d.Sequence == 6 && len(d.Parts) == 2
	}, "and they go on as one")
}

func TestWatchResumes(t *testing.T) {
	nw := testnet.New(t)
	s := service(t, nw.Node(), tns.WithOpenDomains())
	_, err := s.Publish(t.Context(), shop, "main", part(1, project(shop, "shop.example.com")))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	next := func(ch <-chan tns.Change) tns.Change {
		select {
		case c := <-ch:
			return c
		case <-ctx.Done():
			require.FailNow(t, "no change")
			return tns.Change{}
		}
	}
	ch, err := s.Watch(ctx, "")
	require.NoError(t, err)
	require.Equal(t, shop, next(ch).Project)
	ready := next(ch)
	require.True(t, ready.Ready)
	require.NoError(t, s.Remove(ctx, shop, "main"))
	removed := next(ch)
	require.Nil(t, removed.Deployment)

	ch, err = s.Watch(ctx, ready.Token)
	require.NoError(t, err)
	require.Nil(t, next(ch).Deployment, "what was removed meanwhile is told")
	require.True(t, next(ch).Ready)
	ch, err = s.Watch(ctx, removed.Token)
	require.NoError(t, err)
	require.True(t, next(ch).Ready, "nothing is told twice")
}

func TestWhatIsNoProjectOrBranch(t *testing.T) {
	s := service(t, testnet.New(t).Node())
	ctx := t.Context()
	for _, p := range []taubyte.ProjectID{"", "/", "a/", "none"} {
		for _, b := range []taubyte.Branch{"", "/", "none"} {
			_, err := s.History(ctx, p, b)
			require.ErrorIs(t, err, taubyte.ErrNotFound)
			_, err = s.Rollback(ctx, p, b, 1)
			require.ErrorIs(t, err, taubyte.ErrNotFound)
			require.NoError(t, s.Remove(ctx, p, b), "what is not there is removed")
		}
		_, err := s.Assets(ctx, p)
		require.NoError(t, err)
	}
}
