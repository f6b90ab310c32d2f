package messages

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
)

var (
	// ErrNoChannel is a channel that no messaging resource stands for.
	ErrNoChannel = fmt.Errorf("channel %w", taubyte.ErrNotFound)
	// ErrBusy is a message that would exceed what the node may have on its way.
	ErrBusy = fmt.Errorf("too many messages on their way: %w", taubyte.ErrUnavailable)
	// ErrCircle is a message that functions have passed on too often.
	ErrCircle = fmt.Errorf("%w message: functions answer each other in a circle", taubyte.ErrInvalid)
)

// MaxDepth is how many functions may publish one because of the other. It ends
// circles, which would go on for ever.
const MaxDepth = 32

// Limits bound what channels take of a node. All are set.
type Limits struct {
	Sockets, ProjectSockets int
	Message                 int           // bytes of one
	Ping                    time.Duration // how often a socket is asked whether it is still there
}

// Config is what a Hub is made of. All of it is needed.
type Config struct {
	Host  taubyte.Host
	Limit Limits
	Log   *slog.Logger
	// Protocol is what Handler is mounted under on each node, and Nodes those that
	// have it and are alive, this one among them.
	Protocol protocol.ID
	Nodes    func() []peer.ID
}

// A Hub is a node's part in the channels. It is safe for concurrent use.
type Hub struct {
	Config
	rpc    *rpc.Client
	out    *outbox
	gossip *gossip
	runs   *runs

	life    context.Context
	stop    context.CancelFunc
	closing chan struct{} // closed when Close begins
	wg      sync.WaitGroup
	handles sync.WaitGroup // open sockets
	once    sync.Once
	ended   error

	mu       sync.RWMutex // guards what follows
	branches map[Branch]*branch
	sockets  map[*socket]struct{}
	projects map[taubyte.ProjectID]int // sockets of each
	closed   bool

	stats counters
}

// A branch is one that the node serves.
type branch struct {
	id    Branch
	rules atomic.Pointer[Rules]

	mu       sync.RWMutex
	channels map[channelID]*channel // with sockets
	gone     bool
}

type channelID struct {
	scope taubyte.ApplicationID
	name  string
}

// A channel is one that sockets of this node listen on.
type channel struct {
	id channelID

	mu      sync.RWMutex
	sockets []*socket // each knows its index
}

// New starts a hub.
func New(c Config) (*Hub, error) {
	h := &Hub{
		Config: c, rpc: rpc.NewClient(c.Host, c.Protocol, nil), closing: make(chan struct{}),
		branches: map[Branch]*branch{}, sockets: map[*socket]struct{}{}, projects: map[taubyte.ProjectID]int{},
	}
	h.life, h.stop = context.WithCancel(context.Background())
	h.runs = newRuns(h)
	h.out = newOutbox()
	var err error
	if h.gossip, err = newGossip(h); err != nil {
		h.stop()
		return nil, fmt.Errorf("joining the channels: %w", err)
	}
	h.wg.Go(h.gossip.tell)
	h.wg.Go(h.gossip.listen)
	h.wg.Go(h.gossip.order)
	h.wg.Go(h.ping)
	return h, nil
}

// Close ends the hub: sockets are told to connect anew, and messages that were
// taken for functions are run as far as ctx lets them. It may be called twice.
func (h *Hub) Close(ctx context.Context) error {
	h.once.Do(func() {
		h.mu.Lock()
		h.closed = true
		open := h.sockets
		h.sockets = nil
		h.mu.Unlock()
		close(h.closing)
		for s := range open {
			s.leave(goingAway)
		}
		h.handles.Wait()
		h.runs.drain(ctx)
		h.stop()
		h.runs.wait()
		h.wg.Wait()
		h.ended = h.gossip.close()
		h.rpc.Close()
	})
	return h.ended
}

