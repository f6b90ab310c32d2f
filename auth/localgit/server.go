package localgit

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
)

// Option changes what New makes.
type Option func(*Server)

// WithAuthorize sets who may use a repository: the user and password of the
// request, and whether it means to write. The default lets nobody in.
func WithAuthorize(f func(ctx context.Context, user, password, repository string, write bool) bool) Option {
	return func(s *Server) { s.authorize = f }
}

// WithOnPush sets what hears of every branch that a push changed. The lines that
// it returns are shown to the pusher, and so is its error.
func WithOnPush(f func(ctx context.Context, name string, push auth.Push) (string, error)) Option {
	return func(s *Server) { s.onPush = f }
}

// WithMaxPush bounds the bytes of a push. The default is 1 GiB.
func WithMaxPush(bytes int64) Option { return func(s *Server) { s.maxPush = bytes } }

// WithLogger sets where the server logs. The default is slog.Default().
func WithLogger(l *slog.Logger) Option { return func(s *Server) { s.log = l } }

// Server is the git provider. It is an http.Handler and an auth.Provider, and safe
// for concurrent use.
type Server struct {
	dir       string
	authorize func(ctx context.Context, user, password, repository string, write bool) bool
	onPush    func(ctx context.Context, name string, push auth.Push) (string, error)
	maxPush   int64
	log       *slog.Logger

	mu     sync.Mutex
	pushes map[string]*told
}

// told is what was last told of a repository's branches, so that each change is told
// once and in order, while pushes themselves run side by side.
type told struct {
	mu    sync.Mutex
	heads map[taubyte.Branch]taubyte.Commit // nil before the first push
}

var _ auth.Provider = (*Server)(nil)

