package gateway

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
)

// Order is the choice among candidates.
func Order(all []Candidate) []Candidate { return order(all) }

// Seen is what a gateway remembers of one node.
type Seen struct{ node }

// Observe notes an answer or a failure.
func (s *Seen) Observe(took time.Duration, broken bool, now time.Time) {
	r := answered
	if broken {
		r = failed
	}
	s.observe(observation{result: r, took: took, at: now})
}

// Answer notes an answer for a route of a project, which is a 5xx or not.
func (s *Seen) Answer(route uint64, project taubyte.ProjectID, bad bool, now time.Time) {
	r := answered
	if bad {
		r = erred
	}
	s.observe(observation{result: r, took: time.Millisecond, route: route, project: project, at: now})
}

// Judged is the node as a candidate.
func (s *Seen) Judged(id peer.ID, now time.Time) Candidate { return s.JudgedFor(0, id, now) }

// JudgedFor is the node as a candidate for a route.
func (s *Seen) JudgedFor(route uint64, id peer.ID, now time.Time) Candidate {
	latency, out, struck := s.state(route, now)
	return Candidate{Node: id, Latency: latency, Score: latency, Ejected: out, Warm: true, node: &s.node, struck: struck}
}

// Judge says which of the candidates are left out for a route that was served last at a time.
func Judge(all []Candidate, last time.Time, route uint64, now time.Time) {
	judge(all, last, route, now)
}
