package hoarder

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/namespace"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/crdt"
	"github.com/taubyte/taubyte/internal/rpc"
)

// Protocol is hoarder's protocol between nodes, and the name under which its
// host provides it.
const Protocol protocol.ID = "/taubyte/hoarder/1"

// Option changes what New makes.
type Option func(*options)

type options struct {
	capacity   int64
	openStores int
	perProject int
	grace      time.Duration
	interval   time.Duration
	reach      time.Duration // how long a call waits for writes to arrive
	openFor    time.Duration // see opened.go
	grants     Grants
	log        *slog.Logger
}

// WithCapacity bounds the bytes that the node keeps, which are never exceeded:
// content that does not fit is refused, and goes to another hoarder. Blocks that
// several DAGs share are counted for each. The default is no bound, because a disk's
// size is not ours to guess.
func WithCapacity(bytes int64) Option { return func(o *options) { o.capacity = bytes } }

// WithGrace sets how long a holder that went away may take to come back before
// others pull what it held, and how long a replica that fell silent may be acknowledging
// writes on the other side of a cut. The default is a minute: longer than a restart takes, so
// that one costs no copying.
func WithGrace(d time.Duration) Option { return func(o *options) { o.grace = d } }

// WithInterval sets how often the whole registry is looked over. Changes of an
// entry and of the connected peers are acted on at once; this is for what was
// missed or failed, and for what waits for its time. The default is 15 seconds.
func WithInterval(d time.Duration) Option { return func(o *options) { o.interval = d } }

// WithOpenStores bounds how many databases and storages are open at a time, in place
// of 128. More than that are opened by turns, which costs some milliseconds each time;
// an open one takes more than half a megabyte. Those in use at the moment are not closed, so the
// bound can be exceeded by as many calls as run.
func WithOpenStores(n int) Option { return func(o *options) { o.openStores = n } }

// WithStoresPerProject bounds how many databases and storages a project may have on all
// branches, in place of 4096: functions can be made to open ever new ones by their
// users. One more is ErrFull.
func WithStoresPerProject(n int) Option { return func(o *options) { o.perProject = n } }

// WithLogger sets where the service logs. The default is slog.Default().
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.log = l } }

// Service is a hoarder. It is safe for concurrent use.
type Service struct {
	host     taubyte.Host
	registry *crdt.Store
	base     taubyte.Datastore
	local    taubyte.Datastore // what this node has, and is fetching
	o        options
	server   *rpc.Server
	withdraw func()
	unshare  func()

	stop context.CancelFunc
	life context.Context // from New to Close
	wg   sync.WaitGroup
	once sync.Once
	err  error

	holds      holds
	space      space
	pins       pins
	promises   promises
	opened     opened
	garbage    sync.Mutex // records of garbage are written and removed
	stores     stores
	leases     leases
	silences   silences
	ticks      atomic.Int64    // of watchClock
	peers      *Client         // to other hoarders
	byRegistry *registryGrants // the default of the grants, or nil
	trash      chan struct{}

	hoarders hoarders

	mu          sync.Mutex
	fetching    map[cid.Cid]*fetch
	collecting  map[cid.Cid]bool
	pulling     int
	heard       map[peer.ID]bool      // whose registry this one has had
	missing     map[peer.ID]time.Time // holders that are away, and since when
	dirty       chan struct{}         // there is something in todo
	todo        map[cid.Cid]struct{}
	all         bool // look at everything
	dirtyStores chan struct{}
	todoStores  map[string]struct{} // by id
	allStores   bool
	working     map[string]bool // stores that something is being done about
	again       map[string]bool // of those, to be looked at after it
}

