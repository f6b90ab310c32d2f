package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/taubyte/taubyte"
)

// keyWait is how long a new deploy key may take until the provider lets it in.
const keyWait = 15 * time.Second

// RotateDeployKey gives a repository at a provider another deploy key: a new one is made, the
// repository is read with it, and only then the old one is removed. Builds go on
// meanwhile. The same again finishes what broke off. The provider is asked by a credential
// there, or by its own.
//
// For the administrator, nodes of role auth, and users that may administer the project.
// ErrInvalid: the provider gives no deploy keys. ErrUnavailable: the provider does not
// answer or the new key does not work; then the old one is still used.
func (s *Service) RotateDeployKey(ctx context.Context, id taubyte.RepositoryID, credential string) error {
	r, remote, p, err := s.managed(ctx, id, credential)
	if err != nil {
		return err
	}
	if p == nil {
		return fmt.Errorf("%w: repositories of %s have no deploy keys", taubyte.ErrInvalid, r.Provider)
	}
	now, _, err := s.keyOf(ctx, id, deployKey)
	if err != nil {
		return err
	}
	next, public, err := s.keyOf(ctx, id, nextKey)
	if err != nil {
		return err
	}
	if next == nil {
		if next, public, err = newDeployKey(); err != nil {
			return err
		}
		// Kept before the provider has it: what it has is never unknown here.
		if _, err := s.secrets.Put(ctx, callerOf(ctx), secretName(id, nextKey), next); err != nil {
			return err
		}
	}
	if !bytes.Equal(now, next) {
		if err := p.AddKey(ctx, remote, "taubyte "+string(r.Project), public); err != nil {
			return err
		}
		if err := s.works(ctx, r, next); err != nil {
			return fmt.Errorf("the new deploy key of %s: %w", r.Name, err)
		}
		if now != nil {
			if _, err := s.secrets.Put(ctx, callerOf(ctx), secretName(id, previousKey), now); err != nil {
				return err
			}
		}
		if _, err := s.secrets.Put(ctx, callerOf(ctx), secretName(id, deployKey), next); err != nil {
			return err
		}
	}
	_, previous, err := s.keyOf(ctx, id, previousKey)
	if err != nil {
		return err
	}
	if previous != "" {
		if err := p.RemoveKey(ctx, remote, previous); err != nil {
			return fmt.Errorf("the new deploy key of %s is used, and the old one is not removed yet: %w", r.Name, err)
		}
	}
	for _, what := range []string{previousKey, nextKey} {
		if err := s.secrets.Delete(ctx, callerOf(ctx), secretName(id, what)); err != nil && !errors.Is(err, taubyte.ErrNotFound) {
			return err
		}
	}
	s.log.Info("deploy key rotated", "repository", id, "name", r.Name)
	return nil
}

// works returns when a repository was read with a key. One without a commit has nothing to
// be read, and no key that could be wrong for it.
func (s *Service) works(ctx context.Context, r Repository, key []byte) error {
	remote := remoteOf(r)
	remote.Key = key
	from := s.providers[r.Provider]
	heads, err := from.Heads(ctx, remote)
	if err != nil || len(heads) == 0 {
		return err
	}
	branches := make([]taubyte.Branch, 0, len(heads))
	for b := range heads {
		branches = append(branches, b)
	}
	commit := heads[slices.Min(branches)]
	ctx, cancel := context.WithTimeout(ctx, keyWait)
	defer cancel()
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		reading, enough := context.WithCancel(ctx)
		read := &firstByte{enough: enough}
		err := from.Source(reading, remote, commit, read)
		enough()
		switch {
		case err == nil, read.yes:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%w: it does not open the repository: %w", taubyte.ErrUnavailable, err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("%w: it does not open the repository: %w", taubyte.ErrUnavailable, err)
		}
	}
}

// firstByte ends a reading that has begun.
type firstByte struct {
	enough context.CancelFunc
	yes    bool
}

func (f *firstByte) Write(p []byte) (int, error) {
	f.yes = true
	f.enough()
	return 0, errors.New("that is enough")
}
