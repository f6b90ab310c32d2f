package acme

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/claim"
	"github.com/taubyte/taubyte/internal/rpc"
)

const (
	// arbiterKey is what the arbiter of all leases is chosen by: one, so that it counts
	// all of them.
	arbiterKey = "acme"
	leaseTime  = 3 * time.Second
	leaseRetry = time.Second
)

// leaseRequest is the body of POST /leases: the caller asks for itself.
type leaseRequest struct {
	Name string `json:"name"`
}

// leaseAnswer is a lease, or how long to wait until asking again.
type leaseAnswer struct {
	Fence   uint64        `json:"fence,omitempty"`
	Arbiter peer.ID       `json:"arbiter,omitempty"`
	Wait    time.Duration `json:"wait,omitempty"`
}

// lease asks the arbiter for the order of a certificate.
func (s *Service) lease(ctx context.Context, j job, live []peer.ID) (l leaseAnswer, err error) {
	arbiter := claim.Arbiter(arbiterKey, live)
	if arbiter == s.host.ID() {
		return s.grant(ctx, j.name, s.host.ID())
	}
	ask, cancel := context.WithTimeout(ctx, leaseTime)
	defer cancel()
	if err := s.rpc.CallPeer(ask, arbiter, http.MethodPost, "/leases", leaseRequest{j.name}, &l); err != nil || l.Wait > 0 {
		return l, err
	}
	// So that what this node writes of the lease finds it here.
	return l, s.ledger.store.Await(ask, recordKey{name: j.name, fence: l.Fence, by: l.Arbiter}.key())
}

// grant decides on a lease as the arbiter.
func (s *Service) grant(ctx context.Context, name string, holder peer.ID) (leaseAnswer, error) {
	s.granting.Lock()
	defer s.granting.Unlock()
	if s.life.Err() != nil {
		return leaseAnswer{}, fmt.Errorf("acme: %w", taubyte.ErrClosed)
	}
	if arbiter := claim.Arbiter(arbiterKey, s.live()); arbiter != s.host.ID() {
		return leaseAnswer{}, fmt.Errorf("%w: %s grants the leases", taubyte.ErrUnavailable, arbiter)
	}
	before, _, known, ended := s.ledger.newest(name)
	if known && !ended {
		return leaseAnswer{Wait: leaseRetry}, nil
	}
	now := s.opts.now()
	if wait := s.ledger.wait(name, s.opts.limits, now); wait > 0 {
		s.opts.log.Warn("order waits for the rate limit", "name", name, "wait", wait)
		return leaseAnswer{Wait: wait}, nil
	}
	g := claim.Grant{Fence: s.numbers.Next(before.Fence), Arbiter: s.host.ID(), Holder: holder}
	if err := s.ledger.grant(ctx, name, g, now); err != nil {
		return leaseAnswer{}, err
	}
	return leaseAnswer{Fence: g.Fence, Arbiter: g.Arbiter}, nil
}

// keepTime ends the leases of nodes that are gone, of those that this node looks after.
// A connection is a sign of life; whoever has one and ends nothing for longer than an
// order may take hangs.
func (s *Service) keepTime(ctx context.Context, live []peer.ID) {
	held, now := s.ledger.held(), time.Now()
	for name, first := range s.since {
		if g, ok := held[name]; !ok || g.Fence != first.fence {
			s.timing.Forget(name)
			delete(s.since, name)
		}
	}
	for name, g := range held {
		if s.since[name].fence != g.Fence {
			s.since[name] = heldSince{g.Fence, now}
			s.timing.Begin(name, g.Fence, now)
		}
		if slices.Contains(live, g.Holder) && now.Sub(s.since[name].at) < orderTime+s.opts.lease {
			s.timing.Hear(name, g.Fence, now)
		}
	}
	view := func(name string) claim.View {
		return claim.View{Kept: claim.Keeper(held[name], arbiterKey, live) == s.host.ID()}
	}
	for _, x := range s.timing.Tick(now, view) {
		s.opts.log.Warn("order lost", "name", x.Key, "holder", held[x.Key].Holder)
		failures, _, _ := s.ledger.failures(x.Key)
		err := s.ledger.end(ctx, x.Key, x.Fence, claim.Lost, s.host.ID(), s.opts.now(), outcome{Failures: failures})
		if err != nil && ctx.Err() == nil {
			s.opts.log.Warn("lost order not recorded", "name", x.Key, "err", err)
		}
	}
}

// serveLease grants an order to the node that asks for it.
func (s *Service) serveLease(r *http.Request, in leaseRequest) (leaseAnswer, error) {
	if !validName(in.Name) {
		return leaseAnswer{}, fmt.Errorf("%w lease: name %q", taubyte.ErrInvalid, in.Name)
	}
	m, _ := rpc.Caller(r.Context())
	return s.grant(r.Context(), in.Name, m.Peer)
}
