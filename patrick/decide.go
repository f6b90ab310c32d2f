package patrick

import (
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/claim"
)

// What a node of patrick decides: whether a push makes a job, who gets which, whose lease
// holds, and who is lost. All of it follows from the records that the node has, from the
// nodes that it sees (live), and from its clock (now). Nothing here waits, writes or calls:
// Service does, and the simulation of many nodes in the tests.

// An answer to a submission: the job that there is, or the specification of a new one.
type answer struct {
	job  Job // the branch's, where it has one already
	id   taubyte.JobID
	spec *spec // nil: no job is made
}

// submission decides whether a push makes a job. taken: the message that told of it did
// already.
func (x *index) submission(sub submission, taken bool, now time.Time) (a answer) {
	p := sub.Push
	var last uint64
	b := x.branches[branchID{p.Repository, p.Branch}]
	if b != nil {
		e := b.find(p, sub.Registered)
		if e == nil && (taken || sub.Missed && b.newest().id != sub.Known) {
			e = b.newest()
		}
		if e != nil {
			a.job = e.job
		}
		last = b.newest().spec.Order
	}
	// Of a branch that nobody knows nothing is to be removed.
	if a.job.ID != "" || taken || b == nil && p.Commit == "" && len(sub.Deliveries) > 0 {
		return a
	}
	order := x.numbers.Next(last)
	a.id = newID(order, x.self)
	a.spec = &spec{
		Project: sub.Project, Repository: p.Repository, Branch: p.Branch, Commit: p.Commit, Order: order,
		Created: now.UTC(), Deleted: p.Commit == "", Priority: sub.Priority, Delivery: p.Delivery,
		Registered: sub.Registered, Follows: sub.Follows,
	}
	return a
}

// A claimant is a worker that waits for a job at one node.
type claimant struct {
	worker
	refused map[taubyte.JobID]time.Time // until when, by their arbiters
}

func newClaimant(w worker) *claimant {
	return &claimant{worker: w, refused: map[taubyte.JobID]time.Time{}}
}

// refuse notes that a job was not granted.
func (c *claimant) refuse(id taubyte.JobID, now time.Time) { c.refused[id] = now.Add(refusedFor) }

// next chooses a job to ask its arbiter for, and marks it, so that others that wait here
// take another: see asked. Where there is none, again is when to look again, if that is
// known.
func (x *index) next(c *claimant, now time.Time) (e *entry, again time.Time) {
	for id, until := range c.refused {
		if !now.Before(until) {
			delete(c.refused, id)
		} else if again.IsZero() || until.Before(again) {
			again = until
		}
	}
	e, later := x.pick(now, c.worker, func(e *entry) bool { return c.refused[e.id].IsZero() })
	if e != nil {
		e.picked = true
		x.count(e)
		return e, time.Time{}
	}
	if again.IsZero() || !later.IsZero() && later.Before(again) {
		again = later
	}
	return nil, again
}

// asked notes that the arbiter of a job that next chose has answered.
func (x *index) asked(e *entry) {
	e.picked = false
	x.count(e)
}

// grant decides that a worker gets a job for which this node is the arbiter: that one or,
// if another worker was faster, the next. The caller writes the lease, with the record of
// that fence, and then calls granted.
func (x *index) grant(id taubyte.JobID, w worker, live []peer.ID, now time.Time) (e *entry, fence uint64, err error) {
	if e, err = x.entry(id); err != nil {
		return nil, 0, err
	}
	mine := func(e *entry) bool { return claim.Arbiter(e.key(), live) == x.self }
	if !mine(e) {
		return nil, 0, fmt.Errorf("%w: another node grants job %s", taubyte.ErrConflict, id)
	}
	if e.job.State != Queued || e.granting || e.ready(w.id).After(now) || !w.has(e.job.Labels) || x.blocked(e) {
		err := fmt.Errorf("%w: job %s is %s, or not to be had now", taubyte.ErrConflict, id, e.job.State)
		if e, _ = x.pick(now, w, mine); e == nil {
			return nil, 0, err
		}
	}
	e.granting = true
	x.count(e)
	x.serve(e.job.Project, now)
	return e, x.numbers.Next(e.top()), nil
}

// granted notes that a lease was written, or could not be.
func (x *index) granted(e *entry) {
	e.granting = false
	x.count(e)
}

