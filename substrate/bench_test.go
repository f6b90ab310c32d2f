package substrate_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/substrate"
	"github.com/taubyte/taubyte/substrate/internal/wasmtest"
	"github.com/taubyte/taubyte/tns/config"
)

var quiet = substrate.WithLogger(slog.New(slog.DiscardHandler))

// stockGo is a module in stock Go that answers PONG: its export ping by the event,
// handler as an http.Handler, for which net/http is in it.
func stockGo(t testing.TB) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "main.wasm")
	c := exec.Command("go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", out, ".")
	c.Dir = filepath.Join("testdata", "pong")
	c.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=-mod=mod", "GOWORK=off")
	text, err := c.CombinedOutput()
	require.NoError(t, err, string(text))
	code, err := os.ReadFile(out)
	require.NoError(t, err)
	return code
}

func roomy(f *config.Function)   { f.Memory = 64 << 20 }
func handler(f *config.Function) { f.Call = "handler" }

// BenchmarkHTTP compares, over loopback and in one run, a bare handler that
// writes PONG with functions that do, and http.FileServer with a website.
func BenchmarkHTTP(b *testing.B) {
	page := strings.Repeat("0123456789", 1000)
	big := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	c := newCloud(b, quiet)
	c.deploy(
		fn("ping", "/ping", wasmtest.Pong()), fn("go", "/go", stockGo(b), roomy), fn("handler", "/handler", stockGo(b), roomy, handler),
		website("front", "/", map[string]string{"page.html": page, "index.html": "home", "big.bin": big}),
	)
	dir := b.TempDir()
	require.NoError(b, os.WriteFile(filepath.Join(dir, "page.html"), []byte(page), 0o600))
	require.NoError(b, os.WriteFile(filepath.Join(dir, "big.bin"), []byte(big), 0o600))

	for _, t := range []struct {
		name, path string
		handler    http.Handler
	}{
		{"pong/bare", "/ping", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "PONG") })},
		{"pong/function", "/ping", c.service},
		{"pong/stock-go", "/go", c.service},
		{"pong/stock-go-handler", "/handler", c.service},
		{"file/net-http", "/page.html", http.FileServer(http.Dir(dir))},
		{"file/website", "/page.html", c.service},
		{"large-file/net-http", "/big.bin", http.FileServer(http.Dir(dir))},
		{"large-file/website", "/big.bin", c.service},
	} {
		for _, connections := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s/%d", t.name, connections), func(b *testing.B) {
				s := httptest.NewServer(t.handler)
				defer s.Close()
				load(b, s.Listener.Addr().String(), t.path, connections)
			})
		}
	}
}

