package gateway

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rendezvous"
	"github.com/taubyte/taubyte/seer"
	"github.com/taubyte/taubyte/substrate/wire"
	"github.com/taubyte/taubyte/tns"
)

const (
	// boundedLoad is how much more than its share of the requests under way the
	// preferred node may have (Mirrokni, Thorup, Zadimoghaddam: Consistent Hashing
	// with Bounded Loads).
	boundedLoad = 1.25
	// decay is the time after which a latency measured counts for 1/e.
	decay = 5 * time.Second
	// forget is the same for a node that is asked nothing.
	forget = 15 * time.Second
	// unknownLatency stands for a node that was not asked yet.
	unknownLatency = float64(time.Millisecond)
	// coldPenalty is how many times worse a node is judged that has to compile the
	// module first.
	coldPenalty = 8
	// ejectAfter failures in a row a node is left out, for ejectFor times the
	// number of ejections, unless that would leave less than half of the nodes.
	ejectAfter = 5
	ejectFor   = 5 * time.Second
	ejectMost  = time.Minute
)

// node is what the gateway has seen of a substrate node.
type node struct {
	inFlight atomic.Int64

	mu       sync.Mutex
	latency  float64 // peak EWMA in nanoseconds; 0 = not measured
	at       time.Time
	failures int // in a row
	ejected  int // how often
	until    time.Time
	good     time.Time           // when it answered last without an error
	routes   map[uint64]*strikes // of those that it serves badly
}

// result is what an attempt says of its node.
type result int

const (
	answered result = iota
	failed          // it broke off, or did not answer
	slow            // another was faster: it would have taken longer than that
	erred           // the answer is a 5xx
	refused         // it did not take the request
)

// observation is what an attempt said of its node.
type observation struct {
	result  result
	took    time.Duration // until the answer began
	route   uint64
	project taubyte.ProjectID
	at      time.Time
}

// observe takes in how long a node took until its answer began. Peaks count at
// once, and are forgotten slowly (as in Finagle's Peak EWMA).
//
// An error of the site (5xx) and a refusal, which are quick, say nothing of latency, and
// count against the node for their route alone. What the user did wrong is not observed.
func (n *node) observe(o observation) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch o.result {
	case failed:
		n.failures++
		if n.failures >= ejectAfter && o.at.After(n.until) {
			n.ejectLocked(o.at)
		}
		return
	case erred, refused:
		n.strikeLocked(&o)
		return
	case answered:
		n.failures, n.good = 0, o.at
		if len(n.routes) > 0 {
			delete(n.routes, o.route)
		}
	}
	latency := n.latencyLocked(o.at)
	if x := float64(o.took); latency == 0 || x > latency {
		latency = x
	} else if o.result == answered {
		w := math.Exp(-float64(o.at.Sub(n.at)) / float64(decay))
		latency = n.latency*w + x*(1-w)
	}
	n.latency, n.at = latency, o.at
}

func (n *node) ejectLocked(now time.Time) {
	n.ejected++
	n.until = now.Add(min(ejectFor*time.Duration(n.ejected), ejectMost))
}

// latencyLocked is the latency as of now: a peak is forgotten also while the node is
// asked nothing.
func (n *node) latencyLocked(now time.Time) float64 {
	if n.latency <= unknownLatency {
		return n.latency
	}
	return unknownLatency + (n.latency-unknownLatency)*math.Exp(-float64(max(now.Sub(n.at), 0))/float64(forget))
}

// state is how a node is judged for a route. struck is when it began to serve that route
// badly, zero unless it is left out for it.
func (n *node) state(route uint64, now time.Time) (latency float64, out bool, struck time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s := n.routes[route]; s != nil && now.Before(s.until) {
		struck = s.since
	}
	return n.latencyLocked(now), now.Before(n.until), struck
}

// nodes are the substrate nodes that the gateway has used.
type nodes struct {
	m sync.Map // peer.ID → *node
}

func newNodes() *nodes { return &nodes{} }

func (ns *nodes) get(id peer.ID) *node {
	if n, ok := ns.m.Load(id); ok {
		return n.(*node)
	}
	n, _ := ns.m.LoadOrStore(id, &node{})
	return n.(*node)
}

// A Candidate is a node that could serve a request, and how it is judged.
type Candidate struct {
	Node     peer.ID `json:"node"`
	Name     string  `json:"name,omitempty"`
	Affinity uint64  `json:"affinity"` // rank by rendezvous hashing; the largest is preferred
	InFlight int64   `json:"inFlight"` // requests of this gateway under way there
	Latency  float64 `json:"latencyNs"`
	// Warm says that the node has compiled the route's module, as it tells the
	// directory. A website needs no compiling: every node is warm.
	Warm bool `json:"warm"`
	// Score is latency times load, and more for a cold node: the smaller the better.
	// It orders nodes that have no affinity to the route.
	Score   float64 `json:"score"`
	Ejected bool    `json:"ejected,omitempty"`
	// Suspect says that the node holds its connection and answers nothing: it is tried
	// last, and comes back when it answers.
	Suspect bool   `json:"suspect,omitempty"`
	Reason  string `json:"reason,omitempty"` // why it is first

	*node
	struck time.Time // since when it serves the route badly, if it is left out for that
}

