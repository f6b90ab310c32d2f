package rpc_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/internal/testnet"
)

const proto protocol.ID = "/taubyte/test/1"

var (
	errSpecial = fmt.Errorf("special case: %w", taubyte.ErrConflict)
	codes      = rpc.Codes{{Name: "special", Err: errSpecial}}
)

func serve(t *testing.T, h taubyte.Host, handler http.Handler, roles ...taubyte.Role) *rpc.Server {
	t.Helper()
	s, err := rpc.Serve(h, proto, handler, roles...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func client(t *testing.T, h taubyte.Host) *rpc.Client {
	c := rpc.NewClient(h, proto, codes)
	t.Cleanup(c.Close)
	return c
}

func TestCallsAndErrorsCross(t *testing.T) {
	nw := testnet.New(t)
	server, caller := nw.Node(), nw.Node(taubyte.RoleMonkey)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		var in string
		err := rpc.Decode(w, r, 1<<10, &in)
		m, _ := rpc.Caller(r.Context())
		rpc.Reply(w, in+" from "+m.Peer.String(), err, codes)
	})
	mux.HandleFunc("GET /special", func(w http.ResponseWriter, r *http.Request) {
		rpc.Reply(w, nil, fmt.Errorf("while testing: %w", errSpecial), codes)
	})
	mux.HandleFunc("GET /cancelled", func(w http.ResponseWriter, _ *http.Request) {
		rpc.Reply(w, nil, fmt.Errorf("writing: %w", context.Canceled), codes)
	})
	mux.HandleFunc("GET /deadline", func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		rpc.Reply(w, nil, r.Context().Err(), codes)
	})
	serve(t, server, mux)
	c := client(t, caller)
	ctx := t.Context()

	var out string
	require.NoError(t, c.Call(ctx, "POST", "/echo", "hello", &out))
	require.Equal(t, "hello from "+caller.ID().String(), out)

	err := c.Call(ctx, "POST", "/echo", strings.Repeat("x", 2<<10), &out)
	require.ErrorIs(t, err, taubyte.ErrTooLarge)
	err = c.Call(ctx, "POST", "/echo", 7, &out)
	require.ErrorIs(t, err, taubyte.ErrInvalid)
	err = c.Call(ctx, "GET", "/special", nil, nil)
	require.ErrorIs(t, err, errSpecial)
	require.ErrorIs(t, err, taubyte.ErrConflict)
	require.EqualError(t, err, "while testing: special case: conflict")
	err = c.Call(ctx, "GET", "/nothing", nil, nil)
	require.ErrorIs(t, err, taubyte.ErrNotFound)

	// The node gave up, not the caller: another may do better.
	err = c.Call(ctx, "GET", "/cancelled", nil, nil)
	require.ErrorIs(t, err, taubyte.ErrUnavailable)
	require.NotErrorIs(t, err, context.Canceled)

	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, c.Call(short, "GET", "/deadline", nil, nil), context.DeadlineExceeded)
}

func TestRolesAreEnforced(t *testing.T) {
	nw := testnet.New(t)
	server, monkey, edge := nw.Node(), nw.Node(taubyte.RoleMonkey), nw.Node(taubyte.RoleSubstrate)
	serve(t, server, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { rpc.Reply(w, true, nil, nil) }), taubyte.RoleMonkey)

	require.NoError(t, client(t, monkey).Call(t.Context(), "GET", "/", nil, nil))
	require.ErrorIs(t, client(t, edge).Call(t.Context(), "GET", "/", nil, nil), taubyte.ErrForbidden)
}

func TestCancellationCrosses(t *testing.T) {
	nw := testnet.New(t)
	server, caller := nw.Node(), nw.Node()
	began, ended := make(chan struct{}), make(chan struct{})
	serve(t, server, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		close(ended)
	}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-began
		cancel()
	}()
	err := client(t, caller).Call(ctx, "GET", "/", nil, nil)
	require.ErrorIs(t, err, context.Canceled)
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the handler never heard that its caller went away")
	}
}

func TestNextNodeIsTried(t *testing.T) {
	nw := testnet.New(t)
	bad, good, caller := nw.Node(), nw.Node(), nw.Node()
	serve(t, bad, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rpc.WriteError(w, fmt.Errorf("starting: %w", taubyte.ErrUnavailable), nil)
	}))
	serve(t, good, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { rpc.Reply(w, "good", nil, nil) }))
	c := client(t, caller)
	// The DHT may name both when one of them alone has said what it runs, and that one is
	// then preferred.
	for _, n := range []*testnet.Node{bad, good} {
		testnet.Eventually(t, func() bool {
			known, err := caller.Peerstore().SupportsProtocols(n.ID(), proto)
			return err == nil && len(known) > 0
		}, "both nodes known")
	}
	for range 10 {
		var out string
		require.NoError(t, c.Call(t.Context(), "POST", "/", "x", &out))
		require.Equal(t, "good", out)
	}
}

