package tns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/crdt"
	"github.com/taubyte/taubyte/internal/rpc"
)

// Option changes what New makes.
type Option func(*options)

type options struct {
	zone       string
	open       bool
	production []taubyte.Branch
	log        *slog.Logger
}

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

// WithLogger sets where the service logs. The default is slog.Default().
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.log = l } }

// Service is the registry on one node. It is safe for concurrent use.
type Service struct {
	host   taubyte.Host
	store  *crdt.Store
	opts   options
	feed   *feed
	server *rpc.Server

	publishing sync.Mutex // one publication at a time on this node
	withdraw   func()
	stop       context.CancelFunc
	wg         sync.WaitGroup
	once       sync.Once
	ended      error
}

// New starts the registry on a node. ctx bounds the start only.
func New(ctx context.Context, host taubyte.Host, store taubyte.Datastore, opts ...Option) (*Service, error) {
	o := options{production: []taubyte.Branch{"main", "master"}, log: slog.Default()}
	for _, opt := range opts {
		opt(&o)
	}
	life, stop := context.WithCancel(context.Background())
	s := &Service{host: host, opts: o, feed: newFeed(), stop: stop}
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
	missing, err := s.load(ctx)
	if err != nil {
		return fmt.Errorf("loading the registry: %w", err)
	}
	s.wg.Go(func() { s.follow(life, events, missing) })
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
		s.stop()
		s.feed.close()
		var errs []error
		if s.server != nil {
			errs = append(errs, s.server.Close())
		}
		s.wg.Wait()
		if s.store != nil {
			errs = append(errs, s.store.Close())
		}
		s.ended = errors.Join(errs...)
	})
	return s.ended
}

// load reads which deployments are current, and returns the branches whose
// deployment is not on this node yet.
func (s *Service) load(ctx context.Context) (missing []branchKey, err error) {
	branches := map[branchKey][]entry{}
	err = s.eachEntry(ctx, ds.NewKey(historyPrefix), func(e entry) {
		branches[e.branchKey] = append(branches[e.branchKey], e)
	})
	if err != nil {
		return nil, err
	}
	local := s.host.Blocks().Blockstore()
	for k, entries := range branches {
		h, err := s.resolve(ctx, entries, func(ctx context.Context, c cid.Cid) ([]byte, error) {
			b, err := local.Get(ctx, c)
			if err != nil {
				return nil, err
			}
			return b.RawData(), nil
		})
		if err != nil {
			missing = append(missing, k)
			continue
		}
		s.feed.set(k, h)
	}
	return missing, nil
}

func (s *Service) eachEntry(ctx context.Context, prefix ds.Key, do func(entry)) error {
	results, err := s.store.Query(ctx, query.Query{Prefix: prefix.String()})
	if err != nil {
		return err
	}
	defer results.Close()
	for r := range results.Next() {
		if r.Error != nil {
			return r.Error
		}
		e, err := parseEntry(ds.RawKey(r.Key))
		if err != nil {
			s.opts.log.Warn("registry entry skipped", "err", err)
			continue
		}
		var o origin
		if err := json.Unmarshal(r.Value, &o); err != nil {
			s.opts.log.Warn("registry entry skipped", "key", r.Key, "err", err)
			continue
		}
		e.follows = o.Follows
		do(e)
	}
	return ctx.Err()
}

type fetcher func(context.Context, cid.Cid) ([]byte, error)

// fetch gets a deployment's block from wherever it is, and keeps it here.
func (s *Service) fetch(ctx context.Context, c cid.Cid) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	b, err := s.host.Blocks().GetBlock(ctx, c)
	if err != nil {
		return nil, err
	}
	return b.RawData(), nil
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
func (s *Service) head(ctx context.Context, k branchKey) (head, error) {
	all, err := s.entries(ctx, k)
	if err != nil {
		return head{}, err
	}
	return s.resolve(ctx, all, s.fetch)
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
	h.sequence, h.built = h.deployment.Sequence, h.deployment.Built
	if h.deployment.removed() {
		h.deployment = nil
		return h, nil
	}
	h.hosts, err = s.claims(ctx, h.deployment)
	return h, err
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
			for wait := 100 * time.Millisecond; ctx.Err() == nil; wait = min(wait*2, 10*time.Second) {
				ok := s.update(ctx, k)
				mu.Lock()
				if ok && !again[k] {
					delete(again, k)
					mu.Unlock()
					return
				}
				if again[k] {
					wait = 0
				}
				again[k] = false
				mu.Unlock()
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
			if err := s.eachEntry(ctx, ds.NewKey(historyPrefix), func(e entry) { resolve(e.branchKey) }); err != nil && ctx.Err() == nil {
				s.opts.log.Warn("registry not read", "err", err)
			}
			continue
		}
		if parsed, err := parseEntry(e.Key); err == nil {
			resolve(parsed.branchKey)
		}
	}
}

