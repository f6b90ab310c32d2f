package patrick

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/namespace"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/crdt"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/internal/claim"
	"github.com/taubyte/taubyte/internal/rpc"
)

// Repositories is what patrick needs of auth. An auth.Client and an auth.Service
// have it, and Webhooks and Statuses beside it.
type Repositories interface {
	Repository(ctx context.Context, id taubyte.RepositoryID) (auth.Repository, error)
	Repositories(ctx context.Context, project taubyte.ProjectID) ([]auth.Repository, error)
	Heads(ctx context.Context, id taubyte.RepositoryID) (map[taubyte.Branch]taubyte.Commit, error)
	Source(ctx context.Context, id taubyte.RepositoryID, commit taubyte.Commit, w io.Writer) error
}

// Option changes what New makes.
type Option func(*options)

type options struct {
	auth      Repositories
	lease     time.Duration
	poll      time.Duration
	reconcile time.Duration
	attempts  int
	backOff   time.Duration
	logLimit  int
	keeper    Keeper
	replicas  int
	age       time.Duration // of jobs that are kept
	count     int           // of a branch
	deployed  func(context.Context, taubyte.ProjectID, taubyte.Branch) ([]taubyte.JobID, error)
	priority  func(auth.Repository, auth.Push) int
	// deliveries is how long those are remembered.
	deliveries time.Duration
	jobURL     func(Job) string
	log        *slog.Logger
}

// WithAuth sets where repositories are known. The default is auth on whatever node
// of the network runs it.
func WithAuth(r Repositories) Option { return func(o *options) { o.auth = r } }

// WithLease sets how long a worker has a job without renewing. The default is 5 s:
// what a worker costs that is cut off, and three renewals of one that is not. One whose
// connection has gone, and that does not come back, costs half of it.
func WithLease(d time.Duration) Option { return func(o *options) { o.lease = d } }

// WithReconcile sets how often branch heads are compared with jobs. The default is
// a minute.
func WithReconcile(every time.Duration) Option { return func(o *options) { o.reconcile = every } }

// WithAttempts sets how many workers may be lost over a job before it fails, and
// how long the second waits; each further one waits twice as long. The default is 3
// and half a second: a build may be what kills the workers. A build that fails by
// itself is not tried again, and what a worker gives back is not counted.
func WithAttempts(n int, backOff time.Duration) Option {
	return func(o *options) { o.attempts, o.backOff = n, backOff }
}

// WithLogLimit bounds the log of an attempt, in bytes. What is beyond it is dropped, and the
// log says so. The default is 128 MiB.
func WithLogLimit(bytes int) Option { return func(o *options) { o.logLimit = bytes } }

// WithKeeper sets what keeps the logs of attempts that have ended, and on how many nodes. The
// default is hoarder on whatever nodes of the network run it, on two of them. As long as there is
// none the logs stay on the nodes of patrick that have taken them, two where there are two.
func WithKeeper(k Keeper, replicas int) Option {
	return func(o *options) { o.keeper, o.replicas = k, replicas }
}

// WithRetention sets how long jobs that have ended are kept, with their logs: those of the
// last time, and of each branch no more than so many of the newest. The default is 30 days and
// 100 jobs. The latest job of a branch stays in any case, the last one that succeeded as well,
// and those of WithDeployed; of a branch, or repository, that is removed nothing does.
// Zero is without end. All nodes are given the same.
func WithRetention(age time.Duration, perBranch int) Option {
	return func(o *options) { o.age, o.count = age, perBranch }
}

// WithDeployed sets what says which jobs a branch runs the results of, such as after it was
// rolled back to an earlier one: they are kept. Where it returns an error nothing of the
// branch is dropped until it answers; none are taken for ErrNotFound. The default knows none.
func WithDeployed(f func(context.Context, taubyte.ProjectID, taubyte.Branch) ([]taubyte.JobID, error)) Option {
	return func(o *options) { o.deployed = f }
}

