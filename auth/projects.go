package auth

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	ds "github.com/ipfs/go-datastore"
	"github.com/multiformats/go-multihash"

	"github.com/taubyte/taubyte"
)

// newProjectID makes an id that nobody has: of 32 random bytes, in the form of the ids
// that projects have elsewhere.
func newProjectID() (taubyte.ProjectID, error) {
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails
	hash, err := multihash.Sum(random, multihash.SHA2_256, -1)
	if err != nil {
		return "", fmt.Errorf("making a project id: %w", err)
	}
	return taubyte.ProjectID(hash.B58String()), nil
}

// CreateProject makes a project known. Without an ID it is given a new one. Of a project
// that is there the same again changes nothing, and another name renames it. Two projects
// may have one name.
//
// It takes the verb administer on the project (where the service makes the id: on all),
// or a node of role auth.
func (s *Service) CreateProject(ctx context.Context, p Project) (Project, error) {
	if p.ID != "" {
		if err := checkProjectID(p.ID); err != nil {
			return p, err
		}
	}
	if err := taubyte.Allow(ctx, taubyte.VerbAdminister, p.ID, taubyte.RoleAuth); err != nil {
		return p, err
	}
	if p.ID == "" {
		if err := checkProjectName(p.Name); err != nil {
			return p, err
		}
		var err error
		if p.ID, err = newProjectID(); err != nil {
			return p, err
		}
	} else if have, err := s.project(ctx, p.ID); err == nil && have == p {
		return p, nil
	}
	return p, s.put(ctx, projectKey(p.ID), p)
}

// maxProjectName bounds the bytes of a project's name.
const maxProjectName = 100

// checkProjectName checks a name that a person gives. Those of configurations are theirs.
func checkProjectName(name string) error {
	if name == "" || len(name) > maxProjectName || strings.TrimSpace(name) != name || strings.ContainsFunc(name, unicode.IsControl) {
		return fmt.Errorf("%w name of a project %.150q: it is empty, longer than %d bytes, or has spaces around it or control characters in it",
			taubyte.ErrInvalid, name, maxProjectName)
	}
	return nil
}

// Project returns a project. It takes the verb read on it, or a node of the roles auth or
// patrick.
func (s *Service) Project(ctx context.Context, id taubyte.ProjectID) (Project, error) {
	if err := checkProjectID(id); err != nil {
		return Project{}, err
	}
	if err := taubyte.Allow(ctx, taubyte.VerbRead, id, taubyte.RoleAuth, taubyte.RolePatrick); err != nil {
		return Project{}, err
	}
	return s.project(ctx, id)
}

func (s *Service) project(ctx context.Context, id taubyte.ProjectID) (p Project, err error) {
	raw, err := s.store.Get(ctx, projectKey(id))
	if errors.Is(err, ds.ErrNotFound) {
		return p, fmt.Errorf("%w: project %s", taubyte.ErrNotFound, id)
	}
	if err != nil {
		return p, err
	}
	return p, json.Unmarshal(raw, &p)
}

// Projects lists the projects, by id: for a user those that it may read. A node has to
// be of the roles auth or patrick.
func (s *Service) Projects(ctx context.Context) ([]Project, error) {
	may, err := reading(ctx)
	if err != nil {
		return nil, err
	}
	all := []Project{}
	err = each(ctx, s.store, "/projects", func(_ string, p Project) {
		if may(p.ID) {
			all = append(all, p)
		}
	})
	slices.SortFunc(all, func(a, b Project) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return all, err
}

// reading says of which projects the principal of ctx may see what auth knows.
func reading(ctx context.Context) (may func(taubyte.ProjectID) bool, err error) {
	p := taubyte.PrincipalOf(ctx)
	if err := taubyte.AllowNode(ctx, taubyte.RoleAuth, taubyte.RolePatrick); err != nil {
		return nil, err
	}
	if len(p.Repositories) > 0 {
		return nil, p.May(taubyte.VerbRead, "")
	}
	return func(id taubyte.ProjectID) bool {
		return p.Kind == taubyte.KindNode || p.May(taubyte.VerbRead, id) == nil
	}, nil
}

// RemoveProject forgets a project, the registrations of its repositories and its secrets.
// What it has deployed is tns's to remove. It takes the verb administer on the project, or a
// node of role auth.
func (s *Service) RemoveProject(ctx context.Context, id taubyte.ProjectID) error {
	if err := taubyte.Allow(ctx, taubyte.VerbAdminister, id, taubyte.RoleAuth); err != nil {
		return err
	}
	repos, err := s.repositories(ctx, func(p taubyte.ProjectID) bool { return p == id })
	if err != nil {
		return err
	}
	for _, r := range repos {
		if err := s.leave(ctx, r, true); err != nil {
			return err
		}
	}
	if err := s.removeVariables(ctx, id); err != nil {
		return err
	}
	return s.store.Delete(ctx, projectKey(id))
}
