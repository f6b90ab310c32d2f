package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taubyte/taubyte"
)

// Limits bound what users take of a gateway, and what one of them or one project
// leaves for the others. A zero field has its default.
//
// Of requests, sockets and connections a project may have as many as are free at that
// moment, and a client (an IPv4 address, or an IPv6 /64) a quarter of that: a project
// alone gets half of all, one of two busy ones a third, and a client alone a fifth. So
// there is always room for somebody new. Who has its share is told 429 (a client) or 503
// (a project), with Retry-After; a connection too many is closed.
type Limits struct {
	// Requests is how many requests may be under way, sockets apart. Default 20,000:
	// 10,000 of one project alone. One that waits takes about 50 KiB.
	Requests int
	// Sockets is how many upgraded connections (WebSockets) may be open. Default
	// 40,000: 20,000 of one project alone.
	Sockets int
	// Connections is how many connections users may have open, idle ones included.
	// Default 64,000. Each takes a file descriptor.
	Connections int
	// MinRate is how many bytes a second a user has to send of a request's body, and to
	// take of an answer, in the long run; only time in which the gateway waits for the
	// user counts. Default 1 KiB: a slow phone has ten times that. Who is slower is told
	// 408, or cut off in the middle of an answer.
	MinRate int
	// Grace is the time that a user may stay behind MinRate, and the time that an answer
	// may stand still for a user that has closed its sending direction. Default 10 s.
	Grace time.Duration
}

func (l Limits) withDefaults() Limits {
	def := func(field *int, value int) {
		if *field <= 0 {
			*field = value
		}
	}
	def(&l.Requests, 20_000)
	def(&l.Sockets, 40_000)
	def(&l.Connections, 64_000)
	def(&l.MinRate, 1<<10)
	if l.Grace <= 0 {
		l.Grace = 10 * time.Second
	}
	return l
}

// shares divides what there is between clients and projects.
type shares struct {
	requests, sockets, conns pool
	clients                  clients

	mu       sync.RWMutex
	projects map[taubyte.ProjectID]*project
	sweepAt  int // size of projects at which unused ones are dropped
}

func newShares(l Limits) *shares {
	s := &shares{projects: map[taubyte.ProjectID]*project{}, sweepAt: 1024}
	s.requests.most, s.sockets.most, s.conns.most = int64(l.Requests), int64(l.Sockets), int64(l.Connections)
	return s
}

// pool is something of which there is so much.
type pool struct {
	most int64
	used atomic.Int64
}

// share says whether there was room, and whose share is used up otherwise, or that nothing is left.
type share int

const (
	granted share = iota
	clientsShare
	projectsShare
	nothingLeft
)

// take takes one for a client and a project (nil: of no project).
func (p *pool) take(client, project *atomic.Int64) share {
	free := p.most - p.used.Add(1)
	got := granted
	mine := client.Add(1)
	var theirs int64
	if project != nil {
		theirs = project.Add(1)
	}
	switch {
	case free < 0:
		got = nothingLeft
	case mine > max(free/4, 1):
		got = clientsShare
	case theirs > max(free, 1):
		got = projectsShare
	}
	if got != granted {
		p.give(client, project)
	}
	return got
}

func (p *pool) give(client, project *atomic.Int64) {
	client.Add(-1)
	if project != nil {
		project.Add(-1)
	}
	p.used.Add(-1)
}

// project is what a project has under way.
type project struct{ requests, sockets atomic.Int64 }

// project returns a project's counters. hold is called with them while they can't be
// dropped.
func (s *shares) project(id taubyte.ProjectID, hold func(*project)) {
	s.mu.RLock()
	p := s.projects[id]
	if p != nil {
		hold(p)
		s.mu.RUnlock()
		return
	}
	s.mu.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if p = s.projects[id]; p == nil {
		if len(s.projects) >= s.sweepAt {
			for id, p := range s.projects {
				if p.requests.Load() == 0 && p.sockets.Load() == 0 {
					delete(s.projects, id)
				}
			}
			s.sweepAt = max(1024, 2*len(s.projects))
		}
		p = &project{}
		s.projects[id] = p
	}
	hold(p)
}

// client is what a client has.
type client struct {
	users                    int // of this value; guarded by its shard
	requests, sockets, conns atomic.Int64
}

// clients are those that have something now.
type clients struct {
	shards [64]struct {
		mu sync.Mutex
		m  map[netip.Prefix]*client
	}
}

// clientOf is the client that an address belongs to.
func clientOf(remote string) netip.Prefix {
	a, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{} // all such share
	}
	addr, bits := a.Addr().Unmap().WithZone(""), 64
	if addr.Is4() {
		bits = 32
	}
	p, _ := addr.Prefix(bits)
	return p
}

