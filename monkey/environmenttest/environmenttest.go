// Package environmenttest checks that an implementation of monkey.Environment
// keeps its contract.
package environmenttest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/testbin"
	"github.com/taubyte/taubyte/monkey"
)

// Run tests an environment that has a POSIX shell. Its tasks work in folders of
// the test's.
func Run(t *testing.T, env monkey.Environment) {
	task := func(t *testing.T, script string) (monkey.Task, *testbin.Buffer) {
		dir := t.TempDir()
		out := &testbin.Buffer{}
		task := monkey.Task{
			Command: []string{"/bin/sh", "${SRC}/script.sh"},
			Dir:     filepath.Join(dir, "src"), Out: filepath.Join(dir, "out"), Scratch: filepath.Join(dir, "tmp"),
			Log: out,
		}
		for _, d := range []string{task.Dir, task.Out, task.Scratch} {
			require.NoError(t, os.Mkdir(d, 0o700))
		}
		require.NoError(t, os.WriteFile(filepath.Join(task.Dir, "script.sh"), []byte(script), 0o600))
		return task, out
	}

	t.Run("files and output", func(t *testing.T) {
		task, out := task(t, `echo "hello $NAME"; echo problem >&2; cat input > "$OUT/result"; pwd > "$OUT/pwd"; touch "$TMPDIR/x"`)
		task.Env = []string{"NAME=world"}
		require.NoError(t, os.WriteFile(filepath.Join(task.Dir, "input"), []byte("data"), 0o600))
		require.NoError(t, env.Run(t.Context(), task))
		require.Equal(t, "hello world\nproblem\n", out.String())
		got, err := os.ReadFile(filepath.Join(task.Out, "result"))
		require.NoError(t, err)
		require.Equal(t, "data", string(got))
	})
	t.Run("no variable of the node", func(t *testing.T) {
		t.Setenv("NODE_SECRET", "hunter2")
		task, out := task(t, `env`)
		require.NoError(t, env.Run(t.Context(), task))
		require.NotContains(t, out.String(), "hunter2")
		require.Contains(t, out.String(), "PATH=")
	})
	t.Run("failure", func(t *testing.T) {
		task, _ := task(t, `exit 7`)
		var exit *monkey.ExitError
		require.ErrorAs(t, env.Run(t.Context(), task), &exit)
		require.Contains(t, exit.Status, "7")
	})
	t.Run("something missing", func(t *testing.T) {
		task, _ := task(t, ``)
		task.Command = []string{"no-such-program-anywhere"}
		var missing *monkey.MissingError
		require.ErrorAs(t, env.Run(t.Context(), task), &missing)
		require.Contains(t, missing.Error(), "no-such-program-anywhere")
	})
	t.Run("cancelled, with children", func(t *testing.T) {
		task, out := task(t, `(while :; do echo x >> "$OUT/alive"; sleep 0.02; done) & echo begun; wait`)
		because := errors.New("because")
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() { done <- env.Run(ctx, task) }()
		require.Eventually(t, func() bool { return strings.Contains(out.String(), "begun") }, 30*time.Second, 5*time.Millisecond)
		cancel(because)
		require.ErrorIs(t, <-done, because)
		still(t, filepath.Join(task.Out, "alive"))
	})
	t.Run("children left behind", func(t *testing.T) {
		task, _ := task(t, `(while :; do echo x >> "$OUT/alive"; sleep 0.02; done) & while [ ! -e "$OUT/alive" ]; do sleep 0.01; done`)
		require.NoError(t, env.Run(t.Context(), task))
		still(t, filepath.Join(task.Out, "alive"))
	})
	t.Run("many at a time", func(t *testing.T) {
		var wg sync.WaitGroup
		for range 4 {
			task, out := task(t, `for i in 1 2 3; do echo $i; done`)
			wg.Go(func() {
				if err := env.Run(t.Context(), task); err != nil || out.String() != "1\n2\n3\n" {
					t.Errorf("%v: %q", err, out.String())
				}
			})
		}
		wg.Wait()
	})
}

// still requires that nothing writes to a file any more.
func still(t *testing.T, name string) {
	t.Helper()
	size := func() int64 {
		info, err := os.Stat(name)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	before := size()
	time.Sleep(200 * time.Millisecond) // ten times what a live one would need
	require.Equal(t, before, size(), "a process outlives its task")
}
