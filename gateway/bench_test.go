package gateway_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/gateway"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/seer"
	"github.com/taubyte/taubyte/substrate/wire"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

// BenchmarkRequest is a small request over loopback HTTP: to a bare handler, through
// httputil.ReverseProxy to it, and through a gateway to a substrate node that
// answers likewise, on the same host and over libp2p.
func BenchmarkRequest(b *testing.B) {
	pong := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "PONG") })
	run := func(b *testing.B, base, host string) {
		tr := &http.Transport{MaxIdleConnsPerHost: 256}
		defer tr.CloseIdleConnections()
		b.ReportAllocs()
		b.ResetTimer()
		defer b.StopTimer() // closing takes its time
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				req, _ := http.NewRequest(http.MethodGet, base+"/fn", nil)
				req.Host = host
				resp, err := tr.RoundTrip(req)
				if err != nil || resp.StatusCode != http.StatusOK {
					b.Error(resp, err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
	}
	bare := httptest.NewServer(pong)
	defer bare.Close()
	b.Run("handler", func(b *testing.B) { run(b, bare.URL, "") })
	b.Run("reverse-proxy", func(b *testing.B) {
		target, err := url.Parse(bare.URL)
		require.NoError(b, err)
		tr := &http.Transport{MaxIdleConnsPerHost: 256}
		defer tr.CloseIdleConnections()
		proxy := httptest.NewServer(&httputil.ReverseProxy{Transport: tr, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }})
		defer proxy.Close()
		run(b, proxy.URL, "")
	})
	for _, where := range []string{"local", "libp2p"} {
		b.Run("gateway-"+where, func(b *testing.B) {
			quiet := slog.New(slog.DiscardHandler)
			nw := testnet.New(b)
			edge := nw.Node()
			node := edge
			if where == "libp2p" {
				node = nw.Node(taubyte.RoleSubstrate)
			}
			ctx := context.Background()
			reg, err := tns.New(ctx, edge, edge.Store, tns.WithOpenDomains(), tns.WithLogger(quiet))
			require.NoError(b, err)
			defer reg.Close()
			_, err = reg.Publish(ctx, "p", "main", tns.Part{Repository: "local/x", Config: &config.Project{ID: "p", Resources: config.Resources{
				Domains: []config.Domain{{Common: config.Common{ID: "d"}, FQDN: site}},
				Functions: []config.Function{{Common: config.Common{ID: "f", Name: "f"}, Type: "http", Method: "GET",
					Domains: []taubyte.ResourceID{"d"}, Paths: []string{"/fn"}, Source: "."}},
			}}})
			require.NoError(b, err)
			srv, err := rpc.Serve(node, wire.Protocol, pong)
			require.NoError(b, err)
			defer srv.Close()
			withdraw, err := node.Provide(wire.Protocol, http.Handler(pong))
			require.NoError(b, err)
			defer withdraw()
			agent, err := seer.Join(ctx, node, seer.WithLogger(quiet), seer.WithInterval(100*time.Millisecond))
			require.NoError(b, err)
			defer agent.Close()
			g, err := gateway.New(ctx, edge, edge.Store, gateway.WithListen("127.0.0.1:0"), gateway.WithLogger(quiet))
			require.NoError(b, err)
			defer g.Close()
			testnet.Eventually(b, func() bool { return len(explain(g, site, "/fn", "GET").Candidates) > 0 }, "a node")
			run(b, "http://"+g.Addr(), site)
		})
	}
}
