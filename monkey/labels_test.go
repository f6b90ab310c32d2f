package monkey_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/monkey"
	"github.com/taubyte/taubyte/patrick"
)

// asking is a website whose build asks for labels.
func asking(labels string) map[string]string {
	return map[string]string{
		".taubyte/config.yaml": "environment:\n  labels: " + labels + "\nworkflow: [build]\n",
		".taubyte/build.sh":    "cp index.html $OUT\n", "index.html": "<p>hello",
	}
}

func TestABuildWaitsForAWorkerWithItsLabels(t *testing.T) {
	b := newBench(t)
	without := b.start(t)
	j := b.push(repo, auth.KindProject, project(shFunction, under("websites/site", asking("[gpu, cuda-12, "+runtime.GOARCH+"]"))))
	testnet.Eventually(t, func() bool { return len(b.returned(j)) == 1 }, "given back")
	back := b.returned(j)[0]
	require.Equal(t, []string{"cuda-12", "gpu"}, back.Needs)
	require.Contains(t, back.Error, "it waits for a worker with the label cuda-12 (for the website site), gpu (for the website site); this one has ")
	require.NotContains(t, b.text(j), "function ping", "nothing is built before")
	b.succeed(t, b.push("local/other", auth.KindProject, project(shFunction)))
	require.Nil(t, b.outcome(j))
	require.NoError(t, without.Close())

	b.start(t, monkey.WithLabels("gpu", "cuda-12"))
	b.succeed(t, j)
	require.Len(t, b.returned(j), 1, "no other worker has tried it meanwhile")

	bad := b.wait(t, b.push(repo, auth.KindProject, project(shFunction, under("websites/site", asking("[a GPU]")))))
	require.Equal(t, patrick.Failed, bad.State)
	require.Contains(t, bad.Error, `"a GPU" is no label`)
	_, err := monkey.New(t.Context(), b.node, b.node.Store, monkey.WithPatrick(b.queue), monkey.WithWorkDir(t.TempDir()), plain, monkey.WithLabels("GPU"))
	require.ErrorIs(t, err, taubyte.ErrInvalid)
}

// A folder in a language that the worker can't build waits for one that can.
func TestABuildWaitsForAToolchain(t *testing.T) {
	t.Setenv("PATH", "/nowhere")
	b := newBench(t)
	b.start(t)
	j := b.push(repo, auth.KindProject, project(map[string]string{"Cargo.toml": "[package]\nname = \"ping\"\n"}))
	testnet.Eventually(t, func() bool { return len(b.returned(j)) == 1 }, "given back")
	require.Equal(t, []string{"rust"}, b.returned(j)[0].Needs)
	require.Contains(t, b.returned(j)[0].Error, "Rust (rustc) is not on this node: install it")
}
