package tns

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/namespace"
	"github.com/ipfs/go-datastore/query"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/crdt"
	"github.com/taubyte/taubyte/internal/blockshare"
	"github.com/taubyte/taubyte/internal/rpc"
)

// Option changes what New makes.
type Option func(*options)

type options struct {
	zone         string
	open         bool
	verifiedOnly bool
	production   []taubyte.Branch
	history      int
	keys         KeyKeeper
	log          *slog.Logger
}

func (o *options) inProduction(b taubyte.Branch) bool { return slices.Contains(o.production, b) }

// WithZone sets the DNS zone of generated names: those of previews, and those that
// belong to a project by having the end of its id in them. The default is none.
func WithZone(zone string) Option {
	return func(o *options) { o.zone = strings.ToLower(strings.Trim(zone, ".")) }
}

// WithOpenDomains takes every host name as verified for whoever configures it
// first, and with a zone also serves it as <name>.<zone>. It is for development: the
// default wants proof, because names are worth something.
func WithOpenDomains() Option { return func(o *options) { o.open = true } }

// WithProductionBranches sets the branches that are served under a project's own
// host names, the first that is deployed counting. The default is main, then
// master. All others are previews.
func WithProductionBranches(branches ...taubyte.Branch) Option {
	return func(o *options) { o.production = branches }
}

// WithVerifiedOnly serves a host name only for a project that it was generated for or
// that showed that it owns it (Verify). The default also serves names that nobody
// verified, for whoever claimed them first: a program of one's own has no strangers, and
// a name leads here only if its owner's DNS says so. A network where strangers publish
// wants this option; package cloud gives it to every node that is not for development.
func WithVerifiedOnly() Option { return func(o *options) { o.verifiedOnly = true } }

// WithHistory sets how many deployments of each branch are kept; it is at least 2,
// the current one and one to go back to. The default is 100: each is as large as the
// configuration. All nodes of the registry should have the same number.
func WithHistory(n int) Option { return func(o *options) { o.history = max(n, 2) } }

// WithLogger sets where the service logs. The default is slog.Default().
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.log = l } }

// Service is the registry on one node. It is safe for concurrent use.
type Service struct {
	host    taubyte.Host
	store   *crdt.Store
	blocks  *blockshare.Blocks // deployments, for the other services of the registry
	opts    options
	feed    *feed
	keeper  *keeper
	members *rpc.Client // other services of the registry
	server  *rpc.Server

	publishing  branchLocks // one publication of a branch at a time on this node
	verifying   sync.Mutex  // one statement at a time
	reverifying sync.Mutex
	fetching    slots
	refetching  slots

	withdraw func()
	life     context.Context
	stop     context.CancelFunc
	wg       sync.WaitGroup
	ending   sync.RWMutex
	once     sync.Once
	ended    error
}

// New starts the registry on a node. ctx bounds the start only.
func New(ctx context.Context, host taubyte.Host, store taubyte.Datastore, opts ...Option) (*Service, error) {
	s := &Service{host: host, opts: options{production: []taubyte.Branch{"main", "master"}, history: defaultHistory, log: slog.Default()}}
	for _, opt := range opts {
		opt(&s.opts)
	}
	s.feed = newFeed(&s.opts)
	s.keeper = newKeeper(func(ctx context.Context, c cid.Cid) error {
		_, err := s.localOr(ctx, c)
		return err
	})
	s.fetching, s.refetching = make(slots, 64), make(slots, 16)
	life, stop := context.WithCancel(context.Background())
	s.life, s.stop = life, stop
	s.members = rpc.NewClient(host, Protocol, nil)
	s.blocks = blockshare.New(host, namespace.Wrap(store, ds.NewKey("/tns")), taubyte.RoleTNS)
	if err := s.start(ctx, life, store); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Service) start(ctx, life context.Context, store taubyte.Datastore) (err error) {
	s.store, err = crdt.Open(ctx, s.host, store, "tns", crdt.WithWriters(taubyte.RoleTNS), crdt.WithLogger(s.opts.log))
	if err != nil {
		return err
	}
	// Watch first, then load: what changes in between is seen twice, not never.
	events, err := s.store.Watch(life, ds.NewKey(historyPrefix), 0)
	if err != nil {
		return err
	}
	verified, err := s.store.Watch(life, ds.NewKey(verifiedPrefix), 0)
	if err != nil {
		return err
	}
	nodes, err := s.store.Watch(life, ds.NewKey(nodesPrefix), 0)
	if err != nil {
		return err
	}
	if err := s.nodeNames(ctx); err != nil {
		return fmt.Errorf("loading the names of nodes: %w", err)
	}
	if err := s.reverify(ctx, ""); err != nil {
		return fmt.Errorf("loading who owns which host: %w", err)
	}
	missing, objects, err := s.load(ctx)
	if err != nil {
		return fmt.Errorf("loading the registry: %w", err)
	}
	s.wg.Go(func() { s.follow(life, events, missing) })
	s.wg.Go(func() { s.followVerified(life, verified) })
	s.wg.Go(func() { s.followNodes(life, nodes) })
	s.wg.Go(func() { s.keeper.run(life) })
	s.wg.Go(func() { s.moveKeys(life, store) })
	s.wg.Go(func() {
		for _, c := range objects {
			if life.Err() != nil {
				return
			}
			s.keep(life, c)
		}
	})
	if s.server, err = rpc.Serve(s.host, Protocol, s.Handler()); err != nil {
		return err
	}
	s.withdraw, err = s.host.Provide(Protocol, s)
	return err
}

