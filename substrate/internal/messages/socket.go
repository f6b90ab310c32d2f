package messages

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/taubyte/taubyte"
)

const (
	// What may wait for one socket: beyond it, it is too slow.
	maxWaiting      = 1024
	maxWaitingBytes = 1 << 20
	// writePatience is how long a write to a socket may stand still, pongPatience how
	// long an answer to a ping may take at least (more where pings are far apart), and
	// byePatience that to a close.
	writePatience = 10 * time.Second
	pongPatience  = 2 * time.Second
	byePatience   = 2 * time.Second
	// publishPatience is how long a socket's message waits for room in the node's
	// budget: meanwhile nothing more is read from the socket.
	publishPatience = 5 * time.Second
)

// A farewell is why the node closes a socket.
type farewell struct {
	code websocket.StatusCode
	text string
	say  bool // as a message too, before the close
}

var (
	goingAway = &farewell{websocket.StatusServiceRestart, "this node stops: connect again", false}
	noChannel = &farewell{websocket.StatusPolicyViolation, "the channel is gone", true}
	tooSlow   = &farewell{websocket.StatusTryAgainLater, "too slow: messages were lost", true}
	notText   = &farewell{websocket.StatusInvalidFramePayloadData, "text that is not UTF-8", false}
	tooMany   = &farewell{websocket.StatusTryAgainLater, "too many messages", true}
)

// A socket is a WebSocket that is open. Its goroutine reads; one to write is there
// while there is something to be written.
type socket struct {
	hub    *Hub
	branch *branch
	app    taubyte.ApplicationID // that it was opened for
	name   string                // of the channel

	channel *channel // guarded by the branch
	index   int      // in channel.sockets, guarded by the channel

	conn  *conn
	ws    *websocket.Conn
	due   time.Time // of the next ping; of ping's goroutine alone
	heard atomic.Bool

	mu      sync.Mutex
	queue   [][]byte // frames to be written
	bytes   int      // of them, and of those being written
	writing bool
	bye     *farewell // it leaves: nothing more is taken
	gone    bool      // its reader has ended
	wg      sync.WaitGroup
}

// ErrNoSocket is a place where no WebSocket can be opened.
var ErrNoSocket = fmt.Errorf("WebSocket: %w", ErrNoChannel)

// ErrFull is a node, or a project on it, with all the WebSockets that it may have.
var ErrFull = fmt.Errorf("too many WebSockets: %w", taubyte.ErrUnavailable)

// ServeSocket answers a request for a WebSocket to the channel of a branch. hash
// stands for the application, as in SocketPath. Where it returns an error, nothing was
// answered: ErrNoSocket, ErrFull, or taubyte.ErrUnavailable where the node does not
// serve the branch.
//
// It does not wait for the socket's end: the request, its buffers and the stack of
// its handlers are let go, which is half of what an idle socket would take.
func (h *Hub) ServeSocket(w http.ResponseWriter, r *http.Request, id Branch, hash, channel string) error {
	b := h.branch(id)
	if b == nil {
		return fmt.Errorf("%w: branch %s of %s", taubyte.ErrUnavailable, id.Branch, id.Project)
	}
	rules := b.rules.Load()
	app, ok := rules.hashes[hash]
	if !ok {
		return ErrNoSocket
	}
	if c, ok := rules.route(app, channel); !ok || !c.socket {
		return ErrNoSocket
	}
	s := &socket{hub: h, branch: b, app: app, name: channel}
	if err := h.open(s); err != nil {
		return err
	}
	ws, err := websocket.Accept(&hijacker{ResponseWriter: w, s: s}, r, &websocket.AcceptOptions{
		InsecureSkipVerify: true, // the caller has looked at the origin
		CompressionMode:    websocket.CompressionDisabled,
		OnPongReceived:     func(context.Context, []byte) { s.heard.Store(true) },
	})
	if err != nil {
		s.end()
		return nil // it was answered
	}
	s.mu.Lock()
	s.ws = ws
	ws.SetReadLimit(int64(h.Limit.Message))
	if s.bye != nil { // it was told to leave before it was there
		s.start()
	}
	s.mu.Unlock()
	go func() { // Close waits for it
		s.read()
		s.end()
	}()
	return nil
}

