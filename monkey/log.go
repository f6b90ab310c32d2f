package monkey

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/taubyte/taubyte/internal/mask"
	"github.com/taubyte/taubyte/patrick"
)

const (
	logGather = 20 * time.Millisecond  // lines that come so soon after the first go with it
	logRetry  = 200 * time.Millisecond // between two tries to hand lines over
	logBatch  = 256 << 10              // sent at once
	logBuffer = 1 << 20                // kept while patrick does not take it
	logWait   = 2 * time.Second        // how long a build waits for patrick where that is full
	logLine   = 8 << 10                // of one source among several, before it is broken
)

// jobLog carries a job's log to patrick in batches. A build that writes faster than patrick
// takes waits, and no longer than logWait for one that takes nothing: what can't be kept for
// it then is counted and dropped. It holds no more than logBuffer.
type jobLog struct {
	send  func(ctx context.Context, at int64, lines []byte) error
	limit int64 // of the whole log

	mu      sync.Mutex
	buf     []byte
	sent    int64     // how much patrick has taken, which is where buf belongs
	since   time.Time // when patrick last took something, or could have begun to
	total   int64
	dropped int64
	room    chan struct{} // closed when patrick has taken something
	wake    chan struct{}
	closed  bool
	done    chan struct{}
}

// newJobLog: lost is called when patrick says that the job is another's.
func newJobLog(ctx context.Context, limit int64, send func(context.Context, int64, []byte) error, lost func(error)) *jobLog {
	l := &jobLog{send: send, limit: limit, room: make(chan struct{}), wake: make(chan struct{}, 1), done: make(chan struct{})}
	go l.run(ctx, lost)
	return l
}

func (l *jobLog) printf(format string, args ...any) { l.stepf("", format, args...) }

// stepf logs lines of a step of the build.
func (l *jobLog) stepf(step, format string, args ...any) {
	w := lineWriter{to: l, step: step}
	fmt.Fprintf(&w, format+"\n", args...)
}

// Write implements io.Writer. It takes whole lines.
func (l *jobLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(p)
	if l.total+int64(n) > l.limit {
		l.dropped += int64(n)
		return n, nil
	}
	for !l.closed && len(l.buf)+n > logBuffer {
		wait := logWait - time.Since(l.since)
		if wait <= 0 || n > logBuffer {
			l.dropped += int64(n)
			return n, nil
		}
		room := l.room
		l.mu.Unlock()
		patience := time.NewTimer(wait)
		select {
		case <-room:
		case <-patience.C:
		case <-l.done:
		}
		patience.Stop()
		l.mu.Lock()
	}
	if l.closed {
		return n, nil
	}
	if l.dropped > 0 {
		l.confess()
	}
	if len(l.buf) == 0 {
		l.since = time.Now()
	}
	l.total += int64(n)
	l.buf = append(l.buf, p...)
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return n, nil
}

// confess says what was dropped, in its place. Callers hold mu.
func (l *jobLog) confess() {
	l.buf = fmt.Appendf(l.buf, "… %d bytes of the log are left out: it is too long, or patrick was away\n", l.dropped)
	l.dropped = 0
}

func (l *jobLog) run(ctx context.Context, lost func(error)) {
	defer close(l.done)
	for {
		select {
		case <-l.wake:
		case <-ctx.Done():
			return
		}
		l.mu.Lock()
		gather := !l.closed && len(l.buf) < logBatch
		l.mu.Unlock()
		if gather {
			pause(ctx, logGather)
		}
		if l.flush(ctx, lost) {
			return
		}
	}
}

// flush sends what there is; last says that nothing follows.
func (l *jobLog) flush(ctx context.Context, lost func(error)) (last bool) {
	for {
		l.mu.Lock()
		if l.closed && len(l.buf) == 0 && l.dropped > 0 {
			l.confess()
		}
		batch := l.buf[:min(len(l.buf), logBatch)]
		last = l.closed && len(batch) == 0
		at := l.sent
		l.mu.Unlock()
		if len(batch) == 0 {
			return last
		}
		if err := l.send(ctx, at, batch); err != nil {
			if isLost(err) {
				lost(err)
				return true
			}
			if pause(ctx, logRetry); ctx.Err() != nil {
				return true
			}
			continue
		}
		l.mu.Lock()
		l.sent += int64(len(batch))
		l.buf = append([]byte(nil), l.buf[len(batch):]...)
		l.since = time.Now()
		close(l.room)
		l.room = make(chan struct{})
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

// of returns a writer that hands on whole lines of a step: several targets write at a time.
// Secrets are masked.
func (l *jobLog) of(step string, hide *mask.Mask) io.WriteCloser {
	return &lineWriter{to: l, step: step, mask: hide}
}

type lineWriter struct {
	to   io.Writer
	step string
	mask *mask.Mask
	part []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		some := p[:min(len(p), logLine)]
		if i >= 0 && i < len(some) {
			w.part = append(w.part, p[:i]...)
			w.line(w.part)
			w.part = w.part[:0]
			p = p[i+1:]
			continue
		}
		w.part = append(w.part, some...)
		p = p[len(some):]
		if len(w.part) > logLine {
			// What may be the beginning of a secret goes with the rest of it.
			keep := w.mask.Tail(w.part)
			if keep > logLine/2 {
				keep = 0
			}
			rest := bytes.Clone(w.part[len(w.part)-keep:])
			w.line(w.part[:len(w.part)-keep])
			w.part = append(w.part[:0], rest...)
		}
	}
	return n, nil
}

// line hands on a line. The characters by which a log is taken apart are not the build's to
// write.
func (w *lineWriter) line(text []byte) {
	text = w.mask.Apply(text)
	line := make([]byte, 0, len(w.step)+len(text)+2)
	if w.step != "" {
		line = append(append(line, w.step...), patrick.StepMark)
	}
	if bytes.IndexByte(text, patrick.StepMark) >= 0 || bytes.IndexByte(text, 0) >= 0 {
		text = bytes.Map(func(r rune) rune {
			if r == patrick.StepMark || r == 0 {
				return -1
			}
			return r
		}, text)
	}
	_, _ = w.to.Write(append(append(line, text...), '\n'))
}

// Close hands on an unfinished line.
func (w *lineWriter) Close() error {
	if len(w.part) > 0 {
		w.line(w.part)
		w.part = w.part[:0]
	}
	return nil
}
