package patrick

import (
	"cmp"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/claim"
)

// branchID names a branch of a repository.
type branchID struct {
	repository taubyte.RepositoryID
	branch     taubyte.Branch
}

// branch is what the index knows of a branch.
type branch struct {
	jobs       []*entry        // all, by order
	open       map[*entry]bool // queued and running
	deliveries map[string]*entry
}

func (b *branch) newest() *entry { return b.jobs[len(b.jobs)-1] }

// index holds every job in memory. What the queue does costs as much as is queued
// and running, however many jobs have ended.
type index struct {
	patience patience
	timing   *claim.Timing[taubyte.JobID] // of the leases on what is running

	all      map[taubyte.JobID]*entry
	ids      []taubyte.JobID // of those with a specification, sorted
	branches map[branchID]*branch
	queued   map[taubyte.ProjectID]map[*entry]bool
	running  map[*entry]bool
	// served is when a project last got a worker: who waits longest is next.
	served map[taubyte.ProjectID]time.Time
}

func newIndex(p patience, lease time.Duration) *index {
	return &index{
		patience: p, timing: claim.NewTiming[taubyte.JobID](lease),
		all: map[taubyte.JobID]*entry{}, branches: map[branchID]*branch{},
		queued: map[taubyte.ProjectID]map[*entry]bool{}, running: map[*entry]bool{},
		served: map[taubyte.ProjectID]time.Time{},
	}
}

// add takes a record in and returns the jobs that it changed.
func (x *index) add(key string, value []byte, now time.Time) []Job {
	r, ok := parseKey(key)
	if !ok {
		return nil
	}
	e := x.all[r.job]
	if e == nil {
		e = newEntry(r.job)
		x.all[r.job] = e
	}
	had := e.spec != nil
	if e.add(r, value, now) != nil || e.spec == nil {
		return nil
	}
	id := branchID{e.spec.Repository, e.spec.Branch}
	b := x.branches[id]
	if b == nil {
		b = &branch{open: map[*entry]bool{}, deliveries: map[string]*entry{}}
		x.branches[id] = b
	}
	if !had {
		i, _ := slices.BinarySearchFunc(b.jobs, e, func(a, o *entry) int {
			return cmp.Or(cmp.Compare(a.spec.Order, o.spec.Order), cmp.Compare(a.id, o.id))
		})
		b.jobs = slices.Insert(b.jobs, i, e)
		if d := e.spec.Delivery; d != "" {
			b.deliveries[d] = e
		}
		if i, found := slices.BinarySearch(x.ids, e.id); !found {
			x.ids = slices.Insert(x.ids, i, e.id)
		}
	}
	changed := x.settle(b, e, now, nil)
	for o := range b.open {
		if o != e && o != b.newest() {
			changed = x.settle(b, o, now, changed)
		}
	}
	return changed
}

// settle computes a job anew, files it by its state, and adds it to changed if it is
// not what it was.
func (x *index) settle(b *branch, e *entry, now time.Time, changed []Job) []Job {
	was := e.job
	e.fold(x.patience)
	if e.job.State == Queued && b.newest() != e {
		e.job.State, e.job.Ended = Superseded, b.newest().spec.Created
	}
	project := e.job.Project
	if q := x.queued[project]; e.job.State != Queued && q[e] {
		delete(q, e)
		if len(q) == 0 {
			delete(x.queued, project)
		}
	}
	if e.job.State == Queued {
		if x.queued[project] == nil {
			x.queued[project] = map[*entry]bool{}
		}
		x.queued[project][e] = true
	}
	if e.job.State == Running {
		x.running[e] = true
		x.timing.Begin(e.id, e.lease.Grant.Fence, now)
	} else {
		delete(x.running, e)
		x.timing.Forget(e.id)
	}
	if e.job.State.Done() {
		delete(b.open, e)
	} else {
		b.open[e] = true
	}
	if was.ID == "" || was.State != e.job.State || was.Attempt != e.job.Attempt || was.Error != e.job.Error || !was.Ended.Equal(e.job.Ended) {
		changed = append(changed, e.job)
	}
	return changed
}

// blocked reports whether a queued job has to wait for another of its branch: a
// removal and a build of one branch never run side by side.
func (x *index) blocked(e *entry) bool {
	for o := range x.branches[branchID{e.job.Repository, e.job.Branch}].open {
		if o != e && (o.job.State == Running || o.granting) && (o.job.Deleted || e.job.Deleted) {
			return true
		}
	}
	return false
}

// pick chooses the queued job that is next for a worker, and says when to look again if
// one waits for its time. Of the projects that have work the one that has fewest jobs
// running is served, then the one that waits longest.
func (x *index) pick(now time.Time, worker peer.ID, mine func(*entry) bool) (best *entry, again time.Time) {
	busy := map[taubyte.ProjectID]int{}
	for e := range x.running {
		busy[e.job.Project]++
	}
	for p, q := range x.queued {
		for e := range q {
			if e.picked || e.granting {
				busy[p]++ // as good as running
			}
		}
	}
	for p, q := range x.queued {
		for e := range q {
			if e.picked || e.granting || !mine(e) || x.blocked(e) {
				continue
			}
			if ready := e.ready(worker); ready.After(now) {
				if again.IsZero() || ready.Before(again) {
					again = ready
				}
				continue
			}
			if best == nil || x.before(e, best, busy[p], busy[best.job.Project]) {
				best = e
			}
		}
	}
	return best, again
}

func (x *index) before(a, b *entry, busyA, busyB int) bool {
	if a.job.Project != b.job.Project {
		if busyA != busyB {
			return busyA < busyB
		}
		if c := x.served[a.job.Project].Compare(x.served[b.job.Project]); c != 0 {
			return c < 0
		}
		return a.id < b.id
	}
	if a.job.Priority != b.job.Priority {
		return a.job.Priority > b.job.Priority
	}
	return a.id < b.id
}

// serve notes that a project got a worker.
func (x *index) serve(p taubyte.ProjectID, now time.Time) {
	x.served[p] = now
	if len(x.served) > 1024 {
		for id := range x.served {
			if x.queued[id] == nil {
				delete(x.served, id)
			}
		}
	}
}
