package vm

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/tetratelabs/wazero"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/guestabi"
	"github.com/taubyte/taubyte/internal/meter"
	"github.com/taubyte/taubyte/substrate/internal/abi"
)

// A Module is compiled code. Who has loaded it releases it. A module that no
// instance uses may lose its code in the meantime, where it is on disk: then it
// is read again for the next instance.
type Module struct {
	id     cid.Cid
	engine *Engine
	fetch  func(context.Context) ([]byte, error)
	cancel context.CancelFunc
	refs   int  // guarded by the engine's mu
	ended  bool // loading has; guarded by the engine's mu

	compiled chan struct{} // closed when it is compiled, or never will be
	done     chan struct{} // closed when what follows is set
	err      error
	links    []string // names of the guest modules it imports
	exported map[string]export
	minimum  uint64 // bytes of memory at the start
	extra    int64  // that an instance takes beside its memory

	usual atomic.Uint64 // bytes of memory after an instance's first event
	users atomic.Int32  // instances, those in the making included
	used  atomic.Int64  // when one was last made or closed, in Unix nanoseconds

	interim atomic.Bool // it is interpreted

	gate   chan struct{} // holds one who reads or changes what follows
	code   translated
	before wazero.CompiledModule // interpreted, in place of which code came; nil: none
}

// export is a function that a module exports.
type export struct{ params, results int }

// translated is a module as it can be instantiated.
type translated struct {
	compiled wazero.CompiledModule // nil: there is none
	extra    int64                 // bytes that an instance takes beside its memory
	size     int64                 // of the compiled code, where it is on disk as well
	interim  bool                  // it is interpreted
}

func (m *Module) loaded() bool {
	select {
	case <-m.done:
		return m.err == nil
	default:
		return false
	}
}

// Release gives the module back. The last one drops its code.
func (m *Module) Release() {
	e := m.engine
	e.mu.Lock()
	m.refs--
	last, ended := m.refs == 0, m.ended
	if last && e.modules[m.id] == m {
		delete(e.modules, m.id)
	}
	e.mu.Unlock()
	if !last {
		return
	}
	m.cancel()
	if ended { // or else load finds it abandoned
		m.drop()
	}
}

func (m *Module) drop() {
	m.gate <- struct{}{}
	m.clear()
	<-m.gate
}

// set keeps the code, clear gives it up. Who calls them holds the gate, or is
// alone with the module.
func (m *Module) set(code translated) {
	m.code = code
	m.used.Store(time.Now().UnixNano())
	m.engine.code.Add(code.size)
}

func (m *Module) clear() {
	if m.code.compiled != nil {
		_ = m.code.compiled.Close(context.Background())
	}
	if m.before != nil {
		_ = m.before.Close(context.Background())
	}
	m.engine.code.Add(-m.code.size)
	m.code, m.before = translated{}, nil
}

// hold returns the code for an instance, until unhold. Only where alone says that the
// instance has no other module, it may be code that is interpreted.
func (m *Module) hold(ctx context.Context, alone bool) (code translated, err error) {
	if !alone {
		if err := m.await(ctx); err != nil {
			return translated{}, err
		}
	}
	m.users.Add(1)
	select {
	case m.gate <- struct{}{}:
		defer func() { <-m.gate }()
	case <-ctx.Done():
		m.unhold()
		return translated{}, ctx.Err()
	}
	if m.code.compiled == nil {
		code, err := m.engine.compile(ctx, m)
		if err != nil {
			m.unhold()
			return translated{}, fmt.Errorf("module %s: %w", m.id, err)
		}
		m.set(code)
		m.engine.wg.Go(m.engine.trimCode)
	}
	return m.code, nil
}

func (m *Module) unhold() {
	m.used.Store(time.Now().UnixNano())
	m.users.Add(-1)
}

// giveUp gives up the code unless it is in use.
func (m *Module) giveUp() {
	select {
	case m.gate <- struct{}{}:
		defer func() { <-m.gate }()
	default:
		return
	}
	if m.users.Load() == 0 && m.code.size > 0 {
		m.clear()
	}
}

// trimCode gives up code, that unused for longest first, until the rest is
// within bounds.
func (e *Engine) trimCode() {
	if e.code.Load() <= e.config.Code {
		return
	}
	type unused struct {
		m    *Module
		used int64
	}
	var all []unused
	e.mu.Lock()
	for _, m := range e.modules {
		if m.loaded() && m.users.Load() == 0 {
			all = append(all, unused{m, m.used.Load()})
		}
	}
	e.mu.Unlock()
	slices.SortFunc(all, func(a, b unused) int { return cmp.Compare(a.used, b.used) })
	for _, u := range all {
		if e.code.Load() <= e.config.Code {
			return
		}
		u.m.giveUp()
	}
}

// inspect checks what can be seen of a module before it is run.
func (m *Module) inspect(c wazero.CompiledModule) error {
	needsMemory := false
	for _, f := range c.ImportedFunctions() {
		name, _, _ := f.Import()
		switch name {
		case abi.ModuleSDK, abi.ModuleWASI, abi.ModuleEnv, abi.ModuleSmartOps:
			needsMemory = true
		case meter.Module:
		default:
			if !guestabi.Linked(name) {
				return fmt.Errorf("%w module: it imports from %q; a guest imports from %s, %s, %s and modules of its project (libraries/…, functions/…, smartops/…)",
					taubyte.ErrInvalid, name, abi.ModuleSDK, abi.ModuleEnv, abi.ModuleWASI)
			}
			if !slices.Contains(m.links, name) {
				m.links = append(m.links, strings.Clone(name)) // and not the whole file with it
			}
		}
	}
	if len(c.ImportedMemories()) > 0 {
		return fmt.Errorf("%w module: it imports its memory", taubyte.ErrInvalid)
	}
	memory, ok := c.ExportedMemories()["memory"]
	if needsMemory && !ok {
		return fmt.Errorf("%w module: it exports no memory of the name %q", taubyte.ErrInvalid, "memory")
	}
	if ok {
		m.minimum = uint64(memory.Min()) << 16
	}
	m.exported = map[string]export{}
	for name, f := range c.ExportedFunctions() {
		m.exported[strings.Clone(name)] = export{len(f.ParamTypes()), len(f.ResultTypes())}
	}
	return nil
}

// Links names the modules of its project that the module imports.
func (m *Module) Links() []string { return m.links }

// exports lists the functions that the module exports, for an error's text.
func (m *Module) exports() string {
	var names []string
	for name := range m.exported {
		names = append(names, name)
	}
	slices.Sort(names)
	const most = 20
	if len(names) > most {
		names = append(names[:most], "…")
	}
	return strings.Join(names, ", ")
}
