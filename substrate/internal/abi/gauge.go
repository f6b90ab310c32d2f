package abi

import (
	"context"
	"errors"

	"github.com/tetratelabs/wazero/api"
)

// Ends of calls that took more of the node than they may.
var (
	ErrFuel      = errors.New("the function has used up its fuel")
	ErrHostCalls = errors.New("the function has called its host too often")
)

// A gauge counts what an event, or the start, takes of the node.
type gauge struct {
	fuel  int64 // given, and what was used beyond that
	none  bool  // all of it was used, whatever the guest's own gauge says
	calls int64 // of host functions, but for those of WASI, which fuel bounds
}

// slice is the fuel that is given at a time: some ten microseconds' worth, in
// which a stack grows by 2 MiB at most.
const slice = 1 << 16

// Refuel is the meter.Refueler of all guests: they go on while they have time and
// fuel, and nothing speaks against it.
func Refuel(ctx context.Context, _ api.Module, left int64) int64 {
	g := guestOf(ctx)
	g.gauge.fuel -= left // which is below zero
	g.gauge.none = true
	if err := g.Err(); err != nil {
		panic(err)
	}
	if g.watch != nil {
		if err := g.watch(); err != nil {
			panic(err)
		}
	}
	more := int64(slice)
	if most := g.limits.Fuel; most > 0 {
		if more = min(more, most-g.gauge.fuel); more <= 0 {
			panic(ErrFuel)
		}
	}
	g.gauge.fuel += more
	g.gauge.none = false
	return more
}

// Watch has a function called whenever the guest asks for fuel, on the goroutine of
// its call, which an error ends.
func (g *Guest) Watch(f func() error) { g.watch = f }

// Refuelled says that an event begins with that much fuel left from before.
func (g *Guest) Refuelled(left int64) { g.gauge.fuel = left }

// Fuel is what the event took, of which the guest's own gauge has some left.
func (g *Guest) Fuel(left int64) int64 {
	if g.gauge.none {
		left = 0
	}
	return g.gauge.fuel - left
}

// HostCalls says how often the event has called host functions.
func (g *Guest) HostCalls() int64 { return g.gauge.calls }

// called counts a call of a host function.
func (g *Guest) called() *Guest {
	g.gauge.calls++
	if most := g.limits.HostCalls; most > 0 && g.gauge.calls > most {
		panic(ErrHostCalls)
	}
	return g
}

// CountFiles has take asked before the guest's files grow by so many bytes, and told
// below zero when they shrink. FileBytes is what they take.
func (g *Guest) CountFiles(take func(bytes int64) bool) { g.files.Count(take) }
func (g *Guest) FileBytes() int64                       { return g.files.Bytes() }
