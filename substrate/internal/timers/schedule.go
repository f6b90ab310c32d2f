package timers

import (
	"fmt"
	"strings"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/cron"
)

// A Schedule says when a timer is due.
type Schedule struct {
	every time.Duration // or 0
	cron  cron.Spec
	zone  *time.Location
}

// Parse reads a schedule: five fields of cron, a descriptor such as @daily, or
// "@every <duration>" of a second or more. An empty zone is UTC.
//
// "@every" counts from the beginning of 1970, so that all nodes agree: @every 90s is
// due at each multiple of 90 s.
//
// The fields of cron are those of crontab(5), on the clock on the wall in that zone. What is due in
// an hour that daylight saving leaves out is not due that day, and what is due
// in an hour that comes twice is due twice: a daily timer belongs outside of the
// hours in which its zone's clocks change, or in UTC. Every hour or every minute means
// just that, on such days as well.
func Parse(text, zone string) (Schedule, error) {
	if zone == "" {
		zone = "UTC"
	}
	location, err := time.LoadLocation(zone)
	if err != nil {
		return Schedule{}, fmt.Errorf("%w time zone %q: %w", taubyte.ErrInvalid, zone, err)
	}
	if every, ok := strings.CutPrefix(text, "@every "); ok {
		d, err := time.ParseDuration(every)
		if err != nil || d < time.Second {
			return Schedule{}, fmt.Errorf("%w schedule %q: no interval of a second or more", taubyte.ErrInvalid, text)
		}
		return Schedule{every: d}, nil
	}
	c, err := cron.Parse(text)
	if err != nil {
		return Schedule{}, fmt.Errorf("%w schedule %q: %w", taubyte.ErrInvalid, text, err)
	}
	return Schedule{cron: c, zone: location}, nil
}

// Next is the first time after t that the timer is due, or zero if there is none in
// the next years.
func (s Schedule) Next(t time.Time) time.Time {
	if s.every > 0 {
		n := t.UnixNano()
		return time.Unix(0, n-n%int64(s.every)+int64(s.every)).UTC()
	}
	next := s.cron.Next(t.In(s.zone))
	if next.IsZero() {
		return next
	}
	return next.UTC()
}
