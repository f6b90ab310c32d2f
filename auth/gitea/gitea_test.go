package gitea_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	sdk "code.gitea.io/sdk/gitea"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/gitea"
	"github.com/taubyte/taubyte/internal/testnet"
)

// A server is a real Gitea.
type server struct {
	t       *testing.T
	url     string
	hostKey string
	bin     string
	config  string
}

func port(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, p, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return p
}

// start runs the Gitea of $GITEA, which test/gitea builds.
func start(t *testing.T) *server {
	t.Helper()
	bin := os.Getenv("GITEA")
	if bin == "" {
		t.Skip("GITEA names no Gitea: test/gitea/gitea.go says how to build it")
	}
	root := os.Getenv("GITEA_ROOT") // its templates
	if root == "" {
		out, err := exec.Command("go", "env", "GOMODCACHE").Output()
		require.NoError(t, err)
		root = filepath.Join(strings.TrimSpace(string(out)), "code.gitea.io", "gitea@v1.24.0")
	}
	dir, web, sshPort := t.TempDir(), port(t), port(t)
	s := &server{t: t, bin: bin, url: "http://127.0.0.1:" + web, config: filepath.Join(dir, "app.ini")}
	me, err := exec.Command("id", "-un").Output()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(s.config, fmt.Appendf(nil, `RUN_USER = %s
RUN_MODE = prod
I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true
WORK_PATH = %s
[server]
HTTP_ADDR = 127.0.0.1
HTTP_PORT = %s
ROOT_URL = %s/
STATIC_ROOT_PATH = %s
START_SSH_SERVER = true
SSH_DOMAIN = 127.0.0.1
SSH_LISTEN_HOST = 127.0.0.1
SSH_PORT = %s
SSH_LISTEN_PORT = %s
OFFLINE_MODE = true
[database]
DB_TYPE = sqlite3
PATH = %s
[security]
INSTALL_LOCK = true
SECRET_KEY = test
[webhook]
ALLOWED_HOST_LIST = *
[log]
MODE = console
LEVEL = error
`, strings.TrimSpace(string(me)), dir, web, s.url, root, sshPort, sshPort, filepath.Join(dir, "gitea.db")), 0o600))
	s.run("migrate")
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, bin, "--config", s.config, "web")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait()
	})
	testnet.Eventually(t, func() bool {
		resp, err := http.Get(s.url + "/api/v1/version")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, "Gitea runs")
	testnet.Eventually(t, func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "data", "ssh", "gitea.rsa.pub"))
		s.hostKey = strings.TrimSpace(string(text))
		return err == nil && s.hostKey != ""
	}, "it has a key")
	return s
}

func (s *server) run(args ...string) string {
	s.t.Helper()
	out, err := exec.Command(s.bin, append([]string{"--config", s.config}, args...)...).CombinedOutput()
	require.NoError(s.t, err, "%s", out)
	return string(out)
}

// user makes a user and returns a token of theirs.
func (s *server) user(name string) string {
	s.t.Helper()
	out := strings.Fields(s.run("admin", "user", "create", "--username", name, "--password", "secret-42-"+name, "--email", name+"@example.com",
		"--must-change-password=false", "--access-token", "--access-token-scopes", "all"))
	return out[len(out)-1]
}

func (s *server) api(token string) *sdk.Client {
	c, err := sdk.NewClient(s.url, sdk.SetToken(token), sdk.SetGiteaVersion(""))
	require.NoError(s.t, err)
	return c
}

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "git %v: %s", args, out)
	return strings.TrimSpace(string(out))
}

