package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rendezvous"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/substrate/wire"
	"github.com/taubyte/taubyte/tns"
)

const (
	// maxTries is how many nodes one request is offered to.
	maxTries = 3
	// readiness is how long a request waits for a route whose module or node is
	// just coming up: after a start, or a first deployment.
	readiness = 10 * time.Second
	// hearing is how long a gateway may need to hear of nodes, after a start of its own or
	// of theirs.
	hearing = 3 * time.Second
	// pollFirst and pollMost are the pauses of such a request until it asks again.
	pollFirst, pollMost = 50 * time.Millisecond, time.Second
	// keptBody is the largest body that is read before it is passed on, so that it
	// can be sent to another node as well.
	keptBody = 32 << 10
)

// ServeHTTP takes a user's request.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.leaving.Load() {
		w.Header().Set("Connection", "close")
	}
	if s.answerChallenge(w, r) || s.takeDelivery(w, r) {
		return
	}
	path := tns.RequestPath(r.URL)
	m := s.lookup(r, path)
	if _, _, ok := wire.Socket(r.URL.Path); ok && m.Status != tns.NoHost {
		// Which channels there are, a substrate node knows.
		project, branch, _ := s.table.Owner(r.Host)
		m = tns.Match{Route: &tns.Route{Project: project, Branch: branch}}
	}
	switch m.Status {
	case tns.NoHost:
		if _, heard := s.table.Age(); !heard {
			unavailable(w, "The cloud is starting.")
			return
		}
		plain(w, http.StatusNotFound, "There is no such site here.")
		return
	case tns.NoPath:
		plain(w, http.StatusNotFound, "There is nothing at this address.")
		return
	case tns.NoMethod:
		w.Header().Set("Allow", m.Allow)
		plain(w, http.StatusMethodNotAllowed, "This address takes other methods.")
		return
	}
	socket := offersSocket(r)
	place, got := s.shares.admit(r, m.Route.Project, socket)
	if got != granted {
		got.refuse(w)
		return
	}
	s.retries.earn()
	s.hedges.earn()
	e := exchangePool.Get().(*exchange)
	defer e.release()
	e.begin(s, w, r, m.Route, socket)
	e.place = place
	e.run()
}

// lookup waits a little for the table's first snapshot, once in a gateway's life.
func (s *Service) lookup(r *http.Request, path string) tns.Match {
	m := s.table.Lookup(r.Host, path, r.Method)
	if m.Status != tns.NoHost {
		return m
	}
	select {
	case <-s.table.Ready():
		return m
	default:
	}
	select {
	case <-s.table.Ready():
	case <-time.After(readiness):
	case <-r.Context().Done():
	}
	return s.table.Lookup(r.Host, path, r.Method)
}

func plain(w http.ResponseWriter, status int, text string) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n")
}

func unavailable(w http.ResponseWriter, text string) {
	w.Header().Set("Retry-After", "1")
	plain(w, http.StatusServiceUnavailable, text)
}

// exchange is one request on its way. It is reused.
type exchange struct {
	s     *Service
	w     http.ResponseWriter
	r     *http.Request // the user's
	route *tns.Route
	asset rendezvous.Key // of what the route runs
	hash  uint64         // hash of the route
	place admission
	user  *user
	body  *countedBody
	kept  []byte // the body, where it is short
	taken pace   // how the user takes the answer

	alone   bool   // there is one node only
	socket  bool   // the request offers to become one
	unguard func() // of an upgrade's attempt
	nodes   [8]Candidate
}

var exchangePool = sync.Pool{New: func() any { return new(exchange) }}

// copyPool has buffers to copy answers with. A socket, which lives long, has a
// smaller one.
var copyPool = sync.Pool{New: func() any { return new([32 << 10]byte) }}

const socketBuffer = 4 << 10

func (e *exchange) begin(s *Service, w http.ResponseWriter, r *http.Request, route *tns.Route, socket bool) {
	e.s, e.w, e.r, e.route, e.socket = s, w, r, route, socket
	e.asset, e.hash = assetOf(route), hashOf(route)
	e.user = newUser(r, s.opts.limits.Grace)
	dropClaims(r.Trailer)
}

