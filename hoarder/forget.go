package hoarder

import (
	"context"
	"fmt"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
)

// Keys of the registry about hoarders that will not come back:
//
//	/forgotten/<peer>/<by>   <by> was told so

func forgottenKey(p, by peer.ID) ds.Key {
	return ds.KeyWithNamespaces([]string{"forgotten", p.String(), by.String()})
}

type forgottenRecord struct {
	At time.Time `json:"at"`
}

// Forget says that a hoarder is lost for good, with its disk. What it had is not counted
// any more, and replicas that waited for it, because it may have had newer writes, go on
// without: those writes are lost. Its membership should have been revoked. A hoarder that
// comes back nevertheless is taken as a new one that may still have something. One whose
// membership is revoked is forgotten without being asked to. It takes the verb administer
// on everything, or a node of role hoarder.
func (s *Service) Forget(ctx context.Context, p peer.ID) error {
	if err := taubyte.Allow(ctx, taubyte.VerbAdminister, "", taubyte.RoleHoarder); err != nil {
		return err
	}
	if p == s.host.ID() {
		return fmt.Errorf("%w: a hoarder can't forget itself", taubyte.ErrInvalid)
	}
	if err := p.Validate(); err != nil {
		return fmt.Errorf("%w peer: %w", taubyte.ErrInvalid, err)
	}
	if err := put(ctx, s.registry, forgottenKey(p, s.host.ID()), forgottenRecord{time.Now().UTC()}); err != nil {
		return fmt.Errorf("forgetting %s: %w", p, err)
	}
	for _, prefix := range []string{"/replica", "/host", "/full", "/insync"} {
		res, err := s.registry.Query(ctx, query.Query{Prefix: prefix, KeysOnly: true})
		if err != nil {
			return fmt.Errorf("forgetting %s: %w", p, err)
		}
		entries, err := res.Rest()
		if err != nil {
			return fmt.Errorf("forgetting %s: %w", p, err)
		}
		for _, e := range entries {
			if key := ds.RawKey(e.Key); key.Name() == p.String() {
				if err := remove(ctx, s.registry, key); err != nil {
					return fmt.Errorf("forgetting %s: %w", p, err)
				}
			}
		}
	}
	s.lookAtAll()
	s.lookAtAllStores()
	return nil
}

// forgotten reports whether a hoarder is lost for good.
func (s *Service) forgotten(ctx context.Context, p peer.ID) (bool, error) {
	if s.host.Members().Revoked(p) {
		return true, nil
	}
	res, err := s.registry.Query(ctx, query.Query{Prefix: "/forgotten/" + p.String(), KeysOnly: true, Limit: 1})
	if err != nil {
		return false, err
	}
	entries, err := res.Rest()
	return len(entries) > 0, err
}

// forgetRevoked forgets the hoarders that are no members any more.
func (s *Service) forgetRevoked(ctx context.Context) error {
	done := map[peer.ID]bool{s.host.ID(): true}
	for _, prefix := range []string{"/replica", "/host", "/full", "/insync"} {
		res, err := s.registry.Query(ctx, query.Query{Prefix: prefix, KeysOnly: true})
		if err != nil {
			return err
		}
		entries, err := res.Rest()
		if err != nil {
			return err
		}
		for _, e := range entries {
			p, err := peer.Decode(ds.RawKey(e.Key).Name())
			if err != nil || done[p] {
				continue
			}
			done[p] = true
			if !s.host.Members().Revoked(p) {
				continue
			}
			s.o.log.Warn("a hoarder is no member any more; what it had is not counted", "peer", p)
			if err := s.Forget(ctx, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// returned takes back that this node is lost, once it has all that others have of its
// stores.
func (s *Service) returned(ctx context.Context) error {
	gone, err := s.forgotten(ctx, s.host.ID())
	if err != nil || !gone {
		return err
	}
	for _, h := range s.hostings() {
		if !s.isActive(h) {
			return nil
		}
	}
	res, err := s.registry.Query(ctx, query.Query{Prefix: "/forgotten/" + s.host.ID().String(), KeysOnly: true})
	if err != nil {
		return err
	}
	entries, err := res.Rest()
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := remove(ctx, s.registry, ds.RawKey(e.Key)); err != nil {
			return err
		}
	}
	return nil
}
