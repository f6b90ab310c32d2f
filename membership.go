package taubyte

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/core/record"
)

// DefaultMembershipLifetime is how long an authority vouches for a node before
// the membership has to be renewed. A day is long enough to live through an
// outage of the authority and short enough that a lost node is out by tomorrow.
const DefaultMembershipLifetime = 24 * time.Hour

// MaxMembershipLifetime bounds what a membership may be signed for. A revocation
// has to be remembered for as long.
const MaxMembershipLifetime = 30 * 24 * time.Hour

// Membership says that a peer belongs to a network, and as what.
type Membership struct {
	Peer      peer.ID   `json:"peer"`
	Name      string    `json:"name,omitempty"` // of the node; see CheckNodeName
	Roles     []Role    `json:"roles"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
}

// Has reports whether the member holds one of the roles.
func (m Membership) Has(roles ...Role) bool {
	return slices.ContainsFunc(roles, func(r Role) bool { return slices.Contains(m.Roles, r) })
}

// generatedName is what host names look like that are made for projects: the end of
// an id and digits, a name and the end of an id, a branch and a name.
var generatedName = regexp.MustCompile(`^[a-z0-9]{8}[0-9]*$|-[a-z0-9]{8}$|--`)

var dnsLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// CheckNodeName returns ErrInvalid, with the reason, for a name that no node may
// have. A name is a label of the cluster's DNS zone, in lower case, and none that
// means something else there: a role, "console", "api", "www", "localhost", a name
// server ("ns", "ns1", …), or what looks like a name that is generated for a project.
func CheckNodeName(name string) error {
	_, err := ParseRole(name)
	switch {
	case !dnsLabel.MatchString(name):
		return fmt.Errorf("%w node name %q: it is not a DNS label of lower-case letters, digits and hyphens", ErrInvalid, name)
	case err == nil || slices.Contains([]string{"console", "api", "www", "localhost"}, name) || nameServer.MatchString(name):
		return fmt.Errorf("%w node name %q: it is reserved", ErrInvalid, name)
	case generatedName.MatchString(name):
		return fmt.Errorf("%w node name %q: names of eight letters and digits, or with such an end, and names with %q are generated for projects", ErrInvalid, name, "--")
	}
	return nil
}

var nameServer = regexp.MustCompile(`^ns[0-9]*$`)

// membershipRecord is Membership as the payload of a libp2p signed envelope:
// JSON in an envelope of its own domain, so that the signature is good for
// nothing else.
type membershipRecord struct{ Membership }

func (*membershipRecord) Domain() string { return "taubyte-membership-v1" }
func (*membershipRecord) Codec() []byte  { return []byte("/taubyte/membership/1") }
func (r *membershipRecord) MarshalRecord() ([]byte, error) {
	return json.Marshal(r.Membership)
}
func (r *membershipRecord) UnmarshalRecord(b []byte) error {
	return json.Unmarshal(b, &r.Membership)
}

// Network is what a node must know to recognise the members of its network:
// the swarm key, without which no connection is made (libp2p private network),
// and the root's public key, which signs memberships. Swarm keys are secret.
//
// While a key is replaced by another there are two of it, of which one is in use and
// the other is accepted as well.
type Network struct {
	SwarmKey pnet.PSK      // connections are made under it
	Root     crypto.PubKey // memberships are signed by it

	OtherSwarmKeys []pnet.PSK      // accepted, and tried where SwarmKey is not understood
	OtherRoots     []crypto.PubKey // accepted

	// Version counts the changes. Of two descriptions of one network the higher holds.
	Version uint64
	// SwarmStage and RootStage say how far a replacement is; see Authority.Rotate.
	SwarmStage, RootStage RotationStage
}

// swarmKeys returns all keys, first the one in use.
func (n Network) swarmKeys() []pnet.PSK { return append([]pnet.PSK{n.SwarmKey}, n.OtherSwarmKeys...) }

// trusts reports whether a key is a root of the network.
func (n Network) trusts(key crypto.PubKey) bool {
	return key.Equals(n.Root) || slices.ContainsFunc(n.OtherRoots, func(k crypto.PubKey) bool { return k.Equals(key) })
}

// MarshalJSON encodes the network for a configuration file. The text holds the
// swarm keys.
func (n Network) MarshalJSON() ([]byte, error) {
	j := networkJSON{SwarmKey: n.SwarmKey, Version: n.Version, SwarmStage: n.SwarmStage, RootStage: n.RootStage}
	for _, k := range n.OtherSwarmKeys {
		j.OtherSwarmKeys = append(j.OtherSwarmKeys, k)
	}
	var err error
	if j.Root, err = crypto.MarshalPublicKey(n.Root); err != nil {
		return nil, fmt.Errorf("network's root key: %w", err)
	}
	for _, k := range n.OtherRoots {
		root, err := crypto.MarshalPublicKey(k)
		if err != nil {
			return nil, fmt.Errorf("network's root key: %w", err)
		}
		j.OtherRoots = append(j.OtherRoots, root)
	}
	return json.Marshal(j)
}

// UnmarshalJSON decodes what MarshalJSON wrote.
func (n *Network) UnmarshalJSON(b []byte) error {
	var j networkJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return fmt.Errorf("%w network: %w", ErrInvalid, err)
	}
	if len(j.OtherSwarmKeys) > maxOtherKeys || len(j.OtherRoots) > maxOtherKeys {
		return fmt.Errorf("%w network: more than %d further keys", ErrInvalid, maxOtherKeys)
	}
	read := Network{Version: j.Version, SwarmStage: j.SwarmStage, RootStage: j.RootStage}
	for _, k := range append([][]byte{j.SwarmKey}, j.OtherSwarmKeys...) {
		if len(k) != swarmKeySize {
			return fmt.Errorf("%w network: the swarm key has %d bytes, not %d", ErrInvalid, len(k), swarmKeySize)
		}
		read.OtherSwarmKeys = append(read.OtherSwarmKeys, k)
	}
	for _, k := range append([][]byte{j.Root}, j.OtherRoots...) {
		root, err := crypto.UnmarshalPublicKey(k)
		if err != nil {
			return fmt.Errorf("%w network: root key: %w", ErrInvalid, err)
		}
		read.OtherRoots = append(read.OtherRoots, root)
	}
	if (read.SwarmStage != StageNone && len(j.OtherSwarmKeys) == 0) || (read.RootStage != StageNone && len(j.OtherRoots) == 0) {
		return fmt.Errorf("%w network: a key is being replaced, and there is no other", ErrInvalid)
	}
	read.SwarmKey, read.OtherSwarmKeys = read.OtherSwarmKeys[0], read.OtherSwarmKeys[1:]
	read.Root, read.OtherRoots = read.OtherRoots[0], read.OtherRoots[1:]
	*n = read
	return nil
}

type networkJSON struct {
	SwarmKey       []byte   `json:"swarmKey"`
	Root           []byte   `json:"root"`
	OtherSwarmKeys [][]byte `json:"otherSwarmKeys,omitempty"`
	OtherRoots     [][]byte `json:"otherRoots,omitempty"`
	Version        uint64   `json:"version,omitempty"`

	SwarmStage RotationStage `json:"swarmStage,omitempty"`
	RootStage  RotationStage `json:"rootStage,omitempty"`
}

// maxOtherKeys bounds the keys beside those in use: trying them costs time.
const maxOtherKeys = 4

const swarmKeySize = 32

// Verify checks a membership that a root of the network should have signed, for
// peer p, now. It returns ErrForbidden with the reason.
func (n Network) Verify(signed []byte, p peer.ID, now time.Time) (Membership, error) {
	var rec membershipRecord
	env, err := record.ConsumeTypedEnvelope(signed, &rec)
	if err != nil {
		return Membership{}, fmt.Errorf("%w: membership of %s: %w", ErrForbidden, p, err)
	}
	m := rec.Membership
	switch {
	case !n.trusts(env.PublicKey):
		err = fmt.Errorf("%w: membership of %s is signed by another network's root", ErrForbidden, p)
	case m.Peer != p:
		err = fmt.Errorf("%w: %s shows the membership of %s", ErrForbidden, p, m.Peer)
	case now.Before(m.NotBefore.Add(-clockSkew)):
		err = fmt.Errorf("%w: membership of %s begins at %s", ErrForbidden, p, m.NotBefore.Format(time.RFC3339))
	case !now.Before(m.NotAfter):
		err = fmt.Errorf("%w: membership of %s ended at %s", ErrForbidden, p, m.NotAfter.Format(time.RFC3339))
	case m.NotAfter.Sub(m.NotBefore) > MaxMembershipLifetime:
		err = fmt.Errorf("%w: membership of %s is good for more than %s", ErrForbidden, p, MaxMembershipLifetime)
	}
	if err != nil {
		return Membership{}, err
	}
	return m, nil
}

// clockSkew is how far the clock of a new member's authority may be ahead. There is
// no such allowance at the end: a membership is renewed long before it.
const clockSkew = 2 * time.Minute

// Authority holds a network's root key: it makes members. Whoever has it owns
// the network, so it stays with the nodes of role auth, or offline. It is safe
// for concurrent use. A host that is made with it changes it when the root is replaced.
type Authority struct {
	state atomic.Pointer[authorityState]
}

func newAuthority(key crypto.PrivKey, n Network) *authorityState {
	return &authorityState{network: n, keys: []crypto.PrivKey{key}}
}

// NewAuthority makes a new network: a root key and a swarm key.
func NewAuthority() (*Authority, error) {
	key, pub, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a root key: %w", err)
	}
	swarm := make([]byte, swarmKeySize)
	if _, err := rand.Read(swarm); err != nil {
		return nil, fmt.Errorf("making a swarm key: %w", err)
	}
	a := new(Authority)
	a.state.Store(newAuthority(key, Network{SwarmKey: swarm, Root: pub}))
	return a, nil
}

// Network returns what the members must know.
func (a *Authority) Network() Network { return a.state.Load().network }

// Sign makes p a member in the roles, from now for a lifetime, under a name. The
// empty name is none. That a name is given once is up to the caller.
func (a *Authority) Sign(p peer.ID, name string, roles []Role, lifetime time.Duration) ([]byte, error) {
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("%w member: %w", ErrInvalid, err)
	}
	if name != "" {
		if err := CheckNodeName(name); err != nil {
			return nil, err
		}
	}
	if lifetime <= 0 || lifetime > MaxMembershipLifetime {
		return nil, fmt.Errorf("%w membership: a lifetime of %s (it is at most %s)", ErrInvalid, lifetime, MaxMembershipLifetime)
	}
	now := time.Now().UTC()
	env, err := record.Seal(&membershipRecord{Membership{
		Peer: p, Name: name, Roles: slices.Clone(roles), NotBefore: now, NotAfter: now.Add(lifetime),
	}}, a.state.Load().keys[0])
	if err != nil {
		return nil, fmt.Errorf("signing the membership of %s: %w", p, err)
	}
	return env.Marshal()
}

// MarshalText encodes the authority, private key and all.
func (a *Authority) MarshalText() ([]byte, error) {
	state := a.state.Load()
	if state.network.Version > 0 {
		return state.encode()
	}
	key, err := crypto.MarshalPrivateKey(state.keys[0])
	if err != nil {
		return nil, err
	}
	raw := append(slices.Clone([]byte(state.network.SwarmKey)), key...)
	return base64.RawURLEncoding.AppendEncode(nil, raw), nil
}

// UnmarshalText decodes what MarshalText wrote.
func (a *Authority) UnmarshalText(text []byte) error {
	if bytes.HasPrefix(text, []byte("{")) {
		state, err := decodeAuthority(text)
		if err != nil {
			return err
		}
		a.state.Store(state)
		return nil
	}
	raw, err := base64.RawURLEncoding.AppendDecode(nil, text)
	if err != nil {
		return fmt.Errorf("%w authority: %w", ErrInvalid, err)
	}
	if len(raw) <= swarmKeySize {
		return fmt.Errorf("%w authority: too short", ErrInvalid)
	}
	key, err := crypto.UnmarshalPrivateKey(raw[swarmKeySize:])
	if err != nil {
		return fmt.Errorf("%w authority: %w", ErrInvalid, err)
	}
	a.state.Store(newAuthority(key, Network{SwarmKey: raw[:swarmKeySize:swarmKeySize], Root: key.GetPublic()}))
	return nil
}

// A MembershipSource returns the current signed membership of a peer. The host
// calls it at start and again well before the one that it has runs out; an
// error is logged and the call repeated.
type MembershipSource func(ctx context.Context, p peer.ID) ([]byte, error)
