package vm_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/meter"
	"github.com/taubyte/taubyte/substrate/internal/vm"
	"github.com/taubyte/taubyte/substrate/internal/wasmtest"
)

// What a node does with a module of stock Go when it starts again: compiled
// code is on disk.
func BenchmarkLoadStockGoFromDisk(b *testing.B) {
	code := buildGo(b, "testdata/gopong")
	b.Logf("%d bytes", len(code))
	dir := b.TempDir()
	for b.Loop() {
		c := vm.Config{ModuleBytes: 16 << 20, Memory: 1 << 30, Share: 1 << 30, Idle: 1 << 40, Log: discard, CacheDir: dir}
		e, err := vm.New(context.Background(), c)
		require.NoError(b, err)
		m, err := load(b, e, code)
		require.NoError(b, err)
		s := spec(m, "ping")
		s.Memory = 16 << 20
		f, err := e.NewFunction(s)
		require.NoError(b, err)
		require.NoError(b, f.ServeHTTP(&nothing{h: http.Header{}}, httptest.NewRequest(http.MethodGet, "/", nil)))
		f.Close()
		require.NoError(b, e.Close())
	}
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
			defer stays.Release()
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

// What a deployed function costs that nobody calls.
func BenchmarkIdleFunction(b *testing.B) {
	e := engine(b)
	m, err := load(b, e, wasmtest.Pong())
	require.NoError(b, err)
	defer m.Release()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var fs []*vm.Function
	for b.Loop() {
		m, err := load(b, e, wasmtest.Pong())
		require.NoError(b, err)
		f, err := e.NewFunction(spec(m, "ping"))
		require.NoError(b, err)
		fs = append(fs, f)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(len(fs)), "heap-B/function")
	for _, f := range fs {
		f.Close()
	}
}
