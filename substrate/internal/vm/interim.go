package vm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/meter"
	"github.com/taubyte/taubyte/substrate/internal/abi"
)

// An interim is the runtime of modules that are interpreted until they are compiled. To
// make a module ready for it takes a tenth of the time. It is made when the first module
// needs it.
type interim struct {
	once    sync.Once
	runtime wazero.Runtime
	err     error
	places  chan struct{} // apart from those of the compiler: nobody waits here for that
}

func (i *interim) start() error {
	i.once.Do(func() {
		ctx := context.Background()
		i.runtime = wazero.NewRuntimeWithConfig(ctx, mode(true))
		if i.err = abi.Instantiate(ctx, i.runtime); i.err == nil {
			_, i.err = meter.Host(ctx, i.runtime, abi.Refuel)
		}
	})
	return i.err
}

func (i *interim) close(ctx context.Context) error {
	if i.runtime == nil {
		return nil
	}
	return i.runtime.Close(ctx)
}

// interpret makes a metered module ready to be interpreted.
func (e *Engine) interpret(ctx context.Context, metered []byte) (translated, error) {
	select {
	case e.interim.places <- struct{}{}:
		defer func() { <-e.interim.places }()
	case <-ctx.Done():
		return translated{}, ctx.Err()
	}
	if err := e.interim.start(); err != nil {
		return translated{}, err
	}
	made, err := compile(ctx, e.interim.runtime, metered)
	switch {
	case err == nil:
		return translated{compiled: made, extra: sizeOf(metered), interim: true}, nil
	case ctx.Err() != nil:
		return translated{}, ctx.Err()
	}
	return translated{}, fmt.Errorf("%w: %w", taubyte.ErrInvalid, err)
}

// finish compiles a module that is interpreted, and has its functions go over to that. It
// reports whether nobody has the module any more.
func (e *Engine) finish(ctx context.Context, m *Module, size int, metered []byte) (abandoned bool) {
	start := time.Now()
	var made translated
	err := e.place(ctx)
	if err == nil {
		made, err = e.compileMetered(ctx, m.id, size, metered)
		<-e.compiling
	}
	if err == nil {
		m.gate <- struct{}{}
		before := m.code
		m.code = translated{}
		m.set(made)
		m.before = before.compiled // for as long as instances run it
		<-m.gate
		m.interim.Store(false)
		e.config.Log.Debug("module compiled", "module", m.id, "took", time.Since(start))
	} else if ctx.Err() == nil {
		// It goes on as it is, and slowly.
		e.config.Log.Warn("module is not compiled", "module", m.id, "err", err)
	}
	close(m.compiled)
	e.mu.Lock()
	m.ended = true
	abandoned = m.refs == 0
	e.mu.Unlock()
	if err == nil && !abandoned {
		e.goOver(m)
	}
	return abandoned
}

// goOver gives functions of a module that was compiled an instance of that, in the place of
// those that are interpreted.
func (e *Engine) goOver(m *Module) {
	for _, f := range e.list() {
		if f.spec.Module == m && len(f.modules) == 1 {
			if f.pool.refresh() > 0 { // who waits for the compiler makes one himself
				f.Prepare(e.life)
			}
		}
	}
}

// await waits until the module is compiled, or never will be.
func (m *Module) await(ctx context.Context) error {
	select {
	case <-m.compiled:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("module %s: %w", m.id, context.Cause(ctx))
	}
}

// Compiled waits until all modules of the function are compiled. Until then its instances are
// interpreted, unless it links other modules: then its first event waits.
func (f *Function) Compiled(ctx context.Context) error {
	for _, l := range f.modules {
		if err := l.Module.await(ctx); err != nil {
			return err
		}
	}
	return nil
}

// interimStart bounds the start of an instance that is interpreted. Slower ones are better
// waited for.
const interimStart = 300 * time.Millisecond

// PrepareInterim makes an instance that is interpreted, where the function's module is not
// compiled yet. It reports whether there is one, in a time in which it is worth having.
func (f *Function) PrepareInterim(ctx context.Context) bool {
	if len(f.modules) > 1 || !f.spec.Module.interim.Load() {
		return false
	}
	in, err := f.pool.get(ctx, time.Now().Add(min(f.spec.Timeout, interimStart)))
	if err != nil {
		if !errors.Is(err, ErrBusy) && !errors.Is(err, ErrGone) {
			f.log.Debug("function waits for the compiler", "err", err)
		}
		return false
	}
	f.pool.put(in, true)
	return true
}
