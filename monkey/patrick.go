package monkey

import (
	"context"

	"github.com/ipfs/go-cid"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/patrick"
	"github.com/taubyte/taubyte/tns"
)

// Jobs is what a worker needs of patrick. Claim waits for a job that needs none but the
// worker's labels, and gives a lease without one, or taubyte.ErrNotFound, when it has waited for long. The others give
// taubyte.ErrConflict once the lease is lost or the job cancelled. What fails in another
// way is tried again.
type Jobs interface {
	Claim(ctx context.Context, labels ...string) (patrick.Lease, error)
	Renew(ctx context.Context, l patrick.Lease) (patrick.Lease, error)
	Log(ctx context.Context, l patrick.Lease, at int64, lines []byte) error
	Finish(ctx context.Context, l patrick.Lease, o patrick.Outcome) error
	Source(ctx context.Context, l patrick.Lease) (patrick.Source, error)
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
