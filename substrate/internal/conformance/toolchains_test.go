package conformance_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/guestsdk"
)

// built keeps what was built in this run, by the folder or file it was built from.
var built sync.Map // string → func() ([]byte, error)

// once builds a thing once for all tests. Outcomes of other tests are seen again.
func once(t *testing.T, key string, build func(out string) ([]byte, error)) []byte {
	t.Helper()
	f, _ := built.LoadOrStore(key, sync.OnceValues(func() ([]byte, error) {
		dir, err := os.MkdirTemp("", "conformance-*")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		out := filepath.Join(dir, "out.wasm")
		if said, err := build(out); err != nil {
			return said, err
		}
		return os.ReadFile(out)
	}))
	module, err := f.(func() ([]byte, error))()
	if err != nil && unreachable(string(module)) {
		t.Skipf("%s needs modules that are not in the cache and can't be fetched: %s", key, module)
	}
	require.NoError(t, err, "%s: %s", key, module)
	return module
}

func unreachable(text string) bool {
	for _, sign := range []string{"dial tcp", "no such host", "module lookup disabled", "connection refused", "i/o timeout", "proxyconnect"} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}

func run(dir string, env []string, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	return cmd.CombinedOutput()
}

// tool finds a program, or skips the test.
func tool(t *testing.T, name, install string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not here: %s", name, install)
	}
	return path
}

// wat assembles a hand-written module.
func wat(t *testing.T, file string) []byte {
	t.Helper()
	wat2wasm := tool(t, "wat2wasm", "apt-get install wabt")
	return once(t, file, func(out string) ([]byte, error) { return run(".", nil, wat2wasm, file, "-o", out) })
}

// rust compiles a file of Rust for the first of the targets that a compiler here has.
func rust(t *testing.T, file string, targets ...string) []byte {
	t.Helper()
	const install = "apt-get install rustc libstd-rust-dev-wasm32 lld"
	tool(t, "rustc", install)
	for _, rustc := range []string{"rustc", "/usr/bin/rustc"} {
		sysroot, err := run(".", nil, rustc, "--print", "sysroot")
		if err != nil {
			continue
		}
		for _, target := range targets {
			lib := filepath.Join(strings.TrimSpace(string(sysroot)), "lib", "rustlib", target, "lib")
			if _, err := os.Stat(lib); err != nil {
				continue
			}
			return once(t, file, func(out string) ([]byte, error) {
				return run(".", nil, rustc, "--edition=2021", "--target="+target, "--crate-type=cdylib", "-Copt-level=s", "-Cpanic=abort", "-Cstrip=symbols", "-o", out, file)
			})
		}
	}
	t.Skipf("no rustc here has a target of %v: %s", targets, install)
	return nil
}

// assemblyScript compiles a file of AssemblyScript.
func assemblyScript(t *testing.T, file string, args ...string) []byte {
	t.Helper()
	asc := tool(t, "asc", "npm install -g assemblyscript")
	return once(t, file+strings.Join(args, " "), func(out string) ([]byte, error) {
		return run(".", nil, asc, append([]string{file, "-O2", "--runtime", "minimal", "--use", "abort=", "-o", out}, args...)...)
	})
}

// stockGo compiles a module of Go, the way a node does.
func stockGo(t *testing.T, dir string) []byte {
	t.Helper()
	if raceEnabled {
		said, err := compiledElsewhere()
		require.NoError(t, err, "%s", said)
	}
	return once(t, dir, func(out string) ([]byte, error) {
		// Its path is in the module, which is to be the same for all who build it.
		gowork, err := guestsdk.Workspace(filepath.Join(shared, "workspace"), dir, "")
		if err != nil {
			return nil, err
		}
		return run(dir, []string{"GOOS=wasip1", "GOARCH=wasm", "GOWORK=" + gowork, "GOFLAGS=", "GOTOOLCHAIN=local"},
			"go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", out, ".")
	})
}
