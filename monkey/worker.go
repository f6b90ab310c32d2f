package monkey

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/patrick"
	"github.com/taubyte/taubyte/tns"
)

// Running is a job that this worker is at.
type Running struct {
	Job   patrick.Job `json:"job"`
	Since time.Time   `json:"since"`
}

// Waits between tries of what a node that is away for a moment makes fail.
const (
	firstWait = 50 * time.Millisecond
	lastWait  = 5 * time.Second
	// publishTimeout is how long a finished build waits for hoarder and tns.
	publishTimeout = 5 * time.Minute
	// finishTimeout is how long the end of a job waits for patrick.
	finishTimeout = time.Minute
)

var (
	errLost    = errors.New("the lease on the job is lost")
	errTimeout = errors.New("the job took too long")
)

// work claims jobs, one after the other.
func (s *Service) work() {
	for wait := firstWait; s.life.Err() == nil; {
		lease, err := s.o.jobs.Claim(s.life)
		switch {
		case err == nil && lease.Job.ID != "":
			wait = firstWait
			s.do(lease)
		case err == nil, errors.Is(err, taubyte.ErrNotFound): // nothing to do so far
			wait = firstWait
			pause(s.life, wait)
		case s.life.Err() == nil:
			s.o.log.Debug("claiming a job", "err", err)
			pause(s.life, wait)
			wait = min(2*wait, lastWait)
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// persist repeats what fails because a node can't be had, until ctx ends.
func persist(ctx context.Context, do func(context.Context) error) error {
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		err := do(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if !errors.Is(err, taubyte.ErrUnavailable) && !errors.Is(err, taubyte.ErrClosed) && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		pause(ctx, wait)
	}
}

// do builds one job and says how it ended, unless it is no longer this worker's.
func (s *Service) do(lease patrick.Lease) {
	job := lease.Job
	s.mu.Lock()
	s.running[job.ID] = Running{Job: job, Since: time.Now()}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.running, job.ID)
		s.mu.Unlock()
	}()
	ctx, cancel := context.WithCancelCause(s.life)
	defer cancel(nil)
	var renewing sync.WaitGroup
	defer renewing.Wait()
	defer cancel(nil)
	renewing.Go(func() { s.renew(ctx, cancel, lease) })

	log := newJobLog(ctx, s.o.logLimit,
		func(ctx context.Context, lines []byte) error { return s.o.jobs.Log(ctx, job.ID, lease.Fence, lines) },
		func(err error) { cancel(fmt.Errorf("%w: %w", errLost, err)) })
	b := &build{s: s, job: job, log: log, dir: filepath.Join(s.o.workDir, fmt.Sprintf("%s%s-%d", workPrefix, job.ID, lease.Fence))}

	timed, stop := context.WithTimeoutCause(ctx, s.o.timeout, errTimeout)
	err := b.do(timed, lease.Fence)
	stop()
	if e := removeAll(b.dir); e != nil {
		s.o.log.Warn("removing a build", "job", job.ID, "err", e)
	}
	out := outcome(err)
	out.Steps = b.steps
	if err != nil && ctx.Err() == nil {
		log.printf("%s: %s", out.State, out.Error)
	}
	end, stopEnd := context.WithTimeout(ctx, finishTimeout)
	defer stopEnd()
	log.close(end)
	if ctx.Err() != nil {
		cancel(nil)
		<-log.done
		s.o.log.Info("job given up", "job", job.ID, "err", context.Cause(ctx))
		return
	}
	err = persist(end, func(ctx context.Context) error { return s.o.jobs.Finish(ctx, job.ID, lease.Fence, out) })
	if err != nil {
		s.o.log.Warn("the end of a job was not taken", "job", job.ID, "state", out.State, "err", err)
	} else {
		s.o.log.Info("job ended", "job", job.ID, "project", job.Project, "branch", job.Branch, "commit", job.Commit, "state", out.State, "err", out.Error)
	}
	cancel(nil)
	<-log.done
}

// errSuperseded: a later build of the branch is published.
var errSuperseded = errors.New("a later push of the branch is published already")

func outcome(err error) patrick.Outcome {
	switch {
	case err == nil:
		return patrick.Outcome{State: patrick.Succeeded}
	case errors.Is(err, errSuperseded):
		return patrick.Outcome{State: patrick.Superseded, Error: err.Error()}
	case errors.Is(err, errTimeout):
		return patrick.Outcome{State: patrick.TimedOut, Error: err.Error()}
	}
	return patrick.Outcome{State: patrick.Failed, Error: err.Error()}
}

// renew keeps the lease, and cancels the job when it can't.
func (s *Service) renew(ctx context.Context, cancel context.CancelCauseFunc, lease patrick.Lease) {
	for {
		left := time.Until(lease.Expires)
		if left <= 0 {
			cancel(fmt.Errorf("%w: it could not be renewed in time", errLost))
			return
		}
		pause(ctx, max(left/3, time.Millisecond))
		if ctx.Err() != nil {
			return
		}
		try, stop := context.WithDeadline(ctx, lease.Expires)
		next, err := s.o.jobs.Renew(try, lease.Job.ID, lease.Fence)
		stop()
		switch {
		case err == nil:
			lease.Expires = next.Expires
		case errors.Is(err, taubyte.ErrConflict), errors.Is(err, taubyte.ErrForbidden), errors.Is(err, taubyte.ErrNotFound):
			cancel(fmt.Errorf("%w: %w", errLost, err))
			return
		}
	}
}

// do is the whole of a job: source, build, publication.
func (b *build) do(ctx context.Context, fence uint64) error {
	src := filepath.Join(b.dir, "src")
	if err := os.MkdirAll(src, 0o700); err != nil {
		return fmt.Errorf("making a folder for the build: %w", err)
	}
	root, err := os.OpenRoot(src)
	if err != nil {
		return fmt.Errorf("making a folder for the build: %w", err)
	}
	defer root.Close()
	b.root = root
	b.log.printf("building %s of branch %s, commit %s", b.job.Repository, b.job.Branch, b.job.Commit)

	if b.job.Commit == "" {
		return b.step("remove", func() (bool, error) { return false, cause(ctx, b.remove(ctx)) })
	}
	var from patrick.Source
	err = b.step("source", func() (bool, error) {
		err := persist(ctx, func(ctx context.Context) (err error) {
			from, err = b.s.o.jobs.Source(ctx, b.job.ID, fence)
			return err
		})
		if err != nil {
			return false, err
		}
		defer from.Archive.Close()
		return false, unpack(root, from.Archive, b.s.o.sourceLimit)
	})
	if err != nil {
		return cause(ctx, err)
	}

	// From the first look into the cache until hoarder has all of it, nothing
	// that it may share with older content goes away.
	release, err := b.s.o.keeper.Hold(ctx)
	if err != nil {
		return cause(ctx, err)
	}
	defer release()
	p, err := b.run(ctx, from.Kind)
	if err != nil {
		return cause(ctx, err)
	}
	return b.step("publish", func() (bool, error) { return false, cause(ctx, b.publish(ctx, p)) })
}

// cause prefers why a job was ended to what broke by it.
func cause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// publish makes a product current: first its content is kept, then tns has the
// whole of it under one key.
func (b *build) publish(ctx context.Context, p product) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	for id, root := range p.assets {
		err := persist(ctx, func(ctx context.Context) error {
			return b.s.o.keeper.Keep(ctx, root, hoarder.KeepOptions{Project: b.job.Project, Class: p.kinds[id], Min: b.s.o.replicas})
		})
		if err != nil {
			return err
		}
	}
	part := tns.Part{
		Repository: b.job.Repository, Commit: b.job.Commit, Job: b.job.ID, Order: b.job.Order,
		Time: b.job.Created, Config: p.config, Assets: p.assets,
	}
	return b.put(ctx, part)
}

