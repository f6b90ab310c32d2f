package gateway

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/taubyte/taubyte/substrate/wire"
)

// errBroken: the node gave up without an answer.
var errBroken = errors.New("the node broke off")

// local hands the request to the substrate node on this host: a function call. What
// comes of it is what would come of it on another node.
func (e *exchange) local(h http.Handler, c *Candidate) (outcome, error) {
	began := time.Now()
	defer context.AfterFunc(e.s.life, func() { e.user.cancel(errGone) })() // a socket has no end of its own
	timer := time.AfterFunc(e.limit(c), func() { e.user.cancel(errTimeout) })
	defer timer.Stop()
	out := e.outgoing(e.user.ctx, c)
	out.URL.Scheme, out.URL.Host = "", ""
	out.RequestURI = (&url.URL{Path: out.URL.Path, RawPath: out.URL.RawPath, RawQuery: out.URL.RawQuery, ForceQuery: out.URL.ForceQuery}).RequestURI()
	sayLength(out)
	w := &localAnswer{ResponseWriter: e.w, e: e, header: http.Header{}, timer: timer}
	broke := w.serve(h, out)
	switch {
	case w.hijacked:
		if broke {
			panic(http.ErrAbortHandler)
		}
		return done, nil
	case w.refused:
		c.node.observe(e.result(0, refused))
		return w.out, errRefused
	case w.wrote:
		if broke || w.failed || e.user.ctx.Err() != nil {
			if broke && !e.user.gone() && e.fault() == nil {
				c.node.observe(e.result(0, failed))
			}
			e.abort()
		}
	case e.fault() != nil:
		return another, &failure{err: e.fault(), user: true}
	case w.late || e.user.ctx.Err() != nil:
		if e.user.gone() {
			return another, &failure{err: errGone, sent: true}
		}
		c.node.observe(e.result(0, failed))
		return another, &failure{err: errTimeout, sent: true}
	case broke:
		c.node.observe(e.result(0, failed))
		return another, &failure{err: errBroken, sent: true}
	default:
		w.WriteHeader(http.StatusOK)
	}
	w.trail()
	e.observe(w.status, w.began.Sub(began), c)
	return done, nil
}

// sayLength gives a request the Content-Length that it would have over a stream.
func sayLength(r *http.Request) {
	switch {
	case r.ContentLength > 0:
		r.Header["Content-Length"] = []string{strconv.FormatInt(r.ContentLength, 10)}
	case r.ContentLength == 0 && (r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch):
		r.Header["Content-Length"] = []string{"0"}
	default:
		delete(r.Header, "Content-Length")
	}
}

// localAnswer keeps a refusal from the user, and the node's own headers.
type localAnswer struct {
	http.ResponseWriter
	e        *exchange
	header   http.Header
	trailers []string    // that the header names
	timer    *time.Timer // runs until the answer begins
	began    time.Time   // when it began
	status   int
	wrote    bool
	late     bool // it began when nobody waited for it any more
	failed   bool // the user did not take a part of it
	refused  bool
	hijacked bool
	out      outcome
}

// serve has the node answer. A panic of its handler breaks off this one exchange, as a
// server does between two nodes.
func (w *localAnswer) serve(h http.Handler, r *http.Request) (broke bool) {
	defer func() {
		if p := recover(); p != nil {
			broke = true
			if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				w.e.s.opts.log.Error("the node's handler panicked", "host", r.Host, "path", r.URL.Path, "panic", p)
			}
		}
	}()
	h.ServeHTTP(w, r)
	return false
}

func (w *localAnswer) Header() http.Header { return w.header }

func (w *localAnswer) WriteHeader(status int) {
	if w.wrote || w.refused || w.late {
		return
	}
	h, rc := w.ResponseWriter.Header(), http.NewResponseController(w.ResponseWriter)
	if status < 200 && status != http.StatusSwitchingProtocols { // more follows
		if status != http.StatusContinue && w.e.user.ctx.Err() == nil {
			w.e.informed(status, w.header)
		}
		return
	}
	if w.late = w.e.user.ctx.Err() != nil || w.e.fault() != nil || !w.timer.Stop(); w.late {
		return
	}
	if w.out, w.refused = refusal(w.header.Get(wire.HeaderRefused)); w.refused {
		return
	}
	answerHeaders(h, w.header, status, w.e.r)
	if status == http.StatusSwitchingProtocols { // on this very connection
		h["Connection"], h["Upgrade"] = w.header["Connection"], w.header["Upgrade"]
	}
	if w.trailers = announced(w.header["Trailer"]...); len(w.trailers) > 0 {
		h["Trailer"] = []string{strings.Join(w.trailers, ", ")}
	}
	w.wrote, w.status = true, status
	w.began = w.e.patience(rc, 0)
	w.e.user.begin()
	w.ResponseWriter.WriteHeader(status)
}

// trail passes on what comes behind the content.
func (w *localAnswer) trail() {
	h := w.ResponseWriter.Header()
	for _, name := range w.trailers {
		if v := w.header[name]; len(v) > 0 {
			h[name] = v
		}
	}
	for key, v := range w.header {
		if name, ok := strings.CutPrefix(key, http.TrailerPrefix); ok && passedTrailer(name) {
			h[key] = v
		}
	}
}

func (w *localAnswer) Write(p []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	if w.refused || w.late {
		return len(p), nil
	}
	began := w.e.patience(http.NewResponseController(w.ResponseWriter), len(p))
	n, err := w.ResponseWriter.Write(p)
	return n, w.took(n, began, err)
}

// FlushError sends what is written so far.
func (w *localAnswer) FlushError() error {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	if w.refused || w.late {
		return nil
	}
	rc := http.NewResponseController(w.ResponseWriter)
	began := w.e.patience(rc, 0)
	return w.took(0, began, rc.Flush())
}

// took notes that the user has taken n bytes, or nothing more.
func (w *localAnswer) took(n int, began time.Time, err error) error {
	w.e.taken.moved(n, time.Since(began))
	if err != nil && !errors.Is(err, http.ErrBodyNotAllowed) && !errors.Is(err, http.ErrContentLength) && !errors.Is(err, http.ErrNotSupported) {
		w.failed = true
		w.e.user.cancel(errGone)
		return err
	}
	w.e.user.moved()
	return err
}

// Hijack gives the connection to the substrate node, which answers upgrades itself. The
// socket keeps its place until the node closes it.
func (w *localAnswer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	w.hijacked = true
	w.timer.Stop()
	place := w.e.place
	w.e.place = admission{}
	return &socketConn{Conn: c, place: place}, rw, nil
}

// Unwrap leaves deadlines to the connection.
func (w *localAnswer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// socketConn is a connection that a substrate node on this host has taken over.
type socketConn struct {
	net.Conn
	place admission
	once  sync.Once
}

func (c *socketConn) Close() error {
	c.once.Do(c.place.release)
	return c.Conn.Close()
}
