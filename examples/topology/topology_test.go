package topology_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/cloud"
	"github.com/taubyte/taubyte/dev"
	"github.com/taubyte/taubyte/examples/topology"
	"github.com/taubyte/taubyte/internal/testnet"
)

// get asks the edge for a path of the project's host.
func get(t *testing.T, client *http.Client, edge *cloud.Node, path string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, edge.URL()+path, nil)
	require.NoError(t, err)
	req.Host = "hello.localhost"
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(text)
}

func TestAPushToControlIsServedByEdge(t *testing.T) {
	testnet.CompilesGuests(t)
	testnet.CheckLeaks(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	authority, err := taubyte.NewAuthority()
	require.NoError(t, err)
	dir := t.TempDir()
	log := cloud.WithLogger(testnet.Logger(t))
	c, err := topology.Open(ctx, dir, authority, log)
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()

	client := &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	serves := func(path, want string) {
		t.Helper()
		testnet.Eventually(t, func() bool {
			status, body := get(t, client, c.Edge, path)
			return status == http.StatusOK && strings.Contains(body, want)
		}, "%s says %q", path, want)
	}

	// Push the example's folder to control: the first push makes the project.
	project := filepath.Join(dir, "project")
	require.NoError(t, os.CopyFS(project, os.DirFS(filepath.Join("..", "hello"))))
	folder, err := dev.Open(ctx, project, filepath.Join(dir, "state"), c.Control.Remote("hello"))
	require.NoError(t, err)
	require.NoError(t, c.Control.CreateRepository(ctx, "hello"))
	_, pushed, err := folder.Push(ctx)
	require.NoError(t, err)
	require.True(t, pushed)
	serves("/ping", "PONG")
	serves("/", "<h1>Hello</h1>")

	// Each node stops and comes back, while the others go on.
	require.NoError(t, c.Control.Close())
	for range 5 {
		status, body := get(t, client, c.Edge, "/ping")
		require.Equal(t, http.StatusOK, status, "control is not asked for a request: %s", body)
	}
	require.NoError(t, c.Build.Close())
	require.NoError(t, c.Edge.Close())
	c, err = topology.Open(ctx, dir, authority, log)
	require.NoError(t, err)
	serves("/ping", "PONG")

	page := filepath.Join(project, "websites", "site", "index.html")
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(page, []byte(strings.ReplaceAll(string(text), "<h1>Hello", "<h1>Again")), 0o600))
	folder, err = dev.Open(ctx, project, filepath.Join(dir, "state"), c.Control.Remote("hello"))
	require.NoError(t, err)
	_, _, err = folder.Push(ctx)
	require.NoError(t, err)
	serves("/", "<h1>Again</h1>")
}
