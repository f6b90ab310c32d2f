package patrick

import (
	"context"
	"io"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
)

// A Source is what a job builds.
type Source struct {
	Kind auth.Kind
	// Deleted: there is nothing to build, the branch is to be removed.
	Deleted bool
	// Archive is a tar stream of the job's exact commit, nil where Deleted. The
	// caller closes it. It ends with an error if it could not be read whole.
	Archive io.ReadCloser
}

// Source opens the source of a job that the calling worker has a lease on.
func (s *Service) Source(ctx context.Context, id taubyte.JobID, fence uint64) (Source, error) {
	return s.source(ctx, id, fence, s.host.ID())
}

func (s *Service) source(ctx context.Context, id taubyte.JobID, fence uint64, worker peer.ID) (Source, error) {
	s.mu.Lock()
	e, err := s.holds(id, fence, worker)
	if err != nil {
		s.mu.Unlock()
		return Source{}, err
	}
	job := e.job
	s.mu.Unlock()
	repo, err := s.opts.auth.Repository(ctx, job.Repository)
	if err != nil {
		return Source{}, err
	}
	src := Source{Kind: repo.Kind, Deleted: job.Deleted}
	if src.Deleted {
		return src, nil
	}
	s.log.Info("source given out", "job", id, "worker", worker)
	reading, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.CloseWithError(s.opts.auth.Source(reading, job.Repository, job.Commit, w))
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
