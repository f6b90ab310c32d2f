package hoarder_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	ds "github.com/ipfs/go-datastore"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/crdt"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/internal/unixfs"
)

func onDiskStore(b *testing.B) taubyte.Datastore {
	d, err := taubyte.OpenDatastore(b.TempDir())
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, d.Close()) })
	return d
}

// openers runs a benchmark on a hoarder's own node and on another one.
func openers(b *testing.B, run func(b *testing.B, o opener)) {
	quiet := hoarder.WithLogger(slog.New(slog.DiscardHandler))
	for _, where := range []string{"local", "remote"} {
		b.Run(where, func(b *testing.B) {
			net := testnet.New(b)
			d := onDiskStore(b)
			n := net.NodeOn(d)
			caller := n
			if where == "remote" {
				caller = net.Node(taubyte.RoleSubstrate)
			}
			s, err := hoarder.New(context.Background(), n, d, quiet)
			require.NoError(b, err)
			defer s.Close()
			c := hoarder.NewClient(caller)
			defer c.Close()
			run(b, c)
		})
	}
}

// keyValue is what the contenders have in common.
type keyValue interface {
	Get(context.Context, string) ([]byte, error)
	Put(context.Context, string, []byte) error
}

type plainStore struct{ taubyte.Datastore }

func (s plainStore) Get(ctx context.Context, key string) ([]byte, error) {
	return s.Datastore.Get(ctx, ds.RawKey("/"+key))
}

func (s plainStore) Put(ctx context.Context, key string, value []byte) error {
	return s.Datastore.Put(ctx, ds.RawKey("/"+key), value)
}

func keyValues(b *testing.B, run func(b *testing.B, kv keyValue)) {
	b.Run("pebble", func(b *testing.B) { run(b, plainStore{onDiskStore(b)}) })
	b.Run("crdt", func(b *testing.B) {
		d := onDiskStore(b)
		h, err := taubyte.NewHost(context.Background(), d)
		require.NoError(b, err)
		defer h.Close()
		s, err := crdt.Open(context.Background(), h, d, "bench")
		require.NoError(b, err)
		defer s.Close()
		run(b, plainStore{s})
	})
	openers(b, func(b *testing.B, o opener) {
		d, err := o.Database(context.Background(), named("bench"), hoarder.DatabaseSpec{})
		require.NoError(b, err)
		run(b, d)
	})
}

// BenchmarkDatabasePut is durable single puts of 128 bytes from so many writers.
func BenchmarkDatabasePut(b *testing.B) {
	value := make([]byte, 128)
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			keyValues(b, func(b *testing.B, kv keyValue) {
				var next atomic.Int64
				var wg sync.WaitGroup
				b.ResetTimer()
				for range writers {
					wg.Go(func() {
						for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
							if err := kv.Put(context.Background(), fmt.Sprintf("k%d", i%10000), value); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
			})
		})
	}
}

// BenchmarkDatabaseGet reads 1,000 keys round and round.
func BenchmarkDatabaseGet(b *testing.B) {
	keyValues(b, func(b *testing.B, kv keyValue) {
		var wg sync.WaitGroup
		for i := range 1000 {
			wg.Go(func() { _ = kv.Put(context.Background(), fmt.Sprintf("k%d", i), make([]byte, 128)) })
			if i%64 == 63 {
				wg.Wait()
			}
		}
		wg.Wait()
		keys := make([]string, 1000)
		for i := range keys {
			keys[i] = fmt.Sprintf("k%d", i)
		}
		b.ReportAllocs()
		b.ResetTimer()
		for i := range b.N {
			if _, err := kv.Get(context.Background(), keys[i%len(keys)]); err != nil {
				b.Fatal(err)
			}
		}
	})
}

const streamed = 32 << 20

// change makes the content's blocks other ones.
func change(content []byte, n int) {
	for at := 0; at < len(content); at += 4096 {
		content[at] = byte(n)
	}
}