// Close ends the service. It may be called twice.
func (s *Service) Close() error {
	s.once.Do(func() {
		if s.withdraw != nil {
			s.withdraw()
		}
		s.ending.Lock() // nothing begins any more
		s.stop()
		s.ending.Unlock()
		s.feed.close()
		var errs []error
		if s.server != nil {
			errs = append(errs, s.server.Close())
		}
		s.wg.Wait()
		s.blocks.Stop()
		s.members.Close()
		if s.store != nil {
			errs = append(errs, s.store.Close())
		}
		s.ended = errors.Join(errs...)
	})
	return s.ended
}

// load reads which deployments are current, and returns the branches whose
// deployment is not on this node yet, and the objects of all deployments that ever
// were. Only the current ones are read, several at a time: a registry of 10,000
// projects is a gigabyte of JSON if all of it is.
func (s *Service) load(ctx context.Context) (missing []branchKey, objects []cid.Cid, err error) {
	branches := map[branchKey][]entry{}
	err = s.eachEntry(ctx, historyPrefix, func(e entry) {
		branches[e.branchKey] = append(branches[e.branchKey], e)
		objects = append(objects, e.object)
	})
	if err != nil {
		return nil, nil, err
	}
	work := make(chan []entry)
	var mu sync.Mutex
	var readers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		readers.Go(func() {
			for entries := range work {
				h, err := s.resolve(ctx, entries, s.local)
				if err != nil {
					mu.Lock()
					missing = append(missing, entries[0].branchKey)
					mu.Unlock()
					continue
				}
				s.feed.swap(nil, h)
			}
		})
	}
	for _, entries := range branches {
		work <- entries
	}
	close(work)
	readers.Wait()
	return missing, objects, ctx.Err()
}

func (s *Service) eachEntry(ctx context.Context, prefix string, do func(entry)) error {
	results, err := s.store.Query(ctx, query.Query{Prefix: prefix})
	if err != nil {
		return err
	}
	defer results.Close()
	for r := range results.Next() {
		if r.Error != nil {
			return r.Error
		}
		e, err := parseEntry(r.Key)
		if err != nil {
			s.opts.log.Warn("registry entry skipped", "err", err)
			continue
		}
		var o origin
		if err := json.Unmarshal(r.Value, &o); err != nil {
			s.opts.log.Warn("registry entry skipped", "key", r.Key, "err", err)
			continue
		}
		e.origin = o
		do(e)
	}
	return ctx.Err()
}

type fetcher func(context.Context, cid.Cid) ([]byte, error)

// slots bound how many deployments are fetched at once. What could not be had has
// slots of its own when it is tried again, so that it holds up nothing new.
type slots chan struct{}

// fetch gets a deployment's block from here or wherever it is, and keeps it here.
func (s *Service) fetch(ctx context.Context, c cid.Cid) ([]byte, error) {
	return s.fetchIn(ctx, s.fetching, c)
}

func (s *Service) refetch(ctx context.Context, c cid.Cid) ([]byte, error) {
	return s.fetchIn(ctx, s.refetching, c)
}

func (s *Service) fetchIn(ctx context.Context, in slots, c cid.Cid) ([]byte, error) {
	if raw, err := s.local(ctx, c); err == nil {
		return raw, nil
	}
	select {
	case in <- struct{}{}:
		defer func() { <-in }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return s.localOr(ctx, c)
}

// entries lists the history of a branch.
func (s *Service) entries(ctx context.Context, k branchKey) (all []entry, err error) {
	err = s.eachEntry(ctx, k.prefix(), func(e entry) {
		if e.branchKey == k {
			all = append(all, e)
		}
	})
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%w: no deployment of %s %s", taubyte.ErrNotFound, k.project, k.branch)
	}
	return all, err
}

