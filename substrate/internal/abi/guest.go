package abi

import (
	"context"
	"log/slog"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/substrate/internal/memfs"
)

// Limits bound what a guest makes the host do and hold.
type Limits struct {
	// Output is the size of one response's body, and Body that of a request's.
	Output, Body int64
	// LogLines is how many lines a second a function may log, in the long run.
	LogLines int
	// Fuel and HostCalls bound one event, or a start: its computing, in units of
	// internal/meter, and its calls of host functions. Zero: no bound.
	Fuel, HostCalls int64
}

// Services are what a host has to offer its guests. What is nil fails politely.
type Services struct {
	// Messages publishes on channels.
	Messages Messages
	// Commands sends commands to functions of other nodes.
	Commands Commands
}

// A Guest is what the host knows of one instance, and the context that its code
// runs under. It handles one event at a time, on one goroutine: its methods are
// not safe for concurrent use, but for those of context.Context.
type Guest struct {
	life           context.Context // of the engine: ends every guest's time
	self           Self
	limits         Limits
	services       Services
	stdout, stderr *lines
	files          *memfs.FS

	// What the instance keeps from one event to the next.
	views     map[uint32]view
	lastView  uint32
	fifos     map[uint32]*fifo
	lastFifo  uint32
	fifoBytes int
	clients   []*client
	resolvers []*resolver
	sendings  []*sending

	// The time that the guest has, for its start or an event.
	parent   context.Context
	deadline time.Time
	timed    context.Context // parent with the deadline, once something waits
	cancel   context.CancelFunc

	gauge gauge
	watch func() error // nil: nothing to see

	// The event under way.
	under uint32 // its type; typeNone: there is none
	event uint32 // its id; ids are never used again
	http  exchange
	due   time.Time // of a timer's tick

	resource Resource // that a smart operation is asked about, if it is
	asked    bool

	message message // of a pub/sub event
	order   order   // of a p2p event
	depth   int     // of functions that have brought the event about

	kept kept // stores and contents

	discoveries   map[uint32]string // answers that wait to be fetched
	lastDiscovery uint32

	outgoing int64 // bytes that are held for its requests to others
	requests int   // their number
	answers  map[answer][]string
}

var _ context.Context = (*Guest)(nil)

// NewGuest returns the host's side of a new instance, whose time ends with life
// at the latest. Its output goes to log, as far as rate lets it.
func NewGuest(life context.Context, self Self, limits Limits, services Services, log *slog.Logger, rate *Rate) *Guest {
	g := &Guest{life: life, self: self, limits: limits, services: services, event: ^uint32(0)}
	g.files = memfs.New(func() int64 { return time.Now().UnixNano() })
	g.stdout = &lines{log: log, rate: rate, stream: "stdout", mask: self.Environment.mask()}
	g.stderr = &lines{log: log, rate: rate, stream: "stderr", mask: self.Environment.mask()}
	g.Enter(context.Background(), time.Time{})
	return g
}

// Enter gives the guest its time. Leave takes it back.
func (g *Guest) Enter(ctx context.Context, deadline time.Time) {
	g.parent, g.deadline = ctx, deadline
	g.gauge = gauge{}
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
	if err := g.life.Err(); err != nil {
		return err
	}
	if !g.deadline.IsZero() && !time.Now().Before(g.deadline) {
		return context.DeadlineExceeded
	}
	return nil
}

// Done implements context.Context.
func (g *Guest) Done() <-chan struct{} { return g.waiting().Done() }

// waiting is a context of the time that the guest has, and of the guest as the principal
// of what the host does for it, safe for concurrent use.
// It and its timer are made when something first waits, which most events never do,
// and always on the guest's goroutine.
func (g *Guest) waiting() context.Context {
	if g.timed == nil {
		deadline := g.deadline
		if deadline.IsZero() {
			deadline = time.Now().Add(24 * time.Hour) // between calls nothing waits
		}
		asks := taubyte.WithPrincipal(g.parent, g.self.Principal()) // whoever has sent the event
		timed, cancel := context.WithDeadline(asks, deadline)
		unhook := context.AfterFunc(g.life, cancel)
		g.timed, g.cancel = timed, func() { unhook(); cancel() }
	}
	return g.timed
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

// begin makes a new event of a type the one under way.
func (g *Guest) begin(kind uint32) uint32 {
	g.event++
	g.under = kind
	g.kept.databases.begin()
	g.kept.storages.begin()
	return g.event
}

// Spent says that the guest has taken so many handles that last as long as it
// does that it is better made anew.
func (g *Guest) Spent() bool {
	const many = maxHandles / 2
	return len(g.clients) > many || len(g.resolvers) > many || len(g.sendings) > many || len(g.fifos) > many || len(g.views) > many || g.kept.spent() || g.fifoBytes > maxFifoBytes/2
}

// End forgets the event: no later call of the guest can ask about it. An HTTP
// event ends with EndHTTP instead.
func (g *Guest) End() {
	if g.asked {
		g.http.reset()
		g.resource, g.asked = Resource{}, false
	}
	g.under = typeNone
	g.message, g.order, g.depth = message{}, order{}, 0
	g.hangUp()
	g.endCommands()
	clear(g.answers)
	g.kept.end()
	g.stdout.end()
	g.stderr.end()
}
