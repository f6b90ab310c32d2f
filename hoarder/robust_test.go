package hoarder_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/internal/testnet"
)

// A reader that gives some bytes and then stands still until it is let go.
type stuck struct {
	first io.Reader
	stood chan struct{}
	once  sync.Once
	let   chan struct{}
}

func newStuck(n int) *stuck {
	return &stuck{first: bytes.NewReader(noise(21, n)), stood: make(chan struct{}), let: make(chan struct{})}
}

func (s *stuck) Read(p []byte) (int, error) {
	if n, err := s.first.Read(p); err == nil {
		return n, nil
	}
	s.once.Do(func() { close(s.stood) })
	<-s.let
	return 0, io.EOF
}

// Neither dropping nor closing waits for who uploads and stands still.
func TestStuckUploads(t *testing.T) {
	for name, end := range map[string]func(s *hoarder.Service) error{
		"drop":  func(s *hoarder.Service) error { return s.Drop(context.Background(), named("x")) },
		"close": func(s *hoarder.Service) error { return s.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			n := testnet.New(t).Node()
			s := start(t, n)
			st := storage(t, s, named("x"), hoarder.StorageSpec{})
			r := newStuck(700_000)
			result := make(chan error, 1)
			go func() {
				_, err := st.Add(context.Background(), "f", r, false)
				result <- err
			}()
			<-r.stood
			require.NoError(t, end(s))
			close(r.let)
			require.Error(t, <-result)
			if name == "drop" {
				testnet.Eventually(t, func() bool { return blockCount(t, n) == 0 }, "nothing is left")
				return
			}
			// The next life finds what was cut off.
			again := start(t, n)
			testnet.Eventually(t, func() bool { return blockCount(t, n) == 0 }, "nothing is left")
			_, err := storage(t, again, named("x"), hoarder.StorageSpec{}).Stat(t.Context(), "f", 0)
			require.ErrorIs(t, err, taubyte.ErrNotFound)
		})
	}
}

// The uploading node goes away in the middle.
func TestUploaderGone(t *testing.T) {
	net := testnet.New(t)
	n, caller := net.Node(taubyte.RoleHoarder), net.Node(taubyte.RoleSubstrate)
	s := start(t, n)
	st := storage(t, client(t, caller), named("x"), hoarder.StorageSpec{})
	none := blockCount(t, n)
	r := newStuck(1 << 20)
	result := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := st.Add(ctx, "f", r, false)
		result <- err
	}()
	<-r.stood
	cancel()
	close(r.let)
	require.ErrorIs(t, <-result, context.Canceled)
	testnet.Eventually(t, func() bool { return blockCount(t, n) == none }, "nothing is left")
	local := storage(t, s, named("x"), hoarder.StorageSpec{})
	_, err := local.Stat(t.Context(), "f", 0)
	require.ErrorIs(t, err, taubyte.ErrNotFound)
	used, err := local.Used(t.Context())
	require.NoError(t, err)
	require.Zero(t, used)
}

// Content that is kept and content of storages leave each other's blocks alone.
func TestKeptAndStoredShareBlocks(t *testing.T) {
	n := testnet.New(t).Node()
	s := start(t, n)
	st := storage(t, s, named("x"), hoarder.StorageSpec{})
	f := put(t, st, "f", noise(31, 600_000), false)
	require.NoError(t, s.Keep(t.Context(), f.CID, for_("P")))
	require.NoError(t, s.Release(t.Context(), f.CID, "P"))
	testnet.Eventually(t, func() bool { _, err := s.Item(t.Context(), f.CID); return err != nil }, "released")
	require.True(t, onDisk(t, n, f.CID), "the storage has it")

	require.NoError(t, s.Keep(t.Context(), f.CID, for_("P")))
	require.NoError(t, st.Remove(t.Context(), "f", 0, false))
	put(t, st, "g", nil, false)
	testnet.Eventually(t, func() bool { return !hasKeys(t, n, "/hoarder/garbage") }, "looked at")
	require.True(t, onDisk(t, n, f.CID), "it is kept")
	require.NoError(t, s.Release(t.Context(), f.CID, "P"))
	testnet.Eventually(t, func() bool { return !onDisk(t, n, f.CID) }, "nobody has it")
}

