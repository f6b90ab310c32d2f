//go:build unix

package monkey

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
)

// group makes the command the leader of a process group of its own.
func group(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func killGroup(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

// limit has a shell set the limits before it becomes the command: there is no
// portable way to set them from outside.
func limit(cmd *exec.Cmd, l Limits) {
	var set strings.Builder
	if l.CPU > 0 {
		fmt.Fprintf(&set, "ulimit -t %d && ", max(int64(l.CPU.Seconds()), 1))
	}
	if l.File > 0 {
		fmt.Fprintf(&set, "ulimit -f %d && ", max(l.File/512, 1))
	}
	if set.Len() == 0 {
		return
	}
	cmd.Args = append([]string{shell, "-c", set.String() + `exec "$@"`, "limited"}, cmd.Args...)
	cmd.Path = shell
}

// dontWait opens a pipe without somebody at its other end.
const dontWait = syscall.O_NONBLOCK

// system are variables without which programs of the system don't run.
func system() []string { return nil }