// New serves the repositories in a folder, which it makes if need be. Without git
// on the machine it gives ErrUnavailable.
func New(dir string, opts ...Option) (*Server, error) {
	if _, err := exec.LookPath("git"); err != nil {
		return nil, fmt.Errorf("%w: git is not installed, or not in PATH: %w", taubyte.ErrUnavailable, err)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(abs, 0o700); err != nil {
		return nil, fmt.Errorf("git repositories: %w", err)
	}
	s := &Server{
		dir:       abs,
		authorize: func(context.Context, string, string, string, bool) bool { return false },
		onPush:    func(context.Context, string, auth.Push) (string, error) { return "", nil },
		maxPush:   1 << 30,
		log:       slog.Default(),
		pushes:    map[string]*told{},
	}
	for _, o := range opts {
		o(s)
	}
	return s, nil
}

var nameRule = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$`)

func checkName(name string) error {
	if !nameRule.MatchString(name) || strings.HasSuffix(name, ".git") || strings.Contains(name, "..") {
		return fmt.Errorf("%w repository name %q: letters, digits, \".\", \"_\" and \"-\", 100 at most", taubyte.ErrInvalid, name)
	}
	return nil
}

func (s *Server) existing(name string) (string, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	dir := filepath.Join(s.dir, name+".git")
	if _, err := os.Stat(filepath.Join(dir, "HEAD")); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: git repository %s", taubyte.ErrNotFound, name)
	} else if err != nil {
		return "", err
	}
	return dir, nil
}

// Create makes an empty repository unless it is there.
func (s *Server) Create(ctx context.Context, name string) error {
	if _, err := s.existing(name); err == nil || !errors.Is(err, taubyte.ErrNotFound) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	dir := filepath.Join(s.dir, name+".git")
	if _, err := os.Stat(filepath.Join(dir, "HEAD")); err == nil {
		return nil
	}
	// Made beside and moved into place: a crash leaves no half of one.
	made, err := os.MkdirTemp(s.dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(made)
	if _, err := run(ctx, made, "init", "--quiet", "--bare", "--template=", "--initial-branch=main"); err != nil {
		return err
	}
	for _, c := range [][2]string{
		{"receive.fsckObjects", "true"},
		{"receive.autogc", "false"}, // it would outlive the request
		{"uploadpack.allowAnySHA1InWant", "true"},
		{"core.hooksPath", os.DevNull},
		{"core.fsync", "all"}, // git leaves loose objects out
		{"http.receivepack", "true"},
	} {
		if _, err := run(ctx, made, "config", c[0], c[1]); err != nil {
			return err
		}
	}
	return os.Rename(made, dir)
}

// ServeHTTP speaks git's smart HTTP protocol (gitprotocol-http): the path is
// /<name>.git/info/refs, /<name>.git/git-upload-pack or git-receive-pack.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, rest, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), ".git/")
	service := strings.TrimPrefix(r.URL.Query().Get("service"), "git-")
	advertise := rest == "info/refs" && r.Method == http.MethodGet
	if !advertise {
		service, ok = strings.CutPrefix(rest, "git-")
		ok = ok && r.Method == http.MethodPost
	}
	if !ok || checkName(name) != nil || service != "upload-pack" && service != "receive-pack" {
		http.Error(w, "no such git repository, or a client that does not speak the smart protocol", http.StatusNotFound)
		return
	}
	write := service == "receive-pack"
	user, password, _ := r.BasicAuth()
	if !s.authorize(r.Context(), user, password, name, write) {
		w.Header().Set("WWW-Authenticate", `Basic realm="taubyte git"`)
		http.Error(w, "this git repository wants a user and a password that it knows", http.StatusUnauthorized)
		return
	}
	dir, err := s.existing(name)
	if errors.Is(err, taubyte.ErrNotFound) && write {
		if err = s.Create(r.Context(), name); err == nil {
			dir, err = s.existing(name)
		}
	}
	switch {
	case errors.Is(err, taubyte.ErrNotFound):
		http.Error(w, "no such git repository: it exists from the first push on", http.StatusNotFound)
		return
	case err != nil:
		s.log.Error("git repository", "name", name, "err", err)
		http.Error(w, "the git repository could not be opened", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Cache-Control", "no-cache, max-age=0, must-revalidate")
	if advertise {
		s.advertise(w, r, dir, service)
		return
	}
	if write {
		s.receive(w, r, name, dir)
		return
	}
	s.exchange(w, r, dir, service, w)
}

func packet(s string) string { return fmt.Sprintf("%04x%s", len(s)+4, s) }

func (s *Server) advertise(w http.ResponseWriter, r *http.Request, dir, service string) {
	w.Header().Set("Content-Type", "application/x-git-"+service+"-advertisement")
	cmd := command(r.Context(), dir, service, "--stateless-rpc", "--advertise-refs", dir)
	protocol(cmd, r)
	out, err := cmd.Output()
	if err != nil {
		s.log.Warn("git advertisement", "repository", dir, "err", err)
		http.Error(w, "git failed", http.StatusInternalServerError)
		return
	}
	_, _ = io.WriteString(w, packet("# service=git-"+service+"\n")+"0000")
	_, _ = w.Write(out)
}

var protocolRule = regexp.MustCompile(`^version=[0-9]+$`)

func protocol(cmd *exec.Cmd, r *http.Request) {
	if v := r.Header.Get("Git-Protocol"); protocolRule.MatchString(v) {
		cmd.Env = append(cmd.Env, "GIT_PROTOCOL="+v)
	}
}

// body is the request's, unpacked and bounded.
func (s *Server) body(w http.ResponseWriter, r *http.Request) (io.Reader, error) {
	var body io.Reader = http.MaxBytesReader(nil, r.Body, s.maxPush)
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(body)
		if err != nil {
			return nil, err
		}
		body = io.LimitReader(z, s.maxPush)
	}
	return body, nil
}

func (s *Server) exchange(w http.ResponseWriter, r *http.Request, dir, service string, out io.Writer) bool {
	body, err := s.body(w, r)
	if err != nil {
		http.Error(w, "the request's body is not readable", http.StatusBadRequest)
		return false
	}
	// git speaks of its progress while it reads.
	_ = http.NewResponseController(w).EnableFullDuplex()
	w.Header().Set("Content-Type", "application/x-git-"+service+"-result")
	var errOut strings.Builder
	cmd := command(r.Context(), dir, service, "--stateless-rpc", dir)
	protocol(cmd, r)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = body, out, &errOut
	if err := cmd.Run(); err != nil {
		if r.Context().Err() == nil {
			s.log.Warn("git failed", "service", service, "repository", dir, "err", err, "said", strings.TrimSpace(errOut.String()))
		}
		return false
	}
	return true
}

// receive takes a push and tells of the branches that changed: those whose heads are
// not what was last told, which is what counts, whatever the client said.
func (s *Server) receive(w http.ResponseWriter, r *http.Request, name, dir string) {
	t := s.pushing(name)
	if err := t.begin(r.Context(), s, name); err != nil {
		s.log.Error("git push", "name", name, "err", err)
		http.Error(w, "the git repository could not be read", http.StatusInternalServerError)
		return
	}
	answer := &heldAnswer{w: w}
	done := s.exchange(w, r, dir, "receive-pack", answer)
	// From here on the push is what it is, whether or not the client waits.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), 30*time.Second)
	defer cancel()
	said := t.tell(ctx, s, name)
	if done {
		answer.finish(said)
	}
}

func (t *told) begin(ctx context.Context, s *Server, name string) (err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.heads == nil {
		t.heads, err = s.Heads(ctx, name)
	}
	return err
}

// tell calls onPush for what changed, and returns what is to be said to the pusher.
func (t *told) tell(ctx context.Context, s *Server, name string) (said []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	heads, err := s.Heads(ctx, name)
	if err != nil {
		s.log.Error("git push", "name", name, "err", err)
		return nil
	}
	for _, p := range changes(t.heads, heads) {
		p.Repository = auth.NewRepositoryID(s.Name(), name)
		line, err := s.onPush(ctx, name, p)
		if err != nil {
			s.log.Warn("git push not taken up", "name", name, "branch", p.Branch, "err", err)
			line = err.Error()
		}
		if line != "" {
			said = append(said, "taubyte: "+line)
		}
	}
	t.heads = heads
	return said
}

func (s *Server) pushing(name string) *told {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.pushes[name]
	if !ok {
		t = &told{}
		s.pushes[name] = t
	}
	return t
}

func changes(before, after map[taubyte.Branch]taubyte.Commit) []auth.Push {
	var all []auth.Push
	for b, c := range after {
		if before[b] != c {
			all = append(all, auth.Push{Branch: b, Commit: c})
		}
	}
	for b := range before {
		if _, ok := after[b]; !ok {
			all = append(all, auth.Push{Branch: b})
		}
	}
	return all
}

// heldAnswer keeps the last packet of git's answer, its end ("0000"), until there
// is more to say: text on the side band that clients show as "remote: …".
type heldAnswer struct {
	w    http.ResponseWriter
	tail []byte
}

const flushPacket = "0000"

func (h *heldAnswer) Write(b []byte) (int, error) {
	h.tail = append(h.tail, b...)
	if n := len(h.tail) - len(flushPacket); n > 0 {
		if _, err := h.w.Write(h.tail[:n]); err != nil {
			return 0, err
		}
		h.tail = append(h.tail[:0], h.tail[n:]...)
	}
	return len(b), nil
}

func (h *heldAnswer) finish(lines []string) {
	if string(h.tail) == flushPacket {
		for _, l := range lines {
			if len(l) > 900 {
				l = l[:900]
			}
			_, _ = io.WriteString(h.w, packet("\x02"+l+"\n"))
		}
	}
	_, _ = h.w.Write(h.tail)
}
