package meter_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/taubyte/taubyte/internal/meter"
	"github.com/taubyte/taubyte/internal/meter/testdata/guest/work"
)

// withoutRaces skips what the race detector takes long for and can find nothing in: one
// goroutine compiles large modules. .ci/run tests this package without it, too.
func withoutRaces(t *testing.T) {
	t.Helper()
	if raceDetector {
		t.Skip("not under the race detector: go test ./internal/meter")
	}
}

// A guest in stock Go does what the same code does natively, also metered, and
// it is stopped when it runs on.
func TestGoGuest(t *testing.T) {
	t.Parallel()
	withoutRaces(t)
	ctx := context.Background()
	original := goGuest(t)
	metered := instrument(t, original)
	t.Logf("%d bytes become %d", len(original), len(metered))
	require.Less(t, len(metered), len(original)*6/5)
	want := work.Do(2000)
	require.Contains(t, want, "nil pointer dereference")

	for _, m := range [][]byte{original, metered} {
		r := machine(t, wazero.NewRuntimeConfig(), meter.Deadline(meter.Slice))
		guest, err := start(t, ctx, r, m)
		require.NoError(t, err)
		size, err := guest.ExportedFunction("work").Call(ctx, 2000)
		require.NoError(t, err)
		at, err := guest.ExportedFunction("text").Call(ctx)
		require.NoError(t, err)
		text, ok := guest.Memory().Read(uint32(at[0]), uint32(size[0]))
		require.True(t, ok)
		require.Equal(t, want, string(text))
		if &m[0] == &original[0] {
			continue
		}
		for _, call := range []struct {
			export string
			n      uint64
		}{{"spin", 0}, {"fib", 90}} {
			ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			_, err = guest.ExportedFunction(call.export).Call(ctx, call.n)
			cancel()
			require.ErrorIs(t, err, context.DeadlineExceeded, call.export)
		}
	}
}

// Each of these never ends and never calls the host.
func TestEndlessCodeIsStopped(t *testing.T) {
	binary := fn("\x00", "\x20\x00\x45\x04\x40\x20\x00\x0f\x0b", // if n == 0 return n
		"\x20\x00\x41\x01\x6b\x10\x00\x1a\x20\x00\x41\x01\x6b\x10\x00") // f(n-1), f(n-1)
	memory, table := section(5, vec("\x00\x80\x20")), section(4, vec(join(0x70, 0x00, leb(50_000))))
	one := func(typ string, extra []byte, body ...any) []byte {
		id := extra[0]
		parts := [][]byte{section(1, vec(typ)), section(3, vec("\x00")), section(7, vec(join(name("f"), "\x00\x00"))), section(10, vec(fn("\x00", body...)))}
		at := 2
		if id == 9 {
			at = 3
		}
		return module(append(append(append([][]byte{}, parts[:at]...), extra), parts[at:]...)...)
	}
	none := section(4, vec("\x70\x00\x01"))
	for what, m := range map[string][]byte{
		"loop":               one(void2void, none, "\x03\x40\x0c\x00\x0b"),
		"nested loops":       one(void2void, none, "\x03\x40\x03\x40\x0c\x01\x0b\x0b"),
		"conditional":        one(void2void, none, "\x03\x40\x41\x01\x0d\x00\x0b"),
		"by table":           one(void2void, none, "\x03\x40\x41\x05\x0e\x02\x00\x00\x00\x0b"),
		"loop with a call":   one(void2void, none, "\x03\x40\x41\x00\x04\x40\x10\x00\x0b\x0c\x00\x0b"),
		"loop with a result": one(i32toi32, none, "\x03\x7f\x20\x00\x0d\x00\x41\x07\x0b"),
		"loop with a parameter": module(section(1, vec(i32toi32)), section(3, vec("\x00")), section(7, vec(join(name("f"), "\x00\x00"))),
			section(10, vec(fn("\x00", "\x20\x00\x03\x00\x0c\x00\x0b")))),
		"recursion":         module(section(1, vec(i32toi32)), section(3, vec("\x00")), section(7, vec(join(name("f"), "\x00\x00"))), section(10, vec(binary))),
		"filling memory":    one(void2void, memory, "\x03\x40\x41\x00\x41\x00\x41\x80\x80\x80\xc0\x00\xfc\x0b\x00\x0c\x00\x0b"),
		"copying memory":    one(void2void, memory, "\x03\x40\x41\x00\x41\x00\x41\x80\x80\x80\xc0\x00\xfc\x0a\x00\x00\x0c\x00\x0b"),
		"filling the table": one(void2void, table, "\x03\x40\x41\x00\xd0\x70\x41\xd0\x86\x03\xfc\x11\x00\x0c\x00\x0b"),
		"copying the table": one(void2void, table, "\x03\x40\x41\x00\x41\x01\x41\xcf\x86\x03\xfc\x0e\x00\x00\x0c\x00\x0b"),
		"growing by none":   one(void2void, memory, "\x03\x40\x41\x00\x40\x00\x1a\x0c\x00\x0b"),
		"indirect calls": module(section(1, vec(i32toi32)), section(3, vec("\x00")), section(4, vec("\x70\x00\x01")), section(7, vec(join(name("f"), "\x00\x00"))),
			section(9, vec(join("\x00\x41\x00\x0b", vec("\x00")))),
			section(10, vec(fn("\x00", "\x20\x00\x45\x04\x40\x20\x00\x0f\x0b", "\x20\x00\x41\x01\x6b\x41\x00\x11\x00\x00\x1a\x20\x00\x41\x01\x6b\x41\x00\x11\x00\x00")))),
	} {
		t.Run(what, func(t *testing.T) {
			r := machine(t, wazero.NewRuntimeConfig(), meter.Deadline(meter.Slice))
			guest, err := start(t, context.Background(), r, instrument(t, m))
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
			defer cancel()
			f := guest.ExportedFunction("f")
			args := make([]uint64, len(f.Definition().ParamTypes()))
			for i := range args {
				args[i] = 60
			}
			_, err = f.Call(ctx, args...)
			require.ErrorIs(t, err, context.DeadlineExceeded)
		})
	}
}

