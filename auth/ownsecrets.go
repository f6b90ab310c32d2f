package auth

import (
	"context"
	"errors"
	"fmt"

	"github.com/taubyte/taubyte"
)

// ownPrefix is that of the secrets of services of role auth themselves, which have no
// reader.
const ownPrefix = "own/"

// KeepOwnSecret keeps a secret that services on nodes of role auth share, such as the key
// of an account at a certificate authority. It is sealed and replicated to the other auth
// nodes, and given to nobody else: no path of the API between nodes leads to it. The last
// one that was kept counts; of two that were kept at the same time all nodes take the same.
//
// For the administrator and nodes of role auth. ErrInvalid: the name is none.
func (s *Service) KeepOwnSecret(ctx context.Context, name string, value []byte) error {
	if err := taubyte.PrincipalOf(ctx).HasRole(taubyte.RoleAuth); err != nil {
		return err
	}
	_, err := s.secrets.Put(ctx, callerOf(ctx), ownPrefix+name, value)
	return err
}

// OwnSecret returns what KeepOwnSecret keeps. The access is in the audit log.
//
// For the administrator and nodes of role auth. ErrNotFound: there is none, nor have the
// auth nodes that are connected. ErrUnavailable: this node was given no key for it yet.
func (s *Service) OwnSecret(ctx context.Context, name string) ([]byte, error) {
	if err := taubyte.PrincipalOf(ctx).HasRole(taubyte.RoleAuth); err != nil {
		return nil, err
	}
	value, _, err := s.secrets.Get(ctx, callerOf(ctx), ownPrefix+name)
	if !errors.Is(err, taubyte.ErrNotFound) {
		return value, err
	}
	if err := s.store.Synced(ctx); err != nil {
		return nil, fmt.Errorf("%w: secret %s: %w", taubyte.ErrUnavailable, name, err)
	}
	value, _, err = s.secrets.Get(ctx, callerOf(ctx), ownPrefix+name)
	return value, err
}

// KeepOwnSecret is Service.KeepOwnSecret. ErrUnavailable: the node does not run auth.
func (c *Client) KeepOwnSecret(ctx context.Context, name string, value []byte) error {
	if s := c.local(); s != nil {
		return s.KeepOwnSecret(ctx, name, value)
	}
	return fmt.Errorf("%w: auth does not run on this node", taubyte.ErrUnavailable)
}

// OwnSecret is Service.OwnSecret. ErrUnavailable: the node does not run auth.
func (c *Client) OwnSecret(ctx context.Context, name string) ([]byte, error) {
	if s := c.local(); s != nil {
		return s.OwnSecret(ctx, name)
	}
	return nil, fmt.Errorf("%w: auth does not run on this node", taubyte.ErrUnavailable)
}
