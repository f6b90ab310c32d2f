package patrick

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/claim"
	"github.com/taubyte/taubyte/internal/rpc"
)

// An Outcome is what a worker says of a job's end. Its state is Succeeded, Failed,
// TimedOut or Superseded, or Queued to give the job back for another to try.
//
// A job that is given back has not had its attempt: what is at fault is not the job. The
// first other worker may have it at once; each further time it waits twice as long, up to
// a minute, and the worker that gave it back waits longer than others.
type Outcome struct {
	State State  `json:"state"`
	Error string `json:"error,omitempty"`
	Steps []Step `json:"steps,omitempty"`
	// Needs are labels that the job needs and the worker has not stated. The job waits for
	// one that does: see Job.Labels.
	Needs []string `json:"needs,omitempty"`
	// Unconfigured: the job's branch has no configuration, which another repository
	// brings. The job is tried again when that was built, and fails after an hour.
	Unconfigured bool `json:"unconfigured,omitempty"`
	// Stopping: the worker gives the job back because it stops. Nobody waits for that.
	Stopping bool `json:"stopping,omitempty"`
}

const (
	maxErrorText = 16 << 10
	maxSteps     = 1000
	// refusedFor is how long a job is passed over that its arbiter did not grant.
	refusedFor = 100 * time.Millisecond
)

func (o Outcome) check() error {
	switch o.State {
	case Succeeded, Failed, TimedOut, Superseded, Queued:
	default:
		return fmt.Errorf("%w outcome: state %q", taubyte.ErrInvalid, o.State)
	}
	if (len(o.Needs) > 0 || o.Unconfigured || o.Stopping) && o.State != Queued {
		return fmt.Errorf("%w outcome: %s, and what a job waits for", taubyte.ErrInvalid, o.State)
	}
	if err := checkLabels(o.Needs, maxNeeds); err != nil {
		return fmt.Errorf("outcome: %w", err)
	}
	if len(o.Error) > maxErrorText || len(o.Steps) > maxSteps {
		return fmt.Errorf("%w outcome: an error of %d bytes, %d steps", taubyte.ErrTooLarge, len(o.Error), len(o.Steps))
	}
	return nil
}

// leaseID names a lease as a worker shows it.
type leaseID struct {
	job     taubyte.JobID
	fence   uint64
	worker  peer.ID
	arbiter peer.ID // that granted it, as the worker says
}

// here is the lease of the worker on this node.
func (s *Service) here(l Lease) leaseID {
	return leaseID{job: l.Job.ID, fence: l.Fence, worker: s.host.ID(), arbiter: l.Arbiter}
}

// allowLease checks the principal of a call under a lease: the job itself, in the attempt
// that the lease is of, which its worker speaks for. A node of role patrick sends such calls
// on. A worker's own name does not do, since it may hold several jobs; nor does a user's,
// nor a function's.
func allowLease(ctx context.Context, l leaseID) error {
	p := taubyte.PrincipalOf(ctx)
	switch p.Kind {
	case taubyte.KindAdministrator:
		return nil
	case taubyte.KindNode:
		if err := p.HasRole(taubyte.RoleMonkey, taubyte.RolePatrick); err != nil {
			return err
		}
		if p.Node.Has(taubyte.RolePatrick) {
			return nil
		}
		return fmt.Errorf("%w: %s holds no lease: a worker speaks for the job", taubyte.ErrForbidden, p)
	case taubyte.KindJob:
	default:
		return fmt.Errorf("%w: %s holds no lease: jobs are for workers", taubyte.ErrForbidden, p)
	}
	if err := taubyte.AllowNode(ctx, taubyte.RoleMonkey); err != nil {
		return err
	}
	if p.Job != l.job || p.Attempt != l.fence {
		return fmt.Errorf("%w: %s, lease %d, has no lease %d on job %.100q", taubyte.ErrForbidden, p, p.Attempt, l.fence, l.job)
	}
	return nil
}

// allowJob is the part of allowLease that is known once the job is: that its principal is
// of the job's project and branch.
func allowJob(ctx context.Context, j Job) error {
	if taubyte.PrincipalOf(ctx).Kind != taubyte.KindJob {
		return nil
	}
	return taubyte.AllowJob(ctx, j.Project, j.Branch, j.ID, taubyte.RoleMonkey)
}

// Claim gives the calling worker the next job, as soon as there is one: one that needs
// none but these labels. After a while without one it returns a lease without job, to be
// asked again. It takes a node of role monkey.
func (s *Service) Claim(ctx context.Context, labels ...string) (Lease, error) {
	if err := checkLabels(labels, maxLabels); err != nil {
		return Lease{}, err
	}
	return s.claim(ctx, worker{s.host.ID(), labels})
}

