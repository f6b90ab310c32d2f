package monkey

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Process is the Environment that runs tasks as processes of this machine. They
// have a clean set of variables, limits, and a process group of their own, which
// is killed at the end.
//
// It needs nothing installed but what the build needs, and it confines little: a
// task runs as the node's user, sees its files and its network, and a process
// that makes itself leader of another session outlives it. It is for one's own
// code. On systems other than Unix there is no process group: children of the
// command may outlive it, and limits are not applied.
type Process struct {
	// Path is the tasks' PATH. The default is that of the node's process.
	Path string
}

var _ Environment = (*Process)(nil)

// lateOutput is how long output is read after the last process of the group has
// ended, for what a process that left the group holds open.
const lateOutput = time.Second

// Run implements Environment. An image is not used, which the log says.
func (p *Process) Run(ctx context.Context, t Task) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if len(t.Command) == 0 {
		return errors.New("a task without a command")
	}
	path := p.Path
	if path == "" {
		path = os.Getenv("PATH")
	}
	words := make([]string, len(t.Command))
	expand := strings.NewReplacer("${SRC}", t.Dir, "${OUT}", t.Out)
	for i, w := range t.Command {
		words[i] = expand.Replace(w)
	}
	program, err := lookPath(words[0], path)
	if err != nil {
		return err
	}
	if t.Image != "" {
		fmt.Fprintf(t.Log, "note: the image %s is not used: this node runs builds as processes of the machine\n", t.Image)
	}
	argv := append([]string{program}, words[1:]...)
	cmd := exec.Command(argv[0], argv[1:]...)
	limit(cmd, t.Limits)
	cmd.Dir = t.Dir
	cmd.Env = slices.Concat([]string{"PATH=" + path, "HOME=" + t.Scratch, "TMPDIR=" + t.Scratch, "LANG=C.UTF-8"},
		system(), t.Env, []string{"SRC=" + t.Dir, "OUT=" + t.Out, "PWD=" + t.Dir})
	group(cmd)

	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("running %s: %w", words[0], err)
	}
	defer r.Close()
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		return fmt.Errorf("running %s: %w", words[0], err)
	}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(t.Log, r)
	}()
	// killed ends before Run does, so that a number that the system gives to
	// another process later is never signalled.
	ended, killed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(killed)
		select {
		case <-ctx.Done():
			killGroup(cmd)
		case <-ended:
		}
	}()
	err = cmd.Wait()
	killGroup(cmd) // what it has left behind
	close(ended)
	<-killed
	_ = r.SetReadDeadline(time.Now().Add(lateOutput))
	<-copied

	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &ExitError{Command: filepath.Base(words[0]), Status: exit.Error()}
	}
	if err != nil {
		return fmt.Errorf("running %s: %w", words[0], err)
	}
	return nil
}

// lookPath is exec.LookPath in a PATH that is not the process's.
func lookPath(name, path string) (string, error) {
	if filepath.IsAbs(name) {
		if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
			return "", missing(name)
		}
		return name, nil
	}
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue // never the source's own folder
		}
		if found, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return found, nil
		}
	}
	return "", missing(name)
}

func missing(name string) error {
	switch name {
	case "go":
		return &MissingError{What: "the Go toolchain", Hint: "install Go 1.24 or later (https://go.dev/dl) and see that the command go is in the node's PATH"}
	case shell:
		return &MissingError{What: "a POSIX shell (" + shell + ")", Hint: "build on a system that has one, or in a container"}
	}
	return &MissingError{What: name, Hint: "install it and see that it is in the node's PATH"}
}

const shell = "/bin/sh"
