package testcluster

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"
)

// A Node is one process of a cluster, or the place where it ran and will run again.
type Node struct {
	Spec
	c       *Cluster
	machine *machine
	last    byte   // of its address
	dir     string // with taubyte.yaml
	log     string // the file of what it says

	p2p, api, users string // addresses
	id              string // its peer ID, since it first started

	mu      sync.Mutex
	process *process    // nil when it does not run
	ending  atomic.Bool // it was asked to end, and has not been started again
	awaySet time.Time   // since when a fault keeps it from answering, zero if none does
	backSet time.Time   // when the last such fault ended
	// reached ends a while after such a fault begins: users then leave.
	reached context.Context
	leave   func()
	leaving *time.Timer
}

// A process is one run of a node.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

func (n *Node) data() string { return filepath.Join(n.dir, "data") }

func (n *Node) multiaddr() string {
	a := netip.MustParseAddrPort(n.p2p)
	return fmt.Sprintf("/ip4/%s/tcp/%d", a.Addr(), a.Port())
}

// API is the address of the node's API.
func (n *Node) API() string { return n.api }

// Users is the address of its gateway.
func (n *Node) Users() string { return n.users }

// Token is what callers of its API show.
func (n *Node) Token() (string, error) {
	var text []byte
	err := n.machine.do(func() (err error) {
		text, err = os.ReadFile(filepath.Join(n.data(), "token"))
		return err
	})
	return strings.TrimSpace(string(text)), err
}

// Running reports whether there is a process that can answer: one that hangs can't.
func (n *Node) Running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process != nil && n.awaySet.IsZero()
}

// Alive reports whether there is a process.
func (n *Node) Alive() bool {
	p := n.running()
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		n.setAway(true)
		n.gone(p)
		return false
	default:
		return true
	}
}

// away reports since when a fault keeps the node from answering, and when the last
// such fault ended.
func (n *Node) away() (since, back time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.awaySet, n.backSet
}

func (n *Node) setAway(away bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case away && n.awaySet.IsZero():
		n.awaySet = time.Now()
		if n.leave != nil {
			n.leaving = time.AfterFunc(moving, n.leave)
		}
	case !away && !n.awaySet.IsZero():
		n.awaySet, n.backSet = time.Time{}, time.Now()
		if n.leaving != nil && n.leaving.Stop() {
			return // it is back before anybody left
		}
		n.reached, n.leave, n.leaving = nil, nil, nil
	}
}

// reach returns a context that ends when users leave the node because a fault took it
// away.
func (n *Node) reach() context.Context {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.reached == nil {
		n.reached, n.leave = context.WithCancel(context.Background())
		if !n.awaySet.IsZero() {
			n.leaving = time.AfterFunc(moving-time.Since(n.awaySet), n.leave)
		}
	}
	return n.reached
}

// Start runs the node, and returns when it serves: how long that took.
func (n *Node) Start() time.Duration {
	n.c.t.Helper()
	took, err := n.TryStart()
	require.NoError(n.c.t, err)
	return took
}

// startLimit is how long a node may take from its start to the line that says where
// it serves.
const startLimit = time.Minute

// TryStart is Start for a node that may refuse to start. The error holds what it
// said.
func (n *Node) TryStart() (time.Duration, error) {
	n.c.t.Helper()
	began := time.Now()
	n.mu.Lock()
	running := n.process != nil
	n.mu.Unlock()
	require.False(n.c.t, running, "%s runs", n.Name)
	log, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer log.Close() // the process has its own
	from, err := log.Seek(0, 2)
	if err != nil {
		return 0, err
	}
	p := &process{
		cmd:  exec.Command(n.c.program, "start", "--json", "--log", n.c.config.Logs, "--config", filepath.Join(n.dir, "taubyte.yaml")),
		done: make(chan struct{}),
	}
	p.cmd.Env = append(os.Environ(), skewEnv(n)...)
	p.cmd.Stderr = log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := n.machine.start(p.cmd); err != nil {
		return 0, fmt.Errorf("starting %s: %w", n.Name, err)
	}
	serves := make(chan string, 1)
	go func() {
		s := bufio.NewScanner(out)
		if s.Scan() {
			serves <- s.Text()
		}
		for s.Scan() {
		}
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	n.mu.Lock()
	n.process = p
	n.mu.Unlock()
	select {
	case line := <-serves:
		took := time.Since(began)
		n.ending.Store(false)
		n.setAway(false)
		var said struct{ ID string }
		if err := json.Unmarshal([]byte(line), &said); err != nil {
			return 0, fmt.Errorf("%s said %q: %w", n.Name, line, err)
		}
		n.id = said.ID
		return took, nil
	case <-p.done:
		err = p.err
	case <-time.After(startLimit):
		n.machine.signal(p.cmd.Process, syscall.SIGQUIT) // its goroutines, into the log
		select {
		case <-p.done:
		case <-time.After(5 * time.Second):
			n.machine.signal(p.cmd.Process, syscall.SIGKILL)
			<-p.done
		}
		err = errors.New("it says nothing")
	}
	n.mu.Lock()
	n.process = nil
	n.mu.Unlock()
	text, _ := os.ReadFile(n.log)
	return 0, fmt.Errorf("starting %s: %w: %s", n.Name, err, strings.TrimSpace(string(text[min(int64(len(text)), from):])))
}

// Kill ends the process and all that it began at once, as a crash of the machine
// would.
func (n *Node) Kill() {
	if p := n.running(); p != nil {
		n.setAway(true)
		n.machine.signal(p.cmd.Process, syscall.SIGKILL)
		n.gone(p)
	}
}

func (n *Node) running() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process
}

