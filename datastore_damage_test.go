package taubyte_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testnet"
)

// apart runs a test in a process of its own, which the engine may end.
func apart(t *testing.T) (here bool) {
	const name = "TAUBYTE_TEST_APART"
	if os.Getenv(name) != "" {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), name+"=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out[max(0, len(out)-16<<10):])
	return false
}

const damageRounds, damageKeys = 3, 100

func damageKey(round, i int) ds.Key { return ds.NewKey(fmt.Sprintf("/k/%d/%d", i, round)) }

func damageValue(round, i int) string { return fmt.Sprintf("%500d", round*damageKeys+i) }

// makeStores makes a store of three tables, closed well, and one whose last third is
// in the log, as a crash leaves it.
func makeStores(t *testing.T) (closed, crashed string) {
	t.Helper()
	closed, crashed = filepath.Join(t.TempDir(), "closed"), filepath.Join(t.TempDir(), "crashed")
	for round := range damageRounds {
		d, err := taubyte.OpenDatastore(closed)
		require.NoError(t, err)
		b, err := d.Batch(t.Context())
		require.NoError(t, err)
		for i := range damageKeys {
			require.NoError(t, b.Put(t.Context(), damageKey(round, i), []byte(damageValue(round, i))))
		}
		require.NoError(t, b.Commit(t.Context()))
		if round == damageRounds-1 {
			testnet.Eventually(t, func() bool { // files that are done with go meanwhile
				require.NoError(t, os.RemoveAll(crashed))
				return os.CopyFS(crashed, os.DirFS(closed)) == nil
			}, "a copy")
		}
		require.NoError(t, d.Close())
	}
	return closed, crashed
}

// damages are what may happen to a file.
func damages(content []byte) map[string][]byte {
	n := len(content)
	out := map[string][]byte{"missing": nil}
	if n == 0 {
		return out
	}
	out["cut"] = content[:n/2]
	out["zeroed"] = make([]byte, n)
	for _, at := range []int{n - 20} {
		flipped := bytes.Clone(content)
		flipped[max(at, 0)] ^= 4
		out[fmt.Sprintf("a bit flipped at %d of %d", at, n)] = flipped
	}
	return out
}

// Whatever happens to one file of a store, the process goes on, what is read is right,
// and what can't be read is an error: no key is ever said to be absent. The end of the
// newest log is the exception: it looks like a crash.
func TestDamagedFiles(t *testing.T) {
	if !apart(t) {
		return
	}
	closed, crashed := makeStores(t)
	refused, failed := 0, 0
	for _, original := range []string{closed, crashed} {
		files, err := os.ReadDir(original)
		require.NoError(t, err)
		kinds := map[string]bool{"LOCK": true} // which is empty
		for _, file := range slices.Backward(files) {
			// One of each kind, the newest.
			kind := strings.TrimLeft(file.Name(), "0123456789")
			kind, _, _ = strings.Cut(kind, "-0")
			if kinds[kind] || (original == crashed) != (kind == ".log") {
				continue
			}
			kinds[kind] = true
			content, err := os.ReadFile(filepath.Join(original, file.Name()))
			require.NoError(t, err)
			for what, damaged := range damages(content) {
				t.Log(filepath.Base(original), file.Name(), what)
				dir := filepath.Join(t.TempDir(), "store")
				require.NoError(t, os.CopyFS(dir, os.DirFS(original)))
				path := filepath.Join(dir, file.Name())
				if damaged == nil {
					require.NoError(t, os.Remove(path))
				} else {
					require.NoError(t, os.WriteFile(path, damaged, 0o600))
				}
				d, err := taubyte.OpenDatastore(dir, taubyte.WithStoreLogger(slog.New(slog.DiscardHandler)))
				if err != nil {
					refused++
					require.ErrorContains(t, err, dir)
					if file.Name() != "TAUBYTE-STORE" || damaged != nil && !strings.Contains(what, "flipped") {
						require.ErrorIs(t, err, taubyte.ErrDamaged)
						require.ErrorContains(t, err, "set the folder aside")
					}
					continue
				}
				if !readAll(t, d, original == crashed) {
					failed++
				}
				_ = d.Close()
				require.NoError(t, os.RemoveAll(dir))
			}
		}
	}
	t.Logf("%d stores were refused, %d had entries that could not be read", refused, failed)
	require.Greater(t, refused, 10)
	require.Positive(t, failed)
}

