package patrick

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/taubyte/taubyte"
)

// Protocol is patrick's protocol between nodes, and the name under which its
// host provides it.
const Protocol protocol.ID = "/taubyte/patrick/1"

// State is where a job is in its life.
type State string

// A job is Queued until a worker claims it, Running until the worker says how it
// ended, gives it back or loses its lease (then it is Queued again, and Failed once as
// many workers were lost over it as it has attempts). The rest are ends. Superseded: a
// newer push to the branch came first.
const (
	Queued     State = "queued"
	Running    State = "running"
	Succeeded  State = "succeeded"
	Failed     State = "failed"
	Cancelled  State = "cancelled"
	TimedOut   State = "timed-out"
	Superseded State = "superseded"
)

// Done reports whether the state is an end.
func (s State) Done() bool { return s != Queued && s != Running }

// A Job is the build of one commit of one repository's branch, or the removal of a
// branch.
type Job struct {
	ID         taubyte.JobID        `json:"id"`
	Project    taubyte.ProjectID    `json:"project"`
	Repository taubyte.RepositoryID `json:"repository"`
	Branch     taubyte.Branch       `json:"branch"`
	Commit     taubyte.Commit       `json:"commit"`
	// Order ranks the jobs of one repository and branch: the later push has the
	// larger one. It goes into what the job publishes (tns.Part.Order).
	Order   uint64    `json:"order"`
	Created time.Time `json:"created"`
	// Deleted: the branch is gone, and so has to be what it runs. Such a job has
	// no commit.
	Deleted bool `json:"deleted,omitempty"`
	// Priority puts a job before others of its project, from -10 to 10; the default is 0.
	Priority int `json:"priority,omitempty"`
	// Labels are what a worker has to state to get the job. They are known once a worker
	// without one has looked at the source.
	Labels []string `json:"labels,omitempty"`

	State   State     `json:"state"`
	Attempt int       `json:"attempt"` // how often it was claimed
	Worker  peer.ID   `json:"worker,omitempty"`
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	Error   string    `json:"error,omitempty"` // why it failed or waits, for a person
	Steps   []Step    `json:"steps,omitempty"`
}

// A Step is one part of a build and how long it took.
type Step struct {
	Name     string        `json:"name"`
	Duration time.Duration `json:"duration"`
	Cached   bool          `json:"cached,omitempty"`
}

// A Lease is a worker's right to a job. Of two leases on a job the one with the larger
// Fence counts.
type Lease struct {
	Job   Job    `json:"job"`
	Fence uint64 `json:"fence"`
	// Arbiter is the node of patrick that looks after the lease. It is asked first.
	Arbiter peer.ID `json:"arbiter"`
	// Lasts is how long the lease lasted when it was granted or renewed. Nodes tell each
	// other durations, because their clocks may differ.
	Lasts time.Duration `json:"lasts"`
	// Expires is when it ends by this node's clock.
	Expires time.Time `json:"-"`
}
