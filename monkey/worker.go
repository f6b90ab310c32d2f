package monkey

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
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
	// serviceTimeout is how long a job waits for each thing that it needs of another
	// node, and publishTimeout a finished build for hoarder and tns. Then it is given
	// back.
	serviceTimeout = 15 * time.Second
	publishTimeout = 5 * time.Minute
	// finishTimeout is how long a worker that has a result waits for patrick before it
	// claims the next job, and a worker that stops before it is gone. The result is
	// offered for deliverFor.
	finishTimeout = 5 * time.Second
	deliverFor    = time.Hour
	// fullWait is how long a worker waits whose disk is full.
	fullWait = time.Second
)

var (
	errLost    = errors.New("the lease on the job is lost")
	errTimeout = errors.New("the job took too long")
)

// work claims jobs, one after the other.
func (s *Service) work() {
	full := false
	for wait := firstWait; s.life.Err() == nil; {
		if err := s.room(); err != nil {
			if !full {
				s.o.log.Warn("no jobs are claimed", "err", err)
			}
			full = true
			pause(s.life, fullWait)
			continue
		}
		full = false
		labels := s.labels()
		lease, err := s.o.jobs.Claim(s.life, labels...)
		switch {
		case err == nil && lease.Job.ID != "":
			wait = firstWait
			s.do(lease, labels)
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

// persist repeats what fails because a node can't be had, for so long or until ctx ends.
func persist(ctx context.Context, within time.Duration, do func(context.Context) error) error {
	began := time.Now()
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		err := do(ctx)
		if err == nil || ctx.Err() != nil || !isOutage(err) || time.Since(began)+wait > within {
			return err
		}
		pause(ctx, wait)
	}
}

// principal is a job as who calls other services.
func principal(l patrick.Lease) taubyte.Principal {
	return taubyte.Principal{
		Kind: taubyte.KindJob, Projects: []taubyte.ProjectID{l.Job.Project}, Branch: l.Job.Branch, Job: l.Job.ID, Attempt: l.Fence,
	}
}

// do builds one job, which was claimed with those labels, and says how it ended, unless it
// is no longer this worker's.
func (s *Service) do(lease patrick.Lease, labels []string) {
	job := lease.Job
	s.mu.Lock()
	s.running[job.ID] = Running{Job: job, Since: time.Now()}
	s.mu.Unlock()

	// The build ends with the service or with its lease. What is said of it goes on
	// until it was taken. All of it is the job's, which may no more than belongs to it.
	as := principal(lease)
	ctx, cancel := context.WithCancelCause(taubyte.WithPrincipal(s.life, as))
	talk, hangUp := context.WithCancel(taubyte.WithPrincipal(context.Background(), as))
	lost := func(err error) { cancel(fmt.Errorf("%w: %w", errLost, err)) }
	h := &held{jobs: s.o.jobs, lease: lease, changed: make(chan struct{})}
	var renewing sync.WaitGroup
	renewing.Go(func() { h.renew(talk, lost) })
	log := newJobLog(talk, s.o.logLimit,
		func(ctx context.Context, at int64, lines []byte) error { return s.o.jobs.Log(ctx, h.now(), at, lines) }, lost)
	end := func() {
		cancel(nil)
		hangUp()
		<-log.done
		renewing.Wait()
		s.mu.Lock()
		delete(s.running, job.ID)
		s.mu.Unlock()
	}

	b := &build{s: s, held: h, job: job, log: log, labels: labels, dir: filepath.Join(s.o.workDir, fmt.Sprintf("%s%s-%d", workPrefix, job.ID, lease.Fence))}
	err := b.do(ctx)
	if e := s.remove(filepath.Base(b.dir)); e != nil {
		s.o.log.Warn("removing a build", "job", job.ID, "err", e)
	}
	if errors.Is(context.Cause(ctx), errLost) {
		s.o.log.Info("job given up", "job", job.ID, "err", context.Cause(ctx))
		end()
		return
	}
	out := outcome(err)
	if err != nil && s.life.Err() != nil {
		out = patrick.Outcome{State: patrick.Queued, Error: "its worker was stopped", Stopping: true}
	}
	out.Steps = b.steps
	switch {
	case err == nil:
	case out.State == patrick.Queued:
		log.printf("given back, to be tried again: %s", out.Error)
	default:
		log.printf("%s: %s", out.State, out.Error)
	}
	if s.deliver(talk, h, log, out, finishTimeout) || s.life.Err() != nil {
		end()
		return
	}
	s.o.log.Warn("patrick is away: the end of a job is kept until it is back", "job", job.ID, "state", out.State)
	s.wg.Go(func() {
		defer end()
		ctx, cancel := context.WithCancel(talk)
		defer cancel()
		stop := context.AfterFunc(s.life, func() {
			pause(talk, finishTimeout)
			cancel()
		})
		defer stop()
		s.deliver(ctx, h, log, out, deliverFor)
	})
}

// deliver says how a job ended until it is taken, refused, or the time is over. It
// reports whether it was taken or refused.
func (s *Service) deliver(ctx context.Context, h *held, log *jobLog, out patrick.Outcome, within time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	log.close(ctx)
	job := h.now().Job
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		err := s.o.jobs.Finish(ctx, h.now(), out)
		switch {
		case err == nil:
			s.o.log.Info("job ended", "job", job.ID, "project", job.Project, "branch", job.Branch, "commit", job.Commit, "state", out.State, "err", out.Error)
			return true
		case isLost(err), errors.Is(err, taubyte.ErrInvalid), errors.Is(err, taubyte.ErrTooLarge):
			s.o.log.Warn("the end of a job was not taken", "job", job.ID, "state", out.State, "err", err)
			return true
		case ctx.Err() != nil:
			s.o.log.Warn("the end of a job was not taken yet", "job", job.ID, "state", out.State, "err", err)
			return false
		}
		pause(ctx, wait)
	}
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
	case isOutage(err):
		return patrick.Outcome{State: patrick.Queued, Error: err.Error(), Needs: needs(err), Unconfigured: errors.Is(err, errUnconfigured)}
	}
	return patrick.Outcome{State: patrick.Failed, Error: err.Error()}
}

