package auth

import (
	"context"
	"encoding/json"
	"time"

	ds "github.com/ipfs/go-datastore"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth/internal/secrets"
)

// Administered is the check of AddRepository.
func (s *Service) Administered(ctx context.Context, a Addition) error {
	_, _, _, err := s.administered(ctx, a)
	return err
}

// ParseToken is for fuzzing.
func ParseToken(text string) (any, error) { return parseToken(text) }

// CheckDomainToken is for fuzzing.
func (s *Service) CheckDomainToken(ctx context.Context, text string) error {
	_, _, err := s.domainClaims(ctx, text)
	return err
}

// KeepCertificates keeps many at once, which ImportCertificate would read anew after each.
func (s *Service) KeepCertificates(ctx context.Context, all []Certificate) error {
	for _, c := range all {
		raw, err := json.Marshal(c)
		if err != nil {
			return err
		}
		if _, err := s.secrets.Put(ctx, callerOf(ctx), certificateName(c.Hosts), raw, secrets.ReaderRole(taubyte.RoleGateway)); err != nil {
			return err
		}
	}
	return nil
}

// PutRegistration writes what another node has written that did not know of this one's.
func (s *Service) PutRegistration(ctx context.Context, r Repository, by string, since time.Time) error {
	if err := s.put(ctx, sourceKey(r), struct{}{}); err != nil {
		return err
	}
	return s.put(ctx, ds.RawKey(repositoryPrefix(r.ID)+"/"+string(r.Project)+"/"+by), registration{Repository: r, Since: since, Changed: since})
}

// PutOldRegistration writes one as they were before they had the node's name.
func (s *Service) PutOldRegistration(ctx context.Context, r Repository, since time.Time) error {
	return s.put(ctx, ds.RawKey(repositoryPrefix(r.ID)+"/"+string(r.Project)), registration{Repository: r, Since: since})
}

// ProjectOf is for tests of which project has a repository.
func (s *Service) ProjectOf(ctx context.Context, id taubyte.RepositoryID) taubyte.ProjectID {
	r, _ := s.repository(ctx, id)
	return r.Project
}
