package rpc_test

import (
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/internal/testnet"
)

// hanging is a service on a node that can hang as a stopped process does: it takes
// streams and answers nothing, pings included.
type hanging struct {
	hung atomic.Bool
	end  chan struct{}
	wg   sync.WaitGroup
}

func hang(t *testing.T, n *testnet.Node, h http.Handler) *hanging {
	t.Helper()
	serve(t, n, h)
	s := &hanging{end: make(chan struct{})}
	t.Cleanup(func() { close(s.end); s.wg.Wait() })
	n.SetStreamHandler(rpc.PulseProtocol, s.answer)
	return s
}

// answer sends pings back while the node does not hang.
func (s *hanging) answer(st network.Stream) {
	s.wg.Add(1)
	defer s.wg.Done()
	defer func() { _ = st.Reset() }()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-s.end:
			_ = st.Reset()
		case <-stop:
		}
	}()
	var ping [8]byte
	for {
		if _, err := io.ReadFull(st, ping[:]); err != nil {
			return
		}
		s.wait(context.Background())
		if _, err := st.Write(ping[:]); err != nil {
			return
		}
	}
}

// wait holds a request up while the node hangs.
func (s *hanging) wait(ctx context.Context) {
	for s.hung.Load() && ctx.Err() == nil {
		select {
		case <-s.end:
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func knows(t *testing.T, caller *testnet.Node, nodes ...*testnet.Node) {
	t.Helper()
	for _, n := range nodes {
		testnet.Eventually(t, func() bool {
			known, err := caller.Peerstore().SupportsProtocols(n.ID(), proto)
			return err == nil && len(known) > 0
		}, "%s known", n.ID())
	}
}

func TestANodeThatHangsIsPassedOver(t *testing.T) {
	nw := testnet.New(t)
	stuck, good, caller := nw.Node(), nw.Node(), nw.Node()
	var h *hanging
	h = hang(t, stuck, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.wait(r.Context())
		rpc.Reply(w, "stuck", nil, nil)
	}))
	serve(t, good, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { rpc.Reply(w, "good", nil, nil) }))
	knows(t, caller, stuck, good)
	c := client(t, caller)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	h.hung.Store(true)
	began := time.Now()
	err := c.CallPeer(ctx, stuck.ID(), "POST", "/", "x", nil)
	require.ErrorIs(t, err, rpc.ErrSuspect)
	require.ErrorIs(t, err, taubyte.ErrUnavailable)
	t.Logf("a call to a node that hangs ended after %s", time.Since(began))
	require.Less(t, time.Since(began), 20*time.Second)
	for range 20 {
		var out string
		require.NoError(t, c.Call(ctx, "POST", "/", "x", &out))
		require.Equal(t, "good", out)
	}

	h.hung.Store(false)
	testnet.Eventually(t, func() bool { return c.CallPeer(ctx, stuck.ID(), "POST", "/", "x", nil) == nil }, "it is called again")
}

func TestASlowHandlerIsNotCut(t *testing.T) {
	nw := testnet.New(t)
	server, caller := nw.Node(), nw.Node()
	serve(t, server, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(2500 * time.Millisecond): // longer than a ping waits
			rpc.Reply(w, "done", nil, nil)
		case <-r.Context().Done():
		}
	}))
	var out string
	require.NoError(t, client(t, caller).CallPeer(t.Context(), server.ID(), "POST", "/", "x", &out))
	require.Equal(t, "done", out)
}

func TestAnAnswerThatHangsHalfway(t *testing.T) {
	nw := testnet.New(t)
	server, caller := nw.Node(), nw.Node()
	var h *hanging
	h = hang(t, server, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := rpc.NewStream(w)
		if err == nil && s.Send("first") == nil {
			h.hung.Store(true)
			h.wait(r.Context())
		}
	}))
	resp, err := client(t, caller).OpenAny(t.Context(), "GET", "/")
	require.NoError(t, err)
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	require.Equal(t, "\"first\"\n", string(got))
	require.ErrorIs(t, err, rpc.ErrSuspect)
}

func TestSafeCallsAreHedged(t *testing.T) {
	nw := testnet.New(t)
	slow, quick, caller := nw.Node(), nw.Node(), nw.Node()
	var asked, given atomic.Int32
	serve(t, slow, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		<-r.Context().Done() // the loser is told
		given.Add(1)
	}))
	serve(t, quick, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { rpc.Reply(w, "quick", nil, nil) }))
	knows(t, caller, slow, quick)
	c := client(t, caller)
	ctx := rpc.WithPatience(t.Context(), rpc.Patience{Hedge: 20 * time.Millisecond})
	for range 20 { // which node is first is left to chance
		var out string
		require.NoError(t, c.Call(ctx, "GET", "/", nil, &out))
		require.Equal(t, "quick", out)
		resp, err := c.OpenAny(ctx, "GET", "/")
		require.NoError(t, err)
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, "\"quick\"\n", string(text))
		require.NoError(t, resp.Body.Close())
	}
	require.Positive(t, asked.Load())
	testnet.Eventually(t, func() bool { return given.Load() == asked.Load() }, "those that lost are cancelled")
}

func TestASlowNodeIsPassedOver(t *testing.T) {
	nw := testnet.New(t)
	slow, quick, caller := nw.Node(), nw.Node(), nw.Node()
	serve(t, slow, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	serve(t, quick, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { rpc.Reply(w, "quick", nil, nil) }))
	knows(t, caller, slow, quick)
	c := client(t, caller)
	for range 10 {
		var out string
		ctx := rpc.WithPatience(t.Context(), rpc.Patience{Attempt: 50 * time.Millisecond})
		require.NoError(t, c.Call(ctx, "POST", "/", "x", &out))
		require.Equal(t, "quick", out)
	}
	// Where there is no other node, the error says so.
	ctx := rpc.WithPatience(t.Context(), rpc.Patience{Attempt: 50 * time.Millisecond})
	err := c.CallPeer(ctx, slow.ID(), "POST", "/", "x", nil)
	require.ErrorIs(t, err, taubyte.ErrUnavailable)
	require.ErrorContains(t, err, "too long")
}

// BenchmarkGuard is what watching an attempt costs.
func BenchmarkGuard(b *testing.B) {
	nw := testnet.New(b)
	a, other := nw.Node(), nw.Node()
	pulse := rpc.NewPulse(a)
	defer pulse.Close()
	ctx := context.Background()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, done := pulse.Guard(ctx, other.ID())
			done()
		}
	})
}
