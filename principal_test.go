package taubyte_test

import (
	"context"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
)

func TestWhatAPrincipalMay(t *testing.T) {
	const shop, blog = taubyte.ProjectID("shop"), taubyte.ProjectID("blog")
	user := func(verb taubyte.Verb, projects ...taubyte.ProjectID) taubyte.Principal {
		return taubyte.Principal{Kind: taubyte.KindUser, Name: "ann", Verb: verb, Projects: projects}
	}
	all := taubyte.Principal{Kind: taubyte.KindUser, Verb: taubyte.VerbAdminister, AllProjects: true}
	ended, soon := user(taubyte.VerbAdminister, shop), user(taubyte.VerbAdminister, shop)
	ended.Until, soon.Until = time.Now().Add(-time.Second), time.Now().Add(time.Hour)
	credential := user(taubyte.VerbDeploy)
	credential.Repositories = []taubyte.RepositoryID{"local/shop"}
	node := taubyte.NodePrincipal(taubyte.Membership{Peer: "p", Name: "one", Roles: []taubyte.Role{taubyte.RoleMonkey}})
	job := taubyte.Principal{Kind: taubyte.KindJob, Job: "j", Projects: []taubyte.ProjectID{shop}}
	function := taubyte.Principal{Kind: taubyte.KindFunction, Resource: "f", Projects: []taubyte.ProjectID{shop}}
	for name, c := range map[string]struct {
		p                taubyte.Principal
		shop, blog, none taubyte.Verb // the most that it may
	}{
		"administrator": {taubyte.Administrator(), "administer", "administer", "administer"},
		"reader":        {user("read", shop), "read", "", ""},
		"deployer":      {user("deploy", shop), "deploy", "", ""},
		"owner":         {user("administer", shop, blog), "administer", "administer", ""},
		"of everything": {all, "administer", "administer", "administer"},
		"of nothing":    {user("administer"), "", "", ""},
		"no verb":       {user("", shop), "", "", ""},
		"unknown verb":  {user("own", shop), "", "", ""},
		"ended":         {ended, "", "", ""},
		"not yet ended": {soon, "administer", "", ""},
		"git":           {credential, "", "", ""},
		"node":          {node, "", "", ""},
		"job":           {job, "read", "", ""},
		"function":      {function, "", "", ""},
		"zero":          {taubyte.Principal{}, "", "", ""},
	} {
		for project, most := range map[taubyte.ProjectID]taubyte.Verb{shop: c.shop, blog: c.blog, "": c.none} {
			for _, verb := range taubyte.Verbs() {
				err := c.p.May(verb, project)
				if most.Includes(verb) {
					require.NoError(t, err, "%s: %s %q", name, verb, project)
				} else {
					require.ErrorIs(t, err, taubyte.ErrForbidden, "%s: %s %q", name, verb, project)
				}
			}
			require.Error(t, user("administer", shop).May("own", shop), "what is no verb nobody may")
		}
	}
	require.NoError(t, credential.MayGit("local/shop", shop, true))
	require.ErrorIs(t, credential.MayGit("local/blog", blog, false), taubyte.ErrForbidden)
	require.NoError(t, user("read", shop).MayGit("local/shop", shop, false))
	require.ErrorIs(t, user("read", shop).MayGit("local/shop", shop, true), taubyte.ErrForbidden)
	require.ErrorIs(t, user("deploy", shop).MayGit("local/new", "", true), taubyte.ErrForbidden)
	require.NoError(t, all.MayGit("local/new", "", true))
}

// What another member carries passes only where the member's roles and the principal's
// own rights both do.
func TestAMemberHandsOnNoMoreThanItMay(t *testing.T) {
	const shop = taubyte.ProjectID("shop")
	from := func(p taubyte.Principal, role taubyte.Role) context.Context {
		p.Node = taubyte.Membership{Peer: peer.ID("p"), Roles: []taubyte.Role{role}}
		return taubyte.WithPrincipal(t.Context(), p)
	}
	owner := taubyte.Principal{Kind: taubyte.KindUser, Verb: taubyte.VerbAdminister, Projects: []taubyte.ProjectID{shop}}
	reader := taubyte.Principal{Kind: taubyte.KindUser, Verb: taubyte.VerbRead, Projects: []taubyte.ProjectID{shop}}
	admin := func(ctx context.Context) error {
		return taubyte.Allow(ctx, taubyte.VerbAdminister, shop, taubyte.RoleAuth)
	}
	require.NoError(t, admin(t.Context()), "whoever embeds a service is administrator")
	require.NoError(t, admin(taubyte.AsService(from(reader, taubyte.RoleAuth))))
	require.NoError(t, admin(taubyte.WithPrincipal(t.Context(), owner)))
	require.NoError(t, admin(from(owner, taubyte.RoleAuth)))
	require.NoError(t, admin(from(taubyte.Principal{Kind: taubyte.KindNode}, taubyte.RoleAuth)))
	for name, ctx := range map[string]context.Context{
		"a role that may not, for a user that may": from(owner, taubyte.RoleMonkey),
		"a role that may, for a user that may not": from(reader, taubyte.RoleAuth),
		"a node of another role":                   from(taubyte.Principal{Kind: taubyte.KindNode}, taubyte.RoleMonkey),
		"nobody":                                   taubyte.WithPrincipal(t.Context(), taubyte.Principal{}),
	} {
		require.ErrorIs(t, admin(ctx), taubyte.ErrForbidden, name)
	}
}

