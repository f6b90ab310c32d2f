// Package meter puts a fuel gauge into a WebAssembly module, so that a guest
// that never calls its host can still be stopped, counted and charged, at a
// fraction of the price of checking a context on every jump.
//
//	metered, err := meter.Instrument(module, meter.Limits{})
//	_, err = meter.Host(ctx, runtime, meter.Deadline(meter.Slice))
//	compiled, err := runtime.CompileModule(ctx, metered)
//	config = config.WithStartFunctions(meter.Start, "_initialize")
//
// # What is added
//
// Instrument appends, and thereby leaves every index but those of functions as
// it was:
//
//   - a function type (i64) -> (i64), last of the types;
//   - the import "taubyte/meter" "refuel" of that type, last of the imports.
//     Functions that the module defines move up by one;
//   - a mutable i64 global, zero at first, last of the globals: the fuel;
//   - the export "taubyte/meter fuel" of that global, last of the exports;
//   - the export "taubyte/meter start" of the module's start function, where it
//     has one, in place of the start section: see Start;
//   - in a function that uses an instruction whose work depends on an operand
//     (memory.fill, table.grow and the like), one i32 local, last of its locals.
//
// Custom sections are dropped (offsets into code, such as those of DWARF, would
// be wrong), but for the names of the module and its functions.
//
// Active data segments that are close together become one where nothing can tell
// the difference: the engine's work for a segment is more than for its bytes.
//
// # What is charged
//
// Code is charged where it can repeat: at the entry of a function and at the
// head of a loop. A charge takes from the fuel the number of all instructions
// that belong to that place: those of the function outside of its loops, or
// those of the loop outside of the loops within. Control flows only forward
// between two charges, so that no instruction runs more often than it is
// charged. Code that a branch leaps over is charged too: fuel is an upper bound
// of the instructions executed, the same for the same module and the same input.
// An entry check right before a loop is left out and charged with the loop.
//
// Instructions cost 1, but for calls of imported functions and growing (which
// leave compiled code) and those whose work is an operand: these pay for its
// size before they start.
//
// When the fuel falls below zero the guest calls refuel with what is left and
// goes on with what refuel returns. The first charge always calls it, since the
// fuel starts at zero: also a start function runs under the host's eye.
//
// The stack that a call takes grows by less than 32 bytes for a unit of fuel, so
// that a host that looks at it whenever the guest refuels can bound it.
//
// # Who touches the fuel
//
// The fuel belongs to an instance. It is written by the guest's compiled code and
// by refuel, which runs on the goroutine of the call; a host may read or write
// the exported global between calls. Nothing else can reach it: Instrument
// checks every index of the module against the module's own spaces, so that what
// was invalid does not become valid by what was added, and refuses modules that
// import or export the reserved names. A module must be linked with metered
// modules only, or else the others run unmetered.
//
// # Hostile modules
//
// Instrument checks structure, not types: the engine does that with the result.
// Every count is checked against the bytes that are left before memory is
// taken for it, and against Limits; memories and tables get a maximum. The memory
// that Instrument takes is a small multiple of the module's size. Since a few
// kilobytes can be made to take the engine minutes, there is also a limit on
// their complexity.
package meter