func TestNobodyRunsIt(t *testing.T) {
	nw := testnet.New(t)
	caller := nw.Node()
	err := client(t, caller).Call(t.Context(), "GET", "/", nil, nil)
	require.ErrorIs(t, err, taubyte.ErrUnavailable)
}

func TestStreamsAndUpgrades(t *testing.T) {
	nw := testnet.New(t)
	server, caller := nw.Node(), nw.Node()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /lines", func(w http.ResponseWriter, r *http.Request) {
		s, err := rpc.NewStream(w)
		for i := 0; err == nil && i < 3; i++ {
			err = s.Send(i)
		}
		<-r.Context().Done() // the lines arrive although the answer goes on
	})
	mux.HandleFunc("GET /upgrade", func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_ = rw.Flush()
		_, _ = io.Copy(conn, rw)
	})
	serve(t, server, mux)
	c := client(t, caller)

	resp, err := c.OpenAny(t.Context(), "GET", "/lines")
	require.NoError(t, err)
	buf := make([]byte, 6)
	_, err = io.ReadFull(resp.Body, buf)
	require.NoError(t, err)
	require.Equal(t, "0\n1\n2\n", string(buf))
	require.NoError(t, resp.Body.Close())

	tr := rpc.NewTransport(caller, proto)
	defer tr.Close()
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+server.ID().String()+"/upgrade", nil)
	require.NoError(t, err)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	up, err := tr.RoundTrip(req)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, up.StatusCode)
	rw := up.Body.(io.ReadWriteCloser)
	_, err = rw.Write([]byte("ping"))
	require.NoError(t, err)
	_, err = io.ReadFull(rw, buf[:4])
	require.NoError(t, err)
	require.Equal(t, "ping", string(buf[:4]))
	require.NoError(t, rw.Close())
}

func TestAFollowedStreamEndsInSilence(t *testing.T) {
	t.Parallel()
	// The silence that is borne is longer than a loaded machine stops for.
	const beat, silence = 20 * time.Millisecond, 150
	nw := testnet.New(t)
	server, caller := nw.Node(), nw.Node()
	hang := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /values", func(w http.ResponseWriter, r *http.Request) {
		s, err := rpc.NewStream(w)
		if err != nil {
			return
		}
		values, ended := make(chan int), make(chan struct{})
		go func() { defer close(ended); _ = rpc.Follow(s, values, beat) }()
		values <- 1
		<-hang // as far as values go; beats do come
		values <- 2
		close(values)
		<-ended
		<-r.Context().Done() // no beats either
	})
	serve(t, server, mux)
	resp, err := client(t, caller).OpenAny(t.Context(), "GET", "/values")
	require.NoError(t, err)
	body := rpc.Followed(resp.Body, silence*beat)
	defer body.Close()
	beats := &counter{r: body}
	values := json.NewDecoder(beats)
	var n int
	require.NoError(t, values.Decode(&n))
	require.Equal(t, 1, n)
	go func() {
		for beats.n.Load() < silence+10 { // for longer than the silence that is borne
			time.Sleep(beat / 4)
		}
		close(hang)
	}()
	require.NoError(t, values.Decode(&n), "beats keep it")
	require.Equal(t, 2, n)
	require.Error(t, values.Decode(&n), "silence ends it")
}

// counter counts the bytes that are read.
type counter struct {
	r io.Reader
	n atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

func TestWriteErrorOfTheUnknown(t *testing.T) {
	require.False(t, errors.Is(&rpc.Error{Message: "x"}, taubyte.ErrNotFound))
}

// BenchmarkRoundTrip is a small request on a warm stream, beside the same
// handler over plain HTTP on loopback.
func BenchmarkRoundTrip(b *testing.B) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "PONG") })
	run := func(b *testing.B, rt http.RoundTripper, url string) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				req, _ := http.NewRequest("GET", url, nil)
				resp, err := rt.RoundTrip(req)
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
	}
	b.Run("libp2p", func(b *testing.B) {
		nw := testnet.New(b)
		server, caller := nw.Node(), nw.Node()
		s, err := rpc.Serve(server, proto, handler)
		require.NoError(b, err)
		defer s.Close()
		tr := rpc.NewTransport(caller, proto)
		defer tr.Close()
		run(b, tr, "http://"+server.ID().String()+"/")
	})
	b.Run("net-http", func(b *testing.B) {
		srv := &http.Server{Handler: handler}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(b, err)
		go func() { _ = srv.Serve(l) }()
		defer srv.Close()
		tr := &http.Transport{MaxIdleConnsPerHost: 256}
		defer tr.CloseIdleConnections()
		run(b, tr, "http://"+l.Addr().String()+"/")
	})
}
