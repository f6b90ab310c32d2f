package meter_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"

	"github.com/taubyte/taubyte/internal/meter"
)

// one is a module of one exported function of type () -> ().
func one(code ...any) []byte { return exported(void2void, fn("\x00", code...)) }

func TestMalformed(t *testing.T) {
	types, functions := section(1, vec(void2void)), section(3, vec("\x00"))
	body := section(10, vec(fn("\x00")))
	for what, m := range map[string][]byte{
		"empty":                    {},
		"no header":                []byte("hello, world"),
		"version":                  {0, 'a', 's', 'm', 2, 0, 0, 0},
		"section beyond the end":   module([]byte{1, 0x80, 0x80, 0x80, 0x80, 0x08}),
		"section twice":            module(types, types),
		"sections out of order":    module(functions, types, body),
		"unknown section":          module(section(42)),
		"bytes after a section":    module(section(1, vec(void2void), 0)),
		"huge count":               module(section(1, "\xff\xff\xff\xff\x0f")),
		"number beyond 32 bits":    module(section(1, "\xff\xff\xff\xff\x1f")),
		"unknown type":             module(types, section(3, vec("\x01")), body),
		"code without function":    module(types, body),
		"function without code":    module(types, functions),
		"no end":                   module(types, functions, section(10, vec(join(2, 0, 1)))),
		"code after the end":       one("\x0b\x01"),
		"too few ends":             one("\x02\x40"),
		"unknown function":         one("\x10\x01"),
		"unknown function ref":     one("\xd2\x01\x1a"),
		"unknown label":            one("\x0c\x01"),
		"unknown table":            one("\x11\x00\x00"),
		"unknown type of a call":   one("\x41\x00\x11\x01\x00"),
		"unknown block type":       one("\x02\x01\x0b"),
		"start of what is not":     module(types, functions, section(8, "\x01"), body),
		"start with a parameter":   module(section(1, vec(i32toi32)), functions, section(8, "\x00"), section(10, vec(fn("\x00", "\x41\x00")))),
		"start and more":           module(types, functions, section(8, "\x00\x00"), body),
		"reference to a start":     module(types, functions, section(8, "\x00"), section(10, vec(fn("\x00", "\xd2\x00\x1a")))),
		"export of what is not":    module(types, functions, section(7, vec(join(name("f"), "\x00\x01"))), body),
		"elements of what are not": module(types, functions, section(4, vec("\x70\x00\x01")), section(9, vec(join("\x00\x41\x00\x0b", vec("\x01")))), body),
		"maximum below minimum":    module(section(5, vec("\x01\x02\x01"))),
		// Valid only by what is added:
		"the gauge's global":   one("\x42\x7f\x24\x00"),
		"its value":            one("\x23\x00\x1a"),
		"its export":           module(section(7, vec(join(name("g"), "\x03\x00")))),
		"its type":             module(types, section(3, vec("\x01")), section(10, vec(fn("\x00", "\x42\x00")))),
		"its local, the fuel":  one("\x42\x7f\x21\x00\x03\x40\x0b"),
		"its local, a size":    one("\x41\x00\x21\x00\x41\x00\x41\x00\x41\x00\xfc\x0b\x00"),
		"the import of refuel": one("\x42\x00\x10\x01\x1a"),
		"a later global":       module(section(6, vec("\x7e\x00\x23\x00\x0b"))),
	} {
		out, err := meter.Instrument(m, meter.Limits{})
		require.ErrorIs(t, err, meter.ErrMalformed, what)
		require.Nil(t, out, what)
	}
}

