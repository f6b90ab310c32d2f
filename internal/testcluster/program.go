package testcluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// programs are the reference servers that this test binary has built. Main removes
// them.
var programs struct {
	sync.Mutex
	dir   string
	built map[bool]string // by whether its clock can be skewed
}

// Main runs the tests of a package that starts clusters.
//
//	func TestMain(m *testing.M) { os.Exit(testcluster.Main(m)) }
func Main(m *testing.M) int {
	code := m.Run()
	programs.Lock()
	defer programs.Unlock()
	if programs.dir != "" {
		_ = os.RemoveAll(programs.dir)
	}
	return code
}

// program builds the reference server, once.
func program(t testing.TB, skewable bool) string {
	t.Helper()
	programs.Lock()
	defer programs.Unlock()
	if path := programs.built[skewable]; path != "" {
		return path
	}
	if programs.dir == "" {
		dir, err := os.MkdirTemp("", "testcluster-*")
		require.NoError(t, err)
		programs.dir, programs.built = dir, map[bool]string{}
	}
	path := filepath.Join(programs.dir, fmt.Sprintf("taubyte-%t", skewable))
	if runtime.GOOS == "windows" {
		path += ".exe"
	}
	args := []string{"build", "-o", path}
	if skewable {
		args = append(args, "-overlay", skewOverlay(t, programs.dir))
	}
	cmd := exec.Command("go", append(args, "github.com/taubyte/taubyte/cmd/taubyte")...)
	said, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", said)
	programs.built[skewable] = path
	return path
}
