package substrate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth/environment"
	"github.com/taubyte/taubyte/internal/unixfs"
	"github.com/taubyte/taubyte/substrate/internal/abi"
	"github.com/taubyte/taubyte/substrate/internal/commands"
	"github.com/taubyte/taubyte/substrate/internal/egress"
	"github.com/taubyte/taubyte/substrate/internal/messages"
	"github.com/taubyte/taubyte/substrate/internal/site"
	"github.com/taubyte/taubyte/substrate/internal/vm"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

// branchKey is a branch of a project, deploymentKey one deployment of it: two
// nodes that were parted may both have made one of the same number.
type (
	branchKey struct {
		project taubyte.ProjectID
		branch  taubyte.Branch
	}
	deploymentKey struct {
		branchKey
		sequence uint64
		time     int64
	}
	resourceKey struct {
		application taubyte.ApplicationID
		resource    taubyte.ResourceID
	}
)

func keyOf(d *tns.Deployment) deploymentKey {
	return deploymentKey{branchKey{d.Project, d.Branch}, d.Sequence, d.Time.UnixNano()}
}

// A deployment is one that this node can serve: its modules compiled, its files
// here. What was never built is not in it.
type deployment struct {
	project     *config.Project // nil while no repository has given one
	network     *egress.Network // its own, or nil
	functions   map[resourceKey]*vm.Function
	websites    map[resourceKey]*site.Site
	guards      map[guarded]guard // of resources that have smart operations
	smartOps    map[resourceKey]*vm.Function
	channels    *messages.Rules
	services    *commands.Rules
	environment *heldEnvironment // what its functions were given; the service's mu guards it
	routed      bool             // the table has led to it
	made        time.Time        // when it was ready
}

func (d *deployment) close() {
	if d.network != nil {
		defer d.network.Close()
	}
	for _, f := range d.functions {
		f.Close()
	}
	for _, op := range d.smartOps {
		op.Close()
	}
}

// A preparation is under way.
type preparation struct {
	done chan struct{}
	err  error
}

