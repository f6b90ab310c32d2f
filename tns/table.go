package tns

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/pathtemplate"
)

// A Watcher tells of deployments: a Service, a Client, or a test's own.
type Watcher interface {
	Watch(ctx context.Context, after string) (<-chan Change, error)
}

// TableOption changes how a table follows the registry.
type TableOption func(*tableOptions)

type tableOptions struct {
	prepare func(context.Context, *Deployment) error
	log     *slog.Logger
}

// WithPrepare has f called before the routes of a deployment are used: to fetch
// and compile what they lead to. While it runs, and when it fails, the branch's
// earlier routes stay; after a failure it is called again. A newer deployment of the
// branch ends the context of the older one's call. Branches do not wait for each
// other, but for 64 at a time that are prepared first, and as many that are prepared
// again.
func WithPrepare(f func(context.Context, *Deployment) error) TableOption {
	return func(o *tableOptions) { o.prepare = f }
}

// WithTableLogger sets where the table logs. The default is slog.Default().
func WithTableLogger(l *slog.Logger) TableOption { return func(o *tableOptions) { o.log = l } }

// MatchStatus says how a look-up ended.
type MatchStatus int

// The outcomes of Lookup.
const (
	Found    MatchStatus = iota
	NoHost               // nobody has the host name
	NoPath               // the host is known and nothing is at the path
	NoMethod             // the path is known with other methods: Match.Allow
)

// A Match is the outcome of Lookup.
type Match struct {
	Status MatchStatus
	Route  *Route // of Found
	Allow  string // of NoMethod: the methods that the path takes

	template *pathtemplate.Template // of Found at a path with wildcards
}

// SetPath gives a request what its path stands for: the values of the wildcards of the
// route's path (r.PathValue), and r.Pattern, which is that path, as in "/items/{id}", and
// empty where the route has no wildcards.
func (m Match) SetPath(r *http.Request) {
	r.Pattern = ""
	if m.template == nil {
		return
	}
	r.Pattern = m.template.String()
	values := m.template.Values(r.URL)
	for i, name := range m.template.Names() {
		r.SetPathValue(name, values[i])
	}
}

// Table is the routing table of a node, in memory and kept current by a watch. It
// keeps what it knows while the registry is away. Lookup takes no lock; all methods
// may be called concurrently.
type Table struct {
	opts    tableOptions
	watcher Watcher

	index atomic.Pointer[index]
	seen  atomic.Int64 // when the registry was last heard, in Unix nanoseconds; 0: never
	ready chan struct{}

	stop context.CancelFunc
	wg   sync.WaitGroup

	first chan struct{} // places for preparations
	again chan struct{} // and for those that have failed before, which may be slow to fail

	mu       sync.Mutex
	branches map[branchKey]*branchState
	changed  chan struct{}
}

type branchState struct {
	hosts     []string           // in the index
	live      *Change            // whose routes are used
	want      *Change            // the newest known
	preparing context.CancelFunc // ends the preparation of an older one
}

// preparations is how many deployments are prepared at a time.
const preparations = 64

// NewTable begins to follow a registry and returns at once. Close ends it.
func NewTable(_ context.Context, w Watcher, opts ...TableOption) (*Table, error) {
	t := &Table{
		opts:     tableOptions{log: slog.Default()},
		watcher:  w,
		ready:    make(chan struct{}),
		branches: map[branchKey]*branchState{},
		changed:  make(chan struct{}),
		first:    make(chan struct{}, preparations),
		again:    make(chan struct{}, preparations),
	}
	for _, o := range opts {
		o(&t.opts)
	}
	t.index.Store(newIndex())
	ctx, stop := context.WithCancel(context.Background())
	t.stop = stop
	t.wg.Go(func() { t.follow(ctx) })
	return t, nil
}

// Close ends the table and returns when what it began has ended. Look-ups go on
// with what it last knew.
func (t *Table) Close() error {
	t.stop()
	t.wg.Wait()
	return nil
}

// Age is how long ago the registry was last heard, and false while it never was.
// A table that is being followed has age 0.
func (t *Table) Age() (time.Duration, bool) {
	switch seen := t.seen.Load(); seen {
	case 0:
		return 0, false
	case following:
		return 0, true
	default:
		return time.Since(time.Unix(0, seen)), true
	}
}

// following stands for a moment that has not ended.
const following = -1

// Ready is closed when the table has the registry's first snapshot, and, with
// WithPrepare, has tried to prepare it.
func (t *Table) Ready() <-chan struct{} { return t.ready }

