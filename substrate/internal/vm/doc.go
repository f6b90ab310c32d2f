// Package vm runs guests: it loads modules, keeps instances of functions warm,
// and hands them their events.
//
// An Engine is one wazero runtime with one set of host modules, for all guests
// of a process. A Module is compiled code, loaded once for its content and
// shared by every function that uses it, until the last of them is closed.
//
// A Function is a module under its limits, with the modules that it links, and
// a pool of instances. An instance handles one event at a time. Its memory
// and globals live on from one event to the next, as guests expect, and so are
// never seen by another function: instances are made for one function of one
// deployment and die with it. An instance is thrown away when a call on it
// failed in any way, when it has grown to two thirds of its memory limit, when
// it has been idle for a while, and when another function needs its memory. One
// instance of each function, made when it is deployed, is kept for longer as
// far as there is room.
//
// A new instance is initialised by its own code and not copied from another one:
// a copy would share its random seeds with every other (stock Go asks for them
// once, when it starts), and so identifiers and hash tables that somebody could
// foresee. Making one is quick for other reasons: its memory is one that was
// cleared before, of the same project, of the size that instances of the module come to, and its data
// is in few pieces (internal/meter).
//
// # Restarts
//
// With a folder for it, compiled code outlives the process: see shells. A module
// that was compiled there is ready without its file, without being metered or
// validated again. What is there need not be in memory: beyond a bound, modules that no
// instance uses give their code up, so that a node can have many more functions
// than it has memory for.
//
// # Before it is compiled
//
// With Config.Interim a module that is not on disk is interpreted until it is compiled, which
// takes about ten times as long as making it ready for that. Nothing is interpreted that the
// caller does not ask for: Function.Compiled waits for the compiler, and
// Function.PrepareInterim takes the quicker way. When the compiler is done, the functions' idle
// instances are replaced, and those at work are not used again.
//
// # Time
//
// A call's deadline covers waiting for an instance, making one, its start
// functions and the event. Modules are instrumented (internal/meter) as they are
// loaded, so that it holds for guests that never call the host.
package vm
