package tns_test

import (
	"context"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore/query"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

// registry is what the service and its client have in common: everything.
type registry interface {
	tns.Watcher
	WatchProject(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch, after string) (<-chan tns.Change, error)
	Publish(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch, part tns.Part) (*tns.Deployment, error)
	Remove(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch) error
	Rollback(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch, sequence uint64) (*tns.Deployment, error)
	Current(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch) (*tns.Deployment, error)
	History(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch) ([]*tns.Deployment, error)
	Diff(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch, from, to string) (*tns.Diff, error)
	Projects(ctx context.Context) ([]tns.Summary, error)
	Find(ctx context.Context, what string) ([]tns.Summary, error)
	Assets(ctx context.Context, project taubyte.ProjectID) ([]cid.Cid, error)
	Verify(ctx context.Context, project taubyte.ProjectID, host string, verified bool) error
	Claims(ctx context.Context, host string) ([]tns.Claim, error)
	Conflicts(ctx context.Context, project taubyte.ProjectID) ([]tns.Claim, error)
	Close() error
}

var _, _ registry = (*tns.Service)(nil), (*tns.Client)(nil)

func queryAll(prefix string) query.Query { return query.Query{Prefix: prefix, KeysOnly: true} }

func TestFindByIDOrName(t *testing.T) {
	nw := testnet.New(t)
	s := service(t, nw.Node(taubyte.RoleTNS))
	client := tns.NewClient(nw.Node(taubyte.RoleSubstrate))
	defer client.Close()
	ctx := t.Context()
	c := project(shop, "shop.example.com")
	c.Name = "shop"
	c.Websites[0].Origin = config.Origin{Provider: "github", RepositoryID: "77", RepositoryName: "acme/front"}
	_, err := s.Publish(ctx, shop, "main", part(1, c))
	require.NoError(t, err)
	other := project("another", "another.example.com")
	_, err = s.Publish(ctx, "another", "main", part(1, other))
	require.NoError(t, err)
	for _, r := range []registry{s, client} {
		for _, what := range []string{string(shop), "shop", "github/77", "acme/front"} {
			found, err := r.Find(ctx, what)
			require.NoError(t, err)
			require.Len(t, found, 1, what)
			require.Equal(t, shop, found[0].Project)
			require.Equal(t, []tns.RepositorySummary{
				{Repository: "github/77", Name: "acme/front"},
				{Repository: "local/all", Commit: part(1, nil).Commit},
			}, found[0].Branches[0].Repositories)
		}
		found, err := r.Find(ctx, "local/all")
		require.NoError(t, err)
		require.Len(t, found, 2, "a repository of two projects")
		found, err = r.Find(ctx, "nothing")
		require.NoError(t, err)
		require.Empty(t, found)
	}
}

func TestWatchOfAProjectOrBranch(t *testing.T) {
	nw := testnet.New(t)
	s := service(t, nw.Node(taubyte.RoleTNS))
	client := tns.NewClient(nw.Node(taubyte.RoleSubstrate))
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	next := func(ch <-chan tns.Change) tns.Change {
		t.Helper()
		select {
		case c, ok := <-ch:
			require.True(t, ok)
			return c
		case <-ctx.Done():
			require.FailNow(t, "no change")
			return tns.Change{}
		}
	}
	order := 0
	put := func(project taubyte.ProjectID, branch taubyte.Branch) {
		order++
		_, err := s.Publish(ctx, project, branch, tns.Part{Repository: "local/all", Order: uint64(order)})
		require.NoError(t, err)
	}
	put("other", "main")
	put(shop, "dev")
	put(shop, "main")
	for _, r := range []registry{s, client} {
		watch, stop := context.WithCancel(ctx)
		whole, err := r.WatchProject(watch, shop, "", "")
		require.NoError(t, err)
		branch, err := r.WatchProject(watch, shop, "main", "")
		require.NoError(t, err)
		require.Equal(t, shop, next(whole).Project)
		require.Equal(t, shop, next(whole).Project)
		require.True(t, next(whole).Ready)
		require.EqualValues(t, "main", next(branch).Branch)
		require.True(t, next(branch).Ready)
		put("other", "main")
		put(shop, "dev")
		put(shop, "main")
		require.EqualValues(t, "dev", next(whole).Branch)
		require.EqualValues(t, "main", next(whole).Branch)
		last := next(branch)
		require.EqualValues(t, "main", last.Branch)
		stop()

		put("other", "main")
		put(shop, "dev")
		watch, stop = context.WithCancel(ctx)
		whole, err = r.WatchProject(watch, shop, "", last.Token)
		require.NoError(t, err)
		require.EqualValues(t, "dev", next(whole).Branch, "what was missed, and nothing else")
		require.True(t, next(whole).Ready)
		stop()
	}
}
