package vm_test

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/substrate/internal/abi"
	"github.com/taubyte/taubyte/substrate/internal/vm"
	. "github.com/taubyte/taubyte/substrate/internal/wasmtest"
)

// Fuel bounds what an event computes, also one that has all the time there is.
func TestFuel(t *testing.T) {
	e := engine(t)
	f := function(t, e, failing(func(*Module) [][]byte { return [][]byte{Loop, Br(0), End} }), "ping", func(s *vm.Spec) {
		s.Timeout, s.Limits.Fuel = time.Hour, 100_000_000
	})
	for range 3 {
		require.Equal(t, "fine", get(t, f, "/").Body.String())
	}
	events, few := f.Used()
	require.EqualValues(t, 3, events)
	require.Equal(t, few, e.Fuel())
	require.Less(t, few, int64(3000))
	require.Greater(t, few, int64(3*10))
	require.Zero(t, few%3, "the same for the same work")

	require.Equal(t, 504, get(t, f, "/bad").Code)
	_, all := f.Used()
	require.InDelta(t, 100_000_000, all-few, 10_000)
	require.Equal(t, "fine", get(t, f, "/").Body.String())

	// What one instruction does to much memory is charged before it is done.
	f = function(t, e, failing(func(*Module) [][]byte {
		return [][]byte{Loop, I32(0), I32(0), I32(60_000), Fill, Br(0), End}
	}), "ping", func(s *vm.Spec) { s.Timeout, s.Limits.Fuel = time.Hour, 1_000_000 })
	require.Equal(t, 504, get(t, f, "/bad").Code)

	// A start has its own.
	m := New(1)
	m.Func("_initialize", ":", "", Loop, Br(0), End)
	m.Func("ping", "i:", "")
	f = function(t, e, m.Bytes(), "ping", func(s *vm.Spec) { s.Timeout, s.Limits.Fuel = time.Hour, 1_000_000 })
	require.Equal(t, 504, get(t, f, "/").Code)
}

// Calls of the host are counted, whatever they do.
func TestHostCalls(t *testing.T) {
	f := function(t, engine(t), failing(func(*Module) [][]byte {
		return [][]byte{Loop, Get(0), I32(16), Call(1), Drop, Br(0), End}
	}), "ping", func(s *vm.Spec) { s.Timeout, s.Limits.HostCalls = time.Hour, 1000 })
	require.Equal(t, "fine", get(t, f, "/").Body.String())
	require.Equal(t, 500, get(t, f, "/bad").Code)
	require.Equal(t, "fine", get(t, f, "/").Body.String())

	// Those of WASI cost fuel.
	m := New(1)
	clock := m.Import("wasi_snapshot_preview1", "clock_time_get", "iIi:i")
	m.Func("ping", "i:", "", Loop, I32(0), I64(0), I32(16), Call(clock), Drop, Br(0), End)
	f = function(t, engine(t), m.Bytes(), "ping", func(s *vm.Spec) { s.Timeout, s.Limits.Fuel = time.Hour, 1_000_000 })
	require.Equal(t, 504, get(t, f, "/").Code)
}

// Run tells what became of the event.
func TestLimitsOfOtherEvents(t *testing.T) {
	m := New(1)
	m.Func("tick", "i:", "", Loop, Br(0), End)
	f := function(t, engine(t), m.Bytes(), "tick", func(s *vm.Spec) { s.Timeout, s.Limits.Fuel = time.Hour, 1_000_000 })
	err := f.Run(t.Context(), func(*abi.Guest) uint32 { return 0 })
	require.True(t, errors.Is(err, abi.ErrFuel), err)
}

// nested is a guest that calls itself so many times on /bad, with frames of
// about that many values.
func nested(times int32, values int) []byte {
	return failing(func(m *Module) [][]byte {
		body := [][]byte{I32(0)}
		for i := range values {
			body = append(body, Get(0), I32(int32(i)), Mul) // alive over the call
		}
		self := uint32(4) // four imports come before it
		body = append(body, Get(0), If, Get(0), I32(-1), Add, Call(self), Drop, End)
		for range values {
			body = append(body, Add)
		}
		m.Func("", "i:i", "", body...)
		return [][]byte{I32(times), Call(self), Drop}
	})
}

// Calls may be nested, but not until their stack is a burden to the node; and
// what they took is given back.
func TestRecursionIsBounded(t *testing.T) {
	e := engine(t)
	for name, c := range map[string]struct {
		times  int32
		values int
		status int
		idle   int
	}{
		"shallow":                 {1000, 0, 200, 1},
		"deep":                    {40_000, 0, 200, 0},
		"too deep":                {1 << 30, 0, 500, 0},
		"too deep, large frames":  {1 << 30, 300, 500, 0},
		"large frames, but a few": {100, 300, 200, 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := function(t, e, nested(c.times, c.values), "ping", func(s *vm.Spec) { s.Timeout = time.Hour })
			before := e.Memory()
			get(t, f, "/")
			var was, is runtime.MemStats
			runtime.ReadMemStats(&was)
			require.Equal(t, c.status, get(t, f, "/bad").Code)
			runtime.ReadMemStats(&is)
			require.Less(t, is.TotalAlloc-was.TotalAlloc, uint64(50<<20))
			idle, _ := f.Warm()
			require.Equal(t, c.idle, idle)
			f.Close()
			require.Equal(t, before, e.Memory())
		})
	}

	// Nor is it in a start function.
	m := New(1)
	self := m.Func("", ":", "", Call(0))
	m.Start(self)
	m.Func("ping", "i:", "")
	f := function(t, e, m.Bytes(), "ping")
	require.Equal(t, 500, get(t, f, "/").Code)

	// A large stack is counted to the memory of the node.
	small := engine(t, func(c *vm.Config) { c.Memory = 1<<16 + 96<<10 + 1<<20 })
	f = function(t, small, nested(40_000, 0), "ping")
	require.Equal(t, 200, get(t, f, "/").Code)
	require.Equal(t, 500, get(t, f, "/bad").Code)
}

// Files of guests are memory of the node.
func TestFilesAreCounted(t *testing.T) {
	m := New(1)
	open := m.Import("wasi_snapshot_preview1", "path_open", "iiiiiIIii:i")
	write := m.Import("wasi_snapshot_preview1", "fd_write", "iiii:i")
	m.Data(0, "file")
	m.Data(16, "\x00\x00\x00\x00\x00\x80\x00\x00") // 32 KiB at 0
	m.Func("ping", "i:", "",
		I32(3), I32(0), I32(0), I32(4), I32(1), I64(-1), I64(-1), I32(0), I32(8), Call(open), If, Unreachable, End,
		Loop, I32(8), Load, I32(16), I32(1), I32(12), Call(write), Eqz, BrIf(0), End)
	const each = 1<<16 + 96<<10
	e := engine(t, func(c *vm.Config) { c.Memory = each + 1<<20 })
	f := function(t, e, m.Bytes(), "ping")
	require.Equal(t, 200, get(t, f, "/").Code)
	require.Greater(t, e.Memory(), int64(each+512<<10))
	require.LessOrEqual(t, e.Memory(), int64(each+1<<20))
	f.Close()
	require.Zero(t, e.Memory())
}
