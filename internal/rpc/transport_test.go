package rpc_test

import (
	"context"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/internal/testnet"
)

// silentHost opens streams to a node that is stopped: what is written is taken, no
// protocol is agreed on, and an orderly end waits for that.
type silentHost struct {
	taubyte.Host
	end chan struct{}
}

type silentStream struct {
	network.Stream
	end   chan struct{}
	reset chan struct{}
	once  sync.Once
}

func (h silentHost) NewStream(context.Context, peer.ID, ...protocol.ID) (network.Stream, error) {
	return &silentStream{end: h.end, reset: make(chan struct{})}, nil
}

func (s *silentStream) wait() {
	select {
	case <-s.end:
	case <-s.reset:
	}
}

func (s *silentStream) Read([]byte) (int, error)    { s.wait(); return 0, io.ErrClosedPipe }
func (s *silentStream) Write(p []byte) (int, error) { return len(p), nil }
func (s *silentStream) Close() error                { s.wait(); return nil }
func (s *silentStream) Reset() error                { s.once.Do(func() { close(s.reset) }); return nil }

// A request that has ended returns, although its stream never came to be.
func TestAStoppedNodeHoldsNoRequest(t *testing.T) {
	n := testnet.New(t).Node()
	end := make(chan struct{})
	t.Cleanup(func() { close(end) })
	rt := rpc.NewTransport(silentHost{n, end}, "/silent/1")
	defer rt.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.ID().String()+"/", nil)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() {
		_, err := rt.RoundTrip(req)
		done <- err
	}()
	select {
	case err := <-done:
		require.ErrorIs(t, err, context.DeadlineExceeded)
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for the node")
	}
}