// held is the lease on a job, kept by renewing it.
type held struct {
	jobs Jobs

	mu      sync.Mutex
	lease   patrick.Lease
	changed chan struct{} // closed at the next renewal
}

func (h *held) now() patrick.Lease {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lease
}

// renew keeps the lease, at once and then three times in its time, and calls lost when it
// is another's. When patrick can't be reached the build goes on: it may be back in time,
// and nothing is published without the lease.
func (h *held) renew(ctx context.Context, lost func(error)) {
	for {
		lease := h.now()
		try, stop := context.WithTimeout(ctx, max(lease.Lasts, time.Second))
		next, err := h.jobs.Renew(try, lease)
		stop()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			h.mu.Lock()
			h.lease.Arbiter, h.lease.Lasts, h.lease.Expires = next.Arbiter, next.Lasts, next.Expires
			close(h.changed)
			h.changed = make(chan struct{})
			h.mu.Unlock()
		case isLost(err):
			lost(err)
			return
		}
		pause(ctx, max(lease.Lasts/3, time.Millisecond))
		if ctx.Err() != nil {
			return
		}
	}
}

// confirm returns when the lease is there. That it is lost ends ctx.
func (h *held) confirm(ctx context.Context) error {
	for {
		h.mu.Lock()
		good := time.Now().Before(h.lease.Expires)
		changed := h.changed
		h.mu.Unlock()
		if good {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// do is the whole of a job: source, build, publication.
func (b *build) do(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Join(b.dir, "src"), 0o700); err != nil {
		return ours(fmt.Errorf("making a folder for the build: %w", err))
	}
	root, err := os.OpenRoot(b.dir)
	if err != nil {
		return ours(fmt.Errorf("making a folder for the build: %w", err))
	}
	defer root.Close()
	src, err := root.OpenRoot("src")
	if err != nil {
		return ours(fmt.Errorf("making a folder for the build: %w", err))
	}
	defer src.Close()
	b.root, b.src = root, tree{root: src, dir: "."}
	b.log.printf("building %s of branch %s, commit %s", b.job.Repository, b.job.Branch, b.job.Commit)

	if b.job.Commit == "" {
		return b.step("remove", func() (bool, error) { return false, cause(ctx, b.remove(ctx)) })
	}
	var kind auth.Kind
	err = b.step("source", func() (bool, error) {
		timed, stop := context.WithTimeoutCause(ctx, b.s.o.timeout, errTimeout)
		defer stop()
		kind, err = b.source(timed)
		return false, cause(timed, err)
	})
	if err != nil {
		return err
	}

	// From the first look into the cache until hoarder has all of it, nothing
	// that it may share with older content goes away.
	var release func()
	err = persist(ctx, b.s.o.serviceTimeout, func(ctx context.Context) (err error) {
		release, err = b.s.o.keeper.Hold(ctx)
		return err
	})
	if err != nil {
		return cause(ctx, ofService(err))
	}
	defer release()
	timed, stop := context.WithTimeoutCause(ctx, b.s.o.timeout, errTimeout)
	p, err := b.run(timed, kind)
	err = cause(timed, err)
	stop()
	if err != nil {
		return err
	}
	return b.step("publish", func() (bool, error) { return false, cause(ctx, b.publish(ctx, p)) })
}

// source unpacks the job's source. One that no node has yet may be on its way to them.
func (b *build) source(ctx context.Context) (auth.Kind, error) {
	var from patrick.Source
	err := persist(ctx, b.s.o.serviceTimeout, func(ctx context.Context) (err error) {
		from, err = b.s.o.jobs.Source(ctx, b.held.now())
		if isLost(err) {
			return fmt.Errorf("%w: %w", errLost, err)
		}
		return ofService(err)
	})
	if err != nil {
		return "", err
	}
	defer from.Archive.Close()
	b.repositories = from.Repositories
	if b.lacks, err = unpack(b.src.root, stream{from.Archive}, b.s.o.sourceLimit); err != nil {
		return "", err
	}
	const most = 50
	for i, l := range b.lacks {
		if i == most {
			b.log.stepf("source", "note: and %d more", len(b.lacks)-most)
			break
		}
		b.log.stepf("source", "note: %s", l)
	}
	return from.Kind, nil
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
	ctx, cancel := context.WithTimeout(ctx, b.s.o.publishTimeout)
	defer cancel()
	keep := func(id taubyte.ResourceID, root cid.Cid) error {
		err := persist(ctx, b.s.o.publishTimeout, func(ctx context.Context) error {
			return ofService(b.s.o.keeper.Keep(ctx, root, hoarder.KeepOptions{Project: b.job.Project, Class: p.kinds[id], Min: b.s.o.replicas}))
		})
		if err != nil {
			return fmt.Errorf("keeping the %s: %w", p.kinds[id], err)
		}
		return nil
	}
	for _, roots := range []map[taubyte.ResourceID]cid.Cid{p.assets, p.encodings} {
		for id, root := range roots {
			if err := keep(id, root); err != nil {
				return err
			}
		}
	}
	shown, err := b.withoutKeys(ctx, p.config)
	if err != nil {
		return err
	}
	part := tns.Part{
		Repository: b.job.Repository, Commit: b.job.Commit, Job: b.job.ID, Order: b.job.Order,
		Time: b.job.Created, Config: shown, Assets: p.assets, Encodings: p.encodings,
	}
	return b.put(ctx, part)
}

func (b *build) put(ctx context.Context, part tns.Part) error {
	err := persist(ctx, b.s.o.publishTimeout, func(ctx context.Context) error {
		if err := b.held.confirm(ctx); err != nil {
			return err
		}
		d, err := b.s.o.tns.Publish(ctx, b.job.Project, b.job.Branch, part)
		if err == nil {
			b.log.stepf("publish", "published as deployment %d of branch %s", d.Sequence, d.Branch)
			for _, c := range d.Conflicts {
				b.log.stepf("publish", "warning: %s", c)
			}
		}
		return ofService(err)
	})
	if errors.Is(err, taubyte.ErrConflict) {
		return fmt.Errorf("%w: %w", errSuperseded, err)
	}
	return err
}

// remove takes off the air what a deleted branch ran: all of it with the branch of
// the configuration's repository, or what another repository has given.
func (b *build) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.s.o.publishTimeout)
	defer cancel()
	var current *tns.Deployment
	err := persist(ctx, b.s.o.publishTimeout, func(ctx context.Context) (err error) {
		current, err = b.s.o.tns.Current(ctx, b.job.Project, b.job.Branch)
		return err
	})
	if errors.Is(err, taubyte.ErrNotFound) {
		return nil
	}
	if err != nil {
		return ofService(err)
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
	return persist(ctx, b.s.o.publishTimeout, func(ctx context.Context) error {
		if err := b.held.confirm(ctx); err != nil {
			return err
		}
		err := b.s.o.tns.Remove(ctx, b.job.Project, b.job.Branch)
		if errors.Is(err, taubyte.ErrNotFound) {
			return nil
		}
		return ofService(err)
	})
}