func TestRefused(t *testing.T) {
	types, functions := section(1, vec(void2void)), section(3, vec("\x00"))
	many := func(n int, entry string) []any {
		entries := make([]any, n)
		for i := range entries {
			entries[i] = entry
		}
		return entries
	}
	imports := func(module, name_ string, kind string) []byte {
		return join(name(module), name(name_), kind)
	}
	for what, m := range map[string][]byte{
		"threads":            one("\xfe\x00\x00\x00"),
		"relaxed SIMD":       one("\xfd\x80\x02"),
		"exceptions":         one("\x06\x40\x0b"),
		"tags":               module(types, section(13, vec("\x00\x00"))),
		"garbage collection": one("\xfb\x00"),
		"struct type":        module(section(1, vec("\x5f\x00\x00"))),
		"later instruction":  one("\xfc\x20"),
		"shared memory":      module(section(5, vec("\x03\x01\x01"))),
		"64-bit memory":      module(section(5, vec("\x04\x01"))),
		"memories":           module(section(5, vec("\x00\x01", "\x00\x01"))),
		"memory":             module(section(5, vec(join(0, leb(65_537))))),
		"table":              module(section(4, vec(join(0x70, 0, leb(100_001))))),
		"tables":             module(section(4, vec(many(17, "\x70\x00\x00")...))),
		"imported tables":    module(section(2, vec(many(17, "\x01a\x01b\x01\x70\x00\x00")...))),
		"globals":            module(section(6, vec(many(1001, "\x7f\x00\x41\x00\x0b")...))),
		"types":              module(section(1, vec(many(10_001, void2void)...))),
		"functions":          module(types, section(3, vec(many(100_001, "\x00")...)), section(10)),
		"imports":            module(types, section(2, vec(many(1001, "\x00\x00\x00\x00")...))),
		"parameters":         module(section(1, vec(join(0x60, vec(many(129, "\x7f")...), 0)))),
		"results":            module(section(1, vec(join(0x60, 0, vec(many(129, "\x7f")...))))),
		"locals":             module(types, functions, section(10, vec(fn("\x01\xff\xff\xff\xff\x0f\x7f")))),
		"locals in groups":   module(types, functions, section(10, vec(fn("\x02\xd0\x86\x03\x7f\x01\x7f")))),
		"function":           one(bytes.Repeat([]byte{1}, 1<<20)),
		"module":             append(one(), section(0, name("x"), bytes.Repeat([]byte{1}, 64<<20))...),
		"elements":           module(types, functions, section(4, vec("\x70\x00\x01")), section(9, vec(join("\x01\x00", vec(many(200_001, "\x00")...)))), section(10, vec(fn("\x00")))),
		"data":               module(section(5, vec("\x00\x01")), section(11, vec(many(100_001, "\x01\x00")...))),

		"reserved import":           module(types, section(2, vec(imports(meter.Module, meter.Refuel, "\x00\x00")))),
		"import of another's fuel":  module(section(2, vec(imports("libraries/x", meter.Fuel, "\x03\x7e\x01")))),
		"reserved export":           module(types, functions, section(7, vec(join(name(meter.Fuel), "\x00\x00"))), section(10, vec(fn("\x00")))),
		"reserved start":            module(types, functions, section(7, vec(join(name(meter.Start), "\x00\x00"))), section(10, vec(fn("\x00")))),
		"import of another's start": module(types, section(2, vec(imports("libraries/x", meter.Start, "\x00\x00")))),
		"metered twice":             instrument(t, one()),
	} {
		out, err := meter.Instrument(m, meter.Limits{})
		require.ErrorIs(t, err, meter.ErrRefused, what)
		require.Nil(t, out, what)
	}
}

// The checks may not make a large module of a small one.
func TestGrowthOfTheModuleIsBounded(t *testing.T) {
	m := one(bytes.Repeat([]byte("\x03\x40\x0b"), 3000))
	_, err := meter.Instrument(m, meter.Limits{ModuleBytes: len(m)})
	require.ErrorIs(t, err, meter.ErrRefused)
}

// A memory and a table grow to their limit and not further, whatever the module says.
func TestGrowthIsBounded(t *testing.T) {
	for _, sizes := range [][2]string{{"\x00\x01", "\x00\x01"}, {"\x01\x01\x80\x80\x04", "\x01\x01\x80\x80\x04"}} {
		m := module(section(1, vec(i32toi32)), section(3, vec("\x00", "\x00")),
			section(4, vec("\x70"+sizes[0])), section(5, vec(sizes[1])),
			section(7, vec(join(name("memory"), "\x00\x00"), join(name("table"), "\x00\x01"))),
			section(10, vec(fn("\x00", "\x20\x00\x40\x00"), fn("\x00", "\xd0\x70\x20\x00\xfc\x0f\x00"))))
		out, err := meter.Instrument(m, meter.Limits{MemoryPages: 10, TableEntries: 20})
		require.NoError(t, err)
		ctx := context.Background()
		guest, err := start(t, ctx, machine(t, wazero.NewRuntimeConfig(), meter.Deadline(meter.Slice)), out)
		require.NoError(t, err)
		for export, limit := range map[string]uint64{"memory": 10, "table": 20} {
			f := guest.ExportedFunction(export)
			for _, step := range []struct{ by, was uint64 }{{limit, 0xffffffff}, {limit - 1, 1}, {1, 0xffffffff}} {
				got, err := f.Call(ctx, step.by)
				require.NoError(t, err)
				require.Equal(t, uint32(step.was), uint32(got[0]), "%s by %d", export, step.by)
			}
		}
	}
}

// Whatever the bytes are, there is no panic, and what the engine would not
// take as it is, it does not take metered.
func FuzzInstrument(f *testing.F) {
	for _, m := range [][]byte{tight, one("\x03\x40\x0c\x00\x0b"), one("\x02\x40\x03\x40\x41\x00\x0d\x01\x41\x00\x0e\x01\x01\x00\x0b\x0b"),
		append(one(), section(0, name("name"), "\x01\x04\x01\x00\x01x")...)} {
		f.Add(m)
	}
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	defer r.Close(ctx)
	f.Fuzz(func(t *testing.T, m []byte) {
		before := bytes.Clone(m)
		out, err := meter.Instrument(m, meter.Limits{FunctionBytes: 1 << 16, Locals: 1000, TableEntries: 1000, MemoryPages: 10})
		require.Equal(t, before, m)
		if err != nil {
			require.Nil(t, out)
			return
		}
		require.LessOrEqual(t, len(out), 256+20*len(m))
		original, err := r.CompileModule(ctx, m)
		metered, meteredErr := r.CompileModule(ctx, out)
		switch {
		case err == nil:
			require.NoError(t, meteredErr)
			original.Close(ctx)
		case strings.Contains(err.Error(), "custom"): // these are dropped
		default:
			require.Error(t, meteredErr, "was %v", err)
		}
		if meteredErr == nil {
			metered.Close(ctx)
		}
	})
}
