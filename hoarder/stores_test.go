package hoarder_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/internal/testnet"
)

func named(name string) hoarder.Instance {
	return hoarder.Instance{Project: "P", Branch: "main", Name: name}
}

// opener is a Service or a Client.
type opener interface {
	Database(context.Context, hoarder.Instance, hoarder.DatabaseSpec) (*hoarder.Database, error)
	Storage(context.Context, hoarder.Instance, hoarder.StorageSpec) (*hoarder.Storage, error)
	Drop(context.Context, hoarder.Instance) error
}

var (
	_ opener = (*hoarder.Service)(nil)
	_ opener = (*hoarder.Client)(nil)
)

func database(t *testing.T, o opener, i hoarder.Instance, spec hoarder.DatabaseSpec) *hoarder.Database {
	t.Helper()
	d, err := o.Database(t.Context(), i, spec)
	require.NoError(t, err)
	return d
}

func storage(t *testing.T, o opener, i hoarder.Instance, spec hoarder.StorageSpec) *hoarder.Storage {
	t.Helper()
	s, err := o.Storage(t.Context(), i, spec)
	require.NoError(t, err)
	return s
}

func client(t *testing.T, n *testnet.Node) *hoarder.Client {
	c := hoarder.NewClient(n)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func wantValue(t *testing.T, d *hoarder.Database, key, value string) {
	t.Helper()
	got, err := d.Get(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, value, string(got))
}

func wantNoKey(t *testing.T, d *hoarder.Database, key string) {
	t.Helper()
	_, err := d.Get(t.Context(), key)
	require.ErrorIs(t, err, taubyte.ErrNotFound)
}

func content(t *testing.T, s *hoarder.Storage, name string, version uint32) []byte {
	t.Helper()
	r, f, err := s.Open(t.Context(), name, version)
	require.NoError(t, err)
	defer r.Close()
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	require.EqualValues(t, f.Size, len(b))
	return b
}

func put(t *testing.T, s *hoarder.Storage, name string, content []byte, overwrite bool) hoarder.File {
	t.Helper()
	f, err := s.Add(t.Context(), name, bytes.NewReader(content), overwrite)
	require.NoError(t, err)
	return f
}

// both runs a test on the service of the only node, called directly, and on a client
// of another node.
func both(t *testing.T, test func(t *testing.T, o opener, n *testnet.Node)) {
	t.Run("direct", func(t *testing.T) {
		n := testnet.New(t).Node()
		test(t, start(t, n), n)
	})
	t.Run("remote", func(t *testing.T) {
		net := testnet.New(t)
		t.Cleanup(func() {
			// net/http rests half a second after it has refused a body.
			testnet.Eventually(t, func() bool {
				stacks := make([]byte, 4<<20)
				return !bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("closeWriteAndWait"))
			}, "the server has ended")
		})
		n, caller := net.Node(taubyte.RoleHoarder), net.Node(taubyte.RoleHoarder) // a hoarder's node may drop
		start(t, n)
		test(t, client(t, caller), n)
	})
}

func TestDatabase(t *testing.T) {
	both(t, func(t *testing.T, o opener, _ *testnet.Node) {
		ctx := t.Context()
		d := database(t, o, named("notes"), hoarder.DatabaseSpec{})
		wantNoKey(t, d, "a")
		require.NoError(t, d.Delete(ctx, "a"))
		require.NoError(t, d.Put(ctx, "a", []byte("1")))
		wantValue(t, d, "a", "1")
		require.NoError(t, d.Put(ctx, "a", nil))
		wantValue(t, d, "a", "")
		require.NoError(t, d.Delete(ctx, "a"))
		wantNoKey(t, d, "a")
		used, err := d.Used(ctx)
		require.NoError(t, err)
		require.Zero(t, used)

		// Keys are bytes, in order; a slash is one like others.
		odd := []string{"/", "//", "/a", "a", "a/", "a//b", "a/../b", "a/b", "a/b/c", "ab", ".", "..", "+", "/+", "+/", "ü", "a\x00b", "%2F", "key with ?&=#"}
		for _, key := range odd {
			require.NoError(t, d.Put(ctx, key, []byte("of "+key)), "%q", key)
		}
		for _, key := range odd {
			wantValue(t, d, key, "of "+key)
		}
		for _, prefix := range []string{"", "a", "a/", "a/b", "/", "//", "none", "+", "a//"} {
			var want []string
			for _, key := range odd {
				if strings.HasPrefix(key, prefix) {
					want = append(want, key)
				}
			}
			got, err := d.List(ctx, prefix)
			require.NoError(t, err)
			require.ElementsMatch(t, want, got, "%q", prefix)
			require.IsIncreasing(t, append([]string{""}, got...), "%q", prefix)
		}
		for _, key := range []string{"", "\xff", strings.Repeat("k", hoarder.MaxKey+1)} {
			require.ErrorIs(t, d.Put(ctx, key, nil), taubyte.ErrInvalid)
			_, err := d.Get(ctx, key)
			require.ErrorIs(t, err, taubyte.ErrInvalid)
		}
		long := strings.Repeat("/", hoarder.MaxKey)
		require.NoError(t, d.Put(ctx, long, bytes.Repeat([]byte{7}, hoarder.MaxValue)))
		require.ErrorIs(t, d.Put(ctx, long, make([]byte, hoarder.MaxValue+1)), taubyte.ErrTooLarge)
		require.NotErrorIs(t, d.Put(ctx, long, make([]byte, hoarder.MaxValue+1)), hoarder.ErrFull)
		require.NoError(t, d.Close())
		require.NoError(t, d.Close())
	})
}

