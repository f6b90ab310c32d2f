package gateway_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/gateway"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/substrate/wire"
)

// besideAndApart runs a test against a gateway whose substrate node is on its host, and
// against one whose node is another: what a user sees is the same.
func besideAndApart(t *testing.T, h http.HandlerFunc, test func(*testing.T, *bench), opts ...gateway.Option) {
	for _, where := range []string{"beside", "apart"} {
		t.Run(where, func(t *testing.T) {
			b := newBench(t, opts...)
			if where == "beside" {
				b.serve(b.edge, h)
				testnet.Eventually(t, func() bool { return len(explain(b.gateway, site, "/fn", "GET").Candidates) == 1 }, "the gateway knows its node")
			} else {
				b.substrate(h)
			}
			test(t, b)
		})
	}
}

// dial connects to the gateway and sends bytes.
func (b *bench) dial(t *testing.T, data string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", b.gateway.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(30*time.Second)))
	_, err = io.WriteString(c, data)
	require.NoError(t, err)
	return c.(*net.TCPConn)
}

// exchange sends bytes and returns the response with its content; err is what broke it off.
func (b *bench) exchange(t *testing.T, method, data string) (resp *http.Response, body string, err error) {
	t.Helper()
	resp, err = http.ReadResponse(bufio.NewReader(b.dial(t, data)), &http.Request{Method: method})
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp, string(text), err
}

func TestAnOfferThatIsNotTakenKeepsTheBody(t *testing.T) {
	t.Parallel()
	besideAndApart(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%d %v %q %q %q", len(body), err, r.Header["Upgrade"], r.Header["Connection"], r.Header["Http2-Settings"])
	}, func(t *testing.T, b *bench) {
		for _, offer := range []string{
			"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
			"Connection: upgrade\r\nUpgrade: websocket\r\n", // a WebSocket begins with GET
			"Connection: Upgrade\r\nUpgrade: TLS/1.0, foo/2\r\n",
			"Upgrade: h2c\r\n",
			"Connection: Upgrade\r\n",
		} {
			for _, n := range []int{0, 1, 11, 32768, 32769, 200_000} {
				resp, body, err := b.exchange(t, "POST", "POST /fn HTTP/1.1\r\nHost: "+site+"\r\n"+offer+"Content-Length: "+strconv.Itoa(n)+"\r\n\r\n"+strings.Repeat("b", n))
				require.NoError(t, err)
				require.Equal(t, http.StatusOK, resp.StatusCode)
				require.Equal(t, strconv.Itoa(n)+" <nil> [] [] []", body, offer)
			}
			_, body, err := b.exchange(t, "POST", "POST /fn HTTP/1.1\r\nHost: "+site+"\r\n"+offer+"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
			require.NoError(t, err)
			require.Equal(t, "5 <nil> [] [] []", body, offer)
		}
		// An offer in HTTP/1.0 is none, and one that a function does not take leaves its body alone.
		_, body, err := b.exchange(t, "GET", "GET /fn HTTP/1.0\r\nHost: "+site+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nhi")
		require.NoError(t, err)
		require.Equal(t, "2 <nil> [] [] []", body)
		_, body, err = b.exchange(t, "GET", "GET /fn HTTP/1.1\r\nHost: "+site+"\r\nConnection: Upgrade\r\nUpgrade: h2c, websocket\r\nContent-Length: 2\r\n\r\nhi")
		require.NoError(t, err)
		require.Equal(t, `2 <nil> ["websocket"] ["Upgrade"] []`, body)
	})
}

func TestAClientMayCloseItsHalf(t *testing.T) {
	t.Parallel()
	large := bytes.Repeat([]byte("0123456789abcdef"), 3<<16)
	besideAndApart(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.URL.RawQuery {
		case "large":
			_, _ = w.Write(large)
		case "slow":
			select {
			case <-time.After(300 * time.Millisecond):
				_, _ = io.WriteString(w, "in the end")
			case <-r.Context().Done():
				_, _ = io.WriteString(w, "given up")
			}
		case "stream":
			for i := range 3 {
				fmt.Fprintf(w, "%d ", i)
				_ = http.NewResponseController(w).Flush()
				time.Sleep(50 * time.Millisecond)
			}
		default:
			_, _ = w.Write(body)
		}
	}, func(t *testing.T, b *bench) {
		for _, c := range []struct{ request, want string }{
			{"POST /fn HTTP/1.1\r\nHost: %s\r\nContent-Length: 2\r\n\r\nhi", "hi"},
			{"POST /fn HTTP/1.1\r\nHost: %s\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", "hi"},
			{"GET /fn?slow HTTP/1.1\r\nHost: %s\r\n\r\n", "in the end"},
			{"GET /fn?stream HTTP/1.1\r\nHost: %s\r\n\r\n", "0 1 2 "},
			{"GET /fn?large HTTP/1.1\r\nHost: %s\r\n\r\n", string(large)},
			{"GET /fn?slow HTTP/1.0\r\nHost: %s\r\n\r\n", "in the end"},
		} {
			conn := b.dial(t, fmt.Sprintf(c.request, site))
			require.NoError(t, conn.CloseWrite())
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err, c.request)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, resp.StatusCode)
			require.True(t, c.want == string(body), "%s: %d bytes", c.request, len(body))
			_ = conn.Close()
		}
		// Half a request is no request.
		conn := b.dial(t, "POST /fn HTTP/1.1\r\nHost: "+site+"\r\nContent-Length: 20\r\n\r\nhi")
		require.NoError(t, conn.CloseWrite())
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusBadRequest, resp.StatusCode)
	})
}

