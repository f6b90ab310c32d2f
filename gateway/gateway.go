package gateway

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/internal/api"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/seer"
	"github.com/taubyte/taubyte/substrate/wire"
	"github.com/taubyte/taubyte/tns"
)

// Protocol is gateway's protocol between nodes, and the name under which its host
// provides it.
const Protocol protocol.ID = "/taubyte/gateway/1"

// Limits of the listener. Bodies are bounded by substrate, which streams them.
const (
	maxHeaderBytes    = 60 << 10 // what the gateway adds has room at the node
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	writeTimeout      = time.Minute
	// notice is how long users are asked to close their connections before the gateway
	// does, on which they may just be sending a request.
	notice = time.Second
)

// Option changes what New makes.
type Option func(*options)

type options struct {
	registry  tns.Watcher
	certs     auth.CertificateWatcher
	files     []auth.CertificateFile
	listener  net.Listener
	listen    string
	tlsListen string
	timeout   time.Duration
	grace     time.Duration
	limits    Limits
	webhooks  http.Handler // nil: none
	log       *slog.Logger
}

// WithTNS sets the registry to follow. The default is a client of the one on this
// host or, where there is none, on the network.
func WithTNS(w tns.Watcher) Option { return func(o *options) { o.registry = w } }

// WithListen has the gateway listen for HTTP. The default is not to: the service is
// an http.Handler.
func WithListen(addr string) Option { return func(o *options) { o.listen = addr } }

// WithListener is WithListen with a listener that is there already. The service
// closes it.
func WithListener(l net.Listener) Option { return func(o *options) { o.listener = l } }

// WithTLS has the gateway listen for HTTPS (HTTP/1.1 and HTTP/2) with the
// certificates that auth has.
func WithTLS(addr string) Option { return func(o *options) { o.tlsListen = addr } }

// WithCertificates sets where certificates come from. The default is an auth.Client.
func WithCertificates(w auth.CertificateWatcher) Option { return func(o *options) { o.certs = w } }

// WithCertificateFiles has certificates of files served, before others for the same names:
// see auth.CertificateFiles. It takes WithTLS.
func WithCertificateFiles(files ...auth.CertificateFile) Option {
	return func(o *options) { o.files = append(o.files, files...) }
}

// WithTimeout bounds how long a substrate node may take until its answer begins,
// beside the function's own time (30 s where it asks for none, and for websites) and 5 s
// more. The default is 5 min and 5 s, for the longest that a function may ask for.
func WithTimeout(d time.Duration) Option { return func(o *options) { o.timeout = d } }

// WithLimits bounds what users take of the gateway.
func WithLimits(l Limits) Option { return func(o *options) { o.limits = l } }

// WithGrace sets how long Close waits for requests under way. The default is 5 s.
func WithGrace(d time.Duration) Option { return func(o *options) { o.grace = d } }

// WithLogger sets where the gateway logs. The default is slog.Default().
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.log = l } }

// Service is a gateway. It is an http.Handler and safe for concurrent use.
type Service struct {
	host  taubyte.Host
	opts  options
	agent *seer.Agent
	table *tns.Table
	tr    *rpc.Transport
	pulse *rpc.Pulse
	nodes *nodes
	keys  *auth.Keyring // nil without WithTLS
	began time.Time
	none  atomic.Int64 // when a request first found no node, in nanoseconds after began; 0: there is one

	challenges challenges

	shares          *shares
	retries, hedges *budget
	latencies       latencies
	served          served

	life context.Context // from New to Close: ends sockets, which Shutdown leaves alone
	stop context.CancelFunc

	closers   []func() error // the last is closed first
	leaving   atomic.Bool    // users are asked to close their connections
	servers   []*http.Server
	listeners []net.Listener // of servers
	addrs     []string
	server    *rpc.Server
	withdraw  func()
	wg        sync.WaitGroup
	once      sync.Once
	ended     error
}

