package github_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/github"
	"github.com/taubyte/taubyte/internal/githubtest"
)

// clock is a time that waiting moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Now().Truncate(time.Second)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	return ctx.Err()
}

func open(t *testing.T, s *githubtest.Server, c *clock, opts ...github.Option) *github.Provider {
	t.Helper()
	s.Now = c.Now
	p, err := github.New(append([]github.Option{github.WithEnterprise(s.URL), github.WithClock(c.Now, c.Sleep)}, opts...)...)
	require.NoError(t, err)
	return p
}

func remote(r *githubtest.Repository) auth.Remote {
	return auth.Remote{ID: strconv.FormatInt(r.ID, 10), Name: r.Name}
}

func deployKey(t *testing.T) (private []byte, public string) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(key, "")
	require.NoError(t, err)
	sshKey, err := ssh.NewPublicKey(pub)
	require.NoError(t, err)
	return pem.EncodeToMemory(block), string(ssh.MarshalAuthorizedKey(sshKey))
}

func files(t *testing.T, archive []byte) map[string]string {
	t.Helper()
	all := map[string]string{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		if h.Typeflag == tar.TypeReg {
			text, err := io.ReadAll(r)
			require.NoError(t, err)
			all[h.Name] = string(text)
		}
	}
}

func TestRepositories(t *testing.T) {
	s := githubtest.New(t)
	token := s.User("acme")
	p := open(t, s, newClock(), github.WithToken(token))
	shop := s.Repository("acme/shop")
	ctx := t.Context()

	found, err := p.Repository(ctx, auth.Remote{Name: "acme/shop"})
	require.NoError(t, err)
	require.Equal(t, auth.RemoteRepository{ID: strconv.FormatInt(shop.ID, 10), Name: "acme/shop", DefaultBranch: "main", Administered: true}, found)
	shop.Reader("guest")
	seen, err := p.Repository(ctx, auth.Remote{ID: found.ID, Credential: s.User("guest")})
	require.NoError(t, err)
	require.False(t, seen.Administered)
	_, err = p.Repository(ctx, auth.Remote{ID: found.ID, Credential: s.User("stranger")})
	require.ErrorIs(t, err, taubyte.ErrNotFound)
	_, err = p.Repository(ctx, auth.Remote{ID: found.ID, Credential: "ghp_wrong"})
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	for _, bad := range []auth.Remote{{ID: "x"}, {Name: "shop"}, {Name: "a/b/c"}, {}} {
		_, err = p.Repository(ctx, bad)
		require.ErrorIs(t, err, taubyte.ErrInvalid)
	}

	_, public := deployKey(t)
	_, other := deployKey(t)
	for i := range 120 { // over two pages of keys
		_, filler := deployKey(t)
		if i == 60 {
			filler = other
		}
		require.NoError(t, p.AddKey(ctx, remote(shop), "filler", filler))
	}
	for range 2 {
		require.NoError(t, p.AddKey(ctx, remote(shop), "taubyte", public))
		require.NoError(t, p.SetWebhook(ctx, remote(shop), "https://cloud.example/webhooks/1", "secret"))
	}
	require.Len(t, shop.Keys(), 121)
	require.Equal(t, []string{"https://cloud.example/webhooks/1"}, shop.Webhooks())
	require.ErrorIs(t, p.AddKey(ctx, remote(s.Repository("acme/second")), "taubyte", public), taubyte.ErrConflict, "of another repository")

	shop.Rename("acme/store")
	for range 2 {
		require.NoError(t, p.RemoveKey(ctx, remote(shop), public))
		require.NoError(t, p.RemoveWebhook(ctx, remote(shop), "https://cloud.example/webhooks/1"))
	}
	require.Len(t, shop.Keys(), 120)
	require.Empty(t, shop.Webhooks())

	account, err := p.Account(ctx, token)
	require.NoError(t, err)
	require.Equal(t, auth.Account{ID: "5", Name: "acme", Scopes: []string{"repo", "admin:repo_hook"}}, account)
	commit := shop.Push("main", map[string]string{"a": "1"})
	require.NoError(t, p.SetStatus(ctx, remote(shop), taubyte.Commit(commit), auth.Status{
		State: auth.StatusSuccess, Context: "taubyte", Description: strings.Repeat("ä", 200), URL: "https://cloud.example/jobs/1",
	}))
	require.Equal(t, "success", shop.Statuses(commit)[0].State)
	require.Len(t, []rune(shop.Statuses(commit)[0].Description), 140)
	require.ErrorIs(t, p.SetStatus(ctx, remote(shop), taubyte.Commit(strings.Repeat("a", 40)), auth.Status{State: auth.StatusError, Context: "taubyte"}), taubyte.ErrInvalid)
}

