package vm

import (
	"context"
	"errors"
	"slices"
	"time"
)

// trim drops instances that have been idle for long.
func (e *Engine) trim(ctx context.Context) {
	t := time.NewTicker(max(e.config.Idle/4, time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			e.trimTo(now.Add(-e.config.Idle))
			e.trimCode()
		}
	}
}

// trimTo drops what has been idle since a time before that, but the newest
// instance of each function, as far as there is room for these. Those used last
// stay.
func (e *Engine) trimTo(before time.Time) {
	type last struct {
		f      *Function
		since  time.Time
		weight int64
	}
	var all []last
	for _, f := range e.list() {
		if since, weight, ok := f.pool.trim(before); ok {
			all = append(all, last{f, since, weight})
		}
	}
	slices.SortFunc(all, func(a, b last) int { return b.since.Compare(a.since) })
	var kept int64
	for _, l := range all {
		if kept += l.weight; kept > e.config.Warm && l.since.Before(before) {
			l.f.pool.drop(l.since)
		}
	}
}

// reclaim drops idle instances, those unused for longest first, until they give
// back so many bytes of memory: of a project, or of all. It returns false where
// there is none.
func (e *Engine) reclaim(bytes int64, of *share) bool {
	type idle struct {
		f     *Function
		since time.Time
	}
	var all []idle
	for _, f := range e.list() {
		if of != nil && f.share != of {
			continue
		}
		for _, since := range f.pool.idleSince() {
			all = append(all, idle{f, since})
		}
	}
	slices.SortFunc(all, func(a, b idle) int { return a.since.Compare(b.since) })
	freed := int64(0)
	for _, i := range all {
		if freed >= bytes {
			break
		}
		freed += i.f.pool.drop(i.since)
	}
	return freed > 0
}

// prepareMost bounds the time that a function's start may take of a deployment's.
const prepareMost = 2 * time.Second

// Prepare makes an instance before there is an event for it, where the node has
// memory to keep one. The function works without: where its start fails, that is
// logged, and the next event tries again.
func (f *Function) Prepare(ctx context.Context) {
	if idle, working := f.Warm(); idle+working > 0 || f.engine.Memory() >= f.engine.config.Warm {
		return
	}
	in, err := f.pool.get(ctx, time.Now().Add(min(f.spec.Timeout, prepareMost)))
	if err != nil {
		if !errors.Is(err, ErrBusy) && !errors.Is(err, ErrGone) {
			f.failed(err, "event", "none: it was being prepared")
		}
		return
	}
	f.pool.put(in, true)
}
