package taubyte_test

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
)

func TestASmallStoreStaysSmall(t *testing.T) {
	dir := t.TempDir()
	d, err := taubyte.OpenDatastore(dir)
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	const keys, rounds = 200, 150
	for round := range rounds {
		batch, err := d.Batch(t.Context())
		require.NoError(t, err)
		value := make([]byte, 1<<10)
		for i := range value {
			value[i] = byte(round * i) // nothing to compress away
		}
		for i := range keys {
			require.NoError(t, batch.Put(t.Context(), ds.NewKey(fmt.Sprintf("/k/%03d", i)), value))
		}
		require.NoError(t, batch.Commit(t.Context()))
	}
	var disk int64
	require.NoError(t, filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		disk += info.Size()
		return err
	}))
	require.Less(t, disk, int64(4<<20), "30 MB were written, of which 200 KB are live")
}
