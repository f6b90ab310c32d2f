package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/substrate/internal/abi"
	"github.com/taubyte/taubyte/substrate/wire"
)

var (
	// ErrBusy is a function that has all its instances at work and its queue
	// full, or a node that has no memory for another instance.
	ErrBusy = fmt.Errorf("function busy: %w", taubyte.ErrUnavailable)
	// ErrGone is a function that was closed: another deployment has taken over.
	ErrGone = fmt.Errorf("function %w", taubyte.ErrClosed)
)

// A Spec is what makes a Function.
type Spec struct {
	Self abi.Self
	// Module is the code, Links the modules that it imports, directly and
	// through each other: each after those that it imports itself. The function
	// takes them over: Close releases them, and so does a failing NewFunction.
	Module *Module
	Links  []Link
	Call   string // the export that is the entry point
	// Decides says that the entry point's result counts: it has to have one.
	Decides bool

	Timeout time.Duration // of a call, everything included
	Memory  int64         // bytes, of each module's memory

	Concurrency int // instances at work at once
	Queue       int // calls that wait for one
	Limits      abi.Limits
}

// A Link is a module under the name that others import it by.
type Link struct {
	Name   string
	Module *Module
}

// A Function is a guest that events can be given to. It is safe for concurrent
// use.
type Function struct {
	spec    Spec
	modules []Link // all, in the order of instantiation: the function's own last
	engine  *Engine
	share   *share // of the project
	limit   uint64 // of a memory, in bytes
	log     *slog.Logger
	rate    *abi.Rate
	pool    *pool

	events, fuel atomic.Int64 // so far
	most         atomic.Int64 // fuel of one event

	environment atomic.Pointer[abi.Environment] // of instances that are made from now on
}

const pageSize = 1 << 16

// NewFunction checks a function and makes it. No instance is made yet.
func (e *Engine) NewFunction(spec Spec) (*Function, error) {
	f := &Function{
		spec:    spec,
		modules: append(slices.Clone(spec.Links), Link{Name: "functions/" + spec.Self.Name, Module: spec.Module}),
		engine:  e,
		limit:   uint64(spec.Memory+pageSize-1) &^ (pageSize - 1),
		rate:    abi.NewRate(spec.Limits.LogLines),
		log: e.config.Log.With("project", string(spec.Self.Project), "branch", string(spec.Self.Branch),
			"function", spec.Self.Name),
	}
	f.environment.Store(spec.Self.Environment)
	f.pool = newPool(f, spec.Concurrency, spec.Queue)
	e.mu.Lock()
	e.functions[f] = struct{}{}
	f.share = e.shares[spec.Self.Project]
	if f.share == nil {
		f.share = &share{}
		e.shares[spec.Self.Project] = f.share
	}
	f.share.functions++
	e.running.Add(1)
	e.mu.Unlock()
	if err := f.check(); err != nil {
		f.release()
		return nil, fmt.Errorf("function %s: %w", spec.Self.Name, err)
	}
	return f, nil
}

func (f *Function) check() error {
	entry, ok := f.spec.Module.exported[f.spec.Call]
	if !ok {
		return fmt.Errorf("%w: the module exports no function %q (it exports %s)", taubyte.ErrInvalid, f.spec.Call, f.spec.Module.exports())
	}
	if entry.params != 1 || entry.results > 1 {
		return fmt.Errorf("%w: export %q takes %d parameters; an entry point takes one, the event", taubyte.ErrInvalid, f.spec.Call, entry.params)
	}
	if f.spec.Decides && entry.results == 0 {
		return fmt.Errorf("%w: export %q has no result, and is asked for one", taubyte.ErrInvalid, f.spec.Call)
	}
	for _, m := range f.modules {
		if m.Module.minimum > f.limit {
			return fmt.Errorf("%w: the module starts with %d KiB of memory, and the function may have %d KiB", taubyte.ErrInvalid, m.Module.minimum>>10, f.limit>>10)
		}
	}
	return nil
}

// release gives the modules back, once no instance uses them.
func (f *Function) release() {
	f.engine.mu.Lock()
	delete(f.engine.functions, f)
	if f.share.functions--; f.share.functions == 0 {
		delete(f.engine.shares, f.spec.Self.Project)
		f.engine.spares.drop(f.share)
	}
	f.engine.mu.Unlock()
	for _, l := range f.modules {
		l.Module.Release()
	}
	f.engine.running.Done()
}

// Self is who the function's instances are.
func (f *Function) Self() abi.Self { return f.spec.Self }

// SetEnvironment replaces what instances are given to know. Those at work go on with what
// they have and are not used again; idle ones are dropped.
func (f *Function) SetEnvironment(e *abi.Environment) {
	if f.environment.Swap(e) != e {
		f.pool.refresh()
	}
}

