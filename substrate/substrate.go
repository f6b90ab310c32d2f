package substrate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth/environment"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/seer"
	"github.com/taubyte/taubyte/substrate/internal/abi"
	"github.com/taubyte/taubyte/substrate/internal/commands"
	"github.com/taubyte/taubyte/substrate/internal/egress"
	"github.com/taubyte/taubyte/substrate/internal/messages"
	"github.com/taubyte/taubyte/substrate/internal/site"
	"github.com/taubyte/taubyte/substrate/internal/vm"
	"github.com/taubyte/taubyte/substrate/wire"
	"github.com/taubyte/taubyte/tns"
)

// Registry is what substrate needs of tns: to be told of every deployment.
type Registry interface {
	Watch(ctx context.Context, after string) (<-chan tns.Change, error)
}

// Option changes what New makes.
type Option func(*options)

type options struct {
	registry Registry
	hoarder  Hoarder

	environments environment.Source
	cacheDir     string
	limits       Limits
	egress       egress.Policy
	grace        time.Duration
	log          *slog.Logger
}

// WithTNS sets the registry to follow. The default is a client of the one on
// this host or, where there is none, on the network.
func WithTNS(r Registry) Option { return func(c *options) { c.registry = r } }

// WithCacheDir keeps compiled code in a folder, which makes the first start after
// a restart a matter of milliseconds. Who can write there can make the node run
// anything: it is the node's own. The default is to keep it in memory alone.
func WithCacheDir(dir string) Option { return func(c *options) { c.cacheDir = dir } }

// WithLimits sets what functions may take.
func WithLimits(l Limits) Option { return func(c *options) { c.limits = l } }

// WithEgress lets functions reach networks beside the public internet. The default
// is none: the node's own network is closed to them, and so is this machine, by its public
// addresses too.
func WithEgress(networks ...netip.Prefix) Option {
	return func(c *options) { c.egress.Allow = networks }
}

// WithGrace sets how long Close waits for requests under way before it cuts
// them. The default is 5 s.
func WithGrace(d time.Duration) Option { return func(c *options) { c.grace = d } }

// WithLogger sets where the node logs, functions' output included. The default
// is slog.Default().
func WithLogger(l *slog.Logger) Option { return func(c *options) { c.log = l } }

// Limits bound what functions may take of a node. A zero field means its default.
type Limits struct {
	// Timeout is the longest time that a function may ask for: it bounds a call
	// with everything in it, waiting for an instance included. Default 5 min. A
	// function that asks for none has 30 s.
	Timeout time.Duration
	// Memory is the most memory that one instance may ask for. Default 512 MiB.
	Memory int64
	// NodeMemory bounds the memory of all instances of the node, and ProjectMemory
	// that of one project's. Default 1 GiB, and half of NodeMemory.
	NodeMemory, ProjectMemory int64
	// Concurrency is how many calls of one function are worked on at a time, and
	// Queue how many may wait for that. Default 64 and 256.
	Concurrency, Queue int
	// RequestBody and ResponseBody bound bodies. Default 64 MiB and 256 MiB.
	RequestBody, ResponseBody int64
	// ModuleBytes bounds the file of a module. Default 64 MiB.
	ModuleBytes int
	// Fuel is the computing that one event may take, in units of about an
	// instruction: see internal/meter. Default 2^40, about ten minutes of a core.
	Fuel int64
	// HostCalls is how often one event may call its host. Default 10 million.
	HostCalls int64
	// LogLines is how many lines a second a function may log, in the long run.
	// Default 100.
	LogLines int
	// Idle is how long an unused instance is kept. Default 1 min.
	Idle time.Duration
	// WarmMemory bounds the memory for instances that are kept longer: one of each
	// function, from when it is deployed. Default an eighth of NodeMemory.
	WarmMemory int64
	// CodeMemory bounds the compiled code in memory that no instance uses, where
	// WithCacheDir keeps it on disk as well. Default 256 MiB.
	CodeMemory int64
	// WebsiteCache bounds the memory for files of websites, in bytes. A quarter is for
	// files of up to 64 KiB, the rest for larger ones, each of which may have a quarter of
	// it; others are streamed. Default 64 MiB.
	WebsiteCache int
	// Sockets is how many WebSockets the node has open, and ProjectSockets those of
	// one project. Default 20,000 and 10,000.
	Sockets, ProjectSockets int
	// Message is the size of a message on a channel. Default 256 KiB, which is the
	// most.
	Message int
}

