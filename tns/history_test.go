package tns_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/crdt"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

// publish publishes deployments of one repository, their orders from first on.
func publish(t testing.TB, s *tns.Service, branch taubyte.Branch, first, n int) {
	t.Helper()
	for i := range n {
		p := part(uint64(first+i), project(shop, "shop.example.com"))
		p.Assets = map[taubyte.ResourceID]cid.Cid{"get": asset(t, fmt.Sprint(first+i))}
		_, err := s.Publish(t.Context(), shop, branch, p)
		require.NoError(t, err)
	}
}

func complete(history []*tns.Deployment, n int) bool {
	if len(history) != n {
		return false
	}
	for _, d := range history {
		if d.Missing {
			return false
		}
	}
	return true
}

func TestALateReplicaKeepsTheWholeHistory(t *testing.T) {
	nw := testnet.New(t)
	a, b := nw.Node(taubyte.RoleTNS), nw.Node(taubyte.RoleTNS)
	sa := service(t, a)
	publish(t, sa, "main", 1, 20)
	sb := service(t, b)
	testnet.Eventually(t, func() bool {
		roots, err := sb.Assets(t.Context(), shop)
		return err == nil && len(roots) == 20
	}, "the late one has it all")
	require.NoError(t, sa.Close())
	require.NoError(t, a.Close())
	nw.Forget(a)

	history, err := sb.History(t.Context(), shop, "main")
	require.NoError(t, err)
	require.True(t, complete(history, 20), "with the publisher gone")
	d, err := sb.Rollback(t.Context(), shop, "main", 3)
	require.NoError(t, err)
	require.Equal(t, part(3, nil).Commit, d.Commit())
}

func TestWhatADiskLostComesBack(t *testing.T) {
	nw := testnet.New(t)
	a, b := nw.Node(taubyte.RoleTNS), nw.Node(taubyte.RoleTNS)
	sa, sb := service(t, a), service(t, b)
	publish(t, sa, "main", 1, 5)
	whole := func() bool {
		roots, err := sb.Assets(t.Context(), shop)
		return err == nil && len(roots) == 5
	}
	testnet.Eventually(t, whole, "all is there")
	require.NoError(t, sb.Close())
	all, err := b.Blocks().Blockstore().AllKeysChan(t.Context())
	require.NoError(t, err)
	for c := range all {
		require.NoError(t, b.Blocks().Blockstore().DeleteBlock(t.Context(), c))
	}
	sb = service(t, b)
	testnet.Eventually(t, whole, "it is fetched again")
	var d *tns.Deployment
	testnet.Eventually(t, func() bool { // which is resolved beside the fetching
		d, err = sb.Current(t.Context(), shop, "main")
		return err == nil
	}, "it is current again")
	require.EqualValues(t, 5, d.Sequence)
}

func TestAHistorySaysWhatIsMissing(t *testing.T) {
	nw := testnet.New(t)
	n := nw.Node(taubyte.RoleTNS)
	s := service(t, n)
	publish(t, s, "main", 1, 3)
	history, err := s.History(t.Context(), shop, "main")
	require.NoError(t, err)
	require.NoError(t, s.Close())

	// The disk lost the object of the second.
	store, err := crdt.Open(t.Context(), n, n.Store, "tns", crdt.WithWriters(taubyte.RoleTNS))
	require.NoError(t, err)
	keys, err := store.Query(t.Context(), queryAll("/history"))
	require.NoError(t, err)
	all, err := keys.Rest()
	require.NoError(t, err)
	require.Len(t, all, 3)
	for _, e := range all {
		key := ds.RawKey(e.Key)
		if key.Parent().Name() == fmt.Sprintf("%016d", 2) {
			c, err := cid.Decode(key.Name())
			require.NoError(t, err)
			require.NoError(t, n.Blocks().Blockstore().DeleteBlock(t.Context(), c))
		}
	}
	require.NoError(t, store.Close())

	s = service(t, n)
	got, err := s.History(t.Context(), shop, "main")
	require.NoError(t, err)
	require.Len(t, got, 3)
	require.Equal(t, history[1].Sequence, got[1].Sequence)
	require.True(t, history[1].Time.Equal(got[1].Time))
	require.True(t, got[1].Missing)
	require.False(t, got[0].Missing || got[2].Missing)
	_, err = s.Rollback(t.Context(), shop, "main", 2)
	require.ErrorIs(t, err, taubyte.ErrUnavailable)
	_, err = s.Assets(t.Context(), shop)
	require.ErrorIs(t, err, taubyte.ErrUnavailable, "nobody may delete by half the truth")
	_, err = s.Rollback(t.Context(), shop, "main", 1)
	require.NoError(t, err)
}

