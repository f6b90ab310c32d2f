package crdt_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/crdt"
	"github.com/taubyte/taubyte/internal/testnet"
)

// open opens a node's replica for as long as the test.
func open(t testing.TB, n *testnet.Node, opts ...crdt.Option) *crdt.Store {
	t.Helper()
	s, err := crdt.Open(context.Background(), n, n.Store, "test", append([]crdt.Option{crdt.WithLogger(testnet.Logger(t))}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func key(format string, args ...any) ds.Key { return ds.NewKey(fmt.Sprintf(format, args...)) }

func put(t testing.TB, s *crdt.Store, k, v string) {
	t.Helper()
	require.NoError(t, s.Put(context.Background(), ds.NewKey(k), []byte(v)))
}

func get(t testing.TB, s *crdt.Store, k string) string {
	t.Helper()
	v, err := s.Get(context.Background(), ds.NewKey(k))
	if errors.Is(err, ds.ErrNotFound) {
		return "-"
	}
	require.NoError(t, err)
	return string(v)
}

// next returns a watcher's next event.
func next(t testing.TB, ch <-chan crdt.Event) crdt.Event {
	t.Helper()
	select {
	case e, ok := <-ch:
		require.True(t, ok, "the watch ended")
		return e
	case <-time.After(30 * time.Second):
		require.FailNow(t, "no event")
		return crdt.Event{}
	}
}

// all returns what a store holds.
func all(t testing.TB, s taubyte.Datastore) map[string]string {
	t.Helper()
	res, err := s.Query(context.Background(), query.Query{})
	require.NoError(t, err)
	entries, err := res.Rest()
	require.NoError(t, err)
	out := map[string]string{}
	for _, e := range entries {
		out[e.Key] = string(e.Value)
	}
	return out
}

func TestWhatOneMemberWritesTheOthersHave(t *testing.T) {
	nw := testnet.New(t)
	a, b, c := open(t, nw.Node()), open(t, nw.Node()), open(t, nw.Node())
	put(t, a, "/k/1", "one")
	put(t, b, "/k/2", "")
	put(t, c, "/k/3", "three")
	want := map[string]string{"/k/1": "one", "/k/2": "", "/k/3": "three"}
	for _, s := range []*crdt.Store{a, b, c} {
		testnet.Eventually(t, func() bool { return len(all(t, s)) == 3 }, "all of it")
		require.Equal(t, want, all(t, s))
	}
	require.NoError(t, b.Delete(t.Context(), ds.NewKey("/k/1")))
	for _, s := range []*crdt.Store{a, b, c} {
		testnet.Eventually(t, func() bool { return get(t, s, "/k/1") == "-" }, "the deletion")
	}
	require.Len(t, a.Peers(), 2)
}

// The rival of this test needs 20 s for what is told here within a moment.
func TestBurstOfSinglePuts(t *testing.T) {
	nw := testnet.New(t)
	a, b := open(t, nw.Node()), open(t, nw.Node())
	for i := range 1000 {
		put(t, a, fmt.Sprintf("/k/%04d", i), "v")
	}
	last := time.Now()
	testnet.Eventually(t, func() bool { return len(all(t, b)) == 1000 }, "1,000 keys")
	t.Logf("all visible %s after the last put", time.Since(last))
}

func TestLateJoiner(t *testing.T) {
	nw := testnet.New(t)
	na := nw.Node()
	a := open(t, na)
	for i := range 300 {
		put(t, a, fmt.Sprintf("/k/%d", i), "v")
	}
	b := open(t, nw.Node())
	require.NoError(t, b.Synced(t.Context()))
	require.Len(t, all(t, b), 300)
}

func TestMemberThatWasAwayCatchesUpFromASnapshotAndKeepsItsOwn(t *testing.T) {
	nw := testnet.New(t)
	na, nb := nw.Node(), nw.Node()
	a := open(t, na, crdt.WithHistory(4<<10))
	b, err := crdt.Open(t.Context(), nb, nb.Store, "test", crdt.WithHistory(4<<10))
	require.NoError(t, err)
	put(t, a, "/both", "old")
	put(t, a, "/gone", "x")
	require.NoError(t, b.Synced(t.Context()))
	require.NoError(t, b.Close())

	for i := range 500 {
		put(t, a, fmt.Sprintf("/k/%d", i%10), fmt.Sprint(i))
	}
	require.NoError(t, a.Delete(t.Context(), ds.NewKey("/gone")))
	st, err := a.Stats(t.Context())
	require.NoError(t, err)
	require.Less(t, st.Blocks, uint64(200), "history is dropped")

	b = open(t, nb, crdt.WithHistory(4<<10))
	require.NoError(t, b.Synced(t.Context()))
	testnet.Eventually(t, func() bool { return len(all(t, b)) == 11 }, "a snapshot")
	require.Equal(t, all(t, a), all(t, b))
	put(t, b, "/own", "b")
	testnet.Eventually(t, func() bool { return get(t, a, "/own") == "b" }, "what is written after it")
}

func TestReopened(t *testing.T) {
	nw := testnet.New(t)
	n := nw.Node()
	s, err := crdt.Open(t.Context(), n, n.Store, "test")
	require.NoError(t, err)
	put(t, s, "/a", "1")
	put(t, s, "/b", "2")
	require.NoError(t, s.Delete(t.Context(), ds.NewKey("/b")))
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.Put(t.Context(), ds.NewKey("/c"), nil), taubyte.ErrClosed)
	_, err = s.Get(t.Context(), ds.NewKey("/a"))
	require.ErrorIs(t, err, taubyte.ErrClosed)

	s = open(t, n)
	require.Equal(t, map[string]string{"/a": "1"}, all(t, s))
	put(t, s, "/a", "3")
	require.Equal(t, "3", get(t, s, "/a"))
}

func TestOpenTwiceOnOneHost(t *testing.T) {
	nw := testnet.New(t)
	n := nw.Node()
	open(t, n)
	_, err := crdt.Open(t.Context(), n, n.Store, "test")
	require.ErrorIs(t, err, taubyte.ErrConflict)
	_, err = crdt.Open(t.Context(), n, n.Store, "a/b")
	require.ErrorIs(t, err, taubyte.ErrInvalid)
}

func TestAbandonedBatchIsNotWritten(t *testing.T) {
	nw := testnet.New(t)
	s := open(t, nw.Node())
	abandoned, err := s.Batch(t.Context())
	require.NoError(t, err)
	require.NoError(t, abandoned.Put(t.Context(), ds.NewKey("/abandoned"), []byte("x")))
	next, err := s.Batch(t.Context())
	require.NoError(t, err)
	value := []byte("first")
	require.NoError(t, next.Put(t.Context(), ds.NewKey("/a"), value))
	copy(value, "spoil")
	require.NoError(t, next.Put(t.Context(), ds.NewKey("/b"), []byte("1")))
	require.NoError(t, next.Put(t.Context(), ds.NewKey("/b"), []byte("0")))
	require.NoError(t, next.Put(t.Context(), ds.NewKey("/c"), []byte("0")))
	require.NoError(t, next.Delete(t.Context(), ds.NewKey("/c")))
	require.NoError(t, next.Commit(t.Context()))
	require.Equal(t, map[string]string{"/a": "first", "/b": "0"}, all(t, s))
}

func TestBigBatch(t *testing.T) {
	nw := testnet.New(t)
	a, b := open(t, nw.Node()), open(t, nw.Node())
	batch, err := a.Batch(t.Context())
	require.NoError(t, err)
	for i := range 5000 {
		require.NoError(t, batch.Put(t.Context(), key("/k/%d", i), make([]byte, 100)))
	}
	require.NoError(t, batch.Commit(t.Context()))
	testnet.Eventually(t, func() bool { return len(all(t, b)) == 5000 }, "the batch")
}

func TestQuery(t *testing.T) {
	nw := testnet.New(t)
	s := open(t, nw.Node())
	for _, k := range []string{"/a", "/a/b", "/a/c", "/ab", "/v", "/v/p", "/v/v"} {
		put(t, s, k, k)
	}
	keys := func(q query.Query) []string {
		res, err := s.Query(t.Context(), q)
		require.NoError(t, err)
		entries, err := res.Rest()
		require.NoError(t, err)
		var out []string
		for _, e := range entries {
			if q.KeysOnly {
				require.Empty(t, e.Value)
			} else {
				require.Equal(t, e.Key, string(e.Value))
			}
			out = append(out, e.Key)
		}
		return out
	}
	byKey := []query.Order{query.OrderByKey{}}
	require.Equal(t, []string{"/a/b", "/a/c"}, keys(query.Query{Prefix: "/a", Orders: byKey}))
	require.Equal(t, []string{"/a/c"}, keys(query.Query{Prefix: "a/", Orders: byKey, Offset: 1, Limit: 1, KeysOnly: true}))
	require.Equal(t, []string{"/v/p", "/v/v"}, keys(query.Query{Prefix: "/v", Orders: byKey}))
	require.Equal(t, []string{"/v/v", "/v/p"}, keys(query.Query{Prefix: "/v", Orders: []query.Order{query.OrderByKeyDescending{}}}))
	require.Len(t, keys(query.Query{}), 7)
	size, err := s.GetSize(t.Context(), ds.NewKey("/a/b"))
	require.NoError(t, err)
	require.Equal(t, 4, size)
	has, err := s.Has(t.Context(), ds.NewKey("/nope"))
	require.NoError(t, err)
	require.False(t, has)
}

func TestRefusedWrites(t *testing.T) {
	nw := testnet.New(t)
	s := open(t, nw.Node())
	require.ErrorIs(t, s.Put(t.Context(), ds.NewKey("/big"), make([]byte, 1<<20)), taubyte.ErrTooLarge)
	require.ErrorIs(t, s.Put(t.Context(), ds.RawKey("/"), nil), taubyte.ErrInvalid)
	require.Empty(t, all(t, s))
}

func TestOnlyWritersRolesWrite(t *testing.T) {
	nw := testnet.New(t)
	writer := crdt.WithWriters(taubyte.RoleTNS)
	a := open(t, nw.Node(taubyte.RoleTNS), writer)
	stranger := open(t, nw.Node(taubyte.RoleSubstrate), writer)
	loud := open(t, nw.Node(taubyte.RoleSubstrate)) // does not keep to the rule
	b := open(t, nw.Node(taubyte.RoleTNS), writer)

	require.ErrorIs(t, stranger.Put(t.Context(), ds.NewKey("/x"), nil), taubyte.ErrForbidden)
	put(t, loud, "/evil", "x")
	put(t, a, "/good", "x")
	testnet.Eventually(t, func() bool { return get(t, b, "/good") == "x" }, "the writer's")
	require.NoError(t, a.Synced(t.Context()))
	require.NoError(t, b.Synced(t.Context()))
	require.Equal(t, map[string]string{"/good": "x"}, all(t, a))
	require.Equal(t, map[string]string{"/good": "x"}, all(t, b))
	require.Len(t, a.Peers(), 1)
}

func TestWatch(t *testing.T) {
	nw := testnet.New(t)
	a, b := open(t, nw.Node()), open(t, nw.Node())
	put(t, b, "/k/before", "x")
	ch, err := b.Watch(t.Context(), ds.NewKey("/k"), 0)
	require.NoError(t, err)
	testnet.Eventually(t, func() bool { return get(t, a, "/k/before") == "x" }, "sync")
	put(t, a, "/other", "x")
	put(t, a, "/k/1", "one")
	put(t, a, "/kk", "x")
	require.NoError(t, a.Delete(t.Context(), ds.NewKey("/k/1")))
	put(t, b, "/k", "root")
	var got []string
	var tokens []crdt.Token
	for len(got) < 3 {
		e := next(t, ch)
		got = append(got, fmt.Sprint(e.Key, " ", string(e.Value), " ", e.Deleted))
		tokens = append(tokens, e.Token)
	}
	slices.Sort(got)
	require.Equal(t, []string{"/k root false", "/k/1  true", "/k/1 one false"}, got)
	require.True(t, slices.IsSorted(tokens))

	again, err := b.Watch(t.Context(), ds.NewKey("/k"), tokens[0])
	require.NoError(t, err)
	require.Equal(t, tokens[1], next(t, again).Token)
	require.Equal(t, tokens[2], next(t, again).Token)
}

func TestSlowWatcherIsToldAndHoldsNobodyUp(t *testing.T) {
	nw := testnet.New(t)
	n := nw.Node()
	s := open(t, n)
	slow, err := s.Watch(t.Context(), ds.NewKey("/"), 0)
	require.NoError(t, err)
	for range 3 {
		batch, err := s.Batch(t.Context())
		require.NoError(t, err)
		for i := range 5000 {
			require.NoError(t, batch.Put(t.Context(), key("/k/%d", i), nil))
		}
		require.NoError(t, batch.Commit(t.Context()))
	}
	next(t, slow) // was waiting when the ring went round
	e := next(t, slow)
	require.True(t, e.Lost)
	put(t, s, "/k/new", "x")
	require.Equal(t, ds.NewKey("/k/new"), next(t, slow).Key)
}

// What is kept for watchers is bounded in bytes, and a group of writes is whole.
func TestLargeEventsAreForgottenSooner(t *testing.T) {
	s := open(t, testnet.New(t).Node())
	now, err := s.Watch(t.Context(), ds.NewKey("/"), 0)
	require.NoError(t, err)
	large := make([]byte, 256<<10)
	var tokens []crdt.Token
	for i := range 40 { // 10 MiB
		require.NoError(t, s.Put(t.Context(), key("/k/%d", i), large))
		tokens = append(tokens, next(t, now).Token)
	}
	again := func(after crdt.Token) crdt.Event {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ch, err := s.Watch(ctx, ds.NewKey("/"), after)
		require.NoError(t, err)
		return next(t, ch)
	}
	require.True(t, again(tokens[0]).Lost)
	require.Equal(t, tokens[30], again(tokens[29]).Token)

	batch, err := s.Batch(t.Context())
	require.NoError(t, err)
	for i := range 40 {
		require.NoError(t, batch.Put(t.Context(), key("/l/%d", i), large))
	}
	require.NoError(t, batch.Commit(t.Context()))
	require.Equal(t, tokens[39]+1, again(tokens[39]).Token)
	require.True(t, again(tokens[38]).Lost)
}

func TestTokenOfAnEarlierLife(t *testing.T) {
	nw := testnet.New(t)
	n := nw.Node()
	s, err := crdt.Open(t.Context(), n, n.Store, "test")
	require.NoError(t, err)
	ch, err := s.Watch(t.Context(), ds.NewKey("/"), 0)
	require.NoError(t, err)
	put(t, s, "/a", "1")
	token := next(t, ch).Token
	require.NoError(t, s.Close())
	_, more := <-ch
	require.False(t, more)

	s = open(t, n)
	put(t, s, "/b", "1")
	ch, err = s.Watch(t.Context(), ds.NewKey("/"), token)
	require.NoError(t, err)
	e := next(t, ch)
	require.True(t, e.Lost)
	require.Greater(t, e.Token, token)
}

func TestManyWritersAtOnce(t *testing.T) {
	nw := testnet.New(t)
	a, b := open(t, nw.Node()), open(t, nw.Node())
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 20 {
				s := a
				if (w+i)%2 == 0 {
					s = b
				}
				if err := s.Put(t.Context(), key("/k/%d/%d", w, i), []byte{byte(i)}); err != nil {
					t.Error(err)
				}
				if err := s.Put(t.Context(), ds.NewKey("/shared"), fmt.Appendf(nil, "%d.%d", w, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	testnet.Eventually(t, func() bool {
		return len(all(t, a)) == 321 && len(all(t, b)) == 321 && get(t, a, "/shared") == get(t, b, "/shared")
	}, "the same on both")
	require.Equal(t, all(t, a), all(t, b))
}
