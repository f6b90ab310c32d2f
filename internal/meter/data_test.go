package meter_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"

	"github.com/taubyte/taubyte/internal/meter"
)

// data is an active segment.
func data(at int, text string) []byte { return join(0, 0x41, sleb(at), 0x0b, name(text)) }

func sleb(n int) []byte {
	var b []byte
	for {
		c := byte(n) & 0x7f
		n >>= 7
		if n == 0 && c&0x40 == 0 || n == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

// Data segments are joined only where the guest's memory is the same after it.
func TestDataIsJoined(t *testing.T) {
	ctx := context.Background()
	memory := section(5, vec("\x00\x01"))
	export := section(7, vec(join(name("memory"), "\x02\x00")))
	code := func(c string) [][]byte {
		return [][]byte{section(1, vec(void2void)), section(3, vec("\x00")), memory, export, section(10, vec(fn("\x00", c)))}
	}
	count := func(n int) []byte { return section(12, leb(n)) }
	counted := func(c string, n int) [][]byte {
		s := code(c)
		return [][]byte{s[0], s[1], s[2], s[3], count(n), s[4]}
	}
	global := section(6, vec("\x7f\x00\x41\x07\x0b"))
	drop := "\xfc\x09\x00"
	for what, c := range map[string]struct {
		sections [][]byte
		segments []any
		joined   int // segments that are left; -1: not instantiated
	}{
		"one":                        {[][]byte{memory, export}, []any{data(8, "one")}, 1},
		"none":                       {[][]byte{memory, export}, nil, 0},
		"close":                      {[][]byte{memory, export}, []any{data(8, "one"), data(20, "two"), data(23, "three")}, 1},
		"far":                        {[][]byte{memory, export}, []any{data(8, "one"), data(2000, "two")}, 2},
		"empty":                      {[][]byte{memory, export}, []any{data(8, ""), data(8, ""), data(9, "x")}, 1},
		"out of order":               {[][]byte{memory, export}, []any{data(40, "one"), data(8, "two"), data(20, "three")}, 1},
		"overlapping":                {[][]byte{memory, export}, []any{data(8, "aaaa"), data(10, "bbbb"), data(9, "c")}, 3},
		"overlapping, the other way": {[][]byte{memory, export}, []any{data(10, "bbbb"), data(8, "aaaa")}, 2},
		"a place that is a global":   {[][]byte{memory, global, export}, []any{data(8, "one"), join(0, 0x23, 0, 0x0b, name("two"))}, -1},
		"a place that is reckoned":   {[][]byte{memory, export}, []any{data(8, "one"), join(0, "\x41\x07\x41\x02\x6a\x0b", name("two"))}, -1},
		"one that is passive":        {[][]byte{memory, export}, []any{data(8, "one"), join(1, name("two")), data(11, "three")}, 3},
		"named by an instruction":    {counted(drop, 2), []any{data(8, "one"), data(11, "two")}, 2},
		"declared, but not named":    {counted("", 2), []any{data(8, "one"), data(11, "two")}, 1},
		"at the end":                 {[][]byte{memory, export}, []any{data(65500, "one"), data(65530, "sixsix")}, 1},
		"beyond the end":             {[][]byte{memory, export}, []any{data(65500, "one"), data(65530, "sixsix!")}, -1},
		"empty beyond the end":       {[][]byte{memory, export}, []any{data(65530, "six"), data(65537, "")}, -1},
		"at a negative place":        {[][]byte{memory, export}, []any{data(-4, "last"), data(8, "one")}, -1},
		"a second in the same place": {[][]byte{memory, export}, []any{data(8, ""), data(8, "one"), data(8, "")}, 3},
		"both ends of the memory":    {[][]byte{memory, export}, []any{data(0, "one"), data(65533, "two")}, 2},
	} {
		t.Run(what, func(t *testing.T) {
			sections := c.sections
			if c.segments != nil {
				sections = append(bytesOf(sections), section(11, vec(c.segments...)))
			}
			m := module(sections...)
			out := instrument(t, m)
			want, wantErr := memoryOf(t, ctx, m)
			got, err := memoryOf(t, ctx, out)
			require.Equal(t, wantErr == nil, err == nil, "%v, %v", wantErr, err)
			require.Equal(t, want, got)
			require.Equal(t, c.joined < 0, err != nil, "%v", err)
			if c.joined > 0 {
				require.Equal(t, c.joined, segmentsOf(t, out))
			}
		})
	}

	_, err := meter.Instrument(module(append(counted("", 3), section(11, vec(data(8, "one"), data(11, "two"))))...), meter.Limits{})
	require.ErrorIs(t, err, meter.ErrMalformed)
}

func bytesOf(b [][]byte) [][]byte { return append([][]byte{}, b...) }

func memoryOf(t *testing.T, ctx context.Context, m []byte) ([]byte, error) {
	r := machine(t, wazero.NewRuntimeConfigInterpreter(), meter.Deadline(meter.Slice))
	defer r.Close(ctx)
	guest, err := r.InstantiateWithConfig(ctx, m, wazero.NewModuleConfig().WithName(""))
	if err != nil {
		return nil, err
	}
	b, ok := guest.Memory().Read(0, guest.Memory().Size())
	require.True(t, ok)
	return bytes.Clone(b), nil
}

// segmentsOf counts the data segments of a module.
func segmentsOf(t *testing.T, m []byte) int {
	number := func(b []byte) (v, n int) {
		for n = 1; ; n++ {
			v |= int(b[n-1]&0x7f) << (7 * (n - 1))
			if b[n-1] < 0x80 {
				return v, n
			}
		}
	}
	for b := m[8:]; len(b) > 0; {
		size, n := number(b[1:])
		if b[0] == 11 {
			count, _ := number(b[1+n:])
			return count
		}
		b = b[1+n+size:]
	}
	t.Fatalf("no data in %x", m)
	return 0
}
