package hoarder

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

// Grants says what nodes of role substrate may reach: they run strangers' code, so
// what such a node asks for is not enough. It is asked for every call of one and is safe
// for concurrent use.
type Grants interface {
	// Granted returns nil if the store is one of something that runs, ErrForbidden if it
	// is not, and ErrUnavailable where that is not known. kind is "database" or "storage".
	// With kind "content" it is asked whether the branch runs, and of the instance only
	// Project and Branch are set; with an empty kind, whether anything of the project runs,
	// and only Project is.
	Granted(ctx context.Context, kind string, i Instance) error
}

// WithGrants sets what decides which stores and contents nodes of role substrate may
// reach. The default asks the network's registry (package tns): a store must be declared
// by the configuration of the branch that runs, in that application, by its name or
// a regular expression that matches it, or be one of those that substrate keeps for each
// branch itself. Where no registry is in reach, such nodes get ErrUnavailable. Hoarders, and
// a program that calls the service on its own host, are not asked for a grant.
func WithGrants(g Grants) Option { return func(o *options) { o.grants = g } }

// GrantAll grants everything: for a network without a registry, whose substrate nodes
// are all trusted.
func GrantAll() Grants { return grantAll{} }

type grantAll struct{}

func (grantAll) Granted(context.Context, string, Instance) error { return nil }

// The scopes of stores that substrate keeps for a branch. No application has such an id.
const (
	globalsScope taubyte.ApplicationID = "@globals"
	contentScope taubyte.ApplicationID = "@content"
	// filesPrefix begins the names of the databases in which the files of an application's
	// storages are found by their contents.
	filesPrefix = "files/"
)

// registryGrants are the Grants that the registry's deployments give. It is watched from the
// first question on.
type registryGrants struct {
	s        *Service
	registry *tns.Client
	once     sync.Once
	heard    chan struct{} // closed when the watch has told all that there is

	mu       sync.Mutex
	projects map[taubyte.ProjectID]map[taubyte.Branch]*declared
	looked   map[branchKey]time.Time // the registry was asked, and had nothing more
}

type branchKey struct {
	project taubyte.ProjectID
	branch  taubyte.Branch
}

// declared is what a branch declares, and what it declared until a moment ago: calls of
// the deployment before may be under way.
type declared struct {
	sequence  uint64
	runs      bool
	names     map[declaredName]bool
	patterns  []pattern
	before    *declared
	beforeEnd time.Time
}

type declaredName struct {
	kind        kind
	application taubyte.ApplicationID
	name        string
}

type pattern struct {
	kind        kind
	application taubyte.ApplicationID
	regex       *regexp.Regexp
}

const (
	// outgoing is how long the stores of a deployment stay granted that another took the
	// place of.
	outgoing = time.Minute
	// lookUpWait bounds asking the registry for a deployment that was not heard of yet,
	// and lookUpAgain is how long its answer that there is nothing more counts.
	lookUpWait  = 2 * time.Second
	lookUpAgain = time.Second
	// maxLooked bounds how many such answers are remembered.
	maxLooked = 4096
)

func newRegistryGrants(s *Service) *registryGrants {
	return &registryGrants{
		s: s, registry: tns.NewClient(s.host), heard: make(chan struct{}),
		projects: map[taubyte.ProjectID]map[taubyte.Branch]*declared{}, looked: map[branchKey]time.Time{},
	}
}