func TestAgainstGitea(t *testing.T) {
	s := start(t)
	token, guest := s.user("acme"), s.user("guest")
	p, err := gitea.New(s.url, token)
	require.NoError(t, err)
	overSSH, err := gitea.New(s.url, token, gitea.WithHostKeys(s.hostKey))
	require.NoError(t, err)
	ctx := t.Context()
	api := s.api(token)
	made, _, err := api.CreateRepo(sdk.CreateRepoOption{Name: "shop", DefaultBranch: "main"})
	require.NoError(t, err)

	found, err := p.Repository(ctx, auth.Remote{Name: "acme/shop"})
	require.NoError(t, err)
	require.Equal(t, auth.RemoteRepository{ID: strconv.FormatInt(made.ID, 10), Name: "acme/shop", DefaultBranch: "main", Administered: true}, found)
	r := auth.Remote{ID: found.ID, Name: found.Name}
	seen, err := p.Repository(ctx, auth.Remote{ID: found.ID, Credential: guest})
	require.NoError(t, err)
	require.False(t, seen.Administered)
	_, err = p.Repository(ctx, auth.Remote{ID: found.ID, Credential: "wrong"})
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	_, err = p.Repository(ctx, auth.Remote{ID: "4711"})
	require.ErrorIs(t, err, taubyte.ErrNotFound)
	account, err := p.Account(ctx, guest)
	require.NoError(t, err)
	require.Equal(t, "guest", account.Name)

	// Webhooks.
	events := make(chan auth.Event, 100)
	hooks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		e, err := p.Event(r.Header, body, "old", "new")
		if err != nil {
			t.Errorf("event %v: %v: %s", r.Header, err, body)
			return
		}
		events <- e
	}))
	defer hooks.Close()
	for _, secret := range []string{"first", "new"} {
		require.NoError(t, p.SetWebhook(ctx, r, hooks.URL, secret))
	}
	list, _, err := api.ListRepoHooks("acme", "shop", sdk.ListHooksOptions{})
	require.NoError(t, err)
	require.Len(t, list, 1)
	next := func(kind auth.EventKind) auth.Event {
		t.Helper()
		for deadline := time.After(30 * time.Second); ; {
			select {
			case e := <-events:
				if e.Kind == kind {
					return e
				}
			case <-deadline:
				t.Fatalf("no event %s", kind)
			}
		}
	}

	// Branches, over several pages.
	dir := t.TempDir()
	git(t, dir, "init", "-q", "-b", "main")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.txt"), []byte("one"), 0o644))
	git(t, dir, "add", "-A")
	git(t, dir, "commit", "-q", "-m", "first")
	remote := strings.Replace(made.CloneURL, "http://", "http://acme:"+token+"@", 1)
	git(t, dir, "push", "-q", remote, "main")
	first := taubyte.Commit(git(t, dir, "rev-parse", "HEAD"))
	push, ok := next(auth.EventPush).Push()
	require.True(t, ok)
	require.Equal(t, first, push.Commit)
	require.Equal(t, auth.NewRepositoryID("gitea", found.ID), push.Repository)
	refs := []string{"push", "-q", remote}
	for i := range 70 {
		refs = append(refs, fmt.Sprintf("main:refs/heads/f/%02d", i))
	}
	git(t, dir, refs...)
	require.NotEmpty(t, next(auth.EventBranchCreated).Branch)
	heads, err := p.Heads(ctx, r)
	require.NoError(t, err)
	require.Len(t, heads, 71)
	require.Equal(t, first, heads["f/42"])
	git(t, dir, "push", "-q", remote, ":refs/heads/f/42")
	require.Equal(t, taubyte.Branch("f/42"), next(auth.EventBranchDeleted).Branch)
	heads, err = p.Heads(ctx, r)
	require.NoError(t, err)
	require.Len(t, heads, 70)

	// A pull request.
	git(t, dir, "checkout", "-q", "-b", "change")
	git(t, dir, "commit", "-q", "--allow-empty", "-m", "second")
	git(t, dir, "push", "-q", remote, "change")
	second := taubyte.Commit(git(t, dir, "rev-parse", "HEAD"))
	_, _, err = api.CreatePullRequest("acme", "shop", sdk.CreatePullRequestOption{Head: "change", Base: "main", Title: "x"})
	require.NoError(t, err)
	pull := next(auth.EventPullRequest)
	require.Equal(t, second, pull.Commit)
	require.Equal(t, auth.NewRepositoryID("gitea", found.ID), pull.PullRequest.From)
	require.True(t, pull.PullRequest.Open)

	// Sources, over ssh with the deploy key and over HTTP with the token.
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(key, "")
	require.NoError(t, err)
	sshKey, err := ssh.NewPublicKey(pub)
	require.NoError(t, err)
	public := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(sshKey)))
	for range 2 {
		require.NoError(t, p.AddKey(ctx, r, "taubyte", public))
	}
	withKey := r
	withKey.Key = pem.EncodeToMemory(block)
	for _, c := range []struct {
		p *gitea.Provider
		r auth.Remote
	}{{overSSH, withKey}, {p, r}, {p, withKey}} {
		var archive bytes.Buffer
		require.NoError(t, c.p.Source(ctx, c.r, first, &archive))
		require.Equal(t, []string{"a.txt"}, names(t, archive.Bytes()))
		require.ErrorIs(t, c.p.Source(ctx, c.r, taubyte.Commit(strings.Repeat("a", 40)), io.Discard), taubyte.ErrNotFound)
	}
	require.NoError(t, p.SetStatus(ctx, r, first, auth.Status{State: auth.StatusFailure, Context: "taubyte", Description: "no", URL: "https://cloud.example/1"}))
	status, _, err := api.GetCombinedStatus("acme", "shop", string(first))
	require.NoError(t, err)
	require.Equal(t, sdk.StatusFailure, status.State)

	// Renamed, it is the same.
	name := "store"
	_, _, err = api.EditRepo("acme", "shop", sdk.EditRepoOption{Name: &name})
	require.NoError(t, err)
	heads, err = p.Heads(ctx, r)
	require.NoError(t, err)
	require.Len(t, heads, 71)
	for range 2 {
		require.NoError(t, p.RemoveKey(ctx, r, public))
		require.NoError(t, p.RemoveWebhook(ctx, r, hooks.URL))
	}
	require.ErrorIs(t, overSSH.Source(ctx, withKey, first, io.Discard), taubyte.ErrForbidden)
	keys, _, err := api.ListDeployKeys("acme", "store", sdk.ListDeployKeysOptions{})
	require.NoError(t, err)
	require.Empty(t, keys)
}