// WithPriority ranks the jobs of a project, from -10 to 10: one more is worth a minute of
// waiting, so that none waits for ever. Between projects it counts for nothing. By default
// all are alike, and the oldest is first.
func WithPriority(f func(auth.Repository, auth.Push) int) Option {
	return func(o *options) { o.priority = f }
}

// WithDeliveries sets how long deliveries of webhooks are remembered, so that one which is
// sent again is known. The default is a week; providers send again for three days. All
// nodes are given the same.
func WithDeliveries(keep time.Duration) Option { return func(o *options) { o.deliveries = keep } }

// WithJobURL sets where people read the log of a job, which the status of its commit at
// the provider links to. The default is no link.
func WithJobURL(f func(Job) string) Option { return func(o *options) { o.jobURL = f } }

// WithLogger sets where the service logs. The default is slog.Default().
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.log = l } }

// Service is patrick on one node. It is safe for concurrent use.
type Service struct {
	opts  options
	log   *slog.Logger
	host  taubyte.Host
	own   ds.Batching // what only this node needs to know
	store *crdt.Store
	peers *rpc.Client // other nodes of patrick

	members *members

	mu     sync.Mutex // guards what follows
	index  *index
	more   chan struct{} // closed when there may be something to claim
	events *broadcast
	logs   map[attemptID]*logBuffer
	// dropped are jobs that have gone, and whose logs here are to follow.
	dropped map[taubyte.JobID]bool
	// missing are repositories that have jobs and are not registered, and since when.
	missing map[taubyte.RepositoryID]time.Time

	// submit has one submission to a branch at a time, by the branch's key.
	submit     [64]sync.Mutex
	doubts     doubts
	deliveries *deliveries
	looks      chan taubyte.RepositoryID // see look
	statuses   *statuses
	life       context.Context
	stop       context.CancelFunc
	logsOver   chan struct{} // see logsEnded
	closing    []func() error
	server     *rpc.Server
	withdraw   func()
	background sync.WaitGroup
	once       sync.Once
	ended      error
}

// New starts patrick on a node. ctx bounds the start only.
func New(ctx context.Context, host taubyte.Host, store taubyte.Datastore, opts ...Option) (*Service, error) {
	o := options{
		lease: 5 * time.Second, poll: 20 * time.Second, reconcile: time.Minute,
		attempts: 3, backOff: 500 * time.Millisecond, logLimit: 128 << 20,
		replicas: 2, age: 30 * 24 * time.Hour, count: 100,
		deployed:   func(context.Context, taubyte.ProjectID, taubyte.Branch) ([]taubyte.JobID, error) { return nil, nil },
		priority:   func(auth.Repository, auth.Push) int { return 0 },
		deliveries: 7 * 24 * time.Hour, jobURL: func(Job) string { return "" }, log: slog.Default(),
	}
	for _, opt := range opts {
		opt(&o)
	}
	if o.lease <= 0 || o.reconcile <= 0 || o.attempts < 1 || o.backOff < 0 || o.logLimit < 1 || o.deliveries < time.Second || o.replicas < 1 || o.age < 0 || o.count < 0 {
		return nil, fmt.Errorf("%w option of patrick: a time, number or limit that is not positive", taubyte.ErrInvalid)
	}
	s := &Service{
		opts: o, log: o.log, host: host, own: namespace.Wrap(store, ds.NewKey("/patrick")),
		peers: rpc.NewClient(host, Protocol, nil), members: newMembers(),
		index: newIndex(host.ID(), claim.NewNumbers(host.ID(), time.Now), patience{o.attempts, o.backOff}, o.lease), more: make(chan struct{}), events: newBroadcast(), logs: map[attemptID]*logBuffer{},
		deliveries: newDeliveries(), looks: make(chan taubyte.RepositoryID, 256), statuses: newStatuses(),
		dropped: map[taubyte.JobID]bool{}, missing: map[taubyte.RepositoryID]time.Time{}, logsOver: make(chan struct{}, 1),
	}
	if s.opts.auth == nil {
		c := auth.NewClient(host)
		s.opts.auth, s.closing = c, append(s.closing, c.Close)
	}
	if s.opts.keeper == nil {
		c := hoarder.NewClient(host)
		s.opts.keeper, s.closing = c, append(s.closing, c.Close)
	}
	s.life, s.stop = context.WithCancel(context.Background())
	if err := s.start(ctx, store); err != nil {
		return nil, errors.Join(fmt.Errorf("starting patrick: %w", err), s.Close())
	}
	return s, nil
}

