package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	manet "github.com/multiformats/go-multiaddr/net"
	"golang.org/x/time/rate"

	"github.com/taubyte/taubyte"
)

// joinProtocol is how a node that is no member becomes one: it sends a joinRequest as
// JSON and the end of its direction, and receives a joinAnswer. It is the one protocol
// that is open to strangers, on auth nodes alone.
const joinProtocol protocol.ID = "/taubyte/join/1"

const (
	maxJoinRequest = 1 << 10
	maxJoinAnswer  = 64 << 10
	joinTime       = 4 * time.Second // a stranger is disconnected a little later
	joinsAtOnce    = 16
	joinBurst      = 10 // of one address; then one a second
	joinAddresses  = 1 << 10
)

type joinRequest struct {
	ID     string `json:"id"`
	Secret []byte `json:"secret"`
}

type joinAnswer struct {
	Error      string         `json:"error,omitempty"`
	Code       string         `json:"code,omitempty"`
	Membership []byte         `json:"membership,omitempty"`
	Name       string         `json:"name,omitempty"`
	Roles      []taubyte.Role `json:"roles,omitempty"`
	Peers      []string       `json:"peers,omitempty"`
	Settings   Settings       `json:"settings"`
	Authority  []byte         `json:"authority,omitempty"` // for nodes that run auth
}

// Settings are what all nodes of a network are configured with alike. A node that joins
// is told.
type Settings struct {
	Zone        string `json:"zone,omitempty"`
	Development bool   `json:"development,omitempty"`
	// VerifiedOnly is nil for the default: see cloud.WithVerifiedOnly.
	VerifiedOnly *bool `json:"verified_only,omitempty"`
}

// WithSettings sets what nodes that join are told. The default is nothing.
func WithSettings(s Settings) Option { return func(o *options) { o.settings = s } }

// joinCodes are the errors of a joinAnswer.
var joinCodes = map[string]error{
	"invalid": taubyte.ErrInvalid, "not-found": taubyte.ErrNotFound, "forbidden": taubyte.ErrForbidden,
	"conflict": taubyte.ErrConflict, "unavailable": taubyte.ErrUnavailable,
}

// A token is what a node joins with.
type token struct {
	Network taubyte.Network `json:"network"`
	ID      string          `json:"id"`
	Secret  []byte          `json:"secret"`
	Addrs   []string        `json:"addrs"`
}

const (
	tokenPrefix = "taubyte-join-1-"
	maxToken    = 8 << 10
)

func (t token) text() (string, error) {
	raw, err := json.Marshal(t)
	if err != nil {
		return "", err
	}
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(raw), nil
}

func parseToken(text string) (t token, err error) {
	text, ok := strings.CutPrefix(strings.TrimSpace(text), tokenPrefix)
	if !ok || len(text) > maxToken {
		return t, fmt.Errorf("%w token: \"taubyte member add\" makes one, beginning with %s", taubyte.ErrInvalid, tokenPrefix)
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return t, fmt.Errorf("%w token: %w", taubyte.ErrInvalid, err)
	}
	if err := json.Unmarshal(raw, &t); err != nil {
		return t, fmt.Errorf("%w token: %w", taubyte.ErrInvalid, err)
	}
	if t.Network.Root == nil || t.ID == "" || len(t.Secret) == 0 || len(t.Addrs) == 0 {
		return t, fmt.Errorf("%w token: it is incomplete", taubyte.ErrInvalid)
	}
	return t, nil
}

// joins is the door for those who join.
type joins struct {
	places chan struct{}
	mu     sync.Mutex
	from   map[string]*rate.Limiter
}

// allow bounds the attempts of one address.
func (j *joins) allow(addr string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	l, ok := j.from[addr]
	if !ok {
		if len(j.from) >= joinAddresses {
			clear(j.from)
		}
		l = rate.NewLimiter(1, joinBurst)
		j.from[addr] = l
	}
	return l.Allow()
}

func (s *Service) serveJoins() (remove func(), err error) {
	j := &joins{places: make(chan struct{}, joinsAtOnce), from: map[string]*rate.Limiter{}}
	return s.host.Members().HandleStrangers(joinProtocol, func(stream network.Stream) {
		s.mu.Lock()
		if s.life.Err() != nil {
			s.mu.Unlock()
			_ = stream.Reset()
			return
		}
		s.wg.Add(1)
		s.mu.Unlock()
		defer s.wg.Done()
		ip, err := manet.ToIP(stream.Conn().RemoteMultiaddr())
		if err != nil {
			ip = net.IPv6zero
		}
		select {
		case j.places <- struct{}{}:
			defer func() { <-j.places }()
		default:
			_ = stream.Reset()
			return
		}
		if !j.allow(ip.String()) {
			_ = stream.Reset()
			return
		}
		s.answerJoin(stream)
	})
}

