package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/taubyte/taubyte"
)

// PulseProtocol is the protocol of pings between nodes, and the name under which a
// host keeps its Pulse. A ping is eight bytes, and the answer is the same eight.
const PulseProtocol protocol.ID = "/taubyte/pulse/1"

// Times of a Pulse. A node that lives answers a ping from memory, so that a second is
// long even on a busy machine; what a wrong suspicion costs is a call to another node.
const (
	// quietFor is how long the oldest attempt on a peer waits before the peer is pinged:
	// most calls end before that and cost no ping.
	quietFor = 200 * time.Millisecond
	// pingEvery is the time between two pings of a peer that a call waits for, and
	// pingSeldom that where only streams are left that go on, such as watches.
	pingEvery  = 250 * time.Millisecond
	pingSeldom = time.Second
	longLived  = 10 * time.Second
	// pingTimeout is how long a ping waits until its peer is suspect.
	pingTimeout = time.Second
	// linger is how long a suspect peer is pinged that nobody calls any more.
	linger = 30 * time.Second
)

// ErrSuspect: the node holds its connection and answers nothing. It is ErrUnavailable.
var ErrSuspect = fmt.Errorf("%w: it does not answer", taubyte.ErrUnavailable)

// A Pulse tells nodes that hang from nodes that are slow. While calls to a node are
// under way it is pinged, and when a ping stays without an answer for a second the
// node is suspect: all attempts on it end with ErrSuspect, at once, and further ones
// do not begin, until it answers again. A handler that takes long on a node that lives
// is left alone.
//
// All clients of a host share one. It is safe for concurrent use.
type Pulse struct {
	*pulse
	once sync.Once
}

type pulse struct {
	host     taubyte.Host
	life     context.Context
	stop     context.CancelFunc
	wg       sync.WaitGroup
	withdraw func()

	heard sync.Map // peer.ID → *atomic.Int64: when something came from it, in Unix nanoseconds

	mu    sync.Mutex
	users int
	peers map[peer.ID]*watched
}

// watched is a peer that calls are under way to, or that is suspect.
type watched struct {
	suspect atomic.Bool

	mu       sync.Mutex
	attempts map[*attempt]struct{}
	last     time.Time // when the last attempt ended
}

// attempt is a call under way.
type attempt struct {
	peer   *watched // nil when the pulse has ended
	began  time.Time
	ctx    context.Context
	cancel context.CancelCauseFunc
}

// NewPulse returns a hold on the host's Pulse, which lives until all holds are closed.
// While it does, the host answers the pings of others.
func NewPulse(h taubyte.Host) *Pulse {
	for {
		if p, ok := h.Local(PulseProtocol).(*pulse); ok && p.use() {
			return &Pulse{pulse: p}
		}
		p := &pulse{host: h, users: 1, peers: map[peer.ID]*watched{}}
		p.life, p.stop = context.WithCancel(context.Background())
		var err error
		if p.withdraw, err = h.Provide(PulseProtocol, p); err == nil {
			h.SetStreamHandler(PulseProtocol, p.answer)
			return &Pulse{pulse: p}
		}
		p.stop()
		time.Sleep(time.Millisecond) // another was faster, or is just ending
	}
}

func (p *pulse) use() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users == 0 {
		return false
	}
	p.users++
	return true
}

// Close gives the hold up. It may be called twice.
func (p *Pulse) Close() {
	p.once.Do(p.release)
}

func (p *pulse) release() {
	p.mu.Lock()
	p.users--
	last := p.users == 0
	p.mu.Unlock()
	if !last {
		return
	}
	p.host.RemoveStreamHandler(PulseProtocol)
	p.stop()
	p.wg.Wait()
	p.withdraw()
}

// answer sends pings back.
func (p *pulse) answer(s network.Stream) {
	p.mu.Lock()
	if p.users == 0 {
		p.mu.Unlock()
		_ = s.Reset()
		return
	}
	p.wg.Add(1)
	p.mu.Unlock()
	defer p.wg.Done()
	stop := context.AfterFunc(p.life, func() { _ = s.Reset() })
	defer stop()
	var ping [8]byte
	for {
		_ = s.SetDeadline(time.Now().Add(2 * linger)) // a stream that is kept
		if _, err := io.ReadFull(s, ping[:]); err != nil {
			_ = s.Reset()
			return
		}
		if _, err := s.Write(ping[:]); err != nil {
			_ = s.Reset()
			return
		}
	}
}

// heardOf returns where it is noted when something came from a peer.
func (p *pulse) heardOf(id peer.ID) *atomic.Int64 {
	if at, ok := p.heard.Load(id); ok {
		return at.(*atomic.Int64)
	}
	at, _ := p.heard.LoadOrStore(id, new(atomic.Int64))
	return at.(*atomic.Int64)
}

func (p *pulse) heardLately(id peer.ID) bool {
	at := time.Unix(0, p.heardOf(id).Load())
	return time.Since(at) < pingTimeout
}