// update resolves a branch anew. It reports false when the deployment could not
// be had yet.
func (s *Service) update(ctx context.Context, k branchKey) bool {
	h, err := s.head(ctx, k)
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, taubyte.ErrNotFound) {
			s.opts.log.Warn("deployment not read", "project", k.project, "branch", k.branch, "err", err)
		}
		return errors.Is(err, taubyte.ErrNotFound)
	}
	s.feed.set(k, h)
	return true
}

func sameDeployment(a, b *Deployment) bool {
	if a == nil || b == nil {
		return a == b
	}
	ba, errA := encode(a)
	bb, errB := encode(b)
	return errA == nil && errB == nil && ba.Cid() == bb.Cid()
}

// claims returns the host names of a deployment, recording those that the project
// claims for the first time.
func (s *Service) claims(ctx context.Context, d *Deployment) ([]HostClaim, error) {
	c := d.Config()
	if c == nil {
		return nil, nil
	}
	rank := slices.Index(s.opts.production, d.Branch)
	production := rank >= 0
	var all []HostClaim
	for _, dom := range domains(c) {
		host := dom.FQDN
		verified := s.opts.open || generated(host, s.opts.zone, d.Project)
		if !production {
			if host, verified = previewHost(d.Branch, dom.FQDN, s.opts.zone), true; host == "" {
				continue
			}
		}
		since, err := s.claimedSince(ctx, host, d)
		if err != nil {
			return nil, err
		}
		all = append(all, HostClaim{Host: host, Domain: dom.ID, Verified: verified, Since: since, Rank: rank})
		if alias := s.alias(dom.FQDN); production && alias != "" {
			if since, err = s.claimedSince(ctx, alias, d); err != nil {
				return nil, err
			}
			all = append(all, HostClaim{Host: alias, Domain: dom.ID, Verified: true, Since: since, Rank: rank})
		}
	}
	return all, nil
}

// alias is the name under the zone by which a host of another zone is reached as
// well, where every host name is taken as verified: a developer's machine need not
// be told who www.example.com is.
func (s *Service) alias(fqdn string) string {
	if !s.opts.open || s.opts.zone == "" || fqdn == s.opts.zone || strings.HasSuffix(fqdn, "."+s.opts.zone) || strings.HasPrefix(fqdn, "*.") {
		return ""
	}
	return fqdn + "." + s.opts.zone
}

// claimedSince reads, or writes, when a project first claimed a name: the key
// /claims/<host>/<project>, which only ever gets the one value that is known first.
func (s *Service) claimedSince(ctx context.Context, host string, d *Deployment) (time.Time, error) {
	key := ds.RawKey("/claims/" + host + "/" + string(d.Project))
	raw, err := s.store.Get(ctx, key)
	if err == nil {
		since, err := time.Parse(time.RFC3339Nano, string(raw))
		return since, err
	}
	if !errors.Is(err, ds.ErrNotFound) {
		return time.Time{}, err
	}
	since := d.Time.UTC()
	return since, s.store.Put(ctx, key, []byte(since.Format(time.RFC3339Nano)))
}