// A job publishes what it built and nothing else, and a function reaches its own branch.
func TestWhatJobsAndFunctionsMay(t *testing.T) {
	const shop, blog = taubyte.ProjectID("shop"), taubyte.ProjectID("blog")
	job := taubyte.Principal{Kind: taubyte.KindJob, Projects: []taubyte.ProjectID{shop}, Branch: "main", Job: "j", Attempt: 3}
	function := taubyte.Principal{Kind: taubyte.KindFunction, Projects: []taubyte.ProjectID{shop}, Branch: "main", Resource: "f"}
	deployer := taubyte.Principal{Kind: taubyte.KindUser, Verb: taubyte.VerbDeploy, Projects: []taubyte.ProjectID{shop}}
	reader := deployer
	reader.Verb = taubyte.VerbRead
	by := func(p taubyte.Principal, roles ...taubyte.Role) context.Context {
		if len(roles) > 0 {
			p.Node = taubyte.Membership{Peer: "p", Roles: roles}
		}
		return taubyte.WithPrincipal(t.Context(), p)
	}
	for _, ctx := range []context.Context{by(job), by(job, taubyte.RoleMonkey)} {
		publish := func(project taubyte.ProjectID, branch taubyte.Branch, id taubyte.JobID) error {
			return taubyte.AllowJob(ctx, project, branch, id, taubyte.RoleMonkey)
		}
		require.NoError(t, publish(shop, "main", "j"))
		require.NoError(t, publish(shop, "", ""))
		require.ErrorIs(t, publish(blog, "main", "j"), taubyte.ErrForbidden)
		require.ErrorIs(t, publish("", "main", "j"), taubyte.ErrForbidden)
		require.ErrorIs(t, publish(shop, "next", "j"), taubyte.ErrForbidden)
		require.ErrorIs(t, publish(shop, "main", "k"), taubyte.ErrForbidden)
		require.ErrorIs(t, taubyte.Allow(ctx, taubyte.VerbDeploy, shop, taubyte.RoleMonkey), taubyte.ErrForbidden)
		require.ErrorIs(t, taubyte.AllowFunction(ctx, shop, "main", taubyte.RoleMonkey), taubyte.ErrForbidden)
	}
	require.ErrorIs(t, taubyte.AllowJob(by(job, taubyte.RoleMonkey), shop, "main", "j", taubyte.RoleTNS), taubyte.ErrForbidden)
	for _, ctx := range []context.Context{by(function), by(function, taubyte.RoleSubstrate)} {
		reach := func(project taubyte.ProjectID, branch taubyte.Branch) error {
			return taubyte.AllowFunction(ctx, project, branch, taubyte.RoleSubstrate)
		}
		require.NoError(t, reach(shop, "main"))
		for _, err := range []error{reach(blog, "main"), reach(shop, "next"), reach(shop, ""), reach("", "main"),
			taubyte.Allow(ctx, taubyte.VerbRead, shop, taubyte.RoleSubstrate), taubyte.AllowJob(ctx, shop, "main", "j", taubyte.RoleSubstrate)} {
			require.ErrorIs(t, err, taubyte.ErrForbidden)
		}
	}
	require.ErrorIs(t, taubyte.AllowFunction(by(function, taubyte.RoleSubstrate), shop, "main", taubyte.RoleHoarder), taubyte.ErrForbidden)
	for _, allow := range []func(context.Context) error{
		func(ctx context.Context) error { return taubyte.AllowJob(ctx, shop, "main", "j", taubyte.RoleMonkey) },
		func(ctx context.Context) error { return taubyte.AllowFunction(ctx, shop, "main", taubyte.RoleMonkey) },
	} {
		require.NoError(t, allow(t.Context()))
		require.NoError(t, allow(by(deployer)))
		require.NoError(t, allow(by(taubyte.Principal{Kind: taubyte.KindNode}, taubyte.RoleMonkey)))
		require.ErrorIs(t, allow(by(taubyte.Principal{Kind: taubyte.KindNode}, taubyte.RoleGateway)), taubyte.ErrForbidden)
		require.ErrorIs(t, allow(by(reader)), taubyte.ErrForbidden)
		require.ErrorIs(t, allow(by(taubyte.Principal{})), taubyte.ErrForbidden)
	}
}