// hasBody reports whether the user sends one.
func (e *exchange) hasBody() bool {
	return e.r.Body != nil && e.r.Body != http.NoBody && e.r.ContentLength != 0
}

// keep reads a short body, which then may be sent more than once. A transport may
// read what it was given for longer than the request lasts, so that neither kind
// of body is part of what is reused.
func (e *exchange) keep() error {
	if !e.hasBody() {
		return nil
	}
	e.body = &countedBody{r: e.r.Body, request: e.r, rc: http.NewResponseController(e.w), limits: &e.s.opts.limits}
	if e.r.ContentLength < 0 || e.r.ContentLength > keptBody || e.r.Header.Get("Expect") != "" {
		return nil
	}
	e.kept = make([]byte, e.r.ContentLength)
	if _, err := io.ReadFull(e.body, e.kept); err != nil {
		return &failure{err: err, user: true}
	}
	_ = e.body.rc.SetReadDeadline(time.Time{}) // the connection is the server's again
	return nil
}

// send is the body for one attempt.
func (e *exchange) send() io.ReadCloser {
	switch {
	case e.kept != nil:
		return io.NopCloser(bytes.NewReader(e.kept))
	case e.hasBody():
		return e.body
	}
	return http.NoBody
}

// fault is what the user did wrong with the body, or nil.
func (e *exchange) fault() error {
	if e.body == nil {
		return nil
	}
	return e.body.fault()
}

// abort breaks the answer off, so that it does not look complete.
func (e *exchange) abort() {
	if c := e.user.conn; c != nil && e.r.ProtoMajor == 1 && e.r.ProtoMinor == 0 {
		c.reset() // the end of the connection may be the end of the answer
	}
	panic(http.ErrAbortHandler)
}

// informed passes an interim answer on.
func (e *exchange) informed(status int, header http.Header) {
	if e.r.ProtoMajor == 1 && e.r.ProtoMinor == 0 {
		return // it knows of none
	}
	h := e.w.Header()
	before := h.Clone()
	answerHeaders(h, header, status, e.r)
	e.patience(http.NewResponseController(e.w), 0)
	e.w.WriteHeader(status)
	clear(h)
	maps.Copy(h, before)
}

func (e *exchange) release() {
	e.user.end()
	e.place.release()
	if e.body != nil {
		e.body.done.Store(true)
	}
	e.s, e.w, e.r, e.route, e.body, e.kept, e.unguard, e.taken = nil, nil, nil, nil, nil, nil, nil, pace{}
	e.user, e.place = nil, admission{}
	clear(e.nodes[:])
	exchangePool.Put(e)
}

// countedBody knows whether anything of the body is gone: what was read can't be
// sent to another node. It ends where the user is too slow.
type countedBody struct {
	r       io.ReadCloser
	request *http.Request // its trailers come with the end of the body
	rc      *http.ResponseController
	limits  *Limits
	pace    pace
	read    atomic.Bool
	done    atomic.Bool // the request is over, and its connection another's
	broken  atomic.Pointer[error]
}

func (b *countedBody) Read(p []byte) (int, error) {
	if b.done.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	b.read.Store(true)
	began := time.Now()
	_ = b.rc.SetReadDeadline(b.pace.deadline(began, 0, b.limits))
	n, err := b.r.Read(p)
	b.pace.moved(n, time.Since(began))
	if err != nil { // its end: the connection is the server's again
		dropClaims(b.request.Trailer)
		if err != io.EOF && !b.done.Load() { //nolint:errorlint // a Reader's
			b.broken.Store(&err)
		}
		if !tooSlow(err) {
			_ = b.rc.SetReadDeadline(time.Time{})
		}
	}
	return n, err
}

// fault is what the user did wrong with the body, or nil.
func (b *countedBody) fault() error {
	if err := b.broken.Load(); err != nil {
		return *err
	}
	return nil
}

// Close leaves the user's body to the server, since another node may get it.
func (b *countedBody) Close() error { return nil }

