package patrick

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
)

// The replicated keys of a job. Each is written once, by the node whose peer ID
// ends it (the specification's is in no other key: ids are unique to their maker):
//
//	/jobs/<job>/spec                       spec
//	/jobs/<job>/lease/<fence>/<peer>       attempt
//	/jobs/<job>/end/<fence>/<peer>         ending
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
}

// attempt is a lease that was granted.
type attempt struct {
	Worker  peer.ID   `json:"worker"`
	Started time.Time `json:"started"`
}

// ending is how an attempt ended. Its state Queued says that the worker was lost or
// gave the job back, and that there will be another attempt, not before After.
type ending struct {
	Outcome
	Ended time.Time `json:"ended"`
	After time.Time `json:"after,omitzero"`
	// Free: the attempt does not count, because the node that it ran on was
	// restarted.
	Free bool `json:"free,omitempty"`
}

// logPart is what one node has of an attempt's log.
type logPart struct {
	CID   string    `json:"cid"`
	Began time.Time `json:"began"`
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

// clock makes numbers that grow: milliseconds, and in the low 16 bits what tells
// two nodes apart that make one in the same millisecond.
type clock struct {
	node uint64 // 16 bits
	mu   sync.Mutex
	last uint64 // milliseconds
}

func newClock(p peer.ID) *clock {
	h := fnv.New64a()
	_, _ = h.Write([]byte(p))
	return &clock{node: uint64(binary.BigEndian.Uint16(h.Sum(nil)))}
}

// next returns a number greater than after and than any that it returned before.
func (c *clock) next(after uint64) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = max(uint64(time.Now().UnixMilli()), c.last+1, after>>16+1)
	return c.last<<16 | c.node
}

// entry is a job as this node knows it: all its records, and what they come to.
type entry struct {
	id       taubyte.JobID
	spec     *spec // nil while only other records have arrived
	attempts []granted
	ends     map[uint64]map[string]ending
	logs     map[uint64]map[string]logPart
	cancels  map[uint64]wish
	retries  map[uint64]wish

	job     Job
	after   time.Time // a queued job is not tried before
	counted int       // attempts that count, since the last retry

	// granting: this node is writing a lease.
	granting bool
	// deadline of the running attempt's lease, as this node sees it.
	deadline time.Time
}

type granted struct {
	attempt
	fence uint64
	by    string // the node that granted it
}

func newEntry(id taubyte.JobID) *entry {
	return &entry{
		id: id, ends: map[uint64]map[string]ending{}, logs: map[uint64]map[string]logPart{},
		cancels: map[uint64]wish{}, retries: map[uint64]wish{},
	}
}

// add takes a record in. Taking one in again changes nothing.
func (e *entry) add(r record, value []byte) error {
	switch r.kind {
	case "spec":
		var v spec
		if err := json.Unmarshal(value, &v); err != nil {
			return err
		}
		e.spec = &v
	case "lease":
		var v attempt
		if err := json.Unmarshal(value, &v); err != nil {
			return err
		}
		g := granted{attempt: v, fence: r.fence, by: r.peer}
		i, found := slices.BinarySearchFunc(e.attempts, g, granted.compare)
		if !found {
			e.attempts = slices.Insert(e.attempts, i, g)
		}
	case "end":
		return put2(e.ends, r, value)
	case "log":
		return put2(e.logs, r, value)
	case "cancel":
		return put1(e.cancels, r, value)
	case "retry":
		return put1(e.retries, r, value)
	}
	return nil
}

func (g granted) compare(o granted) int {
	if g.fence != o.fence {
		if g.fence < o.fence {
			return -1
		}
		return 1
	}
	return strings.Compare(g.by, o.by)
}

func put1[T any](m map[uint64]T, r record, value []byte) error {
	var v T
	if err := json.Unmarshal(value, &v); err != nil {
		return err
	}
	m[r.fence] = v
	return nil
}

func put2[T any](m map[uint64]map[string]T, r record, value []byte) error {
	var v T
	if err := json.Unmarshal(value, &v); err != nil {
		return err
	}
	if m[r.fence] == nil {
		m[r.fence] = map[string]T{}
	}
	m[r.fence][r.peer] = v
	return nil
}

func newest(m map[uint64]wish) (stamp uint64, w wish) {
	for s, v := range m {
		if s > stamp {
			stamp, w = s, v
		}
	}
	return stamp, w
}

// ending returns how an attempt ended. Of several words on it an end counts more
// than a lost worker, then the earliest.
func (e *entry) ending(fence uint64) (best ending, ok bool) {
	var from string
	for p, v := range e.ends[fence] {
		better := !ok
		switch {
		case !ok:
		case v.State.Done() != best.State.Done():
			better = v.State.Done()
		case !v.Ended.Equal(best.Ended):
			better = v.Ended.Before(best.Ended)
		default:
			better = p < from
		}
		if better {
			best, from, ok = v, p, true
		}
	}
	return best, ok
}

// fold computes the job from its records; every node does so alike. It leaves out
// what later jobs of the branch do to it.
func (e *entry) fold() {
	s := e.spec
	j := Job{
		ID: e.id, Project: s.Project, Repository: s.Repository, Branch: s.Branch, Commit: s.Commit,
		Order: s.Order, Created: s.Created, Deleted: s.Deleted, Priority: s.Priority,
		State: Queued, Attempt: len(e.attempts),
	}
	e.after, e.counted = time.Time{}, 0
	retried, _ := newest(e.retries)
	cancelled, cancel := newest(e.cancels)
	ended := false
	for _, a := range e.attempts {
		end, over := e.ending(a.fence)
		if over && end.State == Succeeded {
			ended = true // whatever was wished at the same time: it is published
		}
		if a.fence < retried && !ended {
			continue
		}
		j.Worker, j.Started, j.Ended = a.Worker, a.Started, time.Time{}
		j.State, j.Error, j.Steps = Running, "", nil
		if over {
			j.State, j.Error, j.Steps, j.Ended = end.State, end.Error, end.Steps, end.Ended
			e.after = end.After
		}
		if !over || !end.Free {
			e.counted++
		}
		if ended {
			break
		}
	}
	if cancelled > retried && !j.State.Done() {
		j.State, j.Error, j.Ended = Cancelled, "", cancel.At
	}
	if j.State == Queued {
		j.Worker, j.Started, j.Ended = "", time.Time{}, time.Time{}
	}
	e.job = j
}

// top is the greatest number among the job's records.
func (e *entry) top() uint64 {
	n := e.job.Order
	if len(e.attempts) > 0 {
		n = max(n, e.attempts[len(e.attempts)-1].fence)
	}
	c, _ := newest(e.cancels)
	r, _ := newest(e.retries)
	return max(n, c, r)
}

// newest returns the attempt that counts, if there is one.
func (e *entry) newest() (granted, bool) {
	if len(e.attempts) == 0 {
		return granted{}, false
	}
	return e.attempts[len(e.attempts)-1], true
}
