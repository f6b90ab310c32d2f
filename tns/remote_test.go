package tns_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/tns"
)

// A client goes on with the next node when one dies without a word, and what follows a
// watch keeps what it has when all are gone, until one is back.
func TestNodesOfTheRegistryDie(t *testing.T) {
	nw := testnet.New(t)
	edge := nw.Node(taubyte.RoleSubstrate, taubyte.RoleMonkey)
	a, b := nw.Node(taubyte.RoleTNS), nw.Node(taubyte.RoleTNS)
	sa, err := tns.New(t.Context(), a, a.Store, tns.WithOpenDomains(), tns.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	defer sa.Close() // which says that its host was closed before it
	sb := service(t, b, tns.WithOpenDomains())
	client := tns.NewClient(edge)
	defer client.Close()
	tab := table(t, client)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	claim(t, client, shop, "main", 1, "h.example.com")
	owns(t, tab, "h.example.com", shop)
	for _, s := range []*tns.Service{sa, sb} {
		testnet.Eventually(t, func() bool { _, err := s.Current(ctx, shop, "main"); return err == nil }, "both have it")
	}
	require.NoError(t, a.Close()) // the host, under its service
	for range 10 {
		d, err := client.Current(ctx, shop, "main")
		require.NoError(t, err, "the other answers, however often it is asked")
		require.EqualValues(t, 1, d.Sequence)
	}
	claim(t, client, shop, "main", 2, "h.example.com", "i.example.com")
	owns(t, tab, "i.example.com", shop)
	_, err = client.Current(ctx, shop, "none")
	require.ErrorIs(t, err, taubyte.ErrNotFound, "a node's own word is not asked of another")

	require.NoError(t, sb.Close())
	testnet.Eventually(t, func() bool { age, heard := tab.Age(); return heard && age > 0 }, "nobody is there")
	testnet.Eventually(t, func() bool {
		_, err := client.Projects(ctx)
		require.Error(t, err)
		return errors.Is(err, taubyte.ErrUnavailable)
	}, "and a client says so")
	require.Equal(t, tns.Found, tab.Lookup("i.example.com", "/api", "GET").Status)
	sb = service(t, b, tns.WithOpenDomains())
	testnet.Eventually(t, func() bool { age, _ := tab.Age(); return age == 0 }, "one is back")
	require.NoError(t, sb.Remove(ctx, shop, "main"))
	owns(t, tab, "i.example.com", "")
}

// A deployment is seen whole or not at all: each part of these names its round.
func TestPublishingIsAtomic(t *testing.T) {
	nw := testnet.New(t)
	s := service(t, nw.Node(taubyte.RoleTNS), tns.WithOpenDomains())
	client := tns.NewClient(nw.Node(taubyte.RoleSubstrate))
	defer client.Close()
	tables := []*tns.Table{table(t, s), table(t, client)}
	const rounds = 50
	hosts := func(n int) []string { return []string{name("a", n), name("b", n), name("c", n)} }
	stop := make(chan struct{})
	done := make(chan string, len(tables))
	for _, tab := range tables {
		go func() {
			for {
				// All routes that are in use at once are those of one deployment.
				seen := map[uint64]int{}
				for _, r := range tab.Routes() {
					seen[r.Route.Deployment.Sequence]++
				}
				if len(seen) > 1 {
					done <- "routes of several deployments"
					return
				}
				select {
				case <-stop:
					done <- ""
					return
				default:
				}
			}
		}()
	}
	for n := range rounds {
		claim(t, s, shop, "main", n+1, hosts(n)...)
	}
	for _, tab := range tables {
		testnet.Eventually(t, func() bool { return tab.Serving(shop, "main") == rounds }, "the last is served")
		for _, h := range hosts(rounds - 2) {
			require.Equal(t, tns.NoHost, tab.Lookup(h, "/api", "GET").Status, "of what was before nothing is left")
		}
	}
	close(stop)
	for range tables {
		require.Empty(t, <-done)
	}
}

func name(s string, n int) string {
	return s + string(rune('a'+n%26)) + string(rune('a'+n/26)) + ".example.com"
}
