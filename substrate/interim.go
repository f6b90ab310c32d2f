package substrate

import (
	"time"

	"github.com/taubyte/taubyte/substrate/internal/vm"
	"github.com/taubyte/taubyte/tns"
)

// A function takes over interpreted, before it is compiled, only where nobody will notice:
// its earlier version, which is still called, has to be one that takes little. In other cases
// the earlier version goes on until the new one is compiled.
const (
	lightEvent = 1 << 20  // units of fuel of the dearest event so far: some 10 ms
	lightLoad  = 16 << 20 // in a second, while the new version is made ready
)

// load is what a function's earlier version took so far.
type load struct {
	before *vm.Function // nil: none
	fuel   int64
	since  time.Time
}

// loadOf looks at the deployment of a branch that requests are led to now.
func (s *Service) loadOf(d *tns.Deployment, in scope, p program) load {
	if p.kind != "function" {
		return load{}
	}
	var newest uint64
	var before *vm.Function
	for key, live := range *s.live.Load() {
		if key.branchKey == (branchKey{d.Project, d.Branch}) && key.sequence < d.Sequence && key.sequence > newest {
			newest, before = key.sequence, live.functions[resourceKey{in.id, p.id}]
		}
	}
	if before == nil {
		return load{}
	}
	_, fuel := before.Used()
	return load{before, fuel, time.Now()}
}

// light says whether the earlier version is there and has taken little, also since loadOf.
func (l load) light() bool {
	if l.before == nil {
		return false
	}
	_, fuel := l.before.Used()
	return l.before.Most() < lightEvent && float64(fuel-l.fuel) < lightLoad*max(time.Since(l.since).Seconds(), 0.05)
}
