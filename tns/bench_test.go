package tns_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

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
// being swapped a thousand times a second, beside a bare map under a read-write lock.
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
		bare := map[string]*int{}
		for i := range hosts {
			bare[hosts[i]+paths[i]] = new(int)
		}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			mu.RLock()
			_ = bare[hosts[i&1023]+paths[i&1023]]
			mu.RUnlock()
		}
	})
}