// candidates judges the nodes that run substrate, in the order in which they
// would be tried.
func (s *Service) candidates(r *tns.Route, asset rendezvous.Key, route uint64, buf []Candidate) []Candidate {
	now := time.Now()
	all := buf[:0]
	well := false // some node is
	nodes := s.agent.Nodes()
	for _, health := range []seer.Health{seer.Alive, seer.Suspect, seer.Draining, seer.Gone} {
		for i := range nodes {
			n := &nodes[i]
			if n.Health != health || !slices.Contains(n.Services, wire.Protocol) {
				continue
			}
			if health == seer.Gone && s.host.Network().Connectedness(n.ID) != network.Connected {
				continue
			}
			c := Candidate{Node: n.ID, Name: n.Name, node: s.nodes.get(n.ID)}
			c.InFlight = c.node.inFlight.Load()
			c.Latency, c.Ejected, c.struck = c.node.state(route, now)
			c.Suspect = health == seer.Gone || s.pulse.Suspect(n.ID)
			well = well || !c.Suspect
			if c.Latency == 0 {
				c.Latency = unknownLatency
			}
			c.Warm = r.Function == nil || wire.Warm(n.Load.Warm, r.Asset)
			c.Score = c.Latency * float64(c.InFlight+1) * (1 + n.Load.CPU)
			if !c.Warm {
				c.Score *= coldPenalty
			}
			c.Affinity = asset.Weight(n.ID)
			all = append(all, c)
		}
		if well {
			break // the others serve only where nobody else does
		}
	}
	judge(all, s.served.last(route), route, now)
	return order(all)
}

// hears reports whether a request waits for a node, of which none, or none that is not
// suspect, is among the candidates: for a moment after the last one was lost others may
// be about to come up, and where this gateway itself stood still, they will be heard of
// again.
func (s *Service) hears(nodes []Candidate) bool {
	if slices.ContainsFunc(nodes, func(c Candidate) bool { return !c.Suspect }) {
		if s.none.Load() != 0 {
			s.none.Store(0)
		}
		return false
	}
	now := max(1, int64(time.Since(s.began)))
	since := s.none.Load()
	if since == 0 {
		s.none.CompareAndSwap(0, now)
		return true
	}
	return time.Duration(now-since) < hearing
}

// assetOf is the key under which nodes are preferred for what a route runs.
func assetOf(r *tns.Route) rendezvous.Key {
	if !r.Asset.Defined() { // a socket: those of a branch are better together
		return rendezvous.Of(string(r.Project)).And(string(r.Branch))
	}
	return rendezvous.Of(r.Asset.KeyString())
}

// hashOf is the hash of a route.
func hashOf(r *tns.Route) uint64 { return uint64(assetOf(r).And(string(r.Resource))) }

// order puts the node to try first first, and the others by score.
func order(all []Candidate) []Candidate {
	if len(all) < 2 {
		return all
	}
	out, suspect, total := 0, 0, int64(1)
	for i := range all {
		switch c := &all[i]; {
		case c.Suspect:
			suspect++
			continue // what is under way there is stuck, and says nothing of the load
		case c.Ejected:
			out++
		}
		total += all[i].InFlight
	}
	widespread := 2*out > len(all)-suspect // most look bad: it is more likely that something else is
	rank := func(c *Candidate) int {
		switch {
		case c.Suspect:
			return 2
		case c.Ejected && !widespread:
			return 1
		}
		return 0
	}
	slices.SortFunc(all, func(a, b Candidate) int {
		return cmp.Or(cmp.Compare(rank(&a), rank(&b)), cmp.Compare(a.Score, b.Score), cmp.Compare(a.Affinity, b.Affinity), cmp.Compare(a.Node, b.Node))
	})
	fit := len(all) - suspect
	if !widespread {
		fit -= out
	}
	if fit == 0 {
		return all
	}
	best := 0
	for i := 1; i < fit; i++ {
		if a, b := &all[i], &all[best]; a.Warm != b.Warm && a.Warm || a.Warm == b.Warm && a.Affinity > b.Affinity {
			best = i
		}
	}
	share := boundedLoad * float64(total) / float64(fit)
	if float64(all[best].InFlight) <= math.Ceil(share) {
		all[best].Reason = "affinity"
	} else {
		// It has its share: the better of two by chance. They are in order of
		// their scores, so that is the smaller index.
		best = min(rand.IntN(fit), rand.IntN(fit))
		all[best].Reason = "two choices"
	}
	first := all[best]
	copy(all[1:best+1], all[:best])
	all[0] = first
	return all
}

// An Explanation is how a request would be passed on.
type Explanation struct {
	Found      bool        `json:"found"`
	Status     string      `json:"status"`
	Allow      string      `json:"allow,omitempty"`
	Route      *Route      `json:"route,omitempty"`
	Candidates []Candidate `json:"candidates,omitempty"`
}

// Explain says which node a request would go to first, and how each is judged. It takes
// the verb read on everything, or a node.
func (s *Service) Explain(ctx context.Context, host, path, method string) (Explanation, error) {
	if err := readable(ctx); err != nil {
		return Explanation{}, err
	}
	m := s.table.Lookup(host, path, method)
	e := Explanation{Found: m.Status == tns.Found, Allow: m.Allow}
	switch m.Status {
	case tns.NoHost:
		e.Status = "no project has this host"
	case tns.NoPath:
		e.Status = "nothing is at this path"
	case tns.NoMethod:
		e.Status = "the path takes other methods"
	default:
		e.Status = "served"
		e.Candidates = s.candidates(m.Route, assetOf(m.Route), hashOf(m.Route), nil)
		if len(e.Candidates) == 0 {
			e.Status = "no substrate node is there"
		}
		r := m.Route
		e.Route = &Route{Host: host, Method: method, Path: path, Project: r.Project, Branch: r.Branch, Commit: r.Commit, ID: r.Resource}
		if r.Function != nil {
			e.Route.Kind, e.Route.Name = "function", r.Function.Name
		} else {
			e.Route.Kind, e.Route.Name = "website", r.Website.Name
		}
	}
	return e, nil
}
