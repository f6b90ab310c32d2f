package forge

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/taubyte/taubyte"
)

// Waits between calls that a provider does not want now.
const (
	// patience is how long a call waits in all. What would take longer is ErrUnavailable
	// at once, and no call of the same credential is made until then.
	patience = time.Minute
	// firstBackoff is what a secondary limit takes that names no time, doubled each time.
	firstBackoff = 5 * time.Second
	lastBackoff  = 15 * time.Minute
	// callTime and maxAnswer bound one call.
	callTime  = time.Minute
	maxAnswer = 16 << 20
)

// Clock is the time that limits are kept by.
type Clock struct {
	Now   func() time.Time
	Sleep func(ctx context.Context, d time.Duration) error
}

// SystemClock is the machine's.
func SystemClock() Clock {
	return Clock{Now: time.Now, Sleep: func(ctx context.Context, d time.Duration) error {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
}

// Limiter is a transport that keeps to a provider's limits: the primary one, which the
// headers X-RateLimit-Remaining and X-RateLimit-Reset tell of, and secondary ones (429,
// or 403 with Retry-After or in words). It takes the headers out of the answers: what is
// above it has no need to keep count as well. Each credential has limits of its own.
//
// A call that a limit refused was not carried out, so any is made again.
type Limiter struct {
	Base  http.RoundTripper
	Clock Clock
	// Pace is the time between calls of one credential, once a burst of them was made.
	// Zero does not pace.
	Pace time.Duration

	mu     sync.Mutex
	states map[string]*limits // by credential
}

type limits struct {
	until    time.Time // no call before
	refusals int       // in a row
	used     time.Time
	paced    time.Time // up to when calls are spent, a Pace for each
}

// burst is how many calls are made without a pace.
const burst = 50

// maxCredentials bounds how many callers' limits are remembered.
const maxCredentials = 10_000

// RoundTrip implements http.RoundTripper.
func (l *Limiter) RoundTrip(req *http.Request) (*http.Response, error) {
	credential := req.Header.Get("Authorization")
	ctx := req.Context()
	started := l.Clock.Now()
	for {
		if err := l.wait(ctx, credential, started, req.URL.Host); err != nil {
			return nil, err
		}
		again := req.Clone(ctx)
		if req.GetBody != nil {
			body, err := req.GetBody()
			if err != nil {
				return nil, err
			}
			again.Body = body
		}
		resp, answer, err := l.call(again)
		if err != nil {
			return nil, err
		}
		if !l.heed(credential, resp, answer) {
			return resp, nil
		}
		if req.Body != nil && req.GetBody == nil {
			return nil, fmt.Errorf("%w: %s wants fewer calls", taubyte.ErrUnavailable, req.URL.Host)
		}
	}
}

// call makes one call and reads its answer: one that is cut short is an error.
func (l *Limiter) call(req *http.Request) (*http.Response, []byte, error) {
	ctx, cancel := context.WithTimeout(req.Context(), callTime)
	defer cancel()
	resp, err := l.Base.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(answer) > maxAnswer {
		err = fmt.Errorf("an answer of more than %d bytes", maxAnswer)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %s: %w", taubyte.ErrUnavailable, req.URL.Host, err)
	}
	resp.Body = io.NopCloser(bytes.NewReader(answer))
	return resp, answer, nil
}

// wait returns when a call may be made.
func (l *Limiter) wait(ctx context.Context, credential string, started time.Time, host string) error {
	for {
		now := l.Clock.Now()
		l.mu.Lock()
		s := l.stateLocked(credential, now)
		until := s.until
		if at := s.paced.Add(-burst * l.Pace); at.After(until) {
			until = at
		}
		d := until.Sub(now)
		if d <= 0 {
			if s.paced.Before(now) {
				s.paced = now
			}
			s.paced = s.paced.Add(l.Pace)
		}
		l.mu.Unlock()
		if d <= 0 {
			return nil
		}
		deadline, bounded := ctx.Deadline()
		if until.Sub(started) > patience || bounded && now.Add(d).After(deadline) {
			return fmt.Errorf("%w: %s takes no more calls before %s", taubyte.ErrUnavailable, host, until.UTC().Format(time.RFC3339))
		}
		if err := l.Clock.Sleep(ctx, d); err != nil {
			return err
		}
	}
}

func (l *Limiter) stateLocked(credential string, now time.Time) *limits {
	if l.states == nil {
		l.states = map[string]*limits{}
	}
	s := l.states[credential]
	if s == nil {
		if len(l.states) >= maxCredentials {
			for key, old := range l.states {
				if !old.until.After(now) && now.Sub(old.used) > time.Minute {
					delete(l.states, key)
				}
			}
		}
		s = &limits{}
		l.states[credential] = s
	}
	s.used = now
	return s
}

// heed learns from an answer, and reports whether it refuses the call for a limit.
func (l *Limiter) heed(credential string, resp *http.Response, answer []byte) (refused bool) {
	now := l.Clock.Now()
	remaining, known := number(resp.Header, "X-RateLimit-Remaining")
	reset, _ := number(resp.Header, "X-RateLimit-Reset")
	for name := range resp.Header {
		if strings.HasPrefix(strings.ToLower(name), "x-ratelimit-") {
			delete(resp.Header, name)
		}
	}
	primary := known && remaining <= 0
	after, hasAfter := number(resp.Header, "Retry-After")
	switch resp.StatusCode {
	case http.StatusTooManyRequests:
		refused = true
	case http.StatusForbidden:
		refused = hasAfter || primary || strings.Contains(strings.ToLower(string(answer)), "rate limit")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stateLocked(credential, now)
	switch {
	case !refused:
		s.refusals = 0
		if primary {
			s.block(time.Unix(reset, 0))
		}
		return false
	case hasAfter:
		s.block(now.Add(time.Duration(after) * time.Second))
	case primary:
		s.block(time.Unix(reset, 0).Add(time.Second)) // whose fraction is not told
	default:
		d := min(firstBackoff<<min(s.refusals, 10), lastBackoff)
		s.block(now.Add(d + rand.N(d/4)))
	}
	if !s.until.After(now) {
		s.until = now.Add(time.Second) // clocks differ
	}
	s.refusals++
	return true
}

func (s *limits) block(until time.Time) {
	if until.After(s.until) {
		s.until = until
	}
}

func number(h http.Header, name string) (int64, bool) {
	n, err := strconv.ParseInt(h.Get(name), 10, 64)
	return n, err == nil && n >= 0 && n < 1<<40
}
