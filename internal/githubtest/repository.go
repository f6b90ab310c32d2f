package githubtest

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/stretchr/testify/require"
)

// Repository is a repository of the server, with a clone to commit in.
type Repository struct {
	ID   int64
	Name string // changed by Rename

	s        *Server
	bare     string
	work     string
	admins   map[string]bool // logins
	readers  map[string]bool
	former   []string
	keys     []key
	webhooks []hook
	statuses map[string][]Status
}

// Repository makes an empty repository "<owner>/<name>", which its owner administers.
func (s *Server) Repository(name string) *Repository {
	s.t.Helper()
	dir := s.t.TempDir()
	owner, _, _ := strings.Cut(name, "/")
	r := &Repository{
		Name: name, s: s, bare: filepath.Join(dir, "bare.git"), work: filepath.Join(dir, "work"),
		admins: map[string]bool{owner: true}, readers: map[string]bool{}, statuses: map[string][]Status{},
	}
	r.git(dir, "init", "-q", "--bare", "-b", "main", r.bare)
	r.git(r.bare, "config", "uploadpack.allowAnySHA1InWant", "true")
	r.git(dir, "init", "-q", "-b", "main", r.work)
	s.mu.Lock()
	defer s.mu.Unlock()
	r.ID = s.newIDLocked()
	s.repos[r.ID] = r
	return r
}

func (r *Repository) git(dir string, args ...string) string {
	r.s.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=o", "GIT_AUTHOR_EMAIL=o@example.com",
		"GIT_COMMITTER_NAME=o", "GIT_COMMITTER_EMAIL=o@example.com")
	out, err := cmd.CombinedOutput()
	require.NoError(r.s.t, err, "git %v: %s", args, out)
	return strings.TrimSpace(string(out))
}

// Push commits files to a branch, pushes it, and sends the event to the webhooks.
func (r *Repository) Push(branch string, files map[string]string) (commit string) {
	r.s.t.Helper()
	r.git(r.work, "checkout", "-q", "-B", branch)
	for name, text := range files {
		path := filepath.Join(r.work, filepath.FromSlash(name))
		require.NoError(r.s.t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(r.s.t, os.WriteFile(path, []byte(text), 0o644))
	}
	r.git(r.work, "add", "-A")
	r.git(r.work, "commit", "-q", "--allow-empty", "-m", "change")
	commit = r.git(r.work, "rev-parse", "HEAD")
	r.git(r.work, "push", "-q", "--force", r.bare, "HEAD:refs/heads/"+branch)
	r.Send("push", map[string]any{"ref": "refs/heads/" + branch, "after": commit, "deleted": false})
	return commit
}

// Branches makes branches at a commit, or removes them where it is empty, and tells
// nobody.
func (r *Repository) Branches(commit string, names ...string) {
	r.s.t.Helper()
	var in strings.Builder
	for _, name := range names {
		if commit == "" {
			fmt.Fprintf(&in, "delete refs/heads/%s\n", name)
		} else {
			fmt.Fprintf(&in, "update refs/heads/%s %s\n", name, commit)
		}
	}
	cmd := exec.Command("git", "update-ref", "--stdin")
	cmd.Dir, cmd.Stdin = r.bare, strings.NewReader(in.String())
	out, err := cmd.CombinedOutput()
	require.NoError(r.s.t, err, "%s", out)
}

// Send sends an event to the webhooks that ask for it, and returns their answers.
func (r *Repository) Send(event string, fields map[string]any) (answers []int) {
	return r.SendBy(hex.EncodeToString(random(16)), event, fields)
}

// SendBy is Send of a delivery with that id.
func (r *Repository) SendBy(delivery, event string, fields map[string]any) (answers []int) {
	r.s.mu.Lock()
	hooks := append([]hook(nil), r.webhooks...)
	fields["repository"] = map[string]any{"id": r.ID, "full_name": r.Name}
	r.s.mu.Unlock()
	body, err := json.Marshal(fields)
	require.NoError(r.s.t, err)
	for _, h := range hooks {
		mac := hmac.New(sha256.New, []byte(h.Secret))
		mac.Write(body)
		req, err := http.NewRequest(http.MethodPost, h.URL, bytes.NewReader(body))
		require.NoError(r.s.t, err)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-GitHub-Event", event)
		req.Header.Set("X-GitHub-Delivery", delivery)
		req.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
		resp, err := http.DefaultClient.Do(req)
		require.NoError(r.s.t, err)
		_ = resp.Body.Close()
		answers = append(answers, resp.StatusCode)
	}
	http.DefaultClient.CloseIdleConnections()
	return answers
}

// Rename gives the repository another name; the old one leads there until another
// repository takes it.
func (r *Repository) Rename(name string) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.former = append(r.former, r.Name)
	r.Name = name
}

