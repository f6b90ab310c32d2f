// Package environmenttest checks that an implementation of monkey.Environment keeps its
// contract, and that one that is for strangers' code keeps strangers in.
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

// A bench is a session's folders on the node.
type bench struct {
	src, out, tmp, ro string
	log               *testbin.Buffer
	env               monkey.Environment
	spec              monkey.Spec
}

func newBench(t *testing.T, env monkey.Environment) *bench {
	dir := t.TempDir()
	b := &bench{
		src: filepath.Join(dir, "src"), out: filepath.Join(dir, "out"), tmp: filepath.Join(dir, "tmp"), ro: filepath.Join(dir, "ro"),
		log: &testbin.Buffer{}, env: env,
	}
	for _, d := range []string{b.src, b.out, b.tmp} {
		require.NoError(t, os.Mkdir(d, 0o700))
	}
	require.NoError(t, os.Mkdir(b.ro, 0o755))
	b.spec = monkey.Spec{Owner: t.Name(), Log: b.log, Mounts: []monkey.Mount{
		{Name: "SRC", Dir: b.src, Write: true}, {Name: "OUT", Dir: b.out, Write: true}, {Name: "TMP", Dir: b.tmp, Write: true},
		{Name: "RO", Dir: b.ro},
	}}
	return b
}

func (b *bench) open(t *testing.T) monkey.Session {
	s, err := b.env.Open(t.Context(), b.spec)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// sh is a command that runs a script.
func (b *bench) sh(script string, env ...string) monkey.Command {
	return monkey.Command{Words: []string{"/bin/sh", "-c", script}, Dir: "${SRC}", Env: env, Log: b.log}
}

// run opens a session for one script.
func (b *bench) run(ctx context.Context, t *testing.T, script string, env ...string) error {
	return b.open(t).Exec(ctx, b.sh(script, env...))
}

const beating = `(while :; do echo x >> "$OUT/alive"; sleep 0.02; done) & `

// Run tests an environment that has a POSIX shell. Its sessions work in folders of the
// test's.
func Run(t *testing.T, env monkey.Environment) {
	t.Run("files and output", func(t *testing.T) {
		b := newBench(t, env)
		require.NoError(t, os.WriteFile(filepath.Join(b.src, "input"), []byte("data"), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(b.src, "script.sh"), []byte("echo \"$1\"\n"), 0o600))
		s := b.open(t)
		require.NoError(t, s.Exec(t.Context(), b.sh(`echo "hello $NAME"; echo problem >&2; cat input > "$OUT/result"; touch "$TMPDIR/x"; [ "$HOME" = "$TMP" ]`, "NAME=world")))
		require.NoError(t, s.Exec(t.Context(), monkey.Command{
			Words: []string{"/bin/sh", "${SRC}/script.sh", "${OUT}"}, Dir: "${SRC}", Log: b.log,
		}))
		require.NoError(t, s.Exec(t.Context(), b.sh(`ls "$TMP"`)), "the folders are the session's")
		require.Equal(t, "hello world\nproblem\n"+s.Place("OUT")+"\nx\n", b.log.String())
		got, err := os.ReadFile(filepath.Join(b.out, "result"))
		require.NoError(t, err)
		require.Equal(t, "data", string(got))
	})
	t.Run("no variable of the node", func(t *testing.T) {
		t.Setenv("NODE_SECRET", "hunter2")
		b := newBench(t, env)
		require.NoError(t, b.run(t.Context(), t, `env`))
		require.NotContains(t, b.log.String(), "hunter2")
		require.Contains(t, b.log.String(), "PATH=")
	})
	t.Run("failure", func(t *testing.T) {
		var exit *monkey.ExitError
		require.ErrorAs(t, newBench(t, env).run(t.Context(), t, `exit 7`), &exit)
		require.Contains(t, exit.Status, "7")
	})
	t.Run("something missing", func(t *testing.T) {
		b := newBench(t, env)
		var missing *monkey.MissingError
		require.ErrorAs(t, b.open(t).Exec(t.Context(), monkey.Command{Words: []string{"no-such-program-anywhere"}, Dir: "${SRC}", Log: b.log}), &missing)
		require.Contains(t, missing.Error(), "no-such-program-anywhere")
	})
	begun := func(t *testing.T, b *bench) {
		require.Eventually(t, func() bool { return strings.Contains(b.log.String(), "begun") }, 30*time.Second, 5*time.Millisecond)
	}
	t.Run("cancelled, with children", func(t *testing.T) {
		b := newBench(t, env)
		because := errors.New("because")
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		s := b.open(t)
		go func() { done <- s.Exec(ctx, b.sh(beating+`echo begun; wait`)) }()
		begun(t, b)
		cancel(because)
		require.ErrorIs(t, <-done, because)
		still(t, filepath.Join(b.out, "alive"))
	})
	t.Run("closed in the midst of it", func(t *testing.T) {
		b := newBench(t, env)
		done := make(chan error, 1)
		s := b.open(t)
		go func() { done <- s.Exec(context.Background(), b.sh(beating+`echo begun; wait`)) }()
		begun(t, b)
		require.NoError(t, s.Close())
		still(t, filepath.Join(b.out, "alive"))
		require.Error(t, <-done)
		require.NoError(t, s.Close())
		require.Error(t, s.Exec(t.Context(), b.sh(`true`)))
	})
	t.Run("children left behind", func(t *testing.T) {
		b := newBench(t, env)
		require.NoError(t, b.run(t.Context(), t, beating+`while [ ! -e "$OUT/alive" ]; do sleep 0.01; done`))
		still(t, filepath.Join(b.out, "alive"))
	})
	t.Run("limits of the kernel", func(t *testing.T) {
		b := newBench(t, env)
		b.spec.Limits = monkey.Limits{CPU: time.Second, File: 4096}
		s := b.open(t)
		var exit *monkey.ExitError
		require.ErrorAs(t, s.Exec(t.Context(), b.sh(`head -c 1000000 /dev/zero > big`)), &exit)
		require.ErrorAs(t, s.Exec(t.Context(), b.sh(`while :; do :; done`)), &exit)
	})
	t.Run("many at a time", func(t *testing.T) {
		var wg sync.WaitGroup
		for range 4 {
			b := newBench(t, env)
			s := b.open(t)
			wg.Go(func() {
				if err := s.Exec(t.Context(), b.sh(`for i in 1 2 3; do echo $i; done`)); err != nil || b.log.String() != "1\n2\n3\n" {
					t.Errorf("%v: %q", err, b.log.String())
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
	require.Equal(t, before, size(), "a process outlives its command")
}
