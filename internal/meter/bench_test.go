package meter_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"

	"github.com/taubyte/taubyte/internal/meter"
)

// tight has f0, a loop that counts its argument down (four instructions and
// the jump), and f1, which mixes a value and a memory cell per turn.
var tight = func() []byte {
	countdown := fn("\x00",
		"\x03\x40",         // loop
		"\x20\x00\x41\x01", // local.get 0, i32.const 1
		"\x6b\x22\x00",     // i32.sub, local.tee 0
		"\x0d\x00\x0b",     // br_if 0, end
		"\x20\x00")
	mix := fn("\x01\x01\x7f",
		"\x03\x40",
		"\x20\x01\x41\x0d\x6c\x20\x00\x6a\x21\x01", // x = x*13 + n
		"\x41\x10\x20\x01\x41\x10\x28\x02\x00\x6a", // 16: mem[16] + x
		"\x36\x02\x00", // store
		"\x20\x00\x41\x01\x6b\x22\x00",
		"\x0d\x00\x0b",
		"\x41\x10\x28\x02\x00")
	m := exported(i32toi32, countdown, mix)
	memory := section(5, vec("\x00\x01"))
	// The memory section stands between functions and exports.
	at := len(module(section(1, vec(i32toi32)), section(3, vec(0, 0))))
	return append(append(append([]byte{}, m[:at]...), memory...), m[at:]...)
}()

// recursive has f0, Fibonacci's numbers as they are defined: nothing but calls.
var recursive = exported(i32toi32, fn("\x00",
	"\x20\x00\x41\x02\x48\x04\x40\x20\x00\x0f\x0b", // if n < 2 return n
	"\x20\x00\x41\x01\x6b\x10\x00", "\x20\x00\x41\x02\x6b\x10\x00", "\x6a"))

func BenchmarkRun(b *testing.B) {
	const turns = 1_000_000
	cases := []struct {
		name   string
		module []byte
		export string
		n      uint64
	}{
		{"countdown", tight, "f0", turns},
		{"mix", tight, "f1", turns},
		{"recursion", recursive, "f0", 25},
		{"go-loop", goGuest(b), "spin", turns},
		{"go-calls", goGuest(b), "fib", 25},
		{"go-work", goGuest(b), "work", 1000},
	}
	for _, c := range cases {
		for _, way := range []struct {
			name   string
			config wazero.RuntimeConfig
			meter  bool
		}{
			{"plain", wazero.NewRuntimeConfig(), false},
			{"metered", wazero.NewRuntimeConfig(), true},
			{"context", wazero.NewRuntimeConfig().WithCloseOnContextDone(true), false},
		} {
			b.Run(c.name+"/"+way.name, func(b *testing.B) {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				m := c.module
				if way.meter {
					m = instrument(b, m)
				}
				guest, err := start(b, ctx, machine(b, way.config, meter.Deadline(meter.Slice)), m)
				require.NoError(b, err)
				f := guest.ExportedFunction(c.export)
				b.ResetTimer()
				for b.Loop() {
					_, err := f.Call(ctx, c.n)
					require.NoError(b, err)
				}
			})
		}
	}
}

func BenchmarkInstrument(b *testing.B) {
	m := goGuest(b)
	b.SetBytes(int64(len(m)))
	b.ReportAllocs()
	for b.Loop() {
		_, err := meter.Instrument(m, meter.Limits{})
		require.NoError(b, err)
	}
}
