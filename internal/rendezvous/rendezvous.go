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

// Weight is how much a node is preferred for a key. It is part of what nodes agree on:
// two versions of a program that compute it differently choose different nodes.
func Weight(key string, p peer.ID) uint64 {
	return weight(mix(xxhash.Sum64String(key)), p)
}

func weight(key uint64, p peer.ID) uint64 { return mix(xxhash.Sum64String(string(p)) ^ key) }

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
	k := mix(xxhash.Sum64String(key))
	for _, p := range peers {
		w := weight(k, p)
		if best == "" || w > most || w == most && p > best {
			best, most = p, w
		}
	}
	return best
}

// Rank returns the nodes in the order of preference for a key, the first preferred
// most. peers is left as it is.
func Rank(key string, peers []peer.ID) []peer.ID {
	type weighted struct {
		p peer.ID
		w uint64
	}
	k := mix(xxhash.Sum64String(key))
	all := make([]weighted, len(peers))
	for i, p := range peers {
		all[i] = weighted{p, weight(k, p)}
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