// head resolves what a branch runs.
func (s *Service) head(ctx context.Context, k branchKey, fetch fetcher) (head, error) {
	all, err := s.entries(ctx, k)
	if err != nil {
		return head{}, err
	}
	return s.resolve(ctx, all, fetch)
}

// resolve merges the tips of a branch's history.
func (s *Service) resolve(ctx context.Context, all []entry, fetch fetcher) (h head, err error) {
	for _, e := range tips(all) {
		raw, err := fetch(ctx, e.object)
		if err != nil {
			return head{}, fmt.Errorf("deployment %d of %s %s: %w", e.sequence, e.project, e.branch, err)
		}
		d, err := decode(raw)
		if err != nil {
			return head{}, err
		}
		if h.deployment == nil {
			h.deployment = d
		} else {
			h.deployment = merge(h.deployment, d)
		}
		h.tips = append(h.tips, e.object)
	}
	if h.deployment == nil {
		return head{}, fmt.Errorf("%w history: it has no end", taubyte.ErrInvalid)
	}
	h.branchKey, h.sequence, h.built, h.began = all[0].branchKey, h.deployment.Sequence, h.deployment.Built, h.deployment.began()
	if h.deployment.removed() {
		h.deployment = nil
	}
	return h, nil
}

// follow brings the feed up to date with the store. Each branch is resolved by
// itself, so that one whose deployment nobody has holds up no other.
func (s *Service) follow(ctx context.Context, events <-chan crdt.Event, missing []branchKey) {
	var mu sync.Mutex
	again := map[branchKey]bool{} // being resolved; true: and changed since
	resolve := func(k branchKey) {
		mu.Lock()
		defer mu.Unlock()
		if _, busy := again[k]; busy {
			again[k] = true
			return
		}
		again[k] = false
		s.wg.Go(func() {
			fetch := s.fetch
			const least, most = 100 * time.Millisecond, 10 * time.Second
			for wait := least; ctx.Err() == nil; wait = min(wait*2, most) {
				ok := s.update(ctx, k, fetch)
				fetch = s.refetch
				mu.Lock()
				if ok && !again[k] {
					delete(again, k)
					mu.Unlock()
					return
				}
				anew := again[k]
				again[k] = false
				mu.Unlock()
				if anew {
					wait, fetch = least/2, s.fetch
					continue
				}
				select {
				case <-time.After(wait):
				case <-ctx.Done():
				}
			}
		})
	}
	for _, k := range missing {
		resolve(k)
	}
	for e := range events {
		if e.Lost {
			if err := s.eachEntry(ctx, historyPrefix, func(e entry) {
				s.keep(ctx, e.object)
				resolve(e.branchKey)
			}); err != nil && ctx.Err() == nil {
				s.opts.log.Warn("registry not read", "err", err)
			}
			continue
		}
		changed, err := parseEntry(e.Key.String())
		switch {
		case err != nil: // said where it was read
		case e.Deleted:
			s.forget(ctx, changed.object)
		default:
			s.keep(ctx, changed.object)
			resolve(changed.branchKey)
		}
	}
}

// update resolves a branch anew. It reports false when the deployment could not
// be had yet.
func (s *Service) update(ctx context.Context, k branchKey, fetch fetcher) bool {
	_, err := s.current(ctx, k, fetch)
	if err != nil && ctx.Err() == nil && !errors.Is(err, taubyte.ErrNotFound) {
		s.opts.log.Warn("deployment not read", "project", k.project, "branch", k.branch, "err", err)
	}
	return err == nil || errors.Is(err, taubyte.ErrNotFound)
}

// current brings the feed up to date with the store, of one branch.
func (s *Service) current(ctx context.Context, k branchKey, fetch fetcher) (head, error) {
	for {
		before := s.feed.tips(k)
		h, err := s.head(ctx, k, fetch)
		if err != nil || s.feed.swap(before, h) {
			return h, err
		}
	}
}

