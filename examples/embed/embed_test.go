package main_test

import (
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/testbin"
)

func TestEmbeddedCloudServes(t *testing.T) {
	p := testbin.Start(t, nil, testbin.Build(t, "."), "-data", filepath.Join(t.TempDir(), "data"), filepath.Join("..", "hello"))
	route, err := url.Parse(p.Line())
	require.NoError(t, err)
	require.Equal(t, "hello.localhost", route.Hostname())

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:"+route.Port()+route.Path, nil)
	require.NoError(t, err)
	req.Host = route.Host
	client := &http.Client{Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "PONG", string(body))
	require.NoError(t, p.Interrupt())
}