// Reader lets a user read the repository and no more.
func (r *Repository) Reader(login string) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.readers[login] = true
}

// Administrator lets a user administer the repository, or no more see it.
func (r *Repository) Administrator(login string, may bool) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.admins[login] = may
}

// Keys returns the deploy keys, and Webhooks the URLs of the webhooks.
func (r *Repository) Keys() (all []string) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	for _, k := range r.keys {
		all = append(all, k.Key)
		require.True(r.s.t, k.ReadOnly)
	}
	return all
}

// Webhooks returns the URLs of the webhooks.
func (r *Repository) Webhooks() (all []string) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	for _, h := range r.webhooks {
		all = append(all, h.URL)
	}
	return all
}

// Statuses returns those of a commit.
func (r *Repository) Statuses(commit string) []Status {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return append([]Status(nil), r.statuses[commit]...)
}

// right is what a token may do: "admin", "read" or "".
func (r *Repository) right(t *token) string {
	switch {
	case t.app, r.admins[t.login]:
		return "admin"
	case r.readers[t.login]:
		return "read"
	}
	return ""
}

func (s *Server) named(name string) *Repository {
	for _, r := range s.repos {
		if strings.EqualFold(r.Name, name) {
			return r
		}
	}
	return nil
}

func (s *Server) moved(name string) *Repository {
	for _, r := range s.repos {
		for _, f := range r.former {
			if strings.EqualFold(f, name) {
				return r
			}
		}
	}
	return nil
}

type branch struct{ name, commit string }

func (r *Repository) branches() (all []branch) {
	for _, line := range strings.Split(r.git(r.bare, "for-each-ref", "--format=%(objectname) %(refname:lstrip=2)", "refs/heads"), "\n") {
		if commit, name, ok := strings.Cut(line, " "); ok {
			all = append(all, branch{name, commit})
		}
	}
	return all
}

func (r *Repository) has(commit string) bool {
	return exec.Command("git", "-C", r.bare, "cat-file", "-e", commit+"^{commit}").Run() == nil
}

// serveGit serves clones over HTTP to who shows a token as the password.
func (s *Server) serveGit(w http.ResponseWriter, r *http.Request) {
	name, rest, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), ".git/")
	_, password, _ := r.BasicAuth()
	s.mu.Lock()
	repo, t := s.named(name), s.tokens[password]
	if password == "" {
		w.Header().Set("WWW-Authenticate", `Basic realm="GitHub"`)
	}
	right := ""
	if repo != nil && t != nil {
		right = repo.right(t)
	}
	s.mu.Unlock()
	switch {
	case t == nil:
		http.Error(w, "Invalid username or token", http.StatusUnauthorized)
		return
	case !ok || right == "":
		http.Error(w, "Repository not found.", http.StatusNotFound)
		return
	}
	r.URL.Path = "/" + rest
	git, err := exec.LookPath("git")
	require.NoError(s.t, err)
	(&cgi.Handler{Path: git, Args: []string{"http-backend"}, Env: []string{"GIT_PROJECT_ROOT=" + repo.bare, "GIT_HTTP_EXPORT_ALL=1"}}).ServeHTTP(w, r)
}
