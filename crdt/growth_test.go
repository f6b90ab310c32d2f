package crdt_test

import (
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testnet"
)

// What was overwritten goes from the disk too: the folder holds at most three times
// the keys and values that are live.
func TestTheFolderDoesNotGrow(t *testing.T) {
	const keys, rounds, length = 2000, 8, 1 << 10
	nw := testnet.New(t)
	dir := t.TempDir()
	d, err := taubyte.OpenDatastore(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	s := open(t, nw.NodeOn(d))
	random, value := rand.NewChaCha8([32]byte{}), make([]byte, length)
	live := 0
	for range rounds {
		batch, err := s.Batch(t.Context())
		require.NoError(t, err)
		live = 0
		for i := range keys {
			_, _ = random.Read(value) // nothing to compress away
			k := key("/k/%04d", i)
			require.NoError(t, batch.Put(t.Context(), k, value))
			live += len(k.String()) + length
		}
		require.NoError(t, batch.Commit(t.Context()))
	}
	disk := func() (n int) {
		_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return nil // the engine just removed it
			}
			if info, err := e.Info(); err == nil {
				n += int(info.Size())
			}
			return nil
		})
		return n
	}
	testnet.Eventually(t, func() bool { return disk() <= 3*live }, "the engine has tidied up")
	t.Logf("%d bytes on disk for %d live ones, %d written", disk(), live, rounds*live)
}
