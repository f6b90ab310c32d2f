package rpc

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
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
	http *http.Transport
}

// NewTransport returns a transport to the service of that protocol on other
// nodes. Close it when done.
func NewTransport(h taubyte.Host, id protocol.ID) *Transport {
	return &Transport{http: &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			name, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			p, err := peer.Decode(name)
			if err != nil {
				return nil, fmt.Errorf("%w peer %q: %w", taubyte.ErrInvalid, name, err)
			}
			conn, err := gostream.Dial(ctx, h, p, id)
			if err != nil {
				return nil, fmt.Errorf("%w: %s at %s: %w", taubyte.ErrUnavailable, id, p, err)
			}
			return &dialed{Conn: conn}, nil
		},
		DisableCompression:     true, // streams between nodes carry what is compressed already
		MaxIdleConnsPerHost:    256,
		IdleConnTimeout:        idleTimeout / 2, // before the server would
		MaxResponseHeaderBytes: 1 << 20,
		WriteBufferSize:        16 << 10,
		ReadBufferSize:         16 << 10,
	}}
}

// dialed is a stream that this side opened. Closing one that nothing came from yet waits
// for the other side to agree on the protocol, which a node that hangs does when it goes on
// again; net/http closes the connection of a request that has ended before it returns. So
// such a stream is reset.
type dialed struct {
	net.Conn
	heard atomic.Bool
}

func (d *dialed) Read(p []byte) (int, error) {
	n, err := d.Conn.Read(p)
	if n > 0 {
		d.heard.Store(true)
	}
	return n, err
}

func (d *dialed) Close() error {
	if s, ok := d.Conn.(interface{ Reset() error }); ok && !d.heard.Load() {
		return s.Reset()
	}
	return d.Conn.Close()
}

// RoundTrip implements http.RoundTripper. What is left of the context's deadline
// goes with the request.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
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

// Close drops the idle streams.
func (t *Transport) Close() { t.http.CloseIdleConnections() }
