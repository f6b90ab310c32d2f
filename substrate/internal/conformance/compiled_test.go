package conformance_test

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// shared is a folder for what is made once for all of these tests: the nodes' compiled
// code, and where guests in Go are built.
var shared string

// sharedVariable names that folder to TestCompileForOthers.
const sharedVariable = "TAUBYTE_CONFORMANCE_SHARED"

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if shared = os.Getenv(sharedVariable); shared != "" {
			return m.Run()
		}
		dir, err := os.MkdirTemp("", "taubyte-conformance-*")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		shared = dir
		return m.Run()
	}())
}

// compiledElsewhere compiles the guests in Go without the race detector, which sees
// nothing of a guest and makes compiling one take half a minute. These tests, without
// it, do so.
var compiledElsewhere = sync.OnceValues(func() ([]byte, error) {
	return run(".", []string{sharedVariable + "=" + shared}, "go", "test", "-race=false", "-count=1", "-run", "^TestCompileForOthers$", ".")
})

func TestCompileForOthers(t *testing.T) {
	if os.Getenv(sharedVariable) == "" {
		t.Skip("for these tests under the race detector")
	}
	c := newCloud(t)
	c.function("guest", stockGo(t, "testdata/guest"))
	c.function("public", stockGo(t, withExamples(t, "testdata/public")))
	require.NoError(t, c.deploy())
}