func (s *Service) answerJoin(stream network.Stream) {
	ctx, cancel := context.WithTimeout(s.life, joinTime)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = stream.Reset() })
	defer stop()
	p := stream.Conn().RemotePeer()
	var req joinRequest
	raw, err := io.ReadAll(io.LimitReader(stream, maxJoinRequest+1))
	if err == nil && (len(raw) > maxJoinRequest || json.Unmarshal(raw, &req) != nil) {
		err = fmt.Errorf("%w request to join", taubyte.ErrInvalid)
	}
	var answer joinAnswer
	if err == nil {
		answer, err = s.admit(ctx, p, req)
	}
	if err != nil {
		s.log.Warn("node not admitted", "peer", p, "err", err)
		answer = joinAnswer{Error: err.Error(), Code: "unavailable"}
		for code, is := range joinCodes {
			if errors.Is(err, is) {
				answer.Code = code
			}
		}
	}
	if raw, err := json.Marshal(answer); err == nil {
		_, _ = stream.Write(raw)
	}
	_ = stream.Close()
}

// admit makes the peer a member, if it shows the secret of an invitation that nobody
// else has used.
func (s *Service) admit(ctx context.Context, p peer.ID, req joinRequest) (joinAnswer, error) {
	if s.authority == nil {
		return joinAnswer{}, s.noAuthority()
	}
	i, err := s.invitation(ctx, req.ID)
	if err != nil {
		return joinAnswer{}, err
	}
	hash := sha256.Sum256(req.Secret)
	if subtle.ConstantTimeCompare(hash[:], i.Hash) != 1 {
		return joinAnswer{}, fmt.Errorf("%w: this is not the invitation's secret", taubyte.ErrForbidden)
	}
	use := usedInvitation{i, p}
	err = s.arbitrate(ctx, "invitation/"+i.ID, func() error { return s.use(ctx, use) }, func(ctx context.Context, at peer.ID) error {
		return s.rpc.CallPeer(ctx, at, http.MethodPost, "/members/admissions", use, nil)
	})
	if err != nil {
		return joinAnswer{}, err
	}
	signed, err := s.authority.Sign(p, i.Name, i.Roles, taubyte.DefaultMembershipLifetime)
	if err != nil {
		return joinAnswer{}, err
	}
	a := joinAnswer{Membership: signed, Name: i.Name, Roles: i.Roles, Settings: s.settings, Peers: append(s.authAddrs(), s.otherAddrs()...)}
	slices.Sort(a.Peers)
	a.Peers = slices.Compact(a.Peers)
	if slices.Contains(i.Roles, taubyte.RoleAuth) {
		if a.Authority, err = s.authority.MarshalText(); err != nil {
			return joinAnswer{}, err
		}
	}
	s.log.Info("member admitted", "peer", p, "name", i.Name, "roles", i.Roles)
	return a, nil
}

// invitation returns one that may just have been made on another node.
func (s *Service) invitation(ctx context.Context, id string) (i invitation, err error) {
	if id == "" || len(id) > 64 || strings.ContainsAny(id, "/ ") {
		return i, fmt.Errorf("%w invitation", taubyte.ErrInvalid)
	}
	key := ds.RawKey(membersPrefix + "invitations/" + id)
	for end := time.Now().Add(joinTime / 2); ; {
		raw, err := s.store.Get(ctx, key)
		if err == nil {
			return i, json.Unmarshal(raw, &i)
		}
		if !errors.Is(err, ds.ErrNotFound) {
			return i, err
		}
		if time.Now().After(end) {
			return i, fmt.Errorf("%w: this node knows no such invitation: it ended long ago, or was made where this node does not reach", taubyte.ErrNotFound)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return i, ctx.Err()
		}
	}
}

// usedInvitation is what an arbiter is asked for. It brings the invitation, which may
// not have reached the arbiter.
type usedInvitation struct {
	Invitation invitation `json:"invitation"`
	Peer       peer.ID    `json:"peer"`
}

// use records that a peer used an invitation. The same peer may again, when the answer
// was lost. membersMu is held.
func (s *Service) use(ctx context.Context, u usedInvitation) error {
	r, err := s.registry(ctx)
	if err != nil {
		return err
	}
	i := u.Invitation
	first, used := r.admitted[i.ID]
	owner, named := r.names[i.Name]
	switch {
	case r.withdrawn[i.ID]:
		return fmt.Errorf("%w: this invitation was revoked", taubyte.ErrForbidden)
	case !time.Now().Before(i.Ends):
		return fmt.Errorf("%w: this invitation ended at %s", taubyte.ErrForbidden, i.Ends.Format(time.RFC3339))
	case used && first.Peer != u.Peer:
		return fmt.Errorf("%w: this invitation was used already", taubyte.ErrConflict)
	case r.revoked[u.Peer] != nil || s.host.Members().Revoked(u.Peer):
		return fmt.Errorf("%w: the membership of %s is revoked", taubyte.ErrForbidden, u.Peer)
	case used:
		return nil
	case named && owner.by != i.ID:
		return fmt.Errorf("%w: the name %s was given to another node", taubyte.ErrConflict, i.Name)
	}
	if have, member := r.members[u.Peer]; member {
		return fmt.Errorf("%w: %s is a member already, as %q", taubyte.ErrConflict, u.Peer, have.Name)
	}
	key := ds.RawKey(membersPrefix + "admissions/" + i.ID + "/" + u.Peer.String() + "/" + s.host.ID().String())
	return s.put(ctx, key, record{Peer: u.Peer, Name: i.Name, Roles: i.Roles, Since: time.Now().UTC()})
}