func (s *Service) claim(ctx context.Context, w worker) (Lease, error) {
	if p := taubyte.PrincipalOf(ctx); p.Kind != taubyte.KindNode && p.Kind != taubyte.KindAdministrator {
		return Lease{}, fmt.Errorf("%w: jobs are claimed by workers, and not by %s", taubyte.ErrForbidden, p)
	}
	if err := taubyte.AllowNode(ctx, taubyte.RoleMonkey); err != nil {
		return Lease{}, err
	}
	deadline := time.NewTimer(s.opts.poll)
	defer deadline.Stop()
	for c := newClaimant(w); ; {
		s.mu.Lock()
		more := s.more
		e, again := s.index.next(c, time.Now())
		s.mu.Unlock()
		if e != nil {
			lease, err := s.lease(ctx, e, w)
			if err == nil {
				return lease, nil
			}
			if ctx.Err() != nil {
				return Lease{}, ctx.Err()
			}
			if s.life.Err() != nil {
				return Lease{}, fmt.Errorf("patrick: %w", taubyte.ErrClosed)
			}
			s.log.Debug("job not granted", "job", e.id, "err", err)
			c.refuse(e.id, time.Now())
			continue
		}
		wait := time.Duration(1<<63 - 1)
		if !again.IsZero() {
			wait = time.Until(again)
		}
		later := time.NewTimer(wait)
		select {
		case <-more:
		case <-later.C:
		case <-deadline.C:
			later.Stop()
			return Lease{}, nil
		case <-ctx.Done():
			later.Stop()
			return Lease{}, ctx.Err()
		case <-s.life.Done():
			later.Stop()
			return Lease{}, fmt.Errorf("patrick: %w", taubyte.ErrClosed)
		}
		later.Stop()
	}
}

// lease has a picked job granted to a worker. One that has gone meanwhile does not keep
// it.
func (s *Service) lease(ctx context.Context, e *entry, w worker) (Lease, error) {
	lease, err := s.grantBy(ctx, e, w)
	s.mu.Lock()
	s.index.asked(e)
	if err != nil {
		s.wake() // for those that have passed it over
	}
	s.mu.Unlock()
	if err == nil && ctx.Err() != nil && s.life.Err() == nil {
		back := Outcome{State: Queued, Error: "the worker did not wait for it", Stopping: true}
		id := leaseID{job: lease.Job.ID, fence: lease.Fence, worker: w.id, arbiter: lease.Arbiter}
		if e := s.finish(context.WithoutCancel(ctx), id, back, true); e != nil {
			s.log.Debug("lease not taken back", "job", id.job, "err", e)
		}
		return Lease{}, ctx.Err()
	}
	return lease, err
}

func (s *Service) grantBy(ctx context.Context, e *entry, w worker) (Lease, error) {
	arbiter := claim.Arbiter(e.key(), s.live())
	if arbiter == s.host.ID() {
		return s.grant(ctx, e.id, w)
	}
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	var lease Lease
	err := s.peers.CallPeer(ctx, arbiter, http.MethodPost,
		fmt.Sprintf("/jobs/%s/grant?worker=%s&labels=%s", e.id, w.id, joinLabels(w.labels)), nil, &lease)
	if err != nil && ctx.Err() == nil && away(err) {
		s.suspect(arbiter, err)
	}
	return lease, err
}

