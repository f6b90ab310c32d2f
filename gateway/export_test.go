package gateway

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Order is the choice among candidates.
func Order(all []Candidate) []Candidate { return order(all) }

// Seen is what a gateway remembers of one node.
type Seen struct{ node }

// Observe notes an answer or a failure.
func (s *Seen) Observe(took time.Duration, broken bool, now time.Time) {
	if broken {
		s.observe(took, failed, now)
		return
	}
	s.observe(took, answered, now)
}

// Judged is the node as a candidate.
func (s *Seen) Judged(id peer.ID, now time.Time) Candidate {
	latency, out := s.state(now)
	return Candidate{Node: id, Latency: latency, Score: latency, Ejected: out, Warm: true}
}