// Suspect reports whether the peer did not answer its last ping. It is answered from
// memory; of a peer that nobody calls it says false.
func (p *pulse) Suspect(id peer.ID) bool {
	p.mu.Lock()
	w := p.peers[id]
	p.mu.Unlock()
	return w != nil && w.suspect.Load()
}

// Guard returns a context for one attempt on a peer, which ends with the cause
// ErrSuspect when the peer becomes suspect, and at once if it is already. done must be
// called when the attempt has ended.
func (p *pulse) Guard(ctx context.Context, id peer.ID) (guarded context.Context, done func()) {
	a := p.begin(ctx, id)
	return a.ctx, a.end
}

// begin begins an attempt on a peer.
func (p *pulse) begin(ctx context.Context, id peer.ID) *attempt {
	a := &attempt{began: time.Now()}
	a.ctx, a.cancel = context.WithCancelCause(ctx)
	p.join(id, a)
	if a.peer != nil && a.peer.suspect.Load() {
		a.cancel(ErrSuspect)
	}
	return a
}

func (a *attempt) end() {
	a.cancel(nil)
	w := a.peer
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.attempts, a)
	w.last = time.Now()
}

// join adds an attempt to those on a peer.
func (p *pulse) join(id peer.ID, a *attempt) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users == 0 {
		return
	}
	w := p.peers[id]
	if w == nil {
		w = &watched{attempts: map[*attempt]struct{}{}}
		p.peers[id] = w
		p.wg.Go(func() { p.watch(id, w) })
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	a.peer = w
	w.attempts[a] = struct{}{}
}

// watch pings a peer while attempts on it wait, and while it is suspect.
func (p *pulse) watch(id peer.ID, w *watched) {
	pinger := pinger{p: p, id: id}
	defer pinger.close()
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	var last time.Time
	for {
		select {
		case <-tick.C:
		case <-p.life.Done():
			w.setSuspect(false)
			return
		}
		oldest, youngest, idle := w.state()
		suspect := w.suspect.Load()
		switch {
		case !suspect && youngest > longLived && time.Since(last) < pingSeldom:
		case suspect && idle > linger, !suspect && idle > linger/3:
			if p.forget(id, w) {
				return
			}
		case suspect || oldest > quietFor:
			alive, ok := pinger.ping()
			last = time.Now()
			if ok {
				// Behind much else on the same connection a ping may be late.
				w.setSuspect(!alive && !p.heardLately(id))
			}
		}
	}
}

// state says for how long the oldest and the youngest attempt go on, or how long ago the
// last one ended.
func (w *watched) state() (oldest, youngest, idle time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for a := range w.attempts {
		d := now.Sub(a.began)
		if oldest = max(oldest, d); youngest == 0 || d < youngest {
			youngest = d
		}
	}
	if len(w.attempts) == 0 && !w.last.IsZero() {
		idle = now.Sub(w.last)
	}
	return oldest, youngest, idle
}

func (w *watched) setSuspect(suspect bool) {
	if w.suspect.Swap(suspect) == suspect || !suspect {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for a := range w.attempts {
		a.cancel(ErrSuspect)
	}
}

// forget ends the watch of a peer that nobody calls.
func (p *pulse) forget(id peer.ID, w *watched) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.attempts) > 0 {
		return false
	}
	delete(p.peers, id) // under both locks: no attempt joins it any more
	return true
}

// pinger keeps a stream to a peer.
type pinger struct {
	p      *pulse
	id     peer.ID
	stream network.Stream
	n      byte
}

func (g *pinger) close() {
	if g.stream != nil {
		_ = g.stream.Reset()
	}
}

// ping asks once, and dials the peer if need be: one that hangs takes a connection and
// says nothing on it. ok is false where this node itself was held up.
func (g *pinger) ping() (alive, ok bool) {
	began := time.Now()
	err := g.exchange()
	took := time.Since(began)
	if err == nil {
		return true, true
	}
	g.close()
	g.stream = nil
	var timeout interface{ Timeout() bool }
	silent := errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
	if !silent {
		// Refused or reset: somebody was there to do so, and calls fail by themselves.
		return true, true
	}
	// The time was up much later than it should have been: it is this node that hung.
	return false, took < 2*pingTimeout
}

func (g *pinger) exchange() error {
	ctx, cancel := context.WithTimeout(g.p.life, pingTimeout)
	defer cancel()
	if g.stream == nil {
		s, err := g.p.host.NewStream(network.WithDialPeerTimeout(ctx, pingTimeout), g.id, PulseProtocol)
		if err != nil {
			return err
		}
		g.stream = s
	}
	stream := g.stream // which ping may drop
	deadline, _ := ctx.Deadline()
	_ = stream.SetDeadline(deadline)
	stop := context.AfterFunc(g.p.life, func() { _ = stream.Reset() })
	defer stop()
	g.n++
	ping := [8]byte{7: g.n}
	if _, err := g.stream.Write(ping[:]); err != nil {
		return err
	}
	var pong [8]byte
	if _, err := io.ReadFull(g.stream, pong[:]); err != nil {
		return err
	}
	if pong != ping {
		return fmt.Errorf("%w answer to a ping", taubyte.ErrInvalid)
	}
	return nil
}