func (n *Node) gone(p *process) {
	<-p.done
	n.mu.Lock()
	n.process = nil
	n.mu.Unlock()
}

// stopLimit is how long an orderly end may take.
const stopLimit = 30 * time.Second

// Interrupt ends the process in order, and returns how long that took. Users are told
// to leave it when it begins.
func (n *Node) Interrupt() time.Duration {
	n.c.t.Helper()
	p := n.running()
	require.NotNil(n.c.t, p, "%s does not run", n.Name)
	began := time.Now()
	n.ending.Store(true)
	require.NoError(n.c.t, p.cmd.Process.Signal(os.Interrupt))
	select {
	case <-p.done:
	case <-time.After(stopLimit):
		n.machine.signal(p.cmd.Process, syscall.SIGQUIT)
		time.Sleep(time.Second)
		n.machine.signal(p.cmd.Process, syscall.SIGKILL)
		n.setAway(true)
		n.gone(p)
		require.FailNow(n.c.t, "no orderly end", "%s runs %s after an interrupt", n.Name, stopLimit)
	}
	n.setAway(true)
	n.gone(p)
	require.NoError(n.c.t, p.err, "the end of %s", n.Name)
	return time.Since(began)
}

// Hang makes the process stand still. Its connections stay open.
func (n *Node) Hang() {
	n.c.t.Helper()
	if !canStop {
		n.c.t.Skip("processes can't be stopped here")
	}
	p := n.running()
	require.NotNil(n.c.t, p, "%s does not run", n.Name)
	n.setAway(true)
	n.machine.signal(p.cmd.Process, stopSignal)
}

// Resume lets a process go on that hangs.
func (n *Node) Resume() {
	if p := n.running(); p != nil {
		n.machine.signal(p.cmd.Process, continueSignal)
		n.setAway(false)
	}
}

// end ends the node with the test.
func (n *Node) end() {
	n.Kill()
	if err := n.machine.Close(); err != nil {
		n.c.t.Error(err)
	}
}

// filler is the file that takes the space of a full disk.
const filler = "filler"

// FillDisk takes all space of the node's disk.
func (n *Node) FillDisk() {
	n.c.t.Helper()
	require.NotZero(n.c.t, n.Disk, "%s has no disk of its own", n.Name)
	require.NoError(n.c.t, n.machine.do(func() error {
		f, err := os.Create(filepath.Join(n.dir, "data", filler))
		if err != nil {
			return err
		}
		defer f.Close()
		for block := make([]byte, 64<<10); ; {
			if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
				return nil
			} else if err != nil {
				return err
			}
		}
	}))
}

// FreeDisk gives back what FillDisk took.
func (n *Node) FreeDisk() {
	n.c.t.Helper()
	require.NoError(n.c.t, n.machine.do(func() error { return os.Remove(filepath.Join(n.data(), filler)) }))
}

// LoseStore deletes the node's store. It keeps its identity. It must not run.
func (n *Node) LoseStore() { n.lose("store") }

// LoseDisk deletes all that the node has in its data folder, its identity too. It must
// not run.
func (n *Node) LoseDisk() { n.lose("") }

func (n *Node) lose(only string) {
	n.c.t.Helper()
	require.Nil(n.c.t, n.running(), "%s runs", n.Name)
	require.NoError(n.c.t, n.machine.do(func() error {
		entries, err := os.ReadDir(n.data())
		for _, e := range entries {
			if only == "" || e.Name() == only {
				err = errors.Join(err, os.RemoveAll(filepath.Join(n.data(), e.Name())))
			}
		}
		return err
	}))
}

// Corrupt flips bits in a number of places of the node's tables, and returns the
// files that it damaged. The node must not run.
func (n *Node) Corrupt(places int) []string {
	n.c.t.Helper()
	require.Nil(n.c.t, n.running(), "%s runs", n.Name)
	var damaged []string
	require.NoError(n.c.t, n.machine.do(func() error {
		var tables []string
		err := filepath.WalkDir(filepath.Join(n.data(), "store"), func(path string, e fs.DirEntry, err error) error {
			if err == nil && filepath.Ext(path) == ".sst" {
				tables = append(tables, path)
			}
			return err
		})
		if err != nil || len(tables) == 0 {
			return errors.Join(err, fmt.Errorf("%d tables", len(tables)))
		}
		for range places {
			table := tables[rand.IntN(len(tables))]
			text, err := os.ReadFile(table)
			if err != nil {
				return err
			}
			text[rand.IntN(len(text))] ^= 1 << rand.IntN(8)
			if err := os.WriteFile(table, text, 0o600); err != nil {
				return err
			}
			damaged = append(damaged, filepath.Base(table))
		}
		return nil
	}))
	return damaged
}

// Break makes the node's configuration one that can't be read.
func (n *Node) Break() {
	n.c.t.Helper()
	require.NoError(n.c.t, os.WriteFile(filepath.Join(n.dir, "taubyte.yaml"), []byte("data: [\n"), 0o600))
}

// Log is what the node has said since it first started.
func (n *Node) Log() string {
	text, _ := os.ReadFile(n.log)
	return string(text)
}

// LogTail is the last lines of what it said.
func (n *Node) LogTail(lines int) string {
	all := strings.Split(strings.TrimSpace(n.Log()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
