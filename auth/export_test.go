package auth

import (
	"context"
	"encoding/json"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth/internal/secrets"
)

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