// prepare makes a deployment ready, before the table leads requests to it.
func (s *Service) prepare(ctx context.Context, d *tns.Deployment) error {
	key := keyOf(d)
	s.mu.Lock()
	if _, ok := (*s.live.Load())[key]; ok {
		s.mu.Unlock()
		return nil
	}
	if p, ok := s.preparing[key]; ok {
		s.mu.Unlock()
		select {
		case <-p.done:
			return p.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	p := &preparation{done: make(chan struct{})}
	s.preparing[key] = p
	s.mu.Unlock()

	start := time.Now()
	made, err := s.build(ctx, d)

	s.mu.Lock()
	if err == nil {
		live := maps.Clone(*s.live.Load())
		live[key] = made
		s.live.Store(&live)
		if held := s.environments.current(key.branchKey); held != nil { // it may have changed
			made.setEnvironment(key.branch, held)
		}
		s.settle(key.branchKey)
		delete(s.faults, key.branchKey)
	} else if ctx.Err() == nil {
		s.faults[key.branchKey] = fault{key.sequence, err}
		close(s.faulted)
		s.faulted = make(chan struct{})
	}
	p.err = err
	delete(s.preparing, key)
	close(p.done)
	s.mu.Unlock()
	if err != nil {
		return err // which the table logs, and tries again
	}
	s.log.Info("deployment ready", "project", string(d.Project), "branch", string(d.Branch), "sequence", d.Sequence,
		"functions", len(made.functions), "websites", len(made.websites), "took", time.Since(start))
	return nil
}

// lookAgain makes a deployment ready that the table leads to and this node does
// not have, which only happens when it was given up too early.
func (s *Service) lookAgain(d *tns.Deployment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.preparing[keyOf(d)]; ok || s.life.Err() != nil {
		return
	}
	s.wg.Go(func() { _ = s.prepare(s.life, d) })
}

// follow gives up deployments that requests are no longer led to.
func (s *Service) follow() {
	for {
		changed := s.table.Changed()
		s.giveUp()
		s.wind()
		s.agent.Announce() // gateways prefer a node that has the module
		select {
		case <-changed:
		case <-s.life.Done():
			return
		}
	}
}

// unrouted is how long a deployment that is ready waits for the table to lead to
// it, where nothing says that it never will.
const unrouted = time.Minute

func (s *Service) giveUp() {
	current := map[deploymentKey]bool{}
	sequences := map[branchKey]uint64{}
	for _, d := range s.table.Deployments() {
		key := keyOf(d)
		current[key] = true
		sequences[key.branchKey] = d.Sequence
	}
	s.mu.Lock()
	live := maps.Clone(*s.live.Load())
	var gone []*deployment
	var changed []branchKey
	for key, d := range live {
		switch {
		case current[key]:
			d.routed = true
		case d.routed, key.sequence < sequences[key.branchKey], time.Since(d.made) > unrouted:
			delete(live, key)
			gone = append(gone, d)
			changed = append(changed, key.branchKey)
		}
	}
	s.live.Store(&live)
	for _, b := range changed {
		s.settle(b)
	}
	for _, b := range changed {
		preparing := false
		for key := range s.preparing {
			preparing = preparing || key.branchKey == b
		}
		if !preparing && !s.serves(b) {
			s.environments.drop(b)
		}
	}
	s.mu.Unlock()
	for _, d := range gone {
		d.close()
	}
}

// build makes everything of a deployment that this node serves. Its error names
// every fault.
func (s *Service) build(ctx context.Context, d *tns.Deployment) (*deployment, error) {
	made := &deployment{project: d.Config(), functions: map[resourceKey]*vm.Function{}, websites: map[resourceKey]*site.Site{}, made: time.Now()}
	project := made.project
	if project == nil {
		return made, nil
	}
	held, err := s.environments.of(ctx, branchKey{d.Project, d.Branch})
	if err != nil {
		return nil, err
	}
	made.environment = held
	network := s.network
	if project.Egress != nil {
		rules, err := egress.ParseRules(project.Egress.Allow)
		if err != nil {
			return nil, err
		}
		made.network = s.egress.Network(rules)
		network = made.network
	}
	var (
		mu     sync.Mutex // guards made and faults
		faults []error
		wg     sync.WaitGroup
		places = make(chan struct{}, builders)
	)
	each := func(do func() error) {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			if err := do(); err != nil {
				mu.Lock()
				faults = append(faults, err)
				mu.Unlock()
			}
		})
	}
	if err := s.guardAll(ctx, d, made, network); err != nil { // first: functions ask them as they start
		faults = append(faults, err)
	}
	for scope := range scopes(project) {
		stores, err := s.shop(d.Project, d.Branch, scope)
		if err != nil {
			each(func() error { return err })
			continue
		}
		stores.guards = made
		if len(scope.Functions) > 0 || scope.id == "" {
			each(func() error { stores.open(ctx, scope.id); return nil })
		}
		for i := range scope.Functions {
			f := &scope.Functions[i]
			each(func() error {
				made1, err := s.function(ctx, d, scope, f, network, stores, held)
				if made1 != nil {
					mu.Lock()
					made.functions[resourceKey{scope.id, f.ID}] = made1
					mu.Unlock()
				}
				return err
			})
		}
		for i := range scope.Websites {
			site1 := &scope.Websites[i]
			root, ok := d.Asset(site1.ID)
			if !ok {
				continue
			}
			each(func() error {
				ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
				defer cancel()
				content := tree{root: s.hoarder.Content(d.Project, d.Branch, root)}
				if _, err := unixfs.Fetch(ctx, content.root, root); err != nil {
					return fmt.Errorf("website %s: %w", site1.Name, err)
				}
				encoded, ok := d.Encoding(site1.ID)
				if ok {
					content.encoded = s.hoarder.Content(d.Project, d.Branch, encoded)
					content.encodedRoot = encoded
					if _, err := unixfs.Fetch(ctx, content.encoded, encoded); err != nil {
						return fmt.Errorf("encodings of website %s: %w", site1.Name, err)
					}
				}
				ready, err := site.New(ctx, content, root, encoded, s.files)
				if err != nil {
					return fmt.Errorf("website %s: %w", site1.Name, err)
				}
				for _, fault := range ready.Faults() {
					s.log.Warn("a rule of a website is left out", "project", string(d.Project), "branch", string(d.Branch), "website", site1.Name, "err", fault)
				}
				mu.Lock()
				made.websites[resourceKey{scope.id, site1.ID}] = ready
				mu.Unlock()
				return nil
			})
		}
	}
	wg.Wait()
	made.offer()
	if err := made.connect(); err != nil {
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		made.close()
		return nil, err
	}
	return made, nil
}

