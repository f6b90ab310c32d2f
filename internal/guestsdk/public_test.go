package guestsdk_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/guestsdk"
)

// Code for the public go-sdk is built by stock Go: in the workspace as it is, and
// without by the replacement that the guest module documents.
func TestPublicSDK(t *testing.T) {
	source := filepath.Join("testdata", "public")
	gowork, err := guestsdk.Workspace(t.TempDir(), source, "")
	require.NoError(t, err)

	replaced := t.TempDir()
	require.NoError(t, os.CopyFS(replaced, os.DirFS(source)))
	symbols, err := filepath.Abs(filepath.Join("..", "..", "substrate", "guest", "go-sdk-symbols"))
	require.NoError(t, err)
	gomod, err := os.ReadFile(filepath.Join(replaced, "go.mod"))
	require.NoError(t, err)
	gomod = append(gomod, "\nreplace github.com/taubyte/go-sdk-symbols => "+symbols+"\n"...)
	require.NoError(t, os.WriteFile(filepath.Join(replaced, "go.mod"), gomod, 0o644))

	for dir, work := range map[string]string{source: gowork, replaced: "off"} {
		out := filepath.Join(t.TempDir(), "out.wasm")
		cmd := exec.Command("go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", out, ".")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOWORK="+work, "GOFLAGS=", "GOTOOLCHAIN=local")
		if text, err := cmd.CombinedOutput(); err != nil {
			for _, unreachable := range []string{"dial tcp", "no such host", "module lookup disabled", "connection refused", "i/o timeout", "proxyconnect"} {
				if strings.Contains(string(text), unreachable) {
					t.Skipf("github.com/taubyte/go-sdk v0.3.9 is not in the module cache and can't be fetched: %s", text)
				}
			}
			require.NoError(t, err, "%s", text)
		}
		module, err := os.ReadFile(out)
		require.NoError(t, err)
		h := newHost(t)
		h.databases()
		h.contents()
		h.others()
		h.functions["fifoIsCloser"] = func(c *call) uint32 { skip(c, 1); c.putU32(1); return 0 }
		h.request.body = "the end"
		guest := h.start(t, module)
		result, err := guest.ExportedFunction("hello").Call(context.Background(), 0)
		require.NoError(t, err)
		require.Zero(t, result[0])
		require.Equal(t, "the end", h.response.body.String())
		require.Equal(t, []string{"X-Rest: end"}, h.response.headers)
	}
}
