package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/gateway"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

const otherSite = "other.example.com"

// other adds a second project.
func (b *bench) other() {
	b.t.Helper()
	_, err := b.tns.Publish(b.t.Context(), "other", "main", tns.Part{Repository: "local/y", Commit: "c", Config: &config.Project{ID: "other", Resources: config.Resources{
		Domains: []config.Domain{{Common: config.Common{ID: "e"}, FQDN: otherSite}},
		Functions: []config.Function{{Common: config.Common{ID: "g", Name: "g"}, Type: "http", Method: "GET",
			Domains: []taubyte.ResourceID{"e"}, Paths: []string{"/fn"}, Source: "."}},
	}}})
	require.NoError(b.t, err)
	testnet.Eventually(b.t, func() bool { return explain(b.gateway, otherSite, "/fn", "GET").Found }, "the route of the other project")
}

// raw sends the head of a request, or more, over a connection of its own.
func (b *bench) raw(request string) net.Conn {
	b.t.Helper()
	c, err := new(net.Dialer).DialContext(b.t.Context(), "tcp", b.gateway.Addr())
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = c.Close() })
	_, err = io.WriteString(c, request)
	require.NoError(b.t, err)
	return c
}

// load has clients ask for a page until stop, and returns how long each request took and
// how many failed.
func (b *bench) load(host string, clients int, stop <-chan struct{}) (took []time.Duration, failed int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
				}
				began := time.Now()
				req, _ := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+host+"/fn", nil)
				resp, err := b.client.Do(req)
				ok := err == nil && resp.StatusCode == http.StatusOK
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				mu.Lock()
				took = append(took, time.Since(began))
				if !ok {
					failed++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.Sort(took)
	return took, failed
}

// What slow users of one project do costs another nothing.
func TestSlowUsersStarveNobody(t *testing.T) {
	t.Parallel()
	b := newBench(t, gateway.WithLimits(gateway.Limits{Grace: 4 * time.Second}))
	b.other()
	big := make([]byte, 1<<20)
	b.substrate(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Host == site && r.Method == http.MethodGet {
			_, _ = w.Write(big) // more than all buffers
			return
		}
		_, _ = io.WriteString(w, "ok")
	})
	testnet.Eventually(t, func() bool { return len(explain(b.gateway, otherSite, "/fn", "GET").Candidates) > 0 }, "a node for the other")
	var bodies []net.Conn
	for range 220 {
		bodies = append(bodies, b.raw("POST /fn HTTP/1.1\r\nHost: "+site+"\r\nContent-Length: 1000000\r\n\r\nslow"))
	}
	for range 150 {
		c := b.raw("GET /fn HTTP/1.1\r\nHost: " + site + "\r\n\r\n")
		require.NoError(t, c.(*net.TCPConn).SetReadBuffer(4<<10)) // or the kernel takes it all
	}
	b.do("GET", otherSite, "/fn", nil) // what they took at first shares the connection to the node
	stop := make(chan struct{})
	time.AfterFunc(2*time.Second, func() { close(stop) })
	took, failed := b.load(otherSite, 4, stop)
	t.Logf("beside 220 slow bodies and 150 slow readers: %d requests, %d failed, median %s, p99 %s", len(took), failed, took[len(took)/2], took[len(took)*99/100])
	require.Zero(t, failed)

	// The slow ones are told, and cut.
	for _, c := range bodies {
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusRequestTimeout, resp.StatusCode)
		_ = resp.Body.Close()
	}
	require.False(t, explain(b.gateway, site, "/fn", "GET").Candidates[0].Ejected, "it is not the node's fault")
}

func TestSharesOfClientsAndProjects(t *testing.T) {
	t.Parallel()
	b := newBench(t, gateway.WithLimits(gateway.Limits{Requests: 40}))
	b.other()
	release := make(chan struct{})
	b.substrate(func(w http.ResponseWriter, r *http.Request) {
		if r.Host == site {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		_, _ = io.WriteString(w, "ok")
	})
	testnet.Eventually(t, func() bool { return len(explain(b.gateway, otherSite, "/fn", "GET").Candidates) > 0 }, "a node for the other")
	var conns []net.Conn
	for range 20 {
		conns = append(conns, b.raw("GET /fn HTTP/1.1\r\nHost: "+site+"\r\n\r\n"))
	}
	statuses := make(chan int, len(conns))
	var wg sync.WaitGroup
	for _, c := range conns {
		wg.Go(func() {
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				statuses <- 0
				return
			}
			_ = resp.Body.Close()
			statuses <- resp.StatusCode
		})
	}
	refused := 0
	for range 12 { // a client alone gets a fifth: 8
		require.Equal(t, http.StatusTooManyRequests, <-statuses)
		refused++
	}
	close(release)
	for range len(conns) - refused {
		require.Equal(t, http.StatusOK, <-statuses)
	}
	wg.Wait()
	resp, _ := b.do("GET", otherSite, "/fn", nil)
	require.Equal(t, http.StatusOK, resp.StatusCode, "its places are free again")
}

