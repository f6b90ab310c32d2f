package environmenttest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/monkey"
)

// Hostile tests an environment that is for strangers' code: what a command does that means
// harm to the node or to other builds fails, and leaves them well.
func Hostile(t *testing.T, env monkey.Environment) {
	secret := filepath.Join(t.TempDir(), "authority.key")
	require.NoError(t, os.WriteFile(secret, []byte("ROOTKEY"), 0o644))

	t.Run("reads the node's files", func(t *testing.T) {
		b := newBench(t, env)
		home, err := os.UserHomeDir()
		require.NoError(t, err)
		require.NoError(t, b.run(t.Context(), t, fmt.Sprintf(
			`cat '%s'; ls -a '%s'; cat /etc/shadow /etc/passwd; ls /root /home /var /run /sys; ln -s '%s' link; cat link; true`, secret, home, secret)))
		require.NotContains(t, b.log.String(), "ROOTKEY")
		require.NotRegexp(t, `(?m)^root:`, b.log.String())
		require.NotContains(t, b.log.String(), ".bashrc")
	})
	t.Run("has what programs need", func(t *testing.T) {
		b := newBench(t, env)
		require.NoError(t, b.run(t.Context(), t, `ls /etc > /dev/null && [ -w "$SRC" ] && [ -r "$RO" ] && echo x > /tmp/x && echo x > /dev/shm/y && [ -e "$TMP/y" ] && cat /dev/urandom | head -c 10 > /dev/null`))
	})
	t.Run("writes outside of its folders", func(t *testing.T) {
		b := newBench(t, env)
		require.NoError(t, os.WriteFile(filepath.Join(b.ro, "sdk.go"), []byte("package sdk"), 0o644))
		require.NoError(t, b.run(t.Context(), t, fmt.Sprintf(
			`echo x >> "$RO/sdk.go"; rm -f "$RO/sdk.go"; echo x > /usr/bin/evil; echo x > /evil; echo x > /dev/evil; echo x > '%s'; rm -rf "$OUT"; ln -s / "$OUT"; true`, secret)))
		text, err := os.ReadFile(filepath.Join(b.ro, "sdk.go"))
		require.NoError(t, err)
		require.Equal(t, "package sdk", string(text))
		text, err = os.ReadFile(secret)
		require.NoError(t, err)
		require.Equal(t, "ROOTKEY", string(text))
		info, err := os.Lstat(b.out)
		require.NoError(t, err)
		require.True(t, info.IsDir(), "its result is still a folder")
		require.NoFileExists(t, "/usr/bin/evil")
		require.NoFileExists(t, "/evil")
	})
	t.Run("looks at other processes", func(t *testing.T) {
		t.Setenv("NODE_SECRET", "hunter2")
		b := newBench(t, env)
		require.NoError(t, b.run(t.Context(), t, fmt.Sprintf(
			`cat /proc/*/environ /proc/*/cmdline | tr '\0' '\n'; ls -l /proc/*/fd /proc/*/cwd; ls /proc/%d; kill -9 %d; kill -9 -1; true`, os.Getpid(), os.Getpid())))
		require.NotContains(t, b.log.String(), "hunter2")
		require.NotContains(t, b.log.String(), filepath.Base(os.Args[0]))
		require.NotContains(t, b.log.String(), "authority.key")
	})
	t.Run("becomes more than it is", func(t *testing.T) {
		b := newBench(t, env)
		require.NoError(t, b.run(t.Context(), t,
			`grep -E 'NoNewPrivs|CapEff|Seccomp:' /proc/self/status; unshare -Ur true 2>/dev/null && echo NAMESPACE; mount -t tmpfs x /tmp 2>/dev/null && echo MOUNTED; echo 1 > /proc/sys/kernel/panic 2>/dev/null && echo SYSCTL; true`))
		said := strings.Join(strings.Fields(b.log.String()), " ")
		require.Contains(t, said, "CapEff: 0000000000000000 NoNewPrivs: 1 Seccomp: 2")
		for _, bad := range []string{"NAMESPACE", "MOUNTED", "SYSCTL"} {
			require.NotContains(t, said, bad)
		}
	})
	t.Run("calls the node's ports and sockets", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		reached := make(chan struct{}, 1)
		go func() {
			if c, err := l.Accept(); err == nil {
				reached <- struct{}{}
				_ = c.Close()
			}
		}()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		b := newBench(t, env)
		require.NoError(t, b.run(t.Context(), t, fmt.Sprintf(
			`timeout 5 bash -c 'echo hello > /dev/tcp/127.0.0.1/%s'; curl -m 5 http://127.0.0.1:%s/; cat /proc/net/unix /proc/net/tcp; true`, port, port)))
		select {
		case <-reached:
			t.Fatal("the node's port is reached")
		default:
		}
		require.NotRegexp(t, `(?m)^[0-9a-f]{16}: .*@`, b.log.String(), "abstract sockets")
	})
	t.Run("leaves daemons", func(t *testing.T) {
		b := newBench(t, env)
		require.NoError(t, b.run(t.Context(), t, fmt.Sprintf(
			`setsid sh -c '%s' >/dev/null 2>&1 </dev/null & while [ ! -e "$OUT/alive" ]; do sleep 0.01; done`, strings.ReplaceAll(beating, "& ", "& wait"))))
		still(t, filepath.Join(b.out, "alive"))

		// The same from another process group, when it is ended.
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		b = newBench(t, env)
		began := time.Now()
		require.ErrorIs(t, b.run(ctx, t, beating+`setsid sh -c 'while :; do echo y >> "$OUT/alive"; sleep 0.02; done' & wait`), context.DeadlineExceeded)
		t.Logf("ended %s after its time", time.Since(began)-2*time.Second)
		still(t, filepath.Join(b.out, "alive"))
	})
	t.Run("forks without end", func(t *testing.T) {
		b := newBench(t, env)
		b.spec.Limits = monkey.Limits{Processes: 200, Memory: 1 << 30}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		err := b.run(ctx, t, `bomb() { bomb & bomb; }; bomb; sleep 100`)
		require.Error(t, err)
		t.Log(err)
		other := newBench(t, env)
		require.NoError(t, other.run(t.Context(), t, `echo well`), "another build is well")
		require.Equal(t, "well\n", other.log.String())
	})
	t.Run("takes memory", func(t *testing.T) {
		b := newBench(t, env)
		b.spec.Limits = monkey.Limits{Memory: 128 << 20}
		err := b.run(t.Context(), t, `head -c 400000000 /dev/zero | tail -n 1 > /dev/null`+" || exit 9")
		var exit *monkey.ExitError
		var limit *monkey.LimitError
		require.True(t, errors.As(err, &exit) || errors.As(err, &limit), "one process: %v", err)

		b = newBench(t, env)
		b.spec.Limits = monkey.Limits{Memory: 128 << 20}
		require.ErrorAs(t, b.run(t.Context(), t,
			`for i in 1 2 3 4; do (head -c 60000000 /dev/zero; sleep 60) | tail -n 1 > /dev/null & done; wait`), &limit, "several together")
		require.Contains(t, limit.Error(), "of memory")
	})
	t.Run("fills the disk", func(t *testing.T) {
		for name, script := range map[string]string{
			"one file":  `cat /dev/zero > "$OUT/fill"`,
			"many":      `i=0; while :; do head -c 1000000 /dev/zero > "$TMP/$i"; i=$((i+1)); done`,
			"no name":   `exec 3> "$OUT/fill"; rm "$OUT/fill"; cat /dev/zero >&3`,
			"in memory": `cat /dev/zero > /dev/shm/fill`,
		} {
			b := newBench(t, env)
			b.spec.Limits = monkey.Limits{Disk: 64 << 20}
			var limit *monkey.LimitError
			require.ErrorAs(t, b.run(t.Context(), t, script), &limit, name)
			require.Contains(t, limit.Error(), "of disk", name)
		}
	})
}