// BenchmarkStorageAdd stores files of 32 MiB, each of other bytes.
func BenchmarkStorageAdd(b *testing.B) {
	content := noise(1, streamed)
	b.Run("file", func(b *testing.B) {
		dir := b.TempDir()
		b.SetBytes(streamed)
		for i := range b.N {
			change(content, i+1)
			f, err := os.Create(filepath.Join(dir, "f"))
			require.NoError(b, err)
			_, err = io.Copy(f, bytes.NewReader(content))
			require.NoError(b, err)
			require.NoError(b, f.Sync())
			require.NoError(b, f.Close())
		}
	})
	b.Run("unixfs", func(b *testing.B) { // the blocks alone
		bs := blockservice.New(blockstore.NewBlockstore(onDiskStore(b)), nil)
		b.SetBytes(streamed)
		b.ResetTimer()
		for i := range b.N {
			change(content, i+1)
			_, err := unixfs.AddFile(context.Background(), bs, bytes.NewReader(content))
			require.NoError(b, err)
		}
	})
	openers(b, func(b *testing.B, o opener) {
		s, err := o.Storage(context.Background(), named("bench"), hoarder.StorageSpec{})
		require.NoError(b, err)
		b.SetBytes(streamed)
		b.ResetTimer()
		for i := range b.N {
			change(content, i+1)
			_, err := s.Add(context.Background(), "f", bytes.NewReader(content), true)
			require.NoError(b, err)
		}
	})
}

// BenchmarkStorageOpen reads a file of 32 MiB to its end.
func BenchmarkStorageOpen(b *testing.B) {
	content := noise(1, streamed)
	b.Run("file", func(b *testing.B) {
		name := filepath.Join(b.TempDir(), "f")
		require.NoError(b, os.WriteFile(name, content, 0o600))
		b.SetBytes(streamed)
		for range b.N {
			f, err := os.Open(name)
			require.NoError(b, err)
			_, err = io.Copy(io.Discard, struct{ io.Reader }{f})
			require.NoError(b, err)
			require.NoError(b, f.Close())
		}
	})
	openers(b, func(b *testing.B, o opener) {
		s, err := o.Storage(context.Background(), named("bench"), hoarder.StorageSpec{})
		require.NoError(b, err)
		_, err = s.Add(context.Background(), "f", bytes.NewReader(content), true)
		require.NoError(b, err)
		b.SetBytes(streamed)
		b.ResetTimer()
		for range b.N {
			r, _, err := s.Open(context.Background(), "f", 0)
			require.NoError(b, err)
			n, err := io.Copy(io.Discard, r)
			require.NoError(b, err)
			require.EqualValues(b, streamed, n)
			require.NoError(b, r.Close())
		}
	})
}

// BenchmarkConfirmedPut is what it costs that a write is on two disks when it returns,
// beside one that is on one, and the bare store.
func BenchmarkConfirmedPut(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprintf("pebble/writers=%d", writers), func(b *testing.B) {
			d := plainStore{onDiskStore(b)}
			puts(b, writers, func(key string, value []byte) error { return d.Put(b.Context(), key, value) })
		})
		for _, replicas := range []int{1, 2} {
			b.Run(fmt.Sprintf("replicas=%d/writers=%d", replicas, writers), func(b *testing.B) {
				net := testnet.New(b)
				var at *hoarder.Service
				for range 2 {
					n := net.NodeOn(onDiskStore(b), taubyte.RoleHoarder)
					s, err := hoarder.New(b.Context(), n, n.Store, hoarder.WithLogger(slog.New(slog.DiscardHandler)))
					require.NoError(b, err)
					b.Cleanup(func() { require.NoError(b, s.Close()) })
					at = s
				}
				d, err := at.Database(b.Context(), named("x"), hoarder.DatabaseSpec{Min: replicas, Max: replicas})
				require.NoError(b, err)
				testnet.Eventually(b, func() bool {
					c, err := d.PutCopies(b.Context(), "first", nil)
					return err == nil && c.Disks == replicas
				}, "%d replicas", replicas)
				var single atomic.Int64
				puts(b, writers, func(key string, value []byte) error {
					c, err := d.PutCopies(b.Context(), key, value)
					if c.Disks < replicas {
						single.Add(1)
					}
					return err
				})
				b.ReportMetric(float64(single.Load()), "unconfirmed")
			})
		}
	}
}

// puts has so many writers put b.N values of 128 bytes.
func puts(b *testing.B, writers int, put func(key string, value []byte) error) {
	value := make([]byte, 128)
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range writers {
		wg.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				if err := put(fmt.Sprint(n), value); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
}
