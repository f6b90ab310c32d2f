package hoarder_test

import (
	"strings"
	"testing"

	"github.com/ipfs/go-datastore/query"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/testnet"
)

// hasKeys reports whether the node's store has keys that begin like this.
func hasKeys(t *testing.T, n *testnet.Node, prefix string) bool {
	t.Helper()
	res, err := n.Store.Query(t.Context(), query.Query{KeysOnly: true})
	require.NoError(t, err)
	all, err := res.Rest()
	require.NoError(t, err)
	for _, e := range all {
		if strings.HasPrefix(e.Key, prefix) {
			return true
		}
	}
	return false
}
