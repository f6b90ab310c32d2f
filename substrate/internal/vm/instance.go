package vm

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/taubyte/taubyte/internal/meter"
	"github.com/taubyte/taubyte/substrate/internal/abi"
)

// An instance is a guest in the making, at work or waiting for work.
type instance struct {
	engine   *Engine
	share    *share
	guest    *abi.Guest
	modules  []api.Module // the function's own is the last
	held     []*Module
	memories []*memory
	entry    api.Function
	gauges   []api.Global // the fuel of each module
	fuel     int64        // that the last event took
	param    [1]uint64
	stack    reflect.Value // of the call under way
	since    time.Time     // when it became idle

	environment *abi.Environment // that it was made with
	interim     bool             // it is interpreted

	stackBytes int64  // counted to the memory of the node
	extra      int64  // likewise: of tables and the like
	first      uint64 // bytes of memory after the first event
}

// instantiate makes an instance of the function and runs its start functions,
// within the deadline.
func (f *Function) instantiate(ctx context.Context, deadline time.Time) (made *instance, err error) {
	self := f.spec.Self
	self.Environment = f.environment.Load()
	g := abi.NewGuest(f.engine.life, self, f.spec.Limits, f.engine.config.Services, f.log, f.rate)
	in := &instance{engine: f.engine, share: f.share, guest: g, environment: self.Environment, modules: make([]api.Module, 0, 1+len(f.spec.Links))}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("instantiating: %v", p)
		}
		if err != nil && in.starved() {
			err = ErrBusy
		}
		g.Leave()
		if err != nil {
			in.close()
			made = nil
		}
	}()
	g.Enter(ctx, deadline)
	g.Watch(in.watchStack)
	g.CountFiles(func(bytes int64) bool {
		if bytes < 0 {
			f.engine.give(f.share, -bytes)
			return true
		}
		return f.engine.take(f.share, bytes)
	})

	linked := func(name string) api.Module {
		for i, m := range in.modules {
			if f.modules[i].Name == name {
				return m
			}
		}
		return nil // one of the host's
	}
	var life context.Context = g
	life = experimental.WithMemoryAllocator(life, experimental.MemoryAllocatorFunc(func(_, _ uint64) experimental.LinearMemory {
		m := &memory{engine: f.engine, share: f.share, module: f.modules[len(in.modules)].Module, limit: f.limit}
		in.memories = append(in.memories, m)
		return m
	}))
	if len(f.spec.Links) > 0 {
		life = experimental.WithImportResolver(life, linked)
	}
	extra := int64(overhead)
	for _, l := range f.modules {
		extra += l.Module.extra
	}
	if !in.engine.take(f.share, extra) {
		return nil, ErrBusy
	}
	in.extra = extra
	for _, l := range f.modules {
		code, err := l.Module.hold(g, len(f.modules) == 1)
		if err != nil {
			return nil, err
		}
		in.held = append(in.held, l.Module)
		runtime := f.engine.runtime
		if in.interim = code.interim; code.interim {
			runtime = f.engine.interim.runtime
		}
		m, err := runtime.InstantiateModule(life, code.compiled, g.Config(l.Name))
		if err != nil {
			return nil, fmt.Errorf("instantiating: %w", err)
		}
		in.modules = append(in.modules, m)
		in.gauges = append(in.gauges, m.ExportedGlobal(meter.Fuel))
		if err := in.start(m); err != nil {
			return nil, err
		}
	}
	in.entry = in.modules[len(in.modules)-1].ExportedFunction(f.spec.Call)
	in.stack = stackOf(in.entry)
	return in, nil
}

// start runs a module's start function, and then its initialiser: that of a
// reactor, the main of a command, or none.
func (in *instance) start(m api.Module) error {
	for _, name := range []string{meter.Start, "_initialize", "_start"} {
		fn := m.ExportedFunction(name)
		if fn == nil || len(fn.Definition().ParamTypes()) != 0 {
			continue
		}
		in.stack = stackOf(fn)
		if _, err := fn.Call(in.guest); exited(err) != nil && !errors.Is(err, abi.ErrReady) {
			return fmt.Errorf("%s: %w", name, err)
		}
		if name != meter.Start {
			return nil
		}
	}
	return nil
}

// exited is what an error of guest code means: to exit with code 0 is none.
func exited(err error) error {
	var exit *abi.Exit
	if errors.As(err, &exit) && exit.Code == 0 {
		return nil
	}
	return err
}

// spent says that the instance has grown too much to be used again. What it has
// after its first event, every instance of the function would have as well.
func (in *instance) spent() bool {
	size, near := uint64(0), false
	for _, m := range in.memories {
		size += m.size
		near = near || m.size > m.limit/3*2
	}
	if in.first == 0 {
		in.first = size
		for _, m := range in.memories {
			m.module.usual.Store(m.size)
		}
	}
	return near && size > in.first || in.stackBytes > 0 || in.guest.Spent()
}

// starved says that the node had no memory for the instance to begin with.
func (in *instance) starved() bool {
	for _, m := range in.memories {
		if m.starved && m.size == 0 {
			return true
		}
	}
	return false
}

// left is the fuel that the instance has.
func (in *instance) left() (fuel int64) {
	for _, g := range in.gauges {
		fuel += int64(g.Get())
	}
	return fuel
}

// used adds what the last event took to attributes of the log.
func (in *instance) used(about []any) []any {
	return append(about, "fuel", in.fuel, "host calls", in.guest.HostCalls())
}

// overhead is about what an instance takes beside its memory.
const overhead = 96 << 10

// weight is what an instance takes while it is idle, in bytes.
func (in *instance) weight() int64 {
	w := in.extra + in.guest.FileBytes()
	for _, m := range in.memories {
		w += int64(m.size)
	}
	return w
}

// close is called once.
func (in *instance) close() {
	for _, m := range in.modules {
		_ = m.Close(context.Background())
	}
	for _, m := range in.memories {
		m.Free()
	}
	for _, m := range in.held {
		m.unhold()
	}
	in.engine.give(in.share, in.stackBytes+in.extra+in.guest.FileBytes())
}
