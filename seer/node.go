package seer

import (
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/taubyte/taubyte"
)

// Health is what the directory thinks of a node.
type Health string

// A node is Alive while its heartbeats come, Suspect after some were missed and
// Gone after more; Draining is its own word that it takes no new work.
const (
	Alive    Health = "alive"
	Suspect  Health = "suspect"
	Draining Health = "draining"
	Gone     Health = "gone"
)

// A Node is what the directory knows of one node.
type Node struct {
	ID        peer.ID       `json:"id"`
	Name      string        `json:"name,omitempty"`
	Services  []protocol.ID `json:"services"`
	Addrs     []string      `json:"addrs"`            // libp2p multiaddrs
	Public    []string      `json:"public,omitempty"` // IP addresses that users reach it at
	Version   string        `json:"version,omitempty"`
	Place     string        `json:"place,omitempty"`
	Load      Load          `json:"load"`
	Health    Health        `json:"health"`
	Sequence  uint64        `json:"sequence"`
	StartedAt time.Time     `json:"startedAt"`
	SeenAt    time.Time     `json:"seenAt"` // by this directory's own clock
}

// Load is how busy a node is.
type Load struct {
	CPU      float64 `json:"cpu"`            // share of all cores in use, 0 to 1
	Memory   float64 `json:"memory"`         // share of memory in use, 0 to 1
	InFlight int     `json:"inFlight"`       // requests being served
	Queued   int     `json:"queued"`         // requests waiting
	Warm     []byte  `json:"warm,omitempty"` // digest of the modules that are ready: a Bloom filter over CIDs
}

// maxRequests bounds the requests that a node may say it has: more than any serves.
const maxRequests = 1 << 24

// check returns what is wrong with a load that another node says it has. Comparisons
// are made so that what is no number is refused.
func (l *Load) check() error {
	share := func(f float64) bool { return f >= 0 && f <= 1 }
	count := func(n int) bool { return n >= 0 && n <= maxRequests }
	if !share(l.CPU) || !share(l.Memory) || !count(l.InFlight) || !count(l.Queued) {
		return fmt.Errorf("%w load: %g of the processors, %g of memory, %d in flight, %d queued", taubyte.ErrInvalid, l.CPU, l.Memory, l.InFlight, l.Queued)
	}
	return nil
}

// bound brings what this node measured into what others take.
func (l *Load) bound() {
	for _, f := range []*float64{&l.CPU, &l.Memory} {
		if !(*f >= 0) { // also what is no number
			*f = 0
		}
		*f = min(*f, 1)
	}
	l.InFlight, l.Queued = min(max(l.InFlight, 0), maxRequests), min(max(l.Queued, 0), maxRequests)
}
