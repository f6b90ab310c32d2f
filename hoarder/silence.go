package hoarder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/taubyte/taubyte"
)

// A replica that was taken out of the in-sync set because nothing was heard from it may be
// dead, or live on the other side of a cut and acknowledge writes there. Until it is known
// which, this node can say what the store has, and not what it has not.

// errDoubt: there is no such thing here, and there may be one at a replica that this node
// can't ask.
var errDoubt = fmt.Errorf("%w: a replica is silent that may know of it", taubyte.ErrUnavailable)

// silent is a replica that may be acknowledging writes that this node does not hear of.
type silent struct {
	Peer  peer.ID   `json:"peer"`
	Boot  string    `json:"boot,omitempty"` // the life of it that fell silent
	Since time.Time `json:"since"`
}

const (
	// probeEvery is how often a silent replica is looked for, and probeWait how long its
	// address may take to accept or refuse a connection.
	probeEvery = 250 * time.Millisecond
	probeWait  = 500 * time.Millisecond
)

// silences watches the replicas that are silent.
type silences struct {
	mu      sync.Mutex
	watched map[peer.ID]bool
	// hosts are the IP addresses at which others were last connected: of the addresses that
	// a node names, some can be another's in this node's network.
	hosts map[peer.ID][]string
}

func (q *silences) init() {
	q.watched, q.hosts = map[peer.ID]bool{}, map[peer.ID][]string{}
}

// inDoubtLocked reports whether what is not here may be at a silent replica. Callers
// hold stores.mu.
func (s *Service) inDoubtLocked(h *hosting) bool {
	return slices.ContainsFunc(h.Silent, func(q silent) bool { return time.Since(q.Since) < s.o.grace })
}

func (s *Service) inDoubt(h *hosting) bool {
	s.stores.mu.Lock()
	defer s.stores.mu.Unlock()
	return s.inDoubtLocked(h)
}

// saw notes where another is connected.
func (q *silences) saw(n network.Network, p peer.ID) {
	var ips []string
	for _, c := range n.ConnsToPeer(p) {
		if ip, err := manet.ToIP(c.RemoteMultiaddr()); err == nil {
			ips = append(ips, ip.String())
		}
	}
	if len(ips) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.hosts[p] = ips
}

// fellSilent remembers on disk, before a write is acknowledged without them, that others
// may go on elsewhere.
func (s *Service) fellSilent(ctx context.Context, h *hosting, all ...silent) error {
	if len(all) == 0 {
		return nil
	}
	err := s.saveHosting(ctx, h, func(is *hosted) {
		next := slices.Clone(is.Silent)
		for _, q := range all {
			i := slices.IndexFunc(next, func(o silent) bool { return o.Peer == q.Peer })
			switch {
			case q.Peer == s.host.ID():
			case i < 0:
				next = append(next, q)
			case q.Since.After(next[i].Since):
				next[i] = q
			}
		}
		is.Silent = next
	})
	for _, q := range all {
		s.watchSilent(q.Peer)
	}
	return err
}

// heardOf takes back that another is silent.
func (s *Service) heardOf(ctx context.Context, h *hosting, q silent, why string) {
	is := func(o silent) bool { return o.Peer == q.Peer && o.Since.Equal(q.Since) }
	if !slices.ContainsFunc(s.recordOf(h).Silent, is) {
		return
	}
	s.o.log.Info("a replica is not in doubt any more", "store", h.ref, "peer", q.Peer, "because", why)
	err := s.saveHosting(ctx, h, func(h *hosted) { h.Silent = slices.DeleteFunc(slices.Clone(h.Silent), is) })
	if err != nil && s.life.Err() == nil && !errors.Is(err, errElsewhere) {
		s.o.log.Warn("writing the record of a store", "store", h.ref, "err", err)
	}
}

// silentOf are the stores whose replica at another is silent.
func (s *Service) silentOf(p peer.ID) map[*hosting]silent {
	of := map[*hosting]silent{}
	for _, h := range s.hostings() {
		for _, q := range s.recordOf(h).Silent {
			if q.Peer == p {
				of[h] = q
			}
		}
	}
	return of
}

