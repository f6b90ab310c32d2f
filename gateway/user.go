package gateway

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// errGone: the user's connection is broken, or nobody reads on it.
var errGone = errors.New("the user is gone")

// user is the other end of an exchange.
//
// net/http ends a request's context as soon as nothing more can be read from the
// connection, also where the client has only closed its sending direction, which is no
// sign that it is gone (RFC 9293, 3.6.1). The context of a user goes on in that case:
// until the answer begins, for which a node has its time, and then until the answer
// stands still for Limits.Grace: whether such a user still reads shows only when
// something is written.
type user struct {
	ctx    context.Context // ends with errGone as its cause when the user is gone
	cancel context.CancelCauseFunc
	conn   *conn // nil where the connection is not the gateway's
	unhook func() bool
	grace  time.Duration

	half atomic.Bool // it sends nothing more

	mu    sync.Mutex
	begun bool // the answer
	ended bool // the exchange
	quiet *time.Timer
}

func newUser(r *http.Request, grace time.Duration) *user {
	u := &user{grace: grace}
	u.conn, _ = r.Context().Value(connKey{}).(*conn)
	parent := r.Context()
	if u.conn == nil || r.ProtoMajor != 1 {
		// HTTP/2 tells the end of a request from that of its exchange.
		u.ctx, u.cancel = context.WithCancelCause(parent)
		u.unhook = context.AfterFunc(parent, func() { u.cancel(errGone) })
		return u
	}
	u.ctx, u.cancel = context.WithCancelCause(context.WithoutCancel(parent))
	u.unhook = context.AfterFunc(parent, func() {
		if u.conn.broken.Load() {
			u.cancel(errGone)
			return
		}
		u.half.Store(true)
		u.watch(false)
	})
	return u
}

// gone reports whether there is nobody to be answered.
func (u *user) gone() bool {
	return u.ctx.Err() != nil && !errors.Is(context.Cause(u.ctx), errTimeout)
}

// begin is called when the answer's header is on its way.
func (u *user) begin() { u.watch(true) }

// moved is called when a part of the answer was written.
func (u *user) moved() {
	if u.half.Load() {
		u.watch(true)
	}
}

// watch gives a user that sends nothing more its time, once the answer has begun.
func (u *user) watch(begun bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.begun = u.begun || begun
	switch {
	case u.ended || !u.begun || !u.half.Load():
	case u.quiet == nil:
		u.quiet = time.AfterFunc(u.grace, func() { u.cancel(errGone) })
	default:
		u.quiet.Reset(u.grace)
	}
}

// end ends the exchange.
func (u *user) end() {
	u.unhook()
	u.mu.Lock()
	u.ended = true
	if u.quiet != nil {
		u.quiet.Stop()
	}
	u.mu.Unlock()
	u.cancel(nil)
}
