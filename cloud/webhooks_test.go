package cloud_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/github"
	"github.com/taubyte/taubyte/cloud"
	"github.com/taubyte/taubyte/internal/githubtest"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/patrick"
)

// A repository at GitHub is added; its events come in at the gateways of three nodes, one of
// which has no other service, and at patrick; statuses go back.
func TestWebhooksOfANetwork(t *testing.T) {
	gh := githubtest.New(t)
	provider, err := github.New(github.WithEnterprise(gh.URL), github.WithToken(gh.User("acme")))
	require.NoError(t, err)
	a, err := taubyte.NewAuthority()
	require.NoError(t, err)

	// What stands before the gateways asks each in turn, and then a node of patrick itself.
	var gateways []*cloud.Node
	var turn atomic.Int64
	front := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		i := int(turn.Add(1)) % (len(gateways) + 1)
		if i == len(gateways) {
			to, _ := url.Parse(gateways[1].API())
			r.Out.URL.Path = strings.Replace(r.Out.URL.Path, "/.well-known/taubyte/", "/", 1)
			r.SetURL(to)
			return
		}
		to, _ := url.Parse(gateways[i].URL())
		r.SetURL(to)
	}})
	t.Cleanup(front.Close)

	dir := t.TempDir()
	var peers []peer.AddrInfo
	start := func(name string, services ...taubyte.Role) *cloud.Node {
		n, err := cloud.Open(t.Context(), filepath.Join(dir, name), cloud.WithServices(services...), cloud.WithAuthority(a),
			cloud.WithHost(taubyte.WithPeers(peers...)), cloud.WithProviders(provider), cloud.WithWebhooks(front.URL),
			cloud.WithLogs("https://api.example.test/"), cloud.WithLogger(testnet.Logger(t)))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, n.Close()) })
		for _, p := range peers {
			testnet.Eventually(t, func() bool {
				_, err := n.Host.Member(context.Background(), p.ID)
				return err == nil
			}, "connected")
		}
		peers = append(peers, peer.AddrInfo{ID: n.Host.ID(), Addrs: n.Host.Addrs()})
		gateways = append(gateways, n)
		return n
	}
	one := start("one", taubyte.RoleAuth, taubyte.RoleTNS, taubyte.RolePatrick, taubyte.RoleGateway)
	two := start("two", taubyte.RolePatrick, taubyte.RoleGateway)
	start("edge", taubyte.RoleGateway)

	ctx := t.Context()
	repo := gh.Repository("acme/shop")
	first := repo.Push("main", map[string]string{"config/config.yaml": "id: " + projectA + "\nname: shop\n"})
	_, err = one.Auth.CreateProject(ctx, auth.Project{ID: projectA, Name: "shop"})
	require.NoError(t, err)
	r, err := one.Auth.AddRepository(ctx, auth.Addition{Provider: "github", Repository: "acme/shop", Project: projectA, Kind: auth.KindProject})
	require.NoError(t, err)
	path := "/.well-known/taubyte/webhooks/github/" + strconv.FormatInt(repo.ID, 10)
	require.Equal(t, []string{front.URL + path}, repo.Webhooks())

	list := func(b taubyte.Branch) []patrick.Job {
		page, err := two.Patrick.Jobs(ctx, patrick.Filter{Repository: r.ID, Branch: b})
		require.NoError(t, err)
		return page.Jobs
	}
	everywhere := func(event string, fields map[string]any) {
		t.Helper()
		for _, id := range []string{"same", "same", "other", "same", "other", "another"} {
			require.Equal(t, []int{http.StatusOK}, repo.SendBy(fmt.Sprint(event, id, fields["action"]), event, fields))
		}
	}
	everywhere("push", map[string]any{"ref": "refs/heads/main", "after": first})
	require.Len(t, list("main"), 1)
	topic := repo.Push("topic", map[string]string{"config/config.yaml": "id: " + projectA + "\nname: shop\n", "x": "y"})
	require.Equal(t, taubyte.Commit(topic), list("topic")[0].Commit)
	proposal := func(action, state string) map[string]any {
		return map[string]any{"action": action, "number": 3, "pull_request": map[string]any{
			"state": state, "base": map[string]any{"ref": "main"},
			"head": map[string]any{"ref": "topic", "sha": topic, "repo": map[string]any{"id": repo.ID, "full_name": repo.Name}},
		}}
	}
	everywhere("pull_request", proposal("opened", "open"))
	require.Len(t, list("pull/3"), 1)
	everywhere("pull_request", proposal("closed", "closed"))
	require.Len(t, list("pull/3"), 2)
	require.True(t, list("pull/3")[0].Deleted)
	everywhere("delete", map[string]any{"ref": "topic", "ref_type": "branch"})
	require.True(t, list("topic")[0].Deleted)

	// While its secret is being changed, both are good.
	require.NoError(t, one.Auth.RotateWebhook(ctx, r.ID, ""))
	everywhere("push", map[string]any{"ref": "refs/heads/main", "after": topic})
	require.Equal(t, taubyte.Commit(topic), list("main")[0].Commit)

	// The status of a commit says where its log is.
	testnet.Eventually(t, func() bool {
		for _, s := range repo.Statuses(topic) {
			if s.State == "pending" && s.Context == "taubyte/main" && s.TargetURL == "https://api.example.test/v1/patrick/jobs/"+string(list("main")[0].ID)+"/logs" {
				return true
			}
		}
		return false
	}, "the commit shows its job")

	// Nobody else's, at any of them, and at patrick itself as well.
	ask := func(url string) (int, string) {
		t.Helper()
		resp, err := http.Post(url, "application/json", strings.NewReader(`{}`))
		require.NoError(t, err)
		defer resp.Body.Close()
		var said bytes.Buffer
		_, err = said.ReadFrom(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, said.String()
	}
	answers := map[string]bool{}
	for _, n := range gateways {
		for _, of := range []string{path, "/.well-known/taubyte/webhooks/github/1", "/.well-known/taubyte/webhooks/none/1", "/.well-known/taubyte/webhooks/"} {
			status, said := ask(n.URL() + of)
			require.Equal(t, http.StatusForbidden, status)
			answers[said] = true
		}
	}
	status, said := ask(two.API() + "/webhooks/github/" + strconv.FormatInt(repo.ID, 10))
	require.Equal(t, http.StatusForbidden, status)
	answers[said] = true
	require.Len(t, answers, 1, "%v", answers)
	http.DefaultClient.CloseIdleConnections()
}

