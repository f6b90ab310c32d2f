package tns_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

// told is a registry of one deployment.
type told struct{ c *config.Project }

func (w told) Watch(ctx context.Context, _ string) (<-chan tns.Change, error) {
	ch := make(chan tns.Change)
	d := &tns.Deployment{Project: w.c.ID, Branch: "main", Sequence: 1, Parts: map[taubyte.RepositoryID]tns.Part{"local/x": {Repository: "local/x", Order: 1, Config: w.c}}}
	change := tns.Change{Project: w.c.ID, Branch: "main", Deployment: d, Sequence: 1}
	for _, domain := range w.c.Domains {
		change.Hosts = append(change.Hosts, tns.HostClaim{Host: domain.FQDN, Domain: domain.ID, Verified: true})
	}
	go func() {
		defer close(ch)
		for _, c := range []tns.Change{change, {Ready: true, Token: "t"}} {
			select {
			case ch <- c:
			case <-ctx.Done():
				return
			}
		}
		<-ctx.Done()
	}()
	return ch, nil
}

// templated is a project of functions, by name: their methods and paths, and of websites
// at two paths.
func templated() *config.Project {
	c := &config.Project{ID: shop}
	c.Domains = []config.Domain{{Common: config.Common{ID: "d", Name: "d"}, FQDN: "shop.example.com"}, {Common: config.Common{ID: "w", Name: "w"}, FQDN: "*.shops.example.com"}}
	both := []taubyte.ResourceID{"d", "w"}
	add := func(name string, methods []string, paths ...string) {
		c.Functions = append(c.Functions, config.Function{
			Common: config.Common{ID: taubyte.ResourceID(name), Name: name}, Type: "http", Methods: methods, Domains: both, Paths: paths, Source: ".",
		})
	}
	add("item", []string{"GET", "PUT"}, "/items/{id}")
	add("delete", []string{"DELETE"}, "/items/{id}")
	add("new", []string{"GET"}, "/items/new")
	add("parts", []string{"GET"}, "/items/{id}/parts/{part}", "/items/{id}/parts/{$}")
	add("files", []string{"GET", "POST"}, "/files/{name...}")
	add("readme", []string{"GET"}, "/files/{dir}/README")
	add("root", []string{"GET"}, "/{$}")
	add("head", []string{"HEAD"}, "/items/{id}/parts/1")
	add("hook", []string{"POST"}, "/{all...}")
	add("page", []string{"GET"}, "/docs/{page}/raw")
	c.Websites = []config.Website{
		{Common: config.Common{ID: "site", Name: "site"}, Domains: both, Paths: []string{"/"}},
		{Common: config.Common{ID: "docs", Name: "docs"}, Domains: both, Paths: []string{"/docs"}},
	}
	return c
}

func follow(t testing.TB, c *config.Project) *tns.Table {
	tab, err := tns.NewTable(context.Background(), told{c})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tab.Close()) })
	<-tab.Ready()
	return tab
}

