package tns

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/tns/config"
)

// defaultHistory is how many deployments of a branch are kept. One is as large as
// the project's configuration.
const defaultHistory = 100

// How the objects of the history come here.
const (
	keepers     = 8
	keepTimeout = 10 * time.Second // for one object, before the next is tried
	askTimeout  = time.Second      // how long a reader waits for what is not here
)

// History returns the deployments that a branch has run, the newest first. Those of more
// than 512 KiB are in short: of configurations they have the ID and the name, and no assets.
// Diff compares them whole. Of one that no node
// in reach has only Sequence and Time are known: it is marked Missing.
//
// Every node may call it; of users, it takes the verb read on the project.
func (s *Service) History(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch) ([]*Deployment, error) {
	if err := taubyte.Allow(ctx, taubyte.VerbRead, project, taubyte.Roles()...); err != nil {
		return nil, err
	}
	history, err := s.history(ctx, branchKey{project, branch})
	if err != nil {
		return nil, err
	}
	all := make([]*Deployment, len(history))
	for i, p := range history {
		all[i] = p.deployment
	}
	return all, nil
}

// past is a deployment of a history in short, and its object.
type past struct {
	object     cid.Cid
	deployment *Deployment
}

func (s *Service) history(ctx context.Context, k branchKey) ([]past, error) {
	entries, err := s.entries(ctx, k)
	if err != nil {
		return nil, err
	}
	entries = slices.DeleteFunc(entries, func(e entry) bool { return e.Removed })
	slices.SortFunc(entries, func(a, b entry) int { return int(int64(b.sequence) - int64(a.sequence)) })
	all := make([]past, len(entries))
	ask, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	slots := make(chan struct{}, keepers)
	for i, e := range entries {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			d, err := s.shortOr(ask, e.object)
			if err != nil && !errors.Is(err, taubyte.ErrInvalid) && ctx.Err() == nil {
				d, err = &Deployment{Project: k.project, Branch: k.branch, Sequence: e.sequence, Time: e.Time, Missing: true}, nil
			}
			if err != nil {
				mu.Lock()
				failed = err
				mu.Unlock()
			}
			all[i] = past{e.object, d}
		})
	}
	wg.Wait()
	if failed != nil {
		return nil, fmt.Errorf("history of %s %s: %w", k.project, k.branch, failed)
	}
	return slices.DeleteFunc(all, func(p past) bool { return !p.deployment.Missing && p.deployment.removed() }), nil
}

// short is a large deployment as a history lists it.
func (d *Deployment) short() *Deployment {
	short := *d
	short.Parts, short.Claims, short.Conflicts = make(map[taubyte.RepositoryID]Part, len(d.Parts)), nil, nil
	for id, p := range d.Parts {
		p.Assets, p.Encodings = nil, nil
		if p.Config != nil {
			p.Config = &config.Project{ID: p.Config.ID, Name: p.Config.Name}
		}
		short.Parts[id] = p
	}
	return &short
}

// at finds a deployment of a branch's history that is here.
func (s *Service) at(ctx context.Context, k branchKey, is func(*Deployment) bool, name string) (*Deployment, error) {
	history, err := s.history(ctx, k)
	if err != nil {
		return nil, err
	}
	// Two sides of a partition may have given one number: one that is here will do.
	i := slices.IndexFunc(history, func(p past) bool { return is(p.deployment) && !p.deployment.Missing })
	if i < 0 {
		i = slices.IndexFunc(history, func(p past) bool { return is(p.deployment) })
	}
	if i < 0 {
		return nil, fmt.Errorf("%w: no deployment %s of %s %s", taubyte.ErrNotFound, name, k.project, k.branch)
	}
	if history[i].deployment.Missing {
		return nil, fmt.Errorf("%w: no node in reach has deployment %s of %s %s", taubyte.ErrUnavailable, name, k.project, k.branch)
	}
	raw, err := s.localOr(ctx, history[i].object)
	if err != nil {
		return nil, fmt.Errorf("%w: deployment %s of %s %s: %w", taubyte.ErrUnavailable, name, k.project, k.branch, err)
	}
	return decode(raw)
}

// Rollback makes an earlier deployment of the branch current again, as a new one.
// Builds of later pushes win over it; those that were published before do not come
// back by being delivered again.
//
// It takes a node of the roles monkey or tns, or the verb deploy on the project.
func (s *Service) Rollback(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch, sequence uint64) (*Deployment, error) {
	if err := taubyte.Allow(ctx, taubyte.VerbDeploy, project, publishers...); err != nil {
		return nil, err
	}
	k := branchKey{project, branch}
	d, err := s.at(ctx, k, func(d *Deployment) bool { return d.Sequence == sequence }, fmt.Sprint(sequence))
	if err != nil {
		return nil, err
	}
	back, err := s.change(ctx, k, func(*Deployment, map[taubyte.RepositoryID]uint64) (map[taubyte.RepositoryID]Part, error) {
		return d.Parts, nil
	})
	if err != nil || back == nil {
		return back, err
	}
	return s.withConflicts(back), nil
}

