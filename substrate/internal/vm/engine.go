package vm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/meter"
	"github.com/taubyte/taubyte/substrate/internal/abi"
)

// Config is what an Engine needs. ModuleBytes, Memory,
// Share, Idle and Log are set.
type Config struct {
	// CacheDir keeps compiled code; empty: in memory alone.
	CacheDir string
	// Interpret runs without compiling, as is done anyway on platforms that
	// wazero has no compiler for.
	Interpret bool
	// ModuleBytes bounds one module's file.
	ModuleBytes int
	// Memory bounds the memory of all instances together, and Share that of one
	// project's.
	Memory, Share int64
	// Idle is how long an unused instance is kept.
	Idle time.Duration
	// Warm bounds the memory for instances that are kept longer, one for a function.
	Warm int64
	// Services are what guests are offered.
	Services abi.Services
	Log      *slog.Logger
}

// An Engine runs the guests of a process. It is safe for concurrent use.
type Engine struct {
	config    Config
	runtime   wazero.Runtime
	cache     wazero.CompilationCache
	shells    *shells       // nil: compiled code is not kept
	compiling chan struct{} // a place for each module being compiled
	memory    atomic.Int64  // of all instances
	instances atomic.Int64
	fuel      atomic.Int64 // of all events so far
	spares    spares

	life context.Context // of all guests
	stop context.CancelFunc
	wg   sync.WaitGroup

	running sync.WaitGroup // functions that are not released

	mu        sync.Mutex // guards what follows
	closed    bool
	modules   map[cid.Cid]*Module
	functions map[*Function]struct{}
	shares    map[taubyte.ProjectID]*share
}

// Compiling is heavy: as many modules at once, each on all cores.
const compilers = 2

// New starts an engine. ctx bounds the start only.
func New(ctx context.Context, config Config) (*Engine, error) {
	e := &Engine{
		config:    config,
		compiling: make(chan struct{}, compilers),
		modules:   map[cid.Cid]*Module{},
		functions: map[*Function]struct{}{},
		shares:    map[taubyte.ProjectID]*share{},
	}
	var err error
	e.cache = wazero.NewCompilationCache()
	if config.CacheDir != "" {
		if err := prune(config.CacheDir, maxCacheBytes); err != nil {
			return nil, fmt.Errorf("cache of compiled code: %w", err)
		}
		if !config.Interpret {
			if e.shells, err = newShells(ctx, config.CacheDir); err != nil {
				return nil, fmt.Errorf("cache of compiled code: %w", err)
			}
		}
		if e.cache, err = wazero.NewCompilationCacheWithDir(config.CacheDir); err != nil {
			return nil, fmt.Errorf("cache of compiled code: %w", err)
		}
	}
	e.runtime = wazero.NewRuntimeWithConfig(ctx, mode(config.Interpret).WithCompilationCache(e.cache))
	err = abi.Instantiate(ctx, e.runtime)
	if err == nil {
		_, err = meter.Host(ctx, e.runtime, abi.Refuel)
	}
	if err != nil {
		return nil, errors.Join(err, e.runtime.Close(ctx), e.cache.Close(ctx))
	}
	e.life, e.stop = context.WithCancel(context.Background())
	e.wg.Go(func() { e.trim(e.life) })
	return e, nil
}

// mode is how a runtime works: with wazero's compiler where it has one for the
// platform, and with its interpreter elsewhere.
func mode(interpret bool) wazero.RuntimeConfig {
	c := wazero.NewRuntimeConfig()
	if interpret {
		c = wazero.NewRuntimeConfigInterpreter()
	}
	return c.WithDebugInfoEnabled(false)
}

// Stop cuts the calls that are under way.
func (e *Engine) Stop() { e.stop() }