// readAll reads a store in each way and reports whether all of it could be. mayLose
// says that entries may be missing, from some key on.
func readAll(t *testing.T, d taubyte.Datastore, mayLose bool) bool {
	t.Helper()
	found, all := 0, true
	for i := range damageKeys {
		for round := range damageRounds {
			v, err := d.Get(t.Context(), damageKey(round, i))
			switch {
			case err == nil:
				require.Equal(t, damageValue(round, i), string(v))
				found++
			case errors.Is(err, ds.ErrNotFound):
				require.True(t, mayLose, "%s is said to be absent", damageKey(round, i))
			default:
				require.ErrorIs(t, err, taubyte.ErrDamaged)
				require.ErrorIs(t, err, taubyte.ErrUnavailable)
				all = false
			}
		}
	}
	for _, order := range []query.Order{query.OrderByKey{}, query.OrderByKeyDescending{}} {
		res, err := d.Query(t.Context(), query.Query{Prefix: "/k", Orders: []query.Order{order}})
		if err == nil {
			var entries []query.Entry
			entries, err = res.Rest()
			require.NoError(t, res.Close())
			if err == nil {
				require.GreaterOrEqual(t, len(entries), found)
				require.True(t, mayLose || len(entries) == damageRounds*damageKeys, "%d entries and no error", len(entries))
			}
		}
		if err != nil {
			require.ErrorIs(t, err, taubyte.ErrDamaged)
			all = false
		}
	}
	return all
}

// A table goes bad under a running store. When the engine can't go on merging, writes
// are refused; what was written meanwhile and what is not damaged can be read.
func TestDamageWhileRunning(t *testing.T) {
	if !apart(t) {
		return
	}
	dir, _ := makeStores(t)
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	require.NoError(t, err)
	raw, err := os.ReadFile(tables[0])
	require.NoError(t, err)
	raw[len(raw)/2] ^= 4
	var log bytes.Buffer
	d, err := taubyte.OpenDatastore(dir, taubyte.WithStoreLogger(slog.New(slog.NewTextHandler(&lockedWriter{w: &log}, nil))))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(tables[0], raw, 0o600))
	n := 0
	for ; n < 500 && err == nil; n++ {
		err = d.Put(t.Context(), ds.NewKey(fmt.Sprintf("/k/%d", n)), bytes.Repeat([]byte{byte(n)}, 100<<10))
	}
	t.Logf("refused after %d writes: %v", n, err)
	require.ErrorIs(t, err, taubyte.ErrDamaged)
	require.ErrorIs(t, err, taubyte.ErrUnavailable)
	require.ErrorContains(t, err, dir)
	for i := range n - 1 {
		v, err := d.Get(t.Context(), ds.NewKey(fmt.Sprintf("/k/%d", i)))
		require.NoError(t, err)
		require.Equal(t, byte(i), v[0])
	}
	require.False(t, readAll(t, d, false))
	require.NoError(t, d.Close())
	require.Equal(t, 1, strings.Count(log.String(), "the store is damaged"))
	require.Contains(t, log.String(), "remedy")
}