func TestSource(t *testing.T) {
	s := githubtest.New(t)
	token := s.User("acme")
	p := open(t, s, newClock(), github.WithToken(token))
	shop := s.Repository("acme/shop")
	first := shop.Push("main", map[string]string{"config.yaml": "id: x\n", ".gitattributes": "config.yaml export-ignore\n"})
	shop.Push("main", map[string]string{"config.yaml": "id: y\n"})
	ctx := t.Context()
	private, public := deployKey(t)
	require.NoError(t, p.AddKey(ctx, remote(shop), "taubyte", public))
	// Nothing that git is started with shows a secret, and nothing is left behind.
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	for _, key := range [][]byte{private, nil} {
		r := remote(shop)
		r.Key = key
		var archive bytes.Buffer
		require.NoError(t, p.Source(ctx, r, taubyte.Commit(first), &archive))
		require.Equal(t, "id: x\n", files(t, archive.Bytes())["config.yaml"], "the exact commit, whole")
		var none bytes.Buffer
		require.ErrorIs(t, p.Source(ctx, r, taubyte.Commit(strings.Repeat("a", 40)), &none), taubyte.ErrNotFound)
		require.ErrorIs(t, p.Source(ctx, r, "main", &none), taubyte.ErrInvalid)
		require.Empty(t, none.Bytes())
	}
	stranger, _ := deployKey(t)
	r := remote(shop)
	r.Key = stranger
	require.ErrorIs(t, p.Source(ctx, r, taubyte.Commit(first), io.Discard), taubyte.ErrForbidden)
	// A host that shows another key is not talked to.
	_, wrong := deployKey(t)
	careful := open(t, s, newClock(), github.WithToken(token), github.WithHostKeys(wrong))
	r.Key = private
	require.ErrorIs(t, careful.Source(ctx, r, taubyte.Commit(first), io.Discard), taubyte.ErrForbidden)
	left, err := os.ReadDir(temp)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestHeads(t *testing.T) {
	s := githubtest.New(t)
	c := newClock()
	p := open(t, s, c, github.WithToken(s.User("acme")))
	shop := s.Repository("acme/shop")
	first := shop.Push("main", map[string]string{"a": "1"})
	var names []string
	for i := range 250 {
		names = append(names, fmt.Sprintf("feature/%03d", i))
	}
	shop.Branches(first, names...)
	ctx := t.Context()
	heads, err := p.Heads(ctx, remote(shop))
	require.NoError(t, err)
	require.Len(t, heads, 251)
	require.Equal(t, taubyte.Commit(first), heads["feature/123"])

	// A page that is cut, empty, an error or no list, a list without its end: none removes
	// a branch.
	for name, fault := range map[string]func(http.ResponseWriter){
		"cut":      func(w http.ResponseWriter) { _, _ = io.WriteString(w, `[{"name":"main","comm`) },
		"nothing":  func(w http.ResponseWriter) {},
		"null":     func(w http.ResponseWriter) { _, _ = io.WriteString(w, "null") },
		"an error": func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) },
		"nameless": func(w http.ResponseWriter) { _, _ = io.WriteString(w, `[{}]`) },
	} {
		s.Fault = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Query().Get("page") != "2" {
				return false
			}
			fault(w)
			return true
		}
		_, err = p.Heads(ctx, remote(shop))
		require.ErrorIs(t, err, taubyte.ErrUnavailable, name)
	}
	s.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("page") != "2" {
			return false
		}
		_, _ = io.WriteString(w, "[]") // and no more pages
		return true
	}
	heads, err = p.Heads(ctx, remote(shop))
	if err == nil {
		require.Len(t, heads, 251, "what is missing is asked for by name")
	} else {
		require.ErrorIs(t, err, taubyte.ErrUnavailable)
	}
	s.Fault = nil

	shop.Branches("", names[:200]...)
	heads, err = p.Heads(ctx, remote(shop))
	require.NoError(t, err)
	require.Len(t, heads, 51, "those that are gone are gone")

	// Renamed, it is the same; another of the old name is another.
	shop.Rename("acme/store")
	heads, err = p.Heads(ctx, remote(shop))
	require.NoError(t, err)
	require.Len(t, heads, 51)
	usurper := s.Repository("acme/shop")
	usurper.Push("evil", map[string]string{"b": "2"})
	heads, err = p.Heads(ctx, remote(shop))
	require.NoError(t, err)
	require.Len(t, heads, 51)
	require.NotContains(t, heads, taubyte.Branch("evil"))
	heads, err = p.Heads(ctx, remote(usurper))
	require.NoError(t, err)
	require.Len(t, heads, 1)
}

