package auth_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-datastore/query"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/internal/testnet"
)

func TestTokens(t *testing.T) {
	net := testnet.New(t)
	node := net.Node(taubyte.RoleAuth)
	s, ctx := open(t, node), t.Context()
	second := open(t, net.Node(taubyte.RoleAuth))
	gate := client(t, net.Node(taubyte.RoleGateway))
	for _, id := range []taubyte.ProjectID{"QmA", "QmB"} {
		_, err := s.CreateProject(ctx, auth.Project{ID: id})
		require.NoError(t, err)
	}
	made, err := s.CreateToken(ctx, auth.Token{Name: "ci", Verb: taubyte.VerbDeploy, Projects: []taubyte.ProjectID{"QmA"}, Ends: time.Now().Add(time.Hour)})
	require.NoError(t, err)
	require.Equal(t, "the administrator", made.MadeBy)
	p, err := s.Authenticate(ctx, made.Secret)
	require.NoError(t, err)
	require.NoError(t, p.May(taubyte.VerbDeploy, "QmA"))
	require.Error(t, p.May(taubyte.VerbAdminister, "QmA"))
	require.Error(t, p.May(taubyte.VerbRead, "QmB"))
	require.WithinDuration(t, made.Ends, p.Until, time.Second)

	// Every node can ask whose a token is, and nobody finds out by a part of one.
	testnet.Eventually(t, func() bool { _, err := second.Authenticate(ctx, made.Secret); return err == nil }, "replicated")
	p, err = gate.Authenticate(ctx, made.Secret)
	require.NoError(t, err)
	require.Equal(t, taubyte.KindUser, p.Kind)
	for _, wrong := range []string{"", made.ID, made.Secret[:len(made.Secret)-1], made.Secret + "a", strings.Repeat("x", 1<<16),
		made.Secret[:len(made.Secret)-1] + map[bool]string{true: "b", false: "a"}[strings.HasSuffix(made.Secret, "a")]} {
		_, err = s.Authenticate(ctx, wrong)
		require.ErrorIs(t, err, taubyte.ErrForbidden)
	}
	user := taubyte.WithPrincipal(ctx, p)
	_, err = s.Authenticate(user, made.Secret)
	require.ErrorIs(t, err, taubyte.ErrForbidden, "users don't ask")

	// What is kept does not have it.
	found, err := node.Store.Query(ctx, query.Query{})
	require.NoError(t, err)
	defer found.Close()
	for r := range found.Next() {
		require.NotContains(t, string(r.Value), made.Secret[len("tau_")+17:])
	}

	// Nobody makes a token that may more than he.
	owner := taubyte.Principal{Kind: taubyte.KindUser, Name: "ann", Verb: taubyte.VerbAdminister, Projects: []taubyte.ProjectID{"QmA"}, Until: time.Now().Add(time.Hour)}
	ann := taubyte.WithPrincipal(ctx, owner)
	for name, bad := range map[string]auth.Token{
		"another project": {Name: "x", Verb: taubyte.VerbRead, Projects: []taubyte.ProjectID{"QmA", "QmB"}},
		"everything":      {Name: "x", Verb: taubyte.VerbRead, All: true},
		"longer":          {Name: "x", Verb: taubyte.VerbRead, Projects: []taubyte.ProjectID{"QmA"}},
	} {
		_, err = s.CreateToken(ann, bad)
		require.ErrorIs(t, err, taubyte.ErrForbidden, name)
	}
	_, err = s.CreateToken(user, auth.Token{Name: "x", Verb: taubyte.VerbRead, Projects: []taubyte.ProjectID{"QmA"}, Ends: time.Now().Add(time.Minute)})
	require.ErrorIs(t, err, taubyte.ErrForbidden, "who may deploy makes no tokens")
	short, err := s.CreateToken(ann, auth.Token{Name: "short", Verb: taubyte.VerbRead, Projects: []taubyte.ProjectID{"QmA"}, Ends: time.Now().Add(2 * time.Second)})
	require.NoError(t, err)
	testnet.Eventually(t, func() bool { _, err := s.Authenticate(ctx, short.Secret); return err != nil }, "ended")
	for name, bad := range map[string]auth.Token{
		"no name":      {Verb: taubyte.VerbRead, All: true},
		"control":      {Name: "a\nb", Verb: taubyte.VerbRead, All: true},
		"no verb":      {Name: "x", All: true},
		"for nothing":  {Name: "x", Verb: taubyte.VerbRead},
		"both":         {Name: "x", Verb: taubyte.VerbRead, All: true, Projects: []taubyte.ProjectID{"QmA"}},
		"too long":     {Name: "x", Verb: taubyte.VerbRead, All: true, Ends: time.Now().Add(2 * auth.MaxTokenLifetime)},
		"ended":        {Name: "x", Verb: taubyte.VerbRead, All: true, Ends: time.Now().Add(-time.Hour)},
		"owner of git": {Name: "x", Verb: taubyte.VerbAdminister, Repositories: []taubyte.RepositoryID{"local/shop"}},
	} {
		_, err = s.CreateToken(ctx, bad)
		require.ErrorIs(t, err, taubyte.ErrInvalid, name)
	}

	// Each sees and revokes what it could have made.
	all, err := s.Tokens(ann)
	require.NoError(t, err)
	require.Len(t, all, 2)
	other, err := s.CreateToken(ctx, auth.Token{Name: "b", Verb: taubyte.VerbRead, Projects: []taubyte.ProjectID{"QmB"}})
	require.NoError(t, err)
	require.ErrorIs(t, s.RevokeToken(ann, other.ID), taubyte.ErrForbidden)
	require.ErrorIs(t, s.RevokeToken(ctx, strings.Repeat("a", 16)), taubyte.ErrNotFound)
	require.NoError(t, s.RevokeToken(ann, made.ID))
	_, err = s.Authenticate(ctx, made.Secret)
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	testnet.Eventually(t, func() bool { _, err := second.Authenticate(ctx, made.Secret); return err != nil }, "revoked elsewhere")
	all, err = s.Tokens(ctx)
	require.NoError(t, err)
	require.Len(t, all, 3)
	_, err = gate.Tokens(ctx)
	require.ErrorIs(t, err, taubyte.ErrForbidden)
}