func TestQuota(t *testing.T) {
	both(t, func(t *testing.T, o opener, _ *testnet.Node) {
		ctx := t.Context()
		d := database(t, o, named("small"), hoarder.DatabaseSpec{Size: 100})
		require.NoError(t, d.Put(ctx, "k", make([]byte, 89)))
		err := d.Put(ctx, "l", make([]byte, 10))
		require.ErrorIs(t, err, hoarder.ErrFull)
		wantNoKey(t, d, "l")
		require.NoError(t, d.Put(ctx, "l", make([]byte, 9)), "exactly full")
		require.NoError(t, d.Put(ctx, "k", make([]byte, 89)), "the same again")
		require.ErrorIs(t, d.Put(ctx, "k", make([]byte, 90)), hoarder.ErrFull)
		require.NoError(t, d.Delete(ctx, "k"))
		require.NoError(t, d.Put(ctx, "k", make([]byte, 10)))
		used, err := d.Used(ctx)
		require.NoError(t, err)
		require.EqualValues(t, 21, used)

		// Another size takes effect, and what is too much stays readable.
		d = database(t, o, named("small"), hoarder.DatabaseSpec{Size: 15})
		require.EqualValues(t, 15, d.Capacity())
		require.ErrorIs(t, d.Put(ctx, "m", nil), hoarder.ErrFull)
		require.NoError(t, d.Put(ctx, "k", make([]byte, 9)), "less is always taken")
		wantValue(t, d, "l", string(make([]byte, 9)))
	})
}