// Granted implements Grants.
func (g *registryGrants) Granted(ctx context.Context, k string, i Instance) error {
	g.once.Do(func() {
		g.s.mu.Lock()
		defer g.s.mu.Unlock()
		if g.s.life.Err() == nil {
			g.s.wg.Go(func() { g.follow(g.s.life) })
		}
	})
	if g.has(kind(k), i) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookUpWait)
	defer cancel()
	select {
	case <-g.heard:
	case <-ctx.Done():
		return fmt.Errorf("%w: no registry says what runs", taubyte.ErrUnavailable)
	}
	if g.has(kind(k), i) {
		return nil
	}
	refused := fmt.Errorf("%w: nothing that runs of project %s declares it", taubyte.ErrForbidden, i.Project)
	if kind(k) == kindContent {
		refused = fmt.Errorf("%w: branch %.100q of project %s does not run", taubyte.ErrForbidden, i.Branch, i.Project)
	}
	if k == "" {
		return refused
	}
	// It may be a deployment that this node has yet to hear of. The registry is asked for a
	// branch once a second at most, whoever wants to know.
	key, began := branchKey{i.Project, i.Branch}, time.Now()
	for {
		g.mu.Lock()
		last := g.looked[key]
		if last.After(began) {
			g.mu.Unlock()
			return refused
		}
		wait := lookUpAgain - time.Since(last)
		if wait <= 0 {
			if len(g.looked) >= maxLooked {
				clear(g.looked)
			}
			g.looked[key] = time.Now()
		}
		g.mu.Unlock()
		if wait <= 0 {
			break
		}
		if !pause(ctx, wait) {
			return refused
		}
		if g.has(kind(k), i) {
			return nil
		}
	}
	d, err := g.registry.Current(ctx, i.Project, i.Branch)
	switch {
	case errors.Is(err, taubyte.ErrNotFound):
		return refused
	case err != nil:
		return fmt.Errorf("%w: the registry does not say what runs: %w", taubyte.ErrUnavailable, err)
	}
	g.take(d.Project, d.Branch, d.Sequence, d)
	if !g.has(kind(k), i) {
		return refused
	}
	return nil
}

func (g *registryGrants) has(k kind, i Instance) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	branches := g.projects[i.Project]
	if k == "" {
		for _, d := range branches {
			if d.runs {
				return true
			}
		}
		return false
	}
	for d := branches[i.Branch]; d != nil; d = d.before {
		if d.has(k, i) {
			return true
		}
		if time.Now().After(d.beforeEnd) {
			d.before = nil
		}
	}
	return false
}

func (d *declared) has(k kind, i Instance) bool {
	if !d.runs || k == kindContent {
		return d.runs
	}
	switch i.Application {
	case globalsScope:
		return k == kindDatabase && i.Name == "globals"
	case contentScope:
		return k == kindStorage && i.Name == "pushed" || k == kindDatabase && strings.HasPrefix(i.Name, filesPrefix)
	}
	if d.names[declaredName{k, i.Application, i.Name}] {
		return true
	}
	for _, p := range d.patterns {
		if p.kind == k && p.application == i.Application && p.regex.MatchString(i.Name) {
			return true
		}
	}
	return false
}

// take takes in what a branch runs; nil where it was removed.
func (g *registryGrants) take(project taubyte.ProjectID, branch taubyte.Branch, sequence uint64, d *tns.Deployment) {
	next := &declared{sequence: sequence, names: map[declaredName]bool{}}
	if d != nil {
		next.runs = true
		if c := d.Config(); c != nil {
			next.add("", &c.Resources)
			for i := range c.Applications {
				next.add(c.Applications[i].ID, &c.Applications[i].Resources)
			}
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	branches := g.projects[project]
	if branches == nil {
		branches = map[taubyte.Branch]*declared{}
		g.projects[project] = branches
	}
	if old := branches[branch]; old != nil {
		if sequence < old.sequence {
			return // of a registry that lags behind
		}
		if sequence == old.sequence {
			next.before, next.beforeEnd = old.before, old.beforeEnd
		} else {
			old.before = nil // one before is enough
			next.before, next.beforeEnd = old, time.Now().Add(outgoing)
		}
	}
	branches[branch] = next
}

func (d *declared) add(application taubyte.ApplicationID, r *config.Resources) {
	one := func(k kind, match string, regex bool) {
		if !regex {
			d.names[declaredName{k, application, match}] = true
		} else if compiled, err := regexp.Compile(match); err == nil {
			d.patterns = append(d.patterns, pattern{k, application, compiled})
		}
	}
	for i := range r.Databases {
		one(kindDatabase, r.Databases[i].Match, r.Databases[i].UseRegex)
	}
	for i := range r.Storages {
		one(kindStorage, r.Storages[i].Match, r.Storages[i].UseRegex)
	}
}

// follow watches the registry.
func (g *registryGrants) follow(ctx context.Context) {
	const least, most = 50 * time.Millisecond, 2 * time.Second
	defer g.registry.Close()
	token := ""
	for wait := least; ; wait = min(2*wait, most) {
		changes, err := g.registry.Watch(ctx, token)
		if err != nil && ctx.Err() == nil {
			g.s.o.log.Debug("the registry is not in reach", "err", err)
		}
		if err == nil {
			for c := range changes {
				wait = least
				if !c.Ready {
					g.take(c.Project, c.Branch, c.Sequence, c.Deployment)
				} else {
					g.all()
				}
				token = c.Token
			}
		}
		if !pause(ctx, wait) {
			return
		}
	}
}

func (g *registryGrants) all() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.heard:
	default:
		close(g.heard)
	}
}

