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

// writers has the role of who tells something checked, as every service does.
var writers = crdt.WithWriters(taubyte.RoleTNS)

// BenchmarkGrowth overwrites 10,000 keys a million times, from 64 writers, and
// reports what the store's folder then has for each byte of keys and values.
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
			s, err := crdt.Open(ctx, h, d, "bench", writers)
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

func newDisk(b *testing.B) taubyte.Datastore {
	d, err := taubyte.OpenDatastore(b.TempDir())
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, d.Close()) })
	return d
}

// BenchmarkJoin is a new member of a store with 100,000 keys of single puts, and
// the reopening of one.
func BenchmarkJoin(b *testing.B) {
	const keys = 100_000
	ctx := context.Background()
	for range b.N {
		nw := testnet.New(b)
		dir := b.TempDir()
		d, err := taubyte.OpenDatastore(dir)
		require.NoError(b, err)
		h, err := taubyte.NewHost(ctx, d)
		require.NoError(b, err)
		a, err := crdt.Open(ctx, h, d, "bench", writers)
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
		require.NoError(b, h.Close())
		require.NoError(b, d.Close())
		start := time.Now()
		d, err = taubyte.OpenDatastore(dir)
		require.NoError(b, err)
		disk := time.Since(start)
		b.Cleanup(func() { require.NoError(b, d.Close()) })
		na := nw.NodeOn(d)
		start = time.Now()
		a, err = crdt.Open(ctx, na, na.Store, "bench", writers)
		require.NoError(b, err)
		_, err = a.Get(ctx, key("/k/%06d", keys/2))
		require.NoError(b, err)
		b.ReportMetric((disk + time.Since(start)).Seconds(), "s/reopen")

		nb := nw.NodeOn(newDisk(b))
		start = time.Now()
		s, err := crdt.Open(ctx, nb, nb.Store, "bench", writers)
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
// of three members tells its watchers, at 500 puts a second.
func BenchmarkPropagation(b *testing.B) {
	const puts = 1500
	ctx := b.Context()
	nw := testnet.New(b)
	var stores []*crdt.Store
	for range 3 {
		stores = append(stores, open(b, nw.NodeOn(newDisk(b)), writers))
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
			for n := 0; n < puts*b.N; {
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
	var writes sync.WaitGroup
	for i := range puts * b.N {
		<-tick.C
		k := fmt.Sprintf("/k/%d", i)
		mu.Lock()
		sent[k] = time.Now()
		mu.Unlock()
		writes.Go(func() {
			if err := stores[i%3].Put(ctx, ds.NewKey(k), value128); err != nil {
				b.Error(err)
			}
		})
	}
	writes.Wait()
	wg.Wait()
	slices.Sort(took)
	ms := func(q float64) float64 {
		return float64(took[int(q*float64(len(took)-1))].Microseconds()) / 1000
	}
	b.ReportMetric(ms(0.5), "ms/p50")
	b.ReportMetric(ms(0.99), "ms/p99")
}

// BenchmarkBurst is 1,000 puts one after the other, and the time from the end of the
// last until another member has all of them.
func BenchmarkBurst(b *testing.B) {
	const puts = 1000
	ctx := b.Context()
	nw := testnet.New(b)
	from, to := open(b, nw.NodeOn(newDisk(b)), writers), open(b, nw.NodeOn(newDisk(b)), writers)
	testnet.Eventually(b, func() bool { return len(from.Peers()) == 1 && len(to.Peers()) == 1 }, "peers")
	var worst time.Duration
	for n := range b.N {
		events, err := to.Watch(ctx, key("/%d", n), 0)
		require.NoError(b, err)
		var last time.Time
		done := make(chan error, 1)
		go func() {
			for i := range puts {
				if err := from.Put(ctx, key("/%d/%d", n, i), value128); err != nil {
					done <- err
					return
				}
			}
			last = time.Now()
			done <- nil
		}()
		for range puts {
			require.False(b, (<-events).Lost)
		}
		seen := time.Now()
		require.NoError(b, <-done)
		worst = max(worst, seen.Sub(last))
	}
	b.ReportMetric(worst.Seconds(), "s/last-worst")
}