func TestTemplates(t *testing.T) {
	testnet.CheckLeaks(t)
	tab := follow(t, templated())
	for _, c := range []struct{ method, target, want string }{
		{"GET", "/items/7", "item /items/{id} id=7"},
		{"HEAD", "/items/7", "item /items/{id} id=7"},
		{"PUT", "/items/new", "item /items/{id} id=new"},
		{"DELETE", "/items/7", "delete /items/{id} id=7"},
		{"GET", "/items/new", "new"},
		{"HEAD", "/items/new", "new"},
		{"GET", "/items/a%2Fb", "item /items/{id} id=a/b"},
		{"GET", "/items/caf%C3%A9%20x", "item /items/{id} id=café x"},
		{"PATCH", "/items/7", "405 DELETE, GET, HEAD, POST, PUT"},
		{"PATCH", "/items/new", "405 DELETE, GET, HEAD, POST, PUT"},
		{"POST", "/items/7", "hook /{all...} all=items/7"},
		{"GET", "/items/7/parts/8", "parts /items/{id}/parts/{part} id=7 part=8"},
		{"GET", "/items/7/parts/", "parts /items/{id}/parts/{$} id=7"},
		{"HEAD", "/items/7/parts/1", "head /items/{id}/parts/1 id=7"},
		{"GET", "/files/", "files /files/{name...} name="},
		{"GET", "/files/a/b", "files /files/{name...} name=a/b"},
		{"GET", "/files/a/README", "readme /files/{dir}/README dir=a"},
		{"POST", "/files/a/README", "files /files/{name...} name=a/README"},
		{"GET", "/files", "site"},
		{"GET", "/items", "site"},
		{"GET", "/", "root"},
		{"POST", "/", "hook /{all...} all="},
		{"PUT", "/", "405 GET, HEAD, POST"},
		{"GET", "/docs", "docs"},
		{"GET", "/docs/x", "docs"},
		{"GET", "/docs/x/raw", "page /docs/{page}/raw page=x"},
		{"DELETE", "/docs/x", "405 GET, HEAD, POST"},
		{"GET", "/items/../x", "site"},
	} {
		for _, host := range []string{"shop.example.com", "any.SHOPS.example.com:443"} {
			r := httptest.NewRequest(c.method, c.target, nil)
			r.Pattern = "/outer/"
			m := tab.Lookup(host, tns.RequestPath(r.URL), c.method)
			m.SetPath(r)
			got := ""
			switch m.Status {
			case tns.Found:
				got = string(m.Route.Resource)
				if r.Pattern != "" {
					got += " " + r.Pattern
				}
				for _, name := range []string{"id", "part", "name", "dir", "all", "page"} {
					if v := r.PathValue(name); v != "" || name == "name" && got == "files /files/{name...}" || name == "all" && got == "hook /{all...}" {
						got += " " + name + "=" + v
					}
				}
			case tns.NoMethod:
				got = "405 " + m.Allow
			default:
				got = fmt.Sprint(m.Status)
			}
			require.Equal(t, c.want, got, "%s %s%s", c.method, host, c.target)
		}
	}
	require.Zero(t, testing.AllocsPerRun(100, func() { tab.Lookup("shop.example.com", "/items/7/parts/8", "GET") }))
	require.Zero(t, testing.AllocsPerRun(100, func() { tab.Lookup("shop.example.com", "/items/new", "GET") }))
	routes := map[string]bool{}
	for _, r := range tab.Routes() {
		routes[r.Host+" "+r.Method+" "+r.Path+" "+string(r.Route.Resource)] = true
	}
	for _, want := range []string{"shop.example.com PUT /items/{id} item", "*.shops.example.com GET /files/{name...} files", "shop.example.com GET / root", "shop.example.com  /docs/ docs"} {
		require.True(t, routes[want], "%s of %v", want, routes)
	}
}

// Without a website a path that a function has with other methods is 405, any other 404.
func TestTemplatesAlone(t *testing.T) {
	testnet.CheckLeaks(t)
	c := templated()
	c.Websites, c.Functions = nil, c.Functions[:4]
	tab := follow(t, c)
	require.Equal(t, tns.NoPath, tab.Lookup("shop.example.com", "/items/", "GET").Status)
	require.Equal(t, tns.NoPath, tab.Lookup("shop.example.com", "/items/7/parts", "GET").Status)
	require.Equal(t, "DELETE, GET, HEAD, PUT", tab.Lookup("shop.example.com", "/items/7", "POST").Allow)
	require.Equal(t, "GET, HEAD", tab.Lookup("shop.example.com", "/items/7/parts/8", "OPTIONS").Allow)
	require.Equal(t, tns.NoHost, tab.Lookup("shops.example.com", "/items/7", "GET").Status)
}

// BenchmarkTemplates looks up what BenchmarkLookup does not: paths with wildcards.
func BenchmarkTemplates(b *testing.B) {
	tab := follow(b, templated())
	mux := http.NewServeMux()
	for _, r := range tab.Routes() {
		if r.Method != "" && r.Host == "shop.example.com" && r.Path != "/" {
			mux.Handle(r.Method+" "+r.Path, http.NotFoundHandler())
		}
	}
	for _, path := range []string{"/items/new", "/items/7", "/items/7/parts/8", "/files/a/b/c/d.txt", "/docs/x"} {
		b.Run("table"+path, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if tab.Lookup("shop.example.com", path, "GET").Status != tns.Found {
					b.Fatal("not found")
				}
			}
		})
		b.Run("ServeMux"+path, func(b *testing.B) {
			b.ReportAllocs()
			r := httptest.NewRequest("GET", path, nil)
			for b.Loop() {
				mux.Handler(r)
			}
		})
	}
}