func TestABrokenExchangeNeverLooksWhole(t *testing.T) {
	t.Parallel()
	arrived, gone := make(chan struct{}, 8), make(chan struct{}, 8)
	besideAndApart(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.RawQuery {
		case "before":
			panic(http.ErrAbortHandler)
		case "bug":
			panic("a bug")
		case "behind":
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "wait":
			arrived <- struct{}{}
			<-r.Context().Done()
			gone <- struct{}{}
		case "body":
			_, err := io.ReadAll(r.Body)
			fmt.Fprintf(w, "read: %v", err)
		}
	}, func(t *testing.T, b *bench) {
		for _, why := range []string{"before", "bug"} {
			resp, body, err := b.exchange(t, "POST", "POST /fn?"+why+" HTTP/1.1\r\nHost: "+site+"\r\nContent-Length: 0\r\n\r\n")
			require.NoError(t, err)
			require.Equal(t, http.StatusBadGateway, resp.StatusCode, why)
			require.Equal(t, "The site did not answer properly.\n", body)
		}
		_, _, err := b.exchange(t, "GET", "GET /fn?behind HTTP/1.1\r\nHost: "+site+"\r\n\r\n")
		require.Error(t, err)
		// There the end of the connection is the end of the answer: it is reset.
		_, _, err = b.exchange(t, "GET", "GET /fn?behind HTTP/1.0\r\nHost: "+site+"\r\n\r\n")
		require.Error(t, err)

		conn := b.dial(t, "GET /fn?wait HTTP/1.1\r\nHost: "+site+"\r\n\r\n")
		// The gateway counts a request in flight before the node has it: one that is taken back in between never gets there.
		select {
		case <-arrived:
		case <-time.After(20 * time.Second):
			t.Fatal("the node never got the request")
		}
		require.EqualValues(t, 1, explain(b.gateway, site, "/fn", "GET").Candidates[0].InFlight)
		require.NoError(t, conn.SetLinger(0))
		require.NoError(t, conn.Close()) // a reset: nobody is there
		select {
		case <-gone:
		case <-time.After(20 * time.Second):
			t.Fatal("the node never heard that the user is gone")
		}

		before := explain(b.gateway, site, "/fn", "POST").Candidates[0]
		for range 8 {
			for _, broken := range []string{"5\r\nhello\r\nZZZ\r\n", "5\r\nhelloworld\r\n", "-1\r\n"} {
				resp, _, err := b.exchange(t, "POST", "POST /fn?body HTTP/1.1\r\nHost: "+site+"\r\nTransfer-Encoding: chunked\r\n\r\n"+broken)
				require.NoError(t, err)
				require.Equal(t, http.StatusBadRequest, resp.StatusCode, broken)
			}
		}
		after := explain(b.gateway, site, "/fn", "POST").Candidates[0]
		require.Equal(t, before.Ejected, after.Ejected, "a user's fault is not the node's")
	})
}