// fetchTimeout is how long blocks that nobody has are waited for, before the
// operator is told and it begins anew.
const fetchTimeout = 2 * time.Minute

// builders is how many resources of one deployment are made ready at a time.
const builders = 8

// A scope is an application of a project, or the project's global scope.
type scope struct {
	id     taubyte.ApplicationID
	global *config.Resources
	*config.Resources
	name string // of the application
}

func scopes(p *config.Project) func(func(scope) bool) {
	return func(yield func(scope) bool) {
		if !yield(scope{"", &p.Resources, &p.Resources, ""}) {
			return
		}
		for i := range p.Applications {
			a := &p.Applications[i]
			if !yield(scope{a.ID, &p.Resources, &a.Resources, a.Name}) {
				return
			}
		}
	}
}

// function makes a function ready, or nil where it was never built.
func (s *Service) function(ctx context.Context, d *tns.Deployment, in scope, f *config.Function, network *egress.Network, stores *shop, held *heldEnvironment) (*vm.Function, error) {
	return s.program(ctx, d, in, program{
		kind: "function", id: f.ID, name: f.Name, source: f.Source, call: f.Call, timeout: f.Timeout, memory: f.Memory, network: network, stores: stores,
		called: environment.FunctionName(in.name, f.Name), held: held,
	})
}

// A program is what there is of a function, or of a smart operation, to run.
type program struct {
	kind, name, source, call string
	id                       taubyte.ResourceID
	timeout                  time.Duration
	memory                   int64
	network                  *egress.Network
	stores                   *shop  // of the scope; nil: one of its own
	called                   string // by variables
	held                     *heldEnvironment
	decides                  bool
}

func (s *Service) program(ctx context.Context, d *tns.Deployment, in scope, p program) (*vm.Function, error) {
	began := s.loadOf(d, in, p)
	root, ok := d.Asset(sourceOf(p.id, p.source))
	if !ok {
		return nil, nil
	}
	l := linker{s: s, d: d, scope: in}
	module, err := l.load(ctx, root)
	if err != nil {
		l.release()
		return nil, fmt.Errorf("%s %s: %w", p.kind, p.name, err)
	}
	if p.stores == nil {
		if p.stores, err = s.shop(d.Project, d.Branch, in); err != nil {
			module.Release()
			l.release()
			return nil, err
		}
	}
	made, err := s.engine.NewFunction(vm.Spec{
		Self: abi.Self{
			Project: d.Project, Application: in.id, Function: p.id, Name: p.name, Branch: d.Branch, Commit: d.Commit(),
			Network: p.network, Stores: p.stores, Called: p.called, Environment: p.held.resolve(d.Branch, p.called),
		},
		Module: module, Links: l.links, Call: p.call, Decides: p.decides,
		Timeout:     bounded(p.timeout, defaultTimeout, s.limits.Timeout),
		Memory:      bounded(p.memory, s.limits.Memory, s.limits.Memory),
		Concurrency: s.limits.Concurrency, Queue: s.limits.Queue,
		Limits: abi.Limits{
			Output: s.limits.ResponseBody, Body: s.limits.RequestBody, LogLines: s.limits.LogLines,
			Fuel: s.limits.Fuel, HostCalls: s.limits.HostCalls,
		},
	})
	if err != nil {
		return nil, err
	}
	if began.light() && made.PrepareInterim(ctx) {
		return made, nil
	}
	if err := made.Compiled(ctx); err != nil {
		made.Close()
		return nil, fmt.Errorf("%s %s: %w", p.kind, p.name, err)
	}
	made.Prepare(ctx)
	return made, nil
}

