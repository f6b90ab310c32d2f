package taubyte_test

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
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

// smallDisk is a disk with so many bytes left. Nobody sees that they are few if they
// are those of a quota.
type smallDisk struct {
	vfs.FS
	left  atomic.Int64
	quota bool
}

func (d *smallDisk) GetDiskUsage(path string) (vfs.DiskUsage, error) {
	if d.quota {
		return d.FS.GetDiskUsage(path)
	}
	return vfs.DiskUsage{AvailBytes: uint64(max(d.left.Load(), 0))}, nil
}

func (d *smallDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	if err != nil {
		return nil, err
	}
	return &smallFile{File: f, disk: d}, nil
}

type smallFile struct {
	vfs.File
	disk *smallDisk
}

func (f *smallFile) Write(p []byte) (int, error) {
	if f.disk.left.Add(-int64(len(p))) < 0 {
		f.disk.left.Add(int64(len(p)))
		n, err := f.File.Write(p[:len(p)/2]) // as a file system that is full does
		if err != nil {
			return n, err
		}
		return n, syscall.ENOSPC
	}
	return f.File.Write(p)
}

// holds checks that the entries of numbers below n are in the store.
func holds(t *testing.T, d taubyte.Datastore, n int) {
	t.Helper()
	for i := range n {
		v, err := d.Get(t.Context(), key(i))
		require.NoError(t, err, i)
		require.Len(t, v, 100<<10)
	}
}

func key(i int) ds.Key { return ds.NewKey(fmt.Sprintf("/k/%d", i)) }

func TestAFullDiskRefusesWritesAndLosesNone(t *testing.T) {
	dir := t.TempDir()
	disk := &smallDisk{FS: vfs.Default}
	disk.left.Store(24 << 20)
	d, err := taubyte.OpenDatastoreOn(dir, disk)
	require.NoError(t, err)
	done := 0
	for ; err == nil; done++ {
		err = d.Put(t.Context(), key(done), make([]byte, 100<<10))
	}
	done--
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.ErrorIs(t, err, taubyte.ErrUnavailable)
	require.ErrorIs(t, d.Delete(t.Context(), key(0)), syscall.ENOSPC)
	b, err := d.Batch(t.Context())
	require.NoError(t, err)
	require.NoError(t, b.Put(t.Context(), ds.NewKey("/b"), nil))
	require.ErrorIs(t, b.Commit(t.Context()), syscall.ENOSPC)
	require.Greater(t, done, 10)
	holds(t, d, done)

	disk.left.Store(1 << 30)
	require.NoError(t, b.Commit(t.Context()))
	require.NoError(t, d.Put(t.Context(), key(done), make([]byte, 100<<10)))
	require.NoError(t, d.Close())
	d, err = taubyte.OpenDatastore(dir)
	require.NoError(t, err)
	holds(t, d, done+1)
	require.NoError(t, d.Close())
}

// Of a quota the store learns when it is too late for an error: the write waits.
func TestAQuotaIsWaitedFor(t *testing.T) {
	dir := t.TempDir()
	disk := &smallDisk{FS: vfs.Default, quota: true}
	disk.left.Store(5 << 20)
	d, err := taubyte.OpenDatastoreOn(dir, disk)
	require.NoError(t, err)
	const n = 100
	wrote := make(chan int, n)
	failed := make(chan error, 1)
	go func() {
		defer close(wrote)
		for i := range n {
			if err := d.Put(t.Context(), key(i), make([]byte, 100<<10)); err != nil {
				failed <- err
				return
			}
			wrote <- i
		}
	}()
	waits := false
	for done := 0; done < n; done++ {
		select {
		case _, ok := <-wrote:
			if !ok {
				require.NoError(t, <-failed)
			}
			continue
		case <-time.After(500 * time.Millisecond):
		}
		waits = true
		holds(t, d, done) // reading goes on
		disk.left.Store(1 << 30)
		done--
	}
	require.True(t, waits)
	require.NoError(t, d.Close())
	d, err = taubyte.OpenDatastore(dir)
	require.NoError(t, err)
	holds(t, d, n)
	require.NoError(t, d.Close())
}
