package auth

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	ds "github.com/ipfs/go-datastore"

	"github.com/taubyte/taubyte"
)

// The replicated keys of who has which repository:
//
//	/repositories/<id, escaped>/<project>/<peer>   a registration, by the node that made it
//	/sources/<project>/<id, escaped>               {}: has been the repository of its configuration
//	/left/repositories/<id, escaped>/<peer>        when the repository left its project
//	/left/sources/<project>/<peer>                 when the project lost its configuration's
//
// Two nodes may register one repository for two projects, or two repositories that both
// hold one project's configuration, while they don't know of each other. Every replica
// decides alike, on read: the older registration has it, and the other is none. An age
// never changes, whatever is registered again. Whoever leaves takes those down that lost
// to it: a registration that is not younger than a leaving counts no more, also where it
// arrives after it.
type registration struct {
	Repository
	Since   time.Time `json:"since"`             // its age
	Changed time.Time `json:"changed,omitempty"` // of two nodes' the later says what the repository is
}

type leaving struct {
	At time.Time `json:"at"`
}

// leavingsKept is how long a leaving is remembered. A node that was cut off for longer
// is no member any more, and nothing of it arrives.
const leavingsKept = taubyte.MaxMembershipLifetime

func repositoryPrefix(id taubyte.RepositoryID) string {
	return "/repositories/" + url.QueryEscape(string(id))
}

func sourcePrefix(id taubyte.ProjectID) string { return "/sources/" + string(id) }

func sourceKey(r Repository) ds.Key {
	return ds.RawKey(sourcePrefix(r.Project) + "/" + url.QueryEscape(string(r.ID)))
}

func leftRepository(id taubyte.RepositoryID) string {
	return "/left/repositories/" + url.QueryEscape(string(id))
}

func leftSources(id taubyte.ProjectID) string { return "/left/sources/" + string(id) }

// source reports whether such a repository holds its project's configuration, of which
// a project has one.
func (k Kind) source() bool { return k == KindProject || k == KindConfig }

// Register makes a repository part of a project. The same again changes nothing. A
// repository of another project is ErrConflict, and so is a second one with the
// project's configuration.
//
// It takes the verb administer on the project, or a node of role auth.
func (s *Service) Register(ctx context.Context, r Repository) (Repository, error) {
	if err := taubyte.Allow(ctx, taubyte.VerbAdminister, r.Project, taubyte.RoleAuth); err != nil {
		return r, err
	}
	provider, err := providerOf(r.ID)
	if err != nil {
		return r, err
	}
	r.Provider = provider
	if _, ok := s.providers[provider]; !ok {
		return r, s.noProvider(provider)
	}
	if err := r.Kind.check(); err != nil {
		return r, err
	}
	if r.Name == "" {
		r.Name = strings.TrimPrefix(string(r.ID), provider+"/")
	}
	r.Since = time.Time{}
	if _, err := s.project(ctx, r.Project); err != nil {
		return r, err
	}
	have, err := s.claim(ctx, r.ID)
	if err != nil {
		return r, err
	}
	if have != nil && have.Project != r.Project && have.Kind.source() { // it may have lost its project to another
		if first, err := s.firstSource(ctx, have.Project); err != nil {
			return r, err
		} else if first != nil && first.ID != r.ID {
			if err := s.leave(ctx, have.Repository, false); err != nil {
				return r, err
			}
			have = nil
		}
	}
	switch {
	case have != nil && have.Project != r.Project:
		return r, fmt.Errorf("%w: repository %s belongs to project %s", taubyte.ErrConflict, r.ID, have.Project)
	case r.Kind.source():
		first, err := s.firstSource(ctx, r.Project)
		if err != nil {
			return r, err
		}
		if first != nil && first.ID != r.ID {
			return r, sourceTaken(r.Project, first.ID)
		}
	}
	if have != nil && have.Repository == r {
		return have.public(), nil
	}
	return s.register(ctx, r, have)
}

