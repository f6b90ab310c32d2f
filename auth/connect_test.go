package auth_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/github"
	"github.com/taubyte/taubyte/internal/githubtest"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/tns"
)

// deployments is what a project has deployed.
type deployments struct {
	mu  sync.Mutex
	all map[taubyte.ProjectID][]taubyte.Branch
}

func (d *deployments) Find(_ context.Context, what string) (all []tns.Summary, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if branches, ok := d.all[taubyte.ProjectID(what)]; ok {
		s := tns.Summary{Project: taubyte.ProjectID(what)}
		for _, b := range branches {
			s.Branches = append(s.Branches, tns.BranchSummary{Branch: b})
		}
		all = append(all, s)
	}
	return all, nil
}

func (d *deployments) RemoveProject(_ context.Context, p taubyte.ProjectID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.all, p)
	return nil
}

const (
	shopProject = "QmYJREDH1g4quMigBJutYMBgxTwWTJhEtvcrVzrQrxWvfj"
	shopConfig  = "id: " + shopProject + "\nname: shop\ndescription: \"\"\nnotification:\n  email: ops@example.com\n"
)

func website(id int64, name string) string {
	return "id: QmXWYu6XYBK2FFzoREqpxaHx4JsNBWRRdhUMopKGoteWjE\ndescription: \"\"\ndomains:\n  - shop\nsource:\n  paths:\n    - /\n  branch: main\n  github:\n    id: \"" +
		strconv.FormatInt(id, 10) + "\"\n    fullname: " + name + "\n"
}

const domain = "id: QmUZkJ1XdBRjhZWk6dvauWyA4ZJBRhrQ4owLkL9gfmeWuM\nfqdn: shop.example.test\ncertificate:\n  type: auto\n"