// end takes a socket back that is not read any more.
func (s *socket) end() {
	s.branch.quit(s)
	s.mu.Lock()
	s.gone = true
	s.queue = nil
	s.mu.Unlock()
	if s.conn != nil {
		_ = s.conn.Close()
	}
	if s.ws != nil {
		_ = s.ws.CloseNow()
	}
	s.wg.Wait()
	s.hub.shut(s)
}

// open counts a socket in.
func (h *Hub) open(s *socket) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	project := s.branch.id.Project
	switch {
	case h.closed:
		return fmt.Errorf("WebSocket: %w: the node stops", taubyte.ErrUnavailable)
	case len(h.sockets) >= h.Limit.Sockets, h.projects[project] >= h.Limit.ProjectSockets:
		return ErrFull
	}
	h.sockets[s] = struct{}{}
	h.projects[project]++
	h.handles.Add(1)
	return nil
}

func (h *Hub) shut(s *socket) {
	h.mu.Lock()
	delete(h.sockets, s)
	if h.projects[s.branch.id.Project]--; h.projects[s.branch.id.Project] == 0 {
		delete(h.projects, s.branch.id.Project)
	}
	h.mu.Unlock()
	h.handles.Done()
}

// read publishes what comes, until the socket ends.
func (s *socket) read() {
	wrong := false // it has sent what is no text as text: nothing more is taken
	for {
		kind, r, err := s.ws.Reader(context.Background())
		if err != nil {
			return
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return
		}
		s.heard.Store(true)
		text := kind == websocket.MessageText
		if wrong = wrong || text && !utf8.Valid(data); wrong {
			s.leave(notText)
			continue
		}
		if !s.publish(data, text) {
			return
		}
	}
}

// publish reports whether the socket goes on.
func (s *socket) publish(data []byte, text bool) bool {
	began := time.Now()
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		err := s.hub.Publish(s.branch.id, s.name, data, Source{Application: s.app, Text: text, socket: s})
		switch {
		case err == nil:
			return true
		case errors.Is(err, ErrNoChannel), isClosed(err):
			return true // it is being told to leave
		case !isUnavailable(err):
			s.leave(&farewell{websocket.StatusPolicyViolation, "this message can't be published", true})
			return true
		case time.Since(began) > publishPatience:
			s.leave(tooMany)
			return true
		}
		select {
		case <-time.After(wait):
		case <-s.hub.closing:
			return true
		}
	}
}

// send gives the socket a frame to write, and does not wait for that. The frame is
// shared.
func (s *socket) send(frame []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bye != nil || s.gone {
		return
	}
	if len(s.queue) >= maxWaiting || s.bytes+len(frame) > maxWaitingBytes && s.bytes > 0 {
		s.hub.stats.slow.Add(1)
		s.leaving(tooSlow)
		return
	}
	s.queue = append(s.queue, frame)
	s.bytes += len(frame)
	s.start()
}

// start has somebody write. mu is held.
func (s *socket) start() {
	if !s.writing {
		s.writing = true
		s.wg.Go(s.write)
	}
}

// leave has the socket closed with a reason. It does not wait.
func (s *socket) leave(why *farewell) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bye == nil && !s.gone {
		s.leaving(why)
	}
}

// leaving is with mu held. A socket that is still being opened is told when it is.
func (s *socket) leaving(why *farewell) {
	s.bye = why
	s.queue = nil
	if s.ws != nil {
		s.start()
	}
}

// write writes what there is to be written.
func (s *socket) write() {
	var batch [][]byte
	for {
		s.mu.Lock()
		for _, f := range batch {
			s.bytes -= len(f)
		}
		if s.bye != nil {
			s.mu.Unlock()
			s.close() // and nobody writes any more
			return
		}
		batch, s.queue = s.queue, nil
		if len(batch) == 0 || s.gone {
			s.writing = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		if s.conn.send(batch) != nil {
			_ = s.conn.Close()
			batch = nil
			s.mu.Lock()
			s.gone = true
			s.mu.Unlock()
			continue
		}
		s.hub.stats.delivered.Add(uint64(len(batch)))
	}
}

// close says why, waits a little for the other side's word, and hangs up.
func (s *socket) close() {
	hang := time.AfterFunc(byePatience, func() { _ = s.conn.Close() })
	defer hang.Stop()
	if s.bye.say {
		text, _ := json.Marshal(struct {
			Message *string `json:"message"`
			Error   string  `json:"error"`
		}{nil, s.bye.text})
		if s.conn.send([][]byte{serverFrame(opText, text)}) != nil {
			_ = s.conn.Close()
			return
		}
	}
	_ = s.ws.Close(s.bye.code, s.bye.text)
	_ = s.conn.Close()
}

// ping asks sockets that were not heard of whether they are there, each at its own
// time, until the hub closes.
func (h *Hub) ping() {
	tick := time.NewTicker(h.Limit.Ping / 8)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-h.closing:
			return
		}
		now := time.Now()
		h.mu.RLock()
		for s := range h.sockets {
			switch {
			case s.due.IsZero():
				s.due = now.Add(h.Limit.Ping/2 + rand.N(h.Limit.Ping/2))
			case now.After(s.due):
				s.due = now.Add(h.Limit.Ping)
				if !s.heard.Swap(false) {
					s.ask()
				}
			}
		}
		h.mu.RUnlock()
	}
}

