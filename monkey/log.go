package monkey

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/taubyte/taubyte/internal/mask"
)

const (
	logInterval = 200 * time.Millisecond // what a reader of the log may be behind
	logBatch    = 64 << 10               // sent at once
	logBuffer   = 1 << 20                // kept while patrick does not take it
	logLine     = 8 << 10                // of one source among several, before it is broken
)

// jobLog carries a job's log to patrick in batches. A slow or absent patrick never
// holds the build up; what can't be kept for it is counted and dropped.
type jobLog struct {
	send  func(context.Context, []byte) error
	limit int64 // of the whole log

	mu      sync.Mutex
	buf     []byte
	total   int64
	dropped int64
	wake    chan struct{}
	closed  bool
	done    chan struct{}
}

// newJobLog: lost is called when patrick says that the job is another's.
func newJobLog(ctx context.Context, limit int64, send func(context.Context, []byte) error, lost func(error)) *jobLog {
	l := &jobLog{send: send, limit: limit, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go l.run(ctx, lost)
	return l
}

func (l *jobLog) printf(format string, args ...any) { fmt.Fprintf(l, format+"\n", args...) }

// Write implements io.Writer. It takes whole lines.
func (l *jobLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(p)
	if l.closed {
		return n, nil
	}
	room := min(l.limit-l.total, int64(logBuffer-len(l.buf)))
	if int64(n) > room {
		l.dropped += int64(n)
	} else {
		l.total += int64(n)
		l.buf = append(l.buf, p...)
	}
	if len(l.buf) >= logBatch {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	return n, nil
}

func (l *jobLog) run(ctx context.Context, lost func(error)) {
	defer close(l.done)
	tick := time.NewTicker(logInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-l.wake:
		case <-ctx.Done():
			return
		}
		last := l.flush(ctx, lost)
		if last {
			return
		}
	}
}

// flush sends what there is; last says that nothing follows.
func (l *jobLog) flush(ctx context.Context, lost func(error)) (last bool) {
	for {
		l.mu.Lock()
		batch := l.buf[:min(len(l.buf), logBatch)]
		if l.closed && len(batch) == 0 && l.dropped > 0 {
			l.buf = fmt.Appendf(l.buf, "… %d bytes of the log are left out: it is too long, or patrick was away\n", l.dropped)
			l.dropped = 0
			batch = l.buf
		}
		last = l.closed && len(batch) == 0
		l.mu.Unlock()
		if len(batch) == 0 {
			return last
		}
		if err := l.send(ctx, batch); err != nil {
			if isLost(err) {
				lost(err)
				return true
			}
			return ctx.Err() != nil // tried again at the next tick
		}
		l.mu.Lock()
		l.buf = append([]byte(nil), l.buf[len(batch):]...)
		l.mu.Unlock()
	}
}

// close sends the rest, for as long as ctx allows.
func (l *jobLog) close(ctx context.Context) {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	select {
	case <-l.done:
	case <-ctx.Done():
	}
}

// prefixed returns a writer that hands on whole lines, each after a prefix: several
// targets write at a time. Secrets are masked.
func (l *jobLog) prefixed(prefix string, hide *mask.Mask) io.WriteCloser {
	return &lineWriter{to: l, prefix: prefix, mask: hide}
}

type lineWriter struct {
	to     io.Writer
	prefix string
	mask   *mask.Mask
	part   []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			w.part = append(w.part, p...)
			if len(w.part) > logLine {
				w.line(nil)
			}
			return n, nil
		}
		w.line(p[:i])
		p = p[i+1:]
	}
	return n, nil
}

func (w *lineWriter) line(end []byte) {
	text := w.mask.Apply(append(w.part, end...))
	line := append(append([]byte(w.prefix), text...), '\n')
	w.part = w.part[:0]
	_, _ = w.to.Write(line)
}

// Close hands on an unfinished line.
func (w *lineWriter) Close() error {
	if len(w.part) > 0 {
		w.line(nil)
	}
	return nil
}
