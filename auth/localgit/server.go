package localgit

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/internal/gitcmd"
	"github.com/taubyte/taubyte/crdt"
	"github.com/taubyte/taubyte/internal/rpc"
)

// Option changes what New makes.
type Option func(*Server)

// Access says who may do what with the repositories. Who asks goes with a request and a
// push in their contexts (taubyte.PrincipalOf), also to the nodes that it is passed on to,
// which ask their own Access.
type Access struct {
	// Caller says whose a request is, from what it shows. Where that is not enough it
	// answers the request and returns false. The default lets nobody in.
	Caller func(w http.ResponseWriter, r *http.Request) (taubyte.Principal, bool)
	// Repository returns why the principal may not read a repository, or write to it. The
	// repository may not be there. The default is that whoever is let in may.
	Repository func(ctx context.Context, name string, write bool) error
	// Push returns why a change of a branch is refused, in words for the pusher. It is
	// called before the change is made, by the node that decides on pushes to the
	// repository, which has the commit. The default takes all.
	Push func(ctx context.Context, name string, push auth.Push) error
}

// WithAccess sets who may do what.
func WithAccess(a Access) Option {
	return func(s *Server) {
		if a.Caller != nil {
			s.access.Caller = a.Caller
		}
		if a.Repository != nil {
			s.access.Repository = a.Repository
		}
		if a.Push != nil {
			s.access.Push = a.Push
		}
	}
}

// WithOnPush sets what hears of every branch that a push changed. It is called on one
// node for each push, which need not be the one that took it: the one that decides on
// pushes to the repository, where they come one after the other. The line that it
// returns is shown to the pusher, and so is its error.
func WithOnPush(f func(ctx context.Context, name string, push auth.Push) (string, error)) Option {
	return func(s *Server) { s.onPush = f }
}

// WithMaxPush bounds the bytes of a push. The default is 1 GiB.
func WithMaxPush(bytes int64) Option { return func(s *Server) { s.maxPush = bytes } }

// WithLogger sets where the server logs. The default is slog.Default().
func WithLogger(l *slog.Logger) Option { return func(s *Server) { s.log = l } }

// Server is the git provider. It is an http.Handler and an auth.Provider, in which
// a repository's name is its id. It is safe for concurrent use.
type Server struct {
	dir     string
	access  Access
	onPush  func(ctx context.Context, name string, push auth.Push) (string, error)
	maxPush int64
	log     *slog.Logger

	host    taubyte.Host
	store   *crdt.Store
	pulse   *rpc.Pulse
	client  *rpc.Client
	forward *rpc.Transport
	peers   *rpc.Server
	joined  chan struct{} // closed when requests are taken

	shortSlots, userSlots, peerSlots, fetchSlots slots

	making sync.Mutex // of folders
	rounds sync.Mutex // one round at a time

	mu      sync.Mutex
	repos   map[string]*repository
	bad     map[peer.ID]struct{} // passed over until they answer
	next    *round
	untidy  map[string]struct{}
	tidying chan struct{}
	wg      sync.WaitGroup // does not grow after life's end

	life  context.Context // ends with Close
	stop  context.CancelFunc
	once  sync.Once
	ended error
}

var _ auth.Provider = (*Server)(nil)

var errClosed = fmt.Errorf("git: %w", taubyte.ErrClosed)

