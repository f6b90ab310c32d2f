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
	"time"

	"github.com/taubyte/taubyte/monkey/internal/confine"
)

// Process is the Environment that runs commands as plain processes of this machine. They
// have a clean set of variables, limits, and a process group of their own, which is killed
// at the end.
//
// It needs nothing installed but what the build needs, and it confines nothing: a command
// runs as the node's user, reads and writes what that user may, the node's keys too, has
// its network, and a process that leaves the group outlives it. It is for one's own code;
// for a stranger's there is Confined. On systems other than Unix there is no process group:
// children of a command may outlive it, and limits are not applied.
type Process struct {
	// Path is the commands' PATH. The default is that of the node's process.
	Path string
}

// lateOutput is how long output is read after the last process of the group has ended, for
// what a process that left the group holds open.
const lateOutput = time.Second

// Open implements Environment. An image is not used, which the log says. The network is
// there whether asked for or not.
func (p *Process) Open(ctx context.Context, spec Spec) (Session, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	s := &processSession{Turn: confine.NewTurn(), places: places{}, limits: spec.Limits, path: spec.searchPath(p.Path)}
	for _, m := range spec.Mounts {
		if m.Name != "" {
			s.places[m.Name] = m.Dir
		}
	}
	noteImage(spec, "as processes of the machine")
	return s, nil
}

func noteImage(spec Spec, how string) {
	if spec.Dockerfile != nil && spec.Log != nil {
		fmt.Fprintf(spec.Log, "note: no image is built of the %s: this node runs builds %s (builds: container would build it)\n", spec.Dockerfile.Name, how)
	}
	if spec.Image != "" && spec.Log != nil {
		fmt.Fprintf(spec.Log, "note: the image %s is not used: this node runs builds %s\n", spec.Image, how)
	}
}

type processSession struct {
	*confine.Turn
	places places
	limits Limits
	path   string
}

func (s *processSession) Place(mount string) string { return s.places[mount] }

func (s *processSession) Exec(ctx context.Context, c Command) error {
	ctx, done, err := s.Begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	words, err := s.places.words(c)
	if err != nil {
		return err
	}
	program, err := lookPath(words[0], s.path)
	if err != nil {
		return err
	}
	cmd := exec.Command(program, words[1:]...)
	limit(cmd, s.limits)
	cmd.Dir = s.places.dir(c)
	cmd.Env = s.places.env(s.path, c)
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
		_, _ = io.Copy(c.Log, r)
	}()
	// killed ends before Exec does, so that a number that the system gives to another
	// process later is never signalled.
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
	return exited(ctx, words[0], err)
}

// exited says how a command ended.
func exited(ctx context.Context, program string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &ExitError{Command: base(program), Status: exit.Error()}
	}
	if err != nil {
		return fmt.Errorf("running %s: %w", program, err)
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

const shell = "/bin/sh"
