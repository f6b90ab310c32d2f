package substrate_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/substrate"
)

// TestMain runs the benchmark's clients where it is asked to.
func TestMain(m *testing.M) {
	if addr := os.Getenv("SOCKET_CLIENTS"); addr != "" {
		if err := clients(addr, os.Getenv("SOCKET_PATH"), os.Getenv("SOCKET_COUNT")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// clients opens WebSockets and counts the messages that they get: the sum is written
// every few milliseconds, and first when all are open. It ends with its input.
func clients(addr, path, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	var total atomic.Int64
	var conns []net.Conn
	for range n {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		defer conn.Close()
		conns = append(conns, conn)
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", path, domain); err != nil {
			return err
		}
		var head []byte
		one := make([]byte, 1)
		for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
			if _, err := conn.Read(one); err != nil {
				return err
			}
			head = append(head, one[0])
		}
		if !bytes.HasPrefix(head, []byte("HTTP/1.1 101")) {
			return fmt.Errorf("answer: %s", head)
		}
	}
	for _, conn := range conns {
		go func() {
			// All frames are binary, of the size of message: they need not be parsed.
			frame, got := 2+len(message), 0
			buf := make([]byte, 16*frame)
			for {
				m, err := conn.Read(buf)
				if err != nil {
					return
				}
				got += m
				total.Add(int64(got / frame))
				got %= frame
			}
		}()
	}
	ended := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); close(ended) }()
	for {
		fmt.Println(total.Load())
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ended:
			return nil
		}
	}
}

var message = bytes.Repeat([]byte("m"), 100)

// BenchmarkSockets has 10,000 WebSockets open on one channel of one node, and sends
// messages to all of them. The baseline is the usual hub upon the same library: a channel
// and a goroutine to write for each socket, which another one reads. The clients are another
// process on the same machine.
func BenchmarkSockets(b *testing.B) {
	const sockets = 10_000
	files(b, sockets+200)
	c := newCloud(b, substrate.WithLimits(substrate.Limits{ProjectSockets: 2 * sockets}))
	c.deploy(page, channels("room", "room"))
	speaker := c.site()
	path := "/ws-" + hashOf(project, "") + "/room"
	ws := open(b, speaker.URL, path)
	say := func() { _ = ws.Write(context.Background(), websocket.MessageBinary, message) }

	bare := &hub{subscribers: map[*subscriber]struct{}{}}
	for _, t := range []struct {
		name    string
		handler http.Handler
		say     func()
		open    func() int
	}{
		{"bare", bare, func() { bare.publish(message) }, bare.count},
		{"node", c.service, say, func() int { return stats(c.service).Messages.Sockets - 1 }},
	} {
		b.Run(t.name, func(b *testing.B) {
			s := httptest.NewServer(t.handler)
			defer s.Close()
			goroutines, bytes := held()
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "SOCKET_CLIENTS="+s.Listener.Addr().String(), "SOCKET_PATH="+path, "SOCKET_COUNT="+strconv.Itoa(sockets))
			cmd.Stderr = os.Stderr
			in, err := cmd.StdinPipe()
			require.NoError(b, err)
			out, err := cmd.StdoutPipe()
			require.NoError(b, err)
			require.NoError(b, cmd.Start())
			var total atomic.Int64
			ready := make(chan struct{})
			done := make(chan struct{})
			go func() {
				defer close(done)
				lines := bufio.NewScanner(out)
				for first := true; lines.Scan(); first = false {
					n, _ := strconv.ParseInt(lines.Text(), 10, 64)
					total.Store(n)
					if first {
						close(ready)
					}
				}
			}()
			select {
			case <-ready:
			case <-done:
				b.Fatal("the clients failed")
			}
			testnet.Eventually(b, func() bool { return t.open() == sockets }, "not all open")
			goroutinesNow, bytesNow := held()

			b.ResetTimer()
			for i := range b.N {
				for int64(i)-total.Load()/sockets > 32 { // a window, as whoever waits for answers has
					time.Sleep(100 * time.Microsecond)
				}
				t.say()
			}
			for total.Load() < int64(b.N)*sockets {
				select {
				case <-done:
					b.Fatal("the clients failed")
				case <-time.After(time.Millisecond):
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(b.N)*sockets/b.Elapsed().Seconds(), "deliveries/s")
			b.ReportMetric(float64(bytesNow-bytes)/sockets, "B/socket")
			b.ReportMetric(float64(goroutinesNow-goroutines)/sockets, "goroutines/socket")
			require.NoError(b, in.Close())
			<-done
			require.NoError(b, cmd.Wait())
			testnet.Eventually(b, func() bool { return t.open() == 0 && runtime.NumGoroutine() < goroutines+100 }, "sockets are left")
		})
	}
	require.Zero(b, stats(c.service).Messages.Slow)
}

// held is how many goroutines there are, and the memory of heap and stacks.
func held() (goroutines, bytes int) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return runtime.NumGoroutine(), int(m.HeapAlloc + m.StackInuse)
}

// hub is a broadcast hub as the library's own example has it.
type hub struct {
	mu          sync.Mutex
	subscribers map[*subscriber]struct{}
}

type subscriber struct{ messages chan []byte }

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow()
	s := &subscriber{make(chan []byte, 64)}
	h.mu.Lock()
	h.subscribers[s] = struct{}{}
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		delete(h.subscribers, s)
		h.mu.Unlock()
	}()
	ctx := c.CloseRead(context.Background())
	for {
		select {
		case m := <-s.messages:
			write, cancel := context.WithTimeout(ctx, 5*time.Second)
			err := c.Write(write, websocket.MessageBinary, m)
			cancel()
			if err != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (h *hub) publish(m []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subscribers {
		select {
		case s.messages <- m:
		default:
			panic("too slow")
		}
	}
}

func (h *hub) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.subscribers)
}

// BenchmarkMessageToFunction is the time from a WebSocket's message over a function
// to another WebSocket, on one node and over two.
func BenchmarkMessageToFunction(b *testing.B) {
	c := newCloud(b)
	other := c.another()
	c.both(other, page, channels("main", "^(in|out)$", regex), listener("echo", "in", forwards("out", "")), channels("straight", "straight"))
	path := "/ws-" + hashOf(project, "") + "/"
	here, there := c.site(), other.site()
	for _, t := range []struct {
		name     string
		in, out  string
		receives *httptest.Server
	}{
		{"no-function/one-node", "straight", "straight", here},
		{"no-function/two-nodes", "straight", "straight", there},
		{"function/to-this-node", "in", "out", here},
		{"function/to-the-other", "in", "out", there},
	} {
		b.Run(t.name, func(b *testing.B) {
			from, to := open(b, here.URL, path+t.in), open(b, t.receives.URL, path+t.out)
			from.say("first")
			require.Contains(b, to.next(), "first")
			for b.Loop() {
				from.say("x")
				if !strings.HasSuffix(to.next(), "x") {
					b.Fatal("another message")
				}
			}
		})
	}
}
