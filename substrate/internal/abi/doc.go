// Package abi is the host's side of the interface that guests are compiled
// against: the functions of the wasm modules taubyte/sdk and env, and what
// differs in wasi_snapshot_preview1.
//
// A family of functions is a file, and its table in that file declares each
// function with its exact type: linking is strict, so a name that is missing or
// has another type makes whole modules fail. What the host does not offer is
// declared as well and fails with the errno that its callers expect.
//
// # A guest
//
// Guest is what the host knows of one instance: which function it is, its
// handles, and the one event it handles. It is also the context.Context that the
// instance's code runs under, which is how a host function finds it: one host
// module serves every instance of the process, and nothing is allocated to get
// from one to the other. Modules that are linked together share one Guest, and
// so handles; each has its own memory.
//
// # Lengths
//
// A guest's pointers and lengths are checked against its memory before anything
// is taken or written. What a guest makes the host hold (handles, headers,
// buffered output) has a bound of its own.
package abi
