package monkey

import (
	"context"
	"io"

	"github.com/ipfs/go-cid"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/patrick"
	"github.com/taubyte/taubyte/tns"
)

// A Source is where a job's commit is to be had: an archive, or a remote.
type Source struct {
	Kind auth.Kind
	// Archive is a tar stream of the exact commit; nil where Remote is set.
	Archive io.ReadCloser
	// Remote is a git URL, with the private key that it takes, in OpenSSH's
	// format, and the host keys to expect, as in known_hosts.
	Remote     string
	Key        []byte
	KnownHosts []byte
}

// An Outcome is how a job ended.
type Outcome struct {
	State patrick.State
	Error string
	Steps []patrick.Step
}

// Jobs is what a worker needs of patrick. Renew, Log, Finish and Source give
// taubyte.ErrConflict once the lease with that fence is lost or the job is
// cancelled.
type Jobs interface {
	Claim(ctx context.Context) (patrick.Lease, error)
	Renew(ctx context.Context, id taubyte.JobID, fence uint64) (patrick.Lease, error)
	Log(ctx context.Context, id taubyte.JobID, fence uint64, lines []byte) error
	Finish(ctx context.Context, id taubyte.JobID, fence uint64, o Outcome) error
	Source(ctx context.Context, id taubyte.JobID, fence uint64) (Source, error)
}

// Registry is what a worker needs of tns.
type Registry interface {
	Publish(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch, part tns.Part) (*tns.Deployment, error)
	Current(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch) (*tns.Deployment, error)
	Remove(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch) error
}

// Keeper is what a worker needs of hoarder.
type Keeper interface {
	Hold(ctx context.Context) (release func(), err error)
	Keep(ctx context.Context, root cid.Cid, o hoarder.KeepOptions) error
}