// grant gives a worker a job for which this node is the arbiter: that one or, if another
// worker was faster, the next.
func (s *Service) grant(ctx context.Context, id taubyte.JobID, w worker) (Lease, error) {
	s.inStep(ctx)
	live := s.live()
	if _, err := s.find(ctx, id); err != nil {
		return Lease{}, err
	}
	now := time.Now()
	e, fence, err := s.index.grant(id, w, live, now)
	s.mu.Unlock()
	if err != nil {
		return Lease{}, err
	}
	err = s.write(context.WithoutCancel(ctx), map[ds.Key]any{
		jobKey(e.id, "lease", fence, s.host.ID()): attempt{Worker: w.id, Started: now.UTC()},
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index.granted(e)
	if err != nil {
		s.wake()
		return Lease{}, fmt.Errorf("granting job %s: %w", e.id, err)
	}
	s.log.Info("job claimed", "job", e.id, "worker", w.id, "attempt", e.job.Attempt)
	return s.granted(e, fence, now.Add(s.opts.lease)), nil
}

// granted is a lease that this node looks after, under mu.
func (s *Service) granted(e *entry, fence uint64, until time.Time) Lease {
	return Lease{Job: e.job, Fence: fence, Arbiter: s.host.ID(), Lasts: s.opts.lease, Expires: until}
}

// holds checks, under mu, that a worker has the job under its lease.
func (s *Service) holds(ctx context.Context, l leaseID) (*entry, error) {
	e, err := s.allowed(ctx, l)
	if err != nil {
		return nil, err
	}
	return e, e.holds(l)
}

// allowed finds, under mu, the job of a lease whose principal is right for it.
func (s *Service) allowed(ctx context.Context, l leaseID) (*entry, error) {
	e, err := s.index.entry(l.job)
	if err == nil {
		err = allowJob(ctx, e.job)
	}
	return e, err
}

// withLease has the node that looks after a lease do something: another one by remote,
// this one by local, which is called with mu held. Where the other does not answer, the
// next does it. A call that another node of patrick sent on is not sent on again. It is
// sent on in the node's own name, for the worker: allowLease has let it through.
func (s *Service) withLease(ctx context.Context, l leaseID, forward bool, remote func(context.Context, peer.ID) error, local func() error) error {
	for forward {
		p := s.keeper(l, s.live())
		if p == s.host.ID() {
			break
		}
		call, cancel := context.WithTimeout(taubyte.AsService(ctx), forwardTimeout)
		err := remote(call, p)
		cancel()
		if err == nil || !away(err) || ctx.Err() != nil {
			return err
		}
		s.suspect(p, err)
	}
	known := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.index.knows(l)
	}
	if validID(string(l.job)) {
		s.learn(ctx, ds.RawKey(jobsPrefix+"/"+string(l.job)), known)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err := local()
	if errors.Is(err, claim.ErrUnknown) {
		// Who could know is not there. The job is free for another lease.
		err = fmt.Errorf("%w: %w", taubyte.ErrConflict, err)
	}
	return err
}

// Renew prolongs the calling worker's lease. It is ErrConflict when the lease is
// lost or the job cancelled, ErrForbidden for who never had it. Like all that is done under
// a lease it takes the job as its principal.
func (s *Service) Renew(ctx context.Context, l Lease) (Lease, error) {
	return s.renew(ctx, s.here(l), true)
}

func (s *Service) renew(ctx context.Context, l leaseID, forward bool) (lease Lease, err error) {
	if err := allowLease(ctx, l); err != nil {
		return Lease{}, err
	}
	began := time.Now()
	err = s.withLease(ctx, l, forward, func(ctx context.Context, p peer.ID) error {
		err := s.peers.CallPeer(ctx, p, http.MethodPost, leasePath(l, "renew", true), nil, &lease)
		lease.Expires = began.Add(lease.Lasts)
		return err
	}, func() error {
		e, err := s.allowed(ctx, l)
		if err != nil {
			return err
		}
		until, err := s.index.renew(e, l, time.Now())
		if err == nil {
			lease = s.granted(e, l.fence, until)
		}
		return err
	})
	return lease, err
}

// Finish ends the calling worker's attempt. Saying so twice is no error. What a worker
// says late counts as well, unless there is a later lease.
func (s *Service) Finish(ctx context.Context, l Lease, o Outcome) error {
	return s.finish(ctx, s.here(l), o, true)
}

func (s *Service) finish(ctx context.Context, l leaseID, o Outcome, forward bool) error {
	if err := allowLease(ctx, l); err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return err
	}
	var end ending
	said, sent := false, false
	err := s.withLease(ctx, l, forward, func(ctx context.Context, p peer.ID) error {
		err := s.peers.CallPeer(ctx, p, http.MethodPost, leasePath(l, "finish", true), o, nil)
		sent = err == nil
		return err
	}, func() error {
		e, err := s.allowed(ctx, l)
		if err != nil {
			return err
		}
		end, said, err = s.index.finish(e, l, o, time.Now())
		return err
	})
	if err != nil || said || sent {
		return err
	}
	defer s.endWritten(l.job)
	if err := s.end(context.WithoutCancel(ctx), l.job, l.fence, "end", end); err != nil {
		return fmt.Errorf("ending job %s: %w", l.job, err)
	}
	return nil
}

func (s *Service) endWritten(id taubyte.JobID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index.ended(id)
}

// end writes how an attempt ended, and how long its log is.
func (s *Service) end(ctx context.Context, id taubyte.JobID, fence uint64, kind string, end ending) error {
	at := attemptID{id, fence}
	end.LogSize = s.logLength(ctx, at)
	if err := s.write(ctx, map[ds.Key]any{jobKey(id, kind, fence, s.host.ID()): end}); err != nil {
		return err
	}
	s.logsEnded()
	s.log.Info("attempt ended", "job", id, "state", end.State, "err", end.Error)
	return nil
}

// logLength is how long the log of an attempt is that ends now. Where another node granted
// the lease, it may have more of it than this one.
func (s *Service) logLength(ctx context.Context, a attemptID) int64 {
	s.mu.Lock()
	elsewhere := false
	if e := s.index.all[a.job]; e != nil {
		for _, g := range e.history.Grants() {
			elsewhere = elsewhere || g.Fence == a.fence && g.Arbiter != s.host.ID()
		}
	}
	b := s.logs[a]
	if b == nil && elsewhere {
		b = s.buffer(a)
	}
	s.mu.Unlock()
	if b == nil {
		return 0
	}
	b.adding.Lock()
	defer b.adding.Unlock()
	if elsewhere {
		ctx, cancel := context.WithTimeout(ctx, syncTimeout)
		if err := s.catchUp(ctx, a, b, -1); err != nil && s.life.Err() == nil {
			s.log.Warn("the log may lack what another node has of it", "job", a.job, "err", err)
		}
		cancel()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return b.size
}

// takeBack ends, at start, the attempts of the worker on this very node: it was
// killed as well. One that is stopped in order gives its jobs back itself.
func (s *Service) takeBack(ctx context.Context) error {
	s.mu.Lock()
	lost := s.index.abandoned(time.Now())
	s.mu.Unlock()
	for _, o := range lost {
		if err := s.end(ctx, o.Job, o.Fence, o.kind, o.end); err != nil {
			return fmt.Errorf("taking up job %s again: %w", o.Job, err)
		}
	}
	return nil
}

// watchLeases queues the jobs again whose workers are lost.
func (s *Service) watchLeases() {
	tick := time.NewTicker(max(min(s.opts.lease/8, 250*time.Millisecond), time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.life.Done():
			return
		}
		s.checkLeases()
	}
}

func (s *Service) checkLeases() {
	live := s.live()
	now := time.Now()
	s.mu.Lock()
	all := s.index.overdue(live, s.near, now)
	s.mu.Unlock()
	s.members.mu.Lock()
	if now.Sub(s.members.ticked) <= s.opts.lease/2 {
		s.members.ticked = now // else inStep sees to it
	}
	s.members.mu.Unlock()
	if len(all) == 0 {
		return
	}
	refs := make([]heldLease, len(all))
	for i, o := range all {
		refs[i] = o.heldLease
	}
	heard := s.heardElsewhere(refs, live)
	for _, o := range all {
		if heard[o.heldLease] {
			s.mu.Lock()
			s.index.heardOf(o.heldLease, time.Now())
			s.mu.Unlock()
			continue
		}
		s.mu.Lock()
		lapsed := s.index.lapsed(o.heldLease, time.Now())
		s.mu.Unlock()
		if !lapsed {
			continue
		}
		err := s.end(s.life, o.Job, o.Fence, o.kind, o.end)
		s.endWritten(o.Job)
		if err != nil && s.life.Err() == nil {
			s.log.Error("lost job not queued again", "job", o.Job, "err", err)
		}
	}
}

// heldLease names a lease between nodes of patrick.
type heldLease struct {
	Job   taubyte.JobID `json:"job"`
	Fence uint64        `json:"fence"`
}

// heard returns those leases whose workers this node has heard of in time.
func (s *Service) heard(leases []heldLease) []heldLease {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	return slices.DeleteFunc(leases, func(l heldLease) bool { return !s.index.timing.Heard(l.Job, l.Fence, now) })
}

// heardElsewhere asks the other nodes for workers that this one has not heard of.
func (s *Service) heardElsewhere(leases []heldLease, live []peer.ID) map[heldLease]bool {
	ctx, cancel := context.WithTimeout(s.life, syncTimeout)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	all := map[heldLease]bool{}
	for _, p := range live {
		if p == s.host.ID() {
			continue
		}
		wg.Go(func() {
			var some []heldLease
			if err := s.peers.CallPeer(ctx, p, http.MethodPost, "/heard", leases, &some); err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, l := range some {
				all[l] = true
			}
		})
	}
	wg.Wait()
	return all
}

// leasePath is where a worker's call goes. named: it is sent on for the worker.
func leasePath(l leaseID, what string, named bool) string {
	path := fmt.Sprintf("/jobs/%s/%s?fence=%d", l.job, what, l.fence)
	if l.arbiter != "" {
		path += "&arbiter=" + l.arbiter.String()
	}
	if named {
		path += "&worker=" + l.worker.String()
	}
	return path
}

// caller is the node that sent a request.
func caller(ctx context.Context) peer.ID {
	m, _ := rpc.Caller(ctx)
	return m.Peer
}
