package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/gateway"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/seer"
	"github.com/taubyte/taubyte/substrate/wire"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

const site = "shop.example.com"

// bench is a gateway, a registry that knows one host, and substrate nodes that a
// test makes.
type bench struct {
	t       *testing.T
	net     *testnet.Net
	edge    *testnet.Node
	tns     *tns.Service
	gateway *gateway.Service
	client  *http.Client
}

func newBench(t *testing.T, opts ...gateway.Option) *bench {
	t.Helper()
	b := &bench{t: t, net: testnet.New(t)}
	log := testnet.Logger(t)
	b.edge = b.net.Node()
	var err error
	b.tns, err = tns.New(t.Context(), b.edge, b.edge.Store, tns.WithOpenDomains(), tns.WithLogger(log))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.tns.Close()) })
	fn := config.Function{Common: config.Common{ID: "fn", Name: "fn"}, Type: "http", Method: "GET", Domains: []taubyte.ResourceID{"d"}, Paths: []string{"/fn"}, Source: "."}
	post := fn
	post.ID, post.Method = "post", "POST"
	_, err = b.tns.Publish(t.Context(), "project", "main", tns.Part{Repository: "local/x", Commit: "c", Config: &config.Project{ID: "project", Resources: config.Resources{
		Domains:   []config.Domain{{Common: config.Common{ID: "d"}, FQDN: site}},
		Functions: []config.Function{fn, post},
		Websites:  []config.Website{{Common: config.Common{ID: "w"}, Domains: []taubyte.ResourceID{"d"}, Paths: []string{"/site"}}},
	}}})
	require.NoError(t, err)
	b.gateway, err = gateway.New(t.Context(), b.edge, b.edge.Store, append([]gateway.Option{gateway.WithListen("127.0.0.1:0"), gateway.WithLogger(log)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.gateway.Close()) })
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", b.gateway.Addr()) // whatever the host
	}}
	b.client = &http.Client{Transport: tr, Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(tr.CloseIdleConnections)
	return b
}

// substrate adds a node that serves requests by a handler.
func (b *bench) substrate(h http.HandlerFunc) *testnet.Node {
	b.t.Helper()
	n := b.net.Node(taubyte.RoleSubstrate)
	b.serve(n, h)
	testnet.Eventually(b.t, func() bool {
		for _, c := range explain(b.gateway, site, "/fn", "GET").Candidates {
			if c.Node == n.ID() {
				return true
			}
		}
		return false
	}, "the gateway knows the node")
	return n
}

func (b *bench) serve(n *testnet.Node, h http.HandlerFunc) {
	b.t.Helper()
	s, err := rpc.Serve(n, wire.Protocol, h, taubyte.RoleGateway)
	require.NoError(b.t, err)
	withdraw, err := n.Provide(wire.Protocol, http.Handler(h))
	require.NoError(b.t, err)
	a, err := seer.Join(b.t.Context(), n, seer.WithLogger(testnet.Logger(b.t)))
	require.NoError(b.t, err)
	a.Announce()
	b.t.Cleanup(func() {
		withdraw()
		require.NoError(b.t, a.Close())
		require.NoError(b.t, s.Close())
	})
}