const defaultTimeout = 30 * time.Second

func (l Limits) withDefaults() Limits {
	def(&l.Timeout, 5*time.Minute)
	def(&l.Memory, 512<<20)
	def(&l.NodeMemory, 1<<30)
	def(&l.ProjectMemory, l.NodeMemory/2)
	def(&l.Concurrency, 64)
	def(&l.Queue, 256)
	def(&l.RequestBody, 64<<20)
	def(&l.ResponseBody, 256<<20)
	def(&l.ModuleBytes, 64<<20)
	def(&l.Fuel, 1<<40)
	def(&l.HostCalls, 10_000_000)
	def(&l.LogLines, 100)
	def(&l.Idle, time.Minute)
	def(&l.WarmMemory, l.NodeMemory/8)
	def(&l.CodeMemory, 256<<20)
	def(&l.WebsiteCache, 64<<20)
	def(&l.Sockets, 20_000)
	def(&l.ProjectSockets, 10_000)
	def(&l.Message, maxMessage)
	l.Message = min(l.Message, maxMessage)
	return l
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// A Service is a substrate node. It is safe for concurrent use.
type Service struct {
	host   taubyte.Host
	limits Limits
	grace  time.Duration
	log    *slog.Logger

	egress  egress.Policy
	network *egress.Network // of projects without rules of their own

	environments *environments

	engine    *vm.Engine
	hoarder   Hoarder
	files     *site.Cache
	agent     *seer.Agent
	table     *tns.Table
	hub       *messages.Hub
	clock     *clock
	calls     *commands.Exchange
	mounts    []func(context.Context) error // close what leads requests here, in time
	withdraws []func()                      // take back what the node says that it runs
	closes    []func() error                // close what the node itself uses; the last first

	life context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	inFlight atomic.Int64
	draining atomic.Bool
	once     sync.Once
	ended    error

	live      atomic.Pointer[map[deploymentKey]*deployment]
	mu        sync.Mutex // guards what follows, and writing live
	preparing map[deploymentKey]*preparation
	faults    map[branchKey]fault // why the newest deployment of a branch is not served
	faulted   chan struct{}       // closed at the next fault
}

// A fault is why a deployment could not be made ready.
type fault struct {
	sequence uint64
	err      error
}

// New starts a substrate node, which serves what the registry says as soon as it
// is there. ctx bounds the start only. The store is the node's; nothing is kept in it
// so far.
func New(ctx context.Context, host taubyte.Host, store taubyte.Datastore, opts ...Option) (*Service, error) {
	c := options{grace: 5 * time.Second, log: slog.Default()}
	for _, o := range opts {
		o(&c)
	}
	limits := c.limits.withDefaults()
	s := &Service{
		host: host, limits: limits, grace: c.grace, log: c.log, egress: c.egress,
		files:     site.NewCache(limits.WebsiteCache),
		preparing: map[deploymentKey]*preparation{},
		faults:    map[branchKey]fault{},
		faulted:   make(chan struct{}),
	}
	s.live.Store(&map[deploymentKey]*deployment{})
	s.life, s.stop = context.WithCancel(context.Background())
	if err := s.start(ctx, &c); err != nil {
		return nil, errors.Join(fmt.Errorf("starting substrate: %w", err), s.Close())
	}
	return s, nil
}

// ownAddresses are those by which the host is reached, by what it has heard of others too:
// behind a translator it is none of an interface's.
func (s *Service) ownAddresses() []netip.Addr {
	var own []netip.Addr
	for _, a := range s.host.Addrs() {
		if _, err := a.ValueForProtocol(ma.P_CIRCUIT); err == nil {
			continue // it is the relay's
		}
		if ip, err := manet.ToIP(a); err == nil {
			if addr, ok := netip.AddrFromSlice(ip); ok {
				own = append(own, addr)
			}
		}
	}
	return own
}

func (s *Service) start(ctx context.Context, c *options) error {
	var err error
	s.egress.Own = s.ownAddresses
	s.network = s.egress.Network(nil)
	s.closes = append(s.closes, func() error { s.network.Close(); return nil })
	s.engine, err = vm.New(ctx, vm.Config{
		CacheDir: c.cacheDir, Interim: true, ModuleBytes: s.limits.ModuleBytes, Memory: s.limits.NodeMemory, Share: s.limits.ProjectMemory, Idle: s.limits.Idle, Warm: s.limits.WarmMemory, Code: s.limits.CodeMemory,
		Services: abi.Services{Messages: publisher{s}, Commands: commander{s}}, Log: s.log,
	})
	if err != nil {
		return err
	}
	if err := s.join(ctx); err != nil {
		return err
	}
	if err := s.openChannels(); err != nil {
		return err
	}
	s.openClock()
	s.openCommands()
	if s.hoarder = c.hoarder; s.hoarder == nil {
		client := hoarder.NewClient(s.host)
		s.hoarder = client
		s.closes = append(s.closes, client.Close)
	}
	if c.environments == nil {
		client := environment.NewClient(s.host)
		c.environments = client
		s.closes = append(s.closes, client.Close)
	}
	s.environments = newEnvironments(s, c.environments)
	s.wg.Go(func() { s.environments.follow(s.life) })
	s.wg.Go(func() { s.environments.update(s.life) })
	if c.registry == nil {
		client := tns.NewClient(s.host)
		c.registry = client
		s.closes = append(s.closes, client.Close)
	}
	if s.table, err = tns.NewTable(ctx, c.registry, tns.WithPrepare(s.prepare), tns.WithTableLogger(s.log)); err != nil {
		return err
	}
	s.wg.Go(s.follow)

	for _, m := range []struct {
		id      protocol.ID
		handler http.Handler
		roles   []taubyte.Role // none: every member
	}{
		{Protocol, s.Handler(), nil},
		{peersProtocol, s.peersHandler(), []taubyte.Role{taubyte.RoleSubstrate}},
		{wire.Protocol, s, []taubyte.Role{taubyte.RoleGateway}},
	} {
		if err := s.mount(m.id, m.handler, m.roles); err != nil {
			return err
		}
	}
	s.mounts = append(s.mounts, s.hub.Close) // first of all: sockets go to other nodes
	s.agent.Announce()
	return nil
}

// mount serves a protocol, to this host and to others.
func (s *Service) mount(id protocol.ID, handler http.Handler, roles []taubyte.Role) error {
	withdraw, err := s.host.Provide(id, s)
	if err != nil {
		return err
	}
	s.withdraws = append(s.withdraws, withdraw)
	server, err := rpc.Serve(s.host, id, handler, roles...)
	if err != nil {
		return err
	}
	s.mounts = append(s.mounts, func(ctx context.Context) error {
		if err := server.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		return nil
	})
	return nil
}

// Stats are what a node has in memory and at work.
type Stats struct {
	Deployments int   `json:"deployments"` // those being replaced included
	Functions   int   `json:"functions"`
	Websites    int   `json:"websites"`
	Modules     int   `json:"modules"`     // compiled, or being compiled
	Interpreted int   `json:"interpreted"` // functions whose module is being compiled
	Memory      int64 `json:"memory"`      // of all instances, in bytes
	InFlight    int   `json:"inFlight"`    // requests
	Queued      int   `json:"queued"`      // calls waiting for an instance
	Fuel        int64 `json:"fuel"`        // that all calls so far took
	Timers      int   `json:"timers"`      // that this node may run
	Ticks       int64 `json:"ticks"`       // of timers that it has run

	Messages MessageStats `json:"messages"`
}

// Stats returns the node's figures. It takes the verb read on everything, or a node.
func (s *Service) Stats(ctx context.Context) (Stats, error) {
	if err := taubyte.Allow(ctx, taubyte.VerbRead, "", taubyte.Roles()...); err != nil {
		return Stats{}, err
	}
	live := *s.live.Load()
	st := Stats{
		Deployments: len(live), Modules: len(s.engine.Modules()), Interpreted: s.engine.Interpreted(), Memory: s.engine.Memory(),
		InFlight: int(s.inFlight.Load()), Queued: s.engine.Queued(), Fuel: s.engine.Fuel(),
		Messages: s.hub.Stats(), Timers: s.clock.timers.Len(), Ticks: s.clock.ticks.Load(),
	}
	for _, d := range live {
		st.Functions += len(d.functions)
		st.Websites += len(d.websites)
	}
	return st, nil
}

// Serving waits until this node serves a deployment of a branch, or a later one.
// Where it can't be taken over, the error says why: at once where it never will
// be, as with a module that is invalid (ErrInvalid), or else when ctx ends.
//
// It takes the verb read on the project, or a node.
func (s *Service) Serving(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch, sequence uint64) error {
	if err := taubyte.Allow(ctx, taubyte.VerbRead, project, taubyte.Roles()...); err != nil {
		return err
	}
	for {
		changed := s.table.Changed()
		s.mu.Lock()
		faulted, f := s.faulted, s.faults[branchKey{project, branch}]
		s.mu.Unlock()
		if s.table.Serving(project, branch) >= sequence {
			return nil
		}
		if f.sequence < sequence {
			f.err = nil // of an older one
		}
		if f.sequence == sequence && errors.Is(f.err, taubyte.ErrInvalid) {
			return fmt.Errorf("deployment %d of branch %s of %s: %w", sequence, branch, project, f.err)
		}
		select {
		case <-changed:
		case <-faulted:
		case <-s.life.Done():
			return fmt.Errorf("waiting for %s of %s: substrate %w", branch, project, taubyte.ErrClosed)
		case <-ctx.Done():
			return fmt.Errorf("waiting for deployment %d of branch %s of %s: %w", sequence, branch, project, errors.Join(f.err, ctx.Err()))
		}
	}
}

// notice is how long gateways are given to hear that a node takes no new work.
const notice = 300 * time.Millisecond

// Close ends the node without losing a request: it says that it is no substrate node
// any more, serves what still comes while gateways hear of it, then turns new requests
// away, which gateways send to another node, and gives those under way the time of
// WithGrace to end. It may be called twice.
func (s *Service) Close() error {
	s.once.Do(func() {
		for _, withdraw := range s.withdraws {
			withdraw()
		}
		if s.agent != nil && len(s.host.Network().Peers()) > 0 {
			s.agent.Announce()
			time.Sleep(min(notice, s.grace))
		}
		s.draining.Store(true)
		ctx, cancel := context.WithTimeout(context.Background(), s.grace)
		defer cancel()
		var errs []error
		for _, unmount := range slices.Backward(s.mounts) {
			errs = append(errs, unmount(ctx))
		}
		s.drain(ctx)
		s.mu.Lock() // nothing new begins behind our back
		s.stop()
		s.mu.Unlock()
		if s.clock != nil {
			s.clock.timers.Close()
		}
		if s.table != nil {
			errs = append(errs, s.table.Close())
		}
		s.wg.Wait()
		for _, d := range *s.live.Load() {
			d.close()
		}
		if s.engine != nil {
			errs = append(errs, s.engine.Close())
		}
		for _, c := range slices.Backward(s.closes) {
			errs = append(errs, c())
		}
		s.ended = errors.Join(errs...)
	})
	return s.ended
}

// drain waits for the requests that another handler of this process has passed
// on, and then cuts those of functions.
func (s *Service) drain(ctx context.Context) {
	for s.inFlight.Load() > 0 && ctx.Err() == nil {
		time.Sleep(5 * time.Millisecond)
	}
	if s.engine != nil {
		s.engine.Stop()
	}
}
