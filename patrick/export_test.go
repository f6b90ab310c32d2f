package patrick

import (
	"encoding/json"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
)

// A Records is what a node makes of replicated records, without the node.
type Records struct{ index *index }

// NewRecords returns one that knows nothing.
func NewRecords() Records {
	return Records{newIndex(patience{3, time.Second}, time.Second)}
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
	return r.index.queued[e.job.Project][e], r.index.running[e]
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
	return Record{jobKey(id, kind, fence, by).String(), value(ending{o, at})}
}

func WishRecord(id taubyte.JobID, kind string, stamp uint64, by peer.ID, at time.Time) Record {
	return Record{jobKey(id, kind, stamp, by).String(), value(wish{at})}
}
