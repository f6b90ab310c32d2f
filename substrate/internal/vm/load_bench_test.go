package vm_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"

	"github.com/taubyte/taubyte/internal/meter"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/substrate/internal/vm"
	"github.com/taubyte/taubyte/substrate/internal/wasmtest"
)

// The first request of a function after its node has started again, its compiled
// code on disk: what the engine's own start takes apart. The baseline reads the
// module's file and lets wazero find the compiled code by it.
func BenchmarkRestartStockGo(b *testing.B) {
	code := buildGo(b, "testdata/handler")
	id := idOf(b, code)
	here := func(context.Context) ([]byte, error) { return code, nil }
	dir := b.TempDir()
	first := func(b *testing.B) {
		c := vm.Config{ModuleBytes: 16 << 20, Memory: 1 << 30, Share: 1 << 30, Code: 1 << 30, Idle: 1 << 40, Log: discard, CacheDir: dir}
		e, err := vm.New(context.Background(), c)
		require.NoError(b, err)
		b.StartTimer()
		m, err := e.Load(context.Background(), id, here)
		require.NoError(b, err)
		s := spec(m, "handle")
		s.Memory = 64 << 20
		f, err := e.NewFunction(s)
		require.NoError(b, err)
		require.NoError(b, f.ServeHTTP(&nothing{h: http.Header{}}, httptest.NewRequest(http.MethodGet, "/", nil)))
		b.StopTimer()
		f.Close()
		require.NoError(b, e.Close())
	}
	first(b) // fills the cache
	b.Run("shell", func(b *testing.B) {
		b.StopTimer()
		for range b.N {
			first(b)
		}
		b.ReportMetric(float64(len(code)), "module-B")
	})
	b.Run("wazero", func(b *testing.B) {
		dir := b.TempDir()
		b.StopTimer()
		for i := range b.N + 1 {
			cache, err := wazero.NewCompilationCacheWithDir(dir)
			require.NoError(b, err)
			r := wazero.NewRuntimeWithConfig(b.Context(), wazero.NewRuntimeConfig().WithCompilationCache(cache))
			if i > 0 {
				b.StartTimer()
			}
			metered, err := meter.Instrument(code, meter.Limits{})
			require.NoError(b, err)
			_, err = r.CompileModule(b.Context(), metered)
			require.NoError(b, err)
			b.StopTimer()
			require.NoError(b, r.Close(b.Context()))
		}
	})
}

func BenchmarkInstrumentStockGo(b *testing.B) {
	code := buildGo(b, "testdata/gopong")
	for b.Loop() {
		_, err := meter.Instrument(code, meter.Limits{})
		require.NoError(b, err)
	}
}

func BenchmarkCompileStockGo(b *testing.B) {
	code := buildGo(b, "testdata/gopong")
	for b.Loop() {
		e := engine(b)
		m, err := load(b, e, code)
		require.NoError(b, err)
		m.Release()
		require.NoError(b, e.Close())
	}
}

// The first request of a function whose module is compiled here already.
func BenchmarkColdStockGo(b *testing.B) {
	for _, guest := range []struct{ dir, call string }{{"testdata/gopong", "ping"}, {"testdata/handler", "handle"}} {
		b.Run(guest.call, func(b *testing.B) {
			e := engine(b)
			code := buildGo(b, guest.dir)
			b.ReportMetric(float64(len(code)), "module-B")
			id := idOf(b, code)
			here := func(context.Context) ([]byte, error) { return code, nil }
			stays, err := e.Load(b.Context(), id, here)
			require.NoError(b, err)
			other := spec(stays, guest.call) // a project has more than one function
			other.Memory = 64 << 20
			f, err := e.NewFunction(other)
			require.NoError(b, err)
			defer f.Close()
			for b.Loop() {
				m, err := e.Load(b.Context(), id, here)
				require.NoError(b, err)
				s := spec(m, guest.call)
				s.Memory = 64 << 20
				f, err := e.NewFunction(s)
				require.NoError(b, err)
				require.NoError(b, f.ServeHTTP(&nothing{h: http.Header{}}, httptest.NewRequest(http.MethodGet, "/", nil)))
				f.Close()
			}
		})
	}
}

// What a deployed function costs that nobody calls: 10,000, each with a module of
// its own. resident-B is what the process takes more of the machine.
func BenchmarkIdleFunction(b *testing.B) {
	const functions = 10_000
	for _, warm := range []int64{0, 128 << 20} {
		b.Run(fmt.Sprintf("warm=%dMiB", warm>>20), func(b *testing.B) {
			for b.Loop() {
				e := engine(b, func(c *vm.Config) { c.Warm = warm })
				before := resident(b)
				fs := make([]*vm.Function, functions)
				for i := range fs {
					m, err := load(b, e, wasmtest.Say("ping", fmt.Sprintf("I am %d", i)))
					require.NoError(b, err)
					fs[i], err = e.NewFunction(spec(m, "ping"))
					require.NoError(b, err)
					fs[i].Prepare(b.Context())
				}
				b.ReportMetric(float64(resident(b)-before)/functions, "resident-B/function")
				for _, f := range fs {
					f.Close()
				}
			}
		})
	}
}

// The same for large modules, whose code is on disk: live-B is what the collector
// finds in use, and there is no code.
func BenchmarkIdleStockGo(b *testing.B) {
	const functions = 10
	code := buildGo(b, "testdata/gopong")
	for b.Loop() {
		e := engine(b, func(c *vm.Config) { c.CacheDir, c.Code, c.Idle = b.TempDir(), 0, 10*time.Millisecond })
		one := func(i int) *vm.Function {
			variant := func() []byte {
				return bytes.Replace(code, []byte("PONG from Go"), fmt.Appendf(nil, "PONG from %02d", i), 1)
			}
			m, err := e.Load(b.Context(), idOf(b, variant()), func(context.Context) ([]byte, error) { return variant(), nil })
			require.NoError(b, err)
			s := spec(m, "ping")
			s.Memory = 16 << 20
			f, err := e.NewFunction(s)
			require.NoError(b, err)
			require.Equal(b, fmt.Sprintf("PONG from %02d", i), get(b, f, "/").Body.String())
			return f
		}
		settle := func() int64 {
			testnet.Eventually(b, func() bool { return e.Code() == 0 }, "code kept")
			runtime.GC()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return int64(m.HeapAlloc)
		}
		defer one(0).Close() // with what an engine takes once
		before := settle()
		for i := range functions {
			defer one(i + 1).Close()
		}
		b.ReportMetric(float64(settle()-before)/functions, "live-B/function")
		b.ReportMetric(float64(len(code)), "module-B")
	}
}

// resident is the memory of the process, after a collection.
func resident(b *testing.B) int64 {
	debug.FreeOSMemory() // and once more, for code that was freed by the first time
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Skip("no /proc on this platform")
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	require.NoError(b, err)
	return pages * int64(os.Getpagesize())
}
