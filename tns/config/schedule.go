package config

import (
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // the same time zones on every machine

	"go.yaml.in/yaml/v3"

	"github.com/taubyte/taubyte/internal/cron"
)

// schedule says when a timer goes off: the five fields of cron, or a descriptor.
func schedule(n *yaml.Node) (any, string, string) {
	const hint = `five fields as in "0 4 * * 1-5" (minute, hour, day of the month, month, day of the week), @hourly, @daily, @weekly, @monthly, @yearly, or @every 90s`
	v, fault, _ := some(n)
	if fault != "" {
		return nil, fault, hint
	}
	text := strings.TrimSpace(n.Value)
	if strings.Contains(text, "TZ=") {
		return nil, "names a time zone", "write it under trigger.timezone"
	}
	if every, ok := strings.CutPrefix(text, "@every "); ok {
		if d, err := time.ParseDuration(every); err != nil || d < time.Second {
			return nil, fmt.Sprintf("is %q, which is no interval of a second or more", n.Value), "as in @every 90s or @every 1h30m"
		}
		return text, "", ""
	}
	s, err := cron.Parse(text)
	if err != nil {
		return nil, fmt.Sprintf("is %q, which is no schedule: %v", n.Value, err), hint
	}
	// From a year with a 29th of February, so that it does not depend on the day
	// of compiling.
	if s.Next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, fmt.Sprintf("is %q, a day that never comes", n.Value), hint
	}
	if text != n.Value {
		v = text
	}
	return v, "", ""
}

// timezone is a name of the IANA database. The machine's own zone is none: a
// project runs on many.
func timezone(n *yaml.Node) (any, string, string) {
	const hint = "as in UTC, Europe/Paris or America/New_York"
	v, fault, _ := some(n)
	if fault != "" {
		return nil, fault, hint
	}
	if _, err := time.LoadLocation(n.Value); err != nil || n.Value == "Local" {
		return nil, fmt.Sprintf("is %q, which is no time zone", n.Value), hint
	}
	return v, "", ""
}
