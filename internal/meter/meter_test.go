package meter_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/taubyte/taubyte/internal/meter"
)

func TestGoGuestBehavesTheSame(t *testing.T) {
	ctx := context.Background()
	original := goGuest(t)
	metered := instrument(t, original)
	t.Logf("%d bytes become %d", len(original), len(metered))

	var got []string
	for _, m := range [][]byte{original, metered} {
		r := machine(t, wazero.NewRuntimeConfig(), meter.Deadline(meter.Slice))
		at := time.Now()
		guest, err := start(t, ctx, r, m)
		require.NoError(t, err)
		t.Logf("compiled and started in %v", time.Since(at))
		size, err := guest.ExportedFunction("work").Call(ctx, 2000)
		require.NoError(t, err)
		at2, err := guest.ExportedFunction("text").Call(ctx)
		require.NoError(t, err)
		text, ok := guest.Memory().Read(uint32(at2[0]), uint32(size[0]))
		require.True(t, ok)
		got = append(got, string(text))
	}
	require.Contains(t, got[0], "nil pointer dereference")
	require.Equal(t, got[0], got[1])
}

func TestGoGuestIsStopped(t *testing.T) {
	r := machine(t, wazero.NewRuntimeConfig(), meter.Deadline(meter.Slice))
	guest, err := start(t, context.Background(), r, instrument(t, goGuest(t)))
	require.NoError(t, err)
	for _, call := range []struct {
		export string
		n      uint64
	}{{"spin", 0}, {"fib", 90}} {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		_, err = guest.ExportedFunction(call.export).Call(ctx, call.n)
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded, call.export)
	}
	_ = api.ValueTypeI32
}