// A thousand repositories are looked at each minute for an hour.
func TestPollingCostsNothingWhileNothingChanges(t *testing.T) {
	s := githubtest.New(t)
	c := newClock()
	p := open(t, s, c, github.WithToken(s.User("acme")))
	ctx := t.Context()
	// One repository under many ids is as good, and git is asked less.
	const repositories, rounds = 20, 60
	var all []*githubtest.Repository
	for i := range repositories {
		r := s.Repository(fmt.Sprintf("acme/r%d", i))
		r.Push("main", map[string]string{"a": "1"})
		all = append(all, r)
	}
	began := c.Now()
	for round := range rounds {
		if round%10 == 9 {
			all[round%repositories].Push("main", map[string]string{"a": fmt.Sprint(round)})
		}
		for _, r := range all {
			_, err := p.Heads(ctx, remote(r))
			require.NoError(t, err)
		}
		if next := began.Add(time.Duration(round+1) * time.Minute); c.Now().Before(next) {
			require.NoError(t, c.Sleep(ctx, next.Sub(c.Now())))
		}
	}
	counted, free := s.Requests()
	t.Logf("%d repositories, %d rounds in an hour: %d requests that count, %d that do not", repositories, rounds, counted, free)
	require.Less(t, counted*1000/repositories, 5000, "of a thousand repositories")
	require.Greater(t, free, repositories*(rounds-2))
}

func TestLimits(t *testing.T) {
	s := githubtest.New(t)
	c := newClock()
	p := open(t, s, c, github.WithToken(s.User("acme")))
	shop := s.Repository("acme/shop")
	shop.Push("main", map[string]string{"a": "1"})
	ctx := t.Context()
	// Secondary limits: with a time, in words alone, and for a call that changes something.
	var refused int
	for name, refuse := range map[string]func(http.ResponseWriter){
		"time": func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "20")
			w.WriteHeader(http.StatusForbidden)
		},
		"words": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"message":"You have exceeded a secondary rate limit."}`)
		},
		"429": func(w http.ResponseWriter) { w.WriteHeader(http.StatusTooManyRequests) },
	} {
		refused = 0
		s.Fault = func(w http.ResponseWriter, r *http.Request) bool {
			if refused++; refused > 2 {
				return false
			}
			refuse(w)
			return true
		}
		before := c.Now()
		require.NoError(t, p.SetWebhook(ctx, remote(shop), "https://cloud.example/"+name, "secret"), name)
		require.Greater(t, c.Now().Sub(before), 10*time.Second, name)
	}
	require.Len(t, shop.Webhooks(), 3)
	// One that lasts is an error, and nothing is asked meanwhile.
	refused = 0
	s.Fault = func(w http.ResponseWriter, _ *http.Request) bool {
		refused++
		w.Header().Set("Retry-After", "600")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	}
	for range 3 {
		_, err := p.Repository(ctx, remote(shop))
		require.ErrorIs(t, err, taubyte.ErrUnavailable)
	}
	require.Equal(t, 1, refused)
	s.Fault = nil
	require.NoError(t, c.Sleep(ctx, 10*time.Minute))
	_, err := p.Repository(ctx, remote(shop))
	require.NoError(t, err)
	// A plain 403 is no limit.
	s.Fault = func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"message":"Resource not accessible by personal access token"}`)
		return true
	}
	_, err = p.Repository(ctx, remote(shop))
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	s.Fault = nil

	// The limit of an hour: the server fails the test for a request beyond it.
	limited := githubtest.New(t)
	limited.Limit = 5
	q := open(t, limited, c, github.WithToken(limited.User("acme")))
	store := limited.Repository("acme/store")
	var failed int
	for range 20 {
		if _, err := q.Repository(ctx, auth.Remote{Name: store.Name}); err != nil {
			require.ErrorIs(t, err, taubyte.ErrUnavailable)
			failed++
		}
	}
	require.Equal(t, 15, failed)
	require.NoError(t, c.Sleep(ctx, time.Hour))
	_, err = q.Repository(ctx, remote(store))
	require.NoError(t, err)
}

