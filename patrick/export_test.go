package patrick

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/internal/claim"
)

// A Records is what a node makes of replicated records, without the node.
type Records struct{ index *index }

// NewRecords returns one that knows nothing.
func NewRecords() Records {
	return Records{newIndex("self", claim.NewNumbers("self", time.Now), patience{3, time.Second}, time.Second)}
}

// A Record is a replicated key and its value.
type Record struct {
	Key   string
	Value []byte
}

func (r Records) Add(rec Record) { r.index.add(rec.Key, rec.Value, time.Unix(1000, 0)) }

func (r Records) Jobs() map[taubyte.JobID]Job {
	all := map[taubyte.JobID]Job{}
	for id, e := range r.index.all {
		if e.spec != nil {
			all[id] = e.job
		}
	}
	return all
}

// Counted is how many attempts of a job count.
func (r Records) Counted(id taubyte.JobID) int { return r.index.all[id].lease.Counted }

// Listed reports whether a job is where the queue looks for it.
func (r Records) Listed(id taubyte.JobID) (queued, running bool) {
	e := r.index.all[id]
	return slices.Contains(r.index.queued[e.job.Project], e), r.index.running[e]
}

func value(v any) []byte {
	b, _ := json.Marshal(v)
	return b
}

func SpecRecord(id taubyte.JobID, order uint64, at time.Time) Record {
	return Record{specKey(id).String(), value(spec{Project: "p", Repository: "local/p", Branch: "main", Commit: "c", Order: order, Created: at})}
}

func LeaseRecord(id taubyte.JobID, fence uint64, by, worker peer.ID, at time.Time) Record {
	return Record{jobKey(id, "lease", fence, by).String(), value(attempt{worker, at})}
}

func EndRecord(id taubyte.JobID, kind string, fence uint64, by peer.ID, o Outcome, at time.Time) Record {
	return Record{jobKey(id, kind, fence, by).String(), value(ending{Outcome: o, Ended: at})}
}

func WishRecord(id taubyte.JobID, kind string, stamp uint64, by peer.ID, at time.Time) Record {
	return Record{jobKey(id, kind, stamp, by).String(), value(wish{at})}
}

// A Desk is what one node of patrick decides, without the node: the code is the node's own,
// and the records, the time and the nodes that it sees are the test's.
type Desk struct{ index *index }

// NewDesk returns one that has no records. clock is the node's.
func NewDesk(self peer.ID, attempts int, lease time.Duration, clock func() time.Time) Desk {
	return Desk{newIndex(self, claim.NewNumbers(self, clock), patience{attempts, 500 * time.Millisecond}, lease)}
}

// A Fact is a record as every node reads it.
type Fact struct{ fact fact }

// Kind is "spec", "lease", "end", "lost", "cancel" or "retry".
func (f Fact) Kind() string { return f.fact.kind }

// A Key is what a record is written under.
type Key struct {
	job   taubyte.JobID
	kind  string
	fence uint64
	by    peer.ID
}

func (f Fact) Key() Key { return Key{f.fact.job, f.fact.kind, f.fact.fence, f.fact.by} }

func (d Desk) fact(id taubyte.JobID, kind string, fence uint64) fact {
	return fact{record: record{job: id, kind: kind, fence: fence}, by: d.index.self}
}

func (d Desk) Take(f Fact, now time.Time) []Job { return d.index.take(f.fact, now) }

// Job is a job as the node knows it, and the fence of the lease that counts.
func (d Desk) Job(id taubyte.JobID) (j Job, fence uint64, ok bool) {
	e, err := d.index.entry(id)
	if err != nil {
		return j, 0, false
	}
	return e.job, e.lease.Grant.Fence, true
}

func (d Desk) IDs() []taubyte.JobID { return d.index.ids }

// Submission is a push on its way.
func Submission(p auth.Push, project taubyte.ProjectID, priority int) submission {
	return submission{Push: p, Project: project, Priority: priority}
}

// BranchKey is what a branch's jobs are arbitrated by, and JobKey that of a job.
var BranchKey = branchKey

func (d Desk) JobKey(id taubyte.JobID) string { return d.index.all[id].key() }

// Submit returns the job of a push, with the record of a new one.
func (d Desk) Submit(s submission, now time.Time) (id taubyte.JobID, made *Fact) {
	a := d.index.submission(s, false, now)
	if a.spec == nil {
		return a.job.ID, nil
	}
	f := d.fact(a.id, "spec", 0)
	f.spec = *a.spec
	return a.id, &Fact{f}
}

// A Claimant is a worker that waits at a node.
type Claimant struct{ c *claimant }

