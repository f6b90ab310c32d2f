package rpc

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/taubyte/taubyte"
)

// principalHeader carries who asks, where it is not the node that calls: a Principal as
// JSON.
const principalHeader = "Taubyte-Principal"

// maxPrincipal bounds the header. A user of some hundred projects fits.
const maxPrincipal = 32 << 10

// carry puts the principal of the request's context into its header. The administrator
// of this node is none elsewhere: its calls are the node's, as are those of nodes. What
// a stranger wrote into the header goes.
func carry(r *http.Request) (*http.Request, error) {
	p := taubyte.PrincipalOf(r.Context())
	_, foreign := r.Header[principalHeader]
	carried := p.Kind != taubyte.KindAdministrator && p.Kind != taubyte.KindNode
	if !foreign && !carried {
		return r, nil
	}
	r = r.Clone(r.Context())
	r.Header.Del(principalHeader)
	if !carried {
		return r, nil
	}
	raw, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	if len(raw) > maxPrincipal {
		return nil, fmt.Errorf("%w: %s has more projects than a call between nodes can carry", taubyte.ErrTooLarge, p)
	}
	r.Header.Set(principalHeader, string(raw))
	return r, nil
}

// AsNode returns ctx with this node as who asks, where that is the administrator and the
// node has the role: what one service asks of another on the same host is the node's, as
// it is from another host, and is told apart from what its owner does.
func AsNode(ctx context.Context, h taubyte.Host, role taubyte.Role) context.Context {
	if taubyte.PrincipalOf(ctx).Kind != taubyte.KindAdministrator {
		return ctx
	}
	m, err := h.Member(ctx, h.ID())
	if err != nil || !m.Has(role) {
		return ctx
	}
	return taubyte.WithPrincipal(ctx, taubyte.NodePrincipal(m))
}

// vouched are the roles that may speak for a principal. Any member may for a user: it
// can only make its own rights fewer by it. Only workers hold jobs, and only substrates
// run functions.
func vouched(p taubyte.Principal, by taubyte.Membership) error {
	switch p.Kind {
	case taubyte.KindUser:
		return nil
	case taubyte.KindJob:
		if by.Has(taubyte.RoleMonkey) {
			return nil
		}
	case taubyte.KindFunction:
		if by.Has(taubyte.RoleSubstrate) {
			return nil
		}
	}
	return fmt.Errorf("%w: a node of the roles %v can't vouch for a principal of kind %q", taubyte.ErrForbidden, by.Roles, p.Kind)
}

// principal returns who asks: the member that sent the request, or whom it speaks for.
func principal(r *http.Request, m taubyte.Membership) (taubyte.Principal, error) {
	values := r.Header.Values(principalHeader)
	if len(values) == 0 {
		return taubyte.NodePrincipal(m), nil
	}
	var p taubyte.Principal
	if len(values) > 1 || len(values[0]) > maxPrincipal || json.Unmarshal([]byte(values[0]), &p) != nil {
		return taubyte.Principal{}, fmt.Errorf("%w: the principal of the request can't be read", taubyte.ErrInvalid)
	}
	if err := vouched(p, m); err != nil {
		return taubyte.Principal{}, err
	}
	p.Node = m
	return p, nil
}

// Only returns an error, which wraps taubyte.ErrForbidden, unless a member calls that
// holds one of the roles, whoever it speaks for. It is for paths that nodes call and
// nobody else; what users call is checked by taubyte.Allow in the service's method.
func Only(ctx context.Context, roles ...taubyte.Role) error {
	if m, ok := Caller(ctx); !ok || !m.Has(roles...) {
		return fmt.Errorf("%w: this takes one of the roles %v", taubyte.ErrForbidden, roles)
	}
	return nil
}
