package rendezvous_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/rendezvous"
)

func peers(n int) []peer.ID {
	all := make([]peer.ID, n)
	for i := range all {
		all[i] = peer.ID(fmt.Sprintf("peer-%03d", i))
	}
	return all
}

func TestEverybodyChoosesAlike(t *testing.T) {
	all := peers(20)
	reversed := slices.Clone(all)
	slices.Reverse(reversed)
	for i := range 1000 {
		key := fmt.Sprint(i)
		ranked := rendezvous.Rank(key, all)
		require.Equal(t, ranked, rendezvous.Rank(key, reversed))
		require.Equal(t, ranked[0], rendezvous.Best(key, reversed))
		require.ElementsMatch(t, all, ranked)
	}
	require.Empty(t, rendezvous.Best("key", nil))
	require.Empty(t, rendezvous.Rank("key", nil))
}

func TestOnlyTheLeaversKeysMove(t *testing.T) {
	all := peers(10)
	left := all[:9]
	gone := all[9]
	share := map[peer.ID]int{}
	for i := range 10_000 {
		key := fmt.Sprint(i)
		before := rendezvous.Best(key, all)
		share[before]++
		if before != gone {
			require.Equal(t, before, rendezvous.Best(key, left))
		}
	}
	for _, p := range all {
		require.InDelta(t, 1000, share[p], 150, "%s", p)
	}
}

// The weights are a protocol between nodes of different versions.
func TestWeightsStay(t *testing.T) {
	require.Equal(t, []peer.ID{"peer-000", "peer-002", "peer-001"}, rendezvous.Rank("job", peers(3)))
	require.Equal(t, uint64(0x9dd67abe52d6fb2a), rendezvous.Weight("job", "peer-000"))
	require.Equal(t, rendezvous.Rank("job", peers(9)), rendezvous.Of("job").Rank(peers(9)))
}

// Keys of several parts spread over the nodes as those of one do.
func TestKeysOfParts(t *testing.T) {
	all := peers(10)
	share, numbered := map[peer.ID]int{}, map[peer.ID]int{}
	for i := range 10_000 {
		share[rendezvous.Of("a").And(fmt.Sprint(i)).Rank(all)[0]]++
		numbered[rendezvous.Of("a").AndNumber(uint64(i)).Rank(all)[0]]++
	}
	for _, p := range all {
		require.InDelta(t, 1000, share[p], 150, "%s", p)
		require.InDelta(t, 1000, numbered[p], 150, "%s", p)
	}
	require.NotEqual(t, rendezvous.Of("a").And("b"), rendezvous.Of("b").And("a"))
}

func BenchmarkBest(b *testing.B) {
	for _, n := range []int{3, 100, 1000} {
		all := peers(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				rendezvous.Best("some key of a store", all)
			}
		})
	}
}
