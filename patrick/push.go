package patrick

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/internal/claim"
	"github.com/taubyte/taubyte/internal/rendezvous"
)

// A submission is a push on its way to the node that makes a job of it.
type submission struct {
	Push    auth.Push         `json:"push"`
	Project taubyte.ProjectID `json:"project"`
	// Registered is since when the repository is the project's.
	Registered time.Time `json:"registered,omitzero"`
	Priority   int       `json:"priority,omitempty"`
	// Missed: the push was found by comparing heads. It makes a job unless the branch
	// has got one after Known.
	Missed bool          `json:"missed,omitempty"`
	Known  taubyte.JobID `json:"known,omitempty"`
	// Deliveries are the names of the message that told of the push, where one did. It
	// makes a job once.
	Deliveries []string `json:"deliveries,omitempty"`
	// Follows is the branch that a pull request proposes: its commits are this one's.
	Follows taubyte.Branch `json:"follows,omitempty"`
}

// Submit makes a job of a push. The same delivery again, or a push of what the
// branch's latest job is for, gives the job that there is, on whatever node of patrick it
// was submitted; those of before the repository left its project and came back do not
// count. A repository of no project is ErrNotFound.
//
// It takes the verb deploy on the repository's project, or a node of the roles auth or
// patrick.
func (s *Service) Submit(ctx context.Context, p auth.Push) (Job, error) {
	repo, err := s.opts.auth.Repository(taubyte.AsService(ctx), p.Repository)
	if err != nil && p.Repository != "" && p.Branch != "" {
		return Job{}, cmp.Or(taubyte.Allow(ctx, taubyte.VerbDeploy, "", operators...), fmt.Errorf("push of %s: %w", p.Repository, err))
	}
	if err := taubyte.Allow(ctx, taubyte.VerbDeploy, repo.Project, operators...); err != nil {
		return Job{}, err
	}
	return s.submitTo(ctx, submission{Push: p})
}

// submitTo has the branch's arbiter decide on a submission: it knows best which jobs
// the branch has, and takes in one at a time.
func (s *Service) submitTo(ctx context.Context, sub submission) (Job, error) {
	p := sub.Push
	if p.Branch == "" || p.Repository == "" || len(p.Branch) > 1024 || len(p.Commit) > 64 || len(p.Delivery) > 256 {
		return Job{}, fmt.Errorf("%w push of %q, branch %q", taubyte.ErrInvalid, p.Repository, p.Branch)
	}
	repo, err := s.opts.auth.Repository(taubyte.AsService(ctx), p.Repository)
	if err != nil {
		return Job{}, fmt.Errorf("push of %s: %w", p.Repository, err)
	}
	sub.Project, sub.Registered, sub.Priority = repo.Project, repo.Since, min(max(s.opts.priority(repo, p), -maxPriority), maxPriority)
	for {
		arbiter := claim.Arbiter(branchKey(p.Repository, p.Branch), s.live())
		if arbiter == s.host.ID() {
			return s.decide(ctx, sub)
		}
		var j Job
		call, cancel := context.WithTimeout(ctx, forwardTimeout)
		err := s.peers.CallPeer(call, arbiter, http.MethodPost, "/submit", sub, &j)
		cancel()
		if err == nil || !away(err) || ctx.Err() != nil {
			return j, err
		}
		s.suspect(arbiter, err)
	}
}

// decide makes a job of a push, unless it has one.
func (s *Service) decide(ctx context.Context, sub submission) (Job, error) {
	s.inStep(ctx)
	p := sub.Push
	j, made, err := s.make(ctx, sub)
	if err != nil {
		return Job{}, fmt.Errorf("push of %s: %w", p.Repository, err)
	}
	if !made {
		return j, nil
	}
	s.log.Info("job queued", "job", j.ID, "project", sub.Project, "branch", p.Branch, "commit", p.Commit)
	s.confirm(ctx, j.ID)
	return s.job(ctx, j.ID)
}

