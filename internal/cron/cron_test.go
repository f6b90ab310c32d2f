package cron_test

import (
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/cron"
)

func parse(t *testing.T, text string) cron.Spec {
	t.Helper()
	s, err := cron.Parse(text)
	require.NoError(t, err, text)
	return s
}

// Every time around each change of the clocks in two years is one that the wall clock
// shows, and none of those is missed.
func TestWallClock(t *testing.T) {
	at := func(h, m int) func(time.Time) bool {
		return func(t time.Time) bool { return t.Hour() == h && t.Minute() == m }
	}
	on := func(f func(time.Time) bool, days ...time.Weekday) func(time.Time) bool {
		return func(t time.Time) bool {
			for _, d := range days {
				if t.Weekday() == d {
					return f(t)
				}
			}
			return false
		}
	}
	due := map[string]func(time.Time) bool{
		"0 12 * * 0": on(at(12, 0), 0), "0 12 * * 7": on(at(12, 0), 0), "0 12 * * 5-7": on(at(12, 0), 5, 6, 0), "0 12 * * fri-sun": on(at(12, 0), 5, 6, 0),
		"0 12 * * 1": on(at(12, 0), 1), "0 12 * * 6": on(at(12, 0), 6), "30 * * * 0": on(func(t time.Time) bool { return t.Minute() == 30 }, 0),
		"0 0 * * *": at(0, 0), "@daily": at(0, 0), "@weekly": on(at(0, 0), 0), "15 1 * * *": at(1, 15), "59 23 * * *": at(23, 59), "30 2 * * *": at(2, 30), "15 0 * * sun": on(at(0, 15), 0),
		"*/20 * * * *":    func(t time.Time) bool { return t.Minute()%20 == 0 },
		"0 */3 * * *":     func(t time.Time) bool { return t.Minute() == 0 && t.Hour()%3 == 0 },
		"@hourly":         func(t time.Time) bool { return t.Minute() == 0 },
		"10 2,3 1-31 * *": func(t time.Time) bool { return t.Minute() == 10 && (t.Hour() == 2 || t.Hour() == 3) },
	}
	for _, zone := range []string{"America/Havana", "Asia/Beirut", "Africa/Cairo", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Africa/Casablanca", "Asia/Gaza", "America/Asuncion"} {
		location, err := time.LoadLocation(zone)
		require.NoError(t, err)
		for h := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC); h.Year() < 2028; h = h.Add(time.Hour) {
			_, before := h.In(location).Zone()
			_, after := h.Add(time.Hour).In(location).Zone()
			if before == after {
				continue
			}
			from, to := h.Add(-50*time.Hour), h.Add(50*time.Hour)
			minutes := make([]time.Time, 0, 6000)
			for m := from; m.Before(to); m = m.Add(time.Minute) {
				minutes = append(minutes, m.In(location))
			}
			for text, f := range due {
				s := parse(t, text)
				next := s.Next(from.Add(-time.Second).In(location))
				for _, m := range minutes {
					if !f(m) {
						continue
					}
					require.Equal(t, m.String(), next.String(), "%s %s", zone, text)
					next = s.Next(next)
				}
				require.False(t, next.Before(to), "%s %s: %s", zone, text, next)
			}
		}
	}
}

func TestDays(t *testing.T) {
	days := func(text, from string, n int) (all []string) {
		at, err := time.Parse(time.DateOnly, from)
		require.NoError(t, err)
		s := parse(t, text)
		for range n {
			at = s.Next(at)
			all = append(all, at.Format("2006-01-02 Mon"))
		}
		return all
	}
	require.Equal(t, []string{"2026-01-04 Sun", "2026-01-11 Sun"}, days("0 3 * * 7", "2026-01-01", 2))
	require.Equal(t, days("0 3 * * *", "2026-01-01", 9), days("0 3 * * 0-7", "2026-01-01", 9))
	require.Equal(t, days("0 3 * * *", "2026-01-01", 9), days("0 3 * * 1-7", "2026-01-01", 9))
	require.Equal(t, []string{"2026-01-02 Fri", "2026-01-04 Sun"}, days("0 3 * * 5-7/2", "2026-01-01", 2))
	require.Equal(t, []string{"2026-01-04 Sun", "2026-01-07 Wed"}, days("0 3 * * 3,7", "2026-01-01", 2))
	require.Equal(t, []string{"2026-01-04 Sun", "2026-01-11 Sun"}, days("0 3 * * 7-7", "2026-01-01", 2))
	require.Equal(t, []string{"2026-01-03 Sat", "2026-01-04 Sun"}, days("0 3 * * SAT-SUN", "2026-01-01", 2))
	require.Equal(t, []string{"2026-02-13 Fri", "2026-02-20 Fri"}, days("0 3 13 * 5", "2026-02-07", 2), "either day")
	require.Equal(t, []string{"2026-02-06 Fri", "2026-02-13 Fri", "2026-02-15 Sun"}, days("0 3 15 * 5", "2026-02-03", 3))
	require.Equal(t, []string{"2026-01-05 Mon", "2026-01-19 Mon", "2026-02-09 Mon"}, days("0 3 */2 * 1", "2026-01-01", 3), "a star restricts nothing alone")
	require.Equal(t, []string{"2028-02-29 Tue", "2032-02-29 Sun"}, days("0 0 29 2 *", "2026-01-01", 2))
	require.Equal(t, []string{"2104-02-29 Fri"}, days("0 0 29 2 *", "2096-03-01", 1), "over a century")
	require.True(t, parse(t, "0 0 30 2 *").Next(time.Now()).IsZero(), "a day that never comes")
	for _, bad := range []string{"", "* * * *", "* * * * 8", "* * * * 7-9", "* * * * 8-7", "* * * * 5-7/0", "* * * * sat-mon", "60 * * * *", "@every 1h", "TZ=UTC * * * * *", "CRON_TZ=UTC * * * * *", "@never"} {
		_, err := cron.Parse(bad)
		require.Error(t, err, bad)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"0 3 * * 5-7/2", "@daily", "*/5 1,2 1-3 jan sun", "* * * * 7,fri-sun"} {
		f.Add(s, int64(1e9))
	}
	f.Fuzz(func(t *testing.T, text string, unix int64) {
		s, err := cron.Parse(text)
		if err != nil {
			return
		}
		from := time.Unix(unix%(1<<32), 0).UTC()
		if next := s.Next(from); !next.IsZero() && !next.After(from) {
			t.Fatal(text, from, next)
		}
	})
}
