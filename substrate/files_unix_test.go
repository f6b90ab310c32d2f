//go:build unix

package substrate_test

import (
	"syscall"
	"testing"
)

// files lets the process have so many files open, or skips.
func files(t testing.TB, n int) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Skip(err)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || uint64(limit.Cur) < uint64(n) {
		t.Skipf("%d files may be open, and this takes %d", limit.Cur, n)
	}
}
