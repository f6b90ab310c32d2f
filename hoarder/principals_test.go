package hoarder_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/internal/testnet"
)

// function is a function of the branch "main" of P, in an application.
func function(application taubyte.ApplicationID) taubyte.Principal {
	return taubyte.Principal{Kind: taubyte.KindFunction, Projects: []taubyte.ProjectID{"P"}, Branch: "main", Application: application, Resource: "f"}
}

// A function reaches the stores of its own branch and application, whatever else the node
// that it runs on may reach, and whichever way it is asked.
func TestAFunctionReachesItsOwn(t *testing.T) {
	net := testnet.New(t)
	n := net.Node(taubyte.RoleHoarder)
	s := start(t, n)
	foreign, other, inner := named("notes"), named("notes"), named("notes")
	foreign.Project, other.Branch, inner.Application = "Q", "dev", "app"
	files := named("files")
	files.Project = "Q"
	for _, o := range []opener{s, client(t, net.Node(taubyte.RoleSubstrate))} {
		as := taubyte.WithPrincipal(t.Context(), function("app"))
		for _, i := range []hoarder.Instance{named("notes"), inner, {Project: "P", Branch: "main", Application: "@globals", Name: "globals"}} {
			d, err := o.Database(as, i, hoarder.DatabaseSpec{})
			require.NoError(t, err)
			require.NoError(t, d.Put(as, "k", []byte("1")))
			_, err = d.Get(as, "k")
			require.NoError(t, err)
		}
		elsewhere := inner
		elsewhere.Application = "else"
		for what, i := range map[string]hoarder.Instance{
			"another project": foreign, "another branch": other, "another application": elsewhere,
			"the files of another application": {Project: "P", Branch: "main", Application: "@content", Name: "files/else"},
		} {
			_, err := o.Database(as, i, hoarder.DatabaseSpec{})
			require.ErrorIs(t, err, taubyte.ErrForbidden, what)
			// A handle that the node has for somebody else does not help.
			d := database(t, o, i, hoarder.DatabaseSpec{})
			require.NoError(t, d.Put(t.Context(), "secret", []byte("1")))
			_, err = d.Get(as, "secret")
			require.ErrorIs(t, err, taubyte.ErrForbidden, what)
			require.ErrorIs(t, d.Put(as, "secret", []byte("2")), taubyte.ErrForbidden, what)
			require.ErrorIs(t, d.Delete(as, "secret"), taubyte.ErrForbidden, what)
			_, err = d.List(as, "")
			require.ErrorIs(t, err, taubyte.ErrForbidden, what)
			wantValue(t, d, "secret", "1")
		}
		st := storage(t, o, files, hoarder.StorageSpec{})
		f := put(t, st, "secret", []byte("1"), true)
		_, err := st.Add(as, "secret", bytes.NewReader([]byte("2")), true)
		require.ErrorIs(t, err, taubyte.ErrForbidden)
		_, _, err = st.Open(as, "secret", f.Version)
		require.ErrorIs(t, err, taubyte.ErrForbidden)
		_, err = st.Versions(as, "secret")
		require.ErrorIs(t, err, taubyte.ErrForbidden)
		require.ErrorIs(t, st.Remove(as, "secret", f.Version, true), taubyte.ErrForbidden)
		require.ErrorIs(t, o.Drop(as, named("notes")), taubyte.ErrForbidden)

		// A job builds, and what it builds has not run.
		job := taubyte.WithPrincipal(t.Context(), taubyte.Principal{Kind: taubyte.KindJob, Projects: []taubyte.ProjectID{"P"}, Branch: "main", Job: "j"})
		d := database(t, o, named("notes"), hoarder.DatabaseSpec{})
		_, err = d.Get(job, "k")
		require.ErrorIs(t, err, taubyte.ErrForbidden)
	}
	root, theirs := add(t, n, 1, 1000), add(t, n, 2, 1000)
	require.NoError(t, s.Keep(t.Context(), root, for_("P")))
	require.NoError(t, s.Keep(t.Context(), root, for_("Q")))
	require.NoError(t, s.Keep(t.Context(), theirs, for_("Q")))
	as := taubyte.WithPrincipal(t.Context(), function(""))
	item, err := s.Item(as, root)
	require.NoError(t, err)
	require.Len(t, item.Claims, 1, "that another project has the same is none of its business")
	_, err = s.Item(as, theirs)
	require.ErrorIs(t, err, taubyte.ErrNotFound)
	_, err = s.Items(as)
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	_, err = s.Stores(as)
	require.ErrorIs(t, err, taubyte.ErrForbidden)
}

// A job has content kept for its own project, here and from another node, and takes
// nothing back.
func TestAJobKeepsForItsProject(t *testing.T) {
	net := testnet.New(t)
	n, worker := net.Node(taubyte.RoleHoarder), net.Node(taubyte.RoleMonkey)
	s := start(t, n)
	job := taubyte.WithPrincipal(t.Context(), taubyte.Principal{Kind: taubyte.KindJob, Projects: []taubyte.ProjectID{"P"}, Branch: "main", Job: "j"})
	for _, k := range []interface {
		Keep(context.Context, cid.Cid, hoarder.KeepOptions) error
		Release(context.Context, cid.Cid, taubyte.ProjectID) error
	}{s, client(t, worker)} {
		root := add(t, n, 3, 1000)
		require.NoError(t, k.Keep(job, root, for_("P")))
		require.ErrorIs(t, k.Keep(job, root, for_("Q")), taubyte.ErrForbidden)
		require.ErrorIs(t, k.Release(job, root, "P"), taubyte.ErrForbidden)
		require.ErrorIs(t, k.Keep(taubyte.WithPrincipal(t.Context(), function("")), root, for_("P")), taubyte.ErrForbidden)
	}
}
