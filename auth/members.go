package auth

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rendezvous"
	"github.com/taubyte/taubyte/internal/rpc"
)

// DefaultInvitation is how long a token that AddMember makes is good where nothing
// else is said, and MaxInvitation the longest.
const (
	DefaultInvitation = 15 * time.Minute
	MaxInvitation     = 7 * 24 * time.Hour
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

// An Invitation is a token with which one node becomes a member.
type Invitation struct {
	// Token is secret. It holds the network's swarm key, and admits who shows it first.
	Token string         `json:"token"`
	Name  string         `json:"name"`
	Roles []taubyte.Role `json:"roles"`
	Ends  time.Time      `json:"ends"`
}

// The replicated keys of the registry. Two nodes never write one key: the last part
// says who wrote it, or made it.
//
//	/members/invitations/<id>             an invitation
//	/members/withdrawn/<id>/<by>          it was revoked
//	/members/admissions/<id>/<peer>/<by>  it was used: a record
//	/members/seen/<peer>/<by>             a member that came with its membership: a record
//	/members/revoked/<peer>/<by>          a taubyte.Revocation, signed
type invitation struct {
	ID    string         `json:"id"`
	Name  string         `json:"name"`
	Roles []taubyte.Role `json:"roles"`
	Hash  []byte         `json:"hash"` // SHA-256 of the secret
	Made  time.Time      `json:"made"`
	Ends  time.Time      `json:"ends"`
}

// record is a member as it was admitted or first seen.
type record struct {
	Peer  peer.ID        `json:"peer"`
	Name  string         `json:"name,omitempty"`
	Roles []taubyte.Role `json:"roles"`
	Since time.Time      `json:"since"`
}

// earlier orders two records, alike on every node.
func (r record) earlier(o record) bool {
	return cmp.Or(r.Since.Compare(o.Since), cmp.Compare(r.Peer, o.Peer)) < 0
}

const membersPrefix = "/members/"

// keepInvitation is how long an invitation is remembered after its end, so that who
// comes late is told why it is refused.
const keepInvitation = 24 * time.Hour

// registry is what the replicated keys say, the same on every node that has the same
// keys.
type registry struct {
	invitations map[string]invitation
	withdrawn   map[string]bool
	admitted    map[string]record  // by invitation: who used it first
	late        []record           // those who used one that was used
	members     map[peer.ID]record // revoked ones included
	revoked     map[peer.ID][]byte // signed
	names       map[string]claim   // whose a name is
	seen        map[peer.ID]bool   // that have a record of their own
}

// claim is a member's or an invitation's to a name.
type claim struct {
	since time.Time
	by    string // the peer, or the invitation
}

func (s *Service) registry(ctx context.Context) (*registry, error) {
	r := &registry{
		invitations: map[string]invitation{}, withdrawn: map[string]bool{}, admitted: map[string]record{},
		members: map[peer.ID]record{}, revoked: map[peer.ID][]byte{}, names: map[string]claim{}, seen: map[peer.ID]bool{},
	}
	parts := func(key, kind string) []string {
		return strings.Split(strings.TrimPrefix(key, membersPrefix+kind+"/"), "/")
	}
	used := map[string][]record{}
	err := errors.Join(
		each(ctx, s.store, membersPrefix+"invitations", func(_ string, i invitation) { r.invitations[i.ID] = i }),
		each(ctx, s.store, membersPrefix+"withdrawn", func(key string, _ time.Time) { r.withdrawn[parts(key, "withdrawn")[0]] = true }),
		each(ctx, s.store, membersPrefix+"admissions", func(key string, a record) {
			id := parts(key, "admissions")[0]
			used[id] = append(used[id], a)
		}),
		each(ctx, s.store, membersPrefix+"seen", func(_ string, m record) {
			r.seen[m.Peer] = true
			r.add(m)
		}),
		each(ctx, s.store, membersPrefix+"revoked", func(key string, signed []byte) {
			if p, err := peer.Decode(parts(key, "revoked")[0]); err == nil {
				r.revoked[p] = signed
			}
		}),
	)
	if err != nil {
		return nil, err
	}
	for id, all := range used {
		first := all[0]
		for _, a := range all[1:] {
			if a.earlier(first) {
				first = a
			}
		}
		r.admitted[id] = first
		r.add(first)
		for _, a := range all {
			if a.Peer != first.Peer {
				r.late = append(r.late, a)
			}
		}
	}
	for _, m := range r.members {
		if _, gone := r.revoked[m.Peer]; !gone {
			r.name(m.Name, claim{m.Since, string(m.Peer)})
		}
	}
	now := time.Now()
	for _, i := range r.invitations {
		if r.pending(i, now) {
			r.name(i.Name, claim{i.Made, i.ID})
		}
	}
	return r, nil
}

func (r *registry) add(m record) {
	if have, ok := r.members[m.Peer]; !ok || m.earlier(have) {
		r.members[m.Peer] = m
	}
}

func (r *registry) name(name string, c claim) {
	have, ok := r.names[name]
	if name != "" && (!ok || cmp.Or(c.since.Compare(have.since), cmp.Compare(c.by, have.by)) < 0) {
		r.names[name] = c
	}
}

// pending reports whether an invitation may still be used.
func (r *registry) pending(i invitation, now time.Time) bool {
	_, used := r.admitted[i.ID]
	return !used && !r.withdrawn[i.ID] && now.Before(i.Ends)
}

// owns reports whether a name is the member's.
func (r *registry) owns(m record) bool { return m.Name == "" || r.names[m.Name].by == string(m.Peer) }

// find returns the member of a name or peer ID; of several the one that is not revoked.
func (r *registry) find(who string) (m record, ok bool) {
	for _, c := range r.members {
		if c.Peer.String() != who && (c.Name != who || who == "") {
			continue
		}
		_, gone := r.revoked[c.Peer]
		_, had := r.revoked[m.Peer]
		if !ok || had && !gone || had == gone && r.owns(c) {
			m, ok = c, true
		}
	}
	return m, ok
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

// AddMember invites a node to the network under a name and in some roles, and returns
// the token that it joins with, once and for so long (DefaultInvitation where valid is
// 0). The name is the node's for as long as the invitation is good or it is a member.
// Nodes of role auth get the network's root key when they join.
//
// For nodes of role auth and the administrator. ErrInvalid: no name, no roles, or too
// long. ErrConflict: the name is taken.
func (s *Service) AddMember(ctx context.Context, name string, roles []taubyte.Role, valid time.Duration) (Invitation, error) {
	if valid == 0 {
		valid = DefaultInvitation
	}
	if valid < 0 || valid > MaxInvitation {
		return Invitation{}, fmt.Errorf("%w invitation: good for %s (it is at most %s)", taubyte.ErrInvalid, valid, MaxInvitation)
	}
	if s.authority == nil {
		return Invitation{}, s.noAuthority()
	}
	roles, err := checkRoles(roles)
	if err != nil {
		return Invitation{}, err
	}
	secret := make([]byte, 32)
	id := make([]byte, 12)
	_, _ = rand.Read(secret) // never fails
	_, _ = rand.Read(id)
	hash := sha256.Sum256(secret)
	now := time.Now().UTC()
	i := invitation{ID: hex.EncodeToString(id), Name: name, Roles: roles, Hash: hash[:], Made: now, Ends: now.Add(valid)}
	err = s.arbitrate(ctx, "name/"+name, func() error { return s.invite(ctx, i) }, func(ctx context.Context, p peer.ID) error {
		return s.rpc.CallPeer(ctx, p, http.MethodPost, "/members/invitations", i, nil)
	})
	if err != nil {
		return Invitation{}, err
	}
	// So that this node reads what it was told is written; if not now, then soon.
	wait, cancel := context.WithTimeout(ctx, arbiterTime)
	_ = s.store.Await(wait, ds.RawKey(membersPrefix+"invitations/"+i.ID))
	cancel()
	s.log.Info("member invited", "name", name, "roles", roles, "until", i.Ends)
	t := token{Network: s.authority.Network(), ID: i.ID, Secret: secret, Addrs: s.authAddrs()}
	text, err := t.text()
	return Invitation{Token: text, Name: name, Roles: roles, Ends: i.Ends}, err
}

func checkRoles(roles []taubyte.Role) ([]taubyte.Role, error) {
	if len(roles) == 0 {
		return nil, fmt.Errorf("%w member: it holds no role (the roles are %v)", taubyte.ErrInvalid, taubyte.Roles())
	}
	for _, r := range roles {
		if _, err := taubyte.ParseRole(string(r)); err != nil {
			return nil, err
		}
	}
	roles = slices.Clone(roles)
	slices.Sort(roles)
	return slices.Compact(roles), nil
}

// invite records an invitation if its name is free. membersMu is held.
func (s *Service) invite(ctx context.Context, i invitation) error {
	if err := taubyte.CheckNodeName(i.Name); err != nil {
		return err
	}
	if _, err := checkRoles(i.Roles); err != nil {
		return err
	}
	if _, err := hex.DecodeString(i.ID); err != nil || len(i.Hash) != sha256.Size || i.Ends.Sub(i.Made) > MaxInvitation {
		return fmt.Errorf("%w invitation", taubyte.ErrInvalid)
	}
	r, err := s.registry(ctx)
	if err != nil {
		return err
	}
	if c, taken := r.names[i.Name]; taken && c.by != i.ID {
		return fmt.Errorf("%w: the name %s is taken", taubyte.ErrConflict, i.Name)
	}
	return s.put(ctx, ds.RawKey(membersPrefix+"invitations/"+i.ID), i)
}

// Members lists who is a member, who was, and who is invited, by name.
//
// For nodes of role auth and the administrator.
func (s *Service) Members(ctx context.Context) ([]Member, error) {
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
// For the member itself. ErrForbidden: it was revoked. ErrUnavailable: this node has no
// authority.
func (s *Service) Renew(ctx context.Context, m taubyte.Membership) ([]byte, error) {
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
// For nodes of role auth and the administrator. ErrNotFound: there is no such member.
// ErrForbidden: it was revoked.
func (s *Service) RenewMember(ctx context.Context, who string) ([]byte, error) {
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
// For nodes of role auth and the administrator. ErrNotFound: there is no such member.
// ErrConflict: it is this node itself; another one can.
func (s *Service) RevokeMember(ctx context.Context, who string) error {
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

// authAddrs are addresses of nodes that run auth, this one first.
func (s *Service) authAddrs() []string {
	const most = 8
	var all []string
	add := func(info peer.AddrInfo) {
		addrs, err := peer.AddrInfoToP2pAddrs(&info)
		if err != nil {
			return
		}
		for _, a := range addrs {
			all = append(all, a.String())
		}
	}
	add(peer.AddrInfo{ID: s.host.ID(), Addrs: s.host.Addrs()})
	for _, p := range s.authNodes() {
		if p != s.host.ID() && len(all) < most {
			add(s.host.Peerstore().PeerInfo(p))
		}
	}
	return all[:min(len(all), most)]
}

// otherAddrs are addresses of members that this node is connected to.
func (s *Service) otherAddrs() []string {
	const most = 16
	var all []string
	for _, p := range s.host.Network().Peers() {
		if _, member := s.host.Members().Known(p); !member || s.host.Network().Connectedness(p) != network.Connected {
			continue
		}
		info := s.host.Peerstore().PeerInfo(p)
		if addrs, err := peer.AddrInfoToP2pAddrs(&info); err == nil && len(addrs) > 0 {
			all = append(all, addrs[0].String())
		}
		if len(all) == most {
			break
		}
	}
	return all
}
