package taubyte

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
)

// maxRevocations bounds what a node remembers and hands over. They end, and a
// network that revokes so many nodes within a month makes itself new keys.
const maxRevocations = 4096

// maxRevocationSize bounds one, signed.
const maxRevocationSize = 1 << 10

// Revocation says that a peer is no member any more, whatever membership it shows.
// It ends when every membership has that was signed before it; by then whoever
// renews memberships has long refused to.
type Revocation struct {
	Peer     peer.ID   `json:"peer"`
	Issued   time.Time `json:"issued"`
	NotAfter time.Time `json:"notAfter"`
}

// revocationRecord is Revocation as the payload of a libp2p signed envelope.
type revocationRecord struct{ Revocation }

func (*revocationRecord) Domain() string { return "taubyte-revocation-v1" }
func (*revocationRecord) Codec() []byte  { return []byte("/taubyte/revocation/1") }
func (r *revocationRecord) MarshalRecord() ([]byte, error) {
	return json.Marshal(r.Revocation)
}
func (r *revocationRecord) UnmarshalRecord(b []byte) error {
	return json.Unmarshal(b, &r.Revocation)
}

// Revoke signs that p is no member any more. Members.Revoke makes it known. A node
// that comes back does so under a new identity.
func (a *Authority) Revoke(p peer.ID) ([]byte, error) {
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("%w member: %w", ErrInvalid, err)
	}
	now := time.Now().UTC()
	env, err := record.Seal(&revocationRecord{Revocation{
		// A membership may begin a little later by another clock.
		Peer: p, Issued: now, NotAfter: now.Add(MaxMembershipLifetime + 2*clockSkew),
	}}, a.state.Load().keys[0])
	if err != nil {
		return nil, fmt.Errorf("signing the revocation of %s: %w", p, err)
	}
	return env.Marshal()
}

// VerifyRevocation checks what the network's root should have signed. It returns
// ErrForbidden with the reason, also for one that has ended.
func (n Network) VerifyRevocation(signed []byte, now time.Time) (Revocation, error) {
	var rec revocationRecord
	if len(signed) > maxRevocationSize {
		return rec.Revocation, fmt.Errorf("%w: a revocation of %d bytes", ErrForbidden, len(signed))
	}
	env, err := record.ConsumeTypedEnvelope(signed, &rec)
	switch {
	case err != nil:
		err = fmt.Errorf("%w: revocation: %w", ErrForbidden, err)
	case !n.trusts(env.PublicKey):
		err = fmt.Errorf("%w: revocation of %s: %w", ErrForbidden, rec.Peer, errOtherRoot)
	case rec.Peer.Validate() != nil:
		err = fmt.Errorf("%w: revocation of nobody", ErrForbidden)
	case !now.Before(rec.NotAfter):
		err = fmt.Errorf("%w: revocation of %s: %w at %s", ErrForbidden, rec.Peer, errEnded, rec.NotAfter.Format(time.RFC3339))
	}
	if err != nil {
		return Revocation{}, err
	}
	return rec.Revocation, nil
}

var (
	errEnded     = errors.New("it ended")
	errOtherRoot = errors.New("it is signed by another network's root")
)

// revocations are those that a node knows, kept in its store as well. Each is signed
// by itself, so that lists of two nodes merge whatever came in which order.
type revocations struct {
	network *atomic.Pointer[Network]
	store   ds.Batching
	log     *slog.Logger

	mu     sync.RWMutex
	all    map[peer.ID]revoked
	digest [sha256.Size]byte // of all; equal digests need no list
}

type revoked struct {
	Revocation
	signed []byte
}

func revocationKey(p peer.ID) ds.Key { return ds.NewKey("/revocations/" + p.String()) }

func loadRevocations(ctx context.Context, n *atomic.Pointer[Network], store ds.Batching, log *slog.Logger) (*revocations, error) {
	r := &revocations{network: n, store: store, log: log, all: map[peer.ID]revoked{}}
	results, err := store.Query(ctx, query.Query{Prefix: "/revocations"})
	if err != nil {
		return nil, fmt.Errorf("reading the revoked members: %w", err)
	}
	entries, err := results.Rest()
	if err != nil {
		return nil, fmt.Errorf("reading the revoked members: %w", err)
	}
	for _, e := range entries {
		rev, err := n.Load().VerifyRevocation(e.Value, time.Now())
		if err != nil { // ended, or of a network that the node was in before
			if err := store.Delete(ctx, ds.NewKey(e.Key)); err != nil {
				return nil, fmt.Errorf("forgetting a revocation: %w", err)
			}
			continue
		}
		r.all[rev.Peer] = revoked{rev, e.Value}
	}
	r.sumLocked()
	return r, nil
}

