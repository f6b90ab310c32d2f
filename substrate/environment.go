package substrate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth/environment"
	"github.com/taubyte/taubyte/substrate/internal/abi"
	"github.com/taubyte/taubyte/substrate/internal/vm"
)

// WithEnvironments sets where the variables and secrets of functions come from. The
// default is a client of auth on this host or, where there is none, on the network; in a
// network without auth functions have none.
//
// They are kept in memory alone. A deployment is not served before its variables are here.
// Where no auth node has answered since this one started, though one is known, deployments
// are served without after a few seconds, which the log says, and are given theirs as soon
// as one does.
func WithEnvironments(s environment.Source) Option { return func(c *options) { c.environments = s } }

// environments holds the variables of what this node serves, current by a watch.
type environments struct {
	s         *Service
	source    environment.Source
	reachable func() bool // nil: always

	mu        sync.Mutex
	heard     bool
	hearing   chan struct{} // closed when heard
	revisions map[taubyte.ProjectID]string
	held      map[branchKey]*heldEnvironment
	dirty     map[branchKey]bool
	wake      chan struct{}
}

type heldEnvironment struct{ environment.Environment }

const (
	// hearWait is how long a deployment waits for the first word of an auth node, and
	// fetchEnvironment for its variables.
	hearWait         = 5 * time.Second
	fetchEnvironment = 5 * time.Second
	// environmentFetchers is how many branches are brought up to date at a time.
	environmentFetchers = 8
)

func newEnvironments(s *Service, source environment.Source) *environments {
	e := &environments{
		s: s, source: source, hearing: make(chan struct{}), revisions: map[taubyte.ProjectID]string{},
		held: map[branchKey]*heldEnvironment{}, dirty: map[branchKey]bool{}, wake: make(chan struct{}, 1),
	}
	if r, ok := source.(interface{ Reachable() bool }); ok {
		e.reachable = r.Reachable
	}
	return e
}

// of returns the variables of a branch that is being made ready.
func (e *environments) of(ctx context.Context, b branchKey) (*heldEnvironment, error) {
	if e.reachable == nil || e.reachable() {
		wait, cancel := context.WithTimeout(ctx, hearWait)
		defer cancel()
		select {
		case <-e.hearing:
		case <-wait.Done():
		}
	}
	e.mu.Lock()
	heard, rev, held := e.heard, e.revisions[b.project], e.held[b]
	e.mu.Unlock()
	switch {
	case !heard:
		e.s.log.Warn("no auth node answers: functions have no variables and secrets so far", "project", string(b.project), "branch", string(b.branch))
		return nil, ctx.Err()
	case rev == "":
		return nil, nil
	case held != nil && held.Revision == rev:
		return held, nil
	}
	return e.fetch(ctx, b)
}

// fetch asks for the variables of a branch and keeps them.
func (e *environments) fetch(ctx context.Context, b branchKey) (*heldEnvironment, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchEnvironment)
	defer cancel()
	got, err := e.source.Environment(ctx, b.project, b.branch)
	if err != nil {
		return nil, fmt.Errorf("%w: variables of branch %s: %w", taubyte.ErrUnavailable, b.branch, err)
	}
	held := &heldEnvironment{got}
	e.mu.Lock()
	e.held[b] = held
	e.mu.Unlock()
	return held, nil
}

// current is what was kept of a branch.
func (e *environments) current(b branchKey) *heldEnvironment {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.held[b]
}

// drop forgets a branch that this node does not serve any more.
func (e *environments) drop(b branchKey) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.held, b)
	delete(e.dirty, b)
}

