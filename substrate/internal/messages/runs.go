package messages

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rendezvous"
	"github.com/taubyte/taubyte/internal/rpc"
)

// The bounds of messages for functions.
const (
	// Of one function on one node: how many run at a time, and how many wait.
	runsAtOnce  = 16
	runsWaiting = 256
	// Of a node: those that wait here, and those on their way to a node that runs
	// them, of all projects and of one.
	maxRuns        = 8192
	maxRunBytes    = 64 << 20
	maxTrips       = 8192
	maxTripBytes   = 32 << 20
	projectTrips   = 1024
	projectBytes   = 8 << 20
	couriers       = 32
	tripTries      = 3
	tripPatience   = 5 * time.Second
	busyPatience   = 2 * time.Second // of a taken message, for a function that is busy
	complainAtMost = time.Second
)

// runs has functions run for messages: here, or on the node that was chosen.
type runs struct {
	h *Hub

	mu      sync.Mutex // guards what follows
	trips   []trip     // on their way, and not yet with a courier
	working int        // couriers
	count   int        // of trips, reserved ones and those under way included
	bytes   int
	of      map[taubyte.ProjectID]*load
	queues  map[queueID]*queue
	waiting int           // messages in queues, and those that run
	held    int           // their bytes
	idle    chan struct{} // set when the hub closes: nothing more is taken
	settled bool          // and it is closed
	wg      sync.WaitGroup

	ids        atomic.Uint64
	complained atomic.Int64
}

// load is what one project has on its way.
type load struct{ count, bytes int }

// A trip is a message on its way to a node that runs a function.
type trip struct {
	to    Function
	m     *Message
	nodes []peer.ID // in the order in which they are asked
}

type queueID struct {
	Branch
	Function
}

// A queue is what one function still has to do on this node. It is there while
// there is something.
type queue struct {
	messages []*Message
	working  int
}

func newRuns(h *Hub) *runs {
	return &runs{h: h, of: map[taubyte.ProjectID]*load{}, queues: map[queueID]*queue{}}
}

// reserve makes room for n trips of a project with a message of size bytes.
func (r *runs) reserve(p taubyte.ProjectID, n, size int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.of[p]
	if l == nil {
		l = &load{}
	}
	if r.count+n > maxTrips || r.bytes+n*size > maxTripBytes || l.count+n > projectTrips || l.bytes+n*size > projectBytes {
		return false
	}
	r.count += n
	r.bytes += n * size
	l.count += n
	l.bytes += n * size
	r.of[p] = l
	return true
}

// free gives back what reserve has taken.
func (r *runs) free(p taubyte.ProjectID, n, size int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.of[p]
	r.count -= n
	r.bytes -= n * size
	l.count -= n
	l.bytes -= n * size
	if l.count == 0 {
		delete(r.of, p)
	}
	r.settle()
}

// settle ends drain once there is nothing left to do. mu is held.
func (r *runs) settle() {
	if r.idle != nil && !r.settled && r.waiting == 0 && r.count == 0 {
		r.settled = true
		close(r.idle)
	}
}

// send has a function run for a message, on this node where it is local. Room was
// reserved.
func (r *runs) send(to Function, m *Message, local bool) {
	self := r.h.Host.ID()
	t := trip{to: to, m: m, nodes: []peer.ID{self}}
	if !local {
		t.nodes = choose(r.h.Nodes(), self, r.ids.Add(1), to)
	}
	if t.nodes[0] == self {
		err := r.put(to, m)
		if err == nil || len(t.nodes) == 1 {
			r.done(&t, err)
			return
		}
		t.nodes = t.nodes[1:]
	}
	r.mu.Lock()
	closed := r.idle != nil
	switch {
	case closed:
	case r.working < couriers:
		r.working++
		r.wg.Go(func() { r.carry(t) })
	default:
		r.trips = append(r.trips, t)
	}
	r.mu.Unlock()
	if closed {
		r.done(&t, fmt.Errorf("channels: %w", taubyte.ErrClosed))
	}
}

// choose orders the nodes for a message by rendezvous hashing: over many messages
// each node is the first equally often, and each has the rest of one that is lost.
// This node is among the last resorts.
func choose(nodes []peer.ID, self peer.ID, message uint64, to Function) []peer.ID {
	ranked := rendezvous.Of(string(to.ID)).And(string(self)).AndNumber(message).Rank(nodes)
	out := ranked[:min(len(ranked), tripTries)]
	if !slices.Contains(out, self) {
		out = append(out, self)
	}
	return out
}

// carry is a courier: it ends when there is nothing left on the way.
func (r *runs) carry(t trip) {
	for {
		r.done(&t, r.deliver(&t))
		r.mu.Lock()
		if len(r.trips) == 0 {
			r.working--
			r.trips = nil
			r.mu.Unlock()
			return
		}
		t = r.trips[0]
		r.trips[0] = trip{}
		r.trips = r.trips[1:]
		r.mu.Unlock()
	}
}