// watchSilent finds out what has become of a silent replica, for all stores.
func (s *Service) watchSilent(p peer.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silences.mu.Lock()
	defer s.silences.mu.Unlock()
	if s.silences.watched[p] || s.life.Err() != nil {
		return
	}
	s.silences.watched[p] = true
	s.wg.Go(func() {
		for {
			of := s.silentOf(p)
			if len(of) == 0 {
				s.silences.mu.Lock()
				delete(s.silences.watched, p)
				s.silences.mu.Unlock()
				if len(s.silentOf(p)) > 0 { // meanwhile
					s.watchSilent(p)
				}
				return
			}
			s.probe(s.life, p, of)
			if !pause(s.life, probeEvery) {
				return
			}
		}
	})
}

// probe looks once whether a silent replica is in sync again, or can't be acknowledging
// anything.
func (s *Service) probe(ctx context.Context, p peer.ID, of map[*hosting]silent) {
	why := ""
	switch gone, err := s.forgotten(ctx, p); {
	case err == nil && gone:
		why = "it was forgotten"
	case s.refuses(ctx, p):
		why = "it refuses connections"
	}
	for h, q := range of {
		if why != "" {
			s.heardOf(ctx, h, q, why)
			continue
		}
		if time.Since(q.Since) >= s.o.grace {
			s.heardOf(ctx, h, q, "the grace is over")
		}
	}
	if why != "" || s.host.Network().Connectedness(p) != network.Connected {
		return
	}
	for h, q := range of {
		ask, cancel := context.WithTimeout(ctx, askWait)
		st, err := s.peers.standing(ask, p, h.ref)
		cancel()
		switch {
		case err != nil:
			return // the next one would wait as long
		case !st.Here:
			s.heardOf(ctx, h, q, "it has nothing of the store")
		case !st.Active && q.Boot != "" && st.Boot != q.Boot:
			s.heardOf(ctx, h, q, "it was restarted")
		case st.Active && st.In && slices.Contains(s.recordOf(h).Set, p):
			if s.hasAllOf(ctx, h, p) == nil {
				s.heardOf(ctx, h, q, "it is in sync again")
			}
		}
	}
}

// hasAllOf returns when this node has what another has acknowledged until now.
func (s *Service) hasAllOf(ctx context.Context, h *hosting, p peer.ID) error {
	ctx, cancel := context.WithTimeout(ctx, admitWait)
	defer cancel()
	s.stores.mu.Lock()
	if s.stores.all[h.ref] != h {
		s.stores.mu.Unlock()
		return errElsewhere
	}
	h.users++
	s.stores.mu.Unlock()
	defer s.doneQuietly(h)
	rep, err := s.openIt(ctx, h, false)
	if err != nil {
		return err
	}
	pos, err := s.peers.wake(ctx, p, h.ref, wakeRequest{})
	if err != nil {
		return err
	}
	return rep.reachFor(ctx, pos, true, p)
}

// refuses reports whether another's machine says that nobody listens where it did.
func (s *Service) refuses(ctx context.Context, p peer.ID) bool {
	if s.host.Network().Connectedness(p) == network.Connected {
		return false
	}
	s.silences.mu.Lock()
	ips := s.silences.hosts[p]
	s.silences.mu.Unlock()
	var addrs []ma.Multiaddr
	for _, a := range s.host.Peerstore().Addrs(p) {
		if ip, err := manet.ToIP(a); err != nil || !slices.Contains(ips, ip.String()) {
			continue
		}
		if _, err := a.ValueForProtocol(ma.P_CIRCUIT); err == nil {
			continue
		}
		if _, err := a.ValueForProtocol(ma.P_TCP); err != nil {
			continue
		}
		addrs = append(addrs, a)
	}
	for _, a := range addrs {
		// Without libp2p, which does not dial again for some seconds what has failed.
		ip, tcp := a[:1], ma.Multiaddr(nil)
		for _, c := range a {
			if c.Protocol().Code == ma.P_TCP {
				tcp = ma.Multiaddr{c}
			}
		}
		dial, cancel := context.WithTimeout(ctx, probeWait)
		c, err := (&manet.Dialer{}).DialContext(dial, ip.Encapsulate(tcp))
		cancel()
		if err == nil {
			_ = c.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return false
		}
	}
	return len(addrs) > 0
}