// New starts a hoarder on the host. ctx bounds the start only.
func New(ctx context.Context, host taubyte.Host, store taubyte.Datastore, opts ...Option) (*Service, error) {
	o := options{grace: time.Minute, interval: 15 * time.Second, openStores: 128, perProject: 4096, reach: 5 * time.Second, openFor: openFor, log: slog.Default()}
	for _, opt := range opts {
		opt(&o)
	}
	s := &Service{
		host:        host,
		base:        store,
		local:       namespace.Wrap(store, ds.NewKey("/hoarder")),
		trash:       make(chan struct{}, 1),
		o:           o,
		fetching:    map[cid.Cid]*fetch{},
		heard:       map[peer.ID]bool{},
		missing:     map[peer.ID]time.Time{},
		collecting:  map[cid.Cid]bool{},
		dirty:       make(chan struct{}, 1),
		todo:        map[cid.Cid]struct{}{},
		dirtyStores: make(chan struct{}, 1),
		todoStores:  map[string]struct{}{},
		working:     map[string]bool{},
		again:       map[string]bool{},
	}
	s.holds.init()
	s.opened.init()
	s.leases.init(s)
	s.silences.init()
	s.peers = NewClient(host)
	s.peers.own = s
	if s.o.grants == nil {
		s.byRegistry = newRegistryGrants(s)
		s.o.grants = s.byRegistry
	}
	s.life, s.stop = context.WithCancel(context.Background())
	if err := s.start(ctx, store); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("starting hoarder: %w", err)
	}
	return s, nil
}

func (s *Service) start(ctx context.Context, store taubyte.Datastore) error {
	var err error
	s.registry, err = crdt.Open(ctx, s.host, store, "hoarder", crdt.WithWriters(taubyte.RoleHoarder), crdt.WithLogger(s.o.log))
	if err != nil {
		return err
	}
	if err := s.audit(ctx); err != nil {
		return err
	}
	have, err := s.held(ctx)
	if err != nil {
		return err
	}
	s.space.capacity = s.o.capacity
	for _, h := range have {
		s.space.used += h.Size
	}
	if err := s.loadStores(ctx); err != nil {
		return err
	}
	if err := each(ctx, s.local, "/file", func(_ ds.Key, value []byte) error {
		var k kept
		err := json.Unmarshal(value, &k)
		s.space.used += k.Size
		return err
	}); err != nil {
		return err
	}
	events, err := s.registry.Watch(s.life, ds.NewKey("/"), 0)
	if err != nil {
		return err
	}
	s.wg.Go(func() { s.follow(events) })
	if err := s.resume(ctx); err != nil {
		return err
	}
	if err := s.watchPeers(); err != nil {
		return err
	}
	s.wg.Go(s.watchClock)
	s.wg.Go(s.tend)
	for _, h := range s.hostings() {
		for _, q := range s.recordOf(h).Silent {
			s.watchSilent(q.Peer)
		}
	}
	s.wg.Go(s.tendStores)
	s.wg.Go(s.emptyTrash)
	s.wg.Go(s.announce)
	s.wg.Go(s.closeOpened)
	s.unshare = s.host.ShareBlocks(s.opened.mayFetch)
	if s.server, err = rpc.Serve(s.host, Protocol, s.Handler()); err != nil {
		return err
	}
	s.withdraw, err = s.host.Provide(Protocol, s)
	return err
}

// Close ends the service. What it was fetching is taken up again by the next one
// on the same store. It may be called twice.
func (s *Service) Close() error {
	s.once.Do(func() {
		if s.withdraw != nil {
			s.withdraw()
		}
		if s.server != nil {
			s.err = s.server.Close()
		}
		if s.unshare != nil {
			s.unshare()
		}
		s.handAllOver()
		s.sayBye()
		s.mu.Lock() // nothing is begun after this
		s.stop()
		s.mu.Unlock()
		s.wg.Wait()
		s.closeStores()
		if s.byRegistry != nil {
			s.byRegistry.close()
		}
		s.peers.rpc.Close()
		if s.registry != nil {
			if err := s.registry.Close(); s.err == nil {
				s.err = err
			}
		}
	})
	s.wg.Wait()
	return s.err
}

// Database is Client.Database.
func (s *Service) Database(ctx context.Context, i Instance, d DatabaseSpec) (*Database, error) {
	return s.peers.Database(ctx, i, d)
}

// Storage is Client.Storage.
func (s *Service) Storage(ctx context.Context, i Instance, d StorageSpec) (*Storage, error) {
	return s.peers.Storage(ctx, i, d)
}
