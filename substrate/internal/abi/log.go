package abi

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/taubyte/taubyte/internal/mask"
)

// maxLine is where a line of a guest's output is cut.
const maxLine = 4 << 10

// lines writes a guest's output to the log, line by line.
type lines struct {
	log    *slog.Logger
	rate   *Rate
	stream string
	mask   *mask.Mask // of what is not for the log
	buf    []byte
	cut    bool // the rest of the line is dropped
}

// Write implements io.Writer. It takes everything, whatever becomes of it.
func (l *lines) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		line, rest, ended := bytes.Cut(p, []byte{'\n'})
		if room := maxLine - len(l.buf); len(line) > room {
			line, l.cut = line[:room], true
		}
		l.buf = append(l.buf, line...)
		if ended {
			l.flush()
		}
		p = rest
	}
	return n, nil
}

// end writes a line that was begun and not ended.
func (l *lines) end() {
	if len(l.buf) > 0 {
		l.flush()
	}
}

func (l *lines) flush() {
	ok, lost := l.rate.Take()
	if lost > 0 {
		l.log.Warn("function logs too much", "lost", lost)
	}
	if ok {
		text := strings.ToValidUTF8(string(l.mask.Apply(l.buf)), "\uFFFD")
		if l.cut {
			text += " …"
		}
		l.log.LogAttrs(context.Background(), slog.LevelInfo, text, slog.String("stream", l.stream))
	}
	l.buf, l.cut = l.buf[:0], false
	if cap(l.buf) > maxLine/4 {
		l.buf = nil
	}
}

// A Rate bounds the log of a function: a token bucket of lines.
type Rate struct {
	perSecond float64
	mu        sync.Mutex
	tokens    float64
	at        time.Time
	lost      int
}

// burstSeconds is how many seconds' worth of lines may come at once.
const burstSeconds = 5

// NewRate returns a full bucket.
func NewRate(perSecond int) *Rate {
	return &Rate{perSecond: float64(perSecond), tokens: float64(perSecond) * burstSeconds, at: time.Now()}
}

// Take says whether a line may be logged, and how many were lost before it.
func (r *Rate) Take() (ok bool, lost int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	r.tokens = min(r.tokens+now.Sub(r.at).Seconds()*r.perSecond, r.perSecond*burstSeconds)
	r.at = now
	if r.tokens < 1 {
		r.lost++
		return false, 0
	}
	r.tokens--
	lost, r.lost = r.lost, 0
	return true, lost
}
