package container_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testbin"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/monkey"
	"github.com/taubyte/taubyte/monkey/container"
	"github.com/taubyte/taubyte/monkey/container/containertest"
	"github.com/taubyte/taubyte/monkey/environmenttest"
)

const testImage = "taubyte-test/busybox:test"

func engine(t *testing.T) *container.Engine {
	testnet.CheckLeaks(t)
	e := containertest.New(t, t.Name(), container.Config{Image: testImage, Pull: container.PullNever})
	containertest.Image(t, testImage)
	return e
}

func TestContainer(t *testing.T) {
	environmenttest.Run(t, engine(t))
	require.Empty(t, containers(t, t.Name()), "all are gone")
}

func TestContainerHostile(t *testing.T) {
	environmenttest.Hostile(t, engine(t))
	require.Empty(t, containers(t, t.Name()), "all are gone")
}

// containers are those of a node in the engine.
func containers(t *testing.T, node string) (ids []string) {
	t.Helper()
	list, err := containertest.Client(t).ContainerList(t.Context(), client.ContainerListOptions{
		All: true, Filters: make(client.Filters).Add("label", "taubyte.node="+node),
	})
	require.NoError(t, err)
	for _, c := range list.Items {
		ids = append(ids, c.ID)
	}
	return ids
}

// A run is a command under way, in folders of its own.
type run struct {
	spec monkey.Spec
	log  *testbin.Buffer
	out  string
}

func newRun(t *testing.T) *run {
	r := &run{log: &testbin.Buffer{}, out: t.TempDir()}
	r.spec = monkey.Spec{Owner: t.Name(), Log: r.log, Mounts: []monkey.Mount{{Name: "OUT", Dir: r.out, Write: true}}}
	return r
}

func (r *run) exec(t *testing.T, e *container.Engine, script string) error {
	t.Helper()
	s, err := e.Open(t.Context(), r.spec)
	if err != nil {
		return err
	}
	defer func() { require.NoError(t, s.Close()) }()
	return s.Exec(t.Context(), monkey.Command{Words: []string{"/bin/sh", "-c", script}, Dir: "${OUT}", Log: r.log})
}

// What a node that has crashed leaves is removed when it starts again, and nothing else.
func TestACrashedNodesContainersAreRemoved(t *testing.T) {
	crashed := engine(t)
	other := containertest.New(t, t.Name()+"-other", container.Config{Image: testImage, Pull: container.PullNever})
	var wg sync.WaitGroup
	endless := func(e *container.Engine) (*run, chan error) {
		r, done := newRun(t), make(chan error, 1)
		s, err := e.Open(t.Context(), r.spec)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		wg.Go(func() {
			done <- s.Exec(t.Context(), monkey.Command{Words: []string{"/bin/sh", "-c", "echo begun; sleep 1000"}, Dir: "${OUT}", Log: r.log})
		})
		require.Eventually(t, func() bool { return strings.Contains(r.log.String(), "begun") }, 30*time.Second, 10*time.Millisecond)
		return r, done
	}
	_, ended := endless(crashed)
	_, goes := endless(other)
	require.Len(t, containers(t, t.Name()), 1)

	containertest.New(t, t.Name(), container.Config{Image: testImage, Pull: container.PullNever})
	require.Empty(t, containers(t, t.Name()))
	require.Error(t, <-ended)
	require.Len(t, containers(t, t.Name()+"-other"), 1, "another node's goes on")
	select {
	case err := <-goes:
		t.Fatalf("another node's command has ended: %v", err)
	default:
	}
	require.NoError(t, other.Close()) // which ends what is under way
	require.Error(t, <-goes)
	wg.Wait()
}

func TestWithoutAnEngine(t *testing.T) {
	_, err := container.New(t.Context(), "node", container.Config{Engine: "unix://" + filepath.Join(t.TempDir(), "none.sock")})
	var missing *monkey.MissingError
	require.ErrorAs(t, err, &missing)
	require.Contains(t, err.Error(), "container engine")
	for _, c := range []container.Config{{Engine: "nonsense"}, {Image: "UPPER CASE"}, {Pull: "sometimes"}, {CPUs: -1}} {
		_, err = container.New(t.Context(), "node", c)
		require.ErrorIs(t, err, taubyte.ErrInvalid, "%+v", c)
	}
}