// bounded is what was asked for, or the default where nothing was, up to most.
func bounded[T time.Duration | int64](asked, def, most T) T {
	if asked <= 0 {
		asked = def
	}
	return min(asked, most)
}

// sourceOf names the resource whose module a function runs: its own or a
// library's.
func sourceOf(id taubyte.ResourceID, source string) taubyte.ResourceID {
	if library, ok := strings.CutPrefix(source, "libraries/"); ok {
		return taubyte.ResourceID(library)
	}
	return id
}

// A linker loads the modules that a module imports, by the names of resources:
// those of the function's application, then the project's.
type linker struct {
	s     *Service
	d     *tns.Deployment
	scope scope
	links []vm.Link // loaded, each after those it imports
	path  []string  // being loaded, to see circles
}

// maxLinks bounds the modules of one function.
const maxLinks = 32

func (l *linker) load(ctx context.Context, root cid.Cid) (*vm.Module, error) {
	m, err := l.s.module(ctx, l.d, root)
	if err != nil {
		return nil, err
	}
	for _, name := range m.Links() {
		if err := l.link(ctx, name); err != nil {
			m.Release()
			return nil, err
		}
	}
	return m, nil
}

func (l *linker) link(ctx context.Context, name string) error {
	for _, have := range l.links {
		if have.Name == name {
			return nil
		}
	}
	for _, under := range l.path {
		if under == name {
			return fmt.Errorf("%w: modules import each other in a circle: %s", taubyte.ErrInvalid, strings.Join(append(l.path, name), " → "))
		}
	}
	if len(l.links)+len(l.path) >= maxLinks {
		return fmt.Errorf("%w: more than %d modules", taubyte.ErrInvalid, maxLinks)
	}
	id, ok := l.resolve(name)
	if !ok {
		return fmt.Errorf("%w: the module imports from %q, which this project does not have", taubyte.ErrInvalid, name)
	}
	root, ok := l.d.Asset(id)
	if !ok {
		return fmt.Errorf("%q, which the module imports, is not built yet: %w", name, taubyte.ErrUnavailable)
	}
	l.path = append(l.path, name)
	m, err := l.load(ctx, root)
	l.path = l.path[:len(l.path)-1]
	if err != nil {
		return err
	}
	l.links = append(l.links, vm.Link{Name: name, Module: m})
	return nil
}

// resolve finds the resource whose module a name stands for.
func (l *linker) resolve(name string) (taubyte.ResourceID, bool) {
	kind, rest, _ := strings.Cut(name, "/")
	for _, r := range []*config.Resources{l.scope.Resources, l.scope.global} {
		switch kind {
		case "libraries":
			for i := range r.Libraries {
				if r.Libraries[i].Name == rest {
					return r.Libraries[i].ID, true
				}
			}
		case "functions":
			for i := range r.Functions {
				if r.Functions[i].Name == rest {
					return sourceOf(r.Functions[i].ID, r.Functions[i].Source), true
				}
			}
		case "smartops":
			for i := range r.SmartOps {
				if r.SmartOps[i].Name == rest {
					return sourceOf(r.SmartOps[i].ID, r.SmartOps[i].Source), true
				}
			}
		}
	}
	return "", false
}

func (l *linker) release() {
	for _, link := range l.links {
		link.Module.Release()
	}
}

// module loads a module of a deployment from the content network.
func (s *Service) module(ctx context.Context, d *tns.Deployment, root cid.Cid) (*vm.Module, error) {
	return s.engine.Load(ctx, root, func(ctx context.Context) ([]byte, error) {
		ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
		defer cancel()
		f, err := unixfs.Open(ctx, s.hoarder.Content(d.Project, d.Branch, root), root, "")
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if f.IsDir() || f.Size() > int64(s.limits.ModuleBytes) {
			return nil, fmt.Errorf("%w module: a folder, or larger than %d bytes", taubyte.ErrInvalid, s.limits.ModuleBytes)
		}
		code := make([]byte, f.Size())
		_, err = io.ReadFull(f, code)
		return code, err
	})
}