func (s *Service) make(ctx context.Context, sub submission) (j Job, made bool, err error) {
	p := sub.Push
	one := &s.submit[uint64(rendezvous.Of(branchKey(p.Repository, p.Branch)))%uint64(len(s.submit))]
	one.Lock()
	defer one.Unlock()
	taken := s.deliveries.known(sub.Deliveries)
	s.mu.Lock()
	a := s.index.submission(sub, taken, time.Now())
	s.mu.Unlock()
	records := map[ds.Key]any{}
	if !taken {
		records = s.deliveryRecords(sub.Deliveries)
	}
	if a.spec != nil {
		a.job.ID, made = a.id, true
		records[specKey(a.id)] = a.spec
	}
	if len(records) > 0 {
		err = s.write(ctx, records)
	}
	return a.job, made, err
}

// confirm returns when another node of patrick has a job, so that it survives this one.
// Where no other answers the job is taken in all the same.
func (s *Service) confirm(ctx context.Context, id taubyte.JobID) {
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	for _, p := range rendezvous.Rank(string(id), s.live()) {
		if p == s.host.ID() {
			continue
		}
		err := s.peers.CallPeer(ctx, p, http.MethodGet, jobPath(id, ""), nil, nil)
		if err == nil || ctx.Err() != nil {
			return
		}
		s.log.Debug("job not confirmed", "job", id, "peer", p, "err", err)
		if away(err) {
			s.suspect(p, err)
		}
	}
}

// find returns the job that a push has already.
func (b *branch) find(p auth.Push, registered time.Time) *entry {
	if e := b.newest(); e.spec.Commit == p.Commit && e.spec.of(registered) {
		return e
	}
	if p.Delivery == "" {
		return nil
	}
	return b.deliveries[p.Delivery]
}