// Publish adds a part to what a branch runs and makes the whole current, in one
// step. The parts of other repositories stay as they are. A part whose Order is not
// beyond all that the branch had of its repository is ErrConflict: a newer build was
// first. The part that is there, once more, changes nothing. One of a job whose project
// was deleted after the push is ErrForbidden. Host names that another project has, or
// that the registry does not serve, are no error: the answer lists them (Conflicts).
//
// It takes a node of the roles monkey or tns, the verb deploy on the project, or the job
// that the part names, of this branch.
func (s *Service) Publish(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch, part Part) (*Deployment, error) {
	if err := taubyte.AllowJob(ctx, project, branch, part.Job, publishers...); err != nil {
		return nil, err
	}
	if p := taubyte.PrincipalOf(ctx); p.Kind == taubyte.KindJob && part.Job == "" {
		return nil, fmt.Errorf("%w: %s publishes a part that names no job", taubyte.ErrForbidden, p)
	}
	if err := checkPart(project, branch, part); err != nil {
		return nil, err
	}
	if err := s.afterEnd(ctx, project, part); err != nil {
		return nil, err
	}
	d, err := s.change(ctx, branchKey{project, branch}, func(now *Deployment, built map[taubyte.RepositoryID]uint64) (map[taubyte.RepositoryID]Part, error) {
		parts := map[taubyte.RepositoryID]Part{}
		if now != nil {
			maps.Copy(parts, now.Parts)
		}
		have, ok := parts[part.Repository]
		if ok && have.Order == part.Order && have.Commit == part.Commit {
			return nil, errUnchanged
		}
		if order, known := built[part.Repository]; known && part.Order <= order {
			return nil, fmt.Errorf("%w: %s %s has had a newer build of %s", taubyte.ErrConflict, project, branch, part.Repository)
		}
		parts[part.Repository] = part
		return parts, nil
	})
	if err != nil {
		return nil, err
	}
	// The project may have been deleted in the meantime, at another node: who did that has
	// not seen this.
	if late := s.afterEnd(ctx, project, part); errors.Is(late, taubyte.ErrForbidden) {
		if err := s.Remove(taubyte.AsService(ctx), project, branch); err != nil {
			return nil, errors.Join(late, err)
		}
		return nil, late
	}
	if d == nil {
		return nil, nil
	}
	return s.withConflicts(d), nil
}

// withConflicts adds to what is published which of its host names it does not have.
func (s *Service) withConflicts(d *Deployment) *Deployment {
	h, ok := s.feed.get(branchKey{d.Project, d.Branch})
	if !ok || len(h.conflicts) == 0 {
		return d
	}
	told := *d
	told.Conflicts = h.conflicts
	return &told
}

var errUnchanged = errors.New("nothing to change")

func checkProject(project taubyte.ProjectID) error {
	if project == "" || strings.Contains(string(project), "/") {
		return fmt.Errorf("%w project %q", taubyte.ErrInvalid, project)
	}
	return nil
}

func checkPart(project taubyte.ProjectID, branch taubyte.Branch, part Part) error {
	if err := checkProject(project); err != nil {
		return err
	}
	switch {
	case branch == "":
		return fmt.Errorf("%w deployment: no branch", taubyte.ErrInvalid)
	case part.Repository == "":
		return fmt.Errorf("%w deployment: no repository", taubyte.ErrInvalid)
	case part.Config != nil && part.Config.ID != project:
		return fmt.Errorf("%w deployment: the configuration is of project %s, not %s", taubyte.ErrInvalid, part.Config.ID, project)
	}
	return checkKeys(part.Config)
}

// change publishes what next makes of the current deployment, given the largest
// orders that were published before; nil removes the branch.
func (s *Service) change(ctx context.Context, k branchKey, next func(*Deployment, map[taubyte.RepositoryID]uint64) (map[taubyte.RepositoryID]Part, error)) (*Deployment, error) {
	unlock, err := s.publishing.lock(ctx, k)
	if err != nil {
		return nil, err
	}
	defer unlock()
	now, ok := s.feed.get(k)
	if !ok {
		// Either the branch is new, or what it runs is not on this node yet.
		if now, err = s.current(ctx, k, s.fetch); err != nil && !errors.Is(err, taubyte.ErrNotFound) {
			return nil, fmt.Errorf("%w: %w", taubyte.ErrUnavailable, err)
		}
	}
	parts, err := next(now.deployment, now.built)
	if errors.Is(err, errUnchanged) {
		return now.deployment, nil
	}
	if err != nil {
		return nil, err
	}
	d := &Deployment{
		Project: k.project, Branch: k.branch, Sequence: now.sequence + 1, Time: time.Now().UTC().Round(0),
		Parts: parts, Built: map[taubyte.RepositoryID]uint64{},
	}
	maps.Copy(d.Built, now.built)
	for id, p := range parts {
		d.Built[id] = max(d.Built[id], p.Order)
	}
	d.Claims, d.Began = s.feed.claimTimes(d), s.feed.beginning(d)
	kept, err := cut(d)
	if err != nil {
		return nil, err
	}
	e := entry{branchKey: k, sequence: d.Sequence, object: kept.head.Cid(), origin: origin{Time: d.Time, Follows: now.tips, Removed: d.removed()}}
	h := head{branchKey: k, sequence: d.Sequence, built: d.Built, began: d.Began, tips: []cid.Cid{e.object}}
	if !d.removed() {
		h.deployment = d
	}
	if err := s.publishAs(ctx, e, kept, h); err != nil {
		return nil, err
	}
	return h.deployment, nil
}