func (s *Service) start(ctx context.Context, store taubyte.Datastore) (err error) {
	s.store, err = crdt.Open(ctx, s.host, store, "patrick", crdt.WithWriters(taubyte.RolePatrick), crdt.WithLogger(s.log))
	if err != nil {
		return err
	}
	events, err := s.store.Watch(s.life, ds.NewKey(jobsPrefix), 0)
	if err != nil {
		return err
	}
	taken, err := s.store.Watch(s.life, ds.NewKey(deliveriesPrefix), 0)
	if err != nil {
		return err
	}
	for _, prefix := range []string{deliveriesPrefix, jobsPrefix} {
		if err := s.load(ctx, ds.NewKey(prefix)); err != nil {
			return err
		}
	}
	if err := s.loadLogs(ctx); err != nil {
		return err
	}
	if err := s.takeBack(ctx); err != nil {
		return err
	}
	if s.server, err = rpc.Serve(s.host, Protocol, s.Handler()); err != nil {
		return err
	}
	if s.withdraw, err = s.host.Provide(Protocol, s); err != nil {
		return err
	}
	changed, err := s.events.watch(s.life, func(Job) bool { return true })
	if err != nil {
		return err
	}
	s.background.Go(func() { s.follow(jobsPrefix, events) })
	s.background.Go(func() { s.follow(deliveriesPrefix, taken) })
	s.background.Go(func() { s.tellStatuses(changed) })
	s.background.Go(s.forgetDeliveries)
	s.background.Go(s.archiveLogs)
	s.background.Go(s.retainAgain)
	s.background.Go(s.lookAgain)
	s.background.Go(s.watchMembers)
	s.background.Go(s.watchLeases)
	s.background.Go(s.reconcileAgain)
	return nil
}

// Close ends the service. It may be called twice.
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
		s.background.Wait()
		s.events.close()
		if s.store != nil {
			errs = append(errs, s.store.Close())
		}
		s.peers.Close()
		for _, c := range s.closing {
			errs = append(errs, c())
		}
		s.ended = errors.Join(errs...)
	})
	return s.ended
}

// follow takes in what is written here and elsewhere under a prefix.
func (s *Service) follow(prefix string, events <-chan crdt.Event) {
	for e := range events {
		switch {
		case e.Lost:
			if err := s.reload(s.life, prefix); err != nil && s.life.Err() == nil {
				s.log.Error("jobs not read", "prefix", prefix, "err", err)
			}
		case e.Deleted:
			if !s.deliveries.take(e.Key.String(), true) {
				s.gone(e.Key.String())
			}
		default:
			s.apply(e.Key.String(), e.Value)
		}
	}
}

// apply takes one record in and tells who waits for news.
func (s *Service) apply(key string, value []byte) {
	if s.deliveries.take(key, false) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := s.index.add(key, value, time.Now())
	if len(changed) == 0 {
		return
	}
	s.wake()
	s.events.send(changed)
}

// wake calls those that wait for a job, under mu.
func (s *Service) wake() {
	close(s.more)
	s.more = make(chan struct{})
}

// write makes records durable, all or none, and takes them in.
func (s *Service) write(ctx context.Context, records map[ds.Key]any) error {
	batch, err := s.store.Batch(ctx)
	if err != nil {
		return err
	}
	raw := map[ds.Key][]byte{}
	for k, v := range records {
		if raw[k], err = json.Marshal(v); err != nil {
			return err
		}
		if err := batch.Put(ctx, k, raw[k]); err != nil {
			return err
		}
	}
	if err := batch.Commit(ctx); err != nil {
		return err
	}
	for k, b := range raw {
		s.apply(k.String(), b)
	}
	return nil
}

