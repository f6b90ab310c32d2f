package acme

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-acme/lego/v4/challenge"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/crdt"
	"github.com/taubyte/taubyte/internal/claim"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/tns"
)

// Protocol is the package's protocol between nodes, and the name under which its host
// provides it. It is one of role auth.
const Protocol protocol.ID = "/taubyte/auth/acme/1"

// LetsEncrypt is the directory of Let's Encrypt, the default.
const LetsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// A Method is a way to show control of a name.
type Method string

// The methods. A wildcard takes DNS01.
const (
	HTTP01    Method = "http-01"
	TLSALPN01 Method = "tls-alpn-01"
	DNS01     Method = "dns-01"
)

// Option changes what New makes.
type Option func(*options)

type options struct {
	directory string
	email     string
	eabID     string
	eabKey    string
	profile   string
	zone      string
	methods   []Method
	provider  challenge.Provider
	resolver  auth.Resolver
	client    *http.Client
	registry  tns.Watcher
	certs     Certificates
	now       func() time.Time
	limits    Limits
	backoff   time.Duration
	lease     time.Duration
	log       *slog.Logger
}

// Certificates is what New needs of auth: an auth.Service or an auth.Client.
type Certificates interface {
	WatchCertificates(ctx context.Context) (<-chan auth.CertificateChange, error)
	ImportCertificate(ctx context.Context, cert, key string) (hosts []string, err error)
	// KeepOwnSecret and OwnSecret keep the account.
	KeepOwnSecret(ctx context.Context, name string, value []byte) error
	OwnSecret(ctx context.Context, name string) ([]byte, error)
}

// WithDirectory sets the URL of the certificate authority's ACME directory. The default
// is LetsEncrypt; whoever uses it agrees to its terms of service.
func WithDirectory(url string) Option { return func(o *options) { o.directory = url } }

// WithEmail sets the address of the account's contact. The default is none. Another
// address than the account has is told to the authority when the service starts.
func WithEmail(address string) Option { return func(o *options) { o.email = address } }

// WithExternalAccount binds the account to one that the certificate authority has given
// out otherwise, by its key's id and the key in base64url. The default is none.
func WithExternalAccount(id, key string) Option {
	return func(o *options) { o.eabID, o.eabKey = id, key }
}

// WithProfile sets the authority's profile that certificates are ordered under, such as
// "shortlived". The default is the authority's.
func WithProfile(name string) Option { return func(o *options) { o.profile = name } }

// WithZone sets the zone of generated names, whose DNS seer serves. With DNS01 among the
// methods one wildcard certificate serves all of them. The default is none.
func WithZone(zone string) Option {
	return func(o *options) { o.zone = strings.ToLower(strings.Trim(zone, ".")) }
}

// WithMethods sets the ways to show control of a name, the first tried first. The
// default is HTTP01, then TLSALPN01. Wildcards take DNS01, and wait while it is not
// among them.
func WithMethods(m ...Method) Option { return func(o *options) { o.methods = m } }

// WithDNSProvider has a provider of lego make the TXT records of DNS01 for names outside
// the zone. The default is seer's own DNS for all.
func WithDNSProvider(p challenge.Provider) Option { return func(o *options) { o.provider = p } }

// WithResolver sets where it is looked up whether a provider's TXT record is there, and
// whether that of a host of another zone leads to seer. The default is the system's.
func WithResolver(r auth.Resolver) Option { return func(o *options) { o.resolver = r } }

// WithHTTPClient sets how the certificate authority is reached: for one whose own
// certificate is not publicly trusted. The default trusts the system's roots.
func WithHTTPClient(c *http.Client) Option { return func(o *options) { o.client = c } }

// WithTNS sets the registry to follow. The default is a tns.Client.
func WithTNS(w tns.Watcher) Option { return func(o *options) { o.registry = w } }

// WithCertificates sets where certificates are kept. The default is an auth.Client.
func WithCertificates(c Certificates) Option { return func(o *options) { o.certs = c } }

// WithClock sets the time by which certificates are renewed and failures tried again.
// The default is time.Now.
func WithClock(now func() time.Time) Option { return func(o *options) { o.now = now } }

// WithLimits bounds the orders of the whole network. See Limits for the defaults.
func WithLimits(l Limits) Option { return func(o *options) { o.limits = l } }

// WithBackoff sets how long after a first failure an order is tried again; each further
// one doubles it, up to a day. The default is a minute, with which five attempts fall
// into the first hour, as many as Let's Encrypt lets fail.
func WithBackoff(d time.Duration) Option { return func(o *options) { o.backoff = d } }

// WithLeaseTime sets after how long without a sign of life another node takes up an
// order. The default is 15 s.
func WithLeaseTime(d time.Duration) Option { return func(o *options) { o.lease = d } }

// WithLogger sets where the service logs. The default is slog.Default().
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.log = l } }