// close ends what was made for a watch that never began.
func (g *registryGrants) close() {
	g.once.Do(func() { _ = g.registry.Close() })
}

// mayReach checks the principal of a call that uses a store, or has content opened. A
// function reaches what its branch has for all, what its own application has, and what
// substrate keeps for those. Others take the verb deploy on the project, or a
// node of role substrate or hoarder; what a node of role substrate asks for also has
// to be granted.
func mayReach(ctx context.Context, k kind, i Instance) error {
	if err := taubyte.AllowFunction(ctx, i.Project, i.Branch, users...); err != nil {
		return err
	}
	p := taubyte.PrincipalOf(ctx)
	if p.Kind != taubyte.KindFunction {
		return nil
	}
	switch i.Application {
	case "", p.Application, globalsScope:
		return nil
	case contentScope:
		of, files := strings.CutPrefix(i.Name, filesPrefix)
		if k != kindDatabase || files && (of == "" || of == string(p.Application)) {
			return nil
		}
	}
	return fmt.Errorf("%w: %s is not of the application %.100q", taubyte.ErrForbidden, p, i.Application)
}

// bound reports whether the caller of a request needs a grant.
func (s *Service) bound(r *http.Request) bool {
	m, ok := rpc.Caller(r.Context())
	return ok && m.Peer != s.host.ID() && m.Has(taubyte.RoleSubstrate) && !m.Has(taubyte.RoleHoarder)
}

// granted returns nil if the caller of a request may reach a store.
func (s *Service) granted(r *http.Request, k kind, i Instance) error {
	if !s.bound(r) {
		return nil
	}
	err := s.o.grants.Granted(r.Context(), string(k), i)
	if err != nil && k != kindContent {
		err = fmt.Errorf("%s %.100q of branch %.100q: %w", k, i.Name, i.Branch, err)
	}
	return err
}

// grantedHere is granted for a store that this node has a replica of.
func (s *Service) grantedHere(r *http.Request, store ref) error {
	if !s.bound(r) {
		return nil
	}
	s.stores.mu.Lock()
	h := s.stores.all[store]
	if h == nil {
		s.stores.mu.Unlock()
		return errElsewhere
	}
	k, i := h.Kind, h.Instance
	s.stores.mu.Unlock()
	return s.granted(r, k, i)
}

// grantedItem leaves of an item what its caller may know: the claims of projects of which
// something runs.
func (s *Service) grantedItem(r *http.Request, item Item) (Item, error) {
	if !s.bound(r) {
		return item, nil
	}
	var err error
	var claims []Claim
	for _, c := range item.Claims {
		switch e := s.o.grants.Granted(r.Context(), "", Instance{Project: c.Project}); {
		case e == nil:
			claims = append(claims, c)
		case !errors.Is(e, taubyte.ErrForbidden):
			err = e
		}
	}
	if len(claims) > 0 {
		item.Claims = claims
		return item, nil
	}
	if err == nil {
		err = fmt.Errorf("%w: nothing that runs keeps %s", taubyte.ErrNotFound, item.Root)
	}
	return Item{}, err
}
