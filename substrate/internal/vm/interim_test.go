package vm

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/substrate/internal/abi"
	"github.com/taubyte/taubyte/substrate/internal/wasmtest"
)

// busyCompiler returns an engine that interprets meanwhile, and whose compiler does nothing
// until it is let go.
func busyCompiler(t *testing.T) (e *Engine, compiler func()) {
	t.Helper()
	testnet.CheckLeaks(t)
	e, err := New(context.Background(), Config{
		Interim: true, ModuleBytes: 1 << 20, Memory: 1 << 28, Share: 1 << 28, Warm: 1 << 28, Code: 1 << 28, Idle: time.Minute,
		Log: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	for range compilers {
		e.compiling <- struct{}{}
	}
	compiler = sync.OnceFunc(func() {
		for range compilers {
			<-e.compiling
		}
	})
	t.Cleanup(func() {
		compiler()
		require.NoError(t, e.Close())
		require.Zero(t, e.Memory())
		require.Empty(t, e.Modules())
	})
	return e, compiler
}

// loaded loads a module.
func loaded(t *testing.T, e *Engine, code []byte) (*Module, error) {
	t.Helper()
	h, err := multihash.Sum(code, multihash.SHA2_256, -1)
	require.NoError(t, err)
	return e.Load(t.Context(), cid.NewCidV1(cid.Raw, h), func(context.Context) ([]byte, error) { return code, nil })
}

func interimly(t *testing.T, e *Engine, code []byte) *Module {
	t.Helper()
	m, err := loaded(t, e, code)
	require.NoError(t, err)
	return m
}

func interimFunction(t *testing.T, e *Engine, m *Module, links ...Link) *Function {
	t.Helper()
	f, err := e.NewFunction(Spec{
		Self: abi.Self{Project: "P", Function: "F", Name: "fn", Branch: "main"}, Module: m, Links: links, Call: "ping",
		Timeout: time.Minute, Memory: 1 << 20, Concurrency: 4, Queue: 64, Limits: abi.Limits{Output: 1 << 20, Body: 1 << 20, LogLines: 100},
	})
	require.NoError(t, err)
	t.Cleanup(f.Close)
	return f
}

func ask(t *testing.T, f *Function) {
	t.Helper()
	w := httptest.NewRecorder()
	if err := f.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil)); err != nil || w.Body.String() != "PONG" {
		t.Errorf("%v, %d %q", err, w.Code, w.Body)
	}
}

// kinds counts the idle instances.
func kinds(f *Function) (interpreted, compiled int) {
	f.pool.mu.Lock()
	defer f.pool.mu.Unlock()
	for _, in := range f.pool.idle {
		if in.interim {
			interpreted++
		} else {
			compiled++
		}
	}
	return interpreted, compiled
}

// A module serves before it is compiled. Calls go on while its functions go over to the
// compiled code, and none is answered by interpreted code afterwards.
func TestInterim(t *testing.T) {
	e, compiler := busyCompiler(t)
	f := interimFunction(t, e, interimly(t, e, wasmtest.Pong()))
	require.True(t, f.PrepareInterim(t.Context()))
	ask(t, f)
	interpreted, compiled := kinds(f)
	require.Equal(t, 1, interpreted)
	require.Zero(t, compiled)
	require.Equal(t, 1, e.Interpreted())
	busy, err := f.pool.get(t.Context(), time.Now().Add(time.Minute)) // at work meanwhile
	require.NoError(t, err)
	require.True(t, busy.interim)

	ended := make(chan struct{})
	var callers sync.WaitGroup
	for range 2 {
		callers.Go(func() {
			for {
				ask(t, f)
				select {
				case <-ended:
					return
				default:
				}
			}
		})
	}
	compiler()
	require.NoError(t, f.Compiled(t.Context()))
	require.Zero(t, e.Interpreted())
	testnet.Eventually(t, func() bool { interpreted, compiled := kinds(f); return interpreted == 0 && compiled > 0 }, "not gone over")
	close(ended)
	callers.Wait()
	f.pool.put(busy, true)
	interpreted, _ = kinds(f)
	require.Zero(t, interpreted, "one that was at work is not used again")
	require.False(t, f.PrepareInterim(t.Context()), "it is compiled")
	ask(t, f)
	events, fuel := f.Used()
	require.Positive(t, events)
	require.Positive(t, f.Most())
	require.LessOrEqual(t, f.Most(), fuel)
}

// The modules of an instance are of one runtime: a function that links others waits for the
// compiler.
func TestInterimOfLinks(t *testing.T) {
	e, compiler := busyCompiler(t)
	library := wasmtest.New(1)
	library.Func("answer", ":i", "", wasmtest.I32(1))
	user := wasmtest.New(1)
	user.Import("libraries/lib", "answer", ":i")
	user.Func("ping", "i:", "", wasmtest.Call(0), []byte{0x1a})
	f := interimFunction(t, e, interimly(t, e, user.Bytes()), Link{Name: "libraries/lib", Module: interimly(t, e, library.Bytes())})
	require.False(t, f.PrepareInterim(t.Context()))
	waiting, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, f.Compiled(waiting), context.Canceled)
	compiler()
	require.NoError(t, f.Compiled(t.Context()))
	f.Prepare(t.Context())
	_, compiled := kinds(f)
	require.Equal(t, 1, compiled)
}

// Who no longer needs a module takes its compilation with him.
func TestInterimGivenUp(t *testing.T) {
	e, compiler := busyCompiler(t)
	f := interimFunction(t, e, interimly(t, e, wasmtest.Pong()))
	require.True(t, f.PrepareInterim(t.Context()))
	f.Close()
	testnet.Eventually(t, func() bool { return len(e.Modules()) == 0 }, "not released")
	compiler()
}

// A module that is invalid is none to be interpreted either.
func TestInterimOfNoModule(t *testing.T) {
	e, _ := busyCompiler(t)
	_, err := loaded(t, e, []byte("no module"))
	require.ErrorIs(t, err, taubyte.ErrInvalid)
	shapeless := wasmtest.New(1)
	shapeless.Func("ping", "i:i", "") // no result on the stack
	_, err = loaded(t, e, shapeless.Bytes())
	require.ErrorIs(t, err, taubyte.ErrInvalid)
}
