package patrick

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net/http"
	"slices"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
)

// An Outcome is what a worker says of a job's end. Its state is Succeeded, Failed,
// TimedOut or Superseded, or Queued to give the job back for another to try.
type Outcome struct {
	State State  `json:"state"`
	Error string `json:"error,omitempty"`
	Steps []Step `json:"steps,omitempty"`
}

// forwardTimeout is how long one node of patrick waits for another.
const forwardTimeout = 5 * time.Second

const (
	maxErrorText = 16 << 10
	maxSteps     = 1000
)

func (o Outcome) check() error {
	switch o.State {
	case Succeeded, Failed, TimedOut, Superseded, Queued:
	default:
		return fmt.Errorf("%w outcome: state %q", taubyte.ErrInvalid, o.State)
	}
	if len(o.Error) > maxErrorText || len(o.Steps) > maxSteps {
		return fmt.Errorf("%w outcome: an error of %d bytes, %d steps", taubyte.ErrTooLarge, len(o.Error), len(o.Steps))
	}
	return nil
}

// arbiters are the nodes of role patrick that this one sees, itself among them.
type arbiters []peer.ID

func (s *Service) arbiters() arbiters {
	all := arbiters{s.host.ID()}
	for _, p := range s.host.Network().Peers() {
		known, err := s.host.Peerstore().SupportsProtocols(p, Protocol)
		if err != nil || len(known) == 0 {
			continue
		}
		// The membership of a connected peer is in memory.
		ctx, cancel := context.WithTimeout(s.life, time.Second)
		m, err := s.host.Member(ctx, p)
		cancel()
		if err == nil && m.Has(taubyte.RolePatrick) {
			all = append(all, p)
		}
	}
	return all
}

// of chooses one by rendezvous hashing: all nodes that see the same ones choose the
// same, and when one goes away only what was its own moves.
func (a arbiters) of(key string) peer.ID {
	var best peer.ID
	var most uint64
	for _, p := range a {
		h := fnv.New64a()
		_, _ = h.Write([]byte(p))
		_, _ = h.Write([]byte{0})
		_, _ = h.Write([]byte(key))
		score := mix(h.Sum64())
		if best == "" || score > most || score == most && p > best {
			best, most = p, score
		}
	}
	return best
}

// mix spreads a hash whose high bits depend little on its last bytes
// (SplitMix64's finalizer).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// arbiter is who grants leases on a job: the same for all jobs of a branch, so that
// it knows what else of the branch is running.
func (a arbiters) arbiter(j Job) peer.ID {
	return a.of(string(j.Repository) + "\x00" + string(j.Branch))
}

// Claim gives the calling worker the next job, as soon as there is one. After a
// while without one it returns a lease without job, to be asked again.
func (s *Service) Claim(ctx context.Context) (Lease, error) { return s.claim(ctx, s.host.ID()) }