// A project at GitHub, as its users have it: found, built, told of, changed and deleted.
func TestAProjectAtGitHub(t *testing.T) {
	net := testnet.New(t)
	gh := githubtest.New(t)
	provider, err := github.New(github.WithEnterprise(gh.URL), github.WithToken(gh.User("acme")))
	require.NoError(t, err)
	deployed := &deployments{all: map[taubyte.ProjectID][]taubyte.Branch{}}

	// What patrick does with webhooks.
	node := net.Node(taubyte.RoleAuth)
	builder := client(t, net.Node(taubyte.RolePatrick))
	events := make(chan auth.Event, 100)
	hooks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		e, err := builder.Event(r.Context(), taubyte.RepositoryID(strings.TrimPrefix(r.URL.Path, "/webhooks/")), r.Header, body)
		if err != nil {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		events <- e
	}))
	defer hooks.Close()
	s := open(t, node, auth.WithProvider(provider), auth.WithWebhooks(hooks.URL+"/webhooks/"), auth.WithDeployments(deployed))
	ctx := t.Context()

	site := gh.Repository("acme/tb_website_front")
	site.Push("main", map[string]string{"index.html": "hello"})
	config := gh.Repository("acme/tb_shop")
	in := auth.Import{Provider: "github", Repository: "acme/tb_shop"}
	_, err = s.ImportProject(ctx, in)
	require.ErrorIs(t, err, taubyte.ErrInvalid, "nothing was pushed")
	config.Push("main", map[string]string{"README": "x"})
	_, err = s.ImportProject(ctx, in)
	require.ErrorContains(t, err, "config.yaml")
	config.Push("main", map[string]string{"config.yaml": shopConfig, "domains/shop.yaml": domain, "websites/front.yaml": website(site.ID, site.Name)})
	_, err = s.ImportProject(ctx, in)
	require.ErrorIs(t, err, taubyte.ErrNotFound)
	require.ErrorContains(t, err, "tb_code_shop")
	code := gh.Repository("acme/tb_code_shop")
	first := code.Push("main", map[string]string{"ping/main.go": "package main"})
	_, err = s.ImportProject(ctx, auth.Import{Provider: "github", Repository: "acme/tb_shop", Credential: gh.User("stranger")})
	require.ErrorIs(t, err, taubyte.ErrNotFound, "who may not see it")
	config.Reader("guest")
	_, err = s.ImportProject(ctx, auth.Import{Provider: "github", Repository: "acme/tb_shop", Credential: gh.User("guest")})
	require.ErrorIs(t, err, taubyte.ErrForbidden, "who only sees it")
	projects, err := s.Projects(ctx)
	require.NoError(t, err)
	require.Empty(t, projects, "nothing is left of what was refused")
	require.Empty(t, config.Keys())

	for range 2 {
		out, err := s.ImportProject(ctx, in)
		require.NoError(t, err)
		require.Equal(t, auth.Project{ID: shopProject, Name: "shop"}, out.Project)
		require.Len(t, out.Repositories, 3)
		for i, r := range []*githubtest.Repository{config, code, site} {
			require.Equal(t, auth.NewRepositoryID("github", strconv.FormatInt(r.ID, 10)), out.Repositories[i].ID)
			require.Len(t, r.Keys(), 1)
			require.Len(t, r.Webhooks(), 1)
		}
	}
	id := auth.NewRepositoryID("github", strconv.FormatInt(code.ID, 10))

	// Webhook, source, status.
	code.Send("ping", map[string]any{"zen": "Design for failure."})
	require.Equal(t, auth.EventPing, (<-events).Kind)
	pushed := code.Push("main", map[string]string{"ping/main.go": "package main // 2"})
	push, ok := (<-events).Push()
	require.True(t, ok)
	require.Equal(t, id, push.Repository)
	require.Equal(t, taubyte.Commit(pushed), push.Commit)
	require.NotEmpty(t, push.Delivery)
	var archive bytes.Buffer
	require.NoError(t, builder.Source(ctx, id, taubyte.Commit(first), &archive))
	require.Contains(t, archive.String(), "package main")
	require.NotContains(t, archive.String(), "// 2")
	require.NoError(t, builder.SetStatus(ctx, id, taubyte.Commit(pushed), auth.Status{State: auth.StatusSuccess, Context: "taubyte"}))
	require.Len(t, code.Statuses(pushed), 1)
	require.ErrorIs(t, builder.SetStatus(ctx, id, taubyte.Commit(pushed), auth.Status{State: "fine", Context: "taubyte"}), taubyte.ErrInvalid)
	code.Rename("acme/tb_code_store")
	heads, err := builder.Heads(ctx, id)
	require.NoError(t, err)
	require.Equal(t, map[taubyte.Branch]taubyte.Commit{"main": taubyte.Commit(pushed)}, heads)

	// An event of one repository is none of another, and an unknown one learns nothing.
	body := []byte(`{"zen":"x"}`)
	_, err = builder.Event(ctx, id, http.Header{"X-Github-Event": {"ping"}, "X-Hub-Signature-256": {"sha256=00"}}, body)
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	_, unknown := builder.Event(ctx, "github/1", http.Header{}, body)
	require.Equal(t, err.Error(), unknown.Error())

	// Two secrets are good while one takes the other's place.
	require.NoError(t, s.RotateWebhook(ctx, id, ""))
	require.Equal(t, []int{http.StatusOK}, code.Send("ping", map[string]any{}))
	require.Equal(t, auth.EventPing, (<-events).Kind)
	require.Len(t, code.Webhooks(), 1)

	// A deploy key takes another's place once it works, and what broke off is gone on with.
	before := code.Keys()
	readable := func() {
		t.Helper()
		var archive bytes.Buffer
		require.NoError(t, builder.Source(ctx, id, taubyte.Commit(first), &archive))
	}
	fail := func(method string) {
		gh.Fault = func(w http.ResponseWriter, r *http.Request) bool {
			broken := r.Method == method && strings.Contains(r.URL.Path, "/keys")
			if broken {
				w.WriteHeader(http.StatusBadGateway)
			}
			return broken
		}
	}
	fail(http.MethodPost)
	require.ErrorIs(t, s.RotateDeployKey(ctx, id, ""), taubyte.ErrUnavailable)
	require.Equal(t, before, code.Keys())
	readable()
	fail(http.MethodDelete)
	require.ErrorIs(t, s.RotateDeployKey(ctx, id, ""), taubyte.ErrUnavailable)
	require.Len(t, code.Keys(), 2, "the old one is there as long as it could not be removed")
	readable()
	gh.Fault = nil
	require.NoError(t, s.RotateDeployKey(ctx, id, ""))
	after := code.Keys()
	require.Len(t, after, 1)
	require.NotEqual(t, before, after)
	readable()
	require.NoError(t, s.RotateDeployKey(ctx, id, ""))
	require.Len(t, code.Keys(), 1)
	require.NotEqual(t, after, code.Keys(), "each time another")
	readable()
	require.ErrorIs(t, s.RotateDeployKey(ctx, "github/1", ""), taubyte.ErrNotFound)
	for what, ctx := range testnet.Outsiders(ctx, "QmOther") {
		require.ErrorIs(t, s.RotateDeployKey(ctx, id, ""), taubyte.ErrForbidden, what)
	}

	// A repository of one project is no other's; nodes of other roles may nothing.
	other, err := s.CreateProject(ctx, auth.Project{ID: "QmOther", Name: "other"})
	require.NoError(t, err)
	_, err = s.AddRepository(ctx, auth.Addition{Provider: "github", Repository: "acme/tb_code_store", Project: other.ID, Kind: auth.KindCode})
	require.ErrorIs(t, err, taubyte.ErrConflict)
	_, err = builder.AddRepository(ctx, auth.Addition{Provider: "github", Repository: "acme/tb_code_store", Project: other.ID, Kind: auth.KindCode})
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	runner := client(t, net.Node(taubyte.RoleSubstrate))
	require.ErrorIs(t, runner.Source(ctx, id, taubyte.Commit(first), io.Discard), taubyte.ErrForbidden)
	_, err = runner.Event(ctx, id, http.Header{}, body)
	require.ErrorIs(t, err, taubyte.ErrForbidden)

	// While the provider is away nothing is removed.
	deployed.all[shopProject] = []taubyte.Branch{"main", "next"}
	gh.Fault = func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusBadGateway)
		return true
	}
	require.ErrorIs(t, s.DeleteProject(ctx, shopProject, ""), taubyte.ErrUnavailable)
	require.Len(t, deployed.all[shopProject], 2)
	gh.Fault = nil
	require.NoError(t, s.DeleteProject(ctx, shopProject, ""))
	require.Empty(t, deployed.all, "what it served stops")
	for _, r := range []*githubtest.Repository{config, code, site} {
		require.Empty(t, r.Keys())
		require.Empty(t, r.Webhooks())
	}
	require.ErrorIs(t, s.DeleteProject(ctx, shopProject, ""), taubyte.ErrNotFound)
	all, err := s.Repositories(ctx, "")
	require.NoError(t, err)
	require.Empty(t, all)
	require.Less(t, len(events), 100)
}

