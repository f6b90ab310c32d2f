//go:build !unix

package gitcmd

import "os/exec"

// endGroup has no effect where there are no process groups: git itself is ended,
// and its helpers end when their pipes close.
func endGroup(*exec.Cmd) {}

// Yield has no effect where there are no priorities of process groups.
func Yield(*exec.Cmd) {}