// Assets lists the roots of all that any deployment in a project's history was made
// of, encodings included. What a project keeps beyond it is of no more use to anyone. It waits for what the
// other replicas in reach know, and fails while part of the history is not here: who
// deletes by it must know all.
//
// Every node may call it; of users, it takes the verb read on the project.
func (s *Service) Assets(ctx context.Context, project taubyte.ProjectID) ([]cid.Cid, error) {
	if err := taubyte.Allow(ctx, taubyte.VerbRead, project, taubyte.Roles()...); err != nil {
		return nil, err
	}
	if err := s.store.Synced(ctx); err != nil {
		return nil, fmt.Errorf("%w: history of %s: %w", taubyte.ErrUnavailable, project, err)
	}
	roots := cid.NewSet()
	var objects []cid.Cid
	err := s.eachEntry(ctx, historyPrefix+"/"+string(project), func(e entry) {
		if e.project == project {
			objects = append(objects, e.object)
		}
	})
	if err != nil {
		return nil, err
	}
	for _, c := range objects {
		raw, err := s.local(ctx, c)
		if ipld.IsNotFound(err) {
			return nil, fmt.Errorf("%w: part of the history of %s is not here yet", taubyte.ErrUnavailable, project)
		}
		if err != nil {
			return nil, err
		}
		d, err := decode(raw)
		if err != nil {
			return nil, err
		}
		for _, p := range d.Parts {
			for _, root := range p.Assets {
				roots.Add(root)
			}
			for _, root := range p.Encodings {
				roots.Add(root)
			}
		}
	}
	all := roots.Keys()
	slices.SortFunc(all, func(a, b cid.Cid) int { return slices.Compare(a.Bytes(), b.Bytes()) })
	return all, nil
}

// outdated are the entries that leave a branch's history when one is added: all but
// the newest and the tips. What one of them follows is older and no tip, so it leaves
// as well.
func (s *Service) outdated(ctx context.Context, next entry) ([]entry, error) {
	if next.sequence <= uint64(s.opts.history) {
		return nil, nil
	}
	all, err := s.entries(ctx, next.branchKey)
	if err != nil {
		return nil, err
	}
	all = append(all, next)
	if len(all) <= s.opts.history {
		return nil, nil
	}
	slices.SortFunc(all, func(a, b entry) int { return int(int64(b.sequence) - int64(a.sequence)) })
	oldest := all[s.opts.history-1].sequence
	ends := tips(all)
	return slices.DeleteFunc(all, func(e entry) bool {
		return e.sequence >= oldest || slices.ContainsFunc(ends, func(end entry) bool { return end.object == e.object })
	}), nil
}

// keeper fetches the objects of the whole history to this node in the background, so
// that it can be read and gone back to when the node that published is gone.
type keeper struct {
	get    func(context.Context, cid.Cid) error
	signal chan struct{}

	mu   sync.Mutex
	want map[cid.Cid]bool // true: failed in this round
}

func newKeeper(get func(context.Context, cid.Cid) error) *keeper {
	return &keeper{get: get, signal: make(chan struct{}, 1), want: map[cid.Cid]bool{}}
}

func (k *keeper) add(c cid.Cid) {
	k.mu.Lock()
	k.want[c] = false
	k.mu.Unlock()
	select {
	case k.signal <- struct{}{}:
	default:
	}
}

func (k *keeper) drop(c cid.Cid) {
	k.mu.Lock()
	delete(k.want, c)
	k.mu.Unlock()
}

// take returns some that were not tried in this round, and whether any were.
func (k *keeper) take() (some []cid.Cid, failed bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for c, tried := range k.want {
		if failed = failed || tried; !tried {
			if some = append(some, c); len(some) == 4*keepers {
				break
			}
		}
	}
	return some, failed
}

func (k *keeper) run(ctx context.Context) {
	const least, most = time.Second, time.Minute
	wait := least
	for ctx.Err() == nil {
		some, failed := k.take()
		if len(some) > 0 {
			if k.fetch(ctx, some) {
				wait = least
			}
			continue
		}
		var again <-chan time.Time
		if failed {
			again = time.After(wait)
		}
		select {
		case <-k.signal:
		case <-again:
			wait = min(wait*2, most)
			k.mu.Lock()
			for c := range k.want {
				k.want[c] = false
			}
			k.mu.Unlock()
		case <-ctx.Done():
		}
	}
}

// fetch reports whether any came.
func (k *keeper) fetch(ctx context.Context, some []cid.Cid) bool {
	var wg sync.WaitGroup
	work := make(chan cid.Cid, len(some))
	for _, c := range some {
		work <- c
	}
	close(work)
	var mu sync.Mutex
	came := false
	for range min(keepers, len(some)) {
		wg.Go(func() {
			for c := range work {
				one, cancel := context.WithTimeout(ctx, keepTimeout)
				err := k.get(one, c)
				cancel()
				k.mu.Lock()
				_, wanted := k.want[c]
				switch {
				case err == nil:
					delete(k.want, c)
				case wanted:
					k.want[c] = true
				}
				k.mu.Unlock()
				if err == nil {
					mu.Lock()
					came = true
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return came
}

// keep has an object of the history fetched if it is not here.
func (s *Service) keep(ctx context.Context, c cid.Cid) {
	all, whole, err := s.has(ctx, c)
	if err == nil && !whole {
		s.keeper.add(c)
	}
	for _, one := range all {
		if err == nil && whole {
			err = s.blocks.Mark(ctx, one)
		}
	}
	if err != nil && ctx.Err() == nil {
		s.opts.log.Warn("a deployment is not looked after", "object", c, "err", err)
	}
}

// forget deletes an object that left the history.
func (s *Service) forget(ctx context.Context, c cid.Cid) {
	s.keeper.drop(c)
	all, _, err := s.has(ctx, c)
	for _, one := range all {
		if err == nil {
			if err = s.blocks.Blockstore().DeleteBlock(ctx, one); ipld.IsNotFound(err) {
				err = nil
			}
		}
	}
	if err != nil && ctx.Err() == nil {
		s.opts.log.Warn("old deployment not deleted", "object", c, "err", err)
	}
}