// Close cuts the calls that are under way and ends the engine. All functions are
// closed before it.
func (e *Engine) Close() error {
	e.mu.Lock()
	already := e.closed
	e.closed = true
	e.mu.Unlock()
	if already {
		return nil
	}
	e.stop()
	e.running.Wait() // code is not taken away under a call
	e.wg.Wait()
	ctx := context.Background()
	return errors.Join(e.runtime.Close(ctx), e.cache.Close(ctx))
}

func (e *Engine) list() []*Function {
	e.mu.Lock()
	defer e.mu.Unlock()
	fs := make([]*Function, 0, len(e.functions))
	for f := range e.functions {
		fs = append(fs, f)
	}
	return fs
}

// Modules lists the modules that are loaded.
func (e *Engine) Modules() []cid.Cid {
	e.mu.Lock()
	defer e.mu.Unlock()
	var ids []cid.Cid
	for id, m := range e.modules {
		if m.loaded() {
			ids = append(ids, id)
		}
	}
	return ids
}

// Waiting says how many hold a module or wait for it.
func (e *Engine) Waiting(id cid.Cid) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if m, ok := e.modules[id]; ok {
		return m.refs
	}
	return 0
}

// Queued says how many calls wait for an instance.
func (e *Engine) Queued() int {
	n := 0
	for _, f := range e.list() {
		n += int(min(f.pool.waiting.Load(), f.pool.queue))
	}
	return n
}

// Fuel is what all events so far have taken, in units of internal/meter.
func (e *Engine) Fuel() int64 { return e.fuel.Load() }

// Memory is what all instances take at the moment.
func (e *Engine) Memory() int64 { return e.memory.Load() }

// A Module is compiled code. Who has loaded it releases it.
type Module struct {
	id     cid.Cid
	engine *Engine
	cancel context.CancelFunc
	refs   int  // guarded by the engine's mu
	ended  bool // loading has; guarded by the engine's mu

	done chan struct{} // closed when what follows is set
	err  error
	translated
	links   []string // names of the guest modules it imports
	minimum uint64   // bytes of memory at the start

	usual atomic.Uint64 // bytes of memory after an instance's first event
}

// translated is a module as it can be instantiated.
type translated struct {
	compiled wazero.CompiledModule // nil: there is none
	extra    int64                 // bytes that an instance takes beside its memory
}

// Load returns the module of that content, compiling what fetch returns unless
// it is loaded already. Concurrent calls for one content do it once.
func (e *Engine) Load(ctx context.Context, id cid.Cid, fetch func(context.Context) ([]byte, error)) (*Module, error) {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil, fmt.Errorf("module %s: engine %w", id, taubyte.ErrClosed)
	}
	m, ok := e.modules[id]
	if !ok {
		life, cancel := context.WithCancel(context.Background())
		m = &Module{id: id, engine: e, cancel: cancel, done: make(chan struct{})}
		e.modules[id] = m
		e.wg.Go(func() { e.load(life, m, fetch) })
	}
	m.refs++
	e.mu.Unlock()

	select {
	case <-m.done:
	case <-ctx.Done():
		m.Release()
		return nil, fmt.Errorf("module %s: %w", id, context.Cause(ctx))
	}
	if m.err != nil {
		err := m.err
		m.Release()
		return nil, fmt.Errorf("module %s: %w", id, err)
	}
	return m, nil
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
	if m.compiled != nil {
		_ = m.compiled.Close(context.Background())
	}
}

func (e *Engine) load(ctx context.Context, m *Module, fetch func(context.Context) ([]byte, error)) {
	err := e.compile(ctx, m, fetch)
	e.mu.Lock()
	m.err, m.ended = err, true
	abandoned := m.refs == 0
	if err != nil && e.modules[m.id] == m {
		delete(e.modules, m.id) // the next one tries again
	}
	close(m.done)
	e.mu.Unlock()
	if abandoned {
		m.drop()
	}
}

