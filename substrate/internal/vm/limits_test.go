package vm_test

import (
	"errors"
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
