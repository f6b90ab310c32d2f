package unixfs_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/unixfs"
)

var siteMiB = flag.Int("site-mib", 64, "size of the tree that BenchmarkAddFS adds, in MiB")

// writeTree makes a tree of n files of so many random bytes, 100 in a folder.
func writeTree(b *testing.B, dir string, n, size int, seed uint64) {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	r := rand.NewChaCha8(key)
	content := make([]byte, size)
	for i := range n {
		if i%100 == 0 {
			require.NoError(b, os.MkdirAll(filepath.Join(dir, fmt.Sprint(i/100)), 0o700))
		}
		_, _ = r.Read(content)
		require.NoError(b, os.WriteFile(filepath.Join(dir, fmt.Sprint(i/100), fmt.Sprint(i)), content, 0o600))
	}
}

// BenchmarkAddFS adds a tree of large files, and one of many small ones, to the embedded
// store. The baseline is what no way of keeping it durably by its hash can do without:
// reading, SHA2-256, and synced batches of the bare engine.
func BenchmarkAddFS(b *testing.B) {
	for _, shape := range []struct {
		name    string
		n, size int
	}{{"large", *siteMiB, 1 << 20}, {"small", 20_000, 2 << 10}} {
		each := func(b *testing.B, do func(b *testing.B, dir string)) {
			b.SetBytes(int64(shape.n * shape.size))
			for i := range b.N {
				b.StopTimer()
				dir := filepath.Join(b.TempDir(), "tree")
				writeTree(b, dir, shape.n, shape.size, uint64(i))
				b.StartTimer()
				do(b, dir)
				b.StopTimer()
				require.NoError(b, os.RemoveAll(dir))
				b.StartTimer()
			}
			b.ReportMetric(float64(b.N*shape.n)/b.Elapsed().Seconds(), "files/s")
		}
		b.Run(shape.name+"/baseline=pebble+sha256", func(b *testing.B) {
			db, err := pebble.Open(b.TempDir(), &pebble.Options{Logger: quiet{}})
			require.NoError(b, err)
			defer func() { require.NoError(b, db.Close()) }()
			each(b, func(b *testing.B, dir string) { baseline(b, db, dir) })
		})
		b.Run(shape.name+"/unixfs", func(b *testing.B) {
			store, err := taubyte.OpenDatastore(b.TempDir())
			require.NoError(b, err)
			defer func() { require.NoError(b, store.Close()) }()
			bs := blockservice.New(blockstore.NewBlockstore(store), nil)
			each(b, func(b *testing.B, dir string) {
				_, err := unixfs.AddFS(context.Background(), bs, os.DirFS(dir))
				require.NoError(b, err)
			})
		})
	}
}

type quiet struct{}

func (quiet) Infof(string, ...any)         {}
func (quiet) Errorf(string, ...any)        {}
func (quiet) Fatalf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }

func baseline(b *testing.B, db *pebble.DB, dir string) {
	batch := db.NewBatch()
	commit := func() {
		require.NoError(b, batch.Commit(pebble.Sync))
		batch = db.NewBatch()
	}
	buf := make([]byte, 256<<10)
	require.NoError(b, fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		defer f.Close()
		for {
			n, err := io.ReadFull(f, buf)
			if n == 0 {
				return nil
			}
			sum := sha256.Sum256(buf[:n])
			require.NoError(b, batch.Set(sum[:], buf[:n], nil))
			if batch.Len() > 4<<20 {
				commit()
			}
			if err != nil {
				return nil
			}
		}
	}))
	commit()
}