// New serves repositories, which it keeps in the folder dir and their references in
// store. The host must hold the role auth. ctx bounds the start only. Without git on
// the machine it gives ErrUnavailable.
//
// Repositories that are in the folder already, and that no node of the network knows,
// are taken in.
func New(ctx context.Context, host taubyte.Host, store taubyte.Datastore, dir string, opts ...Option) (*Server, error) {
	if _, err := exec.LookPath("git"); err != nil {
		return nil, fmt.Errorf("%w: git is not installed, or not in PATH: %w", taubyte.ErrUnavailable, err)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s := &Server{
		dir: abs,
		access: Access{
			Caller: func(w http.ResponseWriter, _ *http.Request) (taubyte.Principal, bool) {
				http.Error(w, "this git server lets nobody in", http.StatusForbidden)
				return taubyte.Principal{}, false
			},
			Repository: func(context.Context, string, bool) error { return nil },
			Push:       func(context.Context, string, auth.Push) error { return nil },
		},
		onPush:     func(context.Context, string, auth.Push) (string, error) { return "", nil },
		maxPush:    1 << 30,
		log:        slog.Default(),
		host:       host,
		joined:     make(chan struct{}),
		repos:      map[string]*repository{},
		bad:        map[peer.ID]struct{}{},
		untidy:     map[string]struct{}{},
		tidying:    make(chan struct{}, 1),
		shortSlots: make(slots, shortSlots), userSlots: make(slots, userSlots),
		peerSlots: make(slots, peerSlots), fetchSlots: make(slots, fetchSlots),
	}
	for _, o := range opts {
		o(s)
	}
	s.life, s.stop = context.WithCancel(context.Background())
	if err := s.begin(ctx, store); err != nil {
		return nil, errors.Join(fmt.Errorf("git repositories: %w", err), s.Close())
	}
	return s, nil
}

func (s *Server) begin(ctx context.Context, store taubyte.Datastore) (err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	if err := clean(s.dir); err != nil {
		return err
	}
	s.pulse = rpc.NewPulse(s.host)
	s.client = rpc.NewClient(s.host, Protocol, nil)
	s.forward = rpc.NewTransport(s.host, Protocol)
	s.store, err = crdt.Open(ctx, s.host, store, "git", crdt.WithWriters(taubyte.RoleAuth), crdt.WithLogger(s.log))
	if err != nil {
		return err
	}
	s.host.SetStreamHandler(objectsProtocol, s.serveObjects)
	if s.peers, err = rpc.Serve(s.host, Protocol, s.peerHandler(), taubyte.RoleAuth); err != nil {
		return err
	}
	for _, f := range []func(){s.join, s.follow, s.probeDoubted, s.keepTidy} {
		s.spawn(f)
	}
	return nil
}

// Close ends the server, and every git process of it. It may be called twice.
func (s *Server) Close() error {
	s.once.Do(func() {
		s.mu.Lock()
		s.stop()
		s.mu.Unlock()
		var errs []error
		if s.peers != nil {
			errs = append(errs, s.peers.Close())
			s.host.RemoveStreamHandler(objectsProtocol)
		}
		s.wg.Wait()
		if s.store != nil {
			errs = append(errs, s.store.Close())
		}
		if s.client != nil {
			s.client.Close()
			s.forward.Close()
			s.pulse.Close()
		}
		s.ended = errors.Join(errs...)
	})
	return s.ended
}

// spawn runs f in a goroutine that Close waits for, unless the server is closed.
func (s *Server) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spawnLocked(f)
}

func (s *Server) spawnLocked(f func()) bool {
	if s.life.Err() != nil {
		return false
	}
	s.wg.Go(f)
	return true
}

// pause waits, and reports false when ctx ended first.
func (s *Server) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

