package auth

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rendezvous"
	"github.com/taubyte/taubyte/internal/rpc"
)

// authNodes are the nodes that run auth and answer now, this one included.
func (s *Service) authNodes() []peer.ID {
	all := []peer.ID{s.host.ID()}
	if f, ok := s.host.Local(rpc.FinderProtocol).(rpc.Finder); ok {
		all = append(all, f.Find(Protocol)...)
	} else {
		for _, p := range s.host.Network().Peers() {
			if known, err := s.host.Peerstore().SupportsProtocols(p, Protocol); err == nil && len(known) > 0 {
				all = append(all, p)
			}
		}
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(p peer.ID) bool {
		if p == s.host.ID() {
			return false
		}
		m, ok := s.host.Members().Known(p)
		return !ok || !m.Has(taubyte.RoleAuth)
	})
}

// arbitrate has one auth node decide: the first by rendezvous that answers. Nodes that
// see each other choose the same, so that of two that ask at once one is refused.
func (s *Service) arbitrate(ctx context.Context, key string, here func() error, there func(context.Context, peer.ID) error) error {
	for _, p := range rendezvous.Rank(key, s.authNodes()) {
		if p == s.host.ID() {
			break
		}
		try, cancel := context.WithTimeout(ctx, arbiterTime)
		err := there(try, p)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
		var said *rpc.Error
		if errors.As(err, &said) && !errors.Is(err, taubyte.ErrUnavailable) && !errors.Is(err, taubyte.ErrClosed) && !errors.Is(err, context.DeadlineExceeded) {
			return err // its own word
		}
	}
	s.membersMu.Lock()
	defer s.membersMu.Unlock()
	return here()
}

const arbiterTime = 3 * time.Second
