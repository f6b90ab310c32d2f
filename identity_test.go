package taubyte_test

import (
	"crypto/rand"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testnet"
)

// A node that lost its store and kept its key is the same peer on another store.
func TestIdentityOutlivesTheStore(t *testing.T) {
	testnet.CheckLeaks(t)
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	require.NoError(t, err)
	want, err := peer.IDFromPrivateKey(key)
	require.NoError(t, err)
	var stores []string
	for range 2 {
		store := taubyte.MemoryDatastore()
		h, err := taubyte.NewHost(t.Context(), store, taubyte.WithIdentity(key))
		require.NoError(t, err)
		require.Equal(t, want, h.ID())
		require.NoError(t, h.Close())
		id, err := taubyte.StoreID(t.Context(), store)
		require.NoError(t, err)
		again, err := taubyte.StoreID(t.Context(), store)
		require.NoError(t, err)
		require.Equal(t, id, again)
		stores = append(stores, id)
	}
	require.NotEqual(t, stores[0], stores[1])
}
