package testcluster

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A clock is skewed in the program's standard library: the kernel's clock can't be
// wrong for one process (Go reads it in the vDSO, and a time namespace moves only the
// monotonic one). The changed time.Now adds what a file says that the program has
// mapped, so that the clock jumps while it runs.

const skewVariable = "TESTCLUSTER_SKEW"

const skewedNow = `
var skew = func() *int64 {
	path, ok := syscall.Getenv("` + skewVariable + `")
	if !ok {
		return new(int64)
	}
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		panic("the file of the skew: " + err.Error())
	}
	b, err := syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic("the file of the skew: " + err.Error())
	}
	return (*int64)(unsafe.Pointer(&b[0]))
}()
`

// skewOverlay writes the changed file of package time, and the overlay for go build.
func skewOverlay(t testing.TB, dir string) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("clocks are skewed on Linux alone")
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	require.NoError(t, err)
	original := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	raw, err := os.ReadFile(original)
	require.NoError(t, err)
	text := string(raw)
	change := func(from, to string) {
		require.Equal(t, 1, strings.Count(text, from), "package time has changed: %q", from)
		text = strings.Replace(text, from, to, 1)
	}
	change("import (\n", "import (\n\t\"syscall\"\n")
	if !strings.Contains(text, "\t\"unsafe\"\n") && !strings.Contains(text, "_ \"unsafe\"") {
		change("import (\n", "import (\n\t\"unsafe\"\n")
	}
	text = strings.Replace(text, "_ \"unsafe\"", "\"unsafe\"", 1)
	change("sec, nsec, mono := runtimeNow()\n", "sec, nsec, mono := runtimeNow()\n\tsec += *skew\n")
	text += skewedNow
	changed, overlay := filepath.Join(dir, "time.go"), filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(changed, []byte(text), 0o600))
	out, err := json.Marshal(map[string]any{"Replace": map[string]string{original: changed}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(overlay, out, 0o600))
	return overlay
}

// skewEnv makes the file of a node's skew, and names it to the program.
func skewEnv(n *Node) []string {
	if !n.c.config.Skewable {
		return nil
	}
	path := filepath.Join(n.c.dir, n.Name+".skew")
	if _, err := os.Stat(path); err != nil {
		require.NoError(n.c.t, os.WriteFile(path, make([]byte, 8), 0o600))
	}
	return []string{skewVariable + "=" + path}
}

// Skew makes the node's wall clock wrong by d, in whole seconds, from now on and at
// its next starts. Its monotonic clock, which measures durations, stays right.
func (n *Node) Skew(d time.Duration) {
	n.c.t.Helper()
	require.True(n.c.t, n.c.config.Skewable, "Skew needs Config.Skewable")
	skewEnv(n)
	f, err := os.OpenFile(filepath.Join(n.c.dir, n.Name+".skew"), os.O_WRONLY, 0)
	require.NoError(n.c.t, err)
	defer f.Close()
	_, err = f.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(int64(d/time.Second))), 0)
	require.NoError(n.c.t, err)
}