func TestApp(t *testing.T) {
	s := githubtest.New(t)
	key := s.App()
	c := newClock()
	p := open(t, s, c, github.WithApp(7, 8, key))
	shop := s.Repository("acme/shop")
	shop.Push("main", map[string]string{"a": "1"})
	ctx := t.Context()
	for range 3 { // each time with another token
		found, err := p.Repository(ctx, remote(shop))
		require.NoError(t, err)
		require.True(t, found.Administered)
		heads, err := p.Heads(ctx, remote(shop))
		require.NoError(t, err)
		require.Len(t, heads, 1)
		require.NoError(t, c.Sleep(ctx, 58*time.Minute))
	}
	_, err := p.Account(ctx, "")
	require.ErrorIs(t, err, taubyte.ErrForbidden, "an app is nobody's account")
	_, err = github.New(github.WithApp(7, 8, []byte("no key")))
	require.ErrorIs(t, err, taubyte.ErrInvalid)
	_, err = github.New()
	require.ErrorIs(t, err, taubyte.ErrInvalid)
	other := open(t, s, c, github.WithApp(9, 8, key))
	_, err = other.Repository(ctx, remote(shop))
	require.ErrorIs(t, err, taubyte.ErrUnavailable)
}

func signed(event string, body []byte, secret string) http.Header {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	h := http.Header{}
	h.Set("Content-Type", "application/json")
	h.Set("X-GitHub-Event", event)
	h.Set("X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958")
	h.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	return h
}

// All of GitHub's published examples are taken as what they are.
func TestPublishedEvents(t *testing.T) {
	p, err := github.New(github.WithToken("x"))
	require.NoError(t, err)
	f, err := os.Open(filepath.Join("..", "..", "internal", "githubtest", "testdata", "webhooks.json"))
	require.NoError(t, err)
	defer f.Close()
	kinds := map[auth.EventKind]int{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var example struct {
			Event string          `json:"event"`
			Body  json.RawMessage `json:"body"`
		}
		require.NoError(t, json.Unmarshal(lines.Bytes(), &example))
		h := signed(example.Event, example.Body, "new")
		e, err := p.Event(h, example.Body, "old", "new")
		require.NoError(t, err, "%s %s", example.Event, example.Body)
		kinds[e.Kind]++
		require.Equal(t, example.Event, e.Type)
		if push, ok := e.Push(); ok {
			require.Equal(t, taubyte.Branch("master"), push.Branch)
			require.NotEmpty(t, push.Repository)
		}
		if e.Kind == auth.EventPullRequest {
			require.Positive(t, e.PullRequest.Number)
			require.NotEmpty(t, e.Commit)
		}
		for _, secrets := range [][]string{nil, {"old"}, {""}} {
			_, err = p.Event(h, example.Body, secrets...)
			require.ErrorIs(t, err, taubyte.ErrForbidden)
		}
		_, err = p.Event(h, append([]byte(" "), example.Body...), "new")
		require.ErrorIs(t, err, taubyte.ErrForbidden)
		h.Del("X-Hub-Signature-256")
		_, err = p.Event(h, example.Body, "new")
		require.ErrorIs(t, err, taubyte.ErrForbidden)
	}
	t.Logf("%v", kinds)
	require.Equal(t, 2, kinds[auth.EventPush], "the others are of tags")
	require.Equal(t, 4, kinds[auth.EventPing])
	require.Equal(t, 29, kinds[auth.EventPullRequest])
}

