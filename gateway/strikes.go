package gateway

import (
	"sync/atomic"
	"time"

	"github.com/taubyte/taubyte"
)

// A 5xx or a refusal may be the route's own: a function that fails fails everywhere. So
// it counts against a node for that route alone. After ejectAfter of them in a row the
// node is left out for the route, and whether it was the node shows in what others make of
// it: where a second one is struck as well, and no node has served the route since, it is
// the route, and nobody is left out for it.
//
// A node that is shown to serve routes of struckProjects projects badly, and has served
// nothing well meanwhile, is left out for all. Those of one project are not enough, since
// a project can fail where it wants.
const struckProjects = 3

// maxStruck bounds the routes that are remembered of one node.
const maxStruck = 1024

// strikes is how a node fails one route.
type strikes struct {
	project taubyte.ProjectID
	count   int // in a row
	times   int // that it was left out
	since   time.Time
	until   time.Time
	proved  bool // another node has served the route meanwhile
}

// strikeLocked counts a 5xx or a refusal.
func (n *node) strikeLocked(o *observation) {
	s := n.routes[o.route]
	if s == nil {
		if n.routes == nil {
			n.routes = map[uint64]*strikes{}
		}
		if len(n.routes) >= maxStruck {
			n.forgetLocked(o.at)
		}
		s = &strikes{project: o.project, since: o.at}
		n.routes[o.route] = s
	}
	if s.count++; s.count >= ejectAfter && o.at.After(s.until) {
		s.times++
		s.until = o.at.Add(min(ejectFor*time.Duration(s.times), ejectMost))
	}
}

// forgetLocked makes room for another route.
func (n *node) forgetLocked(now time.Time) {
	for route, s := range n.routes {
		if now.After(s.until) {
			delete(n.routes, route)
		}
	}
	if len(n.routes) >= maxStruck {
		clear(n.routes)
	}
}

// prove notes that the node, and not the route, is to blame for its strikes.
func (n *node) prove(route uint64, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.routes[route]
	if s == nil || s.proved {
		return
	}
	s.proved = true
	projects := map[taubyte.ProjectID]bool{}
	for _, s := range n.routes {
		if s.proved && now.Before(s.until) && n.good.Before(s.since) {
			projects[s.project] = true
		}
	}
	if len(projects) >= struckProjects && now.After(n.until) {
		n.ejectLocked(now)
	}
}

// judge says which candidates are left out for a route that was served last at a time.
func judge(all []Candidate, last time.Time, route uint64, now time.Time) {
	struck := 0
	for i := range all {
		if !all[i].struck.IsZero() {
			struck++
		}
	}
	if struck == 0 {
		return
	}
	for i := range all {
		c := &all[i]
		if c.struck.IsZero() {
			continue
		}
		if served := last.After(c.struck); served || struck == 1 {
			c.Ejected = true
			if served {
				c.node.prove(route, now)
			}
		}
	}
}

// served is when routes were last answered without an error, by any node. Routes whose
// hashes collide share a place.
type served struct{ slots [1 << 12]atomic.Int64 }

func (s *served) note(route uint64, at time.Time) {
	s.slots[route%uint64(len(s.slots))].Store(at.UnixNano())
}

func (s *served) last(route uint64) time.Time {
	return time.Unix(0, s.slots[route%uint64(len(s.slots))].Load())
}
