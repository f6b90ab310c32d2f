package testcluster

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"

	"math/rand/v2"

	"golang.org/x/sys/unix"
)

// A machine is where processes of one node run. It is a thread of this process that
// never does anything else: what it starts inherits its namespaces, and is killed by
// the kernel when the thread ends, however this process ends. The namespaces have no
// names, so that nothing is left of them either.
type machine struct {
	calls chan func()
	done  chan struct{}
	once  sync.Once
	netns string // which network namespace, "" for that of this process
}

// newMachine starts a machine. prepare runs on it first.
func newMachine(isolated bool, prepare func() error) (*machine, error) {
	m := &machine{calls: make(chan func()), done: make(chan struct{})}
	ready := make(chan error, 1)
	go m.run(isolated, prepare, ready)
	if err := <-ready; err != nil {
		<-m.done
		return nil, err
	}
	return m, nil
}

func (m *machine) run(isolated bool, prepare func() error, ready chan<- error) {
	runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
	if unix.Gettid() == unix.Getpid() {
		// The first thread never ends: leave it to others.
		moved := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(moved)
			m.run(isolated, prepare, ready)
		}()
		<-moved
		runtime.UnlockOSThread()
		return
	}
	defer close(m.done)
	err := func() error {
		if isolated {
			if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
				return fmt.Errorf("making namespaces: %w", err)
			}
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				return fmt.Errorf("making mounts private: %w", err)
			}
			if err := configure("lo", 0, netip.AddrFrom4([4]byte{127, 0, 0, 1})); err != nil {
				return err
			}
			var err error
			if m.netns, err = os.Readlink(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())); err != nil {
				return err
			}
		}
		if prepare != nil {
			return prepare()
		}
		return nil
	}()
	ready <- err
	if err != nil {
		return
	}
	for f := range m.calls {
		f()
	}
}

// do runs f on the machine: with its files and its network.
func (m *machine) do(f func() error) error {
	result := make(chan error, 1)
	m.calls <- func() { result <- f() }
	return <-result
}

// start starts a process on the machine.
func (m *machine) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	return m.do(cmd.Start)
}

// signal sends a signal to a process of the machine and to all others that it or
// they began: a crash takes a build's compiler as well.
func (m *machine) signal(root *os.Process, s syscall.Signal) {
	_ = root.Signal(s)
	if m.netns == "" {
		_ = syscall.Kill(-root.Pid, s)
		return
	}
	tasks, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range tasks {
		ns, err := os.Readlink(filepath.Join(dir, "ns", "net"))
		if err != nil || ns != m.netns {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil && pid != os.Getpid() && pid != root.Pid {
			_ = syscall.Kill(pid, s)
		}
	}
}

// mountDisk puts a file system of a size in the place of a folder, with what the
// folder holds.
func (m *machine) mountDisk(dir string, size int64) error {
	return m.do(func() error {
		aside := dir + ".aside"
		if err := os.Rename(dir, aside); err != nil {
			return err
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		if err := unix.Mount("testcluster", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", size)); err != nil {
			return fmt.Errorf("mounting a disk: %w", err)
		}
		if err := os.CopyFS(dir, os.DirFS(aside)); err != nil {
			return err
		}
		return os.RemoveAll(aside)
	})
}

// Close ends the machine, and with it what runs on it.
func (m *machine) Close() error {
	m.once.Do(func() { close(m.calls) })
	<-m.done
	return nil
}

// isolation reports why machines can't have namespaces and a wire here, nil if they
// can.
func isolation() error {
	m, err := newMachine(true, func() error {
		tun, _, err := openTUN()
		if err != nil {
			return err
		}
		return tun.Close()
	})
	if err != nil {
		return err
	}
	return m.Close()
}

// freePrefix chooses a network that this machine does not use.
func freePrefix() (netip.Prefix, error) {
	used, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Prefix{}, err
	}
	for range 100 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(64 + rand.IntN(128)), byte(rand.IntN(256)), 0}), 24)
		free := true
		for _, a := range used {
			if n, ok := a.(*net.IPNet); ok && (p.Contains(addrOf(n.IP)) || n.Contains(p.Addr().AsSlice())) {
				free = false
			}
		}
		if free {
			return p, nil
		}
	}
	return netip.Prefix{}, errors.New("no free network under 10.0.0.0/8")
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// stopSignal and continueSignal hang a process and let it go on.
const (
	stopSignal     = syscall.SIGSTOP
	continueSignal = syscall.SIGCONT
	canStop        = true
)
