package gateway

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/substrate/wire"
	"github.com/taubyte/taubyte/tns"
)

const (
	// maxTries is how many nodes one request is offered to.
	maxTries = 3
	// readiness is how long a request waits for a route whose module or node is
	// just coming up: after a start, or a first deployment.
	readiness = 10 * time.Second
	poll      = 20 * time.Millisecond
	// keptBody is the largest body that is read before it is passed on, so that it
	// can be sent to another node as well.
	keptBody = 32 << 10
	// bodyPatience is how long a body may stand still, and a short one take.
	bodyPatience = 30 * time.Second
)

// ServeHTTP takes a user's request.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m := s.lookup(r)
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
	e := exchangePool.Get().(*exchange)
	defer e.release()
	e.begin(s, w, r, m.Route)
	e.run()
}

// lookup waits a little for the table's first snapshot, once in a gateway's life.
func (s *Service) lookup(r *http.Request) tns.Match {
	m := s.table.Lookup(r.Host, r.URL.Path, r.Method)
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
	return s.table.Lookup(r.Host, r.URL.Path, r.Method)
}

func plain(w http.ResponseWriter, status int, text string) {
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
	body  *countedBody
	kept  []byte // the body, where it is short
	nodes [8]Candidate
}

var exchangePool = sync.Pool{New: func() any { return new(exchange) }}

// copyPool has buffers to copy answers with. A socket, which lives long, has a
// smaller one.
var copyPool = sync.Pool{New: func() any { return new([32 << 10]byte) }}

const socketBuffer = 4 << 10

func (e *exchange) begin(s *Service, w http.ResponseWriter, r *http.Request, route *tns.Route) {
	e.s, e.w, e.r, e.route = s, w, r, route
}

// hasBody reports whether the user sends one.
func (e *exchange) hasBody() bool {
	return e.r.Body != nil && e.r.Body != http.NoBody && e.r.ContentLength != 0
}

