package event

import "github.com/taubyte/taubyte/substrate/guest/internal/sdk"

// Timer is a tick of a function with the trigger timer.
type Timer uint32

// Due is when the tick was to be, in nanoseconds since 1970, as time.Unix takes them.
// Runs of one tick on two nodes, which a parted network may lead to, have the same:
// it is a key to remember what was done. It is 0 for an event of another kind.
func (e Timer) Due() int64 {
	var ns uint64
	if sdk.GetTimerEventScheduled(uint32(e), &ns) != 0 {
		return 0
	}
	return int64(ns)
}
