package timers_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/substrate/internal/timers"
)

// Each schedule is compared with the wall clock, minute by minute, around each change of
// the clocks in two years: also where they change at midnight, and by half an hour. What
// is due in an hour that is left out is not due, and in one that comes twice it is due
// twice; on a day that a schedule does not name nothing is.
func TestChangeOfClocks(t *testing.T) {
	at := func(h, m int) func(time.Time) bool {
		return func(t time.Time) bool { return t.Hour() == h && t.Minute() == m }
	}
	on := func(d time.Weekday, f func(time.Time) bool) func(time.Time) bool {
		return func(t time.Time) bool { return t.Weekday() == d && f(t) }
	}
	for _, zone := range []string{"America/Havana", "Asia/Beirut", "Africa/Cairo", "Atlantic/Azores", "Australia/Lord_Howe", "Europe/Paris", "America/New_York"} {
		location, err := time.LoadLocation(zone)
		require.NoError(t, err)
		for _, c := range []struct {
			text string
			due  func(time.Time) bool
		}{
			{"0 12 * * 0", on(0, at(12, 0))}, {"0 12 * * 5", on(5, at(12, 0))}, {"0 12 * * 6", on(6, at(12, 0))}, {"0 12 * * 1", on(1, at(12, 0))},
			{"30 * * * 0", on(0, func(t time.Time) bool { return t.Minute() == 30 })},
			{"0 0 * * *", at(0, 0)}, {"15 1 * * *", at(1, 15)},
			{"*/20 * * * *", func(t time.Time) bool { return t.Minute()%20 == 0 }},
			{"0 */3 * * *", func(t time.Time) bool { return t.Minute() == 0 && t.Hour()%3 == 0 }},
		} {
			s, err := timers.Parse(c.text, zone)
			require.NoError(t, err)
			for h := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC); h.Year() < 2028; h = h.Add(time.Hour) {
				_, before := h.In(location).Zone()
				_, after := h.Add(time.Hour).In(location).Zone()
				if before == after {
					continue
				}
				from, to := h.Add(-50*time.Hour), h.Add(50*time.Hour)
				got := map[time.Time]bool{}
				for now := from.Add(-time.Second); ; {
					next := s.Next(now)
					if !next.After(now) {
						t.Errorf("STUCK %s %q at %s", zone, c.text, now.In(location))
						break
					}
					if !next.Before(to) {
						break
					}
					got[next], now = true, next
				}
				for m := from; m.Before(to); m = m.Add(time.Minute) {
					if c.due(m.In(location)) && !got[m] {
						t.Errorf("MISSED %s %q %s", zone, c.text, m.In(location).Format("Mon 2006-01-02 15:04 -0700"))
					}
					if c.due(m.In(location)) {
						delete(got, m)
					}
				}
				for m := range got {
					t.Errorf("EXTRA %s %q %s", zone, c.text, m.In(location).Format("Mon 2006-01-02 15:04 -0700"))
				}
			}
		}
	}
}
