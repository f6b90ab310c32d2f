//go:build unix

package localgit

import (
	"fmt"
	"net"
	"os"
	"syscall"
)

// socketPair returns two ends of a connection within this machine, one of them to be
// handed to a command.
func socketPair() (*net.UnixConn, *os.File, error) {
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, fmt.Errorf("a socket for git: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "git"), os.NewFile(uintptr(fds[1]), "git")
	c, err := net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		_ = theirs.Close()
		return nil, nil, fmt.Errorf("a socket for git: %w", err)
	}
	return c.(*net.UnixConn), theirs, nil
}