// A Filter chooses jobs. What is empty matches all.
type Filter struct {
	Project    taubyte.ProjectID
	Repository taubyte.RepositoryID
	Branch     taubyte.Branch
	State      State
	// After goes on after that job: Page.Next of the page before.
	After taubyte.JobID
	// Limit is how many jobs a page has at most; the default is 50, the most 500.
	Limit int

	may func(Job) bool // nil: all
}

func (f Filter) matches(j Job) bool {
	return (f.may == nil || f.may(j)) && (f.Project == "" || f.Project == j.Project) && (f.Repository == "" || f.Repository == j.Repository) &&
		(f.Branch == "" || f.Branch == j.Branch) && (f.State == "" || f.State == j.State)
}

// A Page is a part of a list.
type Page struct {
	Jobs []Job         `json:"jobs"`
	Next taubyte.JobID `json:"next,omitempty"` // empty on the last page
}

const (
	defaultPage = 50
	largestPage = 500
)

// Who may call, of nodes: operators change jobs, and readers see them.
var (
	operators = []taubyte.Role{taubyte.RolePatrick, taubyte.RoleAuth}
	readers   = []taubyte.Role{taubyte.RolePatrick, taubyte.RoleAuth}
	// seers may ask: workers for the jobs that they hold.
	seers = append(slices.Clone(readers), taubyte.RoleMonkey)
)

// worker reports whether a worker asks, or a job, and returns what it may see: the jobs
// that it holds, a job itself.
func (s *Service) worker(ctx context.Context) (may func(Job) bool, is bool) {
	p := taubyte.PrincipalOf(ctx)
	node := p.Node
	switch {
	case p.Kind == taubyte.KindJob && node.Peer == "":
		return func(j Job) bool { return j.ID == p.Job }, true // it is made on this node
	case p.Kind == taubyte.KindJob:
		return func(j Job) bool { return j.ID == p.Job && j.Worker == node.Peer && j.State == Running }, true
	case p.Kind == taubyte.KindNode && node.Has(taubyte.RoleMonkey) && !node.Has(readers...):
		return func(j Job) bool { return j.Worker == node.Peer && j.State == Running }, true
	}
	return nil, false
}

// Jobs lists jobs, newest first. Where there is none, the node asks the others first.
//
// It takes the verb read on the filter's project, which a user of one project need not
// name, or a node of the roles auth or patrick. A worker is given the jobs that it holds.
func (s *Service) Jobs(ctx context.Context, f Filter) (Page, error) {
	if may, is := s.worker(ctx); is {
		if err := taubyte.AllowNode(ctx, seers...); err != nil {
			return Page{}, err
		}
		f.may = may
		return s.list(f), nil
	}
	if p := taubyte.PrincipalOf(ctx); f.Project == "" && p.Kind == taubyte.KindUser && !p.AllProjects && len(p.Projects) == 1 {
		f.Project = p.Projects[0]
	}
	if err := taubyte.Allow(ctx, taubyte.VerbRead, f.Project, readers...); err != nil {
		return Page{}, err
	}
	var page Page
	s.learn(ctx, ds.NewKey(jobsPrefix), func() bool {
		page = s.list(f)
		return len(page.Jobs) > 0 || f.After != ""
	})
	return page, ctx.Err()
}

func (s *Service) list(f Filter) Page {
	limit := f.Limit
	if limit <= 0 {
		limit = defaultPage
	}
	limit = min(limit, largestPage)
	s.mu.Lock()
	defer s.mu.Unlock()
	page := Page{Jobs: []Job{}}
	ids := s.index.ids
	if f.After != "" {
		i, _ := slices.BinarySearch(ids, f.After)
		ids = ids[:i]
	}
	for i := len(ids) - 1; i >= 0; i-- {
		j := s.index.all[ids[i]].job
		if !f.matches(j) {
			continue
		}
		if len(page.Jobs) == limit {
			page.Next = page.Jobs[limit-1].ID
			break
		}
		page.Jobs = append(page.Jobs, j)
	}
	return page
}

