package tns_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

// many tells of deployments that are made up.
type many struct{ projects, routes int }

func (m many) deployment(i int, order uint64) tns.Change {
	id := taubyte.ProjectID(fmt.Sprintf("Qm%044d", i))
	c := &config.Project{ID: id}
	c.Domains = []config.Domain{{Common: config.Common{ID: "d", Name: "d"}, FQDN: fmt.Sprintf("p%d.example.com", i)}}
	for r := range m.routes {
		c.Functions = append(c.Functions, config.Function{
			Common: config.Common{ID: taubyte.ResourceID(fmt.Sprintf("f%d", r)), Name: "f"}, Type: "http", Method: "GET",
			Domains: []taubyte.ResourceID{"d"}, Paths: []string{fmt.Sprintf("/path/%d", r)}, Source: ".",
		})
	}
	d := &tns.Deployment{Project: id, Branch: "main", Sequence: order, Parts: map[taubyte.RepositoryID]tns.Part{"local/x": {Repository: "local/x", Order: order, Config: c}}}
	return tns.Change{Project: id, Branch: "main", Deployment: d, Hosts: []tns.HostClaim{{Host: c.Domains[0].FQDN, Domain: "d", Verified: true}}, Sequence: order, Token: "t"}
}

func (m many) Watch(ctx context.Context, _ string) (<-chan tns.Change, error) {
	ch := make(chan tns.Change)
	go func() {
		defer close(ch)
		for i := range m.projects {
			select {
			case ch <- m.deployment(i, 1):
			case <-ctx.Done():
				return
			}
		}
		select {
		case ch <- tns.Change{Ready: true, Token: "t"}:
		case <-ctx.Done():
			return
		}
		for order := uint64(2); ; order++ { // tables are swapped all the time
			select {
			case ch <- m.deployment(int(order)%m.projects, order):
			case <-ctx.Done():
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	return ch, nil
}

// BenchmarkLookup finds routes among a million of 10,000 projects while the table is
// being swapped up to a thousand times a second, beside as many in a bare map under a
// read-write lock and a hundredth of them in net/http's ServeMux, neither of which
// changes meanwhile.
func BenchmarkLookup(b *testing.B) {
	m := many{projects: 10_000, routes: 100}
	hosts, paths := make([]string, 1024), make([]string, 1024)
	for i := range hosts {
		hosts[i], paths[i] = fmt.Sprintf("p%d.example.com", i*9), fmt.Sprintf("/path/%d", i%100)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	tab, err := tns.NewTable(context.Background(), m)
	require.NoError(b, err)
	<-tab.Ready()
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.Run("table", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if tab.Lookup(hosts[i&1023], paths[i&1023], "GET").Status != tns.Found {
				b.Fatal("not found")
			}
		}
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(m.projects*m.routes), "B/route")
	})
	require.NoError(b, tab.Close())
	b.Run("map", func(b *testing.B) {
		var mu sync.RWMutex
		bare := make(map[string]*int, m.projects*m.routes)
		for p := range m.projects {
			for r := range m.routes {
				bare[fmt.Sprintf("p%d.example.com/path/%d", p, r)] = new(int)
			}
		}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			mu.RLock()
			found := bare[hosts[i&1023]+paths[i&1023]]
			mu.RUnlock()
			if found == nil {
				b.Fatal("not found")
			}
		}
	})
	b.Run("ServeMux-10000", func(b *testing.B) {
		mux := http.NewServeMux()
		const projects = 100 // it takes minutes to take a million
		for p := range projects {
			for r := range m.routes {
				mux.Handle(fmt.Sprintf("GET p%d.example.com/path/%d", p, r), http.NotFoundHandler())
			}
		}
		requests := make([]*http.Request, len(hosts))
		for i := range requests {
			requests[i] = httptest.NewRequest("GET", fmt.Sprintf("http://p%d.example.com%s", i*9%projects, paths[i]), nil)
		}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, pattern := mux.Handler(requests[i&1023]); pattern == "" {
				b.Fatal("not found")
			}
		}
	})
}

// node is a service on a store in a folder, as a node has it.
type node struct {
	store   taubyte.Datastore
	host    *taubyte.NodeHost
	service *tns.Service
}