func (c *clients) shard(id netip.Prefix) int {
	b := id.Addr().As16()
	h := uint32(0)
	for _, x := range b {
		h = h*31 + uint32(x)
	}
	return int(h % uint32(len(c.shards)))
}

func (c *clients) acquire(id netip.Prefix) *client {
	s := &c.shards[c.shard(id)]
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.m[id]
	if got == nil {
		if s.m == nil {
			s.m = map[netip.Prefix]*client{}
		}
		got = &client{}
		s.m[id] = got
	}
	got.users++
	return got
}

func (c *clients) release(id netip.Prefix, cl *client) {
	s := &c.shards[c.shard(id)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if cl.users--; cl.users == 0 {
		delete(s.m, id)
	}
}

// admission is a place that a request has taken.
type admission struct {
	s        *shares
	pool     *pool
	client   *client
	id       netip.Prefix // of client, if it was acquired for this request
	acquired bool
	mine     *atomic.Int64
	theirs   *atomic.Int64
}

// admit takes a place for a request.
func (s *shares) admit(r *http.Request, id taubyte.ProjectID, socket bool) (a admission, got share) {
	a.s = s
	if conn, ok := r.Context().Value(connKey{}).(*conn); ok {
		a.client = conn.client
	} else { // the connection is not the gateway's
		a.id, a.acquired = clientOf(r.RemoteAddr), true
		a.client = s.clients.acquire(a.id)
	}
	c := a.client
	a.pool, a.mine = &s.requests, &c.requests
	if socket {
		a.pool, a.mine = &s.sockets, &c.sockets
	}
	s.project(id, func(p *project) {
		a.theirs = &p.requests
		if socket {
			a.theirs = &p.sockets
		}
		got = a.pool.take(a.mine, a.theirs)
	})
	if got != granted {
		a.forget()
	}
	return a, got
}

func (a *admission) release() {
	if a.pool == nil { // handed over
		return
	}
	a.pool.give(a.mine, a.theirs)
	a.forget()
}

func (a *admission) forget() {
	if a.acquired {
		a.s.clients.release(a.id, a.client)
	}
}

// refuse answers a request that got no place.
func (got share) refuse(w http.ResponseWriter) {
	switch got {
	case clientsShare:
		w.Header().Set("Retry-After", "1")
		plain(w, http.StatusTooManyRequests, "Too many requests come from your address at a time.")
	case projectsShare:
		unavailable(w, "Too many requests are for this site at a time.")
	default:
		unavailable(w, "Too many requests are under way.")
	}
}

type connKey struct{}

// listener counts connections.
type listener struct {
	net.Listener
	s      *shares
	once   sync.Once
	closed error
}

// Close may be called twice: by the gateway, and by its server.
func (l *listener) Close() error {
	l.once.Do(func() { l.closed = l.Listener.Close() })
	return l.closed
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		id := clientOf(c.RemoteAddr().String())
		cl := l.s.clients.acquire(id)
		if l.s.conns.take(&cl.conns, nil) == granted {
			return &conn{Conn: c, s: l.s, id: id, client: cl}, nil
		}
		l.s.clients.release(id, cl)
		_ = c.Close()
	}
}

// conn is a user's connection.
type conn struct {
	net.Conn
	s      *shares
	id     netip.Prefix
	client *client
	once   sync.Once
	broken atomic.Bool // nothing can be sent on it any more
}

// Read notes what is more than the end of the user's direction.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && !tooSlow(err) {
		c.broken.Store(true)
	}
	return n, err
}

// reset has Close break the connection off, for an answer whose end would be that of
// the connection.
func (c *conn) reset() {
	if t, ok := c.Conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
}

func (c *conn) Close() error {
	c.once.Do(func() {
		c.s.conns.give(&c.client.conns, nil)
		c.s.clients.release(c.id, c.client)
	})
	return c.Conn.Close()
}

// CloseWrite lets the server end its half first, so that its last answer arrives.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// withConn tells the requests of a connection which it is.
func withConn(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if c, ok := c.(*conn); ok {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// stall is how long a user may stand still, however fast it was before.
const stall = 30 * time.Second

// pace is how fast a user was, in one direction of one exchange.
type pace struct {
	bytes  int64
	waited time.Duration
}

// deadline is until when the user has to move the next n bytes.
func (p *pace) deadline(now time.Time, n int, l *Limits) time.Time {
	at := func(n int64) time.Duration { return time.Duration(n) * time.Second / time.Duration(l.MinRate) }
	return now.Add(min(l.Grace+at(p.bytes+int64(n))-p.waited, stall+at(int64(n))))
}

func (p *pace) moved(n int, took time.Duration) {
	p.bytes += int64(n)
	p.waited += took
}

// tooSlow reports whether an error is that of a deadline.
func tooSlow(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
