package cloud_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/dev"
	"github.com/taubyte/taubyte/internal/testnet"
)

var control3 = []taubyte.Role{taubyte.RoleAuth, taubyte.RoleTNS, taubyte.RolePatrick}

// A copy of a project is pushed under another name.
func TestACopyTakesNothingOver(t *testing.T) {
	testnet.CheckLeaks(t)
	n := alone(t, testnet.Logger(t), control3...)
	first := source(t, projectA)
	mustGit(t, first, "push", "-q", n.Remote("shop"), "main")
	for _, remote := range []string{n.Remote("copy"), strings.Replace(n.Remote("copy"), password(n.Remote("copy")), n.Token(), 1)} {
		out, err := gitIn(t, first, "push", remote, "main")
		require.Error(t, err)
		require.Contains(t, out, "is that of the repository local/shop: give this one an id of its own")
	}
	r, err := n.Auth.Repositories(t.Context(), projectA)
	require.NoError(t, err)
	require.Len(t, r, 1)
	require.Equal(t, "shop", r[0].Name)

	// A project that is there and has no repository is for those who may administer it.
	_, err = n.Auth.CreateProject(t.Context(), auth.Project{ID: projectB, Name: "blog"})
	require.NoError(t, err)
	token := func(verb taubyte.Verb, id taubyte.ProjectID) string {
		made, err := n.Auth.CreateToken(t.Context(), auth.Token{Name: "x", Verb: verb, Projects: []taubyte.ProjectID{id}})
		require.NoError(t, err)
		return made.Secret
	}
	blog := source(t, projectB)
	with := func(secret string) string {
		return strings.Replace(n.Remote("blog"), password(n.Remote("blog")), secret, 1)
	}
	for _, secret := range []string{password(n.Remote("blog")), token(taubyte.VerbAdminister, projectA), token(taubyte.VerbDeploy, projectB)} {
		out, err := gitIn(t, blog, "push", with(secret), "main")
		require.Error(t, err, out)
		require.Contains(t, out, "forbidden")
	}
	mustGit(t, blog, "push", "-q", with(token(taubyte.VerbAdminister, projectB)), "main")
	mustGit(t, blog, "commit", "-q", "--allow-empty", "-m", "more")
	mustGit(t, blog, "push", "-q", with(token(taubyte.VerbDeploy, projectB)), "main")
	_, err = gitIn(t, blog, "push", with(token(taubyte.VerbRead, projectB)), "main:other")
	require.Error(t, err)
	_, err = gitIn(t, blog, "ls-remote", with(token(taubyte.VerbRead, projectA)))
	require.Error(t, err)
	// The credential of one repository opens no other.
	_, err = gitIn(t, blog, "ls-remote", with(password(n.Remote("shop"))))
	require.Error(t, err)
}

func TestForeignPagesAreRefused(t *testing.T) {
	testnet.CheckLeaks(t)
	n := alone(t, testnet.Logger(t), taubyte.RoleTNS)
	const path = "/v1/tns/projects"
	own := strings.TrimPrefix(n.API(), "http://")
	for _, c := range []struct {
		headers []string
		status  int
	}{
		{nil, http.StatusOK},
		{[]string{"Host", "localhost"}, http.StatusOK},
		{[]string{"Host", "[::1]:80"}, http.StatusOK},
		{[]string{"Host", "attacker.example"}, http.StatusForbidden},
		{[]string{"Host", "localhost.attacker.example:80"}, http.StatusForbidden},
		{[]string{"Origin", "http://" + own}, http.StatusOK},
		{[]string{"Origin", "http://attacker.example"}, http.StatusForbidden},
		{[]string{"Origin", "null"}, http.StatusForbidden},
		{[]string{"Sec-Fetch-Site", "same-origin"}, http.StatusOK},
		{[]string{"Sec-Fetch-Site", "none"}, http.StatusOK},
		{[]string{"Sec-Fetch-Site", "cross-site"}, http.StatusForbidden},
		{[]string{"Sec-Fetch-Site", "same-site"}, http.StatusForbidden},
	} {
		status, said := request(t, n, n.Token(), http.MethodGet, path, c.headers...)
		require.Equal(t, c.status, status, "%v: %s", c.headers, said)
	}
}

func TestWrongTokensAreSlowedDown(t *testing.T) {
	testnet.CheckLeaks(t)
	n := alone(t, testnet.Logger(t), control3...)
	const path = "/v1/tns/projects"
	made, err := n.Auth.CreateToken(t.Context(), auth.Token{Name: "ci", Verb: taubyte.VerbRead, All: true})
	require.NoError(t, err)
	status, _ := request(t, n, made.Secret, http.MethodGet, path)
	require.Equal(t, http.StatusOK, status)
	refused := 0
	for i := range 200 {
		status, _ = request(t, n, fmt.Sprint("wrong", i), http.MethodGet, path)
		if status == http.StatusTooManyRequests {
			refused++
			break
		}
		require.Equal(t, http.StatusUnauthorized, status)
	}
	require.Positive(t, refused)
	for _, right := range []string{n.Token(), made.Secret} {
		status, _ = request(t, n, right, http.MethodGet, path)
		require.Equal(t, http.StatusOK, status, "what is right, and was so before, passes")
	}
	require.NoError(t, n.Auth.RevokeToken(t.Context(), made.ID))
	status, _ = request(t, n, made.Secret, http.MethodGet, path)
	require.Equal(t, http.StatusUnauthorized, status)
}

// While a folder is pushed and cloned, no process has what it shows in its arguments, and
// no line of the log has it.
func TestNoSecretIsInArgumentsOrLogs(t *testing.T) {
	if _, err := os.Stat("/proc/self/cmdline"); err != nil {
		t.Skip("no /proc")
	}
	testnet.CheckLeaks(t)
	var mu sync.Mutex
	var logged bytes.Buffer
	n := alone(t, slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return logged.Write(p)
	}), &slog.HandlerOptions{Level: slog.LevelDebug})), control3...)
	secrets := []string{n.Token(), password(n.Remote("shop"))}
	stop, seen := make(chan struct{}), make(chan []string)
	go func() {
		var bad []string
		gits := 0
		for {
			all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			for _, name := range all {
				line, _ := os.ReadFile(name)
				if bytes.Contains(line, []byte("git")) {
					gits++
				}
				for _, s := range secrets {
					if bytes.Contains(line, []byte(s)) {
						bad = append(bad, string(bytes.ReplaceAll(line, []byte{0}, []byte(" "))))
					}
				}
			}
			select {
			case <-stop:
				seen <- append(bad, fmt.Sprint(gits))
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	dir := source(t, projectA)
	require.NoError(t, n.CreateRepository(t.Context(), "shop"))
	folder, err := dev.Open(t.Context(), dir, t.TempDir(), n.Remote("shop"))
	require.NoError(t, err)
	for i := range 3 {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "x"), fmt.Append(nil, i), 0o600))
		_, pushed, err := folder.Push(t.Context())
		require.NoError(t, err)
		require.True(t, pushed)
	}
	close(stop)
	got := <-seen
	require.NotEqual(t, "0", got[len(got)-1], "git was seen at work")
	require.Len(t, got, 1, "secrets in arguments: %v", got)
	mu.Lock()
	defer mu.Unlock()
	for _, s := range secrets {
		require.NotContains(t, logged.String(), s)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