// Whoever may administer one project brings a credential of his own: the node's would show
// him what other projects have, also at a second provider that a configuration names.
func TestANodesCredentialIsForItsAdministrators(t *testing.T) {
	net := testnet.New(t)
	gh := githubtest.New(t)
	token := gh.User("acme")
	first, err := github.New(github.WithEnterprise(gh.URL), github.WithToken(token))
	require.NoError(t, err)
	second, err := github.New(github.WithName("gitea"), github.WithEnterprise(gh.URL), github.WithToken(token))
	require.NoError(t, err)
	s := open(t, net.Node(taubyte.RoleAuth), auth.WithProvider(first), auth.WithProvider(second))
	site, config := gh.Repository("acme/private"), gh.Repository("acme/tb_shop")
	site.Push("main", map[string]string{"index.html": "hello"})
	config.Push("main", map[string]string{
		"config/config.yaml": shopConfig, "config/domains/shop.yaml": domain,
		"config/websites/front.yaml": strings.Replace(website(site.ID, site.Name), "github:", "gitea:", 1),
	})
	user := taubyte.WithPrincipal(t.Context(), taubyte.Principal{
		Kind: taubyte.KindUser, Name: "ann", Verb: taubyte.VerbAdminister, Projects: []taubyte.ProjectID{shopProject}, Until: time.Now().Add(time.Hour),
	})
	in := auth.Import{Provider: "github", Repository: "acme/tb_shop", Credential: token}
	_, err = s.ImportProject(user, in)
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	require.ErrorContains(t, err, "without a credential of your own at gitea")
	require.Empty(t, append(site.Keys(), config.Keys()...), "nothing is left of it")
	_, err = s.ImportProject(t.Context(), in)
	require.NoError(t, err)
	add := auth.Addition{Provider: "github", Repository: "acme/tb_shop", Project: shopProject, Kind: auth.KindProject}
	_, err = s.AddRepository(user, add)
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	add.Credential = token
	_, err = s.AddRepository(user, add)
	require.NoError(t, err)
	require.NoError(t, s.RemoveRepository(user, auth.NewRepositoryID("github", strconv.FormatInt(config.ID, 10)), token))
	require.Empty(t, config.Keys())
}

// What a credential may at a provider is asked for once a minute: a right that was withdrawn
// there ends by then, and while the provider is away nobody gets one.
func TestARightAtAProviderEnds(t *testing.T) {
	net := testnet.New(t)
	gh := githubtest.New(t)
	provider, err := github.New(github.WithEnterprise(gh.URL), github.WithToken(gh.User("acme")))
	require.NoError(t, err)
	c := &clock{at: time.Now()}
	s := open(t, net.Node(taubyte.RoleAuth), auth.WithProvider(provider), auth.WithClock(c.now))
	repo := gh.Repository("acme/shop")
	repo.Administrator("ann", true)
	repo.Reader("bob")
	ann, bob := gh.User("ann"), gh.User("bob")
	owner := taubyte.WithPrincipal(t.Context(), taubyte.Principal{Kind: taubyte.KindUser, Verb: taubyte.VerbAdminister, Projects: []taubyte.ProjectID{shopProject}})
	ask := func(credential string) error {
		return s.Administered(owner, auth.Addition{Provider: "github", Repository: "acme/shop", Credential: credential})
	}
	away := func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusBadGateway)
		return true
	}
	require.NoError(t, ask(ann))
	require.ErrorIs(t, ask(bob), taubyte.ErrForbidden)
	require.ErrorIs(t, ask(""), taubyte.ErrForbidden, "the node's own credential is not the user's")

	repo.Administrator("ann", false)
	gh.Fault = away
	c.move(59 * time.Second)
	require.NoError(t, ask(ann), "known, without a call")
	require.ErrorIs(t, ask(bob), taubyte.ErrUnavailable, "who has no right gets none from what another has")
	require.ErrorIs(t, ask(gh.User("eve")), taubyte.ErrUnavailable)
	c.move(time.Second)
	require.ErrorIs(t, ask(ann), taubyte.ErrUnavailable, "not known any more, and nobody says")
	gh.Fault = nil
	require.Error(t, ask(ann))
	require.NotErrorIs(t, ask(ann), taubyte.ErrUnavailable, "withdrawn")
	repo.Administrator("ann", true)
	require.NoError(t, ask(ann), "given again, it counts at once")
}
