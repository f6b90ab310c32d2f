package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/substrate/wire"
)

const (
	// defaultTimeout is how long a function may take that does not say, and a website.
	defaultTimeout = 30 * time.Second
	// margin is what a node has beyond that: it says itself that a function was too slow.
	margin = 5 * time.Second
	// lastResort is how long the only node may take where it is suspect.
	lastResort = 2 * time.Second
)

// limit is how long a node may take until its answer begins.
func (e *exchange) limit(c *Candidate) time.Duration {
	if c.Suspect && e.alone {
		return min(lastResort, e.s.opts.timeout)
	}
	d := defaultTimeout
	if f := e.route.Function; f != nil && f.Timeout > 0 {
		d = f.Timeout
	}
	return min(d+margin, e.s.opts.timeout)
}

// safe reports whether the request may be made twice.
func (e *exchange) safe() bool {
	switch e.r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return !e.socket && (e.body == nil || e.kept != nil)
	}
	return false
}

// failure is why a node did not answer.
type failure struct {
	err  error
	sent bool // the node may have got the request
	user bool // it is the user's own doing
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// errRefused: the node said that it did not serve the request.
var errRefused = errors.New("refused by the node")

// errTimeout: the node has had its time.
var errTimeout = fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)

// flight is a request on its way to a node, and perhaps to a second one.
type flight struct {
	e     *exchange
	nodes []Candidate // the first, and who may be asked as well
	limit time.Duration
	began time.Time
	sent  atomic.Bool

	mu       sync.Mutex
	timer    *time.Timer // until the second is asked, and then until the time is up
	first    func()      // ends the attempt
	second   *hedge
	over     bool // the first attempt has ended
	won      bool // by the second
	done     bool
	timedOut bool
}

// hedge is the second attempt.
type hedge struct {
	node  *Candidate
	began time.Time
	end   func()
	ended chan struct{}

	resp *http.Response
	err  error
}

// fly sends the request to the first node and, if that is slow, to another. It returns
// the first answer, the node that gave it, and what has to be called when the answer
// has been read. used is how many nodes were asked.
func (f *flight) fly() (resp *http.Response, from *Candidate, release func(), used int, err error) {
	e := f.e
	f.began, f.limit = time.Now(), e.limit(&f.nodes[0])
	wait := f.limit
	if len(f.nodes) > 1 && e.safe() {
		wait = min(wait, e.s.latencies.hedgeAfter(e.hash))
	}
	ctx, end := e.guard(&f.nodes[0])
	f.mu.Lock()
	f.first = end
	f.timer = time.AfterFunc(wait, f.tick)
	f.mu.Unlock()
	out := e.outgoing(ctx, &f.nodes[0])
	resp, err = e.s.tr.RoundTrip(f.traced(out))
	err = because(ctx, err)

	f.mu.Lock()
	f.over = true
	second, won := f.second, f.won
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.done = true
		f.timer.Stop()
		f.mu.Unlock()
	}()
	if second == nil {
		if err != nil {
			end()
			return nil, &f.nodes[0], nil, 1, f.failed(err)
		}
		return resp, &f.nodes[0], end, 1, nil
	}
	if !won && err == nil && resp.Header.Get(wire.HeaderRefused) == "" {
		second.end() // too late
		<-second.ended
		if second.err == nil {
			_ = second.resp.Body.Close()
		}
		return resp, &f.nodes[0], end, 2, nil
	}
	if err == nil {
		_ = resp.Body.Close()
		err = errRefused
	}
	end()
	if won {
		// It would have taken longer still.
		f.nodes[0].node.observe(time.Since(f.began), slow, time.Now())
	} else if err != errRefused && e.r.Context().Err() == nil { //nolint:errorlint // our own
		f.nodes[0].node.observe(0, failed, time.Now())
	}
	<-second.ended
	if second.err != nil {
		second.end()
		return nil, second.node, nil, 2, f.failed(second.err)
	}
	f.began = second.began
	return second.resp, second.node, second.end, 2, nil
}

// failed says more about an error.
func (f *flight) failed(err error) error {
	f.mu.Lock()
	timedOut := f.timedOut
	f.mu.Unlock()
	e := f.e
	fail := &failure{err: err, sent: f.sent.Load()}
	switch {
	case e.body != nil && e.body.fault() != nil:
		fail.err, fail.user = e.body.fault(), true
	case timedOut && e.r.Context().Err() == nil:
		fail.err = errTimeout
	case !errors.Is(err, rpc.ErrSuspect) && errors.Is(err, taubyte.ErrUnavailable):
		fail.sent = false // it could not be reached
	}
	return fail
}

