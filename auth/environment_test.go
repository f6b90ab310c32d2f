package auth_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-datastore/query"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/environment"
	"github.com/taubyte/taubyte/internal/testbin"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

func seen(all []environment.Variable, b taubyte.Branch, function string) string {
	var out []string
	for _, v := range environment.Resolve(all, b, function) {
		out = append(out, v.Name+"="+string(v.Value))
	}
	return strings.Join(out, " ")
}

// Values are set at one node, given by another to who runs the branch and to nobody else,
// logged nowhere, and each access is known.
func TestVariables(t *testing.T) {
	net := testnet.New(t)
	log := &testbin.Buffer{}
	logged := auth.WithLogger(slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	one, two := net.Node(taubyte.RoleAuth), net.Node(taubyte.RoleAuth)
	registryNode := net.Node(taubyte.RoleTNS)
	registry, err := tns.New(t.Context(), registryNode, registryNode.Store, tns.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	defer registry.Close()
	a, b := open(t, one, logged), open(t, two, logged)
	runs := environment.NewClient(net.Node(taubyte.RoleSubstrate))
	defer runs.Close()
	ctx := t.Context()

	set := func(s *auth.Service, kind environment.Kind, branch taubyte.Branch, function, name, value string) {
		t.Helper()
		v, err := s.SetVariable(ctx, environment.Variable{Kind: kind, Project: "QmShop", Branch: branch, Function: function, Name: name, Value: []byte(value)})
		require.NoError(t, err)
		require.Empty(t, v.Value)
	}
	_, err = a.SetVariable(ctx, environment.Variable{Kind: environment.Secret, Project: "QmShop", Name: "A", Value: []byte("x")})
	require.ErrorIs(t, err, taubyte.ErrNotFound, "no such project")
	_, err = a.CreateProject(ctx, auth.Project{ID: "QmShop", Name: "shop"})
	require.NoError(t, err)
	_, err = a.CreateProject(ctx, auth.Project{ID: "QmOther"})
	require.NoError(t, err)
	set(a, environment.Plain, "", "", "A", "plain-of-project")
	set(a, environment.Secret, "", "", "B", "planted-secret-1")
	set(a, environment.Secret, "main", "api/get", "B", "planted-secret-2")
	set(a, environment.Secret, "", "gone", "C", "planted-secret-3")
	set(a, environment.Secret, "dev", "", "D", "planted-secret-4")

	watched, err := runs.WatchEnvironments(ctx)
	require.NoError(t, err)
	first := <-watched
	require.True(t, first.All)
	_, err = runs.Environment(ctx, "QmShop", "main")
	require.ErrorIs(t, err, taubyte.ErrForbidden, "nothing runs")
	fn := config.Function{Common: config.Common{ID: "f", Name: "get"}, Type: "http", Source: ".", Call: "get"}
	part := tns.Part{Repository: "local/shop", Commit: "c", Order: 1, Time: time.Now(), Config: &config.Project{
		ID: "QmShop", Applications: []config.Application{{ID: "app", Name: "api", Resources: config.Resources{Functions: []config.Function{fn}}}},
	}}
	_, err = registry.Publish(ctx, "QmShop", "main", part)
	require.NoError(t, err)
	testnet.Eventually(t, func() bool {
		all, err := b.Variables(ctx, "QmShop", "")
		return err == nil && len(all) == 5
	}, "replicated")
	var given environment.Environment
	testnet.Eventually(t, func() bool {
		given, err = runs.Environment(ctx, "QmShop", "main")
		return err == nil
	}, "given to who runs it")
	require.Equal(t, "A=plain-of-project B=planted-secret-2", seen(given.Variables, "main", "api/get"))
	require.Equal(t, "A=plain-of-project B=planted-secret-1", seen(given.Variables, "main", "other"))
	for _, v := range given.Variables {
		require.NotContains(t, []string{"C", "D"}, v.Name, "of a function that is not there, of another branch")
	}
	_, err = runs.Environment(ctx, "QmShop", "dev")
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	_, err = runs.Environment(ctx, "QmOther", "main")
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	for _, role := range []taubyte.Role{taubyte.RoleMonkey, taubyte.RoleGateway, taubyte.RolePatrick} {
		c := environment.NewClient(net.Node(role))
		_, err = c.Environment(ctx, "QmShop", "main")
		require.ErrorIs(t, err, taubyte.ErrForbidden)
		_, err = c.WatchEnvironments(ctx)
		require.ErrorIs(t, err, taubyte.ErrForbidden)
		require.NoError(t, c.Close())
	}

	// A change is told, with the revision that comes with its values.
	set(b, environment.Secret, "", "", "B", "planted-secret-5")
	var rev string
	for c := range watched {
		if rev = c.Projects["QmShop"]; rev != "" && rev != given.Revision {
			break
		}
	}
	testnet.Eventually(t, func() bool {
		given, err = runs.Environment(ctx, "QmShop", "main")
		return err == nil && strings.Contains(seen(given.Variables, "main", ""), "planted-secret-5")
	}, "changed")

	// Lists show no secret.
	all, err := b.Variables(ctx, "QmShop", environment.Secret)
	require.NoError(t, err)
	require.Len(t, all, 4)
	for _, v := range all {
		require.Empty(t, v.Value)
	}
	plain, err := b.Variables(ctx, "QmShop", environment.Plain)
	require.NoError(t, err)
	require.Equal(t, "plain-of-project", string(plain[0].Value))

	// Users: by their verbs. A deployer may set plain variables and no secrets.
	as := func(v taubyte.Verb, p ...taubyte.ProjectID) context.Context {
		return taubyte.WithPrincipal(ctx, taubyte.Principal{Kind: taubyte.KindUser, Name: "u", Verb: v, Projects: p})
	}
	secret := environment.Variable{Kind: environment.Secret, Project: "QmShop", Name: "E", Value: []byte("planted-secret-6")}
	_, err = a.SetVariable(as(taubyte.VerbDeploy, "QmShop"), secret)
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	_, err = a.SetVariable(as(taubyte.VerbAdminister, "QmOther"), secret)
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	_, err = a.SetVariable(as(taubyte.VerbAdminister, "QmShop"), secret)
	require.NoError(t, err)
	_, err = a.Variables(as(taubyte.VerbRead, "QmOther"), "QmShop", "")
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	_, err = a.AuditLog(as(taubyte.VerbDeploy, "QmShop"), "QmShop", 10)
	require.ErrorIs(t, err, taubyte.ErrForbidden)

	// A build: what it names, by the same rules.
	patrick := client(t, net.Node(taubyte.RolePatrick))
	built, err := patrick.BuildEnvironment(ctx, auth.BuildRequest{Project: "QmShop", Branch: "main", Function: "api/get", Names: []string{"B"}, For: "job 1"})
	require.NoError(t, err)
	require.Equal(t, "B=planted-secret-2", seen(built, "main", "api/get"))
	_, err = patrick.BuildEnvironment(ctx, auth.BuildRequest{Project: "QmShop", Branch: "main", Names: []string{"D"}})
	require.ErrorIs(t, err, taubyte.ErrInvalid)

	// The audit log is that of both nodes.
	audit, err := b.AuditLog(ctx, "QmShop", 1000)
	require.NoError(t, err)
	require.Empty(t, audit.Missing)
	did := map[string]bool{}
	for _, x := range audit.Accesses {
		who, _, _ := strings.Cut(x.Who, " ")
		did[who+" "+x.Action] = true
	}
	for _, want := range []string{"the set", "u set", "node read"} {
		require.True(t, did[want], "%s: %v", want, did)
	}

	require.NoError(t, a.RemoveVariable(ctx, environment.Variable{Kind: environment.Plain, Project: "QmShop", Name: "A"}))
	require.ErrorIs(t, a.RemoveVariable(ctx, environment.Variable{Kind: environment.Plain, Project: "QmShop", Name: "A"}), taubyte.ErrNotFound)
	testnet.Eventually(t, func() bool {
		given, err = runs.Environment(ctx, "QmShop", "main")
		return err == nil && !strings.Contains(seen(given.Variables, "main", ""), "A=")
	}, "removed")
	require.NoError(t, a.RemoveProject(ctx, "QmShop"))
	testnet.Eventually(t, func() bool {
		all, err := b.Variables(ctx, "QmShop", "")
		return err == nil && len(all) == 0
	}, "gone with its project")

	require.NotContains(t, log.String(), "planted-secret")
	for _, n := range net.Nodes() {
		res, err := n.Store.Query(ctx, query.Query{})
		require.NoError(t, err)
		entries, err := res.Rest()
		require.NoError(t, err)
		for _, e := range entries {
			require.NotContains(t, e.Key+string(e.Value), "planted-secret", "on a disk")
		}
	}
}

func TestVariablesAreBounded(t *testing.T) {
	net := testnet.New(t)
	s := open(t, net.Node(taubyte.RoleAuth))
	ctx := t.Context()
	_, err := s.CreateProject(ctx, auth.Project{ID: "QmShop"})
	require.NoError(t, err)
	v := environment.Variable{Kind: environment.Plain, Project: "QmShop", Value: make([]byte, environment.MaxValue)}
	for i := range v.Value {
		v.Value[i] = 'x'
	}
	for i := range environment.MaxTogether/environment.MaxValue - 1 {
		v.Name = fmt.Sprint("V", i)
		_, err = s.SetVariable(ctx, v)
		require.NoError(t, err)
	}
	v.Name = "LAST"
	_, err = s.SetVariable(ctx, v)
	require.ErrorIs(t, err, taubyte.ErrTooLarge)
	v.Name, v.Value = "V0", []byte("less")
	_, err = s.SetVariable(ctx, v)
	require.NoError(t, err, "in the place of a larger one")
}
