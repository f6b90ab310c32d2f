package guestsdk_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/guestsdk"
	"github.com/taubyte/taubyte/internal/guestsdk/archive"
)

// The embedded text is what go generate would write now.
func TestEmbeddedSourceIsCurrent(t *testing.T) {
	files, err := archive.Collect(os.DirFS(filepath.Join("..", "..", "substrate", "guest")))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	dir := t.TempDir()
	require.NoError(t, guestsdk.Extract(dir))
	for _, f := range files {
		got, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(f.Name)))
		require.NoError(t, err, "run go generate in internal/guestsdk")
		require.Equal(t, string(f.Data), string(got), "%s: run go generate in internal/guestsdk", f.Name)
	}
	extracted, err := archive.Collect(os.DirFS(dir))
	require.NoError(t, err)
	require.Len(t, extracted, len(files), "run go generate in internal/guestsdk")
}

// build compiles the function in dir as a node does: with the workspace, without
// network.
func build(t *testing.T, cache, dir string) ([]byte, error) {
	t.Helper()
	gowork, err := guestsdk.Workspace(cache, dir, "")
	require.NoError(t, err)
	out := filepath.Join(t.TempDir(), "out.wasm")
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", out, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOWORK="+gowork, "GOFLAGS=", "GOPROXY=off", "GOTOOLCHAIN=local")
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Logf("%s", text)
		return nil, err
	}
	return os.ReadFile(out)
}

// A function's folder is one for go vet and go test on the developer's machine.
func TestFunctionOnTheDevelopersMachine(t *testing.T) {
	dir := filepath.Join("testdata", "hello")
	gowork, err := guestsdk.Workspace(t.TempDir(), dir, "")
	require.NoError(t, err)
	cmd := exec.Command("go", "test", "-vet=all", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK="+gowork, "GOFLAGS=", "GOPROXY=off", "GOTOOLCHAIN=local")
	text, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", text)
}

func TestFunctionOfTwoLines(t *testing.T) {
	cache := t.TempDir()
	module, err := build(t, cache, filepath.Join("testdata", "hello"))
	require.NoError(t, err)
	require.Less(t, len(module), 2<<20)

	h := newHost(t)
	guest := h.start(t, module)
	h.request = request{method: "POST", path: "/a b", query: map[string]string{"name": "x"}, header: map[string]string{"user-agent": "test"}, body: strings.Repeat("y", 100_000)}
	_, err = guest.ExportedFunction("hello").Call(context.Background(), 7)
	require.NoError(t, err)
	require.Equal(t, 201, h.response.status)
	require.Equal(t, []string{"X-Path: POST /a b test"}, h.response.headers)
	require.Equal(t, "hello, x: "+h.request.body, h.response.body.String())

	h.request, h.response = request{method: "GET"}, response{}
	_, err = guest.ExportedFunction("hello").Call(context.Background(), 8)
	require.NoError(t, err)
	require.Equal(t, 400, h.response.status)
	require.Equal(t, "no name\n", h.response.body.String())

	// The function's folder is as it was, and all is found again.
	entries, err := os.ReadDir(filepath.Join("testdata", "hello"))
	require.NoError(t, err)
	require.Len(t, entries, 3)
	before, err := os.ReadDir(cache)
	require.NoError(t, err)
	_, err = guestsdk.Workspace(cache, filepath.Join("testdata", "hello"), "")
	require.NoError(t, err)
	after, err := os.ReadDir(cache)
	require.NoError(t, err)
	require.Equal(t, len(before), len(after))
}

// A function with requirements of its own, one of them replaced.
func TestFunctionWithRequires(t *testing.T) {
	version, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", "github.com/mr-tron/base58").Output()
	require.NoError(t, err)
	sums, err := os.ReadFile(filepath.Join("..", "..", "go.sum"))
	require.NoError(t, err)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"lib/go.mod": "module example.com/lib\n\ngo 1.20\n",
		"lib/lib.go": "package lib\n\nconst Text = \"hello\"\n",
		"f/go.sum":   string(sums),
		"f/go.mod": "module example.com/requires\n\ngo 1.25.0\n\nrequire (\n\texample.com/lib v1.0.0\n\tgithub.com/mr-tron/base58 " +
			strings.TrimSpace(string(version)) + "\n)\n\nreplace example.com/lib => ../lib\n",
		"f/main.go": `package main

import (
	"github.com/mr-tron/base58"

	"example.com/lib"
	"github.com/taubyte/taubyte/substrate/guest/event"
)

func main() {}

//go:wasmexport hello
func hello(e uint32) uint32 {
	event.HTTP(e).WriteString(base58.Encode([]byte(lib.Text)))
	return 0
}
`,
	} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	module, err := build(t, t.TempDir(), filepath.Join(dir, "f"))
	require.NoError(t, err)
	h := newHost(t)
	guest := h.start(t, module)
	_, err = guest.ExportedFunction("hello").Call(context.Background(), 0)
	require.NoError(t, err)
	require.Equal(t, "Cn8eVZg", h.response.body.String())
}

