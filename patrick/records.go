package patrick

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/claim"
)

// The replicated keys of a job. Each is written once, by the node whose peer ID
// ends it (the specification's is in no other key: ids are unique to their maker):
//
//	/jobs/<job>/spec                       spec
//	/jobs/<job>/lease/<fence>/<peer>       attempt
//	/jobs/<job>/end/<fence>/<peer>         ending, as the worker says
//	/jobs/<job>/lost/<fence>/<peer>        ending, where the worker was lost
//	/jobs/<job>/log/<fence>/<peer>         logPart
//	/jobs/<job>/cancel/<stamp>/<peer>      wish
//	/jobs/<job>/retry/<stamp>/<peer>       wish
const jobsPrefix = "/jobs"

// spec is what a job is, for ever.
type spec struct {
	Project    taubyte.ProjectID    `json:"project"`
	Repository taubyte.RepositoryID `json:"repository"`
	Branch     taubyte.Branch       `json:"branch"`
	Commit     taubyte.Commit       `json:"commit,omitempty"`
	Order      uint64               `json:"order"`
	Created    time.Time            `json:"created"`
	Deleted    bool                 `json:"deleted,omitempty"`
	Priority   int                  `json:"priority,omitempty"`
	Delivery   string               `json:"delivery,omitempty"`
	// Registered is since when the repository was the project's (auth.Repository.Since).
	Registered time.Time `json:"registered,omitzero"`
	// Follows: the branch is a pull request's, which proposes that branch.
	Follows taubyte.Branch `json:"follows,omitempty"`
}

// of reports whether a job was made while its repository has been the project's, and not
// before it left and came back. Where either is not known it was.
func (s spec) of(registered time.Time) bool {
	return s.Registered.IsZero() || registered.IsZero() || s.Registered.Equal(registered)
}

// attempt is a lease that was granted.
type attempt struct {
	Worker  peer.ID   `json:"worker"`
	Started time.Time `json:"started"`
}

// ending is how an attempt ended. Its state Queued says that there will be another.
type ending struct {
	Outcome
	Ended time.Time `json:"ended"`
	// GaveUp: the worker has given it back, and it has waited too long.
	GaveUp bool `json:"gave-up,omitempty"`
	// LogSize is how many bytes of log were acknowledged.
	LogSize int64 `json:"logSize,omitempty"`
}

// kind says what an ending is in terms of package claim.
func (e ending) kind(lost bool) claim.Kind {
	switch {
	case lost:
		return claim.Lost
	case e.State == Queued:
		return claim.Returned
	case e.State == Succeeded, e.State == Superseded:
		return claim.Settled
	}
	return claim.Final
}

// logPart is an attempt's log as one node has handed it to hoarder.
type logPart struct {
	CID     string            `json:"cid"`
	Size    int64             `json:"size"`    // of what it decodes to
	Project taubyte.ProjectID `json:"project"` // that it is kept for
}

// wish is what an operator asked for.
type wish struct {
	At time.Time `json:"at"`
}

func jobKey(id taubyte.JobID, kind string, fence uint64, p peer.ID) ds.Key {
	return ds.RawKey(fmt.Sprintf("%s/%s/%s/%020d/%s", jobsPrefix, id, kind, fence, p))
}

func specKey(id taubyte.JobID) ds.Key {
	return ds.RawKey(jobsPrefix + "/" + string(id) + "/spec")
}

// record is a replicated key, taken apart.
type record struct {
	job   taubyte.JobID
	kind  string
	fence uint64
	peer  string
}

// parseKey reads what jobKey and specKey made. ok is false for anything else.
func parseKey(key string) (r record, ok bool) {
	parts := strings.Split(strings.TrimPrefix(key, jobsPrefix+"/"), "/")
	switch {
	case len(parts) == 2 && parts[1] == "spec":
		return record{job: taubyte.JobID(parts[0]), kind: "spec"}, validID(parts[0])
	case len(parts) == 4 && len(parts[2]) == 20:
		fence, err := strconv.ParseUint(parts[2], 10, 64)
		r = record{job: taubyte.JobID(parts[0]), kind: parts[1], fence: fence, peer: parts[3]}
		return r, err == nil && validID(parts[0])
	}
	return r, false
}

func validID(id string) bool {
	if len(id) != idLength {
		return false
	}
	return !strings.ContainsFunc(id, func(c rune) bool { return (c < '0' || c > '9') && (c < 'a' || c > 'f') })
}

const idLength = 24

// newID makes a job's id of its order and its maker: ids sort by time.
func newID(order uint64, maker peer.ID) taubyte.JobID {
	h := fnv.New32a()
	_, _ = h.Write([]byte(maker))
	return taubyte.JobID(fmt.Sprintf("%016x%08x", order, h.Sum32()))
}

