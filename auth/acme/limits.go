package acme

import (
	"slices"
	"strings"
	"time"

	"golang.org/x/net/publicsuffix"
)

// Limits bound the orders of all nodes together. The arbiter of the leases counts them
// from the replicated records, so that they outlive it.
type Limits struct {
	// Orders is how many may be made in Per. The default is 250 in 3 hours; Let's
	// Encrypt takes 300 of an account.
	Orders int
	Per    time.Duration
	// Domain is how many may be made for one registered domain ("example.co.uk") in
	// a week. The default is 45; Let's Encrypt takes 50.
	Domain int
}

const week = 7 * 24 * time.Hour

func (l Limits) withDefaults() Limits {
	if l.Orders <= 0 {
		l.Orders = 250
	}
	if l.Per <= 0 {
		l.Per = 3 * time.Hour
	}
	if l.Domain <= 0 {
		l.Domain = 45
	}
	return l
}

// A bucket is the times of orders within a window that moves.
type bucket []time.Time

// add takes in an order's time, in any order.
func (b bucket) add(at time.Time) bucket {
	i, _ := slices.BinarySearchFunc(b, at, time.Time.Compare)
	return slices.Insert(b, i, at)
}

// wait returns how long it takes until one more fits, of n within a window.
func (b bucket) wait(n int, window time.Duration, now time.Time) time.Duration {
	first := now.Add(-window)
	i, _ := slices.BinarySearchFunc(b, first, time.Time.Compare)
	if len(b)-i < n {
		return 0
	}
	return b[len(b)-n].Sub(first) + time.Second
}

// prune drops what is older than a week.
func (b bucket) prune(now time.Time) bucket {
	i, _ := slices.BinarySearchFunc(b, now.Add(-week), time.Time.Compare)
	return slices.Delete(b, 0, i)
}

// registered is the domain under which an authority counts a name.
func registered(name string) string {
	name = strings.TrimPrefix(name, "*.")
	if d, err := publicsuffix.EffectiveTLDPlusOne(name); err == nil {
		return d
	}
	return name
}
