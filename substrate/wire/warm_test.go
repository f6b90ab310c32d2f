package wire_test

import (
	"fmt"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/substrate/wire"
)

func modules(t testing.TB, from, to int) []cid.Cid {
	var ids []cid.Cid
	for i := from; i < to; i++ {
		h, err := multihash.Sum(fmt.Append(nil, i), multihash.SHA2_256, -1)
		require.NoError(t, err)
		ids = append(ids, cid.NewCidV1(cid.Raw, h))
	}
	return ids
}

func TestDigest(t *testing.T) {
	for _, n := range []int{0, 1, 10, 1000, 20_000} {
		in, out := modules(t, 0, n), modules(t, 100_000, 101_000)
		digest := wire.Digest(in)
		require.LessOrEqual(t, len(digest), 8<<10)
		for _, m := range in {
			require.True(t, wire.Warm(digest, m))
		}
		wrong := 0
		for _, m := range out {
			if wire.Warm(digest, m) {
				wrong++
			}
		}
		if n <= 1000 {
			require.Less(t, wrong, 100, "of 1000, with %d modules", n)
		}
	}
	require.False(t, wire.Warm(wire.Digest(modules(t, 0, 1)), cid.Undef))
	require.Zero(t, testing.AllocsPerRun(100, func() { wire.Warm([]byte{1, 2, 3}, cid.Undef) }))
}