// entry is a job as this node knows it: all its records, and what they come to.
type entry struct {
	id      taubyte.JobID
	spec    *spec // nil while only other records have arrived
	history claim.History[ending]
	born    time.Time            // when this node first heard of it
	started map[uint64]time.Time // by fence
	logs    map[uint64]map[string]logPart
	cancels map[uint64]wish
	retries map[uint64]wish
	// seen is when this node heard of each end: what waits, waits from then.
	seen map[uint64]time.Time
	// configured is the lease with which it was given back for want of a configuration
	// that may be there now.
	configured uint64

	job   Job
	lease claim.Status[ending]
	// after: a queued job is not tried before; avoid: not by that worker.
	after time.Time
	avoid map[peer.ID]time.Time
	// unconfigured is when it was first given back for want of a configuration.
	unconfigured time.Time

	picked   bool // this node is asking for a lease for a worker
	granting bool // this node is writing a lease
	ending   bool // this node is writing how the lease ends
	queued   bool // it is in index.queued
	busy     bool // it is counted in index.busy
}

func newEntry(id taubyte.JobID, now time.Time) *entry {
	return &entry{
		id: id, born: now, started: map[uint64]time.Time{}, logs: map[uint64]map[string]logPart{},
		cancels: map[uint64]wish{}, retries: map[uint64]wish{}, seen: map[uint64]time.Time{},
	}
}

// A fact is a record that was read. What it holds is in the field of its kind.
type fact struct {
	record
	by      peer.ID
	spec    spec
	attempt attempt
	ending  ending
	log     logPart
	wish    wish
}

// parse reads a record.
func parse(key string, value []byte) (f fact, err error) {
	var ok bool
	if f.record, ok = parseKey(key); !ok {
		return f, fmt.Errorf("%w key %.200q", taubyte.ErrInvalid, key)
	}
	switch f.kind {
	case "spec":
		err = json.Unmarshal(value, &f.spec)
	case "lease":
		err = json.Unmarshal(value, &f.attempt)
	case "end", "lost":
		err = json.Unmarshal(value, &f.ending)
	case "log":
		return f, json.Unmarshal(value, &f.log)
	case "cancel", "retry":
		return f, json.Unmarshal(value, &f.wish)
	default:
		return f, fmt.Errorf("%w key %.200q", taubyte.ErrInvalid, key)
	}
	if err == nil && f.kind != "spec" {
		f.by, err = peer.Decode(f.peer)
	}
	return f, err
}

// take takes a record in. Taking one in again changes nothing.
func (e *entry) take(f fact, now time.Time) {
	switch f.kind {
	case "spec":
		if e.spec == nil { // it is read without the lock, and does not change
			e.spec = &f.spec
		}
	case "lease":
		e.history.Add(claim.Grant{Fence: f.fence, Arbiter: f.by, Holder: f.attempt.Worker})
		if same, ok := e.started[f.fence]; !ok || f.attempt.Started.Before(same) {
			e.started[f.fence] = f.attempt.Started
		}
	case "end", "lost":
		e.history.AddEnd(f.fence, claim.End[ending]{Kind: f.ending.kind(f.kind == "lost"), By: f.by, At: f.ending.Ended, Result: f.ending})
		if _, known := e.seen[f.fence]; !known {
			e.seen[f.fence] = now
		}
	case "log":
		if e.logs[f.fence] == nil {
			e.logs[f.fence] = map[string]logPart{}
		}
		e.logs[f.fence][f.peer] = f.log
	case "cancel":
		addWish(e.cancels, f)
	case "retry":
		addWish(e.retries, f)
	}
}

func addWish(m map[uint64]wish, f fact) {
	if same, ok := m[f.fence]; !ok || f.wish.At.Before(same.At) { // of two nodes' with one number, alike everywhere
		m[f.fence] = f.wish
	}
}

func newest(m map[uint64]wish) (stamp uint64, w wish) {
	for s, v := range m {
		if s > stamp {
			stamp, w = s, v
		}
	}
	return stamp, w
}

// top is the greatest number among the job's records.
func (e *entry) top() uint64 {
	last, _ := e.history.Newest()
	c, _ := newest(e.cancels)
	r, _ := newest(e.retries)
	return max(e.spec.Order, last.Fence, c, r)
}

const (
	// maxPriority bounds priorities, and priorityWorth is what one more is worth in time of
	// waiting: so a job gives way to what is pushed 20 minutes later at most.
	maxPriority   = 10
	priorityWorth = time.Minute
)

// rank orders the jobs of a project: the least is next. It is when the job was pushed, in
// milliseconds, less what its priority is worth.
func (s spec) rank() int64 {
	priority := int64(min(max(s.Priority, -maxPriority), maxPriority))
	return int64(s.Order>>16) - priority*priorityWorth.Milliseconds()
}

// compare orders the jobs of a project by rank.
func (e *entry) compare(o *entry) int {
	return cmp.Or(cmp.Compare(e.spec.rank(), o.spec.rank()), cmp.Compare(e.id, o.id))
}

// branchKey is what a branch's jobs are arbitrated by: together, so that their arbiter
// knows what else of the branch is running.
func branchKey(r taubyte.RepositoryID, b taubyte.Branch) string {
	return string(r) + "\x00" + string(b)
}

func (e *entry) key() string { return branchKey(e.spec.Repository, e.spec.Branch) }

// running reports whether that attempt is the one that goes on.
func (e *entry) running(fence uint64) bool {
	return e.job.State == Running && e.lease.Grant.Fence == fence
}
