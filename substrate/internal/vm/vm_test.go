package vm_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/substrate/internal/abi"
	"github.com/taubyte/taubyte/substrate/internal/vm"
	"github.com/taubyte/taubyte/substrate/internal/wasmtest"
)

var discard = slog.New(slog.DiscardHandler)

func engine(t testing.TB, change ...func(*vm.Config)) *vm.Engine {
	t.Helper()
	testnet.CheckLeaks(t)
	log := testnet.Logger(t)
	if _, bench := t.(*testing.B); bench {
		log = discard
	}
	c := vm.Config{ModuleBytes: 16 << 20, Memory: 1 << 30, Share: 1 << 30, Code: 1 << 30, Idle: time.Minute, Log: log}
	for _, f := range change {
		f(&c)
	}
	e, err := vm.New(context.Background(), c)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, e.Close())
		require.Zero(t, e.Memory(), "memory of instances that nobody closed")
		require.Empty(t, e.Modules(), "modules that nobody released")
	})
	return e
}

func idOf(t testing.TB, code []byte) cid.Cid {
	h, err := multihash.Sum(code, multihash.SHA2_256, -1)
	require.NoError(t, err)
	return cid.NewCidV1(cid.Raw, h)
}

func load(t testing.TB, e *vm.Engine, code []byte) (*vm.Module, error) {
	return e.Load(context.Background(), idOf(t, code), func(context.Context) ([]byte, error) { return code, nil })
}

func spec(m *vm.Module, call string) vm.Spec {
	return vm.Spec{
		Self:   abi.Self{Project: "P", Application: "A", Function: "F", Name: "fn", Branch: "main", Commit: "c0ffee"},
		Module: m, Call: call,
		Timeout: 10 * time.Second, Memory: 1 << 20,
		Concurrency: 4, Queue: 16,
		Limits: abi.Limits{Output: 1 << 20, Body: 1 << 20, LogLines: 100},
	}
}

func function(t testing.TB, e *vm.Engine, code []byte, call string, change ...func(*vm.Spec)) *vm.Function {
	t.Helper()
	m, err := load(t, e, code)
	require.NoError(t, err)
	s := spec(m, call)
	for _, f := range change {
		f(&s)
	}
	f, err := e.NewFunction(s)
	require.NoError(t, err)
	t.Cleanup(f.Close)
	return f
}

func get(t testing.TB, f *vm.Function, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	require.NoError(t, f.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil)))
	return w
}

func TestPong(t *testing.T) {
	f := function(t, engine(t), wasmtest.Pong(), "ping")
	for range 3 {
		w := get(t, f, "/")
		require.Equal(t, 200, w.Code)
		require.Equal(t, "PONG", w.Body.String())
	}
	idle, work := f.Warm()
	require.Equal(t, 1, idle)
	require.Zero(t, work)
}

// A warm call allocates one value, the guest's stack for the call that it makes.
func TestAllocationsOfAWarmCall(t *testing.T) {
	f := function(t, engine(t, func(c *vm.Config) { c.Log = discard }), wasmtest.Pong(), "ping")
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	w := &nothing{h: http.Header{}}
	require.LessOrEqual(t, testing.AllocsPerRun(1000, func() { _ = f.ServeHTTP(w, r) }), 1.0)
}

func BenchmarkPong(b *testing.B) {
	f := function(b, engine(b), wasmtest.Pong(), "ping")
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	w := &nothing{h: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		if err := f.ServeHTTP(w, r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCold(b *testing.B) {
	e := engine(b)
	b.ReportAllocs()
	w := &nothing{h: http.Header{}}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	stays, err := load(b, e, wasmtest.Pong())
	require.NoError(b, err)
	defer stays.Release()
	for b.Loop() {
		m, err := load(b, e, wasmtest.Pong())
		require.NoError(b, err)
		f, err := e.NewFunction(spec(m, "ping"))
		require.NoError(b, err)
		require.NoError(b, f.ServeHTTP(w, r))
		f.Close()
	}
}

type nothing struct{ h http.Header }

func (n *nothing) Header() http.Header         { return n.h }
func (n *nothing) WriteHeader(int)             {}
func (n *nothing) Write(p []byte) (int, error) { return len(p), nil }