func (e *Engine) compile(ctx context.Context, m *Module, fetch func(context.Context) ([]byte, error)) error {
	start := time.Now()
	made, err := e.recall(ctx, m.id)
	if err != nil {
		return err
	}
	recalled := made.compiled != nil
	if !recalled {
		code, err := fetch(ctx)
		if err != nil {
			return err
		}
		if made, err = e.translate(ctx, m.id, code); err != nil {
			return err
		}
	}
	if err := m.inspect(made.compiled); err != nil {
		return errors.Join(err, made.compiled.Close(ctx))
	}
	m.translated = made
	e.config.Log.Debug("module loaded", "module", m.id, "from disk", recalled, "took", time.Since(start))
	return nil
}

// place takes one of the places for heavy work.
func (e *Engine) place(ctx context.Context) error {
	select {
	case e.compiling <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// recall returns the module if it was compiled before.
func (e *Engine) recall(ctx context.Context, id cid.Cid) (translated, error) {
	if e.shells == nil {
		return translated{}, nil
	}
	if err := e.place(ctx); err != nil {
		return translated{}, err
	}
	defer func() { <-e.compiling }()
	m, size := e.shells.load(ctx, e.runtime, id)
	if m.compiled != nil && size > e.config.ModuleBytes {
		err := fmt.Errorf("%w module: %d bytes, the limit is %d", taubyte.ErrInvalid, size, e.config.ModuleBytes)
		return translated{}, errors.Join(err, m.compiled.Close(ctx))
	}
	return m, nil
}

// translate meters and compiles a module.
func (e *Engine) translate(ctx context.Context, id cid.Cid, code []byte) (translated, error) {
	if err := e.place(ctx); err != nil {
		return translated{}, err
	}
	defer func() { <-e.compiling }()
	metered, err := meter.Instrument(code, meter.Limits{ModuleBytes: e.config.ModuleBytes})
	if err != nil {
		return translated{}, fmt.Errorf("%w: %w", taubyte.ErrInvalid, err)
	}
	if e.shells != nil {
		err := e.shells.make(ctx, id, len(code), metered)
		if err == nil {
			if m, _ := e.shells.load(ctx, e.runtime, id); m.compiled != nil {
				return m, nil
			}
		}
		if ctx.Err() != nil {
			return translated{}, ctx.Err()
		}
		// The disk may be full, or the module invalid: the next lines find out.
		e.config.Log.Debug("compiled code is not kept", "module", id, "err", err)
	}
	compiled, err := e.runtime.CompileModule(experimental.WithCompilationWorkers(ctx, runtime.GOMAXPROCS(0)), metered)
	switch {
	case err == nil:
		return translated{compiled, sizeOf(metered)}, nil
	case ctx.Err() != nil:
		return translated{}, ctx.Err()
	}
	return translated{}, fmt.Errorf("%w: %w", taubyte.ErrInvalid, err)
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
			if !linkable(name) {
				return fmt.Errorf("%w module: it imports from %q; a guest imports from %s, %s, %s and modules of its project (libraries/…, functions/…, smartops/…)",
					taubyte.ErrInvalid, name, abi.ModuleSDK, abi.ModuleEnv, abi.ModuleWASI)
			}
			if !slices.Contains(m.links, name) {
				m.links = append(m.links, name)
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
	return nil
}

// linkable says whether an import names a module of the guest's own project.
// Nothing else is ever looked up by an import's name.
func linkable(name string) bool {
	kind, rest, _ := strings.Cut(name, "/")
	return rest != "" && (kind == "libraries" || kind == "functions" || kind == "smartops")
}

// Links names the modules of its project that the module imports.
func (m *Module) Links() []string { return m.links }

// exports lists the functions that the module exports, for an error's text.
func (m *Module) exports() string {
	var names []string
	for name := range m.compiled.ExportedFunctions() {
		names = append(names, name)
	}
	slices.Sort(names)
	const most = 20
	if len(names) > most {
		names = append(names[:most], "…")
	}
	return strings.Join(names, ", ")
}
