package tns_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/tns"
)

// A job publishes its own branch of its own project under its own id, on its own node and
// from a worker elsewhere, and changes nothing else. A function changes and reads nothing.
func TestAJobPublishesItsOwnBranch(t *testing.T) {
	nw := testnet.New(t)
	s := service(t, nw.Node(taubyte.RoleTNS), tns.WithOpenDomains())
	worker := tns.NewClient(nw.Node(taubyte.RoleMonkey))
	defer worker.Close()
	const blog taubyte.ProjectID = "blog"
	order := uint64(1)
	of := func(p taubyte.ProjectID, job taubyte.JobID) tns.Part {
		order++
		made := part(order, project(p, string(p[:4])+".example.com"))
		made.Job = job
		return made
	}
	_, err := s.Publish(t.Context(), blog, "main", of(blog, "other"))
	require.NoError(t, err)
	for _, r := range []interface {
		Publish(context.Context, taubyte.ProjectID, taubyte.Branch, tns.Part) (*tns.Deployment, error)
		Remove(context.Context, taubyte.ProjectID, taubyte.Branch) error
		Current(context.Context, taubyte.ProjectID, taubyte.Branch) (*tns.Deployment, error)
		Rollback(context.Context, taubyte.ProjectID, taubyte.Branch, uint64) (*tns.Deployment, error)
	}{s, worker} {
		ctx := taubyte.WithPrincipal(t.Context(), taubyte.Principal{
			Kind: taubyte.KindJob, Projects: []taubyte.ProjectID{shop}, Branch: "main", Job: "j", Attempt: 1,
		})
		_, err := r.Publish(ctx, shop, "main", of(shop, "j"))
		require.NoError(t, err)
		_, err = r.Current(ctx, shop, "main")
		require.NoError(t, err)
		for what, err := range map[string]error{
			"another project": refused(r.Publish(ctx, blog, "main", of(blog, "j"))),
			"another branch":  refused(r.Publish(ctx, shop, "dev", of(shop, "j"))),
			"another job":     refused(r.Publish(ctx, shop, "main", of(shop, "k"))),
			"no job":          refused(r.Publish(ctx, shop, "main", of(shop, ""))),
			"remove another":  r.Remove(ctx, blog, "main"),
			"remove a branch": r.Remove(ctx, shop, "dev"),
			"read another":    refused(r.Current(ctx, blog, "main")),
			"roll back":       refused(r.Rollback(ctx, shop, "main", 1)),
		} {
			require.ErrorIs(t, err, taubyte.ErrForbidden, what)
		}
		require.NoError(t, r.Remove(ctx, shop, "main"))
	}
	function := taubyte.WithPrincipal(t.Context(), taubyte.Principal{Kind: taubyte.KindFunction, Projects: []taubyte.ProjectID{shop}, Branch: "main", Resource: "f"})
	require.ErrorIs(t, refused(s.Publish(function, shop, "main", of(shop, ""))), taubyte.ErrForbidden)
	require.ErrorIs(t, s.Remove(function, shop, "main"), taubyte.ErrForbidden)
	require.ErrorIs(t, refused(s.Current(function, shop, "main")), taubyte.ErrForbidden)
	d, err := s.Current(t.Context(), blog, "main")
	require.NoError(t, err)
	require.EqualValues(t, 1, d.Sequence)
}

func refused(_ *tns.Deployment, err error) error { return err }
