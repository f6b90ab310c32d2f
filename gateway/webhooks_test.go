package gateway_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/gateway"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/tns"
)

func TestWebhooksAreTakenOnEveryHost(t *testing.T) {
	net := testnet.New(t)
	node := net.Node()
	registry, err := tns.New(t.Context(), node, node.Store, tns.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, registry.Close()) })
	for _, opts := range [][]gateway.Option{nil, {gateway.WithWebhooks(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(r.URL.Path))
	}))}} {
		g, err := gateway.New(t.Context(), node, node.Store, append(opts, gateway.WithLogger(testnet.Logger(t)))...)
		require.NoError(t, err)
		for _, host := range []string{"192.0.2.1", "shop.example:8080"} {
			for path, taken := range map[string]bool{"/.well-known/taubyte/webhooks/github/1": true, "/.well-known/taubyte/": false, "/": false} {
				w := httptest.NewRecorder()
				g.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "http://"+host+path, nil))
				if taken && opts != nil {
					require.Equal(t, path, w.Body.String())
				} else {
					require.Equal(t, http.StatusNotFound, w.Code)
				}
			}
		}
		require.NoError(t, g.Close())
	}
}