func (b *bench) do(method, host, path string, body io.Reader, header ...string) (*http.Response, string) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, "http://"+host+path, body)
	require.NoError(b.t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := b.client.Do(req)
	require.NoError(b.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(b.t, err)
	return resp, string(text)
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.substrate(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%s %s", r.Method, r.URL) })
	for _, c := range []struct {
		method, host, path string
		status             int
		body               string
	}{
		{"GET", site, "/fn?a=b%20c", 200, "GET /fn?a=b%20c"},
		{"GET", strings.ToUpper(site) + ":80", "/fn", 200, "GET /fn"},
		{"POST", site, "/fn", 200, "POST /fn"},
		{"HEAD", site, "/fn", 200, ""},
		{"GET", site, "/site/a%2Fb", 200, "GET /site/a%2Fb"},
		{"GET", "other.example.com", "/fn", 404, "There is no such site here.\n"},
		{"GET", site, "/none", 404, "There is nothing at this address.\n"},
		{"DELETE", site, "/fn", 405, "This address takes other methods.\n"},
	} {
		resp, body := b.do(c.method, c.host, c.path, nil)
		require.Equal(t, c.status, resp.StatusCode, "%s %s%s", c.method, c.host, c.path)
		require.Equal(t, c.body, body)
		if c.status == 405 {
			require.Equal(t, "GET, HEAD, POST", resp.Header.Get("Allow"))
		}
	}
}

func TestHeadersCantBeSpoofed(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	got := make(chan *http.Request, 1)
	b.substrate(func(w http.ResponseWriter, r *http.Request) {
		got <- r
		h := w.Header()
		h.Set("Taubyte-Inside", "secret")
		h.Set("Keep-Alive", "timeout=1")
		h.Add("Set-Cookie", "a=1")
		h.Add("Set-Cookie", "b=2")
		w.WriteHeader(http.StatusTeapot)
	})
	resp, _ := b.do("GET", site, "/fn", nil, wire.HeaderClient, "9.9.9.9:1", "Taubyte-Other", "x", "X-Forwarded-For", "9.9.9.9",
		"X-Forwarded-Proto", "https", "Forwarded", "for=9.9.9.9", "Connection", "X-Drop", "X-Drop", "1", "X-Keep", "1", "Te", "trailers")
	require.Equal(t, http.StatusTeapot, resp.StatusCode)
	require.Equal(t, []string{"a=1", "b=2"}, resp.Header["Set-Cookie"])
	require.Empty(t, resp.Header.Get("Taubyte-Inside"))
	require.Empty(t, resp.Header.Get("Keep-Alive"))
	r := <-got
	require.Equal(t, site, r.Host)
	require.Equal(t, "127.0.0.1", r.Header.Get("X-Forwarded-For"))
	require.Equal(t, "http", r.Header.Get("X-Forwarded-Proto"))
	require.True(t, strings.HasPrefix(r.Header.Get(wire.HeaderClient), "127.0.0.1:"))
	require.NotEmpty(t, r.Header.Get(wire.HeaderRequest))
	for _, name := range []string{"Taubyte-Other", "Forwarded", "X-Drop", "Te"} {
		require.Empty(t, r.Header.Get(name), name)
	}
	require.Equal(t, "1", r.Header.Get("X-Keep"))
}

func TestRefusalsGoToAnotherNode(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	resp, _ := func() (*http.Response, string) {
		// Nobody serves: the gateway waits a little, then says so.
		return b.do("GET", site, "/fn", nil)
	}()
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.Equal(t, "1", resp.Header.Get("Retry-After"))

	var asked atomic.Int64
	for _, reason := range []string{wire.RefusedBusy, wire.RefusedDraining} {
		b.substrate(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			w.Header().Set(wire.HeaderRefused, reason)
			http.Error(w, "busy inside", http.StatusServiceUnavailable)
		})
	}
	resp, body := b.do("GET", site, "/fn", nil)
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.NotContains(t, body, "inside")
	require.EqualValues(t, 2, asked.Load())
	b.substrate(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	})
	for range 5 {
		resp, body := b.do("POST", site, "/fn", strings.NewReader("payload"))
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.Equal(t, "payload", body)
	}
}

func TestARouteThatIsNotReadyIsWaitedFor(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var asked atomic.Int64
	b.substrate(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) < 5 {
			w.Header().Set(wire.HeaderRefused, wire.RefusedNotReady)
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ready")
	})
	resp, body := b.do("GET", site, "/fn", nil)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "ready", body)
}

func TestANodeThatGoesLosesNoRequest(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	says := func(name string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, name) }
	}
	nodes := map[string]*testnet.Node{"one": b.substrate(says("one"))}
	nodes["other"] = b.substrate(says("other"))
	resp, serving := b.do("GET", site, "/fn", nil)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	gone := make(chan struct{})
	b.net.Forget(nodes[serving])
	for i := 0; ; i++ {
		if i == 20 { // in the middle of the requests it serves
			go func() {
				defer close(gone)
				_ = nodes[serving].NodeHost.Close()
			}()
		}
		resp, body := b.do("GET", site, "/fn", nil)
		require.Equal(t, http.StatusOK, resp.StatusCode, "request %d: %s", i, body)
		select {
		case <-gone:
			if body != serving && i > 200 {
				return
			}
		default:
		}
	}
}

