package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
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
	out := e.abroad(f.traced(ctx), &f.nodes[0])
	resp, err = e.s.tr.RoundTrip(out)
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
	end()
	switch {
	case err == nil:
		_ = resp.Body.Close()
		f.nodes[0].node.observe(e.result(0, refused))
	case won:
		// It would have taken longer still.
		f.nodes[0].node.observe(e.result(time.Since(f.began), slow))
	case !e.user.gone():
		f.nodes[0].node.observe(e.result(0, failed))
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
	case e.fault() != nil:
		fail.err, fail.user = e.fault(), true
	case timedOut && !e.user.gone():
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

// traced has an attempt note whether anything of a request that can't be made twice may
// have left, and pass interim answers on.
func (f *flight) traced(ctx context.Context) context.Context {
	once := !f.e.safe()
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { f.sent.Store(once) },
		Got1xxResponse: func(status int, header textproto.MIMEHeader) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			if !f.over && !f.won && status != http.StatusContinue {
				f.e.informed(status, http.Header(header))
			}
			return nil
		},
	})
}

// abroad is the request for a node that is not this one.
func (e *exchange) abroad(ctx context.Context, c *Candidate) *http.Request {
	out := e.outgoing(ctx, c)
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = []string{""} // or the transport would make one up
	}
	return out
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
		out := e.abroad(ctx, c) // while the exchange lasts: over is false
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
		ctx, cancel := context.WithCancel(e.user.ctx)
		return ctx, cancel
	}
	if !e.socket {
		return e.s.pulse.Guard(e.user.ctx, c.Node)
	}
	ctx, cancel := context.WithCancelCause(e.user.ctx)
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
		if errors.Is(err, errRefused) || errors.As(err, &why) && why.user || e.user.gone() {
			return another, used, err
		}
		from.node.observe(e.result(0, failed))
		return another, used, err
	}
	defer release()
	if e.fault() != nil { // the node has answered half a request
		_ = resp.Body.Close()
		return another, used, &failure{err: e.fault(), user: true}
	}
	if out, again := refusal(resp.Header.Get(wire.HeaderRefused)); again {
		_ = resp.Body.Close()
		from.node.observe(e.result(0, refused))
		return out, used, errRefused
	}
	e.observe(resp.StatusCode, time.Since(f.began), from)
	e.deliver(resp, from)
	return done, used, nil
}

// result is what an attempt of this exchange says of its node.
func (e *exchange) result(took time.Duration, r result) observation {
	return observation{result: r, took: took, route: e.hash, project: e.route.Project, at: time.Now()}
}

// observe takes in an answer that began after so long.
func (e *exchange) observe(status int, took time.Duration, from *Candidate) {
	r := answered
	if status >= http.StatusInternalServerError {
		r = erred
	} else {
		e.s.latencies.observe(e.hash, took)
	}
	o := e.result(took, r)
	if r == answered {
		e.s.served.note(e.hash, o.at)
	}
	from.node.observe(o)
}
