package hoarder

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"

	"github.com/taubyte/taubyte"
)

// Nearest is the node on which the handle's next call ends.
func Nearest(d *Database) peer.ID {
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	return d.h.place.Hosts[0]
}

// Prefer has the handle's next call end on a node, if it can.
func Prefer(d *Database, p peer.ID) { d.h.prefer(p) }

// Saw has the handle have seen so many writes of a node.
func Saw(d *Database, p peer.ID, seq uint64) { Seeing(d)(p, seq) }

// Seeing is Saw for the life of the store that the handle knows now.
func Seeing(d *Database) func(p peer.ID, seq uint64) {
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	r := ref{d.h.place.ID, d.h.place.Gen}
	return func(p peer.ID, seq uint64) { d.h.saw(r, position{p: seq}) }
}

// WithReach sets how long a call waits for writes to arrive.
func WithReach(d time.Duration) Option { return func(o *options) { o.reach = d } }

// WithOpenFor sets how long content is open to substrate nodes that have asked for it.
func WithOpenFor(d time.Duration) Option { return func(o *options) { o.openFor = d } }

// EntryKey and EntryName are how a database's keys are kept.
var (
	EntryKey  = entryKey
	EntryName = entryName
)

// Parse runs what reads other nodes' bytes, and says what it makes of them when they
// are written again.
func Parse(b []byte) (again [][]byte) {
	if m, err := decodeMark(b); err == nil {
		again = append(again, m.encode())
	}
	if v, err := decodeVersion(b); err == nil {
		out, _ := json.Marshal(v)
		again = append(again, out)
	}
	var p position
	if json.Unmarshal(b, &p) == nil {
		out, _ := json.Marshal(p)
		again = append(again, out)
	}
	return again
}

// Active reports whether a node answers for a database and storage now, those of both
// that it has.
func Active(s *Service, i Instance) bool {
	n := 0
	for _, h := range s.hostings() {
		if s.recordOf(h).Instance == i {
			n++
			if !s.answers(h) {
				return false
			}
		}
	}
	return n > 0
}

// Hosts are those that a node knows to have a replica of a database.
func Hosts(ctx context.Context, s *Service, i Instance) ([]peer.ID, error) {
	e, err := s.storeEntry(ctx, i.id(kindDatabase))
	return e.hosts, err
}

// ID is a database's in the registry.
func ID(i Instance) string { return i.id(kindDatabase) }

// Opened is how many blocks are open to substrate nodes.
func Opened(s *Service) int {
	s.opened.mu.RLock()
	defer s.opened.mu.RUnlock()
	return len(s.opened.blocks)
}

// ManyOpened opens n blocks, and returns what asks for one of them and for another.
func ManyOpened(n int) (may func(i int) bool, miss func() bool) {
	var o opened
	o.init()
	ids := make([]cid.Cid, n)
	for i := range ids {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
		mh, _ := multihash.Encode(sum[:], multihash.SHA2_256)
		ids[i] = cid.NewCidV1(cid.Raw, mh)
		o.blocks[keyOf(ids[i])]++
	}
	m := taubyte.Membership{Roles: []taubyte.Role{taubyte.RoleSubstrate}}
	sum, _ := multihash.Encode(make([]byte, 32), multihash.SHA2_256)
	other := cid.NewCidV1(cid.Raw, sum)
	return func(i int) bool { return o.mayFetch(m, ids[i]) }, func() bool { return o.mayFetch(m, other) }
}