// run offers the request to nodes until one takes it.
func (e *exchange) run() {
	if err := e.keep(); err != nil {
		e.fail(err)
		return
	}
	var last error
	wait := pollFirst
	for began, round := time.Now(), 0; ; round++ {
		nodes := e.s.candidates(e.route, e.asset, e.hash, e.nodes[:0])
		waiting := e.s.hears(nodes)
		e.alone = len(nodes) == 1
		most := min(len(nodes), maxTries)
		if round > 0 && len(nodes) > 0 { // one more, and each in turn
			at := round % len(nodes)
			nodes, most = nodes[at:at+1], 1
		}
		for i := 0; i < most; {
			if i > 0 && !e.s.retries.spend() {
				break
			}
			out, used, err := e.try(nodes[i:most])
			if out == done {
				return
			}
			var f *failure
			if e.user.gone() && !(errors.As(err, &f) && f.user) {
				e.abort() // nobody is there to be told, and to return would be an empty answer of 200
			}
			last = err
			waiting = waiting || out == later
			if !e.repeatable(err) {
				e.fail(err)
				return
			}
			i += used
		}
		// Modules become ready while a user waits, and nodes after a start.
		if !waiting || time.Since(began) > readiness {
			e.fail(last)
			return
		}
		select {
		case <-time.After(wait/2 + mathrand.N(wait)):
			wait = min(2*wait, pollMost)
		case <-e.user.ctx.Done():
			e.abort()
		}
	}
}

// repeatable reports whether the request may go to another node.
func (e *exchange) repeatable(err error) bool {
	if e.body != nil && e.kept == nil && e.body.read.Load() {
		return false
	}
	var f *failure
	if !errors.As(err, &f) {
		return true // refused: nothing was done
	}
	if f.user || errors.Is(err, errTimeout) {
		return false
	}
	return !f.sent || e.safe()
}

func (e *exchange) fail(err error) {
	var f *failure
	_ = errors.As(err, &f)
	level := slog.LevelWarn
	switch {
	case f != nil && f.user:
		level = slog.LevelDebug
		e.w.Header().Set("Connection", "close") // what is left of the body is not read
		if tooSlow(err) {
			e.w.Header().Set("Retry-After", "1")
			plain(e.w, http.StatusRequestTimeout, "The request's body came too slowly.")
		} else {
			plain(e.w, http.StatusBadRequest, "The request's body is incomplete.")
		}
	case errors.Is(err, errTimeout) && e.alone && e.nodes[0].Suspect:
		unavailable(e.w, "The site can't be served at the moment.")
	case errors.Is(err, errTimeout), f != nil && f.sent && errors.Is(err, rpc.ErrSuspect):
		plain(e.w, http.StatusGatewayTimeout, "The site took too long to answer.")
	case err == nil, errors.Is(err, errRefused), errors.Is(err, taubyte.ErrUnavailable):
		unavailable(e.w, "The site can't be served at the moment.")
	default:
		plain(e.w, http.StatusBadGateway, "The site did not answer properly.")
	}
	e.s.opts.log.Log(e.user.ctx, level, "request not served", "host", e.r.Host, "path", e.r.URL.Path, "err", err)
}

// outcome is how an attempt ended.
type outcome int

const (
	done    outcome = iota // the user has an answer
	another                // this node did not take it
	later                  // nor will another: something is just coming up
)

// try offers the request to the first of the nodes, and perhaps to one that follows.
// used is how many were asked.
func (e *exchange) try(nodes []Candidate) (out outcome, used int, err error) {
	c := &nodes[0]
	c.node.inFlight.Add(1)
	defer c.node.inFlight.Add(-1)
	if c.Node != e.s.host.ID() {
		return e.remote(nodes)
	}
	local, ok := e.s.host.Local(wire.Protocol).(http.Handler)
	if !ok {
		return another, 1, errRefused
	}
	out, err = e.local(local, c)
	return out, 1, err
}

// refusal reads the node's word on why it served nothing, and whether another node
// may do better.
func refusal(reason string) (out outcome, again bool) {
	switch reason {
	case wire.RefusedBusy, wire.RefusedDraining:
		return another, true
	case wire.RefusedNotReady, wire.RefusedNoHost, wire.RefusedNoRoute:
		return later, true // this gateway has the route: the node will
	}
	return done, false
}

