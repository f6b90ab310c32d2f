package testnet

import (
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// checked are the tests under way whose goroutines are looked for: a process has one set
// of them, so those that run side by side are looked at together.
var checked struct {
	sync.Mutex
	tests  int
	before goleak.Option // what was there when the first of them began
}

// CheckLeaks makes the test fail when goroutines outlive it that were not there
// before. It is called before anything that registers a clean-up. Of tests that run in
// parallel the last to end fails, for all; such a test calls t.Parallel first, and each
// of them checks.
func CheckLeaks(t testing.TB) {
	t.Helper()
	checked.Lock()
	defer checked.Unlock()
	if checked.tests++; checked.tests == 1 {
		checked.before = goleak.IgnoreCurrent()
	}
	t.Cleanup(func() {
		checked.Lock()
		defer checked.Unlock()
		if checked.tests--; checked.tests > 0 || t.Failed() {
			return
		}
		goleak.VerifyNone(t, checked.before,
			goleak.IgnoreAnyFunction("testing.tRunner"), // a test that is about to begin
			goleak.IgnoreAnyFunction("github.com/ipfs/go-log/writer.(*MirrorWriter).logRoutine"),
			// It says once more, within a second, which topics a node left, and ends.
			goleak.IgnoreAnyFunction("github.com/libp2p/go-libp2p-pubsub.(*PubSub).announceRetry"))
	})
}