type lockedWriter struct {
	mu sync.Mutex
	w  *bytes.Buffer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// badDisk fails to sync manifests, which the engine takes for its end.
type badDisk struct {
	vfs.FS
	bad atomic.Bool
}

func (b *badDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := b.FS.Create(name, c)
	if err == nil && strings.Contains(name, "MANIFEST") {
		f = &badFile{f, b}
	}
	return f, err
}

type badFile struct {
	vfs.File
	disk *badDisk
}

func (f *badFile) Sync() error {
	if f.disk.bad.Load() {
		return syscall.EIO
	}
	return f.File.Sync()
}

func TestTheEngineStops(t *testing.T) {
	if !apart(t) {
		return
	}
	disk := &badDisk{FS: vfs.Default}
	d, err := taubyte.OpenDatastoreOn(t.TempDir(), disk, taubyte.WithStoreLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	disk.bad.Store(true)
	n := 0
	for ; n < 500 && err == nil; n++ {
		err = d.Put(t.Context(), ds.NewKey(fmt.Sprintf("/k/%d", n)), make([]byte, 100<<10))
	}
	t.Logf("refused after %d writes: %v", n, err)
	require.ErrorIs(t, err, taubyte.ErrDamaged)
	_, err = d.Get(t.Context(), ds.NewKey("/k/0"))
	require.ErrorIs(t, err, taubyte.ErrDamaged)
	_, err = d.Query(t.Context(), query.Query{})
	require.ErrorIs(t, err, taubyte.ErrDamaged)
	require.NoError(t, d.Close())
}

// memoryDisk is a disk that forgets what was not synced when it crashes.
type memoryDisk struct{ *vfs.MemFS }

func (memoryDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: 1 << 40}, nil
}

// A crash at any moment, with any part of what was not synced on the disk, is not
// taken for damage and loses nothing.
func TestCrashIsNoDamage(t *testing.T) {
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(1, 2))
	disk := memoryDisk{vfs.NewCrashableMem()}
	require.NoError(t, disk.MkdirAll(dir, 0o700))
	for above := dir; above != "/"; {
		above = filepath.Dir(above)
		d, err := disk.OpenDir(above)
		require.NoError(t, err)
		require.NoError(t, d.Sync())
		require.NoError(t, d.Close())
	}
	acked, crashes := 0, 0
	for range 5 {
		d, err := taubyte.OpenDatastoreOn(dir, disk)
		require.NoError(t, err, "after %d crashes", crashes)
		for i := range acked {
			v, err := d.Get(t.Context(), key(i))
			require.NoError(t, err)
			require.Len(t, v, 60<<10)
		}
		var crashed *vfs.MemFS
		at := rng.IntN(30)
		writing := make(chan struct{})
		go func() { // background work goes on while the disk stops
			defer close(writing)
			for range 30 {
				_ = d.Put(t.Context(), ds.NewKey("/other"), make([]byte, 60<<10))
			}
		}()
		for i := 0; i <= at; i++ {
			require.NoError(t, d.Put(t.Context(), key(acked), make([]byte, 60<<10)))
			acked++
		}
		crashed = disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		<-writing
		require.NoError(t, d.Close())
		disk, crashes = memoryDisk{crashed}, crashes+1
	}
	t.Logf("%d entries after %d crashes", acked, crashes)
}

// Results of a query that the store's end overtakes end with an error.
func TestQueryOutlivesTheStore(t *testing.T) {
	testnet.CheckLeaks(t)
	d, err := taubyte.OpenDatastore(t.TempDir())
	require.NoError(t, err)
	for i := range 10 {
		require.NoError(t, d.Put(t.Context(), ds.NewKey(fmt.Sprintf("/a/%d", i)), []byte("v")))
	}
	require.NoError(t, d.Put(t.Context(), ds.NewKey("/ab"), []byte("v")))
	first, err := d.Query(t.Context(), query.Query{Prefix: "/a", Limit: 2, Offset: 3})
	require.NoError(t, err)
	got, err := first.Rest()
	require.NoError(t, err)
	require.Len(t, got, 2)
	require.Equal(t, "/a/3", got[0].Key)
	left, err := d.Query(t.Context(), query.Query{Prefix: "/a"})
	require.NoError(t, err)
	r, ok := left.NextSync()
	require.True(t, ok)
	require.NoError(t, r.Error)
	require.NoError(t, d.Close())
	require.NoError(t, d.Close(), "Close may be called twice")
	r, ok = left.NextSync()
	require.True(t, ok)
	require.ErrorIs(t, r.Error, taubyte.ErrClosed)
	_, ok = left.NextSync()
	require.False(t, ok)
	require.NoError(t, left.Close())
	_, err = d.Get(t.Context(), ds.NewKey("/ab"))
	require.ErrorIs(t, err, taubyte.ErrClosed)
	require.ErrorIs(t, d.Put(t.Context(), ds.NewKey("/ab"), nil), taubyte.ErrClosed)
}

// What holds a store and lost the file that says so is no foreign folder.
func TestStoreWithoutItsMarker(t *testing.T) {
	dir, _ := makeStores(t)
	require.NoError(t, os.Remove(filepath.Join(dir, "TAUBYTE-STORE")))
	_, err := taubyte.OpenDatastore(dir)
	require.ErrorIs(t, err, taubyte.ErrDamaged)
	_, err = os.Stat(filepath.Join(dir, "TAUBYTE-STORE"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// A folder that nobody may read is not damaged.
func TestStoreWithoutPermission(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may read everything")
	}
	dir, _ := makeStores(t)
	require.NoError(t, os.Chmod(dir, 0))
	t.Cleanup(func() { _ = os.Chmod(dir, 0o700) })
	_, err := taubyte.OpenDatastore(dir)
	require.ErrorIs(t, err, fs.ErrPermission)
	require.NotErrorIs(t, err, taubyte.ErrDamaged)
}

func FuzzSeal(f *testing.F) {
	f.Add([]byte(`7d1268aa {"manifests":{"MANIFEST-000008":{"size":166,"sum":3646319878}},"logs":["000017.log"]}` + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) { taubyte.ParseSeal(b) })
}
