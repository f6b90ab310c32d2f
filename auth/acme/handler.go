package acme

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/api"
)

// A Certificate is one that auth has, or that is wanted.
type Certificate struct {
	Hosts     []string  `json:"hosts"`
	Issuer    string    `json:"issuer,omitempty"`
	Serial    string    `json:"serial,omitempty"`
	NotBefore time.Time `json:"notBefore,omitzero"`
	NotAfter  time.Time `json:"notAfter,omitzero"`
	State     State     `json:"state"`
	// Next is when it is renewed, or the order tried again.
	Next time.Time `json:"next,omitzero"`
	// Failures is how many orders failed since the last that did not, and Error what
	// the last of them failed with.
	Failures int    `json:"failures,omitempty"`
	Error    string `json:"error,omitempty"`
}

// State is where a certificate stands.
type State string

// The states of certificates.
const (
	StateServed   State = "served"   // valid
	StateExpired  State = "expired"  // and not renewed
	StateWanted   State = "wanted"   // to be ordered
	StateOrdering State = "ordering" // an order is under way
	StateFailing  State = "failing"  // the last order failed; one that is valid goes on being served
)

// Certificates lists the certificates that are wanted and those that auth has, by their
// first host. For those who may see all projects.
func (s *Service) Certificates(ctx context.Context) ([]Certificate, error) {
	if err := taubyte.Allow(ctx, taubyte.VerbRead, "", taubyte.RoleAuth); err != nil {
		return nil, err
	}
	now, under := s.opts.now(), s.ledger.held()
	s.plan.mu.Lock()
	defer s.plan.mu.Unlock()
	all, listed := []Certificate{}, map[*info]bool{}
	for name, it := range s.plan.items {
		c := Certificate{Hosts: names(name, s.opts.zone), State: StateWanted}
		have := s.plan.have[name]
		if have != nil {
			c, listed[have] = have.Certificate, true
			c.State = state(now, have)
		}
		j, at := s.plan.due(it, s.ledger)
		if !j.order && have != nil { // the authority is asked first
			at = renewAt(name, have.NotBefore, have.NotAfter)
			if it.ari.of == have.id && !it.ari.window.start.IsZero() {
				at = it.ari.window.at(name)
			}
		}
		c.Next = at.UTC()
		if c.Failures, _, c.Error = s.ledger.failures(name); c.Failures > 0 {
			c.State = StateFailing
		}
		if _, ok := under[name]; ok {
			c.State = StateOrdering
		}
		all = append(all, c)
	}
	for _, have := range s.plan.have {
		if !listed[have] {
			listed[have] = true
			c := have.Certificate
			c.State = state(now, have)
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(a, b Certificate) int {
		return strings.Compare(strings.Join(a.Hosts, " "), strings.Join(b.Hosts, " "))
	})
	return all, nil
}

func state(now time.Time, c *info) State {
	if now.After(c.NotAfter) {
		return StateExpired
	}
	return StateServed
}

// Renew has a certificate ordered anew by this node, now, also where an order failed and
// waits. Where it fails again it is tried again as every order. ErrNotFound: none is
// wanted for the name. For those who may administer all projects.
func (s *Service) Renew(ctx context.Context, name string) error {
	if err := taubyte.Allow(ctx, taubyte.VerbAdminister, "", taubyte.RoleAuth); err != nil {
		return err
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if !validName(name) {
		return fmt.Errorf("%w host %q", taubyte.ErrInvalid, name)
	}
	if s.plan.force(name) {
		return nil
	}
	return fmt.Errorf("%w: no certificate is ordered for %s: no deployment serves it for a project that showed that it owns it", taubyte.ErrNotFound, name)
}

// Handler is the API.
func (s *Service) Handler() http.Handler {
	mux := api.New(nil)
	mux.Handle("GET /certificates", api.Operation{
		Summary: "Lists the certificates that are wanted, and those that auth has.",
		Rights:  api.Everything(taubyte.VerbRead, taubyte.RoleAuth),
	}, api.Answer(func(r *http.Request) ([]Certificate, error) {
		return s.Certificates(r.Context())
	}))
	mux.Handle("POST /certificates/{name}/order", api.Operation{
		Summary: "Has a certificate ordered anew, now.", Path: api.Texts{"name": "The host name that it is for."},
		Rights: api.Everything(taubyte.VerbAdminister, taubyte.RoleAuth),
	}, api.Act(func(r *http.Request) error {
		return s.Renew(r.Context(), r.PathValue("name"))
	}))
	mux.Handle("POST /leases", api.Operation{
		Summary: "Asks the arbiter for an order.", Rights: api.Nodes(taubyte.RoleAuth).Guarded(),
	}, api.Call(1<<12, s.serveLease))
	mux.Handle("POST /account", api.Operation{
		Summary: "Asks the arbiter to register the network's account.", Rights: api.Nodes(taubyte.RoleAuth).Guarded(),
	}, api.Answer(func(*http.Request) (accountAnswer, error) {
		// What is registered does not end with the one that asks.
		return s.serveAccount(s.life)
	}))
	return mux
}