// Collection gets its turn although somebody holds at every moment.
func TestCollectionDoesNotStarve(t *testing.T) {
	n := testnet.New(t).Node()
	s := start(t, n)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				release, err := s.Hold(ctx)
				if err != nil {
					return
				}
				select {
				case <-time.After(5 * time.Millisecond):
				case <-ctx.Done():
				}
				release()
			}
		})
	}
	wg.Go(func() {
		st := storage(t, s, named("busy"), hoarder.StorageSpec{})
		for i := 0; ctx.Err() == nil; i++ {
			if _, err := st.Add(ctx, "f", bytes.NewReader(fmt.Append(nil, i)), true); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	st := storage(t, s, named("x"), hoarder.StorageSpec{})
	f := put(t, st, "f", noise(41, 300_000), false)
	require.NoError(t, st.Remove(ctx, "f", 0, false))
	testnet.Eventually(t, func() bool { return !onDisk(t, n, f.CID) }, "collected")
	stop()
	wg.Wait()
}

// Stores are opened, used, dropped and made again all at once.
func TestDropWhileInUse(t *testing.T) {
	net := testnet.New(t)
	nodes := []*testnet.Node{net.Node(taubyte.RoleHoarder), net.Node(taubyte.RoleHoarder)}
	caller := net.Node(taubyte.RoleHoarder)
	openers := []opener{
		start(t, nodes[0], hoarder.WithOpenStores(1)), start(t, nodes[1], hoarder.WithOpenStores(1)), client(t, caller),
	}
	var wg sync.WaitGroup
	end := time.Now().Add(2 * time.Second)
	for i, o := range openers {
		for j := range 3 {
			wg.Go(func() {
				for n := 0; time.Now().Before(end); n++ {
					inst := named(fmt.Sprint((i + j + n) % 3))
					if n%17 == 16 {
						if err := o.Drop(t.Context(), inst); err != nil {
							t.Error("drop", err)
						}
						continue
					}
					// What may happen when somebody drops it meanwhile.
					mild := func(err error) bool {
						return err == nil || errors.Is(err, taubyte.ErrNotFound) || errors.Is(err, taubyte.ErrUnavailable)
					}
					d, err := o.Database(t.Context(), inst, hoarder.DatabaseSpec{})
					if !mild(err) {
						t.Error("open", err)
					}
					if err != nil {
						continue
					}
					if err := d.Put(t.Context(), "k", fmt.Append(nil, n)); !mild(err) {
						t.Error("put", err)
					}
					if _, err := d.Get(t.Context(), "k"); !mild(err) {
						t.Error("get", err)
					}
				}
			})
		}
	}
	wg.Wait()
	for n := range 3 {
		testnet.Eventually(t, func() bool {
			d, err := openers[2].Database(t.Context(), named(fmt.Sprint(n)), hoarder.DatabaseSpec{})
			if err != nil || d.Put(t.Context(), "k", []byte("end")) != nil {
				return false
			}
			v, err := d.Get(t.Context(), "k")
			require.False(t, err == nil && string(v) != "end", "reads %q", v)
			return err == nil
		}, "store %d can be used", n)
	}
}

// A write that ends after the store was dropped has nobody wait for it in the next life.
func TestAWriteToAnEarlierLife(t *testing.T) {
	net := testnet.New(t)
	n := net.Node(taubyte.RoleHoarder)
	s := start(t, n)
	c := client(t, net.Node(taubyte.RoleHoarder))
	d := database(t, c, named("x"), hoarder.DatabaseSpec{})
	require.NoError(t, d.Put(t.Context(), "k", []byte("1")))
	late := hoarder.Seeing(d)
	require.NoError(t, s.Drop(t.Context(), named("x")))
	require.NoError(t, d.Put(t.Context(), "k", []byte("2")))
	late(n.ID(), 1<<60)
	wantValue(t, d, "k", "2")
}

func TestStoresPerProject(t *testing.T) {
	n := testnet.New(t).Node()
	s := start(t, n, hoarder.WithStoresPerProject(3))
	for i := range 3 {
		database(t, s, named(fmt.Sprint(i)), hoarder.DatabaseSpec{})
	}
	_, err := s.Storage(t.Context(), named("0"), hoarder.StorageSpec{})
	require.ErrorIs(t, err, hoarder.ErrFull)
	database(t, s, named("2"), hoarder.DatabaseSpec{Size: 10})
	_, err = s.Database(t.Context(), hoarder.Instance{Project: "P2", Branch: "main", Name: "x"}, hoarder.DatabaseSpec{})
	require.NoError(t, err)
	require.NoError(t, s.Drop(t.Context(), named("1")))
	storage(t, s, named("0"), hoarder.StorageSpec{})
}

// Content that can be read but once is added by the replica that takes it, although
// others were asked before.
func TestAddingAStream(t *testing.T) {
	c := newCluster(t, 2)
	s := storage(t, client(t, c.caller), named("x"), hoarder.StorageSpec{Min: 2, Max: 2})
	put(t, s, "f", []byte("1"), false)
	c.wantReady(named("x"), 2)
	c.stop(c.nodes[0].ID())
	f, err := s.Add(t.Context(), "f", io.LimitReader(bytes.NewReader(noise(3, 600_000)), 1<<20), true)
	require.NoError(t, err)
	require.EqualValues(t, 600_000, f.Size)
	require.Equal(t, noise(3, 600_000), content(t, s, "f", 0))
}