// ask pings.
func (s *socket) ask() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ws == nil || s.bye != nil || s.gone {
		return
	}
	s.wg.Go(func() {
		ctx, cancel := context.WithTimeout(s.hub.life, max(pongPatience, s.hub.Limit.Ping/3))
		defer cancel()
		if s.ws.Ping(ctx) != nil {
			_ = s.conn.Close()
		}
	})
}

// conn is the connection below a WebSocket. The library writes its control frames
// through it, each in one call, and data frames, which are the same for all
// sockets, are written past the library.
type conn struct {
	net.Conn        // nil where the answer failed
	before   []byte // read with the request

	mu sync.Mutex // one frame at a time
}

func (c *conn) Close() error {
	if c.Conn == nil {
		return nil
	}
	return c.Conn.Close()
}

func (c *conn) Read(p []byte) (int, error) {
	if len(c.before) > 0 {
		n := copy(p, c.before)
		if c.before = c.before[n:]; len(c.before) == 0 {
			c.before = nil
		}
		return n, nil
	}
	return c.Conn.Read(p)
}

func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.SetWriteDeadline(time.Now().Add(writePatience))
	return c.Conn.Write(p)
}

// send writes whole frames.
func (c *conn) send(frames [][]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Conn == nil {
		return net.ErrClosed
	}
	_ = c.SetWriteDeadline(time.Now().Add(writePatience))
	if len(frames) == 1 {
		_, err := c.Conn.Write(frames[0])
		return err
	}
	buffers := net.Buffers(append([][]byte(nil), frames...)) // WriteTo consumes
	_, err := buffers.WriteTo(c.Conn)
	return err
}

// hijacker takes the connection over with small buffers: most of ten thousand
// sockets have nothing to say.
type hijacker struct {
	http.ResponseWriter
	s *socket
}

const (
	readBuffer  = 512
	writeBuffer = 256 // holds any control frame
)

// Hijack implements http.Hijacker. With it the head of the answer goes out, and who has
// that gets whatever is published from then on: so the socket is on its channel
// before, and nothing is written until the head is.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c := &conn{}
	c.mu.Lock()
	defer c.mu.Unlock()
	h.s.conn = c
	if !h.s.branch.join(h.s) {
		h.s.leave(noChannel)
	}
	nc, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	c.Conn = nc
	_ = nc.SetDeadline(time.Time{})
	if n := rw.Reader.Buffered(); n > 0 {
		b, _ := rw.Reader.Peek(n)
		c.before = append([]byte(nil), b...)
	}
	if err := rw.Writer.Flush(); err != nil {
		return nil, nil, err
	}
	return c, bufio.NewReadWriter(bufio.NewReaderSize(c, readBuffer), bufio.NewWriterSize(c, writeBuffer)), nil
}

// The opcodes of data frames (RFC 6455, 5.2).
const (
	opText   = 1
	opBinary = 2
)

// serverFrame is a message as a server sends it: one frame, not masked.
func serverFrame(op byte, data []byte) []byte {
	n := len(data)
	head := make([]byte, 2, 10+n)
	head[0] = 0x80 | op
	switch {
	case n < 126:
		head[1] = byte(n)
	case n < 1<<16:
		head[1] = 126
		head = append(head, byte(n>>8), byte(n))
	default:
		head[1] = 127
		head = append(head, 0, 0, 0, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(head, data...)
}
