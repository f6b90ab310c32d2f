// Package conformance tests that guests of every kind run on a substrate node: real
// modules, made by the toolchains that people use, on a real node with a registry and
// stores beside it. It has tests only.
//
//	testdata/wat             hand-written modules: life cycles, and each trap of the interface
//	testdata/guest           stock Go with the SDK of this repository: every family
//	testdata/public          stock Go with the public go-sdk v0.3.9, its symbols replaced
//	testdata/rust            Rust for wasm32-unknown-unknown, imports declared by hand
//	testdata/assemblyscript  AssemblyScript, imports declared by hand
//
// Beside testdata/public, the examples that the public go-sdk itself comes with are
// taken from the module cache, built as they are, and run.
//
// A test whose toolchain is not at hand is skipped, and says what to install: wabt,
// rustc, libstd-rust-dev-wasm32 and lld of Debian, or assemblyscript of npm.
package conformance
