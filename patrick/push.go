package patrick

import (
	"context"
	"errors"
	"fmt"
	"time"

	ds "github.com/ipfs/go-datastore"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
)

// Submit makes a job of a push. The same delivery again, or a push of what the
// branch's latest job is for, gives the job that there is. A repository of no
// project is ErrNotFound.
func (s *Service) Submit(ctx context.Context, p auth.Push) (Job, error) {
	if p.Branch == "" || p.Repository == "" || len(p.Branch) > 1024 || len(p.Commit) > 64 || len(p.Delivery) > 256 {
		return Job{}, fmt.Errorf("%w push of %q, branch %q", taubyte.ErrInvalid, p.Repository, p.Branch)
	}
	repo, err := s.opts.auth.Repository(ctx, p.Repository)
	if err != nil {
		return Job{}, fmt.Errorf("push of %s: %w", p.Repository, err)
	}
	s.submit.Lock()
	defer s.submit.Unlock()
	var last uint64
	s.mu.Lock()
	if b := s.index.branches[branchID{p.Repository, p.Branch}]; b != nil {
		if e := b.find(p); e != nil {
			defer s.mu.Unlock()
			return e.job, nil
		}
		last = b.newest().spec.Order
	}
	s.mu.Unlock()
	order := s.clock.next(last)
	id := newID(order, s.host.ID())
	err = s.write(ctx, map[ds.Key]any{specKey(id): spec{
		Project: repo.Project, Repository: p.Repository, Branch: p.Branch, Commit: p.Commit, Order: order,
		Created: time.Now().UTC(), Deleted: p.Commit == "", Priority: s.opts.priority(repo, p), Delivery: p.Delivery,
	}})
	if err != nil {
		return Job{}, fmt.Errorf("push of %s: %w", p.Repository, err)
	}
	s.log.Info("job queued", "job", id, "project", repo.Project, "branch", p.Branch, "commit", p.Commit)
	return s.Job(ctx, id)
}

// find returns the job that a push has already.
func (b *branch) find(p auth.Push) *entry {
	if e := b.newest(); e.spec.Commit == p.Commit {
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
func (s *Service) Reconcile(ctx context.Context) error {
	repos, err := s.opts.auth.Repositories(ctx, "")
	if err != nil {
		return fmt.Errorf("comparing branch heads: %w", err)
	}
	// Taken before any head is read: what is known here is not newer than those.
	known := s.known()
	arbiters := s.arbiters()
	var errs []error
	for _, r := range repos {
		if arbiters.of(string(r.ID)) != s.host.ID() {
			continue
		}
		if err := s.reconcile(ctx, r.ID, known[r.ID]); err != nil {
			errs = append(errs, fmt.Errorf("comparing branch heads of %s: %w", r.ID, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// known returns the latest job of every branch.
func (s *Service) known() map[taubyte.RepositoryID]map[taubyte.Branch]Job {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[taubyte.RepositoryID]map[taubyte.Branch]Job{}
	for id, b := range s.index.branches {
		if all[id.repository] == nil {
			all[id.repository] = map[taubyte.Branch]Job{}
		}
		all[id.repository][id.branch] = b.newest().job
	}
	return all
}

func (s *Service) reconcile(ctx context.Context, id taubyte.RepositoryID, known map[taubyte.Branch]Job) error {
	heads, err := s.opts.auth.Heads(ctx, id)
	if errors.Is(err, taubyte.ErrNotFound) {
		return nil // nothing was pushed yet; a repository that is gone removes nothing
	}
	if err != nil {
		return err
	}
	for b, commit := range heads {
		if known[b].Commit == commit {
			continue
		}
		if err := s.missed(ctx, auth.Push{Repository: id, Branch: b, Commit: commit}, known[b]); err != nil {
			return err
		}
	}
	for b, j := range known {
		if _, there := heads[b]; there || j.Deleted {
			continue
		}
		if err := s.missed(ctx, auth.Push{Repository: id, Branch: b}, j); err != nil {
			return err
		}
	}
	return nil
}

// missed submits a push unless the branch got a job meanwhile.
func (s *Service) missed(ctx context.Context, p auth.Push, known Job) error {
	s.mu.Lock()
	b := s.index.branches[branchID{p.Repository, p.Branch}]
	newer := b != nil && b.newest().id != known.ID
	s.mu.Unlock()
	if newer {
		return nil
	}
	j, err := s.Submit(ctx, p)
	if err == nil {
		s.log.Info("missed push taken up", "job", j.ID, "repository", p.Repository, "branch", p.Branch)
	}
	return err
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
		}
		select {
		case <-time.After(wait):
		case <-s.life.Done():
			return
		}
	}
}
