// Package testbin builds and runs programs of this module for the tests.
package testbin

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Build builds the program in a package's folder and returns its path.
func Build(t testing.TB, dir string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "program")
	if runtime.GOOS == "windows" {
		out += ".exe"
	}
	cmd := exec.Command("go", "build", "-o", out, ".")
	cmd.Dir = dir
	said, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", said)
	return out
}

// A Process is a running program. It is killed at the end of the test.
type Process struct {
	t     testing.TB
	cmd   *exec.Cmd
	lines chan string
	errs  *Buffer
	done  chan struct{}
	err   error
}

// A Buffer is what somebody says, a process or a log, and may be read meanwhile.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Start starts a program with the test's environment and env added.
func Start(t testing.TB, env []string, program string, args ...string) *Process {
	t.Helper()
	p := &Process{t: t, cmd: exec.Command(program, args...), lines: make(chan string, 1024), errs: &Buffer{}, done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = p.errs
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(p.Kill)
	return p
}

// Line waits for the next line of the program's output.
func (p *Process) Line() string {
	p.t.Helper()
	select {
	case line, ok := <-p.lines:
		if ok {
			return line
		}
		<-p.done
		require.FailNow(p.t, "the program ended", "%v\n%s", p.err, p.errs)
	case <-time.After(2 * time.Minute):
		require.FailNow(p.t, "the program says nothing", "%s", p.errs)
	}
	return ""
}

// Said is what the program wrote to its standard error so far.
func (p *Process) Said() string { return p.errs.String() }

// Kill ends the program at once, as a crash would.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Interrupt asks the program to end, and waits until it has.
func (p *Process) Interrupt() error {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(os.Interrupt))
	return p.Wait()
}

// Wait returns when the program has ended.
func (p *Process) Wait() error {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		require.FailNow(p.t, "the program does not end", "%s", p.errs)
	}
	return p.err
}