const (
	// orderTime bounds one order.
	orderTime = 3 * time.Minute
	// parallel is how many orders a node has under way.
	parallel = 8
	// syncTime bounds how long a node that starts waits for what the others know.
	syncTime = 30 * time.Second
	// settle is how long it then waits to hear of the others: three heartbeats.
	settle = 3 * time.Second
	// tick is how often a node looks what is due.
	tick = 250 * time.Millisecond
)

// Service orders certificates on one node. It is safe for concurrent use.
type Service struct {
	host    taubyte.Host
	opts    options
	local   taubyte.Datastore
	rpc     *rpc.Client
	present *presenter
	numbers *claim.Numbers
	ledger  *ledger
	plan    *plan

	granting sync.Mutex // one lease at a time
	timing   *claim.Timing[string]
	since    map[string]heldSince // of timing: when this node first saw a lease
	accounts sync.Mutex           // one registration at a time
	// accountURL is of the account that this node registered without the arbiter.
	accountURL atomic.Pointer[string]
	known      atomic.Bool // what certificates there are

	closers  []func() error
	server   *rpc.Server
	withdraw func()
	life     context.Context // ends with Close
	stop     context.CancelFunc
	wg       sync.WaitGroup
	once     sync.Once
	ended    error
}

type heldSince struct {
	fence uint64
	at    time.Time
}

// New starts ordering on a node of role auth. ctx bounds the start only; the certificate
// authority is not asked before there is something to order. ErrInvalid: a method or an
// external account that can't be.
func New(ctx context.Context, host taubyte.Host, store taubyte.Datastore, opts ...Option) (*Service, error) {
	o := options{
		directory: LetsEncrypt, methods: []Method{HTTP01, TLSALPN01}, now: time.Now,
		backoff: time.Minute, lease: 15 * time.Second, log: slog.Default(),
	}
	for _, opt := range opts {
		opt(&o)
	}
	o.limits = o.limits.withDefaults()
	if o.resolver == nil {
		o.resolver = net.DefaultResolver
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	s := &Service{
		host: host, opts: o, local: store, rpc: rpc.NewClient(host, Protocol, nil), present: newPresenter(host, o.log),
		numbers: claim.NewNumbers(host.ID(), time.Now), timing: claim.NewTiming[string](o.lease), since: map[string]heldSince{},
	}
	// A client of its own: lego changes the one that it is given.
	client := &http.Client{Timeout: time.Minute}
	if o.client != nil {
		*client = *o.client
	}
	if client.Transport == nil {
		client.Transport = &http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute,
			TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 30 * time.Second,
		}
	}
	s.opts.client = client
	s.plan = newPlan(&s.opts)
	s.life, s.stop = context.WithCancel(context.Background())
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (o *options) check() error {
	if len(o.methods) == 0 {
		return fmt.Errorf("%w acme: no method (they are %s, %s and %s)", taubyte.ErrInvalid, HTTP01, TLSALPN01, DNS01)
	}
	for _, m := range o.methods {
		if m != HTTP01 && m != TLSALPN01 && m != DNS01 {
			return fmt.Errorf("%w acme: method %q (they are %s, %s and %s)", taubyte.ErrInvalid, m, HTTP01, TLSALPN01, DNS01)
		}
	}
	if !strings.HasPrefix(o.directory, "https://") {
		return fmt.Errorf("%w acme: the directory %q is no https URL", taubyte.ErrInvalid, o.directory)
	}
	if (o.eabID == "") != (o.eabKey == "") {
		return fmt.Errorf("%w acme: an external account has an id and a key", taubyte.ErrInvalid)
	}
	return nil
}

func (s *Service) start(ctx context.Context) (err error) {
	if s.opts.certs == nil {
		c := auth.NewClient(s.host)
		s.opts.certs = c
		s.closers = append(s.closers, c.Close)
	}
	if s.opts.registry == nil {
		c := tns.NewClient(s.host)
		s.opts.registry = c
		s.closers = append(s.closers, c.Close)
	}
	store, err := crdt.Open(ctx, s.host, s.local, "acme", crdt.WithWriters(taubyte.RoleAuth), crdt.WithLogger(s.opts.log))
	if err != nil {
		return err
	}
	s.ledger = newLedger(store)
	s.closers = append(s.closers, store.Close)
	events, err := s.ledger.open(ctx, s.life)
	if err != nil {
		return err
	}
	if err := s.ledger.returnOwn(ctx, s.host.ID(), s.opts.now()); err != nil {
		return err
	}
	s.wg.Go(func() { s.ledger.follow(s.life, events, s.plan.touch) })
	s.wg.Go(func() { s.followHosts(s.life) })
	s.wg.Go(func() { s.followCertificates(s.life) })
	s.wg.Go(func() { s.run(s.life) })
	if s.server, err = rpc.Serve(s.host, Protocol, s.Handler()); err != nil {
		return err
	}
	s.withdraw, err = s.host.Provide(Protocol, s)
	return err
}

// Close ends the service, and what it orders at the moment: another node goes on. It may
// be called twice.
func (s *Service) Close() error {
	s.once.Do(func() {
		if s.withdraw != nil {
			s.withdraw()
		}
		s.stop()
		var errs []error
		if s.server != nil {
			errs = append(errs, s.server.Close())
		}
		s.wg.Wait()
		s.rpc.Close()
		s.present.close()
		s.opts.client.CloseIdleConnections()
		for i := len(s.closers) - 1; i >= 0; i-- {
			errs = append(errs, s.closers[i]())
		}
		s.ended = errors.Join(errs...)
	})
	return s.ended
}

// live are the nodes that order and answer now, this one included.
func (s *Service) live() []peer.ID {
	all := append(peersOf(s.host, Protocol), s.host.ID())
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(p peer.ID) bool {
		if p == s.host.ID() {
			return false
		}
		m, ok := s.host.Members().Known(p)
		return !ok || !m.Has(taubyte.RoleAuth)
	})
}

