package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/net/gostream"

	"github.com/taubyte/taubyte"
)

// timeoutHeader carries what is left of the caller's deadline, in milliseconds.
const timeoutHeader = "Taubyte-Timeout-Ms"

// Limits of a service's server. Bodies are bounded by their handlers, which know
// what they read.
const (
	maxHeaderBytes    = 64 << 10
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 5 * time.Minute
)

// A Server serves one protocol on one host.
type Server struct {
	http  *http.Server
	pulse *Pulse
	stop  context.CancelFunc
	wg    sync.WaitGroup
	once  sync.Once
}

// Serve mounts a handler on the host: HTTP over libp2p streams of the protocol.
// Where roles are named, only members that hold one of them are served, and the
// host itself. The handler finds its caller with Caller, who asks with
// taubyte.PrincipalOf, and a context that ends with the caller's deadline, or when the
// caller goes away.
func Serve(h taubyte.Host, id protocol.ID, handler http.Handler, roles ...taubyte.Role) (*Server, error) {
	l, err := gostream.Listen(h, id)
	if err != nil {
		return nil, fmt.Errorf("serving %s: %w", id, err)
	}
	life, stop := context.WithCancel(context.Background())
	s := &Server{stop: stop, pulse: NewPulse(h)}
	s.http = &http.Server{
		Handler: authorize(h, handler, roles),
		// A handler that does not read its body hears of a connection's end by this alone.
		BaseContext:       func(net.Listener) context.Context { return life },
		MaxHeaderBytes:    maxHeaderBytes,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
	s.wg.Go(func() { _ = s.http.Serve(l) }) // returns when Close closes l
	s.wg.Go(func() { advertise(life, h, id) })
	return s, nil
}

// Shutdown stops taking requests and waits for those under way, until ctx ends;
// what is left then is cut.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	return errors.Join(err, s.Close())
}

// Close cuts every request and returns when the server has ended. It may be
// called twice.
func (s *Server) Close() error {
	var err error
	s.once.Do(func() {
		s.stop()
		err = s.http.Close()
		s.pulse.Close()
	})
	s.wg.Wait()
	return err
}

// advertise announces the node on the DHT as one that runs the service, for
// members that are not connected to it.
func advertise(ctx context.Context, h taubyte.Host, id protocol.ID) {
	const (
		lonely = 10 * time.Second // there may be peers by then
		again  = 6 * time.Hour    // provider records live for two days
	)
	for {
		wait := lonely
		if len(h.Network().Peers()) > 0 && h.Routing().Provide(ctx, serviceCID(id), true) == nil {
			wait = again
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

type callerKey struct{}

// Caller returns the membership of the node that sent the request whose context
// this is. ok is false outside of a request.
func Caller(ctx context.Context) (m taubyte.Membership, ok bool) {
	m, ok = ctx.Value(callerKey{}).(taubyte.Membership)
	return m, ok
}

// WithCaller returns a context in which m is the caller, and the principal: for handlers
// that are called in another way than over a stream, once that way has shown who calls.
func WithCaller(ctx context.Context, m taubyte.Membership) context.Context {
	return taubyte.WithPrincipal(context.WithValue(ctx, callerKey{}, m), taubyte.NodePrincipal(m))
}

func authorize(h taubyte.Host, next http.Handler, roles []taubyte.Role) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// gostream's addresses are peer IDs.
		p, err := peer.Decode(r.RemoteAddr)
		if err != nil {
			WriteError(w, fmt.Errorf("%w: caller %q: %w", taubyte.ErrForbidden, r.RemoteAddr, err), nil)
			return
		}
		m, err := h.Member(r.Context(), p)
		if err != nil {
			WriteError(w, err, nil)
			return
		}
		if len(roles) > 0 && !m.Has(roles...) {
			WriteError(w, fmt.Errorf("%w: %s holds %v, and this takes one of %v", taubyte.ErrForbidden, p, m.Roles, roles), nil)
			return
		}
		asks, err := principal(r, m)
		if err != nil {
			WriteError(w, err, nil)
			return
		}
		ctx := taubyte.WithPrincipal(WithCaller(r.Context(), m), asks)
		if ms, err := strconv.ParseInt(r.Header.Get(timeoutHeader), 10, 64); err == nil && ms > 0 && ms < maxTimeoutMs {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, time.Duration(ms)*time.Millisecond)
			defer cancel()
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// maxTimeoutMs keeps a hostile deadline from overflowing a Duration.
const maxTimeoutMs = int64(30*24*time.Hour) / int64(time.Millisecond)
