// Package rendezvous chooses nodes by rendezvous hashing, also called highest random
// weight (Thaler, Ravishankar: Using name-based mappings to increase hit rates, 1998).
//
// Everybody who sees the same nodes chooses the same one for a key, without asking
// anybody. When a node leaves, only its own keys move; when one joins, it takes its
// share from all others alike.
package rendezvous

import (
	"cmp"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/libp2p/go-libp2p/core/peer"
)

// A Key is what a node is chosen for. Keys are part of what nodes agree on: two versions of
// a program that make them differently choose different nodes.
type Key uint64

// Of makes a key of a name.
func Of(name string) Key { return Key(mix(xxhash.Sum64String(name))) }

// And makes a key of this one and a further name.
func (k Key) And(name string) Key { return Key(mix(uint64(k)*3 ^ xxhash.Sum64String(name))) }

// AndNumber makes a key of this one and a number.
func (k Key) AndNumber(n uint64) Key { return Key(mix(uint64(k)*3 ^ mix(n))) }

// Weight is how much a node is preferred for the key: the one of the largest weight most.
// It allocates nothing.
func (k Key) Weight(p peer.ID) uint64 { return mix(xxhash.Sum64String(string(p)) ^ uint64(k)) }

// Weight is Of(key).Weight(p).
func Weight(key string, p peer.ID) uint64 { return Of(key).Weight(p) }

// mix spreads a hash over all bits (the finalizer of SplitMix64).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Best returns the node that is preferred most for a key, or "" where there is none.
// It allocates nothing.
func Best(key string, peers []peer.ID) peer.ID {
	var best peer.ID
	var most uint64
	k := Of(key)
	for _, p := range peers {
		w := k.Weight(p)
		if best == "" || w > most || w == most && p > best {
			best, most = p, w
		}
	}
	return best
}

// Rank is Of(key).Rank(peers).
func Rank(key string, peers []peer.ID) []peer.ID { return Of(key).Rank(peers) }

// Rank returns the nodes in the order of preference for the key, the first preferred
// most. peers is left as it is.
func (k Key) Rank(peers []peer.ID) []peer.ID {
	type weighted struct {
		p peer.ID
		w uint64
	}
	all := make([]weighted, len(peers))
	for i, p := range peers {
		all[i] = weighted{p, k.Weight(p)}
	}
	slices.SortFunc(all, func(a, b weighted) int {
		return cmp.Or(cmp.Compare(b.w, a.w), cmp.Compare(b.p, a.p))
	})
	ranked := make([]peer.ID, len(all))
	for i, a := range all {
		ranked[i] = a.p
	}
	return ranked
}
