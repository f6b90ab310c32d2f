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

// deployedBranch names what a project runs of a branch, whatever repositories it is of.
type deployedBranch struct {
	project taubyte.ProjectID
	branch  taubyte.Branch
}

// index holds every job in memory. What the queue does costs as much as is queued
// and running, however many jobs have ended. It decides for one node of patrick from what
// that one knows and from the time that it is told; decide.go says what.
type index struct {
	self     peer.ID
	numbers  *claim.Numbers // orders, fences and stamps
	patience patience
	timing   *claim.Timing[taubyte.JobID] // of the leases on what is running

	all      map[taubyte.JobID]*entry
	ids      []taubyte.JobID // of those with a specification, sorted
	branches map[branchID]*branch
	queued   map[taubyte.ProjectID][]*entry // by rank
	running  map[*entry]bool
	busy     map[taubyte.ProjectID]int // of each project, what runs or is about to
	// unconfigured are the jobs that wait for a configuration.
	unconfigured map[deployedBranch]map[*entry]bool
	// served is when a project last got a worker: who waits longest is next.
	served map[taubyte.ProjectID]time.Time
}

func newIndex(self peer.ID, numbers *claim.Numbers, p patience, lease time.Duration) *index {
	return &index{
		self: self, numbers: numbers, patience: p, timing: claim.NewTiming[taubyte.JobID](lease),
		all: map[taubyte.JobID]*entry{}, branches: map[branchID]*branch{},
		queued: map[taubyte.ProjectID][]*entry{}, running: map[*entry]bool{}, busy: map[taubyte.ProjectID]int{},
		unconfigured: map[deployedBranch]map[*entry]bool{}, served: map[taubyte.ProjectID]time.Time{},
	}
}

// add takes a record in and returns the jobs that it changed.
func (x *index) add(key string, value []byte, now time.Time) []Job {
	f, err := parse(key, value)
	if err != nil {
		return nil
	}
	return x.take(f, now)
}

// take is add for a record that is parsed already.
func (x *index) take(f fact, now time.Time) []Job {
	e := x.all[f.job]
	if e == nil {
		e = newEntry(f.job, now)
		x.all[f.job] = e
	}
	had := e.spec != nil
	if e.take(f, now); e.spec == nil {
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

// remove takes a job out. It reports whether there was one.
func (x *index) remove(id taubyte.JobID) bool {
	e := x.all[id]
	if e == nil || e.spec == nil {
		return false
	}
	delete(x.all, id)
	if i, found := slices.BinarySearch(x.ids, id); found {
		x.ids = slices.Delete(x.ids, i, i+1)
	}
	delete(x.running, e)
	x.timing.Forget(id)
	x.queue(e, false)
	x.count(e)
	x.wait(e, false)
	of := branchID{e.spec.Repository, e.spec.Branch}
	b := x.branches[of]
	delete(b.open, e)
	if d := e.spec.Delivery; b.deliveries[d] == e {
		delete(b.deliveries, d)
	}
	b.jobs = slices.DeleteFunc(b.jobs, func(o *entry) bool { return o == e })
	if len(b.jobs) == 0 {
		delete(x.branches, of)
	}
	return true
}

// settle computes a job anew, files it by its state, and adds it to changed if it is
// not what it was.
func (x *index) settle(b *branch, e *entry, now time.Time, changed []Job) []Job {
	was := e.job
	e.fold(x.patience)
	if e.job.State == Queued && b.newest() != e {
		e.job.State, e.job.Ended = Superseded, b.newest().spec.Created
	}
	x.file(b, e, now)
	if was.ID == "" || was.State != e.job.State || was.Attempt != e.job.Attempt || was.Error != e.job.Error || !was.Ended.Equal(e.job.Ended) {
		changed = append(changed, e.job)
	}
	if e.job.State == Succeeded && was.State != Succeeded && !e.job.Deleted {
		changed = x.configured(e, now, changed)
	}
	return changed
}

// file has a job where its state says that it is looked for.
func (x *index) file(b *branch, e *entry, now time.Time) {
	x.queue(e, e.job.State == Queued)
	if e.job.State == Running {
		x.running[e] = true
		x.timing.Begin(e.id, e.lease.Grant.Fence, now)
	} else {
		delete(x.running, e)
		x.timing.Forget(e.id)
	}
	x.count(e)
	if e.job.State.Done() {
		delete(b.open, e)
	} else {
		b.open[e] = true
	}
	x.wait(e, e.waitsForConfiguration())
}

// queue has a job among the queued ones of its project, or not.
func (x *index) queue(e *entry, queued bool) {
	if queued == e.queued {
		return
	}
	project := e.job.Project
	q := x.queued[project]
	i, _ := slices.BinarySearchFunc(q, e, (*entry).compare)
	if e.queued = queued; queued {
		q = slices.Insert(q, i, e)
	} else {
		q = slices.Delete(q, i, i+1)
	}
	if x.queued[project] = q; len(q) == 0 {
		delete(x.queued, project)
	}
}

// wait has a job among those that wait for a configuration, or not.
func (x *index) wait(e *entry, waits bool) {
	at := deployedBranch{e.job.Project, e.job.Branch}
	if waits {
		if x.unconfigured[at] == nil {
			x.unconfigured[at] = map[*entry]bool{}
		}
		x.unconfigured[at][e] = true
	} else if delete(x.unconfigured[at], e); len(x.unconfigured[at]) == 0 {
		delete(x.unconfigured, at)
	}
}

// count has a job among the busy ones of its project while it runs or a lease on it is
// being granted. One that was removed is none, whoever still holds its entry.
func (x *index) count(e *entry) {
	busy := x.all[e.id] == e && (e.job.State == Running || e.job.State == Queued && (e.picked || e.granting))
	if busy == e.busy {
		return
	}
	if e.busy = busy; busy {
		x.busy[e.job.Project]++
	} else if x.busy[e.job.Project]--; x.busy[e.job.Project] == 0 {
		delete(x.busy, e.job.Project)
	}
}

// configured has jobs tried again at once that waited for a configuration, when another
// repository of their branch was built: it may have brought it.
func (x *index) configured(by *entry, now time.Time, changed []Job) []Job {
	for e := range x.unconfigured[deployedBranch{by.job.Project, by.job.Branch}] {
		if e.job.Repository == by.job.Repository {
			continue
		}
		e.configured = e.lease.Grant.Fence
		changed = x.settle(x.branches[branchID{e.job.Repository, e.job.Branch}], e, now, changed)
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
// one waits for its time. Of the projects that have work for it the one that has fewest
// jobs running is served, then the one that waits longest; of a project the job of the
// first rank.
func (x *index) pick(now time.Time, w worker, mine func(*entry) bool) (best *entry, again time.Time) {
	for p, q := range x.queued {
		if best != nil && !x.first(p, best.job.Project) {
			continue
		}
		for _, e := range q {
			if e.picked || e.granting || !w.has(e.job.Labels) || !mine(e) || x.blocked(e) {
				continue
			}
			if ready := e.ready(w.id); ready.After(now) {
				if again.IsZero() || ready.Before(again) {
					again = ready
				}
				continue
			}
			best = e
			break
		}
	}
	return best, again
}

// first reports whether project a gets a worker before project b.
func (x *index) first(a, b taubyte.ProjectID) bool {
	return cmp.Or(cmp.Compare(x.busy[a], x.busy[b]), x.served[a].Compare(x.served[b]), cmp.Compare(a, b)) < 0
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