// Deploy makes rules those of a branch. Sockets stay where their channel does.
func (h *Hub) Deploy(id Branch, rules *Rules) {
	h.mu.Lock()
	b, ok := h.branches[id]
	if !ok {
		b = &branch{id: id, channels: map[channelID]*channel{}}
		h.branches[id] = b
	}
	b.rules.Store(rules)
	h.mu.Unlock()
	if ok {
		h.settle(b)
	}
}

// Remove gives a branch up.
func (h *Hub) Remove(id Branch) {
	h.mu.Lock()
	b, ok := h.branches[id]
	delete(h.branches, id)
	h.mu.Unlock()
	if !ok {
		return
	}
	b.mu.Lock()
	b.gone = true
	b.mu.Unlock()
	for _, s := range b.all() {
		s.leave(noChannel)
	}
}

// settle puts the sockets of a branch where its rules have them now.
func (h *Hub) settle(b *branch) {
	for _, s := range b.all() {
		if c, ok := b.rules.Load().route(s.app, s.name); ok && c.socket {
			b.move(s, channelID{c.scope, s.name})
		} else {
			s.leave(noChannel)
		}
	}
}

func (h *Hub) branch(id Branch) *branch {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.branches[id]
}

// Rules returns those of a branch, or nil where the node does not serve it.
func (h *Hub) Rules(id Branch) *Rules {
	if b := h.branch(id); b != nil {
		return b.rules.Load()
	}
	return nil
}

// A Source is who publishes: a function, because of how many before it, or a socket.
type Source struct {
	Application taubyte.ApplicationID
	Function    taubyte.ResourceID
	Depth       int
	Text        bool // the message is text, as sockets get it: UTF-8
	socket      *socket
}

// Publish sends a message to all who listen on a channel but its source. It does
// not wait, and does not keep data. What it refuses nobody gets.
func (h *Hub) Publish(id Branch, channel string, data []byte, from Source) error {
	b := h.branch(id)
	if b == nil {
		return ErrNoChannel
	}
	to, ok := b.rules.Load().route(from.Application, channel)
	switch {
	case !ok:
		return fmt.Errorf("%w: %q", ErrNoChannel, channel)
	case len(data) > h.Limit.Message:
		return fmt.Errorf("%w: a message of %d bytes", taubyte.ErrTooLarge, len(data))
	case from.Depth >= MaxDepth:
		return ErrCircle
	}
	listeners := to.listeners
	if i := slices.Index(listeners, Function{from.Application, from.Function}); i >= 0 {
		listeners = slices.Concat(listeners[:i], listeners[i+1:])
	}
	return h.send(b, to, listeners, channel, data, from)
}

func (h *Hub) send(b *branch, to route, listeners []Function, channel string, data []byte, from Source) error {
	h.mu.RLock()
	closed := h.closed
	h.mu.RUnlock()
	if closed {
		return fmt.Errorf("channel %q: %w", channel, taubyte.ErrClosed)
	}
	// First what may refuse.
	if len(listeners) > 0 && !h.runs.reserve(b.id.Project, len(listeners), len(data)) {
		h.stats.refused.Add(1)
		return ErrBusy
	}
	if to.socket && !to.local && !h.out.put(&told{b.id, to.scope, channel, data, from.Text}) {
		if len(listeners) > 0 {
			h.runs.free(b.id.Project, len(listeners), len(data))
		}
		h.stats.refused.Add(1)
		return ErrBusy
	}
	h.stats.published.Add(1)
	if to.socket {
		h.fanOut(b, channelID{to.scope, channel}, data, from.Text, from.socket)
	}
	if len(listeners) > 0 {
		m := &Message{Branch: b.id, Scope: to.scope, Channel: channel, Data: string(data), Depth: from.Depth + 1}
		for _, f := range listeners {
			h.runs.send(f, m, to.local)
		}
	}
	return nil
}

// fanOut gives a message to the sockets of a channel on this node.
func (h *Hub) fanOut(b *branch, id channelID, data []byte, text bool, but *socket) {
	b.mu.RLock()
	c := b.channels[id]
	b.mu.RUnlock()
	if c == nil {
		return
	}
	op := byte(opBinary)
	if text {
		op = opText
	}
	out := serverFrame(op, data)
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, s := range c.sockets {
		if s != but {
			s.send(out)
		}
	}
}

