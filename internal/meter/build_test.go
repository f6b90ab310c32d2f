package meter_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/taubyte/taubyte/internal/meter"
)

// stockGo is a module compiled by the toolchain of this machine, once.
var stockGo = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "meter")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "guest.wasm")
	build := exec.Command("go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", out, ".")
	build.Dir = filepath.Join("testdata", "guest")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=", "GOWORK=off")
	if text, err := build.CombinedOutput(); err != nil {
		return nil, &exec.Error{Name: string(text), Err: err}
	}
	return os.ReadFile(out)
})

func goGuest(tb testing.TB) []byte {
	tb.Helper()
	b, err := stockGo()
	require.NoError(tb, err)
	return b
}

// machine is a runtime with WASI and the host's side of the gauge.
func machine(tb testing.TB, config wazero.RuntimeConfig, refuel meter.Refueler) wazero.Runtime {
	tb.Helper()
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, config)
	tb.Cleanup(func() { r.Close(ctx) })
	wasi_snapshot_preview1.MustInstantiate(ctx, r)
	_, err := meter.Host(ctx, r, refuel)
	require.NoError(tb, err)
	return r
}

func start(tb testing.TB, ctx context.Context, r wazero.Runtime, module []byte) (api.Module, error) {
	tb.Helper()
	compiled, err := r.CompileModule(ctx, module)
	require.NoError(tb, err)
	return r.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions(meter.Start, "_initialize"))
}

func instrument(tb testing.TB, module []byte) []byte {
	tb.Helper()
	out, err := meter.Instrument(module, meter.Limits{})
	require.NoError(tb, err)
	return out
}

// A wasm module is written as sections of bytes.

func module(sections ...[]byte) []byte {
	b := []byte{0, 'a', 's', 'm', 1, 0, 0, 0}
	for _, s := range sections {
		b = append(b, s...)
	}
	return b
}

func section(id byte, parts ...any) []byte {
	c := join(parts...)
	return append(append([]byte{id}, leb(len(c))...), c...)
}

// vec is a vector of entries.
func vec(entries ...any) []byte { return append(leb(len(entries)), join(entries...)...) }

// fn is a function's code: local declarations ("\x00" for none) and
// instructions without the last end.
func fn(locals string, code ...any) []byte {
	c := join(locals, join(code...), 0x0b)
	return append(leb(len(c)), c...)
}

func name(s string) []byte { return append(leb(len(s)), s...) }

func leb(n int) []byte {
	var b []byte
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func join(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = append(b, byte(p))
		case string:
			b = append(b, p...)
		case []byte:
			b = append(b, p...)
		}
	}
	return b
}

const (
	void2void = "\x60\x00\x00"
	i32toi32  = "\x60\x01\x7f\x01\x7f"
)

// exported is a module with one type, its functions exported as f0, f1 ….
func exported(typ string, functions ...[]byte) []byte {
	var types, exports, code []any
	for i, f := range functions {
		types = append(types, 0)
		exports = append(exports, join(name("f"+string(rune('0'+i))), 0, i))
		code = append(code, f)
	}
	return module(section(1, vec(typ)), section(3, vec(types...)), section(7, vec(exports...)), section(10, vec(code...)))
}