// peersOf lists the other nodes that provide a service, as this one knows.
func peersOf(h taubyte.Host, id protocol.ID) (all []peer.ID) {
	if f, ok := h.Local(rpc.FinderProtocol).(rpc.Finder); ok {
		all = f.Find(id)
	} else {
		for _, p := range h.Network().Peers() {
			if known, err := h.Peerstore().SupportsProtocols(p, id); err == nil && len(known) > 0 {
				all = append(all, p)
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(p peer.ID) bool { return p == h.ID() })
}

// run orders what is due, and keeps the leases' time.
func (s *Service) run(ctx context.Context) {
	every := time.NewTicker(tick)
	defer every.Stop()
	// What others have ordered is not ordered again by a node that was away.
	syncing, cancel := context.WithTimeout(ctx, syncTime)
	_ = s.ledger.store.Synced(syncing)
	cancel()
	// Nor what others are about to: by now each has said that it is there.
	select {
	case <-time.After(settle):
	case <-ctx.Done():
		return
	}
	var under sync.WaitGroup
	defer under.Wait()
	places := make(chan struct{}, parallel)
	var before []peer.ID
	var tended time.Time // the account
	for {
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
		live := s.live()
		if !slices.Equal(live, before) {
			s.plan.touchAll()
			before, tended = live, time.Time{}
		}
		s.keepTime(ctx, live)
		if time.Since(tended) >= contactEvery {
			tended = time.Now()
			under.Go(func() { s.tendAccount(ctx, live) })
		}
		if !s.known.Load() {
			continue
		}
		for len(places) < parallel {
			j, ok := s.plan.next(s.opts.now(), s.ledger, func(name string) bool {
				return claim.Arbiter(name, live) == s.host.ID()
			})
			if !ok {
				break
			}
			places <- struct{}{}
			under.Go(func() {
				defer func() { <-places }()
				s.work(ctx, j, live)
			})
		}
	}
}

// work does what is due for a certificate.
func (s *Service) work(ctx context.Context, j job, live []peer.ID) {
	defer s.plan.done(j.name)
	if !j.order {
		s.askRenewal(ctx, j)
		return
	}
	l, err := s.lease(ctx, j, live)
	if err != nil {
		s.opts.log.Debug("no lease for an order", "name", j.name, "err", err)
		s.plan.postpone(j.name, s.opts.now().Add(leaseRetry))
		return
	}
	if l.Wait > 0 {
		s.plan.postpone(j.name, s.opts.now().Add(l.Wait))
		return
	}
	s.plan.tried(j.name)
	ordering, cancel := context.WithTimeout(ctx, orderTime)
	err = s.obtain(ordering, j)
	cancel()
	if ctx.Err() != nil {
		s.ledger.end(context.WithoutCancel(ctx), j.name, l.Fence, claim.Returned, s.host.ID(), s.opts.now(), outcome{Failures: j.failures})
		return
	}
	out := outcome{At: s.opts.now().UTC()}
	if err != nil {
		out.Error, out.Failures = err.Error(), j.failures+1
		out.Retry = out.At.Add(backoff(s.opts.backoff, j.failures, j.name))
		if wait := retryAfter(err); wait > 0 {
			out.Retry = later(out.Retry, out.At.Add(wait))
		}
		s.opts.log.Warn("certificate not obtained", "names", j.names, "attempt", out.Failures, "next", out.Retry, "err", err)
	}
	if err := s.ledger.end(ctx, j.name, l.Fence, claim.Final, s.host.ID(), s.opts.now(), out); err != nil && ctx.Err() == nil {
		s.opts.log.Warn("order's end not recorded", "name", j.name, "err", err)
	}
}
