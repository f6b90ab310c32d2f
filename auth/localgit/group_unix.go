//go:build unix

package localgit

import (
	"os/exec"
	"syscall"
)

// endGroup puts a command into a process group, all of which ends with it: git
// starts helpers of its own.
func endGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