// join adds a socket to its channel; false where there is none for it.
func (b *branch) join(s *socket) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	to, ok := b.rules.Load().route(s.app, s.name) // under the lock: settle sees s, or s what settle does
	if b.gone || !ok || !to.socket {
		return false
	}
	b.put(s, channelID{to.scope, s.name})
	return true
}

// put is with mu held.
func (b *branch) put(s *socket, id channelID) {
	c, ok := b.channels[id]
	if !ok {
		c = &channel{id: id}
		b.channels[id] = c
	}
	c.mu.Lock()
	s.channel, s.index = c, len(c.sockets)
	c.sockets = append(c.sockets, s)
	c.mu.Unlock()
}

// take removes a socket from its channel, with mu held.
func (b *branch) take(s *socket) {
	c := s.channel
	if c == nil {
		return
	}
	c.mu.Lock()
	last := c.sockets[len(c.sockets)-1]
	c.sockets[s.index], last.index = last, s.index
	c.sockets[len(c.sockets)-1] = nil
	c.sockets = c.sockets[:len(c.sockets)-1]
	if len(c.sockets) == 0 {
		delete(b.channels, c.id)
	}
	c.mu.Unlock()
	s.channel = nil
}

func (b *branch) quit(s *socket) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.take(s)
}

func (b *branch) move(s *socket, to channelID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.channel == nil || s.channel.id == to {
		return
	}
	b.take(s)
	b.put(s, to)
}

func (b *branch) all() []*socket {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var all []*socket
	for _, c := range b.channels {
		c.mu.RLock()
		all = append(all, c.sockets...)
		c.mu.RUnlock()
	}
	return all
}

// counters are what Stats counts.
type counters struct {
	published, refused, delivered, slow, run, dropped, frames, repaired, lost atomic.Uint64
}

// Stats are a node's figures.
type Stats struct {
	Sockets   int    `json:"sockets"`   // open
	Channels  int    `json:"channels"`  // with sockets on this node
	Published uint64 `json:"published"` // messages, on this node
	Refused   uint64 `json:"refused"`   // because too many were on their way
	Delivered uint64 `json:"delivered"` // messages, to sockets of this node
	Slow      uint64 `json:"slow"`      // sockets that were closed because they fell behind
	Run       uint64 `json:"run"`       // functions, for a message
	Dropped   uint64 `json:"dropped"`   // messages that a function had no time for
	Pending   int    `json:"pending"`   // messages that wait for functions here
	Frames    uint64 `json:"frames"`    // of other nodes
	Repaired  uint64 `json:"repaired"`  // of them, those that gossip had lost
	Lost      uint64 `json:"lost"`      // those that nobody had any more
}

// Stats returns the node's figures.
func (h *Hub) Stats() Stats {
	st := Stats{
		Published: h.stats.published.Load(), Refused: h.stats.refused.Load(), Delivered: h.stats.delivered.Load(),
		Slow: h.stats.slow.Load(), Run: h.stats.run.Load(), Dropped: h.stats.dropped.Load(), Pending: h.runs.pending(),
		Frames: h.stats.frames.Load(), Repaired: h.stats.repaired.Load(), Lost: h.stats.lost.Load(),
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	st.Sockets = len(h.sockets)
	for _, b := range h.branches {
		b.mu.RLock()
		st.Channels += len(b.channels)
		b.mu.RUnlock()
	}
	return st
}

// Handler is what other substrate nodes ask:
//
//	POST /messages/run                             runs a function for a message: see delivery
//	GET  /messages/frames?epoch=&from=&to=         frames again that gossip has lost
func (h *Hub) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /messages/run", h.runs.take)
	mux.HandleFunc("GET /messages/frames", h.out.again)
	return mux
}

func isClosed(err error) bool      { return errors.Is(err, taubyte.ErrClosed) }
func isUnavailable(err error) bool { return errors.Is(err, taubyte.ErrUnavailable) }
