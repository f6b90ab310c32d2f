package tns_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	numbers "github.com/taubyte/taubyte/internal/claim"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/tns"
)

// A job that was under way when its project was deleted does not bring it back: not its
// branch, not another one, at no node; and a project that is made again deploys.
func TestALateJobDoesNotBringAProjectBack(t *testing.T) {
	nw := testnet.New(t)
	node := nw.Node(taubyte.RoleTNS)
	one, two := service(t, node, tns.WithOpenDomains()), service(t, nw.Node(taubyte.RoleTNS), tns.WithOpenDomains())
	worker, owner := tns.NewClient(nw.Node(taubyte.RoleMonkey)), tns.NewClient(nw.Node(taubyte.RoleAuth))
	defer worker.Close()
	defer owner.Close()
	orders := numbers.NewNumbers(node.ID(), time.Now)
	job := func(p taubyte.ProjectID, id taubyte.JobID) tns.Part {
		made := part(orders.Next(0), project(p, string(p[:4])+".example.com"))
		made.Job = id
		return made
	}
	const blog taubyte.ProjectID = "blog"
	_, err := one.Publish(t.Context(), shop, "main", job(shop, "first"))
	require.NoError(t, err)
	_, err = one.Publish(t.Context(), blog, "main", job(blog, "other"))
	require.NoError(t, err)
	late, preview := job(shop, "late"), job(shop, "preview")
	require.ErrorIs(t, worker.RemoveProject(t.Context(), shop), taubyte.ErrForbidden)
	for what, ctx := range testnet.Outsiders(t.Context(), blog) {
		require.ErrorIs(t, one.RemoveProject(ctx, shop), taubyte.ErrForbidden, what)
	}
	require.NoError(t, owner.RemoveProject(t.Context(), shop))

	gone := func(s *tns.Service, b taubyte.Branch) bool {
		_, err := s.Current(t.Context(), shop, b)
		return errors.Is(err, taubyte.ErrNotFound)
	}
	for _, s := range []*tns.Service{one, two} {
		testnet.Eventually(t, func() bool {
			_, err := s.Publish(t.Context(), shop, "main", late)
			return errors.Is(err, taubyte.ErrForbidden)
		}, "every node refuses it, once it has heard")
	}
	for _, s := range []*tns.Service{one, two} {
		_, err = s.Publish(t.Context(), shop, "next", preview)
		require.ErrorIs(t, err, taubyte.ErrForbidden, "a branch that was never deployed")
		testnet.Eventually(t, func() bool { return gone(s, "main") && gone(s, "next") }, "all of it is off the air")
		_, err = s.Current(t.Context(), blog, "main")
		require.NoError(t, err)
	}
	_, err = worker.Publish(taubyte.WithPrincipal(t.Context(), taubyte.Principal{
		Kind: taubyte.KindJob, Projects: []taubyte.ProjectID{shop}, Branch: "main", Job: "late", Attempt: 1,
	}), shop, "main", late)
	require.ErrorIs(t, err, taubyte.ErrForbidden)

	// The same id, made again: what is pushed from now on is deployed.
	testnet.Eventually(t, func() bool {
		_, err := worker.Publish(t.Context(), shop, "main", job(shop, "again"))
		return err == nil
	}, "deployed again")
}
