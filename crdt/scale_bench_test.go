package crdt_test

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/crdt"
	"github.com/taubyte/taubyte/internal/testnet"
)

// BenchmarkGrowth overwrites 10,000 keys a million times, from 64 writers, and
// reports what is then on disk for each byte of live data. Run it with
// -benchtime 1x.
func BenchmarkGrowth(b *testing.B) {
	const keys, writes = 10_000, 1_000_000
	for range b.N {
		dir := b.TempDir()
		ctx := context.Background()
		cycle := func(run func(s *crdt.Store)) {
			d, err := taubyte.OpenDatastore(dir)
			require.NoError(b, err)
			h, err := taubyte.NewHost(ctx, d)
			require.NoError(b, err)
			s, err := crdt.Open(ctx, h, d, "bench")
			require.NoError(b, err)
			run(s)
			require.NoError(b, s.Close())
			require.NoError(b, h.Close())
			require.NoError(b, d.Close())
		}
		live := 0
		cycle(func(s *crdt.Store) {
			var wg sync.WaitGroup
			for w := range 64 {
				wg.Go(func() {
					random, value := rand.NewChaCha8([32]byte{byte(w)}), make([]byte, 128)
					for i := w; i < writes; i += 64 {
						_, _ = random.Read(value)
						if err := s.Put(ctx, key("/k/%05d", i%keys), value); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			live = keys * (len("/k/00000") + len(value128))
			st, err := s.Stats(ctx)
			require.NoError(b, err)
			b.ReportMetric(float64(st.Bytes+st.HistoryBytes)/float64(live), "logical/live")
		})
		b.ReportMetric(float64(size(b, dir, ".sst"))/float64(live), "tables/live")
		b.ReportMetric(float64(size(b, dir, ""))/float64(live), "disk/live")
	}
}

// size is that of the files in a folder whose names end so.
func size(b *testing.B, dir, suffix string) (n int64) {
	require.NoError(b, filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(d.Name(), suffix) {
			return err
		}
		info, err := d.Info()
		n += info.Size()
		return err
	}))
	return n
}

func disk(b *testing.B) taubyte.Datastore {
	d, err := taubyte.OpenDatastore(b.TempDir())
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, d.Close()) })
	return d
}

// BenchmarkJoin is a new member of a store with 100,000 keys of single puts, and
// the reopening of one. Run it with -benchtime 1x.
func BenchmarkJoin(b *testing.B) {
	const keys = 100_000
	ctx := context.Background()
	for range b.N {
		nw := testnet.New(b)
		na := nw.NodeOn(disk(b))
		a, err := crdt.Open(ctx, na, na.Store, "bench")
		require.NoError(b, err)
		var wg sync.WaitGroup
		for w := range 64 {
			wg.Go(func() {
				for i := w; i < keys; i += 64 {
					if err := a.Put(ctx, key("/k/%06d", i), value128); err != nil {
						b.Error(err)
					}
				}
			})
		}
		wg.Wait()
		require.NoError(b, a.Close())
		start := time.Now()
		a, err = crdt.Open(ctx, na, na.Store, "bench")
		require.NoError(b, err)
		b.ReportMetric(time.Since(start).Seconds(), "s/reopen")

		nb := nw.NodeOn(disk(b))
		start = time.Now()
		s, err := crdt.Open(ctx, nb, nb.Store, "bench")
		require.NoError(b, err)
		require.NoError(b, s.Synced(ctx))
		b.ReportMetric(time.Since(start).Seconds(), "s/join")
		st, err := s.Stats(ctx)
		require.NoError(b, err)
		require.Equal(b, keys, int(st.Keys))
		require.NoError(b, s.Close())
		require.NoError(b, a.Close())
	}
}

// BenchmarkPropagation is the time from the beginning of a put until the last
// of two other members tells its watchers, at 500 puts a second.
func BenchmarkPropagation(b *testing.B) {
	ctx := b.Context()
	nw := testnet.New(b)
	var stores []*crdt.Store
	for range 3 {
		stores = append(stores, open(b, nw.NodeOn(disk(b))))
	}
	for _, s := range stores {
		testnet.Eventually(b, func() bool { return len(s.Peers()) == 2 }, "peers")
	}
	time.Sleep(time.Second) // gossip's mesh forms
	var mu sync.Mutex
	sent, seen, took := map[string]time.Time{}, map[string]int{}, []time.Duration(nil)
	var wg sync.WaitGroup
	for _, s := range stores {
		ch, err := s.Watch(ctx, ds.NewKey("/k"), 0)
		require.NoError(b, err)
		wg.Go(func() {
			for n := 0; n < b.N; {
				e := <-ch
				require.False(b, e.Lost)
				n++
				mu.Lock()
				name := e.Key.String()
				if seen[name]++; seen[name] == len(stores) {
					took = append(took, time.Since(sent[name]))
				}
				mu.Unlock()
			}
		})
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	var puts sync.WaitGroup
	for i := range b.N {
		<-tick.C
		k := fmt.Sprintf("/k/%d", i)
		mu.Lock()
		sent[k] = time.Now()
		mu.Unlock()
		puts.Go(func() {
			if err := stores[i%3].Put(ctx, ds.NewKey(k), value128); err != nil {
				b.Error(err)
			}
		})
	}
	puts.Wait()
	wg.Wait()
	slices.Sort(took)
	ms := func(q float64) float64 {
		return float64(took[int(q*float64(len(took)-1))].Microseconds()) / 1000
	}
	b.ReportMetric(ms(0.5), "ms/p50")
	b.ReportMetric(ms(0.99), "ms/p99")
}
