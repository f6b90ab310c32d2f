//go:build !unix

package monkey

import (
	"os"
	"os/exec"
)

func group(*exec.Cmd) {}

// killGroup ends the command alone: there are no process groups here.
func killGroup(cmd *exec.Cmd) { _ = cmd.Process.Kill() }

func limit(*exec.Cmd, Limits) {}

const dontWait = 0 // there are no pipes among files

// system are variables without which programs of the system don't run.
func system() []string {
	var vars []string
	for _, name := range []string{"SystemRoot", "PATHEXT", "ComSpec"} {
		if v, ok := os.LookupEnv(name); ok {
			vars = append(vars, name+"="+v)
		}
	}
	return vars
}
