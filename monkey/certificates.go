package monkey

import (
	"context"
	"fmt"
	"slices"

	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/tns/config"
)

// Certificates is what monkey needs of auth: to keep the private keys that a
// configuration holds.
type Certificates interface {
	KeepInlineCertificate(ctx context.Context, c auth.InlineCertificate) (reference string, err error)
}

// withoutKeys returns a configuration as the registry may have it: the private keys of
// inline certificates are given to auth, and references stand in their place.
func (b *build) withoutKeys(ctx context.Context, c *config.Project) (*config.Project, error) {
	if c == nil {
		return nil, nil
	}
	shown := *c
	shown.Applications = slices.Clone(c.Applications)
	scopes := []*config.Resources{&shown.Resources}
	for i := range shown.Applications {
		scopes = append(scopes, &shown.Applications[i].Resources)
	}
	for _, r := range scopes {
		r.Domains = slices.Clone(r.Domains)
		for i := range r.Domains {
			d := &r.Domains[i]
			if d.KeyFile == "" {
				continue
			}
			in := auth.InlineCertificate{
				Project: b.job.Project, Branch: b.job.Branch, Domain: d.ID, Host: d.FQDN, Cert: d.CertFile, Key: d.KeyFile,
			}
			err := persist(ctx, b.s.o.publishTimeout, func(ctx context.Context) (err error) {
				if err := b.held.confirm(ctx); err != nil {
					return err
				}
				d.KeyFile, err = b.s.o.certs.KeepInlineCertificate(ctx, in)
				return ofService(err)
			})
			if err != nil {
				return nil, fmt.Errorf("keeping the certificate of domain %s: %w", d.Name, err)
			}
		}
	}
	return &shown, nil
}
