package claim

import (
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte/internal/rendezvous"
)

// Arbiter returns the member that grants the leases of a key, of those that are live.
func Arbiter(key string, live []peer.ID) peer.ID { return rendezvous.Best(key, live) }

// Keeper returns the member that looks after a lease: the one that granted it, or the
// key's arbiter when that one is not live.
func Keeper(g Grant, key string, live []peer.ID) peer.ID {
	if slices.Contains(live, g.Arbiter) {
		return g.Arbiter
	}
	return Arbiter(key, live)
}

// Numbers makes numbers that grow: milliseconds, and in the low 16 bits what tells two
// nodes apart that make one in the same millisecond. It is safe for concurrent use.
type Numbers struct {
	node uint64 // 16 bits
	now  func() time.Time
	mu   sync.Mutex
	last uint64 // milliseconds
}

// NewNumbers returns the numbers of a node, by its clock.
func NewNumbers(node peer.ID, now func() time.Time) *Numbers {
	h := fnv.New64a()
	_, _ = h.Write([]byte(node))
	return &Numbers{node: h.Sum64() >> 48, now: now}
}

// Next returns a number greater than after, and than any that it returned before.
func (n *Numbers) Next(after uint64) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last = max(uint64(n.now().UnixMilli()), n.last+1, after>>16+1)
	return n.last<<16 | n.node
}