// An Admission is what a node that joined needs to start.
type Admission struct {
	Network    taubyte.Network
	Membership []byte // signed
	Name       string
	Roles      []taubyte.Role
	Peers      []string // multiaddrs of members, with /p2p/<id>
	Settings   Settings
	Authority  *taubyte.Authority // of nodes that run auth, else nil
}

// Join makes the node of that key a member of the network that a token of AddMember is
// for. It asks the auth nodes that the token names, one after the other until one
// answers. Asking again with the same key is answered again, so that a lost answer
// costs nothing.
//
// ErrInvalid: this is no token. ErrNotFound, ErrForbidden: it is unknown, has ended, or
// was revoked. ErrConflict: another node used it. ErrUnavailable: no auth node answers.
func Join(ctx context.Context, text string, key crypto.PrivKey) (Admission, error) {
	t, err := parseToken(text)
	if err != nil {
		return Admission{}, err
	}
	h, err := libp2p.New(
		libp2p.Identity(key), libp2p.NoListenAddrs, libp2p.PrivateNetwork(t.Network.SwarmKey), libp2p.UserAgent("taubyte"),
		libp2p.Transport(tcp.NewTCPTransport, tcp.DisableReuseport()), libp2p.Security(noise.ID, noise.New),
		libp2p.DisableRelay(), libp2p.DisableMetrics(),
	)
	if err != nil {
		return Admission{}, fmt.Errorf("joining: %w", err)
	}
	defer h.Close()
	request, err := json.Marshal(joinRequest{t.ID, t.Secret})
	if err != nil {
		return Admission{}, err
	}
	var last error
	for _, s := range t.Addrs {
		to, err := peer.AddrInfoFromString(s)
		if err != nil {
			return Admission{}, fmt.Errorf("%w token: %w", taubyte.ErrInvalid, err)
		}
		var a joinAnswer
		for range 2 { // an answer may be lost
			if a, err = askToJoin(ctx, h, *to, request); err == nil || ctx.Err() != nil {
				break
			}
		}
		if err != nil {
			last = fmt.Errorf("%w: %w", taubyte.ErrUnavailable, err)
			continue
		}
		if a.Error != "" {
			last = refused{a.Error, joinCodes[a.Code]}
			if errors.Is(last, taubyte.ErrUnavailable) || errors.Is(last, taubyte.ErrNotFound) {
				continue // another may know
			}
			return Admission{}, fmt.Errorf("joining: %w", last)
		}
		return a.admission(t.Network, h.ID())
	}
	return Admission{}, fmt.Errorf("joining: %w", last)
}

// refused is an auth node's error in its own words.
type refused struct {
	text string
	is   error
}

func (r refused) Error() string { return r.text }
func (r refused) Unwrap() error { return r.is }

func askToJoin(ctx context.Context, h host.Host, to peer.AddrInfo, request []byte) (a joinAnswer, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*joinTime)
	defer cancel()
	if err := h.Connect(ctx, to); err != nil {
		return a, err
	}
	stream, err := h.NewStream(ctx, to.ID, joinProtocol)
	if err != nil {
		return a, err
	}
	stop := context.AfterFunc(ctx, func() { _ = stream.Reset() })
	defer stop()
	defer stream.Close()
	if _, err := stream.Write(request); err != nil {
		return a, err
	}
	if err := stream.CloseWrite(); err != nil {
		return a, err
	}
	raw, err := io.ReadAll(io.LimitReader(stream, maxJoinAnswer))
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return a, fmt.Errorf("answer of %s: %w", to.ID, err)
	}
	return a, nil
}

func (a joinAnswer) admission(n taubyte.Network, p peer.ID) (Admission, error) {
	// The clock of this node may be wrong; what it is told has to be right.
	if _, err := n.Verify(a.Membership, p, time.Now()); err != nil {
		return Admission{}, fmt.Errorf("joining: %w (does this machine's clock go right?)", err)
	}
	out := Admission{Network: n, Membership: a.Membership, Name: a.Name, Roles: a.Roles, Peers: a.Peers, Settings: a.Settings}
	if len(a.Authority) > 0 {
		out.Authority = new(taubyte.Authority)
		if err := out.Authority.UnmarshalText(bytes.TrimSpace(a.Authority)); err != nil {
			return Admission{}, fmt.Errorf("joining: %w", err)
		}
	}
	return out, nil
}