func TestStreams(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"local", "remote"} {
		t.Run(where, func(t *testing.T) {
			// A user that closes its connection has closed its half, for all that is known.
			b := newBench(t, gateway.WithLimits(gateway.Limits{Grace: 2 * time.Second}))
			release, left := make(chan struct{}), make(chan struct{})
			handler := func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/site/events":
					w.Header().Set("Content-Type", "text/event-stream")
					_, _ = io.WriteString(w, "data: 1\n\n")
					_ = http.NewResponseController(w).Flush()
					<-release
					_, _ = io.WriteString(w, "data: 2\n\n")
				case "/site/cut":
					w.Header().Set("Content-Length", "100")
					_, _ = io.WriteString(w, "half")
					_ = http.NewResponseController(w).Flush()
					panic(http.ErrAbortHandler)
				case "/site/wait":
					_ = http.NewResponseController(w).Flush()
					<-r.Context().Done()
					close(left)
				case "/site/socket":
					c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
					if err != nil {
						return
					}
					defer c.CloseNow()
					kind, text, err := c.Read(r.Context())
					if err == nil {
						_ = c.Write(r.Context(), kind, append([]byte("echo "), text...))
					}
					_ = c.Close(websocket.StatusNormalClosure, "")
				default:
					_, _ = io.Copy(w, r.Body)
				}
			}
			if where == "local" {
				b.serve(b.edge, handler)
			} else {
				b.substrate(handler)
			}

			resp, err := b.client.Get("http://" + site + "/site/events")
			require.NoError(t, err)
			lines := bufio.NewReader(resp.Body)
			line, err := lines.ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, "data: 1\n", line, "it comes before the answer ends")
			close(release)
			rest, err := io.ReadAll(lines)
			require.NoError(t, err)
			require.Contains(t, string(rest), "data: 2")
			resp.Body.Close()

			resp, err = b.client.Get("http://" + site + "/site/cut")
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
			require.Error(t, err, "an answer that was cut does not look complete")

			ctx, cancel := context.WithCancel(t.Context())
			req, err := http.NewRequestWithContext(ctx, "GET", "http://"+site+"/site/wait", nil)
			require.NoError(t, err)
			resp, err = b.client.Do(req)
			require.NoError(t, err)
			cancel()
			resp.Body.Close()
			select {
			case <-left:
			case <-time.After(20 * time.Second):
				t.Fatal("the node never heard that the user left")
			}

			big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
			resp, body := b.do("POST", site, "/fn", bytes.NewReader(big))
			require.Equal(t, http.StatusOK, resp.StatusCode)
			require.True(t, body == string(big), "a body larger than any buffer")

			c, _, err := websocket.Dial(t.Context(), "ws://"+site+"/site/socket", &websocket.DialOptions{HTTPClient: b.client})
			require.NoError(t, err)
			defer c.CloseNow()
			require.NoError(t, c.Write(t.Context(), websocket.MessageText, []byte("hello")))
			_, text, err := c.Read(t.Context())
			require.NoError(t, err)
			require.Equal(t, "echo hello", string(text))
		})
	}
}

func TestTimeOuts(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"local", "remote"} {
		t.Run(where, func(t *testing.T) {
			b := newBench(t, gateway.WithTimeout(200*time.Millisecond))
			asked := make(chan string, 100) // by which try
			slow := func(_ http.ResponseWriter, r *http.Request) {
				asked <- r.URL.RawQuery
				<-r.Context().Done()
			}
			if where == "local" {
				b.serve(b.edge, slow)
			} else {
				b.substrate(slow)
				b.substrate(slow)
			}
			for try := 0; ; try++ { // a loaded machine may not reach the node in time
				require.Less(t, try, 50)
				resp, body := b.do("GET", site, fmt.Sprint("/fn?", try), nil)
				require.Equal(t, http.StatusGatewayTimeout, resp.StatusCode)
				require.Equal(t, "The site took too long to answer.\n", body)
				reached := 0
				for range len(asked) {
					if <-asked == fmt.Sprint(try) {
						reached++
					}
				}
				require.LessOrEqual(t, reached, 1, "it is not run again")
				if reached == 1 {
					break
				}
			}
		})
	}
}

func TestCloseEndsSockets(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"local", "remote"} {
		t.Run(where, func(t *testing.T) {
			b := newBench(t, gateway.WithGrace(100*time.Millisecond))
			echo := func(w http.ResponseWriter, r *http.Request) {
				c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
				if err != nil {
					return
				}
				defer c.CloseNow()
				for {
					kind, text, err := c.Read(r.Context())
					if err != nil || c.Write(r.Context(), kind, text) != nil {
						return
					}
				}
			}
			if where == "local" {
				b.serve(b.edge, echo)
			} else {
				b.substrate(echo)
			}
			c, _, err := websocket.Dial(t.Context(), "ws://"+site+"/fn", &websocket.DialOptions{HTTPClient: b.client})
			require.NoError(t, err)
			defer c.CloseNow()
			require.NoError(t, c.Write(t.Context(), websocket.MessageText, []byte("hello")))
			_, _, err = c.Read(t.Context())
			require.NoError(t, err)
			require.NoError(t, b.gateway.Close())
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			_, _, err = c.Read(ctx)
			require.Error(t, err)
			require.NoError(t, ctx.Err(), "the socket ended")
		})
	}
}

