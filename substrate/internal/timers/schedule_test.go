package timers_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/substrate/internal/timers"
)

func after(t *testing.T, text, zone, from string, n int) []string {
	t.Helper()
	s, err := timers.Parse(text, zone)
	require.NoError(t, err)
	at, err := time.Parse(time.RFC3339, from)
	require.NoError(t, err)
	location, err := time.LoadLocation(zone)
	require.NoError(t, err)
	var all []string
	for range n {
		at = s.Next(at)
		all = append(all, at.In(location).Format("Mon 15:04:05 -07"))
	}
	return all
}

func TestSchedule(t *testing.T) {
	require.Equal(t, []string{"Mon 04:30:00 +00", "Tue 04:30:00 +00"}, after(t, "30 4 * * 1-5", "", "2026-01-03T00:00:00Z", 2))
	require.Equal(t, []string{"Sat 00:00:00 -05"}, after(t, "@daily", "America/New_York", "2026-01-02T12:00:00Z", 1))
	// All nodes agree on an interval, whenever they were started.
	for _, from := range []string{"2026-01-02T12:00:01Z", "2026-01-02T12:01:29.999Z"} {
		require.Equal(t, []string{"Fri 12:01:30 +00", "Fri 12:03:00 +00"}, after(t, "@every 90s", "", from, 2))
	}
	for _, bad := range [][2]string{{"@every 1ms", ""}, {"@every x", ""}, {"* * *", ""}, {"@daily", "Nowhere/None"}, {"TZ=UTC * * * * *", ""}} {
		_, err := timers.Parse(bad[0], bad[1])
		require.ErrorIs(t, err, taubyte.ErrInvalid, bad)
	}
	s, err := timers.Parse("0 0 30 2 *", "")
	require.NoError(t, err)
	require.True(t, s.Next(time.Now()).IsZero(), "a day that never comes")
}

// When clocks change: what is in the hour that is left out is not due that day, what is
// in the hour that comes twice is due twice, and every hour is every hour.
func TestDaylightSaving(t *testing.T) {
	const zone = "Europe/Paris"
	require.Equal(t, []string{"Sat 02:30:00 +01", "Mon 02:30:00 +02"}, after(t, "30 2 * * *", zone, "2026-03-28T00:00:00Z", 2), "02:30 is not on the 29th")
	require.Equal(t, []string{"Sat 02:30:00 +02", "Sun 02:30:00 +02", "Sun 02:30:00 +01", "Mon 02:30:00 +01"}, after(t, "30 2 * * *", zone, "2026-10-24T00:00:00Z", 4))
	require.Equal(t, []string{"Sat 04:00:00 +01", "Sun 04:00:00 +02"}, after(t, "0 4 * * *", zone, "2026-03-28T00:00:00Z", 2))
	require.Equal(t, []string{"Sun 01:00:00 +01", "Sun 03:00:00 +02", "Sun 04:00:00 +02"}, after(t, "@hourly", zone, "2026-03-28T23:00:00Z", 3))
	require.Equal(t, []string{"Sun 02:00:00 +02", "Sun 02:00:00 +01", "Sun 03:00:00 +01"}, after(t, "@hourly", zone, "2026-10-24T23:00:00Z", 3))
}
