package testnet

import (
	"runtime"
	"testing"
	"testing/synctest"
)

// Bubble runs a test in a bubble of synctest, on one processor. The race detector of
// Go 1.26 keeps one state for all timers of a bubble and changes it without a lock:
// two that fire at the same time on two processors end the process, with a fault in
// __tsan::SlotLock under timer.unlockAndRun or with "ThreadSanitizer: CHECK failed"
// (about one run in twenty of what crdt tests so). Not for parallel tests: the number
// of processors is the process's.
func Bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	synctest.Test(t, f)
}
