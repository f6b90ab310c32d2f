package abi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental/sysfs"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// ErrReady unwinds a command's _start: its main has said that it is ready. What
// main would do after that is not run, because events come from the host, on the
// same memory.
var ErrReady = errors.New("the guest is ready")

// An Exit unwinds a guest that has called proc_exit.
type Exit struct{ Code uint32 }

func (e *Exit) Error() string { return fmt.Sprintf("the guest exited with code %d", e.Code) }

var env = []decl{
	{"_ready", "", command(func(g *Guest, _ module, _ []uint64) {
		if g.under == typeNone { // while it starts; later on it means nothing
			panic(ErrReady)
		}
	})},
	{"_sleep", "I", command(func(g *Guest, _ module, a []uint64) { g.sleep(int64(a[0])) })},
	{"_log", "ii", command(func(g *Guest, m module, a []uint64) {
		if text, ok := m.view(a[0], a[1]); ok {
			_, _ = g.stdout.Write(text)
			g.stdout.end()
		}
	})},
}

// sleep pauses the guest, within its time.
func (g *Guest) sleep(ns int64) {
	if ns > 0 {
		t := time.NewTimer(time.Duration(ns))
		defer t.Stop()
		select {
		case <-t.C:
		case <-g.Done():
		}
	}
	if err := g.Err(); err != nil {
		panic(err)
	}
}

// instantiateWASI is wazero's WASI but for proc_exit, which there closes the
// instance: a main that ends with exit code 0 leaves one that goes on to serve.
func instantiateWASI(ctx context.Context, r wazero.Runtime) error {
	b := r.NewHostModuleBuilder(ModuleWASI)
	wasi_snapshot_preview1.NewFunctionExporter().ExportFunctions(b)
	export(b, decl{"proc_exit", "i", command(func(_ *Guest, _ module, a []uint64) {
		panic(&Exit{Code: uint32(a[0])})
	})})
	if _, err := b.Instantiate(ctx); err != nil {
		return fmt.Errorf("host module %s: %w", ModuleWASI, err)
	}
	return nil
}

// Config is how a module of the guest is instantiated: without a name, so that
// any number of it can be, with the environment of its function and no standard input,
// with a file system of its own in memory, with real clocks and randomness, and with its output
// in the log.
func (g *Guest) Config(name string) wazero.ModuleConfig {
	files := wazero.NewFSConfig().(sysfs.FSConfig).WithSysFSMount(g.files, "/")
	config := wazero.NewModuleConfig()
	for name, value := range g.self.Environment.all() {
		config = config.WithEnv(name, value)
	}
	return config.
		WithName("").
		WithFSConfig(files).
		WithStartFunctions().
		WithArgs(name).
		WithStdout(g.stdout).
		WithStderr(g.stderr).
		WithRandSource(random{g}).
		WithNanosleep(g.sleep).
		WithSysWalltime().
		WithSysNanotime()
}
