package cloud_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/cloud"
	"github.com/taubyte/taubyte/internal/testnet"
)

// open starts a node that runs tns alone.
func open(t *testing.T, dir string, opts ...cloud.Option) *cloud.Node {
	t.Helper()
	opts = append([]cloud.Option{cloud.WithServices(taubyte.RoleTNS), cloud.WithLogger(testnet.Logger(t))}, opts...)
	n, err := cloud.Open(t.Context(), dir, opts...)
	require.NoError(t, err)
	return n
}

func TestNodeComesBackWithoutItsStore(t *testing.T) {
	testnet.CheckLeaks(t)
	dir := t.TempDir()
	n := open(t, dir)
	id, token := n.Host.ID(), n.Token()
	require.NoError(t, n.Close())
	info, err := os.Stat(filepath.Join(dir, "identity.key"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	require.NoError(t, os.RemoveAll(filepath.Join(dir, "store")))
	n = open(t, dir)
	require.Equal(t, id, n.Host.ID())
	require.Equal(t, token, n.Token())
	require.NoError(t, n.Close())

	require.NoError(t, os.WriteFile(filepath.Join(dir, "identity.key"), []byte("damage"), 0o600))
	_, err = cloud.Open(t.Context(), dir, cloud.WithServices(taubyte.RoleTNS))
	require.ErrorIs(t, err, taubyte.ErrInvalid)
	require.ErrorContains(t, err, filepath.Join(dir, "identity.key"))
}

// The key of a node whose store holds it becomes a file.
func TestIdentityMovesOutOfTheStore(t *testing.T) {
	testnet.CheckLeaks(t)
	dir := t.TempDir()
	store, err := taubyte.OpenDatastore(filepath.Join(dir, "store"))
	require.NoError(t, err)
	key, err := taubyte.Identity(t.Context(), store)
	require.NoError(t, err)
	require.NoError(t, store.Close())
	want, err := peer.IDFromPrivateKey(key)
	require.NoError(t, err)
	for range 2 {
		n := open(t, dir)
		require.Equal(t, want, n.Host.ID())
		require.NoError(t, n.Close())
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "store")))
	}
}

// A store that can't be opened says which it is and what to do; set aside, it is in
// nobody's way.
func TestDamagedStoreIsSetAside(t *testing.T) {
	testnet.CheckLeaks(t)
	dir := t.TempDir()
	n := open(t, dir)
	id, token := n.Host.ID(), n.Token()
	_, err := cloud.ResetStore(t.Context(), dir)
	require.ErrorIs(t, err, taubyte.ErrConflict, "the node runs")
	require.NoError(t, n.Close())

	manifests, err := filepath.Glob(filepath.Join(dir, "store", "MANIFEST-*"))
	require.NoError(t, err)
	require.NotEmpty(t, manifests)
	for _, m := range manifests {
		require.NoError(t, os.Truncate(m, 10))
	}
	_, err = cloud.Open(t.Context(), dir, cloud.WithServices(taubyte.RoleTNS))
	require.ErrorIs(t, err, taubyte.ErrDamaged)
	require.ErrorContains(t, err, filepath.Join(dir, "store"))
	require.ErrorContains(t, err, "taubyte store reset --data "+dir)

	done, err := cloud.ResetStore(t.Context(), dir)
	require.NoError(t, err)
	require.False(t, done.NewIdentity)
	require.FileExists(t, filepath.Join(done.Aside, filepath.Base(manifests[0])))
	_, err = cloud.ResetStore(t.Context(), dir)
	require.ErrorIs(t, err, taubyte.ErrNotFound, "there is none any more")
	n = open(t, dir)
	require.Equal(t, id, n.Host.ID())
	require.Equal(t, token, n.Token())
	require.NoError(t, n.Close())
}

// A node that kept its identity in the store and lost that says so.
func TestIdentityLostWithTheStore(t *testing.T) {
	testnet.CheckLeaks(t)
	dir := t.TempDir()
	n := open(t, dir)
	id := n.Host.ID()
	require.NoError(t, n.Close())
	require.NoError(t, os.Remove(filepath.Join(dir, "identity.key")))
	manifests, err := filepath.Glob(filepath.Join(dir, "store", "MANIFEST-*"))
	require.NoError(t, err)
	for _, m := range manifests {
		require.NoError(t, os.Truncate(m, 10))
	}
	done, err := cloud.ResetStore(t.Context(), dir)
	require.NoError(t, err)
	require.True(t, done.NewIdentity)
	n = open(t, dir)
	require.NotEqual(t, id, n.Host.ID())
	require.NoError(t, n.Close())
}