func TestOldHistoryGoesEverywhere(t *testing.T) {
	nw := testnet.New(t)
	a, b := nw.Node(taubyte.RoleTNS), nw.Node(taubyte.RoleTNS)
	sa, sb := service(t, a, tns.WithHistory(4)), service(t, b, tns.WithHistory(4))
	publish(t, sa, "main", 1, 3)
	publish(t, sa, "feature", 1, 1)
	blocks := func(n *testnet.Node) (count int) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		all, err := n.Blocks().Blockstore().AllKeysChan(ctx)
		require.NoError(t, err)
		for range all {
			count++
		}
		return count
	}
	testnet.Eventually(t, func() bool { return blocks(b) == 4 }, "all is there")
	publish(t, sa, "main", 4, 7)
	for _, s := range []*tns.Service{sa, sb} {
		testnet.Eventually(t, func() bool {
			h, err := s.History(t.Context(), shop, "main")
			return err == nil && complete(h, 4) && h[0].Sequence == 10 && h[3].Sequence == 7
		}, "the newest four stay")
		h, err := s.History(t.Context(), shop, "feature")
		require.NoError(t, err)
		require.Len(t, h, 1, "of each branch")
	}
	for _, n := range []*testnet.Node{a, b} {
		testnet.Eventually(t, func() bool { return blocks(n) == 5 }, "and the objects of the others go")
	}
	roots, err := sb.Assets(t.Context(), shop)
	require.NoError(t, err)
	require.ElementsMatch(t, []cid.Cid{asset(t, "1"), asset(t, "7"), asset(t, "8"), asset(t, "9"), asset(t, "10")}, roots)
	_, err = sb.Rollback(t.Context(), shop, "main", 5)
	require.ErrorIs(t, err, taubyte.ErrNotFound)

	// What is known to have been built stays known.
	_, err = sb.Publish(t.Context(), shop, "main", part(2, project(shop, "shop.example.com")))
	require.ErrorIs(t, err, taubyte.ErrConflict)
	require.NoError(t, sb.Close())
	again := service(t, b, tns.WithHistory(4))
	d, err := again.Current(t.Context(), shop, "main")
	require.NoError(t, err)
	require.EqualValues(t, 10, d.Sequence)
}

func TestDiff(t *testing.T) {
	nw := testnet.New(t)
	s := service(t, nw.Node(taubyte.RoleTNS))
	client := tns.NewClient(nw.Node(taubyte.RoleSubstrate))
	defer client.Close()
	ctx := t.Context()
	one := project(shop, "shop.example.com")
	one.Applications = []config.Application{{ID: "app", Name: "back", Resources: config.Resources{Databases: []config.Database{{Common: config.Common{ID: "db", Name: "orders"}, Size: 1}}}}}
	_, err := s.Publish(ctx, shop, "main", part(1, one))
	require.NoError(t, err)
	two := project(shop, "shop.example.com")
	two.Description = "now with words"
	two.Functions = two.Functions[:1]
	two.Functions[0].Timeout = time.Second
	two.Libraries = []config.Library{{Common: config.Common{ID: "lib", Name: "lib"}}}
	two.Applications = []config.Application{{ID: "app", Name: "back", Resources: config.Resources{Databases: []config.Database{{Common: config.Common{ID: "db", Name: "orders"}, Size: 2}}}}}
	p := part(2, two)
	p.Assets = map[taubyte.ResourceID]cid.Cid{"site": asset(t, "site")}
	_, err = s.Publish(ctx, shop, "main", p)
	require.NoError(t, err)

	want := &tns.Diff{
		Added:   []tns.Resource{{Group: "libraries", ID: "lib", Name: "lib"}},
		Removed: []tns.Resource{{Group: "functions", ID: "post", Name: "post"}},
		Changed: []tns.Resource{
			{Group: "functions", ID: "get", Name: "get", Fields: []string{"timeout"}},
			{Group: "project", ID: taubyte.ResourceID(shop), Name: string(shop), Fields: []string{"description"}},
			{Group: "websites", ID: "site", Name: "site", Fields: []string{"asset"}},
			{Group: "databases", ID: "db", Name: "orders", Application: "app", Fields: []string{"size"}},
		},
	}
	for _, r := range []registry{s, client} {
		roots, err := r.Assets(ctx, shop)
		require.NoError(t, err)
		require.Equal(t, []cid.Cid{asset(t, "site")}, roots)
		for _, pair := range [][2]string{{"1", "2"}, {string(part(1, nil).Commit), ""}} {
			d, err := r.Diff(ctx, shop, "main", pair[0], pair[1])
			require.NoError(t, err)
			require.EqualValues(t, 1, d.From.Sequence)
			require.Equal(t, p.Commit, d.To.Commit)
			d.From, d.To = tns.Revision{}, tns.Revision{}
			require.Equal(t, want, d)
		}
		same, err := r.Diff(ctx, shop, "main", "2", "")
		require.NoError(t, err)
		require.Empty(t, append(append(same.Added, same.Removed...), same.Changed...))
		_, err = r.Diff(ctx, shop, "main", "7", "")
		require.ErrorIs(t, err, taubyte.ErrNotFound)
		_, err = r.Diff(ctx, shop, "none", "", "")
		require.ErrorIs(t, err, taubyte.ErrNotFound)
	}
}
