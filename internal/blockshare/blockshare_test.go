package blockshare_test

import (
	"context"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/namespace"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/blockshare"
	"github.com/taubyte/taubyte/internal/testnet"
)

func share(n *testnet.Node) *blockshare.Blocks {
	return blockshare.New(n, namespace.Wrap(n.Store, ds.NewKey("/test")), taubyte.RoleTNS)
}

// get asks so many times: a want that follows upon the end of another for the same block
// may get lost in bitswap.
func get(t *testing.T, n *testnet.Node, c cid.Cid, times int) (err error) {
	for range times {
		ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
		_, err = n.Blocks().GetBlock(ctx, c)
		cancel()
		if err == nil {
			break
		}
	}
	return err
}

func TestBlocksOfOneRole(t *testing.T) {
	net := testnet.New(t)
	a, b := net.Node(taubyte.RoleTNS), net.Node(taubyte.RoleTNS)
	other, keeper := net.Node(taubyte.RoleMonkey, taubyte.RoleSubstrate, taubyte.RoleGateway), net.Node(taubyte.RoleHoarder)
	sa, sb := share(a), share(b)
	defer sa.Stop()
	defer sb.Stop()
	const arrival, refusal = 40, 1 // times

	block, there, plain := blocks.NewBlock([]byte("shared")), blocks.NewBlock([]byte("there before")), blocks.NewBlock([]byte("not shared"))
	require.NoError(t, a.Blocks().AddBlocks(t.Context(), []blocks.Block{there, plain}))
	require.NoError(t, sa.AddBlocks(t.Context(), []blocks.Block{block, there}))
	require.Error(t, get(t, other, block.Cid(), refusal))
	require.Error(t, get(t, b, plain.Cid(), refusal))
	require.NoError(t, get(t, b, there.Cid(), arrival))
	require.NoError(t, get(t, keeper, plain.Cid(), arrival), "a hoarder is given everything")

	// What was read through it is shared as well, and no more when it was deleted.
	_, err := sb.GetBlock(t.Context(), block.Cid())
	require.NoError(t, err)
	require.NoError(t, sa.Blockstore().DeleteBlock(t.Context(), block.Cid()))
	third := net.Node(taubyte.RoleTNS)
	require.NoError(t, get(t, third, block.Cid(), arrival))
	require.NoError(t, sb.Mark(t.Context(), plain.Cid()))
	require.NoError(t, sa.Mark(t.Context(), plain.Cid()))
	require.NoError(t, get(t, third, plain.Cid(), arrival))

	// The marks are in the store.
	sa.Stop()
	sb.Stop()
	fourth := net.Node(taubyte.RoleTNS)
	require.Error(t, get(t, fourth, there.Cid(), refusal))
	sa = share(a)
	defer sa.Stop()
	require.NoError(t, get(t, fourth, there.Cid(), arrival))
}
