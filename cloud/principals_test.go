package cloud_test

import (
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/cloud"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/patrick"
)

// request calls a node's API and returns the status and the answer's beginning: 0 where
// the answer does not begin soon, because what was asked for has not happened.
func request(t *testing.T, n *cloud.Node, token, method, path string, headers ...string) (int, string) {
	t.Helper()
	resp, text := ask(t, n, token, method, path, headers...)
	if resp == nil {
		return 0, ""
	}
	return resp.StatusCode, string(text)
}

// password is the secret of a git remote.
func password(remote string) string {
	u, _ := url.Parse(remote)
	secret, _ := u.User.Password()
	return secret
}

// alone starts a node that is a whole cloud, without a listener for users.
func alone(t *testing.T, log *slog.Logger, roles ...taubyte.Role) *cloud.Node {
	t.Helper()
	opts := []cloud.Option{cloud.WithDevelopment(), cloud.WithLogger(log)}
	if len(roles) > 0 {
		opts = append(opts, cloud.WithServices(roles...))
	}
	n, err := cloud.Open(t.Context(), filepath.Join(t.TempDir(), "node"), opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n
}

// users are tokens for the project projectA, and for everything, and what only opens git.
func users(t *testing.T, n *cloud.Node) map[string]string {
	t.Helper()
	tokens := map[string]string{"git-remote": password(n.Remote("shop"))}
	for name, token := range map[string]auth.Token{
		"reader":       {Verb: taubyte.VerbRead, Projects: []taubyte.ProjectID{projectA}},
		"deployer":     {Verb: taubyte.VerbDeploy, Projects: []taubyte.ProjectID{projectA}},
		"owner":        {Verb: taubyte.VerbAdminister, Projects: []taubyte.ProjectID{projectA}},
		"stranger":     {Verb: taubyte.VerbAdminister, Projects: []taubyte.ProjectID{projectB}},
		"all-reader":   {Verb: taubyte.VerbRead, All: true},
		"all-deployer": {Verb: taubyte.VerbDeploy, All: true},
		"all-owner":    {Verb: taubyte.VerbAdminister, All: true},
		"git-push":     {Verb: taubyte.VerbDeploy, Repositories: []taubyte.RepositoryID{"local/shop"}},
	} {
		token.Name = name
		made, err := n.Auth.CreateToken(t.Context(), token)
		require.NoError(t, err)
		tokens[name] = made.Secret
	}
	return tokens
}

// shopOf makes the projects and the repository that the tests are about, unless they are there.
func shopOf(t *testing.T, n *cloud.Node) {
	t.Helper()
	for _, id := range []taubyte.ProjectID{projectA, projectB} {
		_, err := n.Auth.CreateProject(t.Context(), auth.Project{ID: id, Name: "shop"})
		require.NoError(t, err)
	}
	require.NoError(t, n.CreateRepository(t.Context(), "shop"))
	_, err := n.Auth.Register(t.Context(), auth.Repository{ID: "local/shop", Project: projectA, Kind: auth.KindProject})
	require.NoError(t, err)
}

// Each principal calls every path of the HTTP API. testdata/principals.txt says who may,
// beside the administrator; a path without a row, and a row without a path, fail.
func TestWhoAUserMay(t *testing.T) {
	testnet.CheckLeaks(t)
	a, err := taubyte.NewAuthority()
	require.NoError(t, err)
	n, err := cloud.Open(t.Context(), filepath.Join(t.TempDir(), "node"), cloud.WithAuthority(a), cloud.WithDevelopment(), cloud.WithLogger(testnet.Logger(t)),
		cloud.WithServices(slices.DeleteFunc(taubyte.Roles(), func(r taubyte.Role) bool { return r == taubyte.RoleMonkey })...))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	shopOf(t, n)
	tokens := users(t, n)
	dir := source(t, projectA)
	mustGit(t, dir, "push", "-q", n.Remote("shop"), "main")
	page, err := n.Patrick.Jobs(t.Context(), patrick.Filter{})
	require.NoError(t, err)
	require.Len(t, page.Jobs, 1)
	job := string(page.Jobs[0].ID)
	doc := describe(t, n)

	var got []string
	for role := range served {
		if strings.Contains(role, "/") || role == "monkey" {
			continue
		}
		for _, p := range patterns(t, role) {
			method, path, _ := strings.Cut(p, " ")
			if role == "substrate" && path == "/timers" { // between nodes, under another protocol
				continue
			}
			var may []string
			for _, name := range slices.Sorted(maps.Keys(tokens)) {
				if method != "GET" { // the one before may have been allowed to take it away
					shopOf(t, n)
				}
				asked := path
				switch {
				case strings.HasPrefix(path, "/jobs/{id}"):
					asked = strings.Replace(path, "{id}", job, 1)
				case strings.HasPrefix(path, "/repositories/{id}"):
					asked = strings.Replace(path, "{id}", "local%2Fshop", 1)
				case strings.HasPrefix(path, "/tokens/{id}"):
					token, err := n.Auth.CreateToken(t.Context(), auth.Token{Name: "x", Verb: taubyte.VerbRead, Projects: []taubyte.ProjectID{projectA}})
					require.NoError(t, err)
					asked = strings.Replace(path, "{id}", token.ID, 1)
				case strings.HasSuffix(path, "/rollback"):
					asked = path + "?sequence=1"
				case strings.HasPrefix(path, "/items/"):
					asked = "/items/" + projectA
				case path == "/jobs" || path == "/repositories":
					asked = path + "?project=" + projectA
				case strings.HasPrefix(path, "/projects/{id}"):
					asked = strings.Replace(path, "{id}", projectA, 1)
				}
				asked = strings.NewReplacer("{project}", projectA, "{branch}", "main", "{commit}", string(page.Jobs[0].Commit)).Replace(asked)
				asked = holes.ReplaceAllString(asked, "1")
				if role == "tns" && path == "/watch" {
					asked += "?project=" + projectA
				}
				resp, said := ask(t, n, tokens[name], method, "/v1/"+role+asked)
				doc.check(t, method, "/v1/"+role+path, resp, said)
				if resp == nil || resp.StatusCode != http.StatusForbidden {
					require.False(t, resp != nil && resp.StatusCode == http.StatusUnauthorized, "%s %s: %s", name, p, said)
					may = append(may, name)
				}
			}
			got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s: %s", role, p, strings.Join(may, " "))))
		}
	}
	slices.Sort(got)
	text, err := os.ReadFile(filepath.Join("testdata", "principals.txt"))
	require.NoError(t, err)
	var want []string
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		if !strings.HasPrefix(line, "#") {
			want = append(want, line)
		}
	}
	slices.Sort(want)
	require.Equal(t, strings.Join(want, "\n"), strings.Join(got, "\n"))

	doc.mayBeUsed(t, want)
	goodAnswers(t, n, doc)
}