func TestAGitCredentialMadeByAuth(t *testing.T) {
	s, ctx := repositories(t), t.Context()
	_, err := s.Register(ctx, repository("shop", "QmA"))
	require.NoError(t, err)
	_, err = s.CreateToken(ctx, auth.Token{Name: "x", Verb: taubyte.VerbDeploy, Repositories: []taubyte.RepositoryID{"local/none"}})
	require.ErrorIs(t, err, taubyte.ErrNotFound)
	made, err := s.CreateToken(ctx, auth.Token{Name: "x", Verb: taubyte.VerbDeploy, Repositories: []taubyte.RepositoryID{"local/shop"}})
	require.NoError(t, err)
	p, err := s.Authenticate(ctx, made.Secret)
	require.NoError(t, err)
	require.NoError(t, p.MayGit("local/shop", "QmA", true))
	require.ErrorIs(t, p.MayGit("local/blog", "QmA", false), taubyte.ErrForbidden)
	require.ErrorIs(t, p.MayGit("local/shop", "QmB", false), taubyte.ErrForbidden, "the repository went to another project")
	push := taubyte.WithPrincipal(ctx, p)
	for name, call := range map[string]func() error{
		"projects":     func() error { _, err := s.Projects(push); return err },
		"project":      func() error { _, err := s.Project(push, "QmA"); return err },
		"repositories": func() error { _, err := s.Repositories(push, "QmA"); return err },
		"heads":        func() error { _, err := s.Heads(push, "local/shop"); return err },
		"tokens":       func() error { _, err := s.Tokens(push); return err },
		"members":      func() error { _, err := s.Members(push); return err },
		"unregister":   func() error { return s.Unregister(push, "local/shop") },
		"revoke":       func() error { return s.RevokeToken(push, made.ID) },
		"create token": func() error {
			_, err := s.CreateToken(push, auth.Token{Name: "y", Verb: taubyte.VerbRead, Projects: []taubyte.ProjectID{"QmA"}})
			return err
		},
	} {
		require.ErrorIs(t, call(), taubyte.ErrForbidden, name)
	}
}

// Of all texts one alone is the token that was made.
func FuzzAccessToken(f *testing.F) {
	network := testnet.New(f)
	node := network.Node()
	s, err := auth.New(f.Context(), node, node.Store, auth.WithLogger(testnet.Logger(f)))
	require.NoError(f, err)
	f.Cleanup(func() { _ = s.Close() })
	made, err := s.CreateToken(f.Context(), auth.Token{Name: "ci", Verb: taubyte.VerbRead, All: true})
	require.NoError(f, err)
	for _, text := range []string{
		"", "tau_", "tau_" + made.ID, "tau_" + made.ID + "_", made.Secret, made.Secret + "\n", strings.ToUpper(made.Secret), "\x00" + made.Secret,
		"tau_" + strings.Repeat("a", 16) + "_" + strings.Repeat("a", 52), "tau_../../tokens_" + strings.Repeat("a", 52), "git_" + made.Secret,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := s.Authenticate(t.Context(), text)
		switch {
		case text == made.Secret:
			require.NoError(t, err)
			require.Equal(t, taubyte.VerbRead, p.Verb)
		default:
			require.ErrorIs(t, err, taubyte.ErrForbidden)
			require.Zero(t, p)
		}
	})
}
