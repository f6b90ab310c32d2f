package localgit

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// living are the other control nodes that are connected and answer.
func (s *Server) living() []peer.ID {
	return slices.DeleteFunc(s.store.Peers(), func(p peer.ID) bool {
		s.mu.Lock()
		_, bad := s.bad[p]
		s.mu.Unlock()
		return bad || s.pulse.Suspect(p)
	})
}

// doubt passes a node over until it answers a probe.
func (s *Server) doubt(p peer.ID, err error) {
	s.mu.Lock()
	_, before := s.bad[p]
	s.bad[p] = struct{}{}
	s.mu.Unlock()
	if !before {
		s.log.Warn("git: a control node is passed over", "peer", p, "err", err)
	}
}

// probeDoubted looks again and again whether nodes that were passed over answer.
func (s *Server) probeDoubted() {
	for s.pause(s.life, probe) {
		s.mu.Lock()
		var doubted []peer.ID
		for p := range s.bad {
			doubted = append(doubted, p)
		}
		s.mu.Unlock()
		var wg sync.WaitGroup
		for _, p := range doubted {
			wg.Go(func() {
				if !slices.Contains(s.store.Peers(), p) { // gone; it is no matter when it returns
					s.trust(p)
					return
				}
				_, err := ask[struct{}](s.life, s, p, "/ping", nil)
				if err == nil && s.pull(s.life, p, pullFor) == nil {
					s.trust(p)
					s.log.Info("git: a control node answers again", "peer", p)
				}
			})
		}
		wg.Wait()
	}
}

func (s *Server) trust(p peer.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.bad, p)
}

// pull gets what another node has written of references.
func (s *Server) pull(ctx context.Context, p peer.ID, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	guarded, done := s.pulse.Guard(ctx, p)
	defer done()
	return s.store.SyncedWith(guarded, p)
}

// round is a comparison with all living nodes, for all who asked before it began.
type round struct{ done chan struct{} }

// compare returns when this node knows of every reference what the living ones knew
// when it was called.
func (s *Server) compare(ctx context.Context) error {
	s.mu.Lock()
	r := s.next
	if r == nil {
		r = &round{done: make(chan struct{})}
		if !s.spawnLocked(func() { s.run(r) }) {
			s.mu.Unlock()
			return errClosed
		}
		s.next = r
	}
	s.mu.Unlock()
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Server) run(r *round) {
	s.rounds.Lock()
	defer s.rounds.Unlock()
	s.mu.Lock()
	s.next = nil // who comes now may ask for something that was written after this began
	s.mu.Unlock()
	defer close(r.done)
	var wg sync.WaitGroup
	for _, p := range s.living() {
		wg.Go(func() {
			err := s.pull(s.life, p, pullFor)
			if err != nil && s.life.Err() == nil && slices.Contains(s.store.Peers(), p) {
				s.doubt(p, err)
			}
		})
	}
	wg.Wait()
}

// join waits for the others, takes in repositories of before references were
// replicated, and lets requests in.
func (s *Server) join() {
	if err := s.meet(); err != nil && s.life.Err() == nil {
		s.log.Error("git: joining the other nodes", "err", err)
	}
	for s.life.Err() == nil {
		err := s.takeIn(s.life)
		if err == nil {
			break
		}
		s.log.Error("git: reading the repositories", "err", err)
		if !s.pause(s.life, retry) {
			return
		}
	}
	close(s.joined)
	names, err := s.names(s.life, reposPrefix)
	if err != nil {
		s.log.Error("git: listing the repositories", "err", err)
	}
	for _, name := range names {
		s.start(name)
	}
}

func (s *Server) meet() error {
	deadline := time.Now().Add(joinFor)
	var last error
	for s.life.Err() == nil {
		others, err := s.others(s.life)
		if err != nil {
			return err
		}
		peers := s.store.Peers()
		for _, p := range peers {
			if last = s.pull(s.life, p, fillFor); last == nil {
				return nil
			}
		}
		known := slices.ContainsFunc(s.host.Peerstore().PeersWithAddrs(), func(p peer.ID) bool { return p != s.host.ID() })
		if len(others) == 0 && !known || time.Now().After(deadline) {
			return last
		}
		s.pause(s.life, 20*time.Millisecond)
	}
	return nil
}