// follow watches for changes, until the service closes.
func (e *environments) follow(ctx context.Context) {
	const least, most = 100 * time.Millisecond, 2 * time.Second
	for wait := least; ctx.Err() == nil; wait = min(2*wait, most) {
		changes, err := e.source.WatchEnvironments(ctx)
		if err != nil && ctx.Err() == nil {
			e.s.log.Debug("auth is not in reach", "err", err)
		}
		if err == nil {
			for c := range changes {
				wait = least
				e.take(c)
			}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

func (e *environments) take(c environment.Change) {
	served := map[branchKey]bool{}
	for key := range *e.s.live.Load() {
		served[key.branchKey] = true
	}
	e.s.mu.Lock()
	for key := range e.s.preparing {
		served[key.branchKey] = true
	}
	e.s.mu.Unlock()
	e.mu.Lock()
	changed := maps.Clone(c.Projects)
	if changed == nil {
		changed = map[taubyte.ProjectID]string{}
	}
	if c.All {
		for p := range e.revisions {
			if _, named := changed[p]; !named {
				changed[p] = ""
			}
		}
	}
	for p, rev := range changed {
		if rev == "" {
			delete(e.revisions, p)
		} else {
			e.revisions[p] = rev
		}
	}
	for b := range served {
		rev, ok := changed[b.project]
		held := e.held[b]
		if ok && (held == nil && rev != "" || held != nil && held.Revision != rev) {
			e.dirty[b] = true
		}
	}
	if c.All && !e.heard {
		e.heard = true
		close(e.hearing)
	}
	e.mu.Unlock()
	e.poke()
}

func (e *environments) poke() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// update brings branches up to date whose variables have changed, until the service
// closes.
func (e *environments) update(ctx context.Context) {
	const least, most = 100 * time.Millisecond, 5 * time.Second
	wait := least
	for {
		e.mu.Lock()
		work := make([]branchKey, 0, len(e.dirty))
		for b := range e.dirty {
			work = append(work, b)
		}
		clear(e.dirty)
		e.mu.Unlock()
		var wg sync.WaitGroup
		places := make(chan struct{}, environmentFetchers)
		for _, b := range work {
			places <- struct{}{}
			wg.Go(func() {
				defer func() { <-places }()
				if !e.refresh(ctx, b) {
					e.mu.Lock()
					e.dirty[b] = true
					e.mu.Unlock()
				}
			})
		}
		wg.Wait()
		e.mu.Lock()
		again := len(e.dirty) > 0
		e.mu.Unlock()
		if !again {
			wait = least
			select {
			case <-e.wake:
			case <-ctx.Done():
				return
			}
			continue
		}
		select {
		case <-time.After(wait):
		case <-e.wake:
		case <-ctx.Done():
			return
		}
		wait = min(2*wait, most)
	}
}

// refresh gives the functions of a branch the variables that it has now. It reports
// whether these are those that were told of.
func (e *environments) refresh(ctx context.Context, b branchKey) bool {
	e.mu.Lock()
	rev := e.revisions[b.project]
	e.mu.Unlock()
	var held *heldEnvironment
	if rev == "" {
		held = &heldEnvironment{}
		e.mu.Lock()
		e.held[b] = held
		e.mu.Unlock()
	} else {
		var err error
		if held, err = e.fetch(ctx, b); err != nil {
			if ctx.Err() == nil && !errors.Is(err, taubyte.ErrForbidden) { // removed a moment ago
				e.s.log.Warn("variables not brought up to date", "project", string(b.project), "branch", string(b.branch), "err", err)
			}
			return errors.Is(err, taubyte.ErrForbidden) && !e.s.serves(b)
		}
	}
	e.s.mu.Lock()
	n := 0
	for key, d := range *e.s.live.Load() {
		if key.branchKey == b {
			n += d.setEnvironment(key.branch, held)
		}
	}
	e.s.mu.Unlock()
	if n > 0 {
		e.s.log.Info("variables of a branch changed", "project", string(b.project), "branch", string(b.branch), "functions", n)
	}
	return held.Revision == rev
}

// serves reports whether a deployment of the branch is live.
func (s *Service) serves(b branchKey) bool {
	for key := range *s.live.Load() {
		if key.branchKey == b {
			return true
		}
	}
	return false
}

// setEnvironment gives all functions of a deployment what they may see, and returns how
// many there are. The service's mu is held.
func (d *deployment) setEnvironment(b taubyte.Branch, held *heldEnvironment) (functions int) {
	if d.environment == held {
		return 0
	}
	d.environment = held
	set := func(f *vm.Function) {
		f.SetEnvironment(held.resolve(b, f.Self().Called))
		functions++
	}
	for _, f := range d.functions {
		set(f)
	}
	for _, op := range d.smartOps {
		set(op)
	}
	return functions
}

// resolve is what one function sees; nil where that is nothing.
func (h *heldEnvironment) resolve(b taubyte.Branch, function string) *abi.Environment {
	if h == nil {
		return nil
	}
	values, secret := map[string]string{}, map[string]bool{}
	for _, v := range environment.Resolve(h.Variables, b, function) {
		values[v.Name] = string(v.Value)
		if v.Kind == environment.Secret {
			secret[v.Name] = true
		}
	}
	return abi.NewEnvironment(values, secret)
}