// done ends a trip.
func (r *runs) done(t *trip, err error) {
	if err != nil {
		r.dropped(t.m, t.to, err)
	}
	r.free(t.m.Project, 1, len(t.m.Data))
}

// deliver asks one node after the other to take the message.
func (r *runs) deliver(t *trip) (err error) {
	body := (&delivery{t.to, *t.m}).encode()
	for _, n := range t.nodes {
		var e error
		if n == r.h.Host.ID() {
			e = r.put(t.to, t.m)
		} else {
			e = r.ask(n, body)
		}
		if e == nil {
			return nil
		}
		err = errors.Join(err, e)
	}
	return err
}

func (r *runs) ask(n peer.ID, body []byte) error {
	ctx, cancel := context.WithTimeout(r.h.life, tripPatience)
	defer cancel()
	resp, err := r.h.rpc.Open(ctx, n, http.MethodPost, "/messages/run", bytes.NewReader(body))
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// take is what ask asks.
func (r *runs) take(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, q.Body, maxFrame))
	var d *delivery
	if err == nil {
		d, err = decodeDelivery(body)
	}
	if err == nil {
		err = r.put(d.to, &d.message)
	}
	rpc.Reply(w, nil, err, nil)
}

// put takes a message for a function, which is then run on this node.
func (r *runs) put(to Function, m *Message) error {
	rules := r.h.Rules(m.Branch)
	if rules == nil || rules.runners[to] == nil {
		return fmt.Errorf("%w: function %s", taubyte.ErrUnavailable, to.ID)
	}
	id := queueID{m.Branch, to}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.idle != nil || r.waiting >= maxRuns || r.held+len(m.Data) > maxRunBytes {
		return ErrBusy
	}
	q, ok := r.queues[id]
	if !ok {
		q = &queue{}
		r.queues[id] = q
	}
	if q.working == runsAtOnce && len(q.messages) >= runsWaiting {
		return fmt.Errorf("function %s: %w", to.ID, ErrBusy)
	}
	r.waiting++
	r.held += len(m.Data)
	if q.working == runsAtOnce {
		q.messages = append(q.messages, m)
		return nil
	}
	q.working++
	r.wg.Go(func() { r.work(id, q, m) })
	return nil
}

// work runs a function for messages until there is none.
func (r *runs) work(id queueID, q *queue, m *Message) {
	for {
		r.run(id, m)
		r.mu.Lock()
		r.waiting--
		r.held -= len(m.Data)
		if len(q.messages) == 0 {
			if q.working--; q.working == 0 {
				delete(r.queues, id)
			}
			r.settle()
			r.mu.Unlock()
			return
		}
		m, q.messages[0] = q.messages[0], nil
		if q.messages = q.messages[1:]; len(q.messages) == 0 {
			q.messages = nil
		}
		r.mu.Unlock()
	}
}

// run runs a function for a message, on whatever deployment is there.
func (r *runs) run(id queueID, m *Message) {
	began := time.Now()
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		var run Runner
		if rules := r.h.Rules(id.Branch); rules != nil {
			run = rules.runners[id.Function]
		}
		if run == nil {
			r.dropped(m, id.Function, fmt.Errorf("function %w", taubyte.ErrNotFound))
			return
		}
		err := run(r.h.life, m)
		if !isClosed(err) && !isUnavailable(err) {
			r.h.stats.run.Add(1) // whatever became of it: the function has logged that
			return
		}
		if time.Since(began) > busyPatience {
			r.dropped(m, id.Function, err)
			return
		}
		select {
		case <-time.After(wait):
		case <-r.h.life.Done():
			r.dropped(m, id.Function, err)
			return
		}
	}
}

// dropped counts a message that no function had time for, and says so now and then.
func (r *runs) dropped(m *Message, to Function, err error) {
	n := r.h.stats.dropped.Add(1)
	now := time.Now().UnixNano()
	last := r.complained.Load()
	if now-last < int64(complainAtMost) || !r.complained.CompareAndSwap(last, now) {
		return
	}
	r.h.Log.Warn("message dropped", "project", string(m.Project), "branch", string(m.Branch.Branch), "channel", m.Channel,
		"function", string(to.ID), "dropped", n, "err", err)
}

func (r *runs) pending() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting + r.count
}

// drain takes nothing more, and waits until what was taken has run or ctx ends.
func (r *runs) drain(ctx context.Context) {
	r.mu.Lock()
	idle := make(chan struct{})
	r.idle = idle
	r.settle()
	r.mu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

// wait returns when nothing runs any more, once the hub's life is over.
func (r *runs) wait() { r.wg.Wait() }
