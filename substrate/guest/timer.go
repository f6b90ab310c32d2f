package guest

import (
	"os"
	"runtime/debug"
	"time"

	"github.com/taubyte/taubyte/substrate/guest/event"
)

// ServeTimer has f do what is to be done at a tick of a timer, event e, and gives what
// an entry point returns: 0, or 1 when f failed or panicked, which is logged. due is
// when the tick was to be; it may begin somewhat later.
func ServeTimer(e uint32, f func(due time.Time) error) (result uint32) {
	if kind := event.KindOf(e); kind != event.KindTimer {
		os.Stderr.WriteString("guest: the event is " + kind.String() + ", not timer\n")
		return 1
	}
	defer func() {
		if p := recover(); p != nil {
			result = 1
			os.Stderr.WriteString("guest: panic: " + text(p) + "\n")
			os.Stderr.Write(debug.Stack())
		}
	}()
	if err := f(time.Unix(0, event.Timer(e).Due()).UTC()); err != nil {
		os.Stderr.WriteString("guest: the tick failed: " + err.Error() + "\n")
		return 1
	}
	return 0
}
