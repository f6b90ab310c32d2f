package auth

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
)

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