// Job returns a job. One that another node has just taken in is found as well. It takes
// the verb read on the job's project, or a node of the roles auth or patrick; a worker sees
// the jobs that it holds.
func (s *Service) Job(ctx context.Context, id taubyte.JobID) (Job, error) {
	j, err := s.job(ctx, id)
	if may, is := s.worker(ctx); is {
		switch {
		case err != nil && !validID(string(id)):
			return Job{}, err
		case err != nil || !may(j):
			return Job{}, fmt.Errorf("%w: %s does not hold job %.100q", taubyte.ErrForbidden, taubyte.PrincipalOf(ctx), id)
		}
		return j, taubyte.AllowNode(ctx, seers...)
	}
	if err := s.allow(ctx, taubyte.VerbRead, j, err, readers); err != nil {
		return Job{}, err
	}
	return j, nil
}

// allow is Allow for a job that was looked for. That one is not there is told only to who
// may see all that are.
func (s *Service) allow(ctx context.Context, verb taubyte.Verb, j Job, err error, roles []taubyte.Role) error {
	return cmp.Or(taubyte.Allow(ctx, verb, j.Project, roles...), err)
}

func (s *Service) job(ctx context.Context, id taubyte.JobID) (Job, error) {
	e, err := s.find(ctx, id)
	if err != nil {
		return Job{}, err
	}
	defer s.mu.Unlock()
	return e.job, nil
}

// Watch sends every job that changes, in its newest state, until ctx ends or the
// service closes. A slow reader misses states that are past, never the newest.
//
// A user sees the jobs of the projects that it may read, a worker those that it holds; a node
// has to be of the roles auth or patrick otherwise.
func (s *Service) Watch(ctx context.Context) (<-chan Job, error) {
	p := taubyte.PrincipalOf(ctx)
	if may, is := s.worker(ctx); is {
		if err := taubyte.AllowNode(ctx, seers...); err != nil {
			return nil, err
		}
		return s.events.watch(ctx, may)
	}
	if err := taubyte.AllowNode(ctx, readers...); err != nil {
		return nil, err
	}
	if len(p.Repositories) > 0 {
		return nil, p.May(taubyte.VerbRead, "")
	}
	return s.events.watch(ctx, func(j Job) bool {
		return p.Kind == taubyte.KindNode || p.May(taubyte.VerbRead, j.Project) == nil
	})
}

// Cancel ends a job. Its worker, if it has one, hears of it with its next call. A
// job that has ended otherwise is ErrConflict.
//
// It takes the verb deploy on the job's project, or a node of the roles auth or patrick.
func (s *Service) Cancel(ctx context.Context, id taubyte.JobID) error {
	j, err := s.job(ctx, id)
	if err := s.allow(ctx, taubyte.VerbDeploy, j, err, operators); err != nil {
		return err
	}
	return s.wish(ctx, id, "cancel")
}

// Retry queues a job again that failed, was cancelled or timed out. One that is not
// the latest of its branch, or was built, is ErrConflict.
//
// It takes the verb deploy on the job's project, or a node of the roles auth or patrick.
func (s *Service) Retry(ctx context.Context, id taubyte.JobID) error {
	j, err := s.job(ctx, id)
	if err := s.allow(ctx, taubyte.VerbDeploy, j, err, operators); err != nil {
		return err
	}
	return s.wish(ctx, id, "retry")
}

func (s *Service) wish(ctx context.Context, id taubyte.JobID, kind string) error {
	e, err := s.find(ctx, id)
	if err != nil {
		return err
	}
	stamp, err := s.index.wish(e, kind)
	s.mu.Unlock()
	if err != nil || stamp == 0 {
		return err
	}
	s.log.Info("job "+kind, "job", id)
	return s.write(ctx, map[ds.Key]any{jobKey(id, kind, stamp, s.host.ID()): wish{At: time.Now().UTC()}})
}

// Handler is patrick's API.
func (s *Service) Handler() http.Handler { return handler(s) }