// Publish adds a part to what a branch runs and makes the whole current, in one
// step. The parts of other repositories stay as they are. A part whose Order is not
// beyond all that the branch had of its repository is ErrConflict: a newer build was
// first. The part that is there, once more, changes nothing.
func (s *Service) Publish(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch, part Part) (*Deployment, error) {
	if err := checkPart(project, branch, part); err != nil {
		return nil, err
	}
	return s.change(ctx, branchKey{project, branch}, func(now *Deployment, built map[taubyte.RepositoryID]uint64) (map[taubyte.RepositoryID]Part, error) {
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
}

var errUnchanged = errors.New("nothing to change")

func checkPart(project taubyte.ProjectID, branch taubyte.Branch, part Part) error {
	switch {
	case project == "" || strings.Contains(string(project), "/"):
		return fmt.Errorf("%w project %q", taubyte.ErrInvalid, project)
	case branch == "":
		return fmt.Errorf("%w deployment: no branch", taubyte.ErrInvalid)
	case part.Repository == "":
		return fmt.Errorf("%w deployment: no repository", taubyte.ErrInvalid)
	case part.Config != nil && part.Config.ID != project:
		return fmt.Errorf("%w deployment: the configuration is of project %s, not %s", taubyte.ErrInvalid, part.Config.ID, project)
	}
	return nil
}

// change publishes what next makes of the current deployment, given the largest
// orders that were published before; nil removes the branch.
func (s *Service) change(ctx context.Context, k branchKey, next func(*Deployment, map[taubyte.RepositoryID]uint64) (map[taubyte.RepositoryID]Part, error)) (*Deployment, error) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	now, ok := s.feed.get(k)
	if !ok {
		// Either the branch is new, or what it runs is not on this node yet.
		var err error
		if now, err = s.head(ctx, k); err != nil && !errors.Is(err, taubyte.ErrNotFound) {
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
	d := &Deployment{Project: k.project, Branch: k.branch, Sequence: now.sequence + 1, Time: time.Now().UTC(), Parts: parts, Built: map[taubyte.RepositoryID]uint64{}}
	maps.Copy(d.Built, now.built)
	for id, p := range parts {
		d.Built[id] = max(d.Built[id], p.Order)
	}
	block, err := encode(d)
	if err != nil {
		return nil, err
	}
	if err := s.host.Blocks().AddBlock(ctx, block); err != nil {
		return nil, fmt.Errorf("keeping the deployment: %w", err)
	}
	h := head{sequence: d.Sequence, built: d.Built, tips: []cid.Cid{block.Cid()}}
	if !d.removed() {
		h.deployment = d
		if h.hosts, err = s.claims(ctx, d); err != nil {
			return nil, err
		}
	}
	e := entry{branchKey: k, sequence: d.Sequence, object: block.Cid()}
	value, err := json.Marshal(origin{Time: d.Time, Follows: now.tips})
	if err != nil {
		return nil, err
	}
	if err := s.store.Put(ctx, e.key(), value); err != nil {
		return nil, fmt.Errorf("publishing %s %s: %w", k.project, k.branch, err)
	}
	s.feed.set(k, h)
	return h.deployment, nil
}

// Remove takes a branch off the air. Its history stays.
func (s *Service) Remove(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch) error {
	_, err := s.change(ctx, branchKey{project, branch}, func(now *Deployment, _ map[taubyte.RepositoryID]uint64) (map[taubyte.RepositoryID]Part, error) {
		if now == nil {
			return nil, errUnchanged
		}
		return nil, nil
	})
	return err
}

// Rollback makes an earlier deployment of the branch current again, as a new one.
// Builds of later pushes win over it; those that were published before do not come
// back by being delivered again.
func (s *Service) Rollback(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch, sequence uint64) (*Deployment, error) {
	history, err := s.History(ctx, project, branch)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(history, func(d *Deployment) bool { return d.Sequence == sequence })
	if i < 0 {
		return nil, fmt.Errorf("%w: no deployment %d of %s %s", taubyte.ErrNotFound, sequence, project, branch)
	}
	return s.change(ctx, branchKey{project, branch}, func(*Deployment, map[taubyte.RepositoryID]uint64) (map[taubyte.RepositoryID]Part, error) {
		return history[i].Parts, nil
	})
}

// Current returns what a branch runs.
func (s *Service) Current(_ context.Context, project taubyte.ProjectID, branch taubyte.Branch) (*Deployment, error) {
	h, ok := s.feed.get(branchKey{project, branch})
	if !ok || h.deployment == nil {
		return nil, fmt.Errorf("%w: no deployment of %s %s", taubyte.ErrNotFound, project, branch)
	}
	return h.deployment, nil
}

// History returns the deployments that a branch has run, the newest first.
func (s *Service) History(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch) ([]*Deployment, error) {
	entries, err := s.entries(ctx, branchKey{project, branch})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(entries, func(a, b entry) int { return int(int64(b.sequence) - int64(a.sequence)) })
	var all []*Deployment
	for _, e := range entries {
		raw, err := s.fetch(ctx, e.object)
		if err != nil {
			return nil, fmt.Errorf("deployment %d of %s %s: %w", e.sequence, project, branch, err)
		}
		d, err := decode(raw)
		if err != nil {
			return nil, err
		}
		if !d.removed() {
			all = append(all, d)
		}
	}
	return all, nil
}

// A Summary is a project in a list.
type Summary struct {
	Project  taubyte.ProjectID `json:"project"`
	Name     string            `json:"name"`
	Branches []BranchSummary   `json:"branches"`
}

// A BranchSummary is what a branch runs, in short.
type BranchSummary struct {
	Branch   taubyte.Branch `json:"branch"`
	Commit   taubyte.Commit `json:"commit"`
	Sequence uint64         `json:"sequence"`
	Time     time.Time      `json:"time"`
}

// Projects lists the projects that have something deployed, by id.
func (s *Service) Projects(context.Context) ([]Summary, error) {
	changes, _, _, _ := s.feed.since(0)
	byID := map[taubyte.ProjectID]*Summary{}
	for _, c := range changes {
		if c.Deployment == nil {
			continue
		}
		p, ok := byID[c.Project]
		if !ok {
			p = &Summary{Project: c.Project}
			byID[c.Project] = p
		}
		if conf := c.Deployment.Config(); conf != nil {
			p.Name = conf.Name
		}
		p.Branches = append(p.Branches, BranchSummary{c.Branch, c.Deployment.Commit(), c.Deployment.Sequence, c.Deployment.Time})
	}
	all := make([]Summary, 0, len(byID))
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		p := byID[id]
		slices.SortFunc(p.Branches, func(a, b BranchSummary) int { return strings.Compare(string(a.Branch), string(b.Branch)) })
		all = append(all, *p)
	}
	return all, nil
}

// Watch tells what every branch runs now, then Ready, then every change. A token
// of an earlier Change leaves out what did not change since. A slow reader may miss
// states in between and never the last. The channel closes when ctx ends or the
// service closes.
func (s *Service) Watch(ctx context.Context, after string) (<-chan Change, error) {
	return s.feed.watch(ctx, after), nil
}

// Handler is the registry's API.
func (s *Service) Handler() http.Handler { return handler(s) }
