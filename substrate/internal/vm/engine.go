package vm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/tetratelabs/wazero"

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
	// Interim has a module that is not compiled yet interpreted until it is: see
	// Function.Compiled.
	Interim bool
	// ModuleBytes bounds one module's file.
	ModuleBytes int
	// Memory bounds the memory of all instances together, and Share that of one
	// project's.
	Memory, Share int64
	// Idle is how long an unused instance is kept.
	Idle time.Duration
	// Code bounds the compiled code in memory, as far as it is on disk as well
	// and no instance uses it.
	Code int64
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
	interim   interim
	memory    atomic.Int64 // of all instances
	fuel      atomic.Int64 // of all events so far
	code      atomic.Int64 // bytes of compiled code that could be given up
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

// Compiling is heavy: as many modules at once, each on one core. wazero could use
// more for one, on goroutines of its own, where nothing would catch a panic that
// somebody's module may have found a way to.
const compilers = 2

func compile(ctx context.Context, r wazero.Runtime, module []byte) (compiled wazero.CompiledModule, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the compiler failed: %v", p)
		}
	}()
	return r.CompileModule(ctx, module)
}

// New starts an engine. ctx bounds the start only.
func New(ctx context.Context, config Config) (*Engine, error) {
	e := &Engine{
		config:    config,
		compiling: make(chan struct{}, compilers),
		interim:   interim{places: make(chan struct{}, compilers)},
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
	return errors.Join(e.interim.close(ctx), e.runtime.Close(ctx), e.cache.Close(ctx))
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

// Code is the size of the compiled code in memory that could be given up.
func (e *Engine) Code() int64 { return e.code.Load() }

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

// Interpreted says how many functions have a module that is still being compiled.
func (e *Engine) Interpreted() (n int) {
	for _, f := range e.list() {
		if f.spec.Module.interim.Load() {
			n++
		}
	}
	return n
}

// Fuel is what all events so far have taken, in units of internal/meter.
func (e *Engine) Fuel() int64 { return e.fuel.Load() }

// Memory is what all instances take at the moment.
func (e *Engine) Memory() int64 { return e.memory.Load() }

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
		m = &Module{
			id: id, engine: e, fetch: fetch, cancel: cancel,
			done: make(chan struct{}), compiled: make(chan struct{}), gate: make(chan struct{}, 1),
		}
		e.modules[id] = m
		e.wg.Go(func() { e.load(life, m) })
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

func (e *Engine) load(ctx context.Context, m *Module) {
	start := time.Now()
	made, err := e.recall(ctx, m.id)
	recalled := made.compiled != nil
	var metered []byte // and interpreted: still to be compiled
	var size int
	if err == nil && !recalled {
		var code []byte
		if code, err = m.fetch(ctx); err == nil {
			size = len(code)
			made, metered, err = e.first(ctx, m.id, code)
		}
	}
	if err == nil {
		if err = m.inspect(made.compiled); err != nil {
			err = errors.Join(err, made.compiled.Close(ctx))
		} else {
			m.extra = made.extra
			m.interim.Store(made.interim)
			m.set(made)
		}
	}
	if err == nil {
		e.config.Log.Debug("module loaded", "module", m.id, "from disk", recalled, "interpreted", metered != nil, "took", time.Since(start))
	}
	pending := err == nil && metered != nil
	e.mu.Lock()
	m.err, m.ended = err, !pending
	abandoned := m.refs == 0
	if err != nil && e.modules[m.id] == m {
		delete(e.modules, m.id) // the next one tries again
	}
	close(m.done)
	e.mu.Unlock()
	if pending {
		abandoned = e.finish(ctx, m, size, metered)
	} else {
		close(m.compiled)
	}
	if abandoned {
		m.drop()
	}
	e.trimCode()
}

// first makes a module ready to run in the quicker way. What it returns as metered is
// still to be compiled.
func (e *Engine) first(ctx context.Context, id cid.Cid, code []byte) (made translated, metered []byte, err error) {
	if !e.config.Interim || e.config.Interpret {
		made, err = e.translate(ctx, id, code)
		return made, nil, err
	}
	if metered, err = e.instrument(code); err != nil {
		return translated{}, nil, err
	}
	if made, err = e.interpret(ctx, metered); err != nil {
		return translated{}, nil, err
	}
	return made, metered, nil
}

// compile returns the module's code, from disk where it is there.
func (e *Engine) compile(ctx context.Context, m *Module) (translated, error) {
	made, err := e.recall(ctx, m.id)
	if err != nil || made.compiled != nil {
		return made, err
	}
	code, err := m.fetch(ctx)
	if err != nil {
		return translated{}, err
	}
	return e.translate(ctx, m.id, code)
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

func (e *Engine) instrument(code []byte) ([]byte, error) {
	metered, err := meter.Instrument(code, meter.Limits{ModuleBytes: e.config.ModuleBytes})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", taubyte.ErrInvalid, err)
	}
	return metered, nil
}

// translate meters and compiles a module.
func (e *Engine) translate(ctx context.Context, id cid.Cid, code []byte) (translated, error) {
	if err := e.place(ctx); err != nil {
		return translated{}, err
	}
	defer func() { <-e.compiling }()
	metered, err := e.instrument(code)
	if err != nil {
		return translated{}, err
	}
	return e.compileMetered(ctx, id, len(code), metered)
}

// compileMetered compiles a metered module, of a file of size bytes. The caller has a place.
func (e *Engine) compileMetered(ctx context.Context, id cid.Cid, size int, metered []byte) (translated, error) {
	if e.shells != nil {
		err := e.shells.make(ctx, id, size, metered)
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
	compiled, err := compile(ctx, e.runtime, metered)
	switch {
	case err == nil:
		return translated{compiled: compiled, extra: sizeOf(metered)}, nil
	case ctx.Err() != nil:
		return translated{}, ctx.Err()
	}
	return translated{}, fmt.Errorf("%w: %w", taubyte.ErrInvalid, err)
}
