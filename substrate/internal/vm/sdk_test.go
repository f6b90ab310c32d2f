package vm_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/substrate/internal/egress"
	"github.com/taubyte/taubyte/substrate/internal/vm"
)

// A function written with the SDK for stock Go is an http.Handler.
func TestGuestSDK(t *testing.T) {
	network := egress.Policy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}.Network(nil)
	e := engine(t, compiled(t))
	t.Cleanup(network.Close)
	f := stockGo(t, e, "handler", "handle", false, func(s *vm.Spec) { s.Self.Network = network })
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _ = f.ServeHTTP(w, r) }))
	defer s.Close()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat("far", 50_000)) }))
	defer other.Close()

	do := func(method, path, body string) (int, string, http.Header) {
		r, err := http.NewRequest(method, s.URL+path, strings.NewReader(body))
		require.NoError(t, err)
		r.Host = "shop.example.test"
		r.Header.Set("X-Word", "mellon")
		resp, err := s.Client().Do(r)
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(text), resp.Header
	}
	for range 3 {
		status, text, header := do("POST", "/a%20b", "hello")
		require.Equal(t, 201, status)
		require.Equal(t, `POST shop.example.test /a b "hello" for P`, text)
		require.Equal(t, "mellon", header.Get("X-Word"))
	}
	status, text, _ := do("GET", "/?fetch="+url.QueryEscape(other.URL), "")
	require.Equal(t, 200, status)
	require.Equal(t, 150_000, len(text))
	status, text, _ = do("GET", "/?fetch="+url.QueryEscape("http://10.0.0.1/"), "")
	require.Equal(t, 502, status, text)

	status, _, _ = do("GET", "/panic", "")
	require.Equal(t, 500, status)
	// Who panics after a write leaves no response that looks whole.
	for query, sent := range map[string]bool{"n=7": false, "n=16000": false, "n=20000": true, "n=7&flush": true, "n=0&flush": true} {
		resp, err := s.Client().Get(s.URL + "/late?" + query)
		if err == nil {
			_, broken := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			require.Equal(t, sent, broken != nil, query)
			require.Equal(t, sent, resp.StatusCode == 200, query)
			require.Equal(t, sent, resp.StatusCode != 500, query)
		} else {
			require.True(t, sent, "%s: %v", query, err)
		}
	}
	status, _, _ = do("POST", "/", "again")
	require.Equal(t, 201, status)
	idle, work := f.Warm()
	require.LessOrEqual(t, idle, 1)
	require.Zero(t, work)
}
