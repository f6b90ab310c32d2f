package testnet

import "testing"

// CompilesGuests is for a test whose nodes, in its own process, compile functions of stock
// Go. Under the race detector that takes ten times as long, which is minutes on a loaded
// machine: the test is skipped then, and .ci/run runs it without.
func CompilesGuests(t testing.TB) {
	t.Helper()
	if raceDetector {
		t.Skip("not under the race detector, with which functions take too long to compile")
	}
}