func TestHeadersAndTrailersPass(t *testing.T) {
	t.Parallel()
	besideAndApart(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		h := w.Header()
		h["X-Seen"] = []string{fmt.Sprintf("agent %q via %q close %q te %q", r.Header["User-Agent"], r.Header["Via"], r.Header["Connection"], r.Header["Te"])}
		h["X-Trailers"] = []string{fmt.Sprintf("%v %q", len(r.Trailer), r.Trailer.Get("X-Sum"))}
		switch r.URL.RawQuery {
		case "426":
			h.Set("Upgrade", "websocket")
			h.Set("Connection", "Upgrade")
			w.WriteHeader(http.StatusUpgradeRequired)
			return
		case "early":
			h.Set("Link", "</a.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			h.Del("Link")
		case "untyped":
			h["Content-Type"] = nil
		case "named":
			h.Set("Connection", "X-Inner")
			h.Set("X-Inner", "1")
		}
		h.Set("Trailer", "X-Count")
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, "<html>content")
		_ = http.NewResponseController(w).Flush()
		h.Set("X-Count", "13")
		h.Set(http.TrailerPrefix+"X-More", "yes")
		h.Set(http.TrailerPrefix+"Taubyte-Inside", "secret")
	}, func(t *testing.T, b *bench) {
		get := func(query, header string) *http.Response {
			resp, _, err := b.exchange(t, "GET", "GET /fn?"+query+" HTTP/1.1\r\nHost: "+site+"\r\n"+header+"\r\n")
			require.NoError(t, err)
			return resp
		}
		resp := get("", "TE: trailers\r\nConnection: TE\r\n")
		require.Equal(t, `agent [] via ["1.1 taubyte"] close [] te []`, resp.Header.Get("X-Seen"))
		require.Equal(t, "13", resp.Trailer.Get("X-Count"))
		require.Equal(t, "yes", resp.Trailer.Get("X-More"))
		require.Empty(t, resp.Trailer.Get("Taubyte-Inside"))
		require.Empty(t, resp.Header.Get("X-Count"))

		resp = get("", "User-Agent: x/1\r\nVia: 1.0 fred, 1.1 p.example\r\nConnection: close\r\n")
		require.Equal(t, `agent ["x/1"] via ["1.0 fred, 1.1 p.example, 1.1 taubyte"] close [] te []`, resp.Header.Get("X-Seen"))
		resp, _, err := b.exchange(t, "GET", "GET /fn HTTP/1.0\r\nHost: "+site+"\r\nUser-Agent:\r\n\r\n")
		require.NoError(t, err)
		require.Contains(t, resp.Header.Get("X-Seen"), `via ["1.0 taubyte"]`)

		resp = get("426", "")
		require.Equal(t, http.StatusUpgradeRequired, resp.StatusCode)
		require.Equal(t, "websocket", resp.Header.Get("Upgrade"))
		require.Equal(t, "Upgrade", resp.Header.Get("Connection"))
		text, err := io.ReadAll(b.dial(t, "GET /fn?426 HTTP/1.1\r\nHost: "+site+"\r\nConnection: close\r\n\r\n"))
		require.NoError(t, err)
		require.Contains(t, string(text), "\r\nConnection: Upgrade, close\r\n")

		resp = get("named", "")
		require.Empty(t, resp.Header.Get("X-Inner"))
		require.NotContains(t, get("untyped", "").Header, "Content-Type")
		require.Equal(t, "text/html; charset=utf-8", get("", "").Header.Get("Content-Type"))

		r := bufio.NewReader(b.dial(t, "GET /fn?early HTTP/1.1\r\nHost: "+site+"\r\n\r\n"))
		early, err := http.ReadResponse(r, nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusEarlyHints, early.StatusCode)
		require.Equal(t, "</a.css>; rel=preload", early.Header.Get("Link"))
		final, err := http.ReadResponse(r, nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, final.StatusCode)
		require.Empty(t, final.Header.Get("Link"))

		resp, _, err = b.exchange(t, "POST", "POST /fn HTTP/1.1\r\nHost: "+site+"\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-Forwarded-For\r\n\r\n"+
			"2\r\nhi\r\n0\r\nX-Sum: 7\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n")
		require.NoError(t, err)
		require.Equal(t, `1 "7"`, resp.Header.Get("X-Trailers"))
	})
}

// A site sees the same request beside its gateway and apart from it.
func TestARequestIsTheSameEverywhere(t *testing.T) {
	t.Parallel()
	var seen []string
	besideAndApart(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h := r.Header.Clone()
		for _, name := range []string{wire.HeaderClient, wire.HeaderRequest} {
			h.Del(name) // of this one
		}
		fmt.Fprintf(w, "%s %s %s %d %q %v", r.Method, r.Host, r.RequestURI, r.ContentLength, body, h)
	}, func(t *testing.T, b *bench) {
		var all strings.Builder
		for _, request := range []string{
			"GET /fn HTTP/1.1\r\nHost: " + site + "\r\n\r\n",
			"GET /fn? HTTP/1.1\r\nHost: " + site + "\r\nContent-Length: 0\r\nAccept-Encoding: gzip\r\nX-Empty:\r\nX-Two: 1\r\nX-Two: 2\r\n\r\n",
			"GET http://" + site + "/fn?a=%zz&b=\xe9 HTTP/1.1\r\nHost: other\r\nCookie: a=1; b=2\r\nReferer: \xe9\r\n\r\n",
			"POST /fn HTTP/1.1\r\nHost: " + site + "\r\nConnection: close\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n\r\n",
			"POST /fn HTTP/1.1\r\nHost: " + site + ":80\r\nContent-Length: 002\r\nExpect: 100-continue\r\n\r\nhi",
			"POST /fn HTTP/1.1\r\nHost: " + strings.ToUpper(site) + "\r\nTransfer-Encoding: chunked\r\n\r\n2;ext=1\r\nhi\r\n0\r\n\r\n",
			"GET /site//a/%7Eb/%2e/x%20y?q=1#f HTTP/1.1\r\nHost: " + site + "\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Port: 1\r\nX-Real-IP: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\n\r\n",
		} {
			conn := b.dial(t, request)
			r := bufio.NewReader(conn)
			resp, err := http.ReadResponse(r, nil)
			require.NoError(t, err, request)
			for resp.StatusCode == http.StatusContinue {
				resp, err = http.ReadResponse(r, nil)
				require.NoError(t, err, request)
			}
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			fmt.Fprintf(&all, "%d %s\n", resp.StatusCode, body)
			_ = conn.Close()
		}
		require.NotContains(t, all.String(), "1.2.3.4")
		seen = append(seen, all.String())
	})
	require.Equal(t, seen[0], seen[1])
	t.Log(seen[0])
}