// keeper returns the node that looks after a lease.
func (x *index) keeper(l leaseID, live []peer.ID) peer.ID {
	g := claim.Grant{Fence: l.fence, Arbiter: l.arbiter}
	e, err := x.entry(l.job)
	if err != nil {
		return claim.Keeper(g, "", live)
	}
	for _, known := range e.history.Grants() {
		if known.Fence == l.fence {
			g = known
		}
	}
	return claim.Keeper(g, e.key(), live)
}

// knows reports whether this node has a record of a lease.
func (x *index) knows(l leaseID) bool {
	e, err := x.entry(l.job)
	return err == nil && !errors.Is(e.history.Check(l.fence, l.worker), claim.ErrUnknown)
}

// renew decides whether a worker may go on, and until when.
func (x *index) renew(e *entry, l leaseID, now time.Time) (until time.Time, err error) {
	if err := e.holds(l); err != nil {
		return until, err
	}
	return x.timing.Hear(l.job, l.fence, now), nil
}

// finish decides how an attempt ends of which its worker says so, see ends. The caller
// writes that, unless it was said before, and then calls ended.
func (x *index) finish(e *entry, l leaseID, o Outcome, now time.Time) (end ending, said bool, err error) {
	if e.ending {
		return end, false, fmt.Errorf("job %s: an end is being written", l.job)
	}
	if end, said, err = e.ends(l, o, now); err == nil && !said {
		e.ending = true
	}
	return end, said, err
}

// ended notes that an end was written, or could not be. Until then this node decides no
// other: an attempt has one of each node.
func (x *index) ended(id taubyte.JobID) {
	if e := x.all[id]; e != nil {
		e.ending = false
	}
}

// overdue is an attempt whose worker was not heard of in time, and how it ends unless
// another node has heard of it.
type overdue struct {
	heldLease
	kind string // of the record
	end  ending
}

// overdue returns the attempts to end of those that this node looks after. near says
// whether a worker is connected to it.
func (x *index) overdue(live []peer.ID, near func(peer.ID) bool, now time.Time) (all []overdue) {
	expired := x.timing.Tick(now, func(id taubyte.JobID) claim.View {
		e := x.all[id]
		g := e.lease.Grant
		return claim.View{Kept: claim.Keeper(g, e.key(), live) == x.self, Near: near(g.Holder)}
	})
	for _, l := range expired {
		e := x.all[l.Key]
		o := overdue{heldLease: heldLease{l.Key, l.Fence}, kind: "lost"}
		if l.Taken {
			o.end = e.lose(x.patience, now, fmt.Sprintf("the worker %s is lost", e.lease.Grant.Holder))
		} else {
			o.kind, o.end = "end", untaken(now)
		}
		all = append(all, o)
	}
	return all
}

// lapsed decides, after the other nodes were asked, that an overdue attempt ends. Its
// worker may have been heard of meanwhile. The caller writes the end and then calls ended.
func (x *index) lapsed(l heldLease, now time.Time) bool {
	e := x.all[l.Job]
	if e == nil || e.ending || !e.running(l.Fence) || x.timing.Heard(l.Job, l.Fence, now) {
		return false
	}
	e.ending = true
	return true
}

// heardOf notes that another node has heard of a lease's worker.
func (x *index) heardOf(l heldLease, now time.Time) {
	if e := x.all[l.Job]; e != nil && e.running(l.Fence) {
		x.timing.Hear(l.Job, l.Fence, now)
	}
}

// abandoned returns the attempts of the worker on this very node: when the node starts,
// it was killed as well.
func (x *index) abandoned(now time.Time) (all []overdue) {
	for e := range x.running {
		if g := e.lease.Grant; g.Holder == x.self {
			all = append(all, overdue{heldLease{e.id, g.Fence}, "lost", e.lose(x.patience, now, "the node was killed in the midst of it")})
		}
	}
	return all
}

// wish decides whether an operator's wish is granted: to "cancel" a job or to "retry" it.
// stamp is 0 where it is so already.
func (x *index) wish(e *entry, kind string) (stamp uint64, err error) {
	if kind == "cancel" {
		if e.job.State == Cancelled {
			return 0, nil
		}
		err = e.mayCancel()
	} else {
		err = e.mayRetry(x.branches[branchID{e.job.Repository, e.job.Branch}].newest() == e)
	}
	if err != nil {
		return 0, err
	}
	return x.numbers.Next(e.top()), nil
}

// entry finds a job.
func (x *index) entry(id taubyte.JobID) (*entry, error) {
	e := x.all[id]
	if e == nil || e.spec == nil {
		return nil, fmt.Errorf("%w: job %q", taubyte.ErrNotFound, id)
	}
	return e, nil
}
