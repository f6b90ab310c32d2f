package patrick

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/internal/claim"
)

// Statuses shows at a provider what became of a commit. An auth.Client and an auth.Service
// have it; without it nothing is shown.
type Statuses interface {
	SetStatus(ctx context.Context, id taubyte.RepositoryID, commit taubyte.Commit, s auth.Status) error
}

const (
	// statusSenders is how many statuses are on their way at once.
	statusSenders = 4
	// mostStatuses is how many jobs may wait for theirs to be shown. A job whose state
	// finds no place is taken up by the next look.
	mostStatuses  = 4096
	statusTimeout = 30 * time.Second
	// statusEvery is the time between two looks for what is not shown, and statusFor how
	// long after a job's last change it is looked for: where a node ended before it had told.
	statusEvery = time.Minute
	statusFor   = 10 * time.Minute
	// statusBackOff is the first pause after a provider did not answer.
	statusBackOff = time.Second
)

// statuses are those that have to be shown. Of a job only the newest state counts, and
// one is on its way at a time: an older never comes after a newer.
type statuses struct {
	mu     sync.Mutex
	wanted map[taubyte.JobID]*wantedStatus
	shown  map[taubyte.JobID]shownStatus
}

type wantedStatus struct {
	job   Job
	after time.Time // not before
	tries int
	busy  bool // one of it is on its way
}

type shownStatus struct {
	state State
	at    time.Time
}

func newStatuses() *statuses {
	return &statuses{wanted: map[taubyte.JobID]*wantedStatus{}, shown: map[taubyte.JobID]shownStatus{}}
}

// want has a job's state shown, unless it is.
func (t *statuses) want(j Job) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w := t.wanted[j.ID]; w != nil {
		w.job = j
		return
	}
	if t.shown[j.ID].state != j.State && len(t.wanted) < mostStatuses {
		t.wanted[j.ID] = &wantedStatus{job: j}
	}
}

// next takes a job whose state can be shown now, or says when to ask again.
func (t *statuses) next(now time.Time) (j Job, ok bool, again time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	again = statusEvery
	var best *wantedStatus
	for _, w := range t.wanted {
		switch {
		case w.busy:
		case w.after.After(now):
			again = min(again, w.after.Sub(now))
		case best == nil || w.job.Order < best.job.Order:
			best = w
		}
	}
	if best == nil {
		return Job{}, false, again
	}
	best.busy = true
	return best.job, true, 0
}

// done says how showing a state went.
func (t *statuses) done(j Job, err error, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.wanted[j.ID]
	w.busy = false
	// Another answer than that there is none now will not become another.
	again := errors.Is(err, taubyte.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
	switch {
	case again && w.tries < 20:
		w.after = now.Add(doubled(statusBackOff, w.tries))
		w.tries++
		return
	case !again:
		t.shown[j.ID] = shownStatus{j.State, now}
	}
	if w.job.State == j.State || again {
		delete(t.wanted, j.ID)
	}
}

// forget drops what is no longer looked for.
func (t *statuses) forget(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, s := range t.shown {
		if now.Sub(s.at) > 2*statusFor && t.wanted[id] == nil {
			delete(t.shown, id)
		}
	}
}

// tellStatuses shows at the providers what becomes of commits: those of the branches that
// this node is the arbiter of.
func (s *Service) tellStatuses(changed <-chan Job) {
	to, ok := s.opts.auth.(Statuses)
	if !ok {
		for range changed { // until the service ends
		}
		return
	}
	wake := make(chan struct{}, statusSenders)
	stir := func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	var senders sync.WaitGroup
	defer senders.Wait()
	for range statusSenders {
		senders.Go(func() {
			for {
				j, ok, again := s.statuses.next(time.Now())
				if ok {
					stir() // there may be more
					err := s.showStatus(to, j)
					s.statuses.done(j, err, time.Now())
					continue
				}
				timer := time.NewTimer(again)
				select {
				case <-wake:
				case <-timer.C:
				case <-s.life.Done():
				}
				timer.Stop()
				if s.life.Err() != nil {
					return
				}
			}
		})
	}
	look := time.NewTicker(statusEvery)
	defer look.Stop()
	s.lookForStatuses()
	for {
		stir()
		select {
		case j, ok := <-changed:
			if !ok {
				return
			}
			s.wantStatus(j)
		case <-look.C:
			s.statuses.forget(time.Now())
			s.lookForStatuses()
		case <-s.life.Done():
			return
		}
	}
}

func (s *Service) wantStatus(j Job) {
	if !j.Deleted && claim.Arbiter(branchKey(j.Repository, j.Branch), s.live()) == s.host.ID() {
		s.statuses.want(j)
	}
}

// lookForStatuses finds jobs that ended lately, or go on, and have a state that was not
// shown: another node may have ended before it had told.
func (s *Service) lookForStatuses() {
	var jobs []Job
	s.mu.Lock()
	for i := len(s.index.ids) - 1; i >= 0; i-- {
		j := s.index.all[s.index.ids[i]].job
		if time.Since(j.Created) > 24*time.Hour {
			break
		}
		if !j.State.Done() || time.Since(j.Ended) < statusFor {
			jobs = append(jobs, j)
		}
	}
	s.mu.Unlock()
	for _, j := range jobs {
		s.wantStatus(j)
	}
}

func (s *Service) showStatus(to Statuses, j Job) error {
	ctx, cancel := context.WithTimeout(taubyte.AsService(s.life), statusTimeout)
	defer cancel()
	st := statusOf(j)
	st.URL = s.opts.jobURL(j)
	err := to.SetStatus(ctx, j.Repository, j.Commit, st)
	if err != nil && s.life.Err() == nil {
		s.log.Warn("a job's status was not shown at the provider", "job", j.ID, "state", j.State, "err", err)
	}
	return err
}

// statusOf says what a job is in a provider's terms. Why it failed stands in its log,
// which fewer people may read than a repository.
func statusOf(j Job) auth.Status {
	st := auth.Status{Context: "taubyte/" + string(j.Branch)} // one commit may be on several branches
	if len(st.Context) > 100 {
		st.Context = st.Context[:100]
	}
	switch j.State {
	case Queued:
		st.State, st.Description = auth.StatusPending, "Waiting for a worker"
	case Running:
		st.State, st.Description = auth.StatusPending, "Building"
	case Succeeded:
		st.State, st.Description = auth.StatusSuccess, "Deployed"
	case Failed:
		st.State, st.Description = auth.StatusFailure, "The build failed"
	case TimedOut:
		st.State, st.Description = auth.StatusFailure, "The build took too long"
	case Superseded:
		st.State, st.Description = auth.StatusError, "Not built: a later push came first"
	default:
		st.State, st.Description = auth.StatusError, "Cancelled"
	}
	return st
}