func (b *build) put(ctx context.Context, part tns.Part) error {
	err := persist(ctx, func(ctx context.Context) error {
		d, err := b.s.o.tns.Publish(ctx, b.job.Project, b.job.Branch, part)
		if err == nil {
			b.log.printf("published as deployment %d of branch %s", d.Sequence, d.Branch)
		}
		return err
	})
	if errors.Is(err, taubyte.ErrConflict) {
		return fmt.Errorf("%w: %w", errSuperseded, err)
	}
	return err
}

// remove takes off the air what a deleted branch ran: all of it with the branch of
// the configuration's repository, or what another repository has given.
func (b *build) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	var current *tns.Deployment
	err := persist(ctx, func(ctx context.Context) (err error) {
		current, err = b.s.o.tns.Current(ctx, b.job.Project, b.job.Branch)
		return err
	})
	if errors.Is(err, taubyte.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	part, ok := current.Parts[b.job.Repository]
	switch {
	case !ok:
		return nil
	case part.Order > b.job.Order:
		return errSuperseded
	case part.Config == nil:
		return b.put(ctx, tns.Part{Repository: b.job.Repository, Job: b.job.ID, Order: b.job.Order, Time: b.job.Created})
	}
	return persist(ctx, func(ctx context.Context) error {
		err := b.s.o.tns.Remove(ctx, b.job.Project, b.job.Branch)
		if errors.Is(err, taubyte.ErrNotFound) {
			return nil
		}
		return err
	})
}
