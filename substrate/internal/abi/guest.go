package abi

import (
	"context"
	"log/slog"
	"time"
)

// Limits bound what a guest makes the host do and hold. All are set.
type Limits struct {
	// Output is the size of one response's body, and Body that of a request's.
	Output, Body int64
	// LogLines is how many lines a second a function may log, in the long run.
	LogLines int
}

// A Guest is what the host knows of one instance, and the context that its code
// runs under. It handles one event at a time, on one goroutine: its methods are
// not safe for concurrent use, but for those of context.Context.
type Guest struct {
	self           Self
	limits         Limits
	stdout, stderr *lines

	// What the instance keeps from one event to the next.
	views     map[uint32]view
	lastView  uint32
	fifos     map[uint32]*fifo
	lastFifo  uint32
	fifoBytes int

	// The time that the guest has, for its start or an event.
	parent   context.Context
	deadline time.Time
	timed    context.Context // parent with the deadline, once something waits
	cancel   context.CancelFunc

	// The event under way.
	busy  bool
	event uint32 // its id; ids are never used again
	http  exchange
}

var _ context.Context = (*Guest)(nil)

// NewGuest returns the host's side of a new instance. Its output goes to log,
// through a Meter that the instances of a function share.
func NewGuest(self Self, limits Limits, log *slog.Logger, rate *Rate) *Guest {
	g := &Guest{self: self, limits: limits, event: ^uint32(0)}
	g.stdout = &lines{log: log, rate: rate, stream: "stdout"}
	g.stderr = &lines{log: log, rate: rate, stream: "stderr"}
	g.Enter(context.Background(), time.Time{})
	return g
}

// Enter gives the guest its time. Leave takes it back.
func (g *Guest) Enter(ctx context.Context, deadline time.Time) {
	g.parent, g.deadline = ctx, deadline
}

// Leave ends what Enter began.
func (g *Guest) Leave() {
	if g.cancel != nil {
		g.cancel()
	}
	g.parent, g.timed, g.cancel = context.Background(), nil, nil
	g.deadline = time.Time{}
}

// Deadline implements context.Context.
func (g *Guest) Deadline() (time.Time, bool) { return g.deadline, !g.deadline.IsZero() }

// Err implements context.Context. It reads the clock and needs no timer.
func (g *Guest) Err() error {
	if err := g.parent.Err(); err != nil {
		return err
	}
	if !g.deadline.IsZero() && !time.Now().Before(g.deadline) {
		return context.DeadlineExceeded
	}
	return nil
}

// Done implements context.Context. The timer is made on the first call, which
// most events come to no such: it is the guest's goroutine that asks first.
func (g *Guest) Done() <-chan struct{} {
	if g.timed == nil {
		if g.deadline.IsZero() {
			return g.parent.Done()
		}
		g.timed, g.cancel = context.WithDeadline(g.parent, g.deadline)
	}
	return g.timed.Done()
}

type guestKey struct{}

// Value implements context.Context.
func (g *Guest) Value(key any) any {
	if key == (guestKey{}) {
		return g
	}
	return g.parent.Value(key)
}

// guestOf returns the guest that a host function is called by.
func guestOf(ctx context.Context) *Guest {
	if g, ok := ctx.(*Guest); ok {
		return g
	}
	return ctx.Value(guestKey{}).(*Guest) // while it is instantiated
}

// begin makes a new event the one under way.
func (g *Guest) begin() uint32 {
	g.event++
	g.busy = true
	return g.event
}

// end forgets the event: no later call of the guest can ask about it.
func (g *Guest) end() {
	g.busy = false
	g.stdout.end()
	g.stderr.end()
}
