package monkey_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/internal/testnet"
)

// A worker whose disk is full gives the job back, and claims none until there is room.
func TestAFullDiskIsNotTheBuildsFault(t *testing.T) {
	b := newBench(t)
	b.work = t.TempDir()
	if err := syscall.Mount("tmpfs", b.work, "tmpfs", 0, "size=100m"); err != nil {
		t.Skipf("mounting a small disk: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(b.work, syscall.MNT_DETACH) })
	b.start(t)
	fill := filepath.Join(b.work, "fill")
	j := b.push(repo, auth.KindProject, project(merge(shFunction, map[string]string{
		// The first time somebody else takes the disk meanwhile.
		".taubyte/build.sh": "[ -e " + fill + ".done ] || { touch " + fill + ".done; cat /dev/zero > " + fill + "; exit 1; }\ncp ping.wasm $OUT/main.wasm\n",
	})))
	testnet.Eventually(t, func() bool { return len(b.returned(j)) == 1 }, "given back")
	require.Contains(t, b.returned(j)[0].Error, "no space left on device")
	fence := j.fenceOf(b.queue)
	next := b.push(repo, auth.KindProject, project(shFunction))
	require.Never(t, func() bool { return next.fenceOf(b.queue) != 0 || j.fenceOf(b.queue) != fence }, time.Second, 100*time.Millisecond, "no room")
	require.NoError(t, os.Remove(fill))
	b.succeed(t, j)
	b.succeed(t, next)
}
