package event

import (
	"time"

	"github.com/taubyte/taubyte/substrate/guest/internal/sdk"
)

// Timer is a tick of a function with the trigger timer.
type Timer uint32

// Due is when the tick was to be. Runs of one tick on two nodes, which a parted network
// may lead to, have the same: it is a key to remember what was done. It is the
// zero time for an event of another kind.
func (e Timer) Due() time.Time {
	var ns uint64
	if sdk.GetTimerEventScheduled(uint32(e), &ns) != 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(ns)).UTC()
}
