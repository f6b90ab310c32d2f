package monkey_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/monkey"
	"github.com/taubyte/taubyte/monkey/container"
	"github.com/taubyte/taubyte/monkey/container/containertest"
)

// Whole builds in containers.
func TestContainerBuilds(t *testing.T) {
	const image = "taubyte-test/build:test"
	b := newBench(t)
	engine := containertest.New(t, t.Name(), container.Config{Image: image, Pull: container.PullNever})
	containertest.Image(t, image)
	b.start(t, monkey.WithEnvironment("container", engine))
	b.succeed(t, b.push(repo, auth.KindProject, project(goFunction)))
	module, ok := b.current(t).Asset(functionID)
	require.True(t, ok)

	secret := filepath.Join(t.TempDir(), "authority.key")
	require.NoError(t, os.WriteFile(secret, []byte("ROOTKEY"), 0o644))
	workflow := func(image string) map[string]string {
		return project(merge(shFunction, map[string]string{
			".taubyte/config.yaml": "environment: {image: '" + image + "'}\nworkflow: [build]\n",
			".taubyte/build.sh":    "echo by $FLAVOUR; cat " + secret + "; echo kept >> /cache/note; rm -rf $OUT; ln -s /etc $OUT; cp /src/ping.wasm /out/main.wasm\n",
		}))
	}
	j := b.push(repo, auth.KindProject, workflow("taubyte-test/own"))
	testnet.Eventually(t, func() bool { return len(b.returned(j)) > 0 }, "no image")
	require.Contains(t, b.returned(j)[0].Error, "the image taubyte-test/own is not on this node")
	containertest.Image(t, "taubyte-test/own:latest", "ENV FLAVOUR=first")
	b.succeed(t, j)
	require.Contains(t, b.text(j), "function ping: by first")
	require.NotContains(t, b.text(j), "ROOTKEY")
	require.NotContains(t, b.text(j), "stand for $SRC", "its places are where scripts have them")
	require.True(t, cached(b.succeed(t, b.push(repo, auth.KindProject, workflow("taubyte-test/own"))))["function ping"])
	// The same name is another image now.
	containertest.Image(t, "taubyte-test/own:latest", "ENV FLAVOUR=second")
	j = b.push(repo, auth.KindProject, workflow("taubyte-test/own"))
	require.False(t, cached(b.succeed(t, j))["function ping"])
	require.Contains(t, b.text(j), "function ping: by second")

	// A Dockerfile builds a folder, or makes the image of a workflow.
	dockerfile := "FROM " + image + "\nCOPY ping.wasm /out/main.wasm\nCOPY VERSION /\nRUN cat /VERSION; cat " + secret + " || true\n"
	folder := func(version string) map[string]string {
		return project(map[string]string{"Dockerfile": dockerfile, "ping.wasm": string(tinyModule), "VERSION": version + "\n"})
	}
	j = b.push(repo, auth.KindProject, folder("one"))
	require.False(t, cached(b.succeed(t, j))["function ping"])
	require.Contains(t, b.text(j), "function ping: one")
	require.NotContains(t, b.text(j), "ROOTKEY")
	require.True(t, cached(b.succeed(t, b.push(repo, auth.KindProject, folder("one"))))["function ping"])
	j = b.push(repo, auth.KindProject, project(map[string]string{
		".taubyte/config.yaml":       "workflow: [build]\n",
		".taubyte/build.sh":          "cat /made; cp /src/ping.wasm /out/main.wasm\n",
		".taubyte/docker/Dockerfile": "FROM " + image + "\nRUN echo by its own image > /made\n",
		"ping.wasm":                  string(tinyModule),
	}))
	b.succeed(t, j)
	require.Contains(t, b.text(j), "function ping: by its own image")
	containertest.ForgetBuilt(t, t.Name())

	// The same source gives the same bytes, in a container or not.
	plainly := newBench(t)
	plainly.start(t)
	plainly.succeed(t, plainly.push(repo, auth.KindProject, project(goFunction)))
	same, _ := plainly.current(t).Asset(functionID)
	require.Equal(t, module, same)
	b.clean(t)
}