func TestConcurrentWritesAreCounted(t *testing.T) {
	n := testnet.New(t).Node()
	s := start(t, n)
	d := database(t, s, named("busy"), hoarder.DatabaseSpec{Size: 64 * 10})
	var wg sync.WaitGroup
	var mu sync.Mutex
	refused := 0
	for i := range 100 {
		wg.Go(func() {
			err := d.Put(t.Context(), fmt.Sprintf("k%03d", i), make([]byte, 6))
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, hoarder.ErrFull) {
				refused++
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, 36, refused, "ten bytes each, room for 64 of them")
	used, err := d.Used(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 640, used)
}

func TestInstancesAreApart(t *testing.T) {
	n := testnet.New(t).Node()
	s := start(t, n)
	all := []hoarder.Instance{
		{Project: "P", Branch: "main", Application: "a", Name: "b"},
		{Project: "P", Branch: "main", Application: "", Name: "ab"},
		{Project: "P", Branch: "maina", Application: "", Name: "b"},
		{Project: "P", Branch: "main", Application: "ab", Name: "b"},
		{Project: "P", Branch: "main", Application: "a/b", Name: "c"},
		{Project: "P", Branch: "main", Application: "a", Name: "b/c"},
		{Project: "P", Branch: "main/a", Application: "", Name: "b"},
		{Project: "P", Branch: "main", Application: "a", Name: "../b"},
		{Project: "P", Branch: "main", Application: "a", Name: "../../P2/b"},
		{Project: "P2", Branch: "main", Application: "a", Name: "b"},
		{Project: "P", Branch: "main", Application: "a", Name: "b\x00"},
		{Project: "P", Branch: "main", Application: "a", Name: "B"},
	}
	for i, inst := range all {
		d := database(t, s, inst, hoarder.DatabaseSpec{})
		wantNoKey(t, d, "who")
		require.NoError(t, d.Put(t.Context(), "who", []byte{byte('a' + i)}))
		st := storage(t, s, inst, hoarder.StorageSpec{})
		list, err := st.List(t.Context())
		require.NoError(t, err)
		require.Empty(t, list)
		put(t, st, "../who", []byte{byte('a' + i)}, false)
	}
	for i, inst := range all {
		wantValue(t, database(t, s, inst, hoarder.DatabaseSpec{}), "who", string(rune('a'+i)))
		require.Equal(t, []byte{byte('a' + i)}, content(t, storage(t, s, inst, hoarder.StorageSpec{}), "../who", 0))
	}
	for _, bad := range []hoarder.Instance{{}, {Project: "P", Name: "x"}, {Project: "P", Branch: "main"}, {Project: "a/b", Branch: "main", Name: "x"}, {Project: "P", Branch: "main", Name: "\xff"}} {
		_, err := s.Database(t.Context(), bad, hoarder.DatabaseSpec{})
		require.ErrorIs(t, err, taubyte.ErrInvalid, "%+v", bad)
	}
	for _, bad := range []hoarder.DatabaseSpec{{Min: -1}, {Min: 3, Max: 2}, {Size: -1}, {Max: 1 << 30}} {
		_, err := s.Database(t.Context(), named("x"), bad)
		require.ErrorIs(t, err, taubyte.ErrInvalid, "%+v", bad)
	}
}

func TestStorage(t *testing.T) {
	both(t, func(t *testing.T, o opener, _ *testnet.Node) {
		ctx := t.Context()
		s := storage(t, o, named("files"), hoarder.StorageSpec{})
		_, err := s.Stat(ctx, "a.txt", 0)
		require.ErrorIs(t, err, taubyte.ErrNotFound)
		_, err = s.Versions(ctx, "a.txt")
		require.ErrorIs(t, err, taubyte.ErrNotFound)
		require.ErrorIs(t, s.Remove(ctx, "a.txt", 0, false), taubyte.ErrNotFound)

		big := noise(3, 1<<20+17)
		f := put(t, s, "dir/a.txt", big, false)
		require.EqualValues(t, 1, f.Version)
		require.EqualValues(t, len(big), f.Size)
		require.True(t, bytes.Equal(big, content(t, s, "dir/a.txt", 0)))
		r, _, err := s.Open(ctx, "dir/a.txt", 1)
		require.NoError(t, err)
		_, err = r.Seek(-10, io.SeekEnd)
		require.NoError(t, err)
		tail, err := io.ReadAll(r)
		require.NoError(t, err)
		require.Equal(t, big[len(big)-10:], tail)
		require.NoError(t, r.Close())

		_, err = s.Add(ctx, "dir/a.txt", strings.NewReader("x"), false)
		require.ErrorIs(t, err, hoarder.ErrExists)
		require.ErrorIs(t, err, taubyte.ErrConflict)
		f = put(t, s, "dir/a.txt", []byte("new"), true)
		require.EqualValues(t, 1, f.Version)
		require.Equal(t, "new", string(content(t, s, "dir/a.txt", 1)))
		put(t, s, "empty", nil, false)
		require.Empty(t, content(t, s, "empty", 0))
		list, err := s.List(ctx)
		require.NoError(t, err)
		require.Len(t, list, 2)
		require.Equal(t, "dir/a.txt", list[0].Name)
		used, err := s.Used(ctx)
		require.NoError(t, err)
		require.EqualValues(t, 3, used)
		require.EqualValues(t, hoarder.DefaultStorageSize, s.Capacity())
		require.NoError(t, s.Remove(ctx, "dir/a.txt", 0, false))
		_, _, err = s.Open(ctx, "dir/a.txt", 0)
		require.ErrorIs(t, err, taubyte.ErrNotFound)
	})
}

func TestVersions(t *testing.T) {
	both(t, func(t *testing.T, o opener, _ *testnet.Node) {
		ctx := t.Context()
		s := storage(t, o, named("files"), hoarder.StorageSpec{Versioning: true})
		for i := 1; i <= 3; i++ {
			require.EqualValues(t, i, put(t, s, "f", fmt.Appendf(nil, "v%d", i), false).Version)
		}
		require.EqualValues(t, 3, put(t, s, "f", []byte("v3 again"), true).Version)
		require.Equal(t, "v1", string(content(t, s, "f", 1)))
		require.Equal(t, "v3 again", string(content(t, s, "f", 0)))
		require.NoError(t, s.Remove(ctx, "f", 2, false))
		require.ErrorIs(t, s.Remove(ctx, "f", 2, false), taubyte.ErrNotFound)
		vs, err := s.Versions(ctx, "f")
		require.NoError(t, err)
		require.Len(t, vs, 2)
		require.EqualValues(t, 1, vs[0].Version)
		require.EqualValues(t, 3, vs[1].Version)
		require.NoError(t, s.Remove(ctx, "f", 0, false))
		require.Equal(t, "v1", string(content(t, s, "f", 0)))
		require.NoError(t, s.Remove(ctx, "f", 0, true))
		_, err = s.Stat(ctx, "f", 0)
		require.ErrorIs(t, err, taubyte.ErrNotFound)
	})
}

// blockCount is how many blocks the node has.
func blockCount(t *testing.T, n *testnet.Node) int {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	keys, err := n.Blocks().Blockstore().AllKeysChan(ctx)
	require.NoError(t, err)
	c := 0
	for range keys {
		c++
	}
	return c
}

func TestStorageFreesWhatIsGone(t *testing.T) {
	both(t, func(t *testing.T, o opener, n *testnet.Node) {
		ctx := t.Context()
		s := storage(t, o, named("files"), hoarder.StorageSpec{Size: 3 << 20})
		other := storage(t, o, named("other"), hoarder.StorageSpec{})
		none := blockCount(t, n)
		one := noise(5, 700_000)
		put(t, s, "a", one, false)
		three := blockCount(t, n) - none
		require.Equal(t, 4, three, "three leaves and a node")

		// Uploads that are cut, or too large, leave nothing.
		_, err := s.Add(ctx, "b", io.MultiReader(bytes.NewReader(noise(6, 600_000)), iotest.ErrReader(errors.New("cable cut"))), false)
		require.ErrorContains(t, err, "cable cut")
		_, err = s.Add(ctx, "b", io.MultiReader(bytes.NewReader(noise(6, 600_000)), iotest.ErrReader(io.ErrUnexpectedEOF)), false)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		_, err = s.Add(ctx, "b", bytes.NewReader(noise(7, 5<<20)), false)
		require.ErrorIs(t, err, hoarder.ErrFull)
		_, err = s.Stat(ctx, "b", 0)
		require.ErrorIs(t, err, taubyte.ErrNotFound)
		testnet.Eventually(t, func() bool { return blockCount(t, n) == none+three }, "nothing is left")

		// What another storage has as well stays.
		put(t, other, "same", one, false)
		put(t, s, "a", noise(8, 100_000), true)
		testnet.Eventually(t, func() bool { return blockCount(t, n) == none+three+1 }, "only the shared and the new are left")
		require.True(t, bytes.Equal(one, content(t, other, "same", 0)))
		require.NoError(t, s.Remove(ctx, "a", 0, false))
		testnet.Eventually(t, func() bool { return blockCount(t, n) == none+three }, "removed")
		require.NoError(t, o.Drop(ctx, named("other")))
		testnet.Eventually(t, func() bool { return blockCount(t, n) == none }, "dropped")
	})
}

func TestDropAndMakeAgain(t *testing.T) {
	both(t, func(t *testing.T, o opener, n *testnet.Node) {
		ctx := t.Context()
		d := database(t, o, named("x"), hoarder.DatabaseSpec{})
		s := storage(t, o, named("x"), hoarder.StorageSpec{})
		for range 3 {
			require.NoError(t, d.Put(ctx, "k", []byte("old")))
			put(t, s, "f", []byte("old"), false)
			require.NoError(t, o.Drop(ctx, named("x")))
			require.NoError(t, o.Drop(ctx, named("x")), "twice does nothing")
			d = database(t, o, named("x"), hoarder.DatabaseSpec{})
			s = storage(t, o, named("x"), hoarder.StorageSpec{})
			wantNoKey(t, d, "k")
			list, err := s.List(ctx)
			require.NoError(t, err)
			require.Empty(t, list)
			used, err := d.Used(ctx)
			require.NoError(t, err)
			require.Zero(t, used)
		}
		require.NoError(t, o.Drop(ctx, named("x")))
		testnet.Eventually(t, func() bool { return !hasKeys(t, n, "/crdt/store-") }, "nothing of it is on disk")
	})
}

func TestTimeToLive(t *testing.T) {
	both(t, func(t *testing.T, o opener, n *testnet.Node) {
		ctx := t.Context()
		none := blockCount(t, n)
		s := storage(t, o, named("short"), hoarder.StorageSpec{TTL: 300 * time.Millisecond, Versioning: true})
		put(t, s, "f", noise(9, 1000), false)
		testnet.Eventually(t, func() bool {
			_, err := s.Stat(ctx, "f", 0)
			return errors.Is(err, taubyte.ErrNotFound)
		}, "expired")
		testnet.Eventually(t, func() bool {
			used, err := s.Used(ctx)
			return err == nil && used == 0
		}, "not counted any more")
		testnet.Eventually(t, func() bool { return blockCount(t, n) == none }, "freed")
	})
}
