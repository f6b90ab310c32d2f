package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
)

// MemberState is where a member stands.
type MemberState string

// A node is Invited until its token is used, and then a member. What ended without
// being used is no longer listed.
const (
	StateInvited MemberState = "invited"
	StateMember  MemberState = "member"
	StateRevoked MemberState = "revoked"
)

// A Member is a node of the network as its registry has it.
type Member struct {
	Peer  peer.ID        `json:"peer,omitempty"` // none of one that is invited
	Name  string         `json:"name,omitempty"`
	Roles []taubyte.Role `json:"roles"`
	State MemberState    `json:"state"`
	Since time.Time      `json:"since"`
	// Until is the end of its membership as far as this node knows, or of the
	// invitation.
	Until time.Time `json:"until,omitzero"`
	// Conflict says that another has the name: two auth nodes gave it away while they
	// did not see each other. The membership is renewed without it.
	Conflict string `json:"conflict,omitempty"`
}

// isRevoked reports whether a node is no member any more, also when the revocation has
// long ended that the hosts told each other of.
func (s *Service) isRevoked(p peer.ID) bool {
	if s.host.Members().Revoked(p) {
		return true
	}
	results, err := s.store.Query(s.life, query.Query{Prefix: membersPrefix + "revoked/" + p.String(), KeysOnly: true, Limit: 1})
	if err != nil {
		return false
	}
	found, err := results.Rest()
	return err == nil && len(found) > 0
}

// Members lists who is a member, who was, and who is invited, by name.
//
// For nodes of role auth, and the verb administer on everything.
func (s *Service) Members(ctx context.Context) ([]Member, error) {
	if err := taubyte.Allow(ctx, taubyte.VerbAdminister, "", taubyte.RoleAuth); err != nil {
		return nil, err
	}
	r, err := s.registry(ctx)
	if err != nil {
		return nil, err
	}
	all := []Member{}
	for _, m := range r.members {
		out := Member{Peer: m.Peer, Name: m.Name, Roles: m.Roles, State: StateMember, Since: m.Since}
		if _, gone := r.revoked[m.Peer]; gone || s.host.Members().Revoked(m.Peer) {
			out.State = StateRevoked
		} else if !r.owns(m) {
			out.Conflict = "the name is another's"
		}
		if known, ok := s.host.Members().Known(m.Peer); ok {
			out.Until = known.NotAfter
		}
		all = append(all, out)
	}
	now := time.Now()
	for _, i := range r.invitations {
		if r.pending(i, now) {
			out := Member{Name: i.Name, Roles: i.Roles, State: StateInvited, Since: i.Made, Until: i.Ends}
			if r.names[i.Name].by != i.ID {
				out.Conflict = "the name is another's"
			}
			all = append(all, out)
		}
	}
	slices.SortFunc(all, func(a, b Member) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.Since.Compare(b.Since), cmp.Compare(a.Peer, b.Peer))
	})
	return all, nil
}

// Renew signs a member's membership anew, in the roles and under the name that it has.
// A member that is not in the registry yet, because its membership was signed
// elsewhere, is recorded. m is a membership that was verified.
//
// For the member itself. ErrForbidden: it was revoked, or another asks. ErrUnavailable: this node has no
// authority.
func (s *Service) Renew(ctx context.Context, m taubyte.Membership) ([]byte, error) {
	if p := taubyte.PrincipalOf(ctx); p.Kind != taubyte.KindAdministrator && (p.Kind != taubyte.KindNode || p.Node.Peer != m.Peer) {
		return nil, fmt.Errorf("%w: a membership is renewed for the member itself", taubyte.ErrForbidden)
	}
	r, err := s.registry(ctx)
	if err != nil {
		return nil, err
	}
	if _, known := r.members[m.Peer]; !known {
		if err := s.see(ctx, m); err != nil {
			return nil, err
		}
	}
	return s.renew(ctx, m.Peer)
}

// RenewMember signs a membership for a member by its name or peer ID: for a node that
// was away for so long that its own has ended. The node keeps it in the file that its
// configuration calls membership.
//
// For nodes of role auth, and the verb administer on everything. ErrNotFound: there is no such member.
// ErrForbidden: it was revoked.
func (s *Service) RenewMember(ctx context.Context, who string) ([]byte, error) {
	if err := taubyte.Allow(ctx, taubyte.VerbAdminister, "", taubyte.RoleAuth); err != nil {
		return nil, err
	}
	r, err := s.registry(ctx)
	if err != nil {
		return nil, err
	}
	m, ok := r.find(who)
	if !ok {
		return nil, fmt.Errorf("%w: member %q", taubyte.ErrNotFound, who)
	}
	return s.renew(ctx, m.Peer)
}

func (s *Service) noAuthority() error {
	return fmt.Errorf("%w: this node has no authority to sign memberships", taubyte.ErrUnavailable)
}