func TestASlashThatIsDataSeparatesNothing(t *testing.T) {
	t.Parallel()
	besideAndApart(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RequestURI) }, func(t *testing.T, b *bench) {
		resp, body := b.do("GET", site, "/site/a%2Fb?", nil)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.Equal(t, "/site/a%2Fb?", body)
		resp, _ = b.do("GET", site, "/site%2Fa", nil)
		require.Equal(t, http.StatusNotFound, resp.StatusCode)
	})
}

// A socket beside its gateway keeps its place until it is closed, also where the node's
// handler has returned long before.
func TestSocketsKeepTheirPlaces(t *testing.T) {
	t.Parallel()
	sockets := make(chan *websocket.Conn, 8)
	besideAndApart(t, func(w http.ResponseWriter, r *http.Request) {
		if c, err := websocket.Accept(w, r, nil); err == nil {
			sockets <- c
		}
	}, func(t *testing.T, b *bench) {
		open := func() (*websocket.Conn, int) {
			c, resp, err := websocket.Dial(t.Context(), "ws://"+site+"/fn", &websocket.DialOptions{HTTPClient: b.client})
			if err != nil {
				require.NotNil(t, resp)
				return nil, resp.StatusCode
			}
			return c, resp.StatusCode
		}
		c, status := open()
		require.Equal(t, http.StatusSwitchingProtocols, status)
		_, status = open()
		require.Equal(t, http.StatusTooManyRequests, status, "one client may have one of two")
		require.NoError(t, (<-sockets).CloseNow())
		_ = c.CloseNow()
		testnet.Eventually(t, func() bool {
			c, status := open()
			if c != nil {
				require.NoError(t, (<-sockets).CloseNow())
				_ = c.CloseNow()
			}
			return status == http.StatusSwitchingProtocols
		}, "the place is free again")
	}, gateway.WithLimits(gateway.Limits{Sockets: 2}))
}

func TestARouteThatNeverGetsReadyIsAskedForSeldom(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var asked atomic.Int64
	for range 3 {
		b.substrate(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			w.Header().Set(wire.HeaderRefused, wire.RefusedNotReady)
			w.WriteHeader(http.StatusServiceUnavailable)
		})
	}
	began := time.Now()
	resp, _ := b.do("GET", site, "/fn", nil)
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.Equal(t, "1", resp.Header.Get("Retry-After"))
	t.Logf("%d requests to nodes in %s", asked.Load(), time.Since(began))
	require.LessOrEqual(t, asked.Load(), int64(30))
}

// A node that answers only 5xx, or only that it is busy, is left out; the users of the
// others do not feel it.
func TestANodeThatServesNothingWellIsLeftOut(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"500", "busy"} {
		t.Run(kind, func(t *testing.T) {
			b := newBench(t)
			var bad, good atomic.Int64
			first := ""
			handler := func(id *string) http.HandlerFunc {
				return func(w http.ResponseWriter, _ *http.Request) {
					if *id != first {
						good.Add(1)
						return
					}
					bad.Add(1)
					if kind == "busy" {
						w.Header().Set(wire.HeaderRefused, wire.RefusedBusy)
					}
					w.WriteHeader(http.StatusServiceUnavailable)
				}
			}
			for range 3 {
				id := new(string)
				*id = b.substrate(handler(id)).ID().String()
			}
			first = explain(b.gateway, site, "/fn", "GET").Candidates[0].Node.String()
			failed := 0
			for range 200 {
				if resp, _ := b.do("GET", site, "/fn", nil); resp.StatusCode != http.StatusOK {
					failed++
				}
			}
			t.Logf("of 200 requests %d failed; %d reached the bad node, %d the others", failed, bad.Load(), good.Load())
			require.Less(t, bad.Load(), int64(30))
			for _, c := range explain(b.gateway, site, "/fn", "GET").Candidates {
				require.Equal(t, c.Node.String() == first, c.Ejected)
			}
		})
	}
}