// follow watches for ever, with a pause that grows while the registry is away.
func (t *Table) follow(ctx context.Context) {
	const least, most = 50 * time.Millisecond, 2 * time.Second
	token, wait := "", least
	for ctx.Err() == nil {
		changes, err := t.watcher.Watch(ctx, token)
		if err == nil {
			if next := t.consume(ctx, changes); next != "" {
				token, wait = next, least
			}
		} else if ctx.Err() == nil {
			t.opts.log.Debug("registry not reached", "err", err)
		}
		select {
		case <-time.After(wait):
			wait = min(wait*2, most)
		case <-ctx.Done():
		}
	}
}

// consume applies changes until the channel closes, and returns the last token.
func (t *Table) consume(ctx context.Context, changes <-chan Change) (token string) {
	var snapshot []Change
	ready := false
	for c := range changes {
		t.seen.Store(following)
		switch {
		case c.Ready:
			ready = true
			t.apply(ctx, snapshot)
			snapshot = nil
		case ready:
			t.apply(ctx, []Change{c})
		default:
			snapshot = append(snapshot, c)
			continue
		}
		token = c.Token
	}
	if t.seen.Load() == following {
		t.seen.Store(time.Now().UnixNano())
	}
	return token
}

// apply takes changes in: at once without a preparation, after it with one.
func (t *Table) apply(ctx context.Context, changes []Change) {
	var prepared sync.WaitGroup
	t.mu.Lock()
	var now []branchKey
	for _, c := range changes {
		k := branchKey{c.Project, c.Branch}
		b, ok := t.branches[k]
		if !ok {
			b = &branchState{}
			t.branches[k] = b
		}
		if b.want != nil && c.Sequence < b.want.Sequence {
			continue // from a replica that lags behind the one before
		}
		if b.preparing != nil {
			b.preparing()
			b.preparing = nil
		}
		b.want = &c
		// What is used already is ready: only its host names' fate changed, or another
		// registry says it once more.
		ready := b.live != nil && c.ID != "" && b.live.ID == c.ID
		if c.Deployment == nil || t.opts.prepare == nil || ready {
			b.live = &c
			now = append(now, k)
			continue
		}
		prep, cancel := context.WithCancel(ctx)
		b.preparing = cancel
		prepared.Add(1)
		t.wg.Go(func() {
			defer cancel()
			t.prepare(prep, k, &c, prepared.Done)
		})
	}
	t.rebuild(now)
	t.mu.Unlock()
	select {
	case <-t.ready:
	default:
		t.wg.Go(func() {
			prepared.Wait()
			t.mu.Lock()
			defer t.mu.Unlock()
			select {
			case <-t.ready:
			default:
				close(t.ready)
			}
		})
	}
}

// prepare readies a deployment, however often that takes, and then uses it. tried
// is called after the first time.
func (t *Table) prepare(ctx context.Context, k branchKey, c *Change, tried func()) {
	defer func() {
		if tried != nil {
			tried()
		}
	}()
	places := t.first
	for wait := 100 * time.Millisecond; ; wait = min(wait*2, 10*time.Second) {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return
		}
		err := t.opts.prepare(ctx, c.Deployment)
		<-places
		places = t.again
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			break
		}
		t.opts.log.Warn("deployment not ready", "project", k.project, "branch", k.branch, "sequence", c.Deployment.Sequence, "err", err)
		if tried != nil {
			tried()
			tried = nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if b := t.branches[k]; b.want == c {
		b.live = c
		b.preparing = nil
		t.rebuild([]branchKey{k})
	}
}

// rebuild swaps in the routes of branches that changed. mu is held.
func (t *Table) rebuild(branches []branchKey) {
	if len(branches) == 0 {
		return
	}
	next := t.index.Load().edit()
	for _, k := range branches {
		b := t.branches[k]
		b.hosts = next.set(k, b.hosts, b.live)
	}
	t.index.Store(next.index)
	close(t.changed)
	t.changed = make(chan struct{})
}

// Changed returns a channel that closes when routes change next.
func (t *Table) Changed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changed
}

// Serving returns the sequence of the deployment whose routes are used for a
// branch, 0 for none.
func (t *Table) Serving(project taubyte.ProjectID, branch taubyte.Branch) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if b, ok := t.branches[branchKey{project, branch}]; ok && b.live != nil && b.live.Deployment != nil {
		return b.live.Deployment.Sequence
	}
	return 0
}

// Deployments lists the deployments whose routes are used.
func (t *Table) Deployments() []*Deployment {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []*Deployment
	for _, b := range t.branches {
		if b.live != nil && b.live.Deployment != nil {
			all = append(all, b.live.Deployment)
		}
	}
	slices.SortFunc(all, func(a, b *Deployment) int {
		return strings.Compare(string(a.Project)+"/"+string(a.Branch), string(b.Project)+"/"+string(b.Branch))
	})
	return all
}
