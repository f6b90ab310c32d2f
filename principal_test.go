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
		"job":           {job, "deploy", "", ""},
		"function":      {function, "read", "", ""},
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
