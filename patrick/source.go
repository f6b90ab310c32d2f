package patrick

import (
	"context"
	"io"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
)

// A Source is what a job builds.
type Source struct {
	Kind auth.Kind
	// Deleted: there is nothing to build, the branch is to be removed.
	Deleted bool
	// Repositories are all of the project's, the job's own among them.
	Repositories []taubyte.RepositoryID
	// Archive is a tar stream of the job's exact commit, nil where Deleted. The
	// caller closes it. It ends with an error if it could not be read whole.
	Archive io.ReadCloser
}

// Source opens the source of a job that the calling worker has a lease on.
func (s *Service) Source(ctx context.Context, l Lease) (Source, error) {
	return s.source(ctx, s.here(l))
}

func (s *Service) source(ctx context.Context, l leaseID) (Source, error) {
	if err := allowLease(ctx, l); err != nil {
		return Source{}, err
	}
	var job Job
	// The lease is known here as well as where it is looked after.
	err := s.withLease(ctx, l, false, nil, func() error {
		e, err := s.holds(ctx, l)
		if err == nil {
			job = e.job
		}
		return err
	})
	if err != nil {
		return Source{}, err
	}
	repo, err := s.opts.auth.Repository(taubyte.AsService(ctx), job.Repository)
	if err != nil {
		return Source{}, err
	}
	src := Source{Kind: repo.Kind, Deleted: job.Deleted}
	if src.Deleted {
		return src, nil
	}
	project, err := s.opts.auth.Repositories(taubyte.AsService(ctx), job.Project)
	if err != nil {
		return Source{}, err
	}
	src.Repositories = []taubyte.RepositoryID{}
	for _, r := range project {
		src.Repositories = append(src.Repositories, r.ID)
	}
	s.log.Info("source given out", "job", job.ID, "worker", l.worker)
	reading, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.CloseWithError(s.opts.auth.Source(taubyte.AsService(reading), job.Repository, job.Commit, w))
	}()
	src.Archive = &archive{PipeReader: r, end: func() {
		cancel()
		<-done
	}}
	return src, nil
}

// archive ends, and waits for, what writes it.
type archive struct {
	*io.PipeReader
	end func()
}

func (a *archive) Close() error {
	err := a.PipeReader.Close()
	a.end()
	return err
}
