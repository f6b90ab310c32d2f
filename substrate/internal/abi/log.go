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
	l.record(slog.LevelInfo, l.buf, l.cut, slog.String("stream", l.stream))
	l.buf, l.cut = l.buf[:0], false
	if cap(l.buf) > maxLine/4 {
		l.buf = nil
	}
}

// say writes a message of the guest's own to the log.
func (l *lines) say(level slog.Level, text []byte) {
	cut := len(text) > maxLine
	if cut {
		text = text[:maxLine]
	}
	l.record(level, text, cut)
}

func (l *lines) record(level slog.Level, text []byte, cut bool, attrs ...slog.Attr) {
	ok, lost := l.rate.Take()
	if lost > 0 {
		l.log.Warn("function logs too much", "lost", lost)
	}
	if !ok {
		return
	}
	out := strings.ToValidUTF8(string(l.mask.Apply(text)), "\uFFFD")
	if cut {
		out += " …"
	}
	l.log.LogAttrs(context.Background(), level, out, attrs...)
}

// logging writes one message to the log at a level, beside what standard output brings there.
var logging = []decl{
	{"logAtLevel", "iii", errno(func(g *Guest, m module, a []uint64) Errno {
		text, ok := m.view(a[1], a[2])
		if !ok {
			return ErrAddressOutOfMemory
		}
		g.stderr.say(level(int32(a[0])), text)
		return ErrNone
	})},
}

// level is the one of the four that a number is of: of others nobody looks for messages.
func level(n int32) slog.Level {
	for _, l := range []slog.Level{slog.LevelError, slog.LevelWarn, slog.LevelInfo} {
		if slog.Level(n) >= l {
			return l
		}
	}
	return slog.LevelDebug
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
