package cloud

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/acme"
	"github.com/taubyte/taubyte/auth/localgit"
	"github.com/taubyte/taubyte/gateway"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/monkey"
	"github.com/taubyte/taubyte/patrick"
	"github.com/taubyte/taubyte/seer"
	"github.com/taubyte/taubyte/substrate"
	"github.com/taubyte/taubyte/tns"
)

// A Node is a running choice of services. The fields of services that it does not
// run are nil. Its methods may be called concurrently.
type Node struct {
	Host  taubyte.Host
	Store taubyte.Datastore

	TNS       *tns.Service
	Auth      *auth.Service
	Seer      *seer.Service
	Hoarder   *hoarder.Service
	Patrick   *patrick.Service
	Monkey    *monkey.Service
	Substrate *substrate.Service
	Gateway   *gateway.Service
	// ACME orders certificates, beside Auth; nil without WithACME.
	ACME *acme.Service

	agent      *seer.Agent
	unconfined string // why builds are not confined

	dir   string
	token string
	// tokens knows those of auth; attempts are the wrong ones.
	tokens   *auth.Client
	attempts *attempts

	log  *slog.Logger
	opts options
	git  *localgit.Server // nil unless auth and patrick run here
	api  *apiServer
	http net.Listener // the gateway's, taken before anything else starts

	started  chan struct{} // closed when all services run
	handlers map[taubyte.Role]http.Handler
	closers  []io.Closer // in the order of their start
	once     sync.Once
	ended    error
}

// Open starts a node on the data folder dir, which it makes if need be. ctx bounds
// the start only; what Open started lives until Close. When it fails, nothing is
// left running, and a folder that was not there is not there.
//
// ErrInvalid: the folder holds something else, or an option is wrong. ErrConflict:
// another process has the folder. syscall.EADDRINUSE: another has the port.
func Open(ctx context.Context, dir string, opts ...Option) (_ *Node, err error) {
	n := &Node{dir: dir, started: make(chan struct{}), handlers: map[taubyte.Role]http.Handler{}}
	n.opts = options{
		services: taubyte.Roles(),
		http:     "127.0.0.1:0",
		log:      slog.Default(),
	}
	for _, o := range opts {
		o(&n.opts)
	}
	if err := n.opts.check(); err != nil {
		return nil, err
	}
	if n.opts.development && n.opts.zone == "" {
		n.opts.zone = "localhost"
	}
	n.log = n.opts.log

	_, statErr := os.Stat(dir)
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
			if errors.Is(statErr, os.ErrNotExist) {
				_ = os.RemoveAll(dir)
			}
		}
	}()
	// First what most often stands in the way, while nothing is written yet.
	if n.opts.runs(taubyte.RoleGateway) {
		if n.http, err = listen(ctx, n.opts.http); err != nil {
			return nil, fmt.Errorf("listening for users: %w", err)
		}
		n.closers = append(n.closers, ignoreClosed{n.http})
	}
	if err := claimDir(dir); err != nil {
		return nil, err
	}
	if n.Store, err = openStore(dir, n.log); err != nil {
		return nil, err
	}
	n.closers = append(n.closers, n.Store)
	if n.token, err = token(dir); err != nil {
		return nil, err
	}
	n.attempts = newAttempts(time.Now)
	if err := n.start(ctx); err != nil {
		return nil, err
	}
	return n, nil
}

// listen says what to do about a port that is taken.
func listen(ctx context.Context, addr string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w (choose another address, or %q for any free port)", err, "127.0.0.1:0")
	}
	return l, nil
}

// ignoreClosed closes a listener that its server may have closed already.
type ignoreClosed struct{ net.Listener }