// because prefers the reason for which an attempt was ended to what broke by it.
func because(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), rpc.ErrSuspect) {
		return rpc.ErrSuspect
	}
	return err
}

// traced notes whether anything of the request may have left, where that matters.
func (f *flight) traced(r *http.Request) *http.Request {
	if f.e.safe() {
		return r
	}
	return r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { f.sent.Store(true) },
	}))
}

// tick runs when the first node is slow, and when the time is up.
func (f *flight) tick() {
	f.mu.Lock()
	defer f.mu.Unlock()
	left := f.limit - time.Since(f.began)
	switch {
	case f.done:
	case left <= 0:
		f.timedOut = true
		f.first()
		if f.second != nil {
			f.second.end()
		}
	case !f.over && f.second == nil:
		f.hedgeLocked()
		f.timer.Reset(left)
	default:
		f.timer.Reset(left)
	}
}

// hedgeLocked asks a second node, if there is one that is well and not this host.
func (f *flight) hedgeLocked() {
	e := f.e
	for i := 1; i < len(f.nodes); i++ {
		c := &f.nodes[i]
		if c.Ejected || c.Suspect || c.Node == e.s.host.ID() {
			continue
		}
		if !e.s.hedges.spend() {
			return
		}
		ctx, end := e.guard(c)
		h := &hedge{node: c, began: time.Now(), end: end, ended: make(chan struct{})}
		f.second = h
		out := e.outgoing(ctx, c) // while the exchange lasts: over is false
		tr, counter := e.s.tr, c.node
		counter.inFlight.Add(1)
		go func() { // fly waits for it
			defer close(h.ended)
			defer counter.inFlight.Add(-1)
			h.resp, h.err = tr.RoundTrip(out)
			h.err = because(ctx, h.err)
			if h.err == nil && h.resp.Header.Get(wire.HeaderRefused) != "" {
				_ = h.resp.Body.Close()
				h.err = errRefused
			}
			if h.err != nil {
				return
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.over {
				// The first has ended: fly takes this answer if that one failed, or ends it.
				return
			}
			f.won = true
			f.first()
		}()
		return
	}
}

// guard returns the context for an attempt on a node. It ends when the node hangs, and
// when end is called, after the answer was read.
//
// A socket is guarded until it is open: a node that stands still for some seconds
// should not lose thousands of them, and they find out by themselves.
//
// Where no other node could be asked nothing is guarded: to give up would not help.
func (e *exchange) guard(c *Candidate) (ctx context.Context, end func()) {
	if e.alone {
		ctx, cancel := context.WithCancel(e.r.Context())
		return ctx, cancel
	}
	if !e.socket {
		return e.s.pulse.Guard(e.r.Context(), c.Node)
	}
	ctx, cancel := context.WithCancelCause(e.r.Context())
	guarded, release := e.s.pulse.Guard(ctx, c.Node)
	stop := context.AfterFunc(guarded, func() { cancel(context.Cause(guarded)) })
	e.unguard = func() { stop(); release() }
	return ctx, func() { e.unguard(); cancel(nil) }
}

// remote offers the request to a node, and to another if that one is slow.
func (e *exchange) remote(nodes []Candidate) (out outcome, used int, err error) {
	if nodes[0].Suspect && (!e.alone || !e.safe()) {
		return another, 1, &failure{err: rpc.ErrSuspect}
	}
	f := &flight{e: e, nodes: nodes}
	resp, from, release, used, err := f.fly()
	if err != nil {
		var why *failure
		if errors.Is(err, errRefused) || errors.As(err, &why) && why.user || e.r.Context().Err() != nil {
			return another, used, err
		}
		from.node.observe(0, failed, time.Now())
		return another, used, err
	}
	defer release()
	if e.body != nil && e.body.fault() != nil { // the node has answered half a request
		_ = resp.Body.Close()
		return another, used, &failure{err: e.body.fault(), user: true}
	}
	if out, again := refusal(resp.Header.Get(wire.HeaderRefused)); again {
		_ = resp.Body.Close()
		return out, used, errRefused
	}
	took := time.Since(f.began)
	e.s.latencies.observe(e.hash, took)
	if resp.StatusCode < http.StatusInternalServerError {
		from.node.observe(took, answered, time.Now())
	}
	e.deliver(resp, from)
	return done, used, nil
}