// What a pull request proposes is served under a name of its own while it is open.
func TestAPullRequestIsServed(t *testing.T) {
	gh := githubtest.New(t)
	provider, err := github.New(github.WithEnterprise(gh.URL), github.WithToken(gh.User("acme")))
	require.NoError(t, err)
	var n *cloud.Node
	front := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		to, _ := url.Parse(n.URL())
		r.SetURL(to)
	}})
	t.Cleanup(front.Close)
	n, err = cloud.Open(t.Context(), filepath.Join(t.TempDir(), "node"), cloud.WithDevelopment(), cloud.WithPlainBuilds(),
		cloud.WithProviders(provider), cloud.WithWebhooks(front.URL), cloud.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	_, err = n.Auth.CreateProject(t.Context(), auth.Project{ID: projectA, Name: "shop"})
	require.NoError(t, err)
	repo := gh.Repository("acme/shop")
	_, err = n.Auth.AddRepository(t.Context(), auth.Addition{Provider: "github", Repository: "acme/shop", Project: projectA, Kind: auth.KindProject})
	require.NoError(t, err)
	style := strings.Repeat("p { margin: 0 }\n", 200)
	repo.Push("main", map[string]string{
		"config/config.yaml":        "id: " + projectA + "\nname: shop\n",
		"config/domains/main.yaml":  "id: QmRPRQww8rci6fpkK5Tp8NGjyGQUyrTgQm5j7BnFJqi4DW\nfqdn: shop.example.com\n",
		"config/websites/site.yaml": "id: QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH\ndomains: [main]\nsource:\n  paths: [/]\n",
		"websites/site/index.html":  "<p>as it is",
		"websites/site/style.css":   style,
	})
	topic := repo.Push("topic", map[string]string{"websites/site/index.html": "<p>as it might be"})
	tell := func(action, state string) {
		t.Helper()
		require.Equal(t, []int{http.StatusOK}, repo.Send("pull_request", map[string]any{"action": action, "number": 7, "pull_request": map[string]any{
			"state": state, "base": map[string]any{"ref": "main"},
			"head": map[string]any{"ref": "topic", "sha": topic, "repo": map[string]any{"id": repo.ID, "full_name": repo.Name}},
		}}))
	}
	hosts := func(b taubyte.Branch) (all []string) {
		routes, err := n.Gateway.Routes(t.Context())
		require.NoError(t, err)
		for _, r := range routes {
			if r.Branch == b {
				all = append(all, r.Host)
			}
		}
		return all
	}
	serves := func(b taubyte.Branch, want string) bool {
		for _, host := range hosts(b) {
			w := httptest.NewRecorder()
			n.Gateway.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://"+host+"/", nil))
			if w.Code == http.StatusOK && w.Body.String() == want {
				return true
			}
		}
		return false
	}
	tell("opened", "open")
	testnet.Eventually(t, func() bool { return serves("pull/7", "<p>as it might be") }, "the pull request is served")
	testnet.Eventually(t, func() bool { return serves("main", "<p>as it is") }, "beside what it is to change")

	// A style sheet was compressed when it was built, and goes so to whoever accepts that.
	var w *httptest.ResponseRecorder
	for _, host := range hosts("main") {
		ask := httptest.NewRequest(http.MethodGet, "http://"+host+"/style.css", nil)
		ask.Header.Set("Accept-Encoding", "gzip, br")
		w = httptest.NewRecorder()
		n.Gateway.ServeHTTP(w, ask)
		if w.Code == http.StatusOK {
			break
		}
	}
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "br", w.Header().Get("Content-Encoding"))
	require.Less(t, w.Body.Len(), len(style)/10)
	text, err := io.ReadAll(brotli.NewReader(w.Body))
	require.NoError(t, err)
	require.Equal(t, style, string(text))
	testnet.Eventually(t, func() bool {
		for _, s := range repo.Statuses(topic) {
			if s.State == "success" && s.Context == "taubyte/pull/7" {
				return true
			}
		}
		return false
	}, "and its commit says so")
	tell("closed", "closed")
	testnet.Eventually(t, func() bool { return len(hosts("pull/7")) == 0 }, "it is gone when it is closed")
	require.True(t, serves("main", "<p>as it is"))
}