func (l ignoreClosed) Close() error {
	if err := l.Listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

func (n *Node) start(ctx context.Context) error {
	key, err := identity(ctx, n.dir, n.Store)
	if err != nil {
		return err
	}
	hostOpts := append([]taubyte.HostOption{taubyte.WithLogger(n.log), taubyte.WithIdentity(key)}, n.opts.host...)
	if n.opts.authority != nil {
		hostOpts = append(hostOpts, taubyte.WithAuthority(n.opts.authority, n.opts.services...))
	}
	if n.opts.name != "" && n.opts.membership == nil {
		hostOpts = append(hostOpts, taubyte.WithName(n.opts.name))
	}
	host, err := taubyte.NewHost(ctx, n.Store, hostOpts...)
	if err != nil {
		return err
	}
	n.Host = host
	n.closers = append(n.closers, host)
	n.tokens = auth.NewClient(host)
	n.closers = append(n.closers, n.tokens)
	if n.opts.membership != nil {
		n.opts.membership.auth.Store(n.tokens)
	}
	// The directory is joined with the node's addresses before a service does.
	agent, err := seer.Join(ctx, host, append(n.directory(), n.opts.of.seer...)...)
	if err != nil {
		return err
	}
	n.agent = agent
	n.closers = append(n.closers, agent)

	for _, role := range taubyte.Roles() { // in the order in which they lean on each other
		if !n.opts.runs(role) {
			continue
		}
		began := time.Now()
		if err := n.startService(ctx, role); err != nil {
			return fmt.Errorf("starting %s: %w", role, err)
		}
		n.log.Debug("service started", "service", role, "took", time.Since(began))
	}
	close(n.started)
	if err := n.startAPI(ctx); err != nil {
		return err
	}
	info := Info{API: n.API(), HTTP: n.URL(), PID: os.Getpid()}
	if err := writeInfo(n.dir, info); err != nil {
		return err
	}
	n.closers = append(n.closers, closerFunc(func() error { return os.Remove(filepath.Join(n.dir, fileInfo)) }))
	return nil
}

type closerFunc func() error

func (f closerFunc) Close() error { return f() }

// A service as the node sees it.
type service interface {
	io.Closer
	Handler() http.Handler
}

// run keeps a service that was started.
func run[S service](n *Node, role taubyte.Role, field *S, s S, err error) error {
	if err != nil {
		return err
	}
	*field = s
	n.handlers[role] = s.Handler()
	n.closers = append(n.closers, s)
	return nil
}

// Close ends the node: it tells the others that it takes no new work, and closes the
// services, the last started first, then the host, then the store. Services end what is
// under way. It may be called twice.
func (n *Node) Close() error {
	n.once.Do(func() {
		if n.agent != nil {
			n.agent.Drain()
		}
		var errs []error
		for i := len(n.closers) - 1; i >= 0; i-- {
			errs = append(errs, n.closers[i].Close())
		}
		n.ended = errors.Join(errs...)
	})
	return n.ended
}

// URL is where users reach the node's gateway, "" where it runs none.
func (n *Node) URL() string {
	if n.http == nil {
		return ""
	}
	return "http://" + reachable(n.http.Addr().String())
}

// SecureURL is where users reach the node's gateway by HTTPS, "" where it does not
// listen for that.
func (n *Node) SecureURL() string {
	if n.Gateway == nil || n.Gateway.TLSAddr() == "" {
		return ""
	}
	return "https://" + reachable(n.Gateway.TLSAddr())
}

// API is the base URL of the node's API.
func (n *Node) API() string { return "http://" + reachable(n.api.addr()) }

// Token is what the administrator shows to the API as a bearer token.
func (n *Node) Token() string { return n.token }

// Remote is the git remote of a repository of the node's own git provider, with
// the right to read it and push to it, and no other: who has it can't call the API, and
// a first push makes the repository that of a project only if the project is new. It is
// good at this node until its token is another.
func (n *Node) Remote(repository string) string {
	return "http://x:" + n.gitCredential(repository) + "@" + strings.TrimPrefix(n.bareRemote(repository), "http://")
}

// bareRemote is Remote without the credential.
func (n *Node) bareRemote(repository string) string {
	return n.API() + "/git/" + repository + ".git"
}

// reachable replaces the address of all interfaces, which can be listened on and
// not dialled.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if strings.Contains(ip.String(), ":") {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port)
}
