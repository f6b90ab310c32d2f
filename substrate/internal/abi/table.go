package abi

import (
	"context"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// The modules that a guest may import from the host.
const (
	ModuleSDK  = "taubyte/sdk"
	ModuleEnv  = "env"
	ModuleWASI = "wasi_snapshot_preview1"
)

// A decl declares a host function. A letter of params is one parameter: i is an
// i32 and I an i64. The result is given by the type of do: none, or an i32.
type decl struct {
	name   string
	params string
	do     any // command or errno
}

// errno is a host function that returns an errno, or an i32 of another meaning
// in its place; command is one that returns nothing. args are the parameters.
type (
	errno   func(g *Guest, m module, args []uint64) Errno
	command func(g *Guest, m module, args []uint64)
)

// fail is a function that a guest may link, and that does nothing for it.
func fail(e Errno) errno {
	return func(*Guest, module, []uint64) Errno { return e }
}

// sdk is taubyte/sdk: one flat namespace.
func sdk() []decl {
	var all []decl
	for _, family := range [][]decl{
		events, timer, httpEvents, httpClient, pubsub, p2p, databases, storages, contents, ipfs, dns,
		crypto, self, secrets, logging, globals, memoryViews, fifos, ethereum,
	} {
		all = append(all, family...)
	}
	return all
}

// Instantiate puts the host's modules into a runtime, once for all the guests in
// it.
func Instantiate(ctx context.Context, r wazero.Runtime) error {
	if err := instantiate(ctx, r, ModuleSDK, sdk()); err != nil {
		return err
	}
	if err := instantiate(ctx, r, ModuleSmartOps, smartOps); err != nil {
		return err
	}
	if err := instantiate(ctx, r, ModuleEnv, env); err != nil {
		return err
	}
	return instantiateWASI(ctx, r)
}

func instantiate(ctx context.Context, r wazero.Runtime, name string, decls []decl) error {
	b := r.NewHostModuleBuilder(name)
	for _, d := range decls {
		export(b, d)
	}
	if _, err := b.Instantiate(ctx); err != nil {
		return fmt.Errorf("host module %s: %w", name, err)
	}
	return nil
}

func export(b wazero.HostModuleBuilder, d decl) {
	params := make([]api.ValueType, len(d.params))
	for i, p := range d.params {
		params[i] = api.ValueTypeI32
		if p == 'I' {
			params[i] = api.ValueTypeI64
		}
	}
	var call api.GoModuleFunc
	var results []api.ValueType
	switch do := d.do.(type) {
	case command:
		call = func(ctx context.Context, m api.Module, stack []uint64) { do(guestOf(ctx).called(), module{m}, stack) }
	case errno:
		results = []api.ValueType{api.ValueTypeI32}
		call = func(ctx context.Context, m api.Module, stack []uint64) {
			stack[0] = uint64(do(guestOf(ctx).called(), module{m}, stack))
		}
	default:
		panic(fmt.Sprintf("abi: %s is declared as %T", d.name, d.do))
	}
	b.NewFunctionBuilder().WithGoModuleFunction(call, params, results).Export(d.name)
}
