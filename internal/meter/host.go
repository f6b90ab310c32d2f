package meter

import (
	"context"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// Slice is a good amount of fuel to give at a time: a fraction of a
// millisecond of computing, against which asking for it does not show.
const Slice = 1 << 20

// Refueler decides about a guest that has used up its fuel. left is what it
// has, below zero: it owes that much. The guest goes on with the fuel that is
// returned, or stops: a panic ends the call with a trap, and the error of the
// call wraps the panic's value where that is an error.
//
// ctx is the context of the call. Refueler runs on the goroutine of the call,
// and concurrently for different instances.
type Refueler func(ctx context.Context, guest api.Module, left int64) int64

// Deadline is the Refueler that gives slice after slice until the context of
// the call ends.
func Deadline(slice int64) Refueler {
	return func(ctx context.Context, _ api.Module, _ int64) int64 {
		if err := ctx.Err(); err != nil {
			panic(err)
		}
		return slice
	}
}

// Host instantiates the module that metered guests import.
func Host(ctx context.Context, r wazero.Runtime, refuel Refueler) (api.Module, error) {
	i64 := []api.ValueType{api.ValueTypeI64}
	return r.NewHostModuleBuilder(Module).
		NewFunctionBuilder().
		WithGoModuleFunction(api.GoModuleFunc(func(ctx context.Context, guest api.Module, stack []uint64) {
			stack[0] = uint64(refuel(ctx, guest, int64(stack[0])))
		}), i64, i64).
		Export(Refuel).
		Instantiate(ctx)
}
