package acme

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/go-acme/lego/v4/challenge"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/seer"
)

// gatewayProtocol is what a gateway provides; auth can't import it.
const gatewayProtocol protocol.ID = "/taubyte/gateway/1"

const (
	presentTime = 5 * time.Second // for one node
	recordTime  = 15 * time.Minute
	// propagation bounds how long a provider's record may take to be seen, where the
	// provider says nothing else.
	propagation, propagationPoll = time.Minute, 2 * time.Second
	// How often, with what pause and for how long each time it is looked whether a name
	// of another zone leads to the cluster's DNS.
	delegationLooks, delegationPause, delegationTime = 3, time.Second, 10 * time.Second
)

// presenter tells the nodes that a certificate authority asks what to answer.
type presenter struct {
	host     taubyte.Host
	gateways *rpc.Client
	seers    *rpc.Client
	log      *slog.Logger
}

func newPresenter(h taubyte.Host, log *slog.Logger) *presenter {
	return &presenter{host: h, gateways: rpc.NewClient(h, gatewayProtocol, nil), seers: rpc.NewClient(h, seer.Protocol, nil), log: log}
}

func (p *presenter) close() {
	p.gateways.Close()
	p.seers.Close()
}

// answerer is a gateway on this host.
type answerer interface {
	PresentChallenge(ctx context.Context, c auth.Challenge) error
	WithdrawChallenge(ctx context.Context, token string) error
}

// everywhere calls the nodes of a service, the one on this host included, and returns
// nil where one of them at least has done it: one that is just going away is not asked
// by an authority either. Orders are the node's own work, whoever has asked for one.
func (p *presenter) everywhere(ctx context.Context, c *rpc.Client, id protocol.ID, what string, here func(context.Context) (bool, error), there func(context.Context, peer.ID) error) error {
	ctx = taubyte.AsService(ctx)
	var mu sync.Mutex
	var errs []error
	done := 0
	note := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			done++
		} else {
			errs = append(errs, err)
		}
	}
	peers := slices.DeleteFunc(peersOf(p.host, id), func(n peer.ID) bool {
		m, ok := p.host.Members().Known(n)
		return !ok || id == gatewayProtocol && !m.Has(taubyte.RoleGateway) || id == seer.Protocol && !m.Has(taubyte.RoleSeer)
	})
	var asked sync.WaitGroup
	for _, n := range peers {
		asked.Go(func() {
			one, cancel := context.WithTimeout(ctx, presentTime)
			defer cancel()
			note(there(one, n))
		})
	}
	if is, err := here(ctx); is {
		note(err)
	}
	asked.Wait()
	if done > 0 {
		for _, err := range errs {
			p.log.Debug("not told of a challenge", "what", what, "err", err)
		}
		return nil
	}
	return fmt.Errorf("%w: no %s takes the challenge: %w", taubyte.ErrUnavailable, what, errors.Join(errs...))
}

// atGateways has every gateway answer a challenge.
func (p *presenter) atGateways(ctx context.Context, c auth.Challenge) error {
	return p.everywhere(ctx, p.gateways, gatewayProtocol, "gateway", func(ctx context.Context) (bool, error) {
		g, ok := p.host.Local(gatewayProtocol).(answerer)
		if !ok {
			return false, nil
		}
		return true, g.PresentChallenge(ctx, c)
	}, func(ctx context.Context, n peer.ID) error {
		return p.gateways.CallPeer(ctx, n, http.MethodPut, "/challenges/"+url.PathEscape(c.Token), c, nil)
	})
}

func (p *presenter) notAtGateways(ctx context.Context, token string) {
	_ = p.everywhere(ctx, p.gateways, gatewayProtocol, "gateway", func(ctx context.Context) (bool, error) {
		g, ok := p.host.Local(gatewayProtocol).(answerer)
		if !ok {
			return false, nil
		}
		return true, g.WithdrawChallenge(ctx, token)
	}, func(ctx context.Context, n peer.ID) error {
		return p.gateways.CallPeer(ctx, n, http.MethodDelete, "/challenges/"+url.PathEscape(token), nil, nil)
	})
}

// atSeers has every DNS server of the cluster answer with a text, or end that.
func (p *presenter) atSeers(ctx context.Context, name, value string, there bool) error {
	return p.everywhere(ctx, p.seers, seer.Protocol, "seer", func(ctx context.Context) (bool, error) {
		s, ok := p.host.Local(seer.Protocol).(*seer.Service)
		switch {
		case !ok:
			return false, nil
		case there:
			return true, s.AddText(ctx, name, value, recordTime)
		}
		return true, s.RemoveText(ctx, name, value)
	}, func(ctx context.Context, n peer.ID) error {
		method := http.MethodPut
		if !there {
			method = http.MethodDelete
		}
		return p.seers.CallPeer(ctx, n, method, "/texts/"+url.PathEscape(name), seer.Text{Value: value, Time: recordTime}, nil)
	})
}

// withProvider has a provider of lego make a record, and waits until it is seen.
func withProvider(ctx context.Context, p challenge.Provider, r auth.Resolver, domain, token, authorization, name, value string) error {
	if err := p.Present(domain, token, authorization); err != nil {
		return fmt.Errorf("DNS provider: %w", err)
	}
	limit, poll := propagation, propagationPoll
	if t, ok := p.(challenge.ProviderTimeout); ok {
		limit, poll = t.Timeout()
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		values, err := r.LookupTXT(ctx, name)
		if err == nil && slices.Contains(values, value) {
			return nil
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return fmt.Errorf("%w: the record %s of the DNS provider is not seen: %w", taubyte.ErrUnavailable, name, errors.Join(err, ctx.Err()))
		}
	}
}