// public is a registration as others see it.
func (r registration) public() Repository {
	r.Repository.Since = r.Since
	return r.Repository
}

func sourceTaken(project taubyte.ProjectID, by taubyte.RepositoryID) error {
	return fmt.Errorf("%w: project %s is that of the repository %s: give this one a project id of its own "+
		"(id in config/config.yaml), or take the other repository out of the project first", taubyte.ErrConflict, project, by)
}

// register writes a registration, as old as the one that the repository has.
func (s *Service) register(ctx context.Context, r Repository, have *registration) (Repository, error) {
	now := time.Now().UTC().Round(0)
	made := registration{Repository: r, Since: now, Changed: now}
	if have != nil {
		made.Since = have.Since
	} else {
		left, err := s.left(ctx, leftRepository(r.ID))
		if err != nil {
			return r, err
		}
		if r.Kind.source() {
			other, err := s.left(ctx, leftSources(r.Project))
			if err != nil {
				return r, err
			}
			left = later(left, other)
		}
		made.Since = later(now, left.Add(1)) // clocks differ
	}
	raw, err := json.Marshal(made)
	if err != nil {
		return r, err
	}
	batch, err := s.store.Batch(ctx)
	if err != nil {
		return r, err
	}
	key := ds.RawKey(repositoryPrefix(r.ID) + "/" + string(r.Project) + "/" + s.host.ID().String())
	if err := batch.Put(ctx, key, raw); err != nil {
		return r, err
	}
	if r.Kind.source() {
		if err := batch.Put(ctx, sourceKey(r), []byte("{}")); err != nil {
			return r, err
		}
	}
	return made.public(), batch.Commit(ctx)
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// left returns when what a prefix stands for was left last.
func (s *Service) left(ctx context.Context, prefix string) (last time.Time, err error) {
	err = each(ctx, s.store, prefix, func(_ string, l leaving) { last = later(last, l.At) })
	return last, err
}

// claim returns the registration that has a repository, nil where none has.
func (s *Service) claim(ctx context.Context, id taubyte.RepositoryID) (*registration, error) {
	left, err := s.left(ctx, leftRepository(id))
	if err != nil {
		return nil, err
	}
	var all []registration
	if err := each(ctx, s.store, repositoryPrefix(id), func(_ string, r registration) { all = append(all, r) }); err != nil {
		return nil, err
	}
	sourcesLeft := map[taubyte.ProjectID]time.Time{}
	for _, r := range all {
		if _, ok := sourcesLeft[r.Project]; !ok {
			if sourcesLeft[r.Project], err = s.left(ctx, leftSources(r.Project)); err != nil {
				return nil, err
			}
		}
	}
	return oldest(all, left, sourcesLeft), nil
}

// oldest returns which of a repository's registrations has it.
func oldest(all []registration, left time.Time, sourcesLeft map[taubyte.ProjectID]time.Time) *registration {
	byProject := map[taubyte.ProjectID]registration{}
	for _, r := range all {
		if !r.Since.After(left) || r.Kind.source() && !r.Since.After(sourcesLeft[r.Project]) {
			continue
		}
		if have, ok := byProject[r.Project]; ok { // of several nodes
			since := have.Since
			if r.Since.Before(since) {
				since = r.Since
			}
			if cmp.Or(r.Changed.Compare(have.Changed), strings.Compare(r.Name, have.Name), strings.Compare(string(r.Kind), string(have.Kind))) < 0 {
				r = have
			}
			r.Since = since
		}
		byProject[r.Project] = r
	}
	var best *registration
	for _, r := range byProject {
		if best == nil || r.Since.Before(best.Since) || r.Since.Equal(best.Since) && r.Project < best.Project {
			best = &r
		}
	}
	return best
}

// older orders registrations of two repositories.
func (r registration) older(o registration) bool {
	return r.Since.Before(o.Since) || r.Since.Equal(o.Since) && r.ID < o.ID
}

// firstSource returns which repository has a project's configuration, nil where none has.
func (s *Service) firstSource(ctx context.Context, id taubyte.ProjectID) (best *registration, err error) {
	ids, err := s.sources(ctx, id)
	if err != nil {
		return nil, err
	}
	for _, repository := range ids {
		r, err := s.claim(ctx, repository)
		if err != nil {
			return nil, err
		}
		if r != nil && r.Project == id && r.Kind.source() && (best == nil || r.older(*best)) {
			best = r
		}
	}
	return best, nil
}

// sources lists the repositories that may have a project's configuration.
func (s *Service) sources(ctx context.Context, id taubyte.ProjectID) (ids []taubyte.RepositoryID, err error) {
	err = each(ctx, s.store, sourcePrefix(id), func(key string, _ struct{}) {
		if id, err := url.QueryUnescape(key[strings.LastIndexByte(key, '/')+1:]); err == nil {
			ids = append(ids, taubyte.RepositoryID(id))
		}
	})
	return ids, err
}

// Repository returns a repository that belongs to a project. It takes the verb read on
// the project, or a node of the roles auth or patrick.
func (s *Service) Repository(ctx context.Context, id taubyte.RepositoryID) (Repository, error) {
	r, err := s.repository(ctx, id)
	if errors.Is(err, taubyte.ErrNotFound) {
		// Only who may see everything learns that it is not there.
		return r, cmp.Or(taubyte.Allow(ctx, taubyte.VerbRead, "", taubyte.RoleAuth, taubyte.RolePatrick), err)
	}
	if err != nil {
		return r, err
	}
	if err := taubyte.Allow(ctx, taubyte.VerbRead, r.Project, taubyte.RoleAuth, taubyte.RolePatrick); err != nil {
		return Repository{}, err
	}
	return r, nil
}

func (s *Service) repository(ctx context.Context, id taubyte.RepositoryID) (Repository, error) {
	r, err := s.claim(ctx, id)
	if err != nil {
		return Repository{}, err
	}
	if r == nil {
		return Repository{}, fmt.Errorf("%w: no project has the repository %s", taubyte.ErrNotFound, id)
	}
	if r.Kind.source() {
		first, err := s.firstSource(ctx, r.Project)
		if err != nil {
			return Repository{}, err
		}
		if first != nil && first.ID != id {
			return Repository{}, fmt.Errorf("%w: no project has the repository %s: project %s is that of %s",
				taubyte.ErrNotFound, id, r.Project, first.ID)
		}
	}
	return r.public(), nil
}

// Repositories lists the repositories of a project, or of all where id is empty: for a
// user, of those that it may read. A node has to be of the roles auth or patrick.
func (s *Service) Repositories(ctx context.Context, id taubyte.ProjectID) ([]Repository, error) {
	may, err := reading(ctx)
	if err != nil {
		return nil, err
	}
	if id != "" && !may(id) {
		return nil, taubyte.PrincipalOf(ctx).May(taubyte.VerbRead, id)
	}
	return s.repositories(ctx, func(p taubyte.ProjectID) bool { return (id == "" || id == p) && may(p) })
}

func (s *Service) repositories(ctx context.Context, wanted func(taubyte.ProjectID) bool) ([]Repository, error) {
	made := map[taubyte.RepositoryID][]registration{}
	err := each(ctx, s.store, "/repositories", func(_ string, r registration) { made[r.ID] = append(made[r.ID], r) })
	if err != nil {
		return nil, err
	}
	lefts := map[string]time.Time{} // by prefix
	err = each(ctx, s.store, "/left", func(key string, l leaving) {
		prefix := key[:strings.LastIndexByte(key, '/')]
		lefts[prefix] = later(lefts[prefix], l.At)
	})
	if err != nil {
		return nil, err
	}
	first := map[taubyte.ProjectID]registration{} // whose configuration is where
	var all []registration
	for id, rs := range made {
		sources := map[taubyte.ProjectID]time.Time{}
		for _, r := range rs {
			sources[r.Project] = lefts[leftSources(r.Project)]
		}
		r := oldest(rs, lefts[leftRepository(id)], sources)
		if r == nil {
			continue
		}
		all = append(all, *r)
		if have, ok := first[r.Project]; r.Kind.source() && (!ok || r.older(have)) {
			first[r.Project] = *r
		}
	}
	out := []Repository{}
	for _, r := range all {
		if wanted(r.Project) && (!r.Kind.source() || first[r.Project].ID == r.ID) {
			out = append(out, r.public())
		}
	}
	slices.SortFunc(out, func(a, b Repository) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return out, nil
}

// Unregister takes a repository out of its project, and with it what has lost to it. It
// takes the verb administer on the project, or a node of role auth.
func (s *Service) Unregister(ctx context.Context, id taubyte.RepositoryID) error {
	if err := taubyte.AllowNode(ctx, taubyte.RoleAuth); err != nil {
		return err
	}
	r, err := s.Repository(ctx, id)
	if err != nil {
		return err
	}
	if err := taubyte.Allow(ctx, taubyte.VerbAdminister, r.Project, taubyte.RoleAuth); err != nil {
		return err
	}
	return s.leave(ctx, r, true)
}

// leave takes a repository out of its project. Where it was the one with the project's
// configuration, those go that have lost to it.
func (s *Service) leave(ctx context.Context, r Repository, first bool) error {
	last := time.Now().UTC()
	removes, puts := []ds.Key{}, map[ds.Key]bool{}
	take := func(id taubyte.RepositoryID) error {
		return each(ctx, s.store, repositoryPrefix(id), func(key string, made registration) {
			if id == r.ID || made.Project == r.Project && made.Kind.source() {
				removes, last = append(removes, ds.RawKey(key)), later(last, made.Since)
			}
		})
	}
	own := "/" + s.host.ID().String()
	if err := take(r.ID); err != nil {
		return err
	}
	puts[ds.RawKey(leftRepository(r.ID)+own)] = true
	switch {
	case r.Kind.source() && !first:
		removes = append(removes, sourceKey(r))
	case r.Kind.source():
		ids, err := s.sources(ctx, r.Project)
		if err != nil {
			return err
		}
		for _, id := range ids {
			removes = append(removes, sourceKey(Repository{ID: id, Project: r.Project}))
			if id == r.ID {
				continue
			}
			if err := take(id); err != nil {
				return err
			}
		}
		puts[ds.RawKey(leftSources(r.Project)+own)] = true
	}
	batch, err := s.store.Batch(ctx)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(leaving{last})
	if err != nil {
		return err
	}
	for key := range maps.Keys(puts) {
		if err := batch.Put(ctx, key, raw); err != nil {
			return err
		}
	}
	for _, key := range removes {
		if err := batch.Delete(ctx, key); err != nil {
			return err
		}
	}
	return batch.Commit(ctx)
}

// tidyRegistrations forgets what was left long ago, and notes for registrations that
// were made before it was which repositories hold configurations.
func (s *Service) tidyRegistrations(ctx context.Context) error {
	var old, missing []ds.Key
	before := time.Now().Add(-leavingsKept)
	err := each(ctx, s.store, "/left", func(key string, l leaving) {
		if l.At.Before(before) {
			old = append(old, ds.RawKey(key))
		}
	})
	if err != nil {
		return err
	}
	err = each(ctx, s.store, "/repositories", func(_ string, r registration) {
		if r.Kind.source() {
			missing = append(missing, sourceKey(r.Repository))
		}
	})
	if err != nil {
		return err
	}
	for _, key := range missing {
		if there, err := s.store.Has(ctx, key); err != nil || there {
			if err != nil {
				return err
			}
			continue
		}
		if err := s.store.Put(ctx, key, []byte("{}")); err != nil {
			return err
		}
	}
	for _, key := range old {
		if err := s.store.Delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}