// current says whether an instance is as a new one would be.
func (f *Function) current(in *instance) bool {
	return in.environment == f.environment.Load() && (!in.interim || f.spec.Module.interim.Load())
}

// Close takes no more calls. Those under way go on; the last one to end gives
// back what the function holds.
func (f *Function) Close() { f.pool.close() }

// Warm says how many instances are idle and how many are at work.
func (f *Function) Warm() (idle, working int) { return f.pool.count() }

// ServeHTTP gives a request to an instance. It returns an error, ErrBusy or
// ErrGone, where the request reached none and nothing was answered; otherwise it
// has answered. It panics with http.ErrAbortHandler to cut an answer that was
// begun and can't be finished.
func (f *Function) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	ctx, deadline := r.Context(), time.Now().Add(f.spec.Timeout)
	in, err := f.pool.get(ctx, deadline)
	if err != nil {
		if errors.Is(err, ErrBusy) || errors.Is(err, ErrGone) {
			return err
		}
		f.failed(err, asked(r)...)
		abi.Failure(w, err)
		return nil
	}
	whole := false
	defer func() { f.pool.put(in, whole) }()
	if r.ProtoMajor > 1 {
		w = detached{w}
	}
	g := in.guest
	g.Enter(ctx, deadline)
	err = f.call(in, g.BeginHTTP(w, r))
	whole = err == nil
	if err = exited(err); err != nil {
		f.failed(err, in.used(asked(r))...)
	}
	abort := g.EndHTTP(err)
	g.Leave()
	if abort != nil {
		panic(abort)
	}
	return nil
}

// detached is the response of a server that may go on reading what it was given
// to write after a stream has ended, as that of HTTP/2 does: it gets copies,
// since the guest's memory will be another's then.
type detached struct{ http.ResponseWriter }

func (d detached) Write(p []byte) (int, error) { return d.ResponseWriter.Write(bytes.Clone(p)) }
func (d detached) Unwrap() http.ResponseWriter { return d.ResponseWriter }

// Run gives an event that is no HTTP request to an instance: begin makes it the
// one under way there and returns its id. The error is ErrBusy or ErrGone where
// the event reached none, or else what became of the call, which is logged with the
// attributes in about.
func (f *Function) Run(ctx context.Context, begin func(*abi.Guest) uint32, about ...any) error {
	_, err := f.Decide(ctx, begin, about...)
	return err
}

// Decide is Run of a function whose result counts.
func (f *Function) Decide(ctx context.Context, begin func(*abi.Guest) uint32, about ...any) (result uint32, err error) {
	deadline := time.Now().Add(f.spec.Timeout)
	in, err := f.pool.get(ctx, deadline)
	if err != nil {
		if !errors.Is(err, ErrBusy) && !errors.Is(err, ErrGone) {
			f.failed(err, about...)
		}
		return 0, err
	}
	whole := false
	defer func() { f.pool.put(in, whole) }()
	g := in.guest
	g.Enter(ctx, deadline)
	err = f.call(in, begin(g))
	whole = err == nil
	if err = exited(err); err != nil {
		f.failed(err, in.used(about)...)
	}
	result = uint32(in.param[0])
	g.End()
	g.Leave()
	return result, err
}

// call gives an event to an instance and counts what it takes.
func (f *Function) call(in *instance, event uint32) error {
	in.guest.Refuelled(in.left())
	in.param[0] = uint64(event)
	err := in.entry.CallWithStack(in.guest, in.param[:])
	in.fuel = in.guest.Fuel(in.left())
	f.engine.fuel.Add(in.fuel)
	f.fuel.Add(in.fuel)
	f.events.Add(1)
	for most := f.most.Load(); in.fuel > most && !f.most.CompareAndSwap(most, in.fuel); {
		most = f.most.Load()
	}
	if f.log.Enabled(in.guest, slog.LevelDebug) {
		f.log.Debug("call ended", in.used(nil)...)
	}
	return err
}

// Used says how many events the function's instances have had, and how much fuel
// they took.
func (f *Function) Used() (events, fuel int64) { return f.events.Load(), f.fuel.Load() }

// Most is the fuel that the dearest event so far took.
func (f *Function) Most() int64 { return f.most.Load() }

// failed logs what became of a call. Users are told the kind of it alone.
func (f *Function) failed(err error, about ...any) {
	if errors.Is(err, context.Canceled) {
		f.log.Debug("call cancelled")
		return
	}
	if ok, lost := f.rate.Take(); ok {
		f.log.Warn("call failed", append(about, "err", err, "lost", lost)...)
	}
}

// asked is what the log says of a request.
func asked(r *http.Request) []any {
	return []any{"request", r.Header.Get(wire.HeaderRequest), "method", r.Method, "path", r.URL.Path}
}