func names(t *testing.T, archive []byte) (all []string) {
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		if h.Typeflag == tar.TypeReg {
			all = append(all, h.Name)
		}
	}
}

func TestEvents(t *testing.T) {
	p, err := gitea.New("https://git.example.com", "token", gitea.WithName("git"))
	require.NoError(t, err)
	body := []byte(`{"ref":"refs/heads/main","before":"0000000000000000000000000000000000000000","after":"6113728f27ae82c7b1a177c8d03f9e96e0adf246","repository":{"id":7,"full_name":"acme/shop"}}`)
	mac := hmac.New(sha256.New, []byte("s"))
	mac.Write(body)
	h := http.Header{}
	h.Set("Content-Type", "application/json")
	h.Set("X-Gitea-Event", "push")
	h.Set("X-Gitea-Delivery", "1")
	h.Set("X-Gitea-Signature", hex.EncodeToString(mac.Sum(nil)))
	e, err := p.Event(h, body, "s")
	require.NoError(t, err)
	push, ok := e.Push()
	require.True(t, ok)
	require.Equal(t, taubyte.RepositoryID("git/7"), push.Repository)
	_, err = p.Event(h, body, "t")
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	for _, bad := range []string{"", "git.example.com", "ftp://x"} {
		_, err = gitea.New(bad, "token")
		require.ErrorIs(t, err, taubyte.ErrInvalid)
	}
	_, err = gitea.New("https://git.example.com", "")
	require.ErrorIs(t, err, taubyte.ErrInvalid)
}

func FuzzEvent(f *testing.F) {
	p, err := gitea.New("https://git.example.test", "x")
	require.NoError(f, err)
	f.Add("push", `{"ref":"refs/heads/main","after":"6113728f27ae82c7b1a177c8d03f9e96e0adf246","repository":{"id":1,"full_name":"a/b"}}`)
	f.Add("delete", `{"ref":"x","ref_type":"branch","repository":{"id":1,"full_name":"a/b"}}`)
	f.Add("pull_request", `{"action":"opened","number":1,"pull_request":{"state":"open","head":{"ref":"x","sha":"6113728f27ae82c7b1a177c8d03f9e96e0adf246"},"base":{"ref":"main"}},"repository":{"id":1,"full_name":"a/b"}}`)
	f.Fuzz(func(t *testing.T, event, body string) {
		mac := hmac.New(sha256.New, []byte("s"))
		mac.Write([]byte(body))
		h := http.Header{"Content-Type": {"application/json"}, "X-Gitea-Event": {event}, "X-Gitea-Delivery": {"1"}, "X-Gitea-Signature": {hex.EncodeToString(mac.Sum(nil))}}
		if _, err := p.Event(h, []byte(body), "another"); err == nil {
			t.Fatal("taken, and signed with another secret")
		}
		e, err := p.Event(h, []byte(body), "s")
		if err != nil {
			return
		}
		if push, ok := e.Push(); ok && (push.Branch == "" || push.Repository == "") {
			t.Fatalf("%+v", push)
		}
	})
}
