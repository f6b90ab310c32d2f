package monkey

import (
	"context"
	"fmt"
	"time"

	"github.com/taubyte/taubyte/monkey/internal/confine"
)

// watch looks at what the processes of a sandbox take together, for which the kernel has
// no limit without a cgroup.
type watch struct {
	init   int
	limits Limits
	disk   confine.Disk
}

const watchEvery = 100 * time.Millisecond

// until returns the limit that was passed, "" when the command has ended.
func (w watch) until(ctx context.Context, ended <-chan struct{}) string {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return ""
		case <-ctx.Done():
			return ""
		case <-tick.C:
		}
		memory, held, processes := confine.Processes(w.init, w.limits.Processes)
		if w.limits.Memory > 0 && memory > w.limits.Memory {
			return fmt.Sprintf("more than %d bytes of memory", w.limits.Memory)
		}
		if w.limits.Processes > 0 && processes > w.limits.Processes {
			return fmt.Sprintf("more than %d processes", w.limits.Processes)
		}
		if limit := w.disk.Over(ctx, held); limit != "" {
			return limit
		}
	}
}