func (s *Service) renew(ctx context.Context, p peer.ID) ([]byte, error) {
	if s.authority == nil {
		return nil, s.noAuthority()
	}
	r, err := s.registry(ctx)
	if err != nil {
		return nil, err
	}
	if _, gone := r.revoked[p]; gone || s.host.Members().Revoked(p) {
		return nil, fmt.Errorf("%w: the membership of %s is revoked", taubyte.ErrForbidden, p)
	}
	m, ok := r.members[p]
	if !ok {
		return nil, fmt.Errorf("%w: member %s", taubyte.ErrNotFound, p)
	}
	name := m.Name
	if !r.owns(m) {
		s.log.Warn("membership renewed without its name, which is another's", "peer", p, "name", name)
		name = ""
	}
	s.log.Info("membership renewed", "peer", p, "name", name, "roles", m.Roles)
	return s.authority.Sign(p, name, m.Roles, taubyte.DefaultMembershipLifetime)
}

// see records a member whose membership was signed elsewhere.
func (s *Service) see(ctx context.Context, m taubyte.Membership) error {
	key := ds.RawKey(membersPrefix + "seen/" + m.Peer.String() + "/" + s.host.ID().String())
	if has, err := s.store.Has(ctx, key); err != nil || has {
		return err
	}
	return s.put(ctx, key, record{Peer: m.Peer, Name: m.Name, Roles: m.Roles, Since: m.NotBefore})
}

// RevokeMember ends the membership of a member, by its name or peer ID, or an
// invitation, by its name. All nodes that are connected know it when they are told, and
// the others when they connect: they close their connections to the peer and refuse
// what it says. The same node comes back under a new identity alone.
//
// For nodes of role auth, and the verb administer on everything. ErrNotFound: there is no such member.
// ErrConflict: it is this node itself; another one can.
func (s *Service) RevokeMember(ctx context.Context, who string) error {
	if err := taubyte.Allow(ctx, taubyte.VerbAdminister, "", taubyte.RoleAuth); err != nil {
		return err
	}
	r, err := s.registry(ctx)
	if err != nil {
		return err
	}
	m, ok := r.find(who)
	if _, gone := r.revoked[m.Peer]; !ok || gone {
		now := time.Now()
		for _, i := range r.invitations {
			if (i.Name == who || i.ID == who) && r.pending(i, now) {
				s.log.Info("invitation revoked", "name", i.Name)
				return s.put(ctx, ds.RawKey(membersPrefix+"withdrawn/"+i.ID+"/"+s.host.ID().String()), now.UTC())
			}
		}
	}
	if !ok {
		p, err := peer.Decode(who) // one that no auth node has seen
		if err != nil {
			return fmt.Errorf("%w: member %q", taubyte.ErrNotFound, who)
		}
		m.Peer = p
	}
	if m.Peer == s.host.ID() {
		return fmt.Errorf("%w: this node can't revoke itself: ask another that runs auth", taubyte.ErrConflict)
	}
	return s.revoke(ctx, m.Peer)
}

func (s *Service) revoke(ctx context.Context, p peer.ID) error {
	if s.authority == nil {
		return s.noAuthority()
	}
	signed, err := s.authority.Revoke(p)
	if err != nil {
		return err
	}
	s.log.Warn("member revoked", "peer", p)
	// Both are wanted: the hosts spread it at once, and the registry remembers it.
	return errors.Join(
		s.put(ctx, ds.RawKey(membersPrefix+"revoked/"+p.String()+"/"+s.host.ID().String()), signed),
		s.host.Members().Revoke(ctx, signed),
	)
}

// tendMembers keeps the registry and what the host knows together, until life ends.
func (s *Service) tendMembers(life context.Context) error {
	events, err := s.store.Watch(life, ds.NewKey("/members"), 0)
	if err != nil {
		return err
	}
	s.wg.Go(func() {
		tick := time.NewTicker(2 * time.Second)
		defer tick.Stop()
		for {
			if err := s.settleMembers(life); err != nil && life.Err() == nil {
				s.log.Warn("members not read", "err", err)
			}
			select {
			case _, open := <-events:
				if !open {
					return
				}
				for drained := false; !drained; { // one look for many changes
					select {
					case _, open := <-events:
						drained = !open
					default:
						drained = true
					}
				}
			case <-tick.C:
			case <-life.Done():
				return
			}
		}
	})
	return nil
}

func (s *Service) settleMembers(ctx context.Context) error {
	r, err := s.registry(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for p, signed := range r.revoked {
		if !s.host.Members().Revoked(p) {
			if err := s.host.Members().Revoke(ctx, signed); err != nil && !errors.Is(err, taubyte.ErrForbidden) { // ended
				errs = append(errs, err)
			}
		}
	}
	for _, m := range s.host.Members().All() {
		if _, known := r.members[m.Peer]; !known {
			errs = append(errs, s.see(ctx, m))
		}
	}
	for _, a := range r.late {
		// It used a token that another had used on the other side of a partition.
		if _, gone := r.revoked[a.Peer]; !gone && s.authority != nil {
			s.log.Warn("two nodes joined with one token", "name", a.Name, "late", a.Peer)
			errs = append(errs, s.revoke(ctx, a.Peer))
		}
	}
	now := time.Now()
	for _, i := range r.invitations {
		if now.Sub(i.Ends) > keepInvitation {
			errs = append(errs, s.store.Delete(ctx, ds.RawKey(membersPrefix+"invitations/"+i.ID)))
		}
	}
	return errors.Join(errs...)
}
