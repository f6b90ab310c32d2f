package patrick_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/patrick"
)

// What is done under a lease is the job's, in the attempt that the lease is of: a job gets
// nothing of another one, although one worker holds the leases of both. It is so in every
// way that a call comes in, and users and functions have no leases.
func TestAJobSpeaksForItself(t *testing.T) {
	net := testnet.New(t)
	node := net.Node(taubyte.RolePatrick, taubyte.RoleMonkey)
	s := open(t, node, newOrigin())
	worker := client(t, net.Node(taubyte.RoleMonkey))
	as := func(l patrick.Lease, project taubyte.ProjectID) taubyte.Principal {
		p := as(l)
		p.Projects = []taubyte.ProjectID{project}
		return p
	}
	for n, c := range []interface {
		claimer
		leased
	}{worker, s} { // over a stream, and on the node itself
		push(t, s, "local/shop", "main", hash(2*n+1))
		push(t, s, "local/blog", "main", hash(2*n+2))
		a, b := claim(t, c), claim(t, c)
		if a.Job.Project != "shop" {
			a, b = b, a
		}
		earlier := as(b, "blog")
		earlier.Attempt++
		user := taubyte.Principal{Kind: taubyte.KindUser, Name: "ann", Verb: taubyte.VerbAdminister, AllProjects: true}
		for what, p := range map[string]taubyte.Principal{
			"another job": as(a, "shop"), "another project's": as(b, "shop"), "another attempt": earlier, "a user": user, "nobody": {},
		} {
			ctx := taubyte.WithPrincipal(t.Context(), p)
			if c == worker && p.Kind == "" {
				continue // is not carried to another node at all
			}
			_, err := c.Renew(ctx, b)
			require.ErrorIs(t, err, taubyte.ErrForbidden, what)
			require.ErrorIs(t, c.Log(ctx, b, -1, []byte("planted")), taubyte.ErrForbidden, what)
			require.ErrorIs(t, c.Finish(ctx, b, patrick.Outcome{State: patrick.Succeeded}), taubyte.ErrForbidden, what)
			_, err = c.Source(ctx, b)
			require.ErrorIs(t, err, taubyte.ErrForbidden, what)
			_, err = c.Environment(ctx, b, patrick.EnvironmentRequest{Names: []string{"KEY"}})
			require.ErrorIs(t, err, taubyte.ErrForbidden, what)
			if p.Kind != taubyte.KindUser {
				require.ErrorIs(t, s.Cancel(ctx, b.Job.ID), taubyte.ErrForbidden, what)
				_, err = s.Claim(ctx)
				require.ErrorIs(t, err, taubyte.ErrForbidden, what)
			}
		}
		ctx := taubyte.WithPrincipal(t.Context(), as(b, "blog"))
		_, err := c.Renew(ctx, b)
		require.NoError(t, err)
		require.NoError(t, c.Log(ctx, b, -1, []byte("own\n")))
		src, err := c.Source(ctx, b)
		require.NoError(t, err)
		require.NoError(t, src.Archive.Close())
		require.ErrorIs(t, s.Cancel(ctx, b.Job.ID), taubyte.ErrForbidden, "that is a user's")
		require.NoError(t, c.Finish(ctx, b, patrick.Outcome{State: patrick.Succeeded}))
		require.Equal(t, patrick.Succeeded, state(t, s, b.Job.ID))
		log, err := s.Logs(t.Context(), b.Job.ID, 0, false)
		require.Equal(t, "own\n", text(t, log, err))
		require.NoError(t, c.Finish(taubyte.WithPrincipal(t.Context(), as(a, "shop")), a, patrick.Outcome{State: patrick.Succeeded}))
	}
}
