package conformance_test

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// cacheDir is where nodes of these tests keep compiled code: a module is compiled once.
var cacheDir string

// cacheVariable names the folder in which TestCompileForOthers leaves compiled code.
const cacheVariable = "TAUBYTE_CONFORMANCE_CACHE"

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if cacheDir = os.Getenv(cacheVariable); cacheDir != "" {
			return m.Run()
		}
		dir, err := os.MkdirTemp("", "taubyte-conformance-*")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		cacheDir = dir
		return m.Run()
	}())
}

// compiledElsewhere compiles the guests in Go without the race detector, which sees
// nothing of a guest and makes compiling one take half a minute. These tests, without
// it, do so.
var compiledElsewhere = sync.OnceValues(func() ([]byte, error) {
	return run(".", []string{cacheVariable + "=" + cacheDir}, "go", "test", "-race=false", "-count=1", "-run", "^TestCompileForOthers$", ".")
})

func TestCompileForOthers(t *testing.T) {
	if os.Getenv(cacheVariable) == "" {
		t.Skip("for these tests under the race detector")
	}
	c := newCloud(t)
	c.function("guest", stockGo(t, "testdata/guest"))
	c.function("public", stockGo(t, withExamples(t, "testdata/public")))
	require.NoError(t, c.deploy())
}
