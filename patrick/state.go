package patrick

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/claim"
)

// A job's states, and what takes it from one to the next:
//
//	queued     ─ a lease is granted ─▶            running
//	running    ─ the worker gives it back ─▶      queued
//	running    ─ the worker is lost ─▶            queued, or failed after the last attempt
//	running    ─ the worker says so ─▶            succeeded, failed, timed-out, superseded
//	running    ─ it has waited too long for a configuration ─▶ failed
//	queued     ─ a later push of the branch ─▶    superseded
//	queued, running ─ an operator cancels ─▶      cancelled
//	failed, timed-out, cancelled ─ an operator retries ─▶ queued
//
// A worker that was taken for lost may still say how its attempt ended, until there is
// another lease: that takes the job from queued, or failed after the last attempt, to where
// running would have gone. A running job whose worker gives it back, or is lost, after a
// later push is superseded.
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
	// configurationWait is how long a job waits for the configuration of its branch, and
	// configurationRetry how often it looks for one that came without a job of its own.
	configurationWait  = time.Hour
	configurationRetry = 5 * time.Minute
)

// doubled is first, doubled n times, and at most longestWait.
func doubled(first time.Duration, n int) time.Duration {
	return doubledTo(longestWait, first, n)
}

func doubledTo(most, first time.Duration, n int) time.Duration {
	return min(first<<min(n, 16), max(most, first))
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
	e.lease, e.after, e.avoid, e.unconfigured = l, time.Time{}, nil, time.Time{}
	if l.Grant.Fence != 0 {
		j.Worker, j.Started = l.Grant.Holder, e.started[l.Grant.Fence]
		end := l.End.Result
		if l.State == claim.Held {
			j.State = Running
		} else {
			j.State, j.Error, j.Steps, j.Ended = end.State, end.Error, end.Steps, end.Ended
		}
		j.Labels = e.wait(p, retried)
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
// was lost, and which labels its next worker needs.
func (e *entry) wait(p patience, since uint64) (needs []string) {
	l := e.lease
	times := map[peer.ID]int{}
	news := false // the newest return has told of a label
	for _, g := range e.history.Grants() {
		end, ok := e.history.End(g.Fence)
		if !ok || g.Fence < since || end.Kind != claim.Returned {
			continue
		}
		news = false
		for _, n := range end.Result.Needs {
			if !slices.Contains(needs, n) && len(needs) < maxNeeds {
				needs, news = append(needs, n), true
			}
		}
		if end.Result.Unconfigured && e.unconfigured.IsZero() {
			e.unconfigured = end.Result.Ended
		}
		if end.Result.Stopping || news || g.Fence == e.configured {
			continue
		}
		if e.avoid == nil {
			e.avoid = map[peer.ID]time.Time{}
		}
		e.avoid[g.Holder] = e.seen[g.Fence].Add(doubled(avoidFirst, times[g.Holder]))
		times[g.Holder]++
	}
	seen := e.seen[l.Grant.Fence]
	switch {
	case l.End.Kind == claim.Lost:
		e.after = seen.Add(doubled(p.backOff, l.Counted-1))
	case l.End.Kind != claim.Returned, l.End.Result.Stopping, news, l.Returned < 2:
	case l.End.Result.Unconfigured && l.Grant.Fence == e.configured:
		e.avoid = nil // what it waited for is there
	case l.End.Result.Unconfigured:
		e.after = seen.Add(doubledTo(configurationRetry, p.backOff, l.Returned-2))
	default:
		e.after = seen.Add(doubled(p.backOff, l.Returned-2))
	}
	slices.Sort(needs)
	return needs
}

// waitsForConfiguration reports whether a job is queued because its branch has no
// configuration.
func (e *entry) waitsForConfiguration() bool {
	return e.job.State == Queued && e.lease.End.Kind == claim.Returned && e.lease.End.Result.Unconfigured
}

// ready is when a worker may have a queued job.
func (e *entry) ready(worker peer.ID) time.Time {
	if avoid := e.avoid[worker]; avoid.After(e.after) {
		return avoid
	}
	return e.after
}

// holds checks that a worker has the job under its lease.
func (e *entry) holds(l leaseID) error {
	if err := e.history.Check(l.fence, l.worker); err != nil {
		return fmt.Errorf("job %s: %w", e.id, err)
	}
	if e.job.State != Running {
		return fmt.Errorf("%w: job %s is %s", taubyte.ErrConflict, e.id, e.job.State)
	}
	return nil
}

// ends decides how an attempt ends of which its worker says so. said: it has said it
// before, and there is nothing to write.
func (e *entry) ends(l leaseID, o Outcome, now time.Time) (end ending, said bool, err error) {
	err = e.history.CheckEnd(l.fence, l.worker)
	switch end, ended := e.history.End(l.fence); {
	case errors.Is(err, taubyte.ErrConflict) && ended && end.Kind != claim.Lost && end.Result.says(o):
		return end.Result, true, nil // the answer to the first time was lost
	case err != nil:
		return ending{}, false, fmt.Errorf("job %s: %w", e.id, err)
	case e.job.State == Cancelled || e.job.State == Queued && o.State == Queued:
		return ending{}, false, fmt.Errorf("%w: job %s is %s", taubyte.ErrConflict, e.id, e.job.State)
	}
	end = ending{Outcome: o, Ended: now.UTC()}
	if since := e.unconfigured; o.Unconfigured && !since.IsZero() && now.Sub(since) >= configurationWait {
		end.State, end.Unconfigured, end.GaveUp = Failed, false, true
		end.Error = fmt.Sprintf("%s (it has waited for %s)", o.Error, now.Sub(since).Round(time.Second))
	}
	return end, false, nil
}

// says reports whether an ending is what came of an outcome.
func (e ending) says(o Outcome) bool {
	if e.GaveUp {
		return o.Unconfigured
	}
	return e.State == o.State && e.Error == o.Error
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

// untaken is how an attempt ends of which no worker was heard.
func untaken(now time.Time) ending {
	return ending{Ended: now.UTC(), Outcome: Outcome{State: Queued, Error: "no worker has taken it", Stopping: true}}
}

// mayCancel returns an error for a job that has ended.
func (e *entry) mayCancel() error {
	if e.job.State.Done() && e.job.State != Cancelled {
		return fmt.Errorf("%w: job %s has ended: %s", taubyte.ErrConflict, e.id, e.job.State)
	}
	return nil
}

// mayRetry returns an error for a job of which another attempt makes no sense.
func (e *entry) mayRetry(newest bool) error {
	if !newest {
		return fmt.Errorf("%w: job %s: there is a later push of the branch", taubyte.ErrConflict, e.id)
	}
	switch e.job.State {
	case Failed, Cancelled, TimedOut:
		return nil
	}
	return fmt.Errorf("%w: job %s is %s", taubyte.ErrConflict, e.id, e.job.State)
}

func lastAttempt(why string, n, of int) string {
	return fmt.Sprintf("%s (attempt %d of %d)", why, n, of)
}