func openNode(b *testing.B, dir string, opts ...taubyte.HostOption) *node {
	b.Helper()
	ctx := context.Background()
	store, err := taubyte.OpenDatastore(dir)
	require.NoError(b, err)
	host, err := taubyte.NewHost(ctx, store, opts...)
	require.NoError(b, err)
	s, err := tns.New(ctx, host, store, tns.WithOpenDomains())
	require.NoError(b, err)
	return &node{store, host, s}
}

func (r *node) close(b *testing.B) {
	b.Helper()
	require.NoError(b, r.service.Close())
	require.NoError(b, r.host.Close())
	require.NoError(b, r.store.Close())
}

// fill publishes the projects of m, from several publishers.
func (r *node) fill(b *testing.B, m many) {
	b.Helper()
	work := make(chan int)
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for i := range work {
				c := m.deployment(i, 1)
				if _, err := r.service.Publish(context.Background(), c.Project, "main", c.Deployment.Parts["local/x"]); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for i := range m.projects {
		work <- i
	}
	close(work)
	wg.Wait()
}

// BenchmarkRegistry is the life of a registry of 10,000 projects with a million
// routes, on disk: to open it again, until the service answers and until a table has
// the routes; and to publish while a table on another node follows. Run it with
// -benchtime 1x: filling it takes a while.
func BenchmarkRegistry(b *testing.B) {
	m := many{projects: 10_000, routes: 100}
	dir := b.TempDir()
	authority, err := taubyte.NewAuthority()
	require.NoError(b, err)
	r := openNode(b, dir, taubyte.WithAuthority(authority, taubyte.RoleTNS))
	r.fill(b, m)
	r.close(b)
	b.Run("restart", func(b *testing.B) {
		var serving, ready []time.Duration
		for b.Loop() {
			start := time.Now()
			r := openNode(b, dir, taubyte.WithAuthority(authority, taubyte.RoleTNS))
			serving = append(serving, time.Since(start))
			tab, err := tns.NewTable(context.Background(), r.service)
			require.NoError(b, err)
			<-tab.Ready()
			ready = append(ready, time.Since(start))
			require.Equal(b, tns.Found, tab.Lookup("p9999.example.com", "/path/7", "GET").Status)
			require.NoError(b, tab.Close())
			r.close(b)
		}
		b.ReportMetric(percentile(serving, 50).Seconds(), "s-to-serve")
		b.ReportMetric(percentile(ready, 50).Seconds(), "s-to-table")
	})
	b.Run("publish", func(b *testing.B) {
		ctx := context.Background()
		r := openNode(b, dir, taubyte.WithAuthority(authority, taubyte.RoleTNS))
		defer r.close(b)
		store := taubyte.MemoryDatastore()
		edge, err := taubyte.NewHost(ctx, store, taubyte.WithAuthority(authority, taubyte.RoleSubstrate), taubyte.WithPeers(peer.AddrInfo{ID: r.host.ID(), Addrs: r.host.Addrs()}))
		require.NoError(b, err)
		defer func() { require.NoError(b, edge.Close()) }()
		client := tns.NewClient(edge)
		defer client.Close()
		tab, err := tns.NewTable(ctx, client)
		require.NoError(b, err)
		defer tab.Close()
		<-tab.Ready()
		var took []time.Duration
		order := uint64(1)
		for b.Loop() {
			for range 200 {
				order++
				c := m.deployment(int(order)%m.projects, order)
				start := time.Now()
				d, err := r.service.Publish(ctx, c.Project, "main", c.Deployment.Parts["local/x"])
				require.NoError(b, err)
				for {
					changed := tab.Changed()
					if tab.Serving(c.Project, "main") >= d.Sequence {
						break
					}
					<-changed
				}
				took = append(took, time.Since(start))
			}
		}
		b.ReportMetric(float64(percentile(took, 50).Microseconds())/1e3, "ms-p50")
		b.ReportMetric(float64(percentile(took, 99).Microseconds())/1e3, "ms-p99")
	})
}

func percentile(all []time.Duration, p int) time.Duration {
	slices.Sort(all)
	return all[min(len(all)*p/100, len(all)-1)]
}