// keep reads a short body, which then may be sent more than once. A transport may
// read what it was given for longer than the request lasts, so that neither kind
// of body is part of what is reused.
func (e *exchange) keep() error {
	if e.hasBody() {
		e.body = &countedBody{r: e.r.Body, rc: http.NewResponseController(e.w)}
	}
	if !e.hasBody() || e.r.ContentLength < 0 || e.r.ContentLength > keptBody || e.r.Header.Get("Expect") != "" {
		return nil
	}
	e.kept = make([]byte, e.r.ContentLength)
	rc := http.NewResponseController(e.w)
	_ = rc.SetReadDeadline(time.Now().Add(bodyPatience))
	_, err := io.ReadFull(e.r.Body, e.kept)
	_ = rc.SetReadDeadline(time.Time{})
	return err
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

func (e *exchange) release() {
	if e.body != nil {
		e.body.done.Store(true)
	}
	e.s, e.w, e.r, e.route, e.body, e.kept = nil, nil, nil, nil, nil, nil
	clear(e.nodes[:])
	exchangePool.Put(e)
}

// countedBody knows whether anything of the body is gone: what was read can't be
// sent to another node.
type countedBody struct {
	r    io.ReadCloser
	rc   *http.ResponseController
	read atomic.Bool
	done atomic.Bool // the request is over, and its connection another's
}

func (b *countedBody) Read(p []byte) (int, error) {
	if b.done.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	b.read.Store(true)
	_ = b.rc.SetReadDeadline(time.Now().Add(bodyPatience))
	n, err := b.r.Read(p)
	if err != nil { // its end: the connection is the server's again
		_ = b.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}

// Close leaves the user's body to the server, since another node may get it.
func (b *countedBody) Close() error { return nil }

// outcome is how an attempt ended.
type outcome int

const (
	done    outcome = iota // the user has an answer
	another                // this node did not take it
	wait                   // nor will another: something is just coming up
)

// run offers the request to nodes until one takes it.
func (e *exchange) run() {
	if err := e.keep(); err != nil {
		plain(e.w, http.StatusBadRequest, "The request's body is incomplete.")
		return
	}
	began := time.Now()
	last := error(nil)
	for {
		waiting := false
		for i, c := range e.s.candidates(e.route, e.nodes[:0]) {
			if i == maxTries {
				break
			}
			var out outcome
			if out, last = e.try(c); out == done {
				return
			} else if out == wait {
				waiting = true
			}
			if e.r.Context().Err() != nil {
				return // nobody is there to be told
			}
			if !e.repeatable(last) {
				e.fail(last)
				return
			}
		}
		// Nodes appear and modules become ready while a user waits.
		if time.Since(began) > readiness || last != nil && !waiting {
			e.fail(last)
			return
		}
		select {
		case <-time.After(poll):
		case <-e.r.Context().Done():
			return
		}
	}
}

// repeatable reports whether the request may go to another node.
func (e *exchange) repeatable(err error) bool {
	if e.body != nil && e.body.read.Load() || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	if err == nil || errors.Is(err, errRefused) || errors.Is(err, taubyte.ErrUnavailable) {
		return true // nothing was done
	}
	switch e.r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// errRefused: the node said that it did not serve the request.
var errRefused = errors.New("refused by the node")

func (e *exchange) fail(err error) {
	var timeout net.Error
	switch {
	case err == nil, errors.Is(err, errRefused), errors.Is(err, taubyte.ErrUnavailable):
		unavailable(e.w, "The site can't be served at the moment.")
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		plain(e.w, http.StatusGatewayTimeout, "The site took too long to answer.")
	default:
		plain(e.w, http.StatusBadGateway, "The site did not answer properly.")
	}
	e.s.opts.log.Warn("request not served", "host", e.r.Host, "path", e.r.URL.Path, "err", err)
}

// try offers the request to one node.
func (e *exchange) try(c Candidate) (outcome, error) {
	c.node.inFlight.Add(1)
	defer c.node.inFlight.Add(-1)
	began := time.Now()
	if c.Node == e.s.host.ID() {
		if local, ok := e.s.host.Local(wire.Protocol).(http.Handler); ok {
			return e.local(local, c, began)
		}
		return another, errRefused
	}
	ctx, cancel := context.WithCancel(e.r.Context())
	defer cancel()
	timer := time.AfterFunc(e.s.opts.timeout, cancel)
	out := e.outgoing(ctx)
	out.URL.Scheme, out.URL.Host = "http", c.Node.String()
	out.Body = e.send()
	resp, err := e.s.tr.RoundTrip(out)
	if !timer.Stop() && e.r.Context().Err() == nil {
		err = errors.Join(err, context.DeadlineExceeded)
	}
	if err != nil {
		if resp != nil {
			_ = resp.Body.Close()
		}
		if e.r.Context().Err() == nil {
			c.node.observe(0, true, time.Now())
		}
		return another, err
	}
	c.node.observe(time.Since(began), false, time.Now())
	if out, again := refusal(resp.Header.Get(wire.HeaderRefused)); again {
		_ = resp.Body.Close()
		return out, errRefused
	}
	e.deliver(resp)
	return done, nil
}

// refusal reads the node's word on why it served nothing, and whether another node
// may do better.
func refusal(reason string) (out outcome, again bool) {
	switch reason {
	case wire.RefusedBusy, wire.RefusedDraining:
		return another, true
	case wire.RefusedNotReady, wire.RefusedNoHost, wire.RefusedNoRoute:
		return wait, true // this gateway has the route: the node will
	}
	return done, false
}

// outgoing is the request as the node gets it.
func (e *exchange) outgoing(ctx context.Context) *http.Request {
	out := e.r.WithContext(ctx)
	out.RequestURI = ""
	u := *e.r.URL
	out.URL = &u
	h := make(http.Header, len(e.r.Header)+6)
	for k, v := range e.r.Header {
		if !hopByHop[k] && !strings.HasPrefix(k, "Taubyte-") {
			h[k] = v
		}
	}
	for _, names := range e.r.Header["Connection"] {
		for name := range strings.SplitSeq(names, ",") {
			delete(h, textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)))
		}
	}
	if upgrade := upgradeOf(e.r.Header); upgrade != "" {
		h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{upgrade}
	}
	// The user's word about where it comes from is not taken: it is this gateway's.
	client, _, err := net.SplitHostPort(e.r.RemoteAddr)
	if err != nil {
		client = e.r.RemoteAddr
	}
	proto := "http"
	if e.r.TLS != nil {
		proto = "https"
	}
	for k := range h {
		if strings.HasPrefix(k, "X-Forwarded-") || k == "Forwarded" || k == "X-Real-Ip" {
			delete(h, k)
		}
	}
	h["X-Forwarded-For"] = []string{client}
	h["X-Forwarded-Host"] = []string{e.r.Host}
	h["X-Forwarded-Proto"] = []string{proto}
	h[wire.HeaderClient] = []string{e.r.RemoteAddr}
	h[wire.HeaderProto] = []string{proto}
	h[wire.HeaderRequest] = []string{requestID()}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = []string{""} // or the transport would make one up
	}
	out.Header = h
	return out
}

func requestID() string {
	var raw [8]byte
	_, _ = rand.Read(raw[:])
	return hex.EncodeToString(raw[:])
}

// hopByHop are the headers that are about one connection (RFC 9110, 7.6.1).
var hopByHop = map[string]bool{
	"Connection": true, "Proxy-Connection": true, "Keep-Alive": true, "Te": true, "Trailer": true,
	"Transfer-Encoding": true, "Upgrade": true, "Proxy-Authenticate": true, "Proxy-Authorization": true,
}

func upgradeOf(h http.Header) string {
	for _, names := range h["Connection"] {
		for name := range strings.SplitSeq(names, ",") {
			if strings.EqualFold(strings.TrimSpace(name), "upgrade") {
				return h.Get("Upgrade")
			}
		}
	}
	return ""
}

