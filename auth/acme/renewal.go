package acme

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"
	legoacme "github.com/go-acme/lego/v4/acme"
)

const maxBackoff = 24 * time.Hour

// share is a number in [0, 1) that belongs to a text: chance that is the same on each
// node and after a restart.
func share(text string) float64 { return float64(xxhash.Sum64String(text)>>11) / (1 << 53) }

// renewAt is when a certificate is to be renewed whose authority suggests nothing: when
// a third of its life is left, or up to a twentieth earlier.
func renewAt(name string, from, until time.Time) time.Time {
	life := until.Sub(from)
	return until.Add(-life/3 - time.Duration(share(name)*float64(life)/20))
}

// window is when an authority suggests to renew a certificate.
type window struct{ start, end time.Time }

// at chooses a moment of the window.
func (w window) at(name string) time.Time {
	if !w.end.After(w.start) {
		return w.start
	}
	return w.start.Add(time.Duration(share(name+w.start.UTC().String()) * float64(w.end.Sub(w.start))))
}

// backoff is how long to wait after a failure that so many others came before.
func backoff(first time.Duration, failures int, name string) time.Duration {
	d := maxBackoff
	if failures < 30 && first<<failures < maxBackoff && first<<failures > 0 {
		d = first << failures
	}
	return d + time.Duration(share(name+strconv.Itoa(failures))*float64(d)/10)
}

// retryAfter is how long an authority that limits rates asks to wait, or 0.
func retryAfter(err error) time.Duration {
	var limited *legoacme.RateLimitedError
	if !errors.As(err, &limited) {
		return 0
	}
	return parseRetryAfter(limited.RetryAfter)
}

// parseRetryAfter reads a header of seconds or of a date; at most a week is believed.
func parseRetryAfter(text string) time.Duration {
	d := time.Duration(0)
	if n, err := strconv.Atoi(text); err == nil {
		d = time.Duration(min(max(n, 0), int(week/time.Second))) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		d = time.Until(at)
	}
	return min(max(d, 0), week)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
