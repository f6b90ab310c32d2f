package abi

import "time"

// BeginTimer makes a tick of a timer the event under way and returns its id. due is
// when the tick was to be, the same on whichever node it is run.
func (g *Guest) BeginTimer(due time.Time) uint32 {
	g.due = due
	return g.begin(typeTimer)
}

var timer = []decl{
	{"getTimerEventScheduled", "ii", onEvent(typeTimer, func(g *Guest, m module, a []uint64) Errno {
		return m.cell64(a[1], uint64(g.due.UnixNano()))
	})},
}