// A WebSocket of a channel is at no path of the configuration: whatever node there
// is knows the channels.
func TestChannelSockets(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.substrate(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/room") {
			http.Error(w, "no such channel", http.StatusNotFound)
			return
		}
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		_ = c.Write(r.Context(), websocket.MessageText, []byte(r.URL.Path))
		_, _, _ = c.Read(r.Context())
	})
	path := "/ws-QmayUEv6QzrPUKWG4grdz94KghMxYeENhzQdCiSmgPCgho/a/room"
	c, _, err := websocket.Dial(t.Context(), "ws://"+site+path, &websocket.DialOptions{HTTPClient: b.client})
	require.NoError(t, err)
	_, text, err := c.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, path, string(text))
	require.NoError(t, c.CloseNow())

	resp, _ := b.do("GET", site, path+"s", nil)
	require.Equal(t, http.StatusNotFound, resp.StatusCode, "the node's own word")
	resp, body := b.do("GET", "other.example.test", path, nil)
	require.Equal(t, http.StatusNotFound, resp.StatusCode)
	require.Equal(t, "There is no such site here.\n", body)
	resp, body = b.do("GET", site, "/ws-QmayUEv6Qz/a", nil)
	require.Equal(t, http.StatusNotFound, resp.StatusCode)
	require.Equal(t, "There is nothing at this address.\n", body)
}

func TestExplainOrdersTotally(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for range 3 {
		b.substrate(func(w http.ResponseWriter, r *http.Request) {})
	}
	e := explain(b.gateway, site, "/fn", "GET")
	require.True(t, e.Found)
	require.Len(t, e.Candidates, 3)
	require.Equal(t, "affinity", e.Candidates[0].Reason)
	for range 20 {
		again := explain(b.gateway, site, "/fn", "GET")
		for i := range again.Candidates {
			require.Equal(t, e.Candidates[i].Node, again.Candidates[i].Node)
		}
	}
	require.Equal(t, "no project has this host", explain(b.gateway, "x.example", "/", "GET").Status)
	routes, err := b.gateway.Routes(testnet.Reader(t.Context()))
	require.NoError(t, err)
	require.Len(t, routes, 3)
	_, err = b.gateway.Explain(testnet.Reader(t.Context()), site, "/fn", "GET")
	require.NoError(t, err)
	for what, ctx := range testnet.Outsiders(t.Context(), routes[0].Project) {
		_, err = b.gateway.Routes(ctx)
		require.ErrorIs(t, err, taubyte.ErrForbidden, what)
		_, err = b.gateway.Explain(ctx, site, "/fn", "GET")
		require.ErrorIs(t, err, taubyte.ErrForbidden, what)
	}
}

// explain asks as the program that embeds the gateway.
func explain(g *gateway.Service, host, path, method string) gateway.Explanation {
	e, err := g.Explain(context.Background(), host, path, method)
	if err != nil {
		panic(err)
	}
	return e
}

func TestHeadersAreLimited(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.substrate(func(w http.ResponseWriter, r *http.Request) {})
	resp, _ := b.do("GET", site, "/fn", nil, "X-Long", strings.Repeat("x", 1<<20))
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, resp.StatusCode)
}

func TestTLS(t *testing.T) {
	t.Parallel()
	b := newBench(t, gateway.WithTLS("127.0.0.1:0"))
	b.substrate(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("X-Forwarded-Proto"))
	})
	s, err := auth.New(t.Context(), b.edge, b.edge.Store, auth.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	defer s.Close()
	cert, key, pool := selfSigned(t)
	_, err = s.ImportCertificate(t.Context(), cert, key)
	require.NoError(t, err)
	tr := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", b.gateway.TLSAddr())
		},
	}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr, Timeout: 20 * time.Second}
	testnet.Eventually(t, func() bool {
		resp, err := client.Get("https://" + site + "/fn")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.ProtoMajor == 2 && string(body) == "https"
	}, "served over TLS and HTTP/2 by the certificate that was imported")
}

// A gateway serves a certificate of a file that is there when it starts.
func TestTLSByFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key, pool := selfSigned(t)
	file := auth.CertificateFile{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	require.NoError(t, os.WriteFile(file.Cert, []byte(cert), 0o600))
	require.NoError(t, os.WriteFile(file.Key, []byte(key), 0o600))
	b := newBench(t, gateway.WithTLS("127.0.0.1:0"), gateway.WithCertificateFiles(file))
	testnet.Eventually(t, func() bool {
		conn, err := tls.Dial("tcp", b.gateway.TLSAddr(), &tls.Config{ServerName: site, RootCAs: pool})
		return err == nil && conn.Close() == nil
	}, "served")
	node := b.net.Node()
	for _, opts := range [][]gateway.Option{
		{gateway.WithCertificateFiles(file)},
		{gateway.WithTLS("127.0.0.1:0"), gateway.WithCertificateFiles(auth.CertificateFile{Cert: file.Cert, Key: file.Cert})},
	} {
		_, err := gateway.New(t.Context(), node, node.Store, opts...)
		require.ErrorIs(t, err, taubyte.ErrInvalid)
	}
}

func selfSigned(t *testing.T) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{site}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	require.NoError(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	require.NoError(t, err)
	cert = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
	pool = x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM([]byte(cert)))
	return cert, key, pool
}
