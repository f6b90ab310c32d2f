package crdt_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/exchange/offline"
	"github.com/ipfs/boxo/ipld/merkledag"
	ds "github.com/ipfs/go-datastore"
	plain "github.com/ipfs/go-ds-crdt"
	pebbleds "github.com/ipfs/go-ds-pebble"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/crdt"
)

// The stores that are compared, all upon pebble:
//
//	bare               pebble, every write synced, nothing replicated
//	go-ds-crdt         with its default options on the same datastore; a put is five
//	                   or so writes, each synced, under one lock
//	go-ds-crdt-nosync  the same on a pebble that syncs nothing, as it is used often:
//	                   what a put confirms is gone with the power
//	crdt               this package, every put synced, roles checked
func contenders(b *testing.B, run func(b *testing.B, s taubyte.Datastore)) {
	b.Run("bare", func(b *testing.B) { run(b, newDisk(b)) })
	b.Run("go-ds-crdt", func(b *testing.B) { run(b, plainOn(b, newDisk(b))) })
	b.Run("go-ds-crdt-nosync", func(b *testing.B) {
		d, err := pebbleds.NewDatastore(b.TempDir(), pebbleds.WithPebbleWriteOptions(pebble.NoSync))
		require.NoError(b, err)
		b.Cleanup(func() { require.NoError(b, d.Close()) })
		run(b, plainOn(b, d))
	})
	b.Run("crdt", func(b *testing.B) {
		d := newDisk(b)
		h, err := taubyte.NewHost(context.Background(), d)
		require.NoError(b, err)
		b.Cleanup(func() { require.NoError(b, h.Close()) })
		s, err := crdt.Open(context.Background(), h, d, "bench", crdt.WithWriters(taubyte.RoleTNS))
		require.NoError(b, err)
		b.Cleanup(func() { require.NoError(b, s.Close()) })
		run(b, s)
	})
}

func plainOn(b *testing.B, d taubyte.Datastore) taubyte.Datastore {
	dag := merkledag.NewDAGService(blockservice.New(blockstore.NewBlockstore(d), offline.Exchange(blockstore.NewBlockstore(d))))
	s, err := plain.New(d, ds.NewKey("/crdt"), dag, nil, nil)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, s.Close()) })
	return s
}

var value128 = make([]byte, 128)

// BenchmarkPut is durable single puts from so many writers at once.
func BenchmarkPut(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			contenders(b, func(b *testing.B, s taubyte.Datastore) {
				var next atomic.Int64
				var wg sync.WaitGroup
				for range writers {
					wg.Go(func() {
						for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
							if err := s.Put(context.Background(), key("/k/%d", i%10000), value128); err != nil {
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

// BenchmarkBatch is batches of ten from one writer.
func BenchmarkBatch(b *testing.B) {
	contenders(b, func(b *testing.B, s taubyte.Datastore) {
		ctx := context.Background()
		for i := range b.N {
			batch, err := s.Batch(ctx)
			require.NoError(b, err)
			for j := range 10 {
				require.NoError(b, batch.Put(ctx, key("/k/%d", (i*10+j)%10000), value128))
			}
			require.NoError(b, batch.Commit(ctx))
		}
		b.ReportMetric(float64(10*b.N)/b.Elapsed().Seconds(), "puts/s")
	})
}

// BenchmarkGet reads 10,000 keys round and round.
func BenchmarkGet(b *testing.B) {
	contenders(b, func(b *testing.B, s taubyte.Datastore) {
		ctx := context.Background()
		var keys []ds.Key
		batch, err := s.Batch(ctx)
		require.NoError(b, err)
		for i := range 10000 {
			keys = append(keys, key("/k/%d", i))
			require.NoError(b, batch.Put(ctx, keys[i], value128))
		}
		require.NoError(b, batch.Commit(ctx))
		b.ResetTimer()
		for i := range b.N {
			if _, err := s.Get(ctx, keys[i%len(keys)]); err != nil {
				b.Fatal(err)
			}
		}
	})
}
