package monkey_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/monkey"
	"github.com/taubyte/taubyte/monkey/environmenttest"
	"github.com/taubyte/taubyte/patrick"
)

// confined skips a test where builds can't be confined.
func confined(t *testing.T) *monkey.Confined {
	t.Helper()
	c, err := monkey.NewConfined(t.Context())
	var missing *monkey.MissingError
	if errors.As(err, &missing) {
		t.Skip(err)
	}
	require.NoError(t, err)
	return c
}

func TestConfined(t *testing.T) { environmenttest.Run(t, confined(t)) }

func TestConfinedHostile(t *testing.T) { environmenttest.Hostile(t, confined(t)) }

// Whole builds in confinement.
func TestConfinedBuilds(t *testing.T) {
	env := monkey.WithEnvironment("confined", confined(t))
	b := newBench(t)
	b.start(t, env, monkey.WithTimeout(2*time.Minute))
	first := b.succeed(t, b.push(repo, auth.KindProject, project(goFunction)))
	require.False(t, cached(first)["function ping"])
	module, ok := b.current(t).Asset(functionID)
	require.True(t, ok)

	// A build does not write to what others begin with, nor see more than its repository.
	secret := filepath.Join(t.TempDir(), "authority.key")
	require.NoError(t, os.WriteFile(secret, []byte("ROOTKEY"), 0o644))
	j := b.push(repo, auth.KindProject, project(merge(shFunction, map[string]string{
		".taubyte/config.yaml": "workflow: [build]\n", // and no image of tau's, which would see its folder alone
		".taubyte/build.sh": "cat " + secret + " $SRC/../../../shared/x; ls " + b.work + "\n" +
			"echo kept >> /cache/note; cat /cache/note; rm -rf $OUT; ln -s /etc $OUT; cp ping.wasm /out/main.wasm\n",
	}), map[string]string{"shared/x": "SHARED\n"}))
	b.succeed(t, j)
	for _, bad := range []string{"ROOTKEY", "guest-", "taubyte-build"} {
		require.NotContains(t, b.text(j), "function ping: "+bad)
	}
	require.Contains(t, b.text(j), "function ping: SHARED", "its repository")
	require.Contains(t, b.text(j), "function ping: kept\n")

	// What leads elsewhere in the repository is there, and counts.
	links := func(n int) map[string]string {
		return project(map[string]string{
			"main.go":   "package main\n\n//go:wasmexport ping\nfunc ping(uint32) uint32 { return answer }\n\nfunc main() {}\n",
			"answer.go": "->../../../shared/answer.go",
		}, map[string]string{"shared/answer.go": fmt.Sprintf("package main\n\nconst answer = %d\n", n)})
	}
	b.succeed(t, b.push(repo, auth.KindProject, links(1)))
	one, _ := b.current(t).Asset(functionID)
	out := b.succeed(t, b.push(repo, auth.KindProject, links(2)))
	require.False(t, cached(out)["function ping"])
	two, _ := b.current(t).Asset(functionID)
	require.NotEqual(t, one, two)

	// The same source gives the same bytes, confined or not.
	plainly := newBench(t)
	plainly.start(t)
	plainly.succeed(t, plainly.push(repo, auth.KindProject, project(goFunction)))
	same, _ := plainly.current(t).Asset(functionID)
	require.Equal(t, module, same)
	b.clean(t)
}

// What does not end, in time or in what it says, fails alone.
func TestConfinedBuildWithoutEnd(t *testing.T) {
	b := newBench(t)
	b.start(t, monkey.WithEnvironment("confined", confined(t)), monkey.WithTimeout(3*time.Second), monkey.WithCapacity(2))
	j := b.push(repo, auth.KindProject, project(merge(shFunction, map[string]string{
		".taubyte/build.sh": "setsid yes 'a line of a log that has no end, from a daemon' & yes 'a line of a log that has no end'\n",
	})))
	other := b.push("local/other", auth.KindProject, project(merge(shFunction, map[string]string{
		".taubyte/build.sh": "sleep 1; cp ping.wasm $OUT/main.wasm\n",
	})))
	b.succeed(t, other)
	require.Equal(t, patrick.TimedOut, b.wait(t, j).State)
	require.Less(t, len(b.text(j)), 20<<20)
	next := b.push("local/third", auth.KindProject, project(merge(shFunction, map[string]string{".taubyte/build.sh": "true"})))
	require.Equal(t, patrick.Failed, b.wait(t, next).State, "the worker goes on")
	b.clean(t)
}

// A build that fills the disk fails by itself, and what its project keeps is let go.
func TestConfinedBuildFillsTheDisk(t *testing.T) {
	b := newBench(t)
	b.start(t, monkey.WithEnvironment("confined", confined(t)), monkey.WithLimits(monkey.Limits{Disk: 32 << 20}))
	out := b.wait(t, b.push(repo, auth.KindProject, project(merge(shFunction, map[string]string{
		".taubyte/build.sh": "cat /dev/zero > /cache/fill\n",
	}))))
	require.Equal(t, patrick.Failed, out.State)
	require.Contains(t, out.Error, "bytes of disk")
	b.succeed(t, b.push(repo, auth.KindProject, project(shFunction)))
}
