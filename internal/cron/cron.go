// Package cron reads schedules in the five fields of crontab(5) and finds the times
// that they name.
//
// # Fields
//
// Minute, hour, day of the month, month and day of the week: numbers, names of months
// and of days, lists, ranges, steps and stars, or a descriptor such as @daily in place of
// all. 0 and 7 are Sunday, also at the end of a range (5-7, fri-sun). Where the day of the
// month and that of the week are both restricted, which a field that begins with a star is
// not, one of them is enough.
//
// # Where clocks change
//
// A schedule names times of the clock on the wall. A time that the clock leaves out is not
// there that day; one that it shows twice is there twice.
package cron

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// A Spec is a schedule that was read. It is immutable.
type Spec struct {
	minute, hour, day, month, weekday uint64 // a bit for each value
	either                            bool   // day and weekday are restricted, and one is enough
}

// Parse reads a schedule. It takes no time zone and no "@every".
func Parse(text string) (Spec, error) {
	fields := strings.Fields(text)
	if len(fields) == 5 {
		fields[4] = sundays(fields[4])
		text = strings.Join(fields, " ")
	}
	parsed, err := cron.ParseStandard(text)
	if err != nil {
		return Spec{}, err
	}
	s, ok := parsed.(*cron.SpecSchedule)
	if !ok || strings.Contains(text, "TZ=") {
		return Spec{}, fmt.Errorf("%q is not five fields, nor one of @hourly, @daily, @weekly, @monthly and @yearly", text)
	}
	out := Spec{minute: s.Minute, hour: s.Hour, day: s.Dom, month: s.Month, weekday: s.Dow}
	if len(fields) == 5 {
		out.either = !open(fields[2]) && !open(fields[4])
	}
	return out, nil
}

// open says whether a field of days restricts nothing by itself.
func open(field string) bool { return strings.HasPrefix(field, "*") || strings.HasPrefix(field, "?") }

// sundays writes the 7 of a field of weekdays, which the parser does not take, as 0. What
// is no weekday stays as it is, for the parser to refuse.
func sundays(field string) string {
	items := strings.Split(field, ",")
	for i, item := range items {
		span, step, stepped := strings.Cut(item, "/")
		first, last, ranged := strings.Cut(span, "-")
		from, ok := weekday(first)
		if !ok {
			continue
		}
		if !ranged {
			if from == 7 {
				items[i] = "0"
			}
			continue
		}
		to, ok := weekday(last)
		if to == 0 && from > 0 {
			to = 7 // fri-sun
		}
		by := 1
		if stepped {
			var err error
			if by, err = strconv.Atoi(step); err != nil || by < 1 {
				continue
			}
		}
		if !ok || to != 7 || from > to {
			continue
		}
		var days []string
		for d := from; d <= to; d += by {
			days = append(days, strconv.Itoa(d%7))
		}
		items[i] = strings.Join(days, ",")
	}
	return strings.Join(items, ",")
}

func weekday(s string) (int, bool) {
	for i, name := range [...]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} {
		if strings.EqualFold(s, name) {
			return i, true
		}
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= 0 && n <= 7
}

// horizon bounds how far ahead a time is looked for: a 29th of February on a given
// weekday may be 40 years away.
const horizon = 41

// Next is the first time after t that the schedule names in t's location, or zero if there
// is none within some decades.
func (s Spec) Next(t time.Time) time.Time {
	location, last := t.Location(), t.AddDate(horizon, 0, 0)
	for t = t.Add(1); t.Before(last); {
		// Between two changes of the clock it runs as one without changes does.
		_, end := t.ZoneBounds()
		if end.IsZero() || end.After(last) {
			end = last
		}
		_, ahead := t.Zone()
		offset := time.Duration(ahead) * time.Second
		if wall := s.next(t.UTC().Add(offset), end.UTC().Add(offset)); !wall.IsZero() {
			return wall.Add(-offset).In(location)
		}
		t = end
	}
	return time.Time{}
}

// next is the first minute from one time on and before another, both of a clock that is
// never changed, or zero.
func (s Spec) next(from, until time.Time) time.Time {
	t := from.Truncate(time.Minute)
	if t.Before(from) {
		t = t.Add(time.Minute)
	}
	for t.Before(until) {
		year, month, day := t.Date()
		switch {
		case s.month>>month&1 == 0:
			t = time.Date(year, month+1, 1, 0, 0, 0, 0, time.UTC)
		case !s.on(day, t.Weekday()):
			t = time.Date(year, month, day+1, 0, 0, 0, 0, time.UTC)
		case s.hour>>t.Hour()&1 == 0:
			t = t.Truncate(time.Hour).Add(time.Hour)
		case s.minute>>t.Minute()&1 == 0:
			t = t.Add(time.Minute)
		default:
			return t
		}
	}
	return time.Time{}
}

func (s Spec) on(day int, weekday time.Weekday) bool {
	a, b := s.day>>day&1 == 1, s.weekday>>weekday&1 == 1
	return a && b || s.either && (a || b)
}
