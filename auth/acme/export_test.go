package acme

import (
	"time"

	"github.com/taubyte/taubyte/tns"
)

// For tests of what has no outside: times, rates, keys, and what is wanted.
var (
	RenewAt       = renewAt
	Backoff       = backoff
	Registered    = registered
	ValidName     = validName
	ParseRetry    = parseRetryAfter
	MaxBackoff    = maxBackoff
	Needs         = func(c *tns.Change, zone string, wildcard bool) []string { return needs(c, zone, wildcard) }
	WindowAt      = func(start, end time.Time, name string) time.Time { return window{start, end}.at(name) }
	DefaultLimits = Limits{}.withDefaults()
)

// ParseKey reads a key of the ledger, and writes it again.
func ParseKey(key string) (back string, err error) {
	k, err := parseRecordKey(key)
	if err != nil {
		return "", err
	}
	return k.key().String(), nil
}

// Wait is how long n+1 orders in a window take.
func Wait(times []time.Time, n int, window time.Duration, now time.Time) time.Duration {
	var b bucket
	for _, t := range times {
		b = b.add(t)
	}
	return b.wait(n, window, now)
}