func NewClaimant(w peer.ID, labels ...string) Claimant {
	return Claimant{newClaimant(worker{w, labels})}
}

func (c Claimant) Refuse(id taubyte.JobID, now time.Time) { c.c.refuse(id, now) }

func (d Desk) Next(c Claimant, now time.Time) (taubyte.JobID, time.Time) {
	e, again := d.index.next(c.c, now)
	if e == nil {
		return "", again
	}
	return e.id, again
}

func (d Desk) Asked(id taubyte.JobID) { d.index.asked(d.index.all[id]) }

// Grant returns a lease and its record. The caller takes the record and then calls Granted.
func (d Desk) Grant(id taubyte.JobID, c Claimant, live []peer.ID, now time.Time) (l Lease, f Fact, err error) {
	e, fence, err := d.index.grant(id, c.c.worker, live, now)
	if err != nil {
		return l, f, err
	}
	f.fact = d.fact(e.id, "lease", fence)
	f.fact.attempt = attempt{c.c.id, now.UTC()}
	return Lease{Job: e.job, Fence: fence, Arbiter: d.index.self}, f, nil
}

func (d Desk) Granted(id taubyte.JobID) { d.index.granted(d.index.all[id]) }

func ref(l Lease, worker peer.ID) leaseID {
	return leaseID{job: l.Job.ID, fence: l.Fence, worker: worker, arbiter: l.Arbiter}
}

func (d Desk) Keeper(l Lease, live []peer.ID) peer.ID { return d.index.keeper(ref(l, ""), live) }

func (d Desk) Knows(l Lease, worker peer.ID) bool { return d.index.knows(ref(l, worker)) }

func (d Desk) Renew(l Lease, worker peer.ID, now time.Time) error {
	e, err := d.index.entry(l.Job.ID)
	if err == nil {
		_, err = d.index.renew(e, ref(l, worker), now)
	}
	return err
}

// Finish returns the record of an end, where it was not said before. The caller takes it and
// then calls Ended.
func (d Desk) Finish(l Lease, worker peer.ID, o Outcome, now time.Time) (*Fact, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	e, err := d.index.entry(l.Job.ID)
	if err != nil {
		return nil, err
	}
	end, said, err := d.index.finish(e, ref(l, worker), o, now)
	if err != nil || said {
		return nil, err
	}
	f := d.fact(l.Job.ID, "end", l.Fence)
	f.ending = end
	return &Fact{f}, nil
}

// An Overdue attempt, and the record of its end.
type Overdue struct {
	Held heldLease
	Fact Fact
}

func (d Desk) Overdue(live []peer.ID, near func(peer.ID) bool, now time.Time) (all []Overdue) {
	for _, o := range d.index.overdue(live, near, now) {
		f := d.fact(o.Job, o.kind, o.Fence)
		f.ending = o.end
		all = append(all, Overdue{o.heldLease, Fact{f}})
	}
	slices.SortFunc(all, func(a, b Overdue) int { return cmp.Compare(a.Held.Job, b.Held.Job) })
	return all
}

func (d Desk) Heard(l heldLease, now time.Time) bool {
	return d.index.timing.Heard(l.Job, l.Fence, now)
}

// Lapsed decides that an overdue attempt ends. The caller takes the record and then calls
// Ended.
func (d Desk) Lapsed(l heldLease, now time.Time) bool { return d.index.lapsed(l, now) }

func (d Desk) Ended(id taubyte.JobID) { d.index.ended(id) }

func (d Desk) HeardOf(l heldLease, now time.Time) { d.index.heardOf(l, now) }

// Wish returns the record of an operator's wish, where there is something to write.
func (d Desk) Wish(id taubyte.JobID, kind string, now time.Time) (*Fact, error) {
	e, err := d.index.entry(id)
	if err != nil {
		return nil, err
	}
	stamp, err := d.index.wish(e, kind)
	if err != nil || stamp == 0 {
		return nil, err
	}
	f := d.fact(id, kind, stamp)
	f.wish = wish{now.UTC()}
	return &Fact{f}, nil
}

// Retain drops what is past its retention at a time.
func Retain(ctx context.Context, s *Service, now time.Time) error { return s.retain(ctx, now) }

// Pieces is how many logs a node has in its own store.
func Pieces(s *Service) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.logs)
}

// StoredRecords is how many records a node has in the replicated store, below a prefix.
func StoredRecords(ctx context.Context, s *Service, prefix string) (int, error) {
	res, err := s.store.Query(ctx, query.Query{Prefix: prefix, KeysOnly: true})
	if err != nil {
		return 0, err
	}
	all, err := res.Rest()
	return len(all), err
}