// record adds an entry to the history, and takes out those that are too old, in one
// step.
func (s *Service) record(ctx context.Context, e entry) error {
	value, err := json.Marshal(e.origin)
	if err != nil {
		return err
	}
	old, err := s.outdated(ctx, e)
	if err != nil {
		return err
	}
	if len(old) == 0 {
		return s.store.Put(ctx, e.key(), value)
	}
	batch, err := s.store.Batch(ctx)
	if err != nil {
		return err
	}
	if err := batch.Put(ctx, e.key(), value); err != nil {
		return err
	}
	slices.SortFunc(old, func(a, b entry) int { return cmp.Compare(a.sequence, b.sequence) })
	for _, gone := range old {
		if err := batch.Delete(ctx, gone.key()); err != nil {
			return err
		}
	}
	return batch.Commit(ctx)
}

// Remove takes a branch off the air. Its history stays.
//
// It takes a node of the roles auth, monkey or tns, a job of the branch, or the verb deploy
// on the project.
func (s *Service) Remove(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch) error {
	if err := taubyte.AllowJob(ctx, project, branch, "", append(slices.Clone(publishers), taubyte.RoleAuth)...); err != nil {
		return err
	}
	_, err := s.change(ctx, branchKey{project, branch}, func(now *Deployment, _ map[taubyte.RepositoryID]uint64) (map[taubyte.RepositoryID]Part, error) {
		if now == nil {
			return nil, errUnchanged
		}
		return nil, nil
	})
	return err
}

// Current returns what a branch runs.
//
// Every node may call it; of users, it takes the verb read on the project.
func (s *Service) Current(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch) (*Deployment, error) {
	if err := taubyte.Allow(ctx, taubyte.VerbRead, project, taubyte.Roles()...); err != nil {
		return nil, err
	}
	h, ok := s.feed.get(branchKey{project, branch})
	if !ok || h.deployment == nil {
		return nil, fmt.Errorf("%w: no deployment of %s %s", taubyte.ErrNotFound, project, branch)
	}
	return h.deployment, nil
}

// Watch tells what every branch runs now, then Ready, then every change. A token
// of an earlier Change leaves out what did not change since. A slow reader may miss
// states in between and never the last. The channel closes when ctx ends or the
// service closes.
//
// Every node may call it; of users, it takes the verb read on everything.
func (s *Service) Watch(ctx context.Context, after string) (<-chan Change, error) {
	if err := taubyte.Allow(ctx, taubyte.VerbRead, "", taubyte.Roles()...); err != nil {
		return nil, err
	}
	return s.feed.watch(ctx, scope{}, after), nil
}

// WatchProject is Watch of one project, or of one of its branches where branch is not
// "".
//
// Every node may call it; of users, it takes the verb read on the project.
func (s *Service) WatchProject(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch, after string) (<-chan Change, error) {
	if err := taubyte.Allow(ctx, taubyte.VerbRead, project, taubyte.Roles()...); err != nil {
		return nil, err
	}
	return s.feed.watch(ctx, scope{project, branch}, after), nil
}

// branchLocks are a mutex for each branch that is being changed.
type branchLocks struct {
	mu   sync.Mutex
	held map[branchKey]chan struct{} // closed when it is given up
}

func (l *branchLocks) lock(ctx context.Context, k branchKey) (unlock func(), err error) {
	for {
		l.mu.Lock()
		busy, ok := l.held[k]
		if !ok {
			if l.held == nil {
				l.held = map[branchKey]chan struct{}{}
			}
			done := make(chan struct{})
			l.held[k] = done
			l.mu.Unlock()
			return func() {
				l.mu.Lock()
				delete(l.held, k)
				l.mu.Unlock()
				close(done)
			}, nil
		}
		l.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Handler is the registry's API.
func (s *Service) Handler() http.Handler { return handler(s) }