// load asks for a path over so many kept connections, each one request at a time,
// with a client that takes next to nothing of the machine.
func load(b *testing.B, addr, path string, connections int) {
	request := []byte("GET " + path + " HTTP/1.1\r\nHost: " + domain + "\r\n\r\n")
	took := make([][]time.Duration, connections)
	var wg sync.WaitGroup
	b.ReportAllocs()
	var clients []*client
	for range connections {
		conn, err := net.Dial("tcp", addr)
		require.NoError(b, err)
		defer conn.Close()
		c := &client{conn: conn, r: bufio.NewReaderSize(conn, 32<<10)}
		require.NoError(b, c.do(request)) // with its connection's first costs
		clients = append(clients, c)
	}
	for i := range took {
		took[i] = make([]time.Duration, 0, b.N/connections+1)
	}
	b.ResetTimer()
	start := time.Now()
	for i, c := range clients {
		wg.Go(func() {
			for range cap(took[i]) {
				begin := time.Now()
				if err := c.do(request); err != nil {
					b.Error(err)
					return
				}
				took[i] = append(took[i], time.Since(begin))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	all := slices.Concat(took...)
	slices.Sort(all)
	if len(all) == 0 {
		return
	}
	b.ReportMetric(float64(len(all))/time.Since(start).Seconds(), "req/s")
	b.ReportMetric(float64(all[len(all)/2].Nanoseconds())/1e3, "p50-µs")
	b.ReportMetric(float64(all[len(all)*99/100].Nanoseconds())/1e3, "p99-µs")
}

type client struct {
	conn net.Conn
	r    *bufio.Reader
}

var lengthHeader = []byte("Content-Length: ")

func (c *client) do(request []byte) error {
	if _, err := c.conn.Write(request); err != nil {
		return err
	}
	length, first := 0, true
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
			return fmt.Errorf("answer: %s", line)
		}
		first = false
		if bytes.HasPrefix(line, lengthHeader) {
			for _, d := range bytes.TrimSpace(line[len(lengthHeader):]) {
				length = length*10 + int(d-'0')
			}
		}
		if len(line) == 2 {
			break
		}
	}
	if length == 0 {
		return fmt.Errorf("answer without a length")
	}
	_, err := c.r.Discard(length)
	return err
}

// BenchmarkHandler is the node's own work for a request, without any network.
func BenchmarkHandler(b *testing.B) {
	c := newCloud(b, quiet)
	c.deploy(fn("ping", "/ping", wasmtest.Pong()), fn("go", "/go", stockGo(b), roomy), fn("handler", "/handler", stockGo(b), roomy, handler),
		website("front", "/", map[string]string{"page.html": strings.Repeat("0123456789", 1000)}))
	for _, path := range []string{"/ping", "/go", "/handler", "/page.html"} {
		b.Run(path[1:], func(b *testing.B) {
			r := request("GET", path)
			h := c.service
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(&sink{h: http.Header{}}, r)
			}
		})
	}
}

type sink struct{ h http.Header }

func (s *sink) Header() http.Header         { return s.h }
func (s *sink) WriteHeader(int)             {}
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }

// A warm call allocates nothing but what is stated here, the test's own writer
// and header included.
func TestAllocationsOfAWarmCall(t *testing.T) {
	c := newCloud(t, quiet)
	c.deploy(fn("ping", "/ping", wasmtest.Pong()), website("front", "/", map[string]string{"page.html": strings.Repeat("0123456789", 1000)}))
	for path, most := range map[string]float64{"/ping": 5, "/page.html": 12} {
		r := request("GET", path)
		got := testing.AllocsPerRun(1000, func() { c.service.ServeHTTP(&sink{h: http.Header{}}, r) })
		require.LessOrEqual(t, got, most, path)
	}
}

// BenchmarkFirstRequest is that of a deployed function whose module is compiled
// here: with the instance that was prepared for it, and without one, as after
// a while in which nobody asked. One iteration is a deployment; the time of the
// request is first-µs.
func BenchmarkFirstRequest(b *testing.B) {
	for _, guest := range []struct {
		name string
		code []byte
	}{{"wat", wasmtest.Pong()}, {"stock-go", stockGo(b)}} {
		for _, prepared := range []bool{true, false} {
			b.Run(fmt.Sprintf("%s/prepared=%t", guest.name, prepared), func(b *testing.B) {
				limits := substrate.Limits{}
				if !prepared {
					limits.WarmMemory = 1
				}
				c := newCloud(b, quiet, substrate.WithLimits(limits))
				stays := fn("stays", "/stays", guest.code, roomy)
				c.deploy(stays)
				require.Equal(b, "200 PONG", c.get("/stays"))
				var took []time.Duration
				for b.Loop() {
					c.deploy(stays, fn("new", "/new", guest.code, roomy))
					r := request("GET", "/new")
					w := httptest.NewRecorder()
					begin := time.Now()
					c.service.ServeHTTP(w, r)
					took = append(took, time.Since(begin))
					if w.Code != 200 {
						b.Fatal(w.Code, w.Body)
					}
				}
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "first-µs")
				b.ReportMetric(float64(took[len(took)*9/10].Nanoseconds())/1e3, "first-p90-µs")
				b.ReportMetric(float64(len(guest.code)), "module-B")
			})
		}
	}
}