func (s *Service) claim(ctx context.Context, worker peer.ID) (Lease, error) {
	deadline := time.NewTimer(s.opts.poll)
	defer deadline.Stop()
	refused := map[taubyte.JobID]bool{} // by their arbiters, in this round
	for {
		all := s.arbiters()
		s.mu.Lock()
		more := s.more
		e, again := s.index.pick(time.Now(), func(e *entry) bool { return !refused[e.id] })
		var job Job
		if e != nil {
			job = e.job
		}
		s.mu.Unlock()
		if e != nil {
			lease, err := s.grantBy(ctx, all.arbiter(job), job.ID, worker)
			if err == nil {
				return lease, nil
			}
			if ctx.Err() != nil {
				return Lease{}, ctx.Err()
			}
			if s.life.Err() != nil {
				return Lease{}, fmt.Errorf("patrick: %w", taubyte.ErrClosed)
			}
			s.log.Debug("job not granted", "job", job.ID, "err", err)
			refused[job.ID] = true
			continue
		}
		wait := time.Duration(1<<63 - 1)
		if !again.IsZero() {
			wait = time.Until(again)
		}
		if len(refused) > 0 {
			wait = min(wait, 100*time.Millisecond)
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
		clear(refused)
	}
}

func (s *Service) grantBy(ctx context.Context, arbiter peer.ID, id taubyte.JobID, worker peer.ID) (lease Lease, err error) {
	if arbiter == s.host.ID() {
		return s.grant(ctx, id, worker)
	}
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	err = s.peers.CallPeer(ctx, arbiter, http.MethodPost, "/jobs/"+string(id)+"/grant?worker="+worker.String(), nil, &lease)
	return lease, err
}

// grant gives a worker a job for which this node is the arbiter.
func (s *Service) grant(ctx context.Context, id taubyte.JobID, worker peer.ID) (Lease, error) {
	all := s.arbiters()
	s.mu.Lock()
	e, err := s.entry(id)
	switch {
	case err != nil:
	case all.arbiter(e.job) != s.host.ID():
		err = fmt.Errorf("%w: another node grants job %s", taubyte.ErrUnavailable, id)
	case e.job.State != Queued || e.granting || e.after.After(time.Now()) || s.index.blocked(e):
		err = fmt.Errorf("%w: job %s is %s, or not to be had now", taubyte.ErrConflict, id, e.job.State)
	}
	if err != nil {
		s.mu.Unlock()
		return Lease{}, err
	}
	e.granting = true
	fence := s.clock.next(e.top())
	s.index.serve(e.job.Project, time.Now())
	s.mu.Unlock()

	err = s.write(context.WithoutCancel(ctx), map[ds.Key]any{
		jobKey(id, "lease", fence, s.host.ID()): attempt{Worker: worker, Started: time.Now().UTC()},
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	e.granting = false
	if err != nil {
		s.wake()
		return Lease{}, fmt.Errorf("granting job %s: %w", id, err)
	}
	e.deadline = time.Now().Add(s.opts.lease)
	s.log.Info("job claimed", "job", id, "worker", worker, "attempt", e.job.Attempt)
	return Lease{Job: e.job, Fence: fence, Expires: e.deadline}, nil
}

// holds checks, under mu, that the worker has the job under that fence.
func (s *Service) holds(id taubyte.JobID, fence uint64, worker peer.ID) (*entry, error) {
	e, err := s.entry(id)
	if err != nil {
		return nil, err
	}
	a, ok := e.newest()
	switch {
	case !ok || !slices.ContainsFunc(e.attempts, func(g granted) bool { return g.fence == fence && g.Worker == worker }):
		return nil, fmt.Errorf("%w: %s has no lease on job %s", taubyte.ErrForbidden, worker, id)
	case a.fence != fence || a.Worker != worker:
		return nil, fmt.Errorf("%w: the lease on job %s is lost to a later one", taubyte.ErrConflict, id)
	case e.job.State != Running:
		return nil, fmt.Errorf("%w: job %s is %s", taubyte.ErrConflict, id, e.job.State)
	}
	return e, nil
}

// at returns where a job's lease is looked after, if that is another node.
func (s *Service) at(id taubyte.JobID) (p peer.ID, elsewhere bool) {
	s.mu.Lock()
	e, err := s.entry(id)
	if err != nil {
		s.mu.Unlock()
		return "", false
	}
	job := e.job
	s.mu.Unlock()
	p = s.arbiters().arbiter(job)
	return p, p != s.host.ID()
}

// Renew prolongs the calling worker's lease. It is ErrConflict when the lease is
// lost or the job cancelled, ErrForbidden for who never had it.
func (s *Service) Renew(ctx context.Context, id taubyte.JobID, fence uint64) (Lease, error) {
	return s.renew(ctx, id, fence, s.host.ID(), true)
}

func (s *Service) renew(ctx context.Context, id taubyte.JobID, fence uint64, worker peer.ID, forward bool) (lease Lease, err error) {
	if p, elsewhere := s.at(id); elsewhere && forward {
		ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
		defer cancel()
		err := s.peers.CallPeer(ctx, p, http.MethodPost, leasePath(id, "renew", fence, worker), nil, &lease)
		return lease, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.holds(id, fence, worker)
	if err != nil {
		return Lease{}, err
	}
	e.deadline = time.Now().Add(s.opts.lease)
	return Lease{Job: e.job, Fence: fence, Expires: e.deadline}, nil
}

// Finish ends the calling worker's attempt. Saying so twice is no error.
func (s *Service) Finish(ctx context.Context, id taubyte.JobID, fence uint64, o Outcome) error {
	return s.finish(ctx, id, fence, o, s.host.ID(), true)
}

func (s *Service) finish(ctx context.Context, id taubyte.JobID, fence uint64, o Outcome, worker peer.ID, forward bool) error {
	if err := o.check(); err != nil {
		return err
	}
	if p, elsewhere := s.at(id); elsewhere && forward {
		ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
		defer cancel()
		return s.peers.CallPeer(ctx, p, http.MethodPost, leasePath(id, "finish", fence, worker), o, nil)
	}
	s.mu.Lock()
	e, err := s.holds(id, fence, worker)
	if errors.Is(err, taubyte.ErrConflict) {
		if end, ok := s.index.all[id].ending(fence); ok && end.State == o.State && end.Error == o.Error {
			err = nil // the answer to the first time was lost
		}
		s.mu.Unlock()
		return err
	}
	if err != nil {
		s.mu.Unlock()
		return err
	}
	e.deadline = time.Now().Add(s.opts.lease) // it does not run out in what follows
	end := ending{Outcome: o, Ended: time.Now().UTC()}
	if o.State == Queued {
		end = s.another(e, end)
	}
	s.mu.Unlock()
	if err := s.end(context.WithoutCancel(ctx), id, fence, end); err != nil {
		return fmt.Errorf("ending job %s: %w", id, err)
	}
	return nil
}

// another decides, under mu, whether a job is tried again whose worker was lost.
func (s *Service) another(e *entry, end ending) ending {
	if end.Free {
		return end
	}
	if e.counted >= s.opts.attempts {
		end.State = Failed
		end.Error = fmt.Sprintf("%s (attempt %d of %d)", end.Error, e.counted, s.opts.attempts)
		return end
	}
	end.After = end.Ended.Add(s.opts.backOff << min(e.counted-1, 10))
	return end
}

// end writes how an attempt ended, together with what this node has of its log.
func (s *Service) end(ctx context.Context, id taubyte.JobID, fence uint64, end ending) error {
	records := map[ds.Key]any{jobKey(id, "end", fence, s.host.ID()): end}
	at := attemptID{id, fence}
	part, err := s.sealLog(ctx, at)
	if err != nil {
		// The end counts more than the log, which stays where it is for later.
		s.log.Error("log not kept", "job", id, "err", err)
	} else if part != nil {
		records[jobKey(id, "log", fence, s.host.ID())] = *part
	}
	if err := s.write(ctx, records); err != nil {
		return err
	}
	if part != nil {
		s.dropLog(ctx, at)
	}
	s.log.Info("attempt ended", "job", id, "state", end.State, "err", end.Error)
	return nil
}

// takeBack ends, at start, the attempts of the worker on this very node: it was
// started anew as well, and has forgotten them.
func (s *Service) takeBack(ctx context.Context) error {
	s.mu.Lock()
	fences := map[taubyte.JobID]uint64{}
	for e := range s.index.running {
		if a, _ := e.newest(); a.Worker == s.host.ID() {
			fences[e.id] = a.fence
		}
	}
	s.mu.Unlock()
	for id, fence := range fences {
		err := s.end(ctx, id, fence, ending{
			Outcome: Outcome{State: Queued, Error: "the node was restarted"}, Ended: time.Now().UTC(), Free: true,
		})
		if err != nil {
			return fmt.Errorf("taking up job %s again: %w", id, err)
		}
	}
	return nil
}

// watchLeases queues the jobs again whose workers are lost.
func (s *Service) watchLeases() {
	tick := time.NewTicker(max(min(s.opts.lease/4, time.Second), time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.life.Done():
			return
		}
		s.checkLeases()
		s.sealOrphans()
	}
}

func (s *Service) checkLeases() {
	type lost struct {
		fence uint64
		end   ending
	}
	now := time.Now()
	all := s.arbiters()
	gone := map[taubyte.JobID]lost{}
	s.mu.Lock()
	for e := range s.index.running {
		if all.arbiter(e.job) != s.host.ID() {
			// Renewals are heard of elsewhere. Should this node become the
			// arbiter, the worker has a whole lease's time to renew here.
			e.deadline = now.Add(s.opts.lease)
			continue
		}
		if now.Before(e.deadline) {
			continue
		}
		a, _ := e.newest()
		end := ending{Ended: now.UTC(), Outcome: Outcome{State: Queued, Error: fmt.Sprintf("the worker %s is lost", a.Worker)}}
		gone[e.id] = lost{a.fence, s.another(e, end)}
	}
	s.mu.Unlock()
	for id, l := range gone {
		if err := s.end(s.life, id, l.fence, l.end); err != nil && s.life.Err() == nil {
			s.log.Error("lost job not queued again", "job", id, "err", err)
		}
	}
}

func leasePath(id taubyte.JobID, what string, fence uint64, worker peer.ID) string {
	path := fmt.Sprintf("/jobs/%s/%s?fence=%d", id, what, fence)
	if worker != "" {
		path += "&worker=" + worker.String()
	}
	return path
}

// caller is the node that sent a request.
func caller(ctx context.Context) peer.ID {
	m, _ := rpc.Caller(ctx)
	return m.Peer
}
