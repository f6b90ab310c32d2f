package monkey

import (
	"context"
	"io"
	"time"
)

// An Environment runs the tasks of builds: strangers' scripts and compilers. An
// implementation is tested with package monkey/environmenttest.
//
// The contract:
//
//   - Run runs the command once with the folder Dir as its working directory, and
//     returns when it has ended and no process that it began is left, whatever
//     the way in which it ended.
//   - "${SRC}" and "${OUT}" in the command's words stand for the two folders as the
//     command sees them, which need not be the paths that the caller sees. It has
//     them in the variables SRC and OUT as well.
//   - The command sees Task.Env and what the environment itself gives (a PATH, a
//     HOME and a TMPDIR of its own), and no variable of the node's process.
//   - Files that it leaves in Dir, Out and Scratch are there for the caller.
//   - Standard output and error go to Log as they come, interleaved, from one
//     goroutine at a time and not after Run has returned.
//   - A command that fails gives an *ExitError. One that can't be run because the
//     node lacks something gives a *MissingError that names it. When ctx ends, Run
//     ends all processes at once and returns ctx's cause.
//   - Many tasks may run at a time.
type Environment interface {
	Run(ctx context.Context, task Task) error
}

// A Task is one command of a build.
type Task struct {
	Command []string
	Image   string   // the container image that the project asks for; "" where none
	Env     []string // "NAME=value"

	Dir     string // the source
	Out     string // where results go
	Scratch string // for temporary files; it is the command's alone
	Log     io.Writer

	Limits Limits
}

// Limits of a task. Zero is no limit.
type Limits struct {
	CPU  time.Duration // of one process of the task
	File int64         // bytes of one file that it writes
}

// An ExitError is a command's own failure.
type ExitError struct {
	Command string // its first word
	Status  string // "exit status 2", "signal: killed"
}

func (e *ExitError) Error() string { return e.Command + ": " + e.Status }

// A MissingError is something that the node would need to run a task.
type MissingError struct {
	What string // "the Go toolchain"
	Hint string // what to install
}

func (e *MissingError) Error() string { return e.What + " is not on this node: " + e.Hint }
