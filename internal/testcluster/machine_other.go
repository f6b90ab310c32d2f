//go:build !linux

package testcluster

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

var errNoIsolation = errors.New("network namespaces and TUN interfaces are Linux's")

func isolation() error { return errNoIsolation }

// A machine is where processes of one node run: here, beside this one.
type machine struct{}

func newMachine(bool, func() error) (*machine, error) { return &machine{}, nil }

func (m *machine) do(f func() error) error                { return f() }
func (m *machine) start(cmd *exec.Cmd) error              { return cmd.Start() }
func (m *machine) mountDisk(dir string, size int64) error { return errNoIsolation }
func (m *machine) Close() error                           { return nil }

func (m *machine) signal(root *os.Process, s syscall.Signal) {
	if s == syscall.SIGKILL {
		_ = root.Kill()
		return
	}
	_ = root.Signal(s)
}

// stopSignal and continueSignal hang a process and let it go on, where the system
// can do that.
const (
	stopSignal     = syscall.Signal(0)
	continueSignal = syscall.Signal(0)
	canStop        = runtime.GOOS == "none"
)

// A wire is the network between machines.
type wire struct{}

func newWire() (*wire, error)             { return nil, errNoIsolation }
func (w *wire) addr(byte) netip.Addr      { return netip.Addr{} }
func (w *wire) plug(...byte) error        { return errNoIsolation }
func (w *wire) set(src, dst byte, l Link) {}
func (w *wire) Close() error              { return nil }
