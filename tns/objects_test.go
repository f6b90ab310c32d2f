package tns_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/tns"
)

// large is a part whose configuration has that many bytes and more.
func large(order uint64, bytes int) tns.Part {
	c := project(shop, "shop.example.com")
	c.Description = strings.Repeat("x", bytes)
	return part(order, c)
}

// What the API takes as a part reaches the members of the registry, those that come later
// too, and its history is listed at a distance.
func TestLargeDeploymentsReachLaterMembers(t *testing.T) {
	nw := testnet.New(t)
	service(t, nw.Node(taubyte.RoleTNS))
	worker := tns.NewClient(nw.Node(taubyte.RoleMonkey))
	defer worker.Close()
	const size = 5 << 20 // more than a block can have
	_, err := worker.Publish(t.Context(), shop, "main", large(1, size))
	require.NoError(t, err)
	b := nw.Node(taubyte.RoleTNS)
	sb := service(t, b)
	testnet.Eventually(t, func() bool {
		d, err := sb.Current(t.Context(), shop, "main")
		return err == nil && len(d.Config().Description) == size
	}, "a member that comes later has it")
	history, err := worker.History(t.Context(), shop, "main")
	require.NoError(t, err)
	require.Len(t, history, 1)
	require.Equal(t, part(1, nil).Commit, history[0].Commit())
	require.Equal(t, string(shop), history[0].Config().Name)
	require.Empty(t, history[0].Config().Description, "in short")
}

// A large deployment that leaves the history leaves the disk.
func TestLargeDeploymentsAreDeletedWhole(t *testing.T) {
	nw := testnet.New(t)
	n := nw.Node(taubyte.RoleTNS)
	s := service(t, n, tns.WithHistory(2))
	there := func() (count int) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		all, err := n.Blocks().Blockstore().AllKeysChan(ctx)
		require.NoError(t, err)
		for range all {
			count++
		}
		return count
	}
	for order := range uint64(2) {
		_, err := s.Publish(t.Context(), shop, "main", large(order+1, 1<<20))
		require.NoError(t, err)
	}
	full := there()
	require.Greater(t, full, 2)
	for order := range uint64(4) {
		_, err := s.Publish(t.Context(), shop, "main", large(order+3, 1<<20))
		require.NoError(t, err)
	}
	testnet.Eventually(t, func() bool { return there() == full }, "there is no more than two deployments are")
}
