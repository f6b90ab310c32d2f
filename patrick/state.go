package patrick

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte/internal/claim"
)

// A job's states, and what takes it from one to the next:
//
//	queued     ─ a lease is granted ─▶            running
//	running    ─ the worker gives it back ─▶      queued
//	running    ─ the worker is lost ─▶            queued, or failed after the last attempt
//	running    ─ the worker says so ─▶            succeeded, failed, timed-out, superseded
//	queued     ─ a later push of the branch ─▶    superseded
//	queued, running ─ an operator cancels ─▶      cancelled
//	failed, timed-out, cancelled ─ an operator retries ─▶ queued
//
// Nodes that do not see each other may take a job along two ways. Then what succeeded
// counts, else the lease with the larger fence, and a worker's own word more than that it
// was lost.

// patience of a job with workers that do not finish it.
type patience struct {
	attempts int           // workers that may be lost over it
	backOff  time.Duration // before the second attempt; each further one waits twice as long
}

const (
	longestWait = time.Minute
	// avoidFirst is how long a worker that gave a job back is not given it again. What
	// kept it from building it may well be its own.
	avoidFirst = 2 * time.Second
)

// doubled is first, doubled n times, and at most longestWait.
func doubled(first time.Duration, n int) time.Duration {
	return min(first<<min(n, 16), max(longestWait, first))
}

// fold computes the job from its records. Every node that has the same ones comes to the
// same job; when it is tried again is counted by each node's own clock. It leaves out
// what later jobs of the branch do to it.
func (e *entry) fold(p patience) {
	s := e.spec
	j := Job{
		ID: e.id, Project: s.Project, Repository: s.Repository, Branch: s.Branch, Commit: s.Commit,
		Order: s.Order, Created: s.Created, Deleted: s.Deleted, Priority: s.Priority,
		State: Queued, Attempt: len(e.history.Grants()),
	}
	retried, _ := newest(e.retries)
	cancelled, cancel := newest(e.cancels)
	l := e.history.Status(retried)
	e.lease, e.after, e.avoid = l, time.Time{}, nil
	if l.Grant.Fence != 0 {
		j.Worker, j.Started = l.Grant.Holder, e.started[l.Grant.Fence]
		end := l.End.Result
		if l.State == claim.Held {
			j.State = Running
		} else {
			j.State, j.Error, j.Steps, j.Ended = end.State, end.Error, end.Steps, end.Ended
			e.wait(p, retried)
		}
	}
	if cancelled > retried && !j.State.Done() {
		j.State, j.Error, j.Ended = Cancelled, "", cancel.At
	}
	if j.State == Queued {
		j.Worker, j.Started, j.Ended, j.Steps = "", time.Time{}, time.Time{}, nil
	}
	e.job = j
}

// wait decides from when on a job is tried again that was given back, or whose worker
// was lost.
func (e *entry) wait(p patience, since uint64) {
	l := e.lease
	seen := e.seen[l.Grant.Fence]
	switch {
	case l.End.Kind == claim.Lost:
		e.after = seen.Add(doubled(p.backOff, l.Counted-1))
	case l.End.Kind == claim.Returned && !l.End.Result.Stopping && l.Returned > 1:
		e.after = seen.Add(doubled(p.backOff, l.Returned-2))
	}
	times := map[peer.ID]int{}
	for _, g := range e.history.Grants() {
		end, ok := e.history.End(g.Fence)
		if !ok || g.Fence < since || end.Kind != claim.Returned || end.Result.Stopping {
			continue
		}
		if e.avoid == nil {
			e.avoid = map[peer.ID]time.Time{}
		}
		e.avoid[g.Holder] = e.seen[g.Fence].Add(doubled(avoidFirst, times[g.Holder]))
		times[g.Holder]++
	}
}

// ready is when a worker may have a queued job.
func (e *entry) ready(worker peer.ID) time.Time {
	if avoid := e.avoid[worker]; avoid.After(e.after) {
		return avoid
	}
	return e.after
}

// lose decides how an attempt ends whose worker was lost.
func (e *entry) lose(p patience, now time.Time, why string) ending {
	end := ending{Ended: now.UTC(), Outcome: Outcome{State: Queued, Error: why}}
	if e.lease.Counted >= p.attempts {
		end.State = Failed
		end.Error = lastAttempt(why, e.lease.Counted, p.attempts)
	}
	return end
}
