package substrate_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/substrate/internal/wasmtest"
)

// BenchmarkHTTP compares, over loopback and in one run, a bare handler that
// writes PONG with a function that does, and http.FileServer with a website.
func BenchmarkHTTP(b *testing.B) {
	page := strings.Repeat("0123456789", 1000)
	c := newCloud(b)
	c.deploy(fn("ping", "/ping", wasmtest.Pong()), website("front", "/", map[string]string{"page.html": page, "index.html": "home"}))
	dir := b.TempDir()
	require.NoError(b, os.WriteFile(filepath.Join(dir, "page.html"), []byte(page), 0o600))

	for _, t := range []struct {
		name, path string
		handler    http.Handler
	}{
		{"pong/bare", "/ping", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "PONG") })},
		{"pong/function", "/ping", c.service},
		{"file/net-http", "/page.html", http.FileServer(http.Dir(dir))},
		{"file/website", "/page.html", c.service},
	} {
		b.Run(t.name, func(b *testing.B) {
			s := httptest.NewServer(t.handler)
			defer s.Close()
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}}
			defer client.CloseIdleConnections()
			b.SetParallelism(8)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					r, _ := http.NewRequest("GET", s.URL+t.path, nil)
					r.Host = domain
					resp, err := client.Do(r)
					if err != nil || resp.StatusCode != 200 {
						b.Error(resp, err)
						return
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
			})
		})
	}
}

// BenchmarkHandler is the node's own work for a request, without any network.
func BenchmarkHandler(b *testing.B) {
	c := newCloud(b)
	c.deploy(fn("ping", "/ping", wasmtest.Pong()), website("front", "/", map[string]string{"page.html": strings.Repeat("0123456789", 1000)}))
	for _, path := range []string{"/ping", "/page.html"} {
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