func TestWorkspace(t *testing.T) {
	function := t.TempDir()
	cache := filepath.Join(t.TempDir(), "a folder with a space")
	_, err := guestsdk.Workspace(cache, function, "")
	require.ErrorIs(t, err, os.ErrNotExist)

	gomod := filepath.Join(function, "go.mod")
	for _, c := range []struct{ gomod, goVersion, want string }{
		{"module m\n", "", "go 1.24\n"},
		{"module m\n\ngo 1.18\n", "", "go 1.24\n"},
		{"module m\n\ngo 1.18\n", "1.26", "go 1.26\n"},
		{"module m\n\ngo 1.26.3 // why\n", "1.26", "go 1.26.3\n"},
		{"module m\n\ngo 1.25\n", "nonsense", "go 1.25\n"},
	} {
		require.NoError(t, os.WriteFile(gomod, []byte(c.gomod), 0o644))
		gowork, err := guestsdk.Workspace(cache, function, c.goVersion)
		require.NoError(t, err)
		text, err := os.ReadFile(gowork)
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(string(text), c.want), "%s", text)
		cmd := exec.Command("go", "list", "-m")
		cmd.Dir = function
		cmd.Env = append(os.Environ(), "GOWORK="+gowork, "GOFLAGS=", "GOPROXY=off", "GOTOOLCHAIN=local")
		list, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", list)
		require.Contains(t, string(list), "m\n")
		require.Contains(t, string(list), "substrate/guest\n")
	}

	require.NoError(t, os.Mkdir(filepath.Join(function, "vendor"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(function, "vendor", "modules.txt"), nil, 0o644))
	gowork, err := guestsdk.Workspace(cache, function, "")
	require.NoError(t, err)
	require.Equal(t, "off", gowork)
}

// Many builds begin at once on an empty cache.
func TestWorkspaceAtOnce(t *testing.T) {
	cache := filepath.Join(t.TempDir(), "cache")
	functions := []string{t.TempDir(), t.TempDir()}
	for _, f := range functions {
		require.NoError(t, os.WriteFile(filepath.Join(f, "go.mod"), []byte("module m\n"), 0o644))
	}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			gowork, err := guestsdk.Workspace(cache, functions[i%2], "")
			if assert.NoError(t, err) {
				assert.FileExists(t, gowork)
			}
		})
	}
	wg.Wait()
	entries, err := os.ReadDir(cache)
	require.NoError(t, err)
	require.Len(t, entries, 3, "the SDK and two workspaces, nothing temporary: %v", entries)
}

func TestArchive(t *testing.T) {
	files := []archive.File{{Name: "a.go", Data: []byte("package a\n\n// -- no header\n")}, {Name: "b/c.go", Data: []byte("package b\n")}}
	text, err := archive.Format(files)
	require.NoError(t, err)
	got, err := archive.Parse(text)
	require.NoError(t, err)
	require.Equal(t, files, got)
	for _, bad := range []string{"no end", "-- x\n", "a\n-- x --\n"} {
		_, err := archive.Format([]archive.File{{Name: "a", Data: []byte(bad)}})
		require.Error(t, err, bad)
	}
	for _, bad := range []string{"x", "-- ../up --\n", "-- /root --\n", "--  --\n"} {
		_, err := archive.Parse([]byte(bad))
		require.Error(t, err, bad)
	}
}

// A function that is an http.Handler.
func TestHandler(t *testing.T) {
	module, err := build(t, t.TempDir(), filepath.Join("testdata", "handler"))
	require.NoError(t, err)
	h := newHost(t)
	guest := h.start(t, module)
	for _, c := range []struct {
		request request
		result  uint64
		status  int
		body    string
	}{
		{request{method: "POST", path: "/notes/7", query: map[string]string{"q": "a b"}, header: map[string]string{"user-agent": "test"}, body: "in"}, 0, 201, "7 a b in <nil>"},
		{request{method: "GET", path: "/notes/7"}, 0, 405, "Method Not Allowed\n"},
		{request{method: "GET", path: "/items/a/7", header: map[string]string{":pattern": "/items/{kind}/{id}", ":path/id": "7", ":path/kind": "a"}}, 0, 200, "7 of a"},
		{request{method: "GET", path: "/other"}, 0, 404, "404 page not found\n"},
		{request{method: "GET", path: "/panic"}, 1, 500, "Internal Server Error\n"},
	} {
		h.request, h.response = c.request, response{}
		result, err := guest.ExportedFunction("serve").Call(context.Background(), 0)
		require.NoError(t, err)
		require.Equal(t, c.result, result[0], c.request.path)
		require.Equal(t, c.status, h.response.status, c.request.path)
		require.Equal(t, c.body, h.response.body.String())
		if c.status == 201 {
			require.Contains(t, h.response.headers, "X-Agent: test")
		}
	}
	require.Contains(t, h.stderr.String(), "panic: a secret")
	require.Contains(t, h.stderr.String(), "main.go")
}
