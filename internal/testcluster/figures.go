package testcluster

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Figures are what users of a kind got in a stretch of time.
type Figures struct {
	Kind        string
	Asked       int
	OK          int
	Failed      int // answered otherwise than asked for, or not at all; without Unavailable
	Unavailable int // 503
	Interrupted int // under way on a gateway that was taken away
	Missing     int // an acknowledged write that was not found or had another content

	P50, P99, Max time.Duration // of those that were answered in order
	SlowestOther  time.Duration // of those Failed and Unavailable
	// Gap is the longest time in which none was answered in order.
	Gap     time.Duration
	Details []string // what went wrong, most often first
}

// Bad is how many did not get what they asked for although no gateway was taken away
// from under them.
func (f Figures) Bad() int { return f.Failed + f.Unavailable + f.Missing }

// Figures counts the requests of a kind that began from a time on and before another.
// The zero times stand for all.
func (l *Load) Figures(kind string, from, to time.Time) Figures {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := Figures{Kind: kind}
	var good []time.Duration
	var done []time.Time
	first, last := from, to
	details := map[string]int{}
	for _, s := range l.samples {
		if s.kind != kind || s.at.Before(from) || !to.IsZero() && !s.at.Before(to) {
			continue
		}
		f.Asked++
		switch s.out {
		case ok:
			f.OK++
			good = append(good, s.took)
			done = append(done, s.at.Add(s.took))
		case failed:
			f.Failed++
		case unavailable:
			f.Unavailable++
		case interrupted:
			f.Interrupted++
		case missing:
			f.Missing++
		}
		if s.out == failed || s.out == unavailable {
			f.SlowestOther = max(f.SlowestOther, s.took)
		}
		if s.out != ok {
			details[string(s.out)+": "+s.detail]++
		}
	}
	slices.Sort(good)
	if n := len(good); n > 0 {
		f.P50, f.P99, f.Max = good[n/2], good[min(n-1, n*99/100)], good[n-1]
	}
	slices.SortFunc(done, time.Time.Compare)
	if first.IsZero() {
		first = l.began
	}
	for _, at := range done {
		f.Gap = max(f.Gap, at.Sub(first))
		first = at
	}
	if !last.IsZero() {
		f.Gap = max(f.Gap, last.Sub(first))
	}
	for d, n := range details {
		f.Details = append(f.Details, fmt.Sprintf("%4d× %s", n, d))
	}
	slices.SortFunc(f.Details, func(a, b string) int { return strings.Compare(b, a) })
	return f
}

// Kinds lists the kinds of requests that there were.
func (l *Load) Kinds() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var kinds []string
	for _, s := range l.samples {
		if !slices.Contains(kinds, s.kind) {
			kinds = append(kinds, s.kind)
		}
	}
	slices.Sort(kinds)
	return kinds
}

// String is one line, with the commonest faults on lines below it.
func (f Figures) String() string {
	ms := func(d time.Duration) string { return d.Round(time.Millisecond).String() }
	var b strings.Builder
	fmt.Fprintf(&b, "%-10s asked %5d  ok %5d  failed %d  unavailable %d  interrupted %d  missing %d  p50 %s  p99 %s  max %s  longest gap %s",
		f.Kind, f.Asked, f.OK, f.Failed, f.Unavailable, f.Interrupted, f.Missing, ms(f.P50), ms(f.P99), ms(f.Max), ms(f.Gap))
	for _, d := range f.Details[:min(len(f.Details), 6)] {
		b.WriteString("\n      " + d)
	}
	return b.String()
}