// New starts a gateway. ctx bounds the start only. The store is the node's; nothing
// is kept in it.
func New(ctx context.Context, host taubyte.Host, _ taubyte.Datastore, opts ...Option) (*Service, error) {
	o := options{timeout: 5*time.Minute + margin, grace: 5 * time.Second, log: slog.Default()}
	for _, opt := range opts {
		opt(&o)
	}
	o.limits = o.limits.withDefaults()
	if len(o.files) > 0 && o.tlsListen == "" {
		return nil, fmt.Errorf("%w gateway: certificate files without TLS", taubyte.ErrInvalid)
	}
	s := &Service{
		host: host, opts: o, nodes: newNodes(), tr: rpc.NewTransport(host, wire.Protocol), pulse: rpc.NewPulse(host), began: time.Now(),
		shares: newShares(o.limits), retries: newBudget(retryShare, retriesSaved), hedges: newBudget(hedgeShare, hedgesSaved),
	}
	s.life, s.stop = context.WithCancel(context.Background())
	s.closers = append(s.closers, func() error { s.tr.Close(); s.pulse.Close(); return nil })
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Service) start(ctx context.Context) (err error) {
	if s.agent, err = seer.Join(ctx, s.host, seer.WithLogger(s.opts.log)); err != nil {
		return err
	}
	s.closers = append(s.closers, s.agent.Close)
	if s.opts.registry == nil {
		c := tns.NewClient(s.host)
		s.opts.registry = c
		s.closers = append(s.closers, c.Close)
	}
	if s.table, err = tns.NewTable(ctx, s.opts.registry, tns.WithTableLogger(s.opts.log)); err != nil {
		return err
	}
	s.closers = append(s.closers, s.table.Close)
	if s.server, err = rpc.Serve(s.host, Protocol, s.Handler()); err != nil {
		return err
	}
	s.closers = append(s.closers, s.server.Close)

	l := s.opts.listener
	if l == nil && s.opts.listen != "" {
		if l, err = new(net.ListenConfig).Listen(ctx, "tcp", s.opts.listen); err != nil {
			return fmt.Errorf("listening for users: %w", err)
		}
	}
	if l != nil {
		s.serve(l, nil)
	}
	if s.opts.tlsListen != "" {
		if err := s.startTLS(ctx); err != nil {
			return err
		}
	}
	s.withdraw, err = s.host.Provide(Protocol, s)
	s.agent.Announce()
	return err
}

func (s *Service) startTLS(ctx context.Context) error {
	if s.opts.certs == nil {
		c := auth.NewClient(s.host)
		s.opts.certs = c
		s.closers = append(s.closers, c.Close)
	}
	var keys []auth.KeyringOption
	if len(s.opts.files) > 0 {
		files, err := auth.NewCertificateFiles(s.opts.log, s.opts.files...)
		if err != nil {
			return err
		}
		keys = append(keys, auth.WithFiles(files))
	}
	s.keys = auth.NewKeyring(s.opts.certs, s.opts.log, keys...)
	s.closers = append(s.closers, s.keys.Close)
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", s.opts.tlsListen)
	if err != nil {
		return fmt.Errorf("listening for users: %w", err)
	}
	s.serve(l, s.tlsConfig())
	return nil
}

func (s *Service) serve(l net.Listener, conf *tls.Config) {
	srv := &http.Server{
		Handler:           s,
		TLSConfig:         conf,
		MaxHeaderBytes:    maxHeaderBytes,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		WriteTimeout:      writeTimeout, // of what the server says itself; answers have their own
		ConnContext:       withConn,
		ErrorLog:          slog.NewLogLogger(s.opts.log.Handler(), slog.LevelDebug),
	}
	s.servers = append(s.servers, srv)
	s.addrs = append(s.addrs, l.Addr().String())
	counted := &listener{Listener: l, s: s.shares}
	s.listeners = append(s.listeners, counted)
	s.wg.Go(func() {
		if conf != nil {
			_ = srv.ServeTLS(counted, "", "")
		} else {
			_ = srv.Serve(counted)
		}
	})
}

// Addr is where the gateway listens for HTTP or, without that, for HTTPS; "" where
// it does not listen.
func (s *Service) Addr() string {
	if len(s.addrs) == 0 {
		return ""
	}
	return s.addrs[0]
}

// TLSAddr is where the gateway listens for HTTPS, "" where it does not.
func (s *Service) TLSAddr() string {
	if s.keys == nil {
		return ""
	}
	return s.addrs[len(s.addrs)-1]
}