// answerHeaders copies a node's headers for the user.
func answerHeaders(to, from http.Header) {
	for k, v := range from {
		if !hopByHop[k] && !strings.HasPrefix(k, "Taubyte-") {
			to[k] = v
		}
	}
}

// deliver streams a node's answer to the user.
func (e *exchange) deliver(resp *http.Response) {
	if resp.StatusCode == http.StatusSwitchingProtocols {
		e.tunnel(resp)
		return
	}
	defer resp.Body.Close()
	answerHeaders(e.w.Header(), resp.Header)
	e.w.WriteHeader(resp.StatusCode)
	// An answer of unknown length may be a stream of events: each part goes at once.
	flush := resp.ContentLength < 0
	rc := http.NewResponseController(e.w)
	if flush {
		_ = rc.Flush()
	}
	buf := copyPool.Get().(*[32 << 10]byte)
	defer copyPool.Put(buf)
	for {
		n, err := resp.Body.Read(buf[:])
		if n > 0 {
			if _, err := e.w.Write(buf[:n]); err != nil {
				return // the user is gone
			}
			if flush {
				_ = rc.Flush()
			}
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			// The node broke off: so must the answer, or it would look complete.
			panic(http.ErrAbortHandler)
		}
	}
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
	answerHeaders(h, resp.Header)
	h.Set("Connection", "Upgrade")
	h.Set("Upgrade", resp.Header.Get("Upgrade"))
	head := &http.Response{StatusCode: resp.StatusCode, ProtoMajor: 1, ProtoMinor: 1, Header: h}
	if head.Write(buffered) != nil || buffered.Flush() != nil {
		return
	}
	defer context.AfterFunc(e.s.life, func() { _ = node.Close(); _ = user.Close() })()
	ended := make(chan struct{}, 2)
	go func() { _, _ = io.Copy(node, buffered); ended <- struct{}{} }()
	go func() {
		to := struct{ io.Writer }{user} // whose ReadFrom would take a buffer of its own
		_, _ = io.CopyBuffer(to, node, make([]byte, socketBuffer))
		ended <- struct{}{}
	}()
	<-ended
	_ = node.Close() // ends the other direction
	_ = user.Close()
	<-ended
}

// local hands the request to the substrate node on this host: a function call.
func (e *exchange) local(h http.Handler, c Candidate, began time.Time) (outcome, error) {
	ctx, cancel := context.WithCancel(e.r.Context())
	defer cancel()
	defer context.AfterFunc(e.s.life, cancel)() // a socket has no end of its own
	timer := time.AfterFunc(e.s.opts.timeout, cancel)
	defer timer.Stop()
	out := e.outgoing(ctx)
	if upgradeOf(e.r.Header) == "" {
		out.Body = e.send()
	}
	out.URL.Scheme, out.URL.Host = "", ""
	out.RequestURI = (&url.URL{Path: out.URL.Path, RawPath: out.URL.RawPath, RawQuery: out.URL.RawQuery}).RequestURI()
	w := &localAnswer{ResponseWriter: e.w, header: http.Header{}, timer: timer}
	h.ServeHTTP(w, out)
	if w.late || !w.wrote && !w.refused && ctx.Err() != nil && e.r.Context().Err() == nil {
		c.node.observe(0, true, time.Now())
		return another, context.DeadlineExceeded
	}
	c.node.observe(time.Since(began), false, time.Now())
	if w.refused {
		return w.out, errRefused
	}
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	return done, nil
}

// localAnswer keeps a refusal from the user, and the node's own headers.
type localAnswer struct {
	http.ResponseWriter
	header  http.Header
	timer   *time.Timer // runs until the answer begins
	wrote   bool
	late    bool // it began after that: the user is told of the time-out
	refused bool
	out     outcome
}

func (w *localAnswer) Header() http.Header { return w.header }

func (w *localAnswer) WriteHeader(status int) {
	if w.wrote || w.refused || w.late {
		return
	}
	if w.late = !w.timer.Stop(); w.late {
		return
	}
	if w.out, w.refused = refusal(w.header.Get(wire.HeaderRefused)); w.refused {
		return
	}
	h := w.ResponseWriter.Header()
	answerHeaders(h, w.header)
	if status == http.StatusSwitchingProtocols { // on this very connection
		h["Connection"], h["Upgrade"] = w.header["Connection"], w.header["Upgrade"]
	}
	w.wrote = status >= 200 || status == http.StatusSwitchingProtocols
	w.ResponseWriter.WriteHeader(status)
}

func (w *localAnswer) Write(p []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	if w.refused || w.late {
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}

// FlushError sends what is written so far.
func (w *localAnswer) FlushError() error {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	if w.refused || w.late {
		return nil
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack gives the connection to the substrate node, which answers upgrades itself.
func (w *localAnswer) Unwrap() http.ResponseWriter { return w.ResponseWriter }