func TestEvents(t *testing.T) {
	p, err := github.New(github.WithToken("x"))
	require.NoError(t, err)
	const zero, commit = "0000000000000000000000000000000000000000", "6113728f27ae82c7b1a177c8d03f9e96e0adf246"
	read := func(event, body string) (auth.Event, error) {
		return p.Event(signed(event, []byte(body), "s"), []byte(body), "s")
	}
	e, err := read("push", `{"ref":"refs/heads/a/b","after":"`+zero+`","deleted":true,"repository":{"id":1,"full_name":"a/b"}}`)
	require.NoError(t, err)
	push, ok := e.Push()
	require.True(t, ok)
	require.Equal(t, auth.Push{Repository: "github/1", Branch: "a/b", Delivery: e.Delivery}, push)
	for _, c := range []struct {
		event, body string
		kind        auth.EventKind
	}{
		{"create", `{"ref":"x","ref_type":"branch","repository":{"id":1,"full_name":"a/b"}}`, auth.EventBranchCreated},
		{"delete", `{"ref":"x","ref_type":"branch","repository":{"id":1,"full_name":"a/b"}}`, auth.EventBranchDeleted},
		{"delete", `{"ref":"x","ref_type":"tag","repository":{"id":1,"full_name":"a/b"}}`, auth.EventOther},
		{"star", `{}`, auth.EventOther},
	} {
		e, err := read(c.event, c.body)
		require.NoError(t, err)
		require.Equal(t, c.kind, e.Kind)
	}
	for _, body := range []string{
		``, `[]`, `{}`, `null`, `{"repository":{"id":1,"full_name":"a/b"}}`,
		`{"ref":"main","after":"` + commit + `","repository":{"id":1,"full_name":"a/b"}}`,
		`{"ref":"refs/heads/","after":"` + commit + `","repository":{"id":1,"full_name":"a/b"}}`,
		`{"ref":"refs/heads/main","after":"HEAD","repository":{"id":1,"full_name":"a/b"}}`,
		`{"ref":"refs/heads/main","after":"` + commit + `","repository":{"id":-1,"full_name":"a/b"}}`,
	} {
		_, err := read("push", body)
		require.ErrorIs(t, err, taubyte.ErrInvalid, body)
	}
	big := make([]byte, auth.MaxEvent+1)
	_, err = p.Event(signed("push", big, "s"), big, "s")
	require.ErrorIs(t, err, taubyte.ErrTooLarge)
}

func FuzzEvent(f *testing.F) {
	p, err := github.New(github.WithToken("x"))
	require.NoError(f, err)
	f.Add("push", `{"ref":"refs/heads/main","after":"6113728f27ae82c7b1a177c8d03f9e96e0adf246","repository":{"id":1,"full_name":"a/b"}}`)
	f.Add("create", `{"ref":"x","ref_type":"branch","repository":{"id":1,"full_name":"a/b"}}`)
	f.Add("pull_request", `{"action":"opened","number":1,"pull_request":{"state":"open","head":{"ref":"x","sha":"6113728f27ae82c7b1a177c8d03f9e96e0adf246"},"base":{"ref":"main"}},"repository":{"id":1,"full_name":"a/b"}}`)
	f.Fuzz(func(t *testing.T, event, body string) {
		if _, err := p.Event(signed(event, []byte(body), "another"), []byte(body), "s"); err == nil {
			t.Fatal("taken, and signed with another secret")
		}
		e, err := p.Event(signed(event, []byte(body), "s"), []byte(body), "s")
		if err != nil {
			return
		}
		if push, ok := e.Push(); ok && (push.Branch == "" || push.Repository == "") {
			t.Fatalf("%+v", push)
		}
	})
}
