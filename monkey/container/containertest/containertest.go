// Package containertest has what tests of builds in containers need: an engine, and an
// image that no registry is asked for.
package containertest

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/monkey"
	"github.com/taubyte/taubyte/monkey/container"
)

// Client is that of the engine. It skips the test where none answers.
func Client(t *testing.T) *client.Client {
	t.Helper()
	api, err := client.New(client.FromEnv)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, api.Close()) })
	if _, err := api.Ping(context.Background(), client.PingOptions{}); err != nil { // also at the end of a test
		t.Skipf("no container engine: %v", err)
	}
	return api
}

// New is an Engine for a node. It skips the test where there can't be one.
func New(t *testing.T, node string, c container.Config) *container.Engine {
	t.Helper()
	e, err := container.New(t.Context(), node, c)
	var missing *monkey.MissingError
	if errors.As(err, &missing) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

// Image gives the engine an image with the programs of busybox, and takes it away after the
// test. changes are lines of a Dockerfile.
func Image(t *testing.T, name string, changes ...string) {
	t.Helper()
	api := Client(t)
	res, err := api.ImageImport(t.Context(), client.ImageImportSource{Source: bytes.NewReader(Files(t)), SourceName: "-"}, name, client.ImageImportOptions{
		Changes: append([]string{`LABEL taubyte.test="1"`}, changes...),
	})
	require.NoError(t, err)
	said, err := io.ReadAll(res)
	require.NoError(t, err)
	require.NoError(t, res.Close())
	require.NotContains(t, string(said), `"error"`)
	Forget(t, api, name)
}

// Forget takes what an image's name stands for now away after the test.
func Forget(t *testing.T, api *client.Client, name string) {
	t.Helper()
	found, err := api.ImageInspect(t.Context(), name)
	require.NoError(t, err)
	t.Cleanup(func() {
		// The test's own context has ended.
		_, err := api.ImageRemove(context.Background(), found.ID, client.ImageRemoveOptions{Force: true})
		require.True(t, err == nil || errdefs.IsNotFound(err), err)
	})
}

// Built are the images that were built for a node.
func Built(t *testing.T, node string) (ids []string) {
	t.Helper()
	list, err := Client(t).ImageList(context.Background(), client.ImageListOptions{All: true, Filters: make(client.Filters).Add("label", "taubyte.node="+node)})
	require.NoError(t, err)
	for _, i := range list.Items {
		ids = append(ids, i.ID)
	}
	return ids
}

// ForgetBuilt takes these away.
func ForgetBuilt(t *testing.T, node string) {
	t.Helper()
	api := Client(t)
	for all := Built(t, node); len(all) > 0; {
		for _, id := range all {
			_, _ = api.ImageRemove(context.Background(), id, client.ImageRemoveOptions{Force: true, PruneChildren: true})
		}
		left := Built(t, node)
		require.Less(t, len(left), len(all), "they are in use")
		all = left
	}
}

// Files are those of an image with busybox, as a tar.
func Files(t *testing.T) []byte {
	t.Helper()
	program, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("no busybox for an image (package busybox-static)")
	}
	f, err := elf.Open(program)
	require.NoError(t, err)
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Skip("the machine's busybox is not a static one (package busybox-static)")
		}
	}
	text, err := os.ReadFile(program)
	require.NoError(t, err)
	list, err := exec.Command(program, "--list").Output()
	require.NoError(t, err)
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	add := func(h *tar.Header, content []byte) {
		h.Size = int64(len(content))
		require.NoError(t, w.WriteHeader(h))
		_, err := w.Write(content)
		require.NoError(t, err)
	}
	for _, dir := range []string{"bin/", "etc/", "tmp/", "root/", "home/", "var/", "run/"} {
		add(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}, nil)
	}
	add(&tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, text)
	for _, name := range strings.Fields(string(list)) {
		if name != "busybox" {
			add(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox", Mode: 0o777}, nil)
		}
	}
	require.NoError(t, w.Close())
	return out.Bytes()
}