// Recursion that only goes deeper meets the engine's stack before the deadline.
func TestDeepRecursionIsStopped(t *testing.T) {
	r := machine(t, wazero.NewRuntimeConfig(), meter.Deadline(meter.Slice))
	guest, err := start(t, context.Background(), r, instrument(t, exported(void2void, fn("\x00", "\x10\x00"))))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err = guest.ExportedFunction("f0").Call(ctx)
	require.ErrorContains(t, err, "stack overflow")
}

func TestStartFunctionIsStopped(t *testing.T) {
	m := module(section(1, vec(void2void)), section(3, vec("\x00")), section(8, "\x00"), section(10, vec(fn("\x00", "\x03\x40\x0c\x00\x0b"))))
	r := machine(t, wazero.NewRuntimeConfig(), meter.Deadline(meter.Slice))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_, err := start(t, ctx, r, instrument(t, m))
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// spent runs an export with plenty of fuel and tells what it cost.
func spent(t *testing.T, m []byte, export string, args ...uint64) int64 {
	t.Helper()
	ctx := context.Background()
	r := machine(t, wazero.NewRuntimeConfig(), func(context.Context, api.Module, int64) int64 {
		t.Error("more fuel was asked for")
		return meter.Slice
	})
	guest, err := start(t, ctx, r, instrument(t, m))
	require.NoError(t, err)
	fuel := guest.ExportedGlobal(meter.Fuel).(api.MutableGlobal)
	const plenty = 1 << 40
	fuel.Set(plenty)
	_, err = guest.ExportedFunction(export).Call(ctx, args...)
	require.NoError(t, err)
	return plenty - int64(fuel.Get())
}

func TestCost(t *testing.T) {
	// Each turn has five instructions and the end. The entry, here only the
	// loop, and up to eight instructions after it are charged with each.
	const turn = 6 + 1 + 8
	for _, n := range []uint64{1, 2, 1000} {
		require.Equal(t, int64(n)*turn, spent(t, tight, "f0", n), "%d turns of a loop", n)
	}
	// Memory costs one for eight bytes.
	fill := module(section(1, vec(i32toi32)), section(3, vec("\x00")), section(5, vec("\x00\x02")), section(7, vec(join(name("f"), "\x00\x00"))),
		section(10, vec(fn("\x00", "\x41\x00\x41\x00\x20\x00\xfc\x0b\x00\x20\x00"))))
	require.Equal(t, int64(6+80_000/8), spent(t, fill, "f", 80_000))
}

// However a loop is left, what it used has been taken.
func TestCostOfEachWayOut(t *testing.T) {
	turn := "\x20\x00\x41\x01\x6b\x22\x00" // n-1
	ways := map[string][]byte{
		"end":       fn("\x00", "\x01", "\x02\x40\x0b", "\x03\x40", turn, "\x0d\x00\x0b", "\x20\x00"),
		"branch":    fn("\x00", "\x02\x40\x03\x40", turn, "\x45\x0d\x01\x0c\x00\x0b\x0b", "\x20\x00"),
		"value":     fn("\x00", "\x02\x7f\x03\x40\x41\x07", turn, "\x45\x0d\x01\x1a\x0c\x00\x0b\x00\x0b"),
		"return":    fn("\x00", "\x02\x40\x03\x40", turn, "\x45\x04\x40\x20\x00\x0f\x0b\x0c\x00\x0b\x0b", "\x20\x00"),
		"table":     fn("\x00", "\x02\x40\x03\x40", turn, "\x0e\x01\x01\x00\x0b\x0b", "\x20\x00"),
		"jump":      fn("\x00", "\x02\x40\x03\x40", turn, "\x04\x40\x0c\x01\x05\x0c\x02\x0b\x0b\x0b", "\x20\x00"),
		"two loops": fn("\x00", "\x02\x40\x03\x40\x03\x40", turn, "\x45\x0d\x02\x0c\x00\x0b\x0b\x0b", "\x20\x00"),
		"function":  fn("\x00", "\x02\x40\x0b", "\x03\x40\x41\x09", turn, "\x45\x0d\x01\x1a\x0c\x00\x0b", "\x20\x00"),
	}
	for what, f := range ways {
		m := exported(i32toi32, f)
		one := spent(t, m, "f0", 1)
		per := spent(t, m, "f0", 2) - one
		require.GreaterOrEqual(t, per, int64(5), what)
		require.Equal(t, one+999*per, spent(t, m, "f0", 1000), what)
	}
}

func TestRefuel(t *testing.T) {
	ctx := context.Background()
	var gave, left []int64
	stop := errors.New("no more")
	r := machine(t, wazero.NewRuntimeConfig(), func(_ context.Context, _ api.Module, l int64) int64 {
		left = append(left, l)
		if len(left) > len(gave) {
			panic(stop)
		}
		return gave[len(left)-1]
	})
	guest, err := start(t, ctx, r, instrument(t, tight))
	require.NoError(t, err)
	require.Empty(t, left)

	// The first charge finds none. With nothing more each time, a guest still goes on.
	gave = make([]int64, 100)
	_, err = guest.ExportedFunction("f0").Call(ctx, 100)
	require.NoError(t, err)
	require.Len(t, left, 100)
	for _, l := range left {
		require.Equal(t, int64(-15), l)
	}

	// What is given is used, and an error ends the call.
	gave, left = []int64{16, 17, 35}, nil
	_, err = guest.ExportedFunction("f0").Call(ctx, 100)
	require.ErrorIs(t, err, stop)
	require.Equal(t, []int64{-15, -14, -13, -10}, left)
}

func TestInstancesAreMeteredApart(t *testing.T) {
	r := machine(t, wazero.NewRuntimeConfig(), meter.Deadline(100))
	m := instrument(t, tight)
	var wg sync.WaitGroup
	for range 8 {
		guest, err := start(t, context.Background(), r, m)
		require.NoError(t, err)
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			_, err := guest.ExportedFunction("f0").Call(context.Background(), 1000)
			assert.NoError(t, err)
			_, err = guest.ExportedFunction("f0").Call(ctx, 0)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
		})
	}
	wg.Wait()
}

// A trap's trace has the names of the module's functions.
func TestNamesAreKept(t *testing.T) {
	names := section(0, name("name"), join(1, vecLen(vec(join("\x00", name("culprit"))))), join(2, vecLen(vec())))
	m := append(exported(void2void, fn("\x00", "\x00")), names...)
	m = append(m, section(0, name(".debug_info"), "xyz")...)
	r := machine(t, wazero.NewRuntimeConfig(), meter.Deadline(meter.Slice))
	metered := instrument(t, m)
	require.NotContains(t, string(metered), ".debug_info")
	guest, err := start(t, context.Background(), r, metered)
	require.NoError(t, err)
	_, err = guest.ExportedFunction("f0").Call(context.Background())
	require.ErrorContains(t, err, "culprit")

	// A name section that can't be read is left out.
	broken := append(exported(void2void, fn("\x00")), section(0, name("name"), join(1, vecLen(join("\xff\xff\x03"))))...)
	require.NotContains(t, string(instrument(t, broken)), "\x04name")
}

func vecLen(b []byte) []byte { return append(leb(len(b)), b...) }
