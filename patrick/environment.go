package patrick

import (
	"context"
	"fmt"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/environment"
)

// An EnvironmentRequest is what a build asks for: variables and secrets by name.
type EnvironmentRequest struct {
	Function string   `json:"function,omitempty"` // that is built, if it is one
	Names    []string `json:"names"`
}

// Environment returns the variables and secrets of those names that the build of a job
// may see, which the calling worker has a lease on. ErrInvalid: one of them is not set.
func (s *Service) Environment(ctx context.Context, l Lease, r EnvironmentRequest) ([]environment.Variable, error) {
	return s.environment(ctx, s.here(l), r)
}

func (s *Service) environment(ctx context.Context, l leaseID, r EnvironmentRequest) ([]environment.Variable, error) {
	if err := allowLease(ctx, l); err != nil {
		return nil, err
	}
	var job Job
	err := s.withLease(ctx, l, false, nil, func() error {
		e, err := s.holds(ctx, l)
		if err == nil {
			job = e.job
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	keeper, ok := s.opts.auth.(interface {
		BuildEnvironment(context.Context, auth.BuildRequest) ([]environment.Variable, error)
	})
	if !ok {
		return nil, fmt.Errorf("%w: nothing here keeps variables and secrets", taubyte.ErrUnavailable)
	}
	s.log.Info("environment given out", "job", job.ID, "worker", l.worker, "names", r.Names)
	return keeper.BuildEnvironment(taubyte.AsService(ctx), auth.BuildRequest{
		Project: job.Project, Branch: job.Branch, Function: r.Function, Names: r.Names, For: fmt.Sprintf("job %s, worker %s", job.ID, l.worker),
	})
}
