package rpc

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/net/gostream"

	"github.com/taubyte/taubyte"
)

// Transport is an http.RoundTripper over libp2p streams. The host of a request's
// URL is a peer ID; its Host header is free for other use. Streams are kept and
// reused: a request on a warm stream costs neither a new stream nor a protocol
// negotiation. It is safe for concurrent use.
type Transport struct {
	http  *http.Transport
	pulse *Pulse
	once  sync.Once
}

// NewTransport returns a transport to the service of that protocol on other
// nodes. Close it when done.
func NewTransport(h taubyte.Host, id protocol.ID) *Transport {
	pulse := NewPulse(h)
	return &Transport{pulse: pulse, http: &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			name, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			p, err := peer.Decode(name)
			if err != nil {
				return nil, fmt.Errorf("%w peer %q: %w", taubyte.ErrInvalid, name, err)
			}
			c, err := gostream.Dial(ctx, h, p, id)
			if err != nil {
				return nil, fmt.Errorf("%w: %s at %s: %w", taubyte.ErrUnavailable, id, p, err)
			}
			return &conn{Conn: c, heard: pulse.heardOf(p)}, nil
		},
		DisableCompression:     true, // streams between nodes carry what is compressed already
		MaxIdleConnsPerHost:    256,
		IdleConnTimeout:        idleTimeout / 2, // before the server would
		MaxResponseHeaderBytes: 1 << 20,
		WriteBufferSize:        16 << 10,
		ReadBufferSize:         16 << 10,
	}}
}

// RoundTrip implements http.RoundTripper. What is left of the context's deadline
// goes with the request, and so does its principal, unless that is the node's own.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	r, err := carry(r)
	if err != nil {
		return nil, err
	}
	if deadline, ok := r.Context().Deadline(); ok {
		left := time.Until(deadline)
		if left <= 0 {
			return nil, context.DeadlineExceeded
		}
		r = r.Clone(r.Context())
		r.Header.Set(timeoutHeader, strconv.FormatInt(max(left.Milliseconds(), 1), 10))
	}
	return t.http.RoundTrip(r)
}

// Close drops the idle streams. It may be called twice.
func (t *Transport) Close() {
	t.http.CloseIdleConnections()
	t.once.Do(t.pulse.Close)
}

// conn is a stream whose Close does not wait for a node that hangs. A stream that was
// opened without waiting for the other side's word on the protocol waits for it in Close,
// and so does net/http, which closes a stream before it tells that a request was given
// up.
type conn struct {
	net.Conn
	answered atomic.Bool
	heard    *atomic.Int64 // of the node: what comes from it shows that it lives
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.heard.Store(time.Now().UnixNano())
		if !c.answered.Load() {
			c.answered.Store(true)
		}
	}
	return n, err
}

// Close ends the stream at once where nothing has come, and otherwise in order: what was
// written arrives.
func (c *conn) Close() error {
	if s, ok := c.Conn.(interface{ Reset() error }); ok && !c.answered.Load() {
		return s.Reset()
	}
	return c.Conn.Close()
}
