//go:build unix

package gitcmd

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

// Yield lets everything else on the machine go before a command that was started.
func Yield(cmd *exec.Cmd) { _ = syscall.Setpriority(syscall.PRIO_PGRP, cmd.Process.Pid, 15) }