func TestImages(t *testing.T) {
	e := engine(t)
	r := newRun(t)
	var missing *monkey.MissingError

	r.spec.Image = "taubyte-test/nowhere"
	require.ErrorAs(t, r.exec(t, e, "true"), &missing)
	require.Contains(t, missing.Error(), "the image taubyte-test/nowhere is not on this node")
	r.spec.Image = "No Image"
	require.ErrorIs(t, r.exec(t, e, "true"), taubyte.ErrInvalid)

	pulls := containertest.New(t, t.Name()+"-pulls", container.Config{Registries: []string{"registry.example.com/acme"}})
	for _, name := range []string{"taubyte-test/nowhere", "registry.example.com/acmes/tool", "registry.example.com:443/acme/tool"} {
		r.spec.Image = name
		require.ErrorAs(t, r.exec(t, pulls, "true"), &missing, name)
		require.Contains(t, missing.Error(), "registry.example.com/acme alone", name)
	}

	// What an image says of itself: its PATH and variables count, its user, command and
	// volumes don't make it more than others.
	containertest.Image(t, "taubyte-test/own:1", "ENV PATH=/bin:/own/bin FLAVOUR=own", "VOLUME /data", "USER 0:0", `ENTRYPOINT ["/bin/false"]`, "WORKDIR /nowhere",
		`HEALTHCHECK CMD touch /out/healthy`)
	r.spec.Image = "taubyte-test/own:1"
	require.NoError(t, r.exec(t, e, `echo "$PATH $FLAVOUR"; echo x > /data/x; id -u; pwd`))
	require.Contains(t, r.log.String(), "/bin:/own/bin own\n")
	require.Contains(t, r.log.String(), "Read-only file system")
	require.NotContains(t, r.log.String(), "\n0\n")
	require.Contains(t, r.log.String(), "\n/out\n")
}

// Images come from a registry when the policy says so, and what they are is known.
func TestPull(t *testing.T) {
	testnet.CheckLeaks(t)
	api := containertest.Client(t)
	reg := newRegistry(t)
	name := reg.host + "/acme/tool:1"
	missing := containertest.New(t, t.Name(), container.Config{Registries: []string{reg.host + "/acme"}})
	always := containertest.New(t, t.Name()+"-always", container.Config{Pull: container.PullAlways, Registries: []string{reg.host}})

	_, err := missing.Resolve(t.Context(), name)
	require.ErrorIs(t, err, taubyte.ErrInvalid, "there is none")

	reg.serve("one")
	r := newRun(t)
	r.spec.Image = name
	require.NoError(t, r.exec(t, missing, `echo "$WHICH"`))
	containertest.Forget(t, api, name)
	require.Equal(t, "pulling the image "+name+"\none\n", r.log.String())
	first, err := missing.Resolve(t.Context(), name)
	require.NoError(t, err)

	reg.serve("two")
	same, err := missing.Resolve(t.Context(), name)
	require.NoError(t, err)
	require.Equal(t, first, same)
	second, err := always.Resolve(t.Context(), name)
	require.NoError(t, err)
	require.NotEqual(t, first, second)
	containertest.Forget(t, api, name)
	r = newRun(t)
	r.spec.Image = name
	require.NoError(t, r.exec(t, always, `echo "$WHICH"`))
	require.Contains(t, r.log.String(), "\ntwo\n")

	reg.server.Close()
	_, err = always.Resolve(t.Context(), name)
	require.ErrorIs(t, err, taubyte.ErrUnavailable, "another time")
}

// A registry serves one image.
type registry struct {
	t      *testing.T
	server *httptest.Server
	host   string

	mu       sync.Mutex
	blobs    map[string][]byte
	manifest []byte
}

func newRegistry(t *testing.T) *registry {
	r := &registry{t: t, blobs: map[string][]byte{}}
	r.server = httptest.NewServer(r)
	t.Cleanup(r.server.Close)
	r.host = strings.TrimPrefix(r.server.URL, "http://")
	return r
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func (r *registry) serve(which string) {
	layer := containertest.Files(r.t)
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	require.NoError(r.t, err)
	_, err = z.Write(layer)
	require.NoError(r.t, err)
	require.NoError(r.t, z.Close())
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Env": []string{"PATH=/bin", "WHICH=" + which}, "Labels": map[string]string{"taubyte.test": "1"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest(layer)}},
	})
	require.NoError(r.t, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	part := func(kind string, content []byte) map[string]any {
		r.blobs[digest(content)] = content
		return map[string]any{"mediaType": "application/vnd.docker." + kind, "size": len(content), "digest": digest(content)}
	}
	r.manifest, err = json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": manifestType,
		"config": part("container.image.v1+json", config),
		"layers": []any{part("image.rootfs.diff.tar.gzip", packed.Bytes())},
	})
	require.NoError(r.t, err)
}

const manifestType = "application/vnd.docker.distribution.manifest.v2+json"

func (r *registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := req.URL.Path
	answer := func(kind string, content []byte) {
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Docker-Content-Digest", digest(content))
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		if req.Method != http.MethodHead {
			_, _ = w.Write(content)
		}
	}
	blob := r.blobs[at[strings.LastIndexByte(at, '/')+1:]]
	switch {
	case at == "/v2/":
		w.WriteHeader(http.StatusOK)
	case strings.HasPrefix(at, "/v2/acme/tool/manifests/") && r.manifest != nil:
		answer(manifestType, r.manifest)
	case strings.HasPrefix(at, "/v2/acme/tool/blobs/") && blob != nil:
		answer("application/octet-stream", blob)
	default:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`))
	}
}

// A link in the place of a folder is followed by nobody.
func TestFoldersThatAreGone(t *testing.T) {
	e := engine(t)
	r := newRun(t)
	require.NoError(t, os.Remove(r.out))
	require.Error(t, r.exec(t, e, "true"))
}