var nameRule = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$`)

func checkName(name string) error {
	if !nameRule.MatchString(name) || strings.HasSuffix(name, ".git") || strings.Contains(name, "..") {
		return fmt.Errorf("%w repository name %q: letters, digits, \".\", \"_\" and \"-\", 100 at most", taubyte.ErrInvalid, name)
	}
	return nil
}

// Create makes an empty repository unless it is there.
func (s *Server) Create(ctx context.Context, name string) error {
	err := s.fresh(ctx, name)
	if errors.Is(err, taubyte.ErrNotFound) {
		err = s.remember(ctx, name)
	}
	if err != nil {
		return err
	}
	return s.onDiskNow(ctx, name)
}

// ServeHTTP speaks git's smart HTTP protocol (gitprotocol-http): the path is
// /<name>.git/info/refs, /<name>.git/git-upload-pack or git-receive-pack; ".git" may be
// left out.
//
// A repository that this node can't bring up to date within ten seconds is served by
// one that is; where none is, the answer is 503 with a Retry-After.
//
// Close cuts requests under way, and waits for them.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.serve(w, r, false) }

// serve is ServeHTTP; a request that another control node passes on goes no further.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, passed bool) {
	s.mu.Lock()
	if s.life.Err() != nil {
		s.mu.Unlock()
		w.Header().Set("Retry-After", "2")
		http.Error(w, "this node is closing", http.StatusServiceUnavailable)
		return
	}
	s.wg.Add(1)
	s.mu.Unlock()
	defer s.wg.Done()
	alive, end := context.WithCancel(r.Context())
	defer end()
	rc := http.NewResponseController(w)
	stop := context.AfterFunc(s.life, func() {
		end()
		_ = rc.SetReadDeadline(time.Now())
		_ = rc.SetWriteDeadline(time.Now())
	})
	defer stop()
	r = r.WithContext(alive)
	name, rest, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	name = strings.TrimSuffix(name, ".git") // as people leave it out
	service := strings.TrimPrefix(r.URL.Query().Get("service"), "git-")
	advertise := rest == "info/refs" && r.Method == http.MethodGet
	if ok && !advertise {
		service, ok = strings.CutPrefix(rest, "git-")
		ok = ok && r.Method == http.MethodPost
	}
	if !ok || checkName(name) != nil || service != "upload-pack" && service != "receive-pack" {
		http.Error(w, "no such git repository, or a client that does not speak the smart protocol", http.StatusNotFound)
		return
	}
	write := service == "receive-pack"
	if !passed { // otherwise the context has whom the other node speaks for
		p, ok := s.access.Caller(w, r)
		if !ok {
			return
		}
		alive = taubyte.WithPrincipal(alive, p)
		r = r.WithContext(alive)
	}
	if err := s.access.Repository(r.Context(), name, write); err != nil {
		status := http.StatusForbidden
		if !errors.Is(err, taubyte.ErrForbidden) {
			status = http.StatusServiceUnavailable
			w.Header().Set("Retry-After", "2")
		}
		http.Error(w, err.Error(), status)
		return
	}
	w.Header().Set("Cache-Control", "no-cache, max-age=0, must-revalidate")
	ctx, cancel := context.WithTimeout(r.Context(), catchUp)
	err := s.current(ctx, name)
	if errors.Is(err, taubyte.ErrNotFound) && write {
		err = s.Create(ctx, name)
	}
	var release func()
	if err == nil && !advertise {
		release, err = s.userSlots.take(ctx)
	}
	cancel()
	switch {
	case r.Context().Err() != nil:
		return
	case errors.Is(err, taubyte.ErrNotFound):
		http.Error(w, "no such git repository: it exists from the first push on", http.StatusNotFound)
		return
	case err != nil && !passed && s.passOn(w, r, name):
		return
	case err != nil:
		s.log.Warn("git repository", "name", name, "err", err)
		w.Header().Set("Retry-After", "2")
		http.Error(w, "this git repository can't be served at the moment: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	switch {
	case advertise && write:
		s.advertisePush(w, name)
	case advertise:
		s.advertise(w, r, s.path(name))
	case write:
		defer release()
		s.receive(w, r, name)
	default:
		defer release()
		s.upload(w, r, s.path(name))
	}
}

// passOn has a request answered by a node that has the repository as it is.
func (s *Server) passOn(w http.ResponseWriter, r *http.Request, name string) bool {
	for _, p := range s.living() {
		if _, err := ask[struct{}](r.Context(), s, p, "/current", wanted{Name: name}); err != nil {
			s.log.Debug("git request not passed on", "peer", p, "err", err)
			continue
		}
		proxy := &httputil.ReverseProxy{
			Rewrite: func(pr *httputil.ProxyRequest) {
				pr.Out.URL.Scheme, pr.Out.URL.Host = "http", p.String()
				pr.Out.URL.Path, pr.Out.URL.RawPath = "/serve"+r.URL.Path, ""
				pr.Out.Header.Del("Authorization")
			},
			Transport:     s.forward,
			FlushInterval: -1,
			ErrorLog:      slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		}
		proxy.ServeHTTP(w, r)
		return true
	}
	return false
}

func (s *Server) advertise(w http.ResponseWriter, r *http.Request, dir string) {
	ctx, cancel := context.WithTimeout(r.Context(), shortTime)
	defer cancel()
	release, err := s.shortSlots.take(ctx)
	if err != nil {
		http.Error(w, "too many requests at a time", http.StatusServiceUnavailable)
		return
	}
	defer release()
	cmd := gitcmd.New(ctx, dir, "upload-pack", "--stateless-rpc", "--advertise-refs", dir)
	protocolVersion(cmd, r)
	out, err := run(ctx, cmd, "")
	if err != nil {
		s.log.Warn("git advertisement", "repository", dir, "err", err)
		http.Error(w, "git failed", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
	_, _ = io.WriteString(w, packet("# service=git-upload-pack\n")+flushPacket+out)
}

var versionRule = regexp.MustCompile(`^version=[0-9]+$`)

func protocolVersion(cmd *exec.Cmd, r *http.Request) {
	if v := r.Header.Get("Git-Protocol"); versionRule.MatchString(v) {
		cmd.Env = append(cmd.Env, "GIT_PROTOCOL="+v)
	}
}

// body is the request's, unpacked and bounded. A client that sends nothing for long
// ends.
func (s *Server) body(w http.ResponseWriter, r *http.Request) (io.Reader, error) {
	var body io.Reader = &unstalled{r: r.Body, rc: http.NewResponseController(w), life: s.life}
	body = http.MaxBytesReader(nil, io.NopCloser(body), s.maxPush)
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(body)
		if err != nil {
			return nil, err
		}
		body = io.LimitReader(z, s.maxPush)
	}
	return body, nil
}

// unstalled reads and writes a request's connection, which is cut when nothing moves
// for stallTime.
type unstalled struct {
	r    io.Reader
	w    io.Writer
	rc   *http.ResponseController
	life context.Context // of the server, whose end cuts it as well
}

func (u *unstalled) Read(p []byte) (int, error) {
	_ = u.rc.SetReadDeadline(time.Now().Add(stallTime))
	if u.life.Err() != nil {
		return 0, errClosed
	}
	n, err := u.r.Read(p)
	_ = u.rc.SetReadDeadline(time.Time{})
	return n, err
}

func (u *unstalled) Write(p []byte) (int, error) {
	_ = u.rc.SetWriteDeadline(time.Now().Add(stallTime))
	if u.life.Err() != nil {
		return 0, errClosed
	}
	n, err := u.w.Write(p)
	_ = u.rc.SetWriteDeadline(time.Time{})
	return n, err
}

// upload serves a clone or a fetch.
func (s *Server) upload(w http.ResponseWriter, r *http.Request, dir string) {
	body, err := s.body(w, r)
	if err != nil {
		http.Error(w, "the request's body is not readable", http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), transferTime)
	defer cancel()
	// git speaks of its progress while it reads.
	rc := http.NewResponseController(w)
	_ = rc.EnableFullDuplex()
	w.Header().Set("Content-Type", "application/x-git-upload-pack-result")
	var errOut strings.Builder
	cmd := gitcmd.New(ctx, dir, "upload-pack", "--stateless-rpc", dir)
	protocolVersion(cmd, r)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = body, &unstalled{w: w, rc: rc, life: s.life}, &errOut
	if err := cmd.Run(); err != nil && r.Context().Err() == nil {
		s.log.Warn("git failed", "service", "upload-pack", "repository", dir, "err", err, "said", strings.TrimSpace(errOut.String()))
	}
}