func TestManySockets(t *testing.T) {
	const count = 1_000
	b := newBench(t)
	b.substrate(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			kind, text, err := c.Read(context.Background())
			if err != nil || c.Write(context.Background(), kind, text) != nil {
				return
			}
		}
	})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	began := time.Now()
	sockets := make([]*websocket.Conn, count)
	errs := make(chan error, count)
	places := make(chan struct{}, 64)
	for i := range sockets {
		go func() {
			places <- struct{}{}
			defer func() { <-places }()
			c, resp, err := websocket.Dial(context.Background(), "ws://"+site+"/fn", &websocket.DialOptions{HTTPClient: b.client})
			if err != nil && resp != nil {
				err = errors.Join(err, errors.New(resp.Status))
			}
			sockets[i] = c
			errs <- err
		}()
	}
	for range sockets {
		require.NoError(t, <-errs)
	}
	took := time.Since(began)
	runtime.GC()
	runtime.ReadMemStats(&after)
	for i, c := range sockets {
		word := fmt.Append(nil, i)
		require.NoError(t, c.Write(context.Background(), websocket.MessageText, word))
		_, got, err := c.Read(context.Background())
		require.NoError(t, err)
		require.Equal(t, word, got)
	}
	inUse := func(m *runtime.MemStats) uint64 { return m.HeapInuse + m.StackInuse }
	t.Logf("%d sockets opened in %s; one takes %.1f KiB on user, gateway and node together", count, took, float64(inUse(&after)-inUse(&before))/1024/float64(count))
	for _, c := range sockets {
		_ = c.CloseNow()
	}
}

func TestBadBodiesAreTheUsersFault(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for range 3 {
		b.substrate(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, "ok")
		})
	}
	for range 12 {
		c := b.raw("POST /fn HTTP/1.1\r\nHost: " + site + "\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nZZZ\r\n")
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusBadRequest, resp.StatusCode)
		_ = resp.Body.Close()
	}
	for _, c := range explain(b.gateway, site, "/fn", "POST").Candidates {
		require.False(t, c.Ejected)
	}
}

// stuck is a node that hangs as a stopped process does: nothing is answered, pings
// included.
type stuck struct {
	hung atomic.Bool
	end  chan struct{}

	mu    sync.Mutex
	ended bool
	wg    sync.WaitGroup
}

func (b *bench) stuck(h http.HandlerFunc) (*stuck, *testnet.Node) {
	s := &stuck{end: make(chan struct{})}
	n := b.substrate(func(w http.ResponseWriter, r *http.Request) {
		s.wait()
		h(w, r)
	})
	b.t.Cleanup(func() {
		s.mu.Lock()
		s.ended = true
		close(s.end)
		s.mu.Unlock()
		s.wg.Wait()
	})
	n.SetStreamHandler(rpc.PulseProtocol, func(st network.Stream) {
		defer func() { _ = st.Reset() }()
		s.mu.Lock()
		if s.ended {
			s.mu.Unlock()
			return
		}
		s.wg.Add(1)
		s.mu.Unlock()
		defer s.wg.Done()
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
			s.wait()
			if _, err := st.Write(ping[:]); err != nil {
				return
			}
		}
	})
	return s, n
}

func (s *stuck) wait() {
	for s.hung.Load() {
		select {
		case <-s.end:
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestANodeThatHangsLosesNoSafeRequest(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ok := func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "ok") }
	nodes := []*stuck{}
	for range 2 {
		s, _ := b.stuck(ok)
		nodes = append(nodes, s)
	}
	// The one that the route prefers hangs.
	first := explain(b.gateway, site, "/fn", "GET").Candidates[0]
	hung := nodes[0]
	for i, n := range b.net.Nodes()[1:] {
		if n.ID() == first.Node {
			hung = nodes[i]
		}
	}
	measure := func(d time.Duration) {
		t.Helper()
		stop := make(chan struct{})
		time.AfterFunc(d, func() { close(stop) })
		took, failed := b.load(site, 8, stop)
		t.Logf("%d requests in %s, %d failed, median %s, p99 %s, longest %s", len(took), d, failed, took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
		require.Zero(t, failed)
	}
	measure(500 * time.Millisecond)
	hung.hung.Store(true)
	measure(2 * time.Second)
	measure(2 * time.Second)
	resp, _ := b.do("POST", site, "/fn", strings.NewReader("x"))
	require.Equal(t, http.StatusOK, resp.StatusCode, "what comes now goes to the other node")
	hung.hung.Store(false)
	testnet.Eventually(t, func() bool {
		for _, c := range explain(b.gateway, site, "/fn", "GET").Candidates {
			if c.Suspect {
				return false
			}
		}
		return true
	}, "it answers, and is used again")
}

func TestASlowNodeIsHedged(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var asked atomic.Int64
	for range 2 {
		b.substrate(func(w http.ResponseWriter, r *http.Request) {
			if asked.Add(1) == 1 { // whoever comes first
				<-r.Context().Done()
				return
			}
			_, _ = io.WriteString(w, "quick")
		})
	}
	began := time.Now()
	resp, body := b.do("GET", site, "/fn", nil)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "quick", body)
	t.Logf("answered after %s", time.Since(began))
	require.Less(t, time.Since(began), 20*time.Second)
	require.EqualValues(t, 2, asked.Load())
}
