package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
)

// DefaultInvitation is how long a token that AddMember makes is good where nothing
// else is said, and MaxInvitation the longest.
const (
	DefaultInvitation = 15 * time.Minute
	MaxInvitation     = 7 * 24 * time.Hour
)

// An Invitation is a token with which one node becomes a member.
type Invitation struct {
	// Token is secret. It holds the network's swarm key, and admits who shows it first.
	Token string         `json:"token"`
	Name  string         `json:"name"`
	Roles []taubyte.Role `json:"roles"`
	Ends  time.Time      `json:"ends"`
}

// AddMember invites a node to the network under a name and in some roles, and returns
// the token that it joins with, once and for so long (DefaultInvitation where valid is
// 0). The name is the node's for as long as the invitation is good or it is a member.
// Nodes of role auth get the network's root key when they join.
//
// For nodes of role auth, and the verb administer on everything. ErrInvalid: no name, no roles, or too
// long. ErrConflict: the name is taken.
func (s *Service) AddMember(ctx context.Context, name string, roles []taubyte.Role, valid time.Duration) (Invitation, error) {
	if err := taubyte.Allow(ctx, taubyte.VerbAdminister, "", taubyte.RoleAuth); err != nil {
		return Invitation{}, err
	}
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