// Reconcile compares the branch heads of all registered repositories with the jobs
// that there are and makes up for pushes that were missed. With several nodes of
// role patrick each looks after its share of the repositories.
//
// It takes the verb deploy on everything, or a node of the roles auth or patrick.
func (s *Service) Reconcile(ctx context.Context) error {
	if err := taubyte.Allow(ctx, taubyte.VerbDeploy, "", operators...); err != nil {
		return err
	}
	repos, err := s.opts.auth.Repositories(taubyte.AsService(ctx), "")
	if err != nil {
		return fmt.Errorf("comparing branch heads: %w", err)
	}
	// Taken before any head is read: what is known here is not newer than those, if they
	// are this node's. Another's may come later than a job of theirs: see doubts.
	known := s.known()
	live := s.live()
	var errs []error
	for _, r := range repos {
		if claim.Arbiter(string(r.ID), live) != s.host.ID() {
			continue
		}
		if err := s.reconcile(ctx, r, known[r.ID]); err != nil {
			errs = append(errs, fmt.Errorf("comparing branch heads of %s: %w", r.ID, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// latest is the latest job of a branch.
type latest struct {
	Job
	spec *spec
}

// known returns the latest job of every branch.
func (s *Service) known() map[taubyte.RepositoryID]map[taubyte.Branch]latest {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[taubyte.RepositoryID]map[taubyte.Branch]latest{}
	for id, b := range s.index.branches {
		if all[id.repository] == nil {
			all[id.repository] = map[taubyte.Branch]latest{}
		}
		all[id.repository][id.branch] = latest{b.newest().job, b.newest().spec}
	}
	return all
}

func (s *Service) reconcile(ctx context.Context, r auth.Repository, known map[taubyte.Branch]latest) error {
	id := r.ID
	heads, err := s.opts.auth.Heads(taubyte.AsService(ctx), id)
	if errors.Is(err, taubyte.ErrNotFound) {
		return nil // nothing was pushed yet; a repository that is gone removes nothing
	}
	if err != nil {
		return err
	}
	heads = withPulls(heads, known)
	for b, commit := range heads {
		if j, ok := known[b]; ok && j.Commit == commit && j.spec.of(r.Since) {
			s.doubts.clear(branchID{id, b})
			continue
		}
		if s.built(r, b, commit) && !s.doubts.over(branchID{id, b}, doubt{commit, known[b].ID}, s.settle()) {
			continue
		}
		if err := s.missed(ctx, auth.Push{Repository: id, Branch: b, Commit: commit}, known[b]); err != nil {
			return err
		}
	}
	for b, j := range known {
		if _, there := heads[b]; there || j.Deleted || !j.spec.of(r.Since) {
			continue
		}
		if !s.doubts.over(branchID{id, b}, doubt{"", j.ID}, s.settle()) {
			continue
		}
		if err := s.missed(ctx, auth.Push{Repository: id, Branch: b}, j); err != nil {
			return err
		}
	}
	return nil
}

// withPulls adds the branches of open pull requests, which are no branches at the provider:
// each is at the commit of the branch that it follows, and gone with that.
func withPulls(heads map[taubyte.Branch]taubyte.Commit, known map[taubyte.Branch]latest) map[taubyte.Branch]taubyte.Commit {
	all := maps.Clone(heads)
	for b, j := range known {
		commit, there := heads[j.spec.Follows]
		if _, own := heads[b]; there && !own && j.spec.Follows != "" && !j.Deleted {
			all[b] = commit
		}
	}
	return all
}

// missed submits a push unless the branch got a job meanwhile.
func (s *Service) missed(ctx context.Context, p auth.Push, known latest) error {
	sub := submission{Push: p, Missed: true, Known: known.ID}
	if known.spec != nil {
		sub.Follows = known.spec.Follows
	}
	j, err := s.submitTo(ctx, sub)
	if err == nil && j.ID != known.ID && j.Commit == p.Commit {
		s.log.Info("missed push taken up", "job", j.ID, "repository", p.Repository, "branch", p.Branch)
	}
	return err
}

// built reports whether a branch had a job of the commit.
func (s *Service) built(r auth.Repository, name taubyte.Branch, c taubyte.Commit) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.index.branches[branchID{r.ID, name}]
	return b != nil && slices.ContainsFunc(b.jobs, func(e *entry) bool { return e.spec.Commit == c && e.spec.of(r.Since) })
}

// settle is how long a head must stay that takes something back.
func (s *Service) settle() time.Duration { return min(10*time.Second, s.opts.reconcile/4) }

// doubts are heads of branches that would take something back: remove the branch, or go
// back to a commit that was built before. Most likely the head is not the newest: jobs and
// heads are replicated apart from each other. Only one that stays is taken up.
type doubts struct {
	mu sync.Mutex
	of map[branchID]doubted
}

type doubt struct {
	commit taubyte.Commit
	known  taubyte.JobID // the branch's latest
}

type doubted struct {
	doubt
	since time.Time
}

func (d *doubts) clear(id branchID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.of, id)
}

// over reports whether a doubt has stayed for so long.
func (d *doubts) over(id branchID, what doubt, after time.Duration) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of == nil {
		d.of = map[branchID]doubted{}
	}
	before, ok := d.of[id]
	if !ok || before.doubt != what {
		d.of[id] = doubted{what, time.Now()}
		return false
	}
	if time.Since(before.since) < after {
		return false
	}
	delete(d.of, id)
	return true
}

func (d *doubts) any() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.of) > 0
}

func (s *Service) reconcileAgain() {
	const soon = time.Second // auth may be starting as well
	for wait := soon; ; {
		err := s.Reconcile(s.life)
		switch {
		case s.life.Err() != nil:
			return
		case err != nil:
			s.log.Warn("missed pushes not looked for", "err", err)
			wait = min(wait*2, s.opts.reconcile)
		default:
			wait = s.opts.reconcile
			if s.doubts.any() {
				wait = s.settle()
			}
		}
		select {
		case <-time.After(wait):
		case <-s.life.Done():
			return
		}
	}
}
