package auth_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/internal/testnet"
)

func repositories(t *testing.T) *auth.Service {
	s := open(t, testnet.New(t).Node())
	for _, id := range []taubyte.ProjectID{"QmA", "QmB"} {
		_, err := s.CreateProject(t.Context(), auth.Project{ID: id})
		require.NoError(t, err)
	}
	return s
}

func repository(name string, project taubyte.ProjectID) auth.Repository {
	return auth.Repository{ID: taubyte.RepositoryID("local/" + name), Project: project, Kind: auth.KindProject, Provider: "local", Name: name}
}

func TestALoserOfARaceNeverBecomesOwner(t *testing.T) {
	s, ctx := repositories(t), t.Context()
	won := repository("shop", "QmA")
	_, err := s.Register(ctx, won)
	require.NoError(t, err)
	lost := repository("shop", "QmB")
	began := time.Now().UTC()
	require.NoError(t, s.PutRegistration(ctx, lost, "other", began))
	require.Equal(t, taubyte.ProjectID("QmA"), s.ProjectOf(ctx, won.ID))

	// The owner registers what the repository is, again and otherwise; so does the loser.
	won.Kind = auth.KindConfig
	won, err = s.Register(ctx, won)
	require.NoError(t, err)
	require.Equal(t, taubyte.ProjectID("QmA"), s.ProjectOf(ctx, won.ID))
	_, err = s.Register(ctx, lost)
	require.ErrorIs(t, err, taubyte.ErrConflict)
	r, err := s.Repository(ctx, won.ID)
	require.NoError(t, err)
	require.Equal(t, won, r)

	// The owner leaves: nobody has the repository, not even what arrives late.
	require.NoError(t, s.Unregister(ctx, won.ID))
	require.Empty(t, s.ProjectOf(ctx, won.ID))
	require.NoError(t, s.PutRegistration(ctx, lost, "third", began))
	require.Empty(t, s.ProjectOf(ctx, won.ID))
	all, err := s.Repositories(ctx, "")
	require.NoError(t, err)
	require.Empty(t, all)
	// What is registered from now on is new, and may be.
	_, err = s.Register(ctx, lost)
	require.NoError(t, err)
	require.Equal(t, taubyte.ProjectID("QmB"), s.ProjectOf(ctx, won.ID))
}

func TestAProjectHasOneRepositoryWithItsConfiguration(t *testing.T) {
	s, ctx := repositories(t), t.Context()
	first, second := repository("one", "QmA"), repository("two", "QmA")
	first, err := s.Register(ctx, first)
	require.NoError(t, err)
	_, err = s.Register(ctx, second)
	require.ErrorIs(t, err, taubyte.ErrConflict)
	require.ErrorContains(t, err, "give this one a project id of its own")
	code := second
	code.Kind = auth.KindCode
	_, err = s.Register(ctx, code)
	require.NoError(t, err, "a project has repositories of code beside it")
	require.NoError(t, s.Unregister(ctx, code.ID))

	// Another node has registered one that did not know of ours.
	third, began := repository("three", "QmA"), time.Now().UTC()
	require.NoError(t, s.PutRegistration(ctx, third, "other", began))
	require.Empty(t, s.ProjectOf(ctx, third.ID))
	all, err := s.Repositories(ctx, "QmA")
	require.NoError(t, err)
	require.Equal(t, []auth.Repository{first}, all)
	_, err = s.Register(ctx, third)
	require.ErrorIs(t, err, taubyte.ErrConflict, "nor by registering again")
	require.NoError(t, s.Unregister(ctx, first.ID))
	require.NoError(t, s.PutRegistration(ctx, repository("four", "QmA"), "other", began))
	for _, r := range []string{"three", "four"} {
		require.Empty(t, s.ProjectOf(ctx, repository(r, "").ID), "nor by the winner's leaving")
	}
	_, err = s.Register(ctx, second)
	require.NoError(t, err, "the project is free for another")

	// Who has lost a project may have one of its own.
	require.NoError(t, s.PutRegistration(ctx, third, "other", time.Now().UTC()))
	_, err = s.Register(ctx, repository("three", "QmB"))
	require.NoError(t, err)
	require.Equal(t, taubyte.ProjectID("QmB"), s.ProjectOf(ctx, third.ID))
	require.Equal(t, taubyte.ProjectID("QmA"), s.ProjectOf(ctx, second.ID))
}

func TestRegistrationsOfOlderNodes(t *testing.T) {
	net := testnet.New(t)
	n := net.Node()
	s, ctx := open(t, n), t.Context()
	_, err := s.CreateProject(ctx, auth.Project{ID: "QmA"})
	require.NoError(t, err)
	old := repository("old", "QmA")
	require.NoError(t, s.PutOldRegistration(ctx, old, time.Now().Add(-time.Hour).UTC()))
	require.NoError(t, s.Close())
	s = open(t, n)
	require.Equal(t, taubyte.ProjectID("QmA"), s.ProjectOf(ctx, old.ID))
	_, err = s.Register(ctx, repository("new", "QmA"))
	require.ErrorIs(t, err, taubyte.ErrConflict)
}

func TestProjectIDsAreMade(t *testing.T) {
	s, ctx := repositories(t), t.Context()
	a, err := s.CreateProject(ctx, auth.Project{Name: "shop"})
	require.NoError(t, err)
	b, err := s.CreateProject(ctx, auth.Project{Name: "shop"})
	require.NoError(t, err)
	require.NotEqual(t, a.ID, b.ID)
	require.True(t, strings.HasPrefix(string(a.ID), "Qm") && len(a.ID) == 46, "%s", a.ID)
	// Of a project that is there, nobody may change anything who may not administer it.
	user := taubyte.WithPrincipal(ctx, taubyte.Principal{Kind: taubyte.KindUser, Name: "ann", Verb: taubyte.VerbAdminister, Projects: []taubyte.ProjectID{a.ID}})
	_, err = s.CreateProject(user, auth.Project{ID: b.ID, Name: "mine"})
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	_, err = s.CreateProject(user, auth.Project{Name: "mine"})
	require.ErrorIs(t, err, taubyte.ErrForbidden, "where the id is not known, it takes all")
	require.ErrorIs(t, s.RemoveProject(user, b.ID), taubyte.ErrForbidden)
	_, err = s.Register(user, repository("shop", b.ID))
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	_, err = s.Register(user, repository("shop", a.ID))
	require.NoError(t, err)
	all, err := s.Projects(user)
	require.NoError(t, err)
	require.Equal(t, []auth.Project{a}, all)
}
