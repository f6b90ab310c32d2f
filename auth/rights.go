package auth

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"
)

// rightsFor is how long a provider's word counts that a credential administers a
// repository. It is never trusted for longer: without an answer of the provider there is
// no right.
const rightsFor = time.Minute

// maxRights bounds what is remembered.
const maxRights = 4096

// rights are what providers have said of credentials, which are known by their hashes.
// Refusals are not kept: a right that was just given counts at once.
type rights struct {
	now func() time.Time

	mu    sync.Mutex
	known map[right]administered
}

type right struct {
	provider, repository string
	credential           [sha256.Size]byte
}

type administered struct {
	found RemoteRepository
	until time.Time
}

// repository is p.Repository for a caller that wants to know what its credential may.
func (r *rights) repository(ctx context.Context, provider string, p RepositoryProvider, asked string, remote Remote) (RemoteRepository, error) {
	key := right{provider, asked, sha256.Sum256([]byte(remote.Credential))}
	began := r.now()
	r.mu.Lock()
	have, ok := r.known[key]
	r.mu.Unlock()
	if ok && began.Before(have.until) {
		return have.found, nil
	}
	found, err := p.Repository(ctx, remote)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil || !found.Administered {
		delete(r.known, key)
		return found, err
	}
	if len(r.known) >= maxRights {
		for k, a := range r.known {
			if !began.Before(a.until) {
				delete(r.known, k)
			}
		}
		if len(r.known) >= maxRights {
			clear(r.known)
		}
	}
	if r.known == nil {
		r.known = map[right]administered{}
	}
	r.known[key] = administered{found, began.Add(rightsFor)} // as it was when the provider was asked
	return found, nil
}