// Close ends the gateway without losing a request: it says that it is none any more, so
// that DNS stops naming it, and goes on for a moment, asking users to close their
// connections with each answer. Then it takes no new requests, gives those under way
// their time, and cuts what is left. It may be called twice.
func (s *Service) Close() error {
	s.once.Do(func() {
		if s.withdraw != nil {
			s.withdraw()
			s.agent.Announce()
		}
		ctx, cancel := context.WithTimeout(context.Background(), s.opts.grace)
		defer cancel()
		// Not by http.Server's own switch, which closes idle connections at once: users are
		// just sending their next requests on them.
		s.leaving.Store(true)
		if len(s.servers) > 0 && len(s.host.Network().Peers()) > 0 {
			time.Sleep(min(notice, s.opts.grace/2))
		}
		var errs []error
		for _, l := range s.listeners {
			errs = append(errs, l.Close())
		}
		if len(s.listeners) > 0 && len(s.host.Network().Peers()) > 0 {
			time.Sleep(min(notice/4, s.opts.grace/4)) // what was accepted last is served
		}
		for _, srv := range s.servers {
			if err := srv.Shutdown(ctx); err != nil {
				errs = append(errs, srv.Close())
			}
		}
		s.stop()
		s.wg.Wait()
		for i := len(s.closers) - 1; i >= 0; i-- {
			errs = append(errs, s.closers[i]())
		}
		s.ended = errors.Join(errs...)
	})
	return s.ended
}

// readable checks the principal of what is asked of the gateway as a service. A request
// that it passes on is no such call.
func readable(ctx context.Context) error {
	return taubyte.Allow(ctx, taubyte.VerbRead, "", taubyte.Roles()...)
}

// Handler is the gateway's API for the network, not for users, of which
// the methods say who may.
func (s *Service) Handler() http.Handler {
	mux := api.New(nil)
	token := api.Texts{"token": "The challenge's token."}
	readers := api.Everything(taubyte.VerbRead, taubyte.Roles()...)
	mux.Handle("GET /explain", api.Operation{
		Summary: "Says which node a request would go to, and why.",
		Query: []api.Parameter{
			{Name: "host", Text: "The host name of the request."}, {Name: "path", Text: "Its path."},
			{Name: "method", Text: "Its method: GET where nothing is said."},
		},
		Rights: readers,
	}, api.Answer(func(r *http.Request) (Explanation, error) {
		q := r.URL.Query()
		return s.Explain(r.Context(), q.Get("host"), q.Get("path"), cmp.Or(q.Get("method"), http.MethodGet))
	}))
	mux.Handle("GET /routes", api.Operation{
		Summary: "Lists what the gateway can find, by host and path.", Rights: readers,
	}, api.Answer(func(r *http.Request) ([]Route, error) {
		return s.Routes(r.Context())
	}))
	mux.Handle("PUT /challenges/{token}", api.Operation{
		Summary: "Answers a certificate authority's challenge.", Path: token, Rights: api.Nodes(taubyte.RoleAuth),
	}, api.Take(1<<12, func(r *http.Request, c auth.Challenge) error {
		c.Token = r.PathValue("token")
		return s.PresentChallenge(r.Context(), c)
	}))
	mux.Handle("DELETE /challenges/{token}", api.Operation{
		Summary: "Answers a challenge no longer.", Path: token, Rights: api.Nodes(taubyte.RoleAuth),
	}, api.Act(func(r *http.Request) error {
		return s.WithdrawChallenge(r.Context(), r.PathValue("token"))
	}))
	return mux
}

// A Route is a line of the gateway's table.
type Route struct {
	Host    string             `json:"host"`
	Method  string             `json:"method,omitempty"`
	Path    string             `json:"path"`
	Kind    string             `json:"kind"`
	Name    string             `json:"name"`
	Project taubyte.ProjectID  `json:"project"`
	Branch  taubyte.Branch     `json:"branch"`
	Commit  taubyte.Commit     `json:"commit"`
	ID      taubyte.ResourceID `json:"id"`
}

// Routes lists what the gateway can find, by host and path. It takes the verb read on
// everything, or a node.
func (s *Service) Routes(ctx context.Context) ([]Route, error) {
	if err := readable(ctx); err != nil {
		return nil, err
	}
	all := []Route{}
	for _, info := range s.table.Routes() {
		r := Route{
			Host: info.Host, Method: info.Method, Path: info.Path,
			Project: info.Route.Project, Branch: info.Route.Branch, Commit: info.Route.Commit, ID: info.Route.Resource,
		}
		if f := info.Route.Function; f != nil {
			r.Kind, r.Name = "function", f.Name
		} else {
			r.Kind, r.Name = "website", info.Route.Website.Name
		}
		all = append(all, r)
	}
	return all, nil
}