// sumLocked computes the digest.
func (r *revocations) sumLocked() {
	h := sha256.New()
	for _, p := range slices.Sorted(maps.Keys(r.all)) {
		sum := sha256.Sum256(r.all[p].signed)
		h.Write(sum[:])
	}
	h.Sum(r.digest[:0])
}

// add takes one in. fresh is false where it was known.
func (r *revocations) add(ctx context.Context, signed []byte) (rev Revocation, fresh bool, err error) {
	if r.knows(signed) {
		return rev, false, nil
	}
	if rev, err = r.network.Load().VerifyRevocation(signed, time.Now()); err != nil {
		return rev, false, err
	}
	r.mu.Lock()
	have, ok := r.all[rev.Peer]
	// Of two about one peer all nodes keep the same.
	if ok && (have.NotAfter.After(rev.NotAfter) || have.NotAfter.Equal(rev.NotAfter) && bytes.Compare(have.signed, signed) >= 0) {
		r.mu.Unlock()
		return rev, false, nil
	}
	if !ok && len(r.all) >= maxRevocations {
		r.mu.Unlock()
		return rev, false, fmt.Errorf("%w: %d members are revoked already", ErrTooLarge, maxRevocations)
	}
	r.all[rev.Peer] = revoked{rev, signed}
	r.sumLocked()
	r.mu.Unlock()
	// It counts from here on; the store is for after a restart.
	if err := r.store.Put(ctx, revocationKey(rev.Peer), signed); err != nil {
		return rev, true, fmt.Errorf("keeping the revocation of %s: %w", rev.Peer, err)
	}
	return rev, true, nil
}

// knows reports whether this very revocation is there.
func (r *revocations) knows(signed []byte) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, have := range r.all {
		if bytes.Equal(have.signed, signed) {
			return true
		}
	}
	return false
}

func (r *revocations) has(p peer.ID) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, ok := r.all[p]
	return ok
}

// list returns all, signed, and their digest.
func (r *revocations) list() (signed [][]byte, digest []byte) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, p := range slices.Sorted(maps.Keys(r.all)) {
		signed = append(signed, r.all[p].signed)
	}
	return signed, bytes.Clone(r.digest[:])
}

func (r *revocations) sum() []byte {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return bytes.Clone(r.digest[:])
}

// peers returns who is revoked.
func (r *revocations) peers() []peer.ID {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Collect(maps.Keys(r.all))
}

// expire forgets those that have ended.
func (r *revocations) expire(ctx context.Context, now time.Time) {
	r.mu.Lock()
	var gone []peer.ID
	for p, rev := range r.all {
		if !now.Before(rev.NotAfter) {
			delete(r.all, p)
			gone = append(gone, p)
		}
	}
	if len(gone) > 0 {
		r.sumLocked()
	}
	r.mu.Unlock()
	for _, p := range gone {
		if err := r.store.Delete(ctx, revocationKey(p)); err != nil && !errors.Is(err, context.Canceled) {
			r.log.Warn("revocation not forgotten", "peer", p, "err", err)
		}
	}
}

// distrust forgets those that a root signed which is retired: so are the memberships
// that they are about.
func (r *revocations) distrust(ctx context.Context) {
	r.mu.Lock()
	var gone []peer.ID
	for p, rev := range r.all {
		if _, err := r.network.Load().VerifyRevocation(rev.signed, rev.Issued); errors.Is(err, errOtherRoot) {
			delete(r.all, p)
			gone = append(gone, p)
		}
	}
	if len(gone) > 0 {
		r.sumLocked()
	}
	r.mu.Unlock()
	for _, p := range gone {
		if err := r.store.Delete(ctx, revocationKey(p)); err != nil && !errors.Is(err, context.Canceled) {
			r.log.Warn("revocation not forgotten", "peer", p, "err", err)
		}
	}
}
