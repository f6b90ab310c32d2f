package patrick

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/claim"
)

// retainMost is the longest time between two looks for jobs that are past their retention.
const retainMost = 10 * time.Minute

// missingFor is how long a repository must not be registered until its jobs go as those of
// one that is removed.
const missingFor = time.Hour

// retainAgain drops jobs past their retention, again and again.
func (s *Service) retainAgain() {
	every := retainMost
	if s.opts.age > 0 {
		every = min(max(s.opts.age/20, time.Second), every)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.life.Done():
			return
		}
		if err := s.retain(s.life, time.Now()); err != nil && s.life.Err() == nil {
			s.log.Warn("old jobs are not dropped", "err", err)
		}
	}
}

// pastJob is a job that is past its retention.
type pastJob struct {
	id      taubyte.JobID
	project taubyte.ProjectID
	branch  taubyte.Branch
	logs    []logPart
	removed bool // its branch or repository is, so that it runs nothing
}

// retain drops what is past its retention of the branches that this node is the arbiter of.
// It goes on after a branch of which something can't be dropped.
func (s *Service) retain(ctx context.Context, now time.Time) error {
	if s.opts.age == 0 && s.opts.count == 0 {
		return nil
	}
	repositories, err := s.opts.auth.Repositories(taubyte.AsService(ctx), "")
	if err != nil {
		return fmt.Errorf("reading the repositories: %w", err)
	}
	registered := map[taubyte.RepositoryID]bool{}
	for _, r := range repositories {
		registered[r.ID] = true
	}
	live := s.live()
	var branches [][]pastJob
	s.mu.Lock()
	missing := map[taubyte.RepositoryID]time.Time{}
	for id, b := range s.index.branches {
		// What a node of auth that has just started does not know may be on its way to it.
		if !registered[id.repository] {
			missing[id.repository] = cmp.Or(missing[id.repository], s.missing[id.repository], now)
		}
		removed := !registered[id.repository] && now.Sub(missing[id.repository]) >= missingFor
		if claim.Arbiter(branchKey(id.repository, id.branch), live) != s.host.ID() {
			continue
		}
		if past := b.past(now, s.opts.age, s.opts.count, removed); len(past) > 0 {
			branches = append(branches, past)
		}
	}
	s.missing = missing
	// What came after its job had gone.
	for id, e := range s.index.all {
		if e.spec == nil && now.Sub(e.born) > strandedFor && claim.Arbiter(string(id), live) == s.host.ID() {
			branches = append(branches, []pastJob{{id: id, logs: e.parts(), removed: true}})
		}
	}
	s.mu.Unlock()
	var errs []error
	for _, past := range branches {
		if err := s.dropPast(ctx, past); err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return errors.Join(errs...)
}

// past returns the jobs of a branch that are past their retention, the oldest first.
func (b *branch) past(now time.Time, age time.Duration, count int, removed bool) []pastJob {
	newest := b.newest()
	removed = removed || newest.job.Deleted && newest.job.State == Succeeded
	good := newest
	for _, e := range slices.Backward(b.jobs) {
		if e.job.State == Succeeded {
			good = e
			break
		}
	}
	old := func(e *entry) bool {
		at := e.job.Ended
		if at.Before(e.job.Created) {
			at = e.job.Created
		}
		return e.job.State.Done() && age > 0 && now.Sub(at) > age
	}
	// A removed branch goes as a whole: as long as it has jobs it is known to be removed.
	whole := removed && !slices.ContainsFunc(b.jobs, func(e *entry) bool { return !old(e) })
	var past []pastJob
	ended := 0
	for _, e := range slices.Backward(b.jobs) {
		if !e.job.State.Done() {
			continue
		}
		ended++
		many := count > 0 && ended > count
		if !whole && (!old(e) && !many || e == newest || e == good) {
			continue
		}
		past = append(past, pastJob{id: e.id, project: e.job.Project, branch: e.job.Branch, logs: e.parts(), removed: whole})
	}
	slices.Reverse(past)
	return past
}

// parts are all that hoarder keeps of a job.
func (e *entry) parts() (all []logPart) {
	for _, parts := range e.logs {
		for _, part := range parts {
			all = append(all, part)
		}
	}
	return all
}

// dropPast drops jobs of one branch, but not those whose results run.
func (s *Service) dropPast(ctx context.Context, past []pastJob) error {
	if !past[0].removed {
		runs, err := s.opts.deployed(taubyte.AsService(ctx), past[0].project, past[0].branch)
		if err != nil && !errors.Is(err, taubyte.ErrNotFound) {
			return fmt.Errorf("asking what branch %s of %s runs: %w", past[0].branch, past[0].project, err)
		}
		past = slices.DeleteFunc(past, func(p pastJob) bool { return slices.Contains(runs, p.id) })
	}
	for _, p := range past {
		if err := s.drop(ctx, p); err != nil {
			return fmt.Errorf("dropping job %s: %w", p.id, err)
		}
	}
	if len(past) > 0 {
		s.log.Info("old jobs dropped", "project", past[0].project, "branch", past[0].branch, "jobs", len(past))
	}
	return nil
}

// drop removes a job, and its logs first: as long as they are there it says where.
func (s *Service) drop(ctx context.Context, p pastJob) error {
	for _, part := range p.logs {
		root, err := cid.Decode(part.CID)
		if err != nil {
			continue
		}
		if err := s.opts.keeper.Release(taubyte.AsService(ctx), root, part.Project); err != nil {
			return err
		}
	}
	res, err := s.store.Query(ctx, query.Query{Prefix: jobsPrefix + "/" + string(p.id), KeysOnly: true})
	if err != nil {
		return err
	}
	all, err := res.Rest()
	if err != nil {
		return err
	}
	b, err := s.store.Batch(ctx)
	if err != nil {
		return err
	}
	for _, e := range all {
		if err := b.Delete(ctx, ds.RawKey(e.Key)); err != nil {
			return err
		}
	}
	if err := b.Commit(ctx); err != nil {
		return err
	}
	s.gone(specKey(p.id).String())
	return nil
}

// gone takes in that a record is no more. A job goes with its specification.
func (s *Service) gone(key string) {
	r, ok := parseKey(key)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.index.all[r.job]; e != nil && e.spec == nil {
		delete(s.index.all, r.job)
	}
	if r.kind == "spec" && s.index.remove(r.job) {
		s.dropped[r.job] = true
		s.wake()
		s.logsEnded()
	}
}

// reload reads the records under a prefix where it is not known which have changed.
func (s *Service) reload(ctx context.Context, prefix string) error {
	s.mu.Lock()
	before := slices.Clone(s.index.ids)
	s.mu.Unlock()
	if err := s.load(ctx, ds.NewKey(prefix)); err != nil || prefix != jobsPrefix {
		return err
	}
	for _, id := range before {
		has, err := s.store.Has(ctx, specKey(id))
		if err != nil {
			return err
		}
		if !has {
			s.gone(specKey(id).String())
		}
	}
	return nil
}