// deliver streams a node's answer to the user.
func (e *exchange) deliver(resp *http.Response, from *Candidate) {
	if resp.StatusCode == http.StatusSwitchingProtocols {
		e.tunnel(resp)
		return
	}
	defer resp.Body.Close()
	h := e.w.Header()
	answerHeaders(h, resp.Header, resp.StatusCode, e.r)
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // the node gave none: nor does this server
	}
	names := len(resp.Trailer) // that the header names
	if trailers := announced(slices.Collect(maps.Keys(resp.Trailer))...); len(trailers) > 0 {
		h["Trailer"] = []string{strings.Join(trailers, ", ")}
	}
	rc := http.NewResponseController(e.w)
	e.patience(rc, 0)
	e.user.begin()
	e.w.WriteHeader(resp.StatusCode)
	// An answer of unknown length may be a stream of events: each part goes at once.
	flush := resp.ContentLength < 0
	if flush {
		_ = rc.Flush()
	}
	buf := copyPool.Get().(*[32 << 10]byte)
	defer copyPool.Put(buf)
	for {
		n, err := resp.Body.Read(buf[:])
		if n > 0 {
			began := e.patience(rc, n)
			if _, err := e.w.Write(buf[:n]); err != nil {
				e.abort() // the user is gone, or too slow
			}
			if flush {
				_ = rc.Flush()
			}
			e.taken.moved(n, time.Since(began))
			e.user.moved()
		}
		if errors.Is(err, io.EOF) {
			trail(h, resp.Trailer, names)
			return
		}
		if err != nil {
			if !e.user.gone() && e.fault() == nil {
				from.node.observe(e.result(0, failed))
			}
			// The node broke off: so must the answer, or it would look complete.
			e.abort()
		}
	}
}

// trail passes on what comes behind the content. So many names are in the header.
func trail(h, trailer http.Header, names int) {
	for name, v := range trailer {
		switch {
		case !passedTrailer(name):
		case len(trailer) == names:
			h[name] = v
		default:
			h[http.TrailerPrefix+name] = v
		}
	}
}

// patience gives the user time to take the next n bytes of the answer.
func (e *exchange) patience(rc *http.ResponseController, n int) time.Time {
	now := time.Now()
	_ = rc.SetWriteDeadline(e.taken.deadline(now, n, &e.s.opts.limits))
	return now
}

// tunnel joins the two connections of an upgraded request, a WebSocket's mostly.
func (e *exchange) tunnel(resp *http.Response) {
	node, ok := resp.Body.(io.ReadWriteCloser)
	if !ok {
		_ = resp.Body.Close()
		plain(e.w, http.StatusBadGateway, "The site did not answer properly.")
		return
	}
	defer node.Close()
	user, buffered, err := http.NewResponseController(e.w).Hijack()
	if err != nil {
		plain(e.w, http.StatusNotImplemented, "This connection can't be upgraded.")
		return
	}
	defer user.Close()
	h := http.Header{}
	answerHeaders(h, resp.Header, resp.StatusCode, e.r)
	h.Set("Connection", "Upgrade")
	h.Set("Upgrade", resp.Header.Get("Upgrade"))
	head := &http.Response{StatusCode: resp.StatusCode, ProtoMajor: 1, ProtoMinor: 1, Header: h}
	if head.Write(buffered) != nil || buffered.Flush() != nil {
		return
	}
	if e.unguard != nil {
		e.unguard()
	}
	defer context.AfterFunc(e.s.life, func() { _ = node.Close(); _ = user.Close() })()
	ended := make(chan struct{}, 2)
	// Only Write and Read: ReadFrom and WriteTo would take buffers of their own.
	pipe := func(to io.Writer, from io.Reader) {
		_, _ = io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, socketBuffer))
		ended <- struct{}{}
	}
	go pipe(node, buffered.Reader)
	go pipe(user, node)
	<-ended
	_ = node.Close() // ends the other direction
	_ = user.Close()
	<-ended
}
