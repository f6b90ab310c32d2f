package taubyte

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/core/record"
)

// A key of the network is replaced in three steps, each of which is a new version of
// the network's description, signed by a root that the version before trusts:
//
//  1. introduced: there is a second key, which everybody accepts and nobody uses;
//  2. switched: the second key is in use, and the first is accepted still;
//  3. retired: the first is refused.
//
// Members hand the description to each other as they do revocations, so that all that
// are connected have it within a second. A step that somebody has not heard of cuts
// nobody off but the third.

// KeyKind is a kind of key that a network has.
type KeyKind string

// The kinds.
const (
	KeySwarm KeyKind = "swarm" // connections are made under it
	KeyRoot  KeyKind = "root"  // memberships are signed by it
)

// RotationStage is how far the replacement of a key is.
type RotationStage string

// The stages. A key that is not being replaced is in none.
const (
	StageNone       RotationStage = ""
	StageIntroduced RotationStage = "introduced"
	StageSwitched   RotationStage = "switched"
)

// networkRecord is a Network as the payload of a libp2p signed envelope.
type networkRecord struct{ Network }

func (*networkRecord) Domain() string { return "taubyte-network-v1" }
func (*networkRecord) Codec() []byte  { return []byte("/taubyte/network/1") }
func (r *networkRecord) MarshalRecord() ([]byte, error) {
	return json.Marshal(r.Network)
}
func (r *networkRecord) UnmarshalRecord(b []byte) error {
	return json.Unmarshal(b, &r.Network)
}

// maxNetworkSize bounds a description, signed.
const maxNetworkSize = 4 << 10

// networkOf returns the description that a root of the network n has signed. It
// returns ErrForbidden with the reason.
func (n Network) networkOf(signed []byte) (Network, error) {
	var rec networkRecord
	if len(signed) > maxNetworkSize {
		return Network{}, fmt.Errorf("%w: the description of a network of %d bytes", ErrForbidden, len(signed))
	}
	env, err := record.ConsumeTypedEnvelope(signed, &rec)
	if err != nil {
		return Network{}, fmt.Errorf("%w: description of the network: %w", ErrForbidden, err)
	}
	if !n.trusts(env.PublicKey) {
		return Network{}, fmt.Errorf("%w: the description of the network is signed by another network's root", ErrForbidden)
	}
	return rec.Network, nil
}

// sum tells two descriptions of one version apart.
func (n Network) sum() []byte {
	raw, err := json.Marshal(n)
	if err != nil {
		return nil // of a network without a root, which nobody makes
	}
	sum := sha256.Sum256(raw)
	return sum[:8]
}

// before reports whether another description takes the place of n. Of two that were
// made at once all nodes take the same.
func (n Network) before(version uint64, sum []byte) bool {
	return version > n.Version || version == n.Version && bytes.Compare(sum, n.sum()) > 0
}

// authorityState is what an Authority has. It is not changed.
type authorityState struct {
	network Network
	keys    []crypto.PrivKey // of the roots, first that of Root
	signed  []byte           // the description, unless it is the first version
}

// authorityJSON is an authority that has rotated keys, as text.
type authorityJSON struct {
	Network Network  `json:"network"`
	Keys    [][]byte `json:"keys"`
	Signed  []byte   `json:"signed"`
}

func (s *authorityState) encode() ([]byte, error) {
	j := authorityJSON{Network: s.network, Signed: s.signed}
	for _, k := range s.keys {
		raw, err := crypto.MarshalPrivateKey(k)
		if err != nil {
			return nil, err
		}
		j.Keys = append(j.Keys, raw)
	}
	return json.Marshal(j)
}

func decodeAuthority(text []byte) (*authorityState, error) {
	var j authorityJSON
	if err := json.Unmarshal(text, &j); err != nil {
		return nil, fmt.Errorf("%w authority: %w", ErrInvalid, err)
	}
	s := &authorityState{network: j.Network, signed: j.Signed}
	for _, raw := range j.Keys {
		k, err := crypto.UnmarshalPrivateKey(raw)
		if err != nil {
			return nil, fmt.Errorf("%w authority: %w", ErrInvalid, err)
		}
		s.keys = append(s.keys, k)
	}
	if s.network.Root == nil || len(s.keys) == 0 || !s.keys[0].GetPublic().Equals(s.network.Root) {
		return nil, fmt.Errorf("%w authority: it has not the key of its network's root", ErrInvalid)
	}
	return s, nil
}

// Rotate takes the replacement of a key one step further and returns the new
// description of the network, signed, for Members.Adopt, and the authority that goes
// with it. The authority itself is as before until a host that was made with it adopts
// the description: so that what the others are told is kept first.
func (a *Authority) Rotate(kind KeyKind) (signed []byte, next *Authority, err error) {
	old := a.state.Load()
	n := old.network
	n.Version++
	keys := slices.Clone(old.keys)
	signer := old.keys[0] // the last that everybody knows
	switch kind {
	case KeySwarm:
		n.SwarmStage, n.SwarmKey, n.OtherSwarmKeys, err = nextKey(n.SwarmStage, n.SwarmKey, n.OtherSwarmKeys, func() (pnet.PSK, error) {
			key := make([]byte, swarmKeySize)
			_, err := rand.Read(key)
			return key, err
		})
	case KeyRoot:
		n.RootStage, n.Root, n.OtherRoots, err = nextKey(n.RootStage, n.Root, n.OtherRoots, func() (crypto.PubKey, error) {
			key, pub, err := crypto.GenerateEd25519Key(rand.Reader)
			keys = append(keys, key)
			return pub, err
		})
		keys = slices.DeleteFunc(keys, func(k crypto.PrivKey) bool { return !n.trusts(k.GetPublic()) })
		slices.SortStableFunc(keys, func(x, y crypto.PrivKey) int {
			switch {
			case x.GetPublic().Equals(n.Root):
				return -1
			case y.GetPublic().Equals(n.Root):
				return 1
			}
			return 0
		})
	default:
		err = fmt.Errorf("%w: no key of kind %q (it is %s or %s)", ErrInvalid, kind, KeySwarm, KeyRoot)
	}
	if err != nil {
		return nil, nil, err
	}
	env, err := record.Seal(&networkRecord{n}, signer)
	if err != nil {
		return nil, nil, fmt.Errorf("signing the description of the network: %w", err)
	}
	if signed, err = env.Marshal(); err != nil {
		return nil, nil, err
	}
	next = new(Authority)
	next.state.Store(&authorityState{network: n, keys: keys, signed: signed})
	return signed, next, nil
}

// owns reports whether the authority is that of a description.
func (a *Authority) owns(n Network) bool { return bytes.Equal(a.Network().sum(), n.sum()) }

// nextKey makes the next step of a key.
func nextKey[K any](stage RotationStage, current K, others []K, fresh func() (K, error)) (RotationStage, K, []K, error) {
	switch stage {
	case StageIntroduced:
		return StageSwitched, others[0], []K{current}, nil
	case StageSwitched:
		return StageNone, current, nil, nil
	}
	key, err := fresh()
	return StageIntroduced, current, []K{key}, err
}

// Network returns the description of the network as this node has it.
func (g *Members) Network() Network { return *g.network.Load() }

// Adopt makes a new description of the network known, which Authority.Rotate made:
// here and to all members that are connected, who tell theirs, and to others when they
// connect. It is kept in the host's store. next is the authority that goes with it; it
// takes the place of the one that the host was made with, and other hosts of role auth
// are handed it.
//
// ErrForbidden: no root of the network signed it. ErrConflict: this node has a later
// one.
func (g *Members) Adopt(ctx context.Context, signed []byte, next *Authority) error {
	fresh, err := g.adopt(ctx, signed, next)
	if err == nil && !fresh {
		err = fmt.Errorf("%w: this node has another description of the network, of version %d", ErrConflict, g.Network().Version)
	}
	return err
}

// Behind returns the members that a next step for a kind of key would leave behind:
// those that hold a membership and do not show that they have the description that this
// node has, or, once a root is switched, show a membership of the root before. They are
// asked if need be.
func (g *Members) Behind(ctx context.Context, kind KeyKind) []Membership {
	late := g.behind(kind)
	const atOnce = 16
	places := make(chan struct{}, atOnce)
	var asking sync.WaitGroup
	for _, m := range late {
		if m.Peer == g.host.ID() {
			continue
		}
		asking.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			ctx, cancel := context.WithTimeout(ctx, askBehind)
			defer cancel()
			_ = g.meet(ctx, m.Peer) // who can't be asked stays behind
		})
	}
	asking.Wait()
	return g.behind(kind)
}

// askBehind is what a member has to say which description it has.
const askBehind = 2 * time.Second

func (g *Members) behind(kind KeyKind) []Membership {
	n, now := g.network.Load(), time.Now()
	old := func(signed []byte) bool {
		return kind == KeyRoot && n.RootStage == StageSwitched && !signedBy(signed, n.Root)
	}
	var behind []Membership
	g.table.Range(func(_, v any) bool {
		m := v.(*member)
		if !now.Before(m.NotAfter) || m.Peer == g.host.ID() {
			return true
		}
		shown, _ := g.versions.Load(m.Peer)
		if version, _ := shown.(uint64); version < n.Version || old(m.signed) {
			behind = append(behind, m.Membership)
		}
		return true
	})
	if own := g.own.Load(); old(own.signed) {
		behind = append(behind, own.Membership)
	}
	slices.SortFunc(behind, func(a, b Membership) int { return cmp.Compare(a.Peer, b.Peer) })
	return behind
}

// signedBy reports whether an envelope that was verified is signed by a key.
func signedBy(signed []byte, key crypto.PubKey) bool {
	env, err := record.UnmarshalEnvelope(signed)
	return err == nil && env.PublicKey.Equals(key)
}

// adopt takes in a description. fresh is false for one that is not newer than what is
// known.
func (g *Members) adopt(ctx context.Context, signed []byte, next *Authority) (fresh bool, err error) {
	g.adopting.Lock()
	defer g.adopting.Unlock()
	n, err := g.network.Load().networkOf(signed)
	if err != nil {
		return false, err
	}
	if !g.network.Load().before(n.Version, n.sum()) {
		return false, nil
	}
	if next != nil && (g.authority == nil || !next.owns(n)) {
		next = nil
	}
	if own := g.own.Load(); next == nil && g.authority != nil && own != nil && own.Has(RoleAuth) && !g.authority.owns(n) {
		return false, nil // told by one that has no authority: it comes from one that has
	}
	// What is told to others is kept first: a key that only this node has made would
	// be lost with the process.
	if g.keep != nil {
		if err := g.keep(n, next); err != nil {
			return false, fmt.Errorf("keeping the network's keys: %w", err)
		}
	}
	if err := g.storeNetwork(ctx, signed); err != nil {
		return false, err
	}
	if next != nil {
		g.authority.state.Store(next.state.Load())
	}
	g.network.Store(&n)
	g.signedNetwork.Store(&signed)
	g.log.Info("network's keys changed", "version", n.Version, "swarm", n.SwarmStage, "root", n.RootStage)
	g.drop(ctx)
	if own := g.own.Load(); own != nil && !signedBy(own.signed, n.Root) {
		select {
		case g.renewing <- struct{}{}:
		default:
		}
	}
	g.tell("", nil) // whoever told of it as well: it waits for this node to have it
	return true, nil
}

// drop forgets whom the network's roots do not vouch for any more, and disconnects who
// shows no other membership: a peer may have told of its new one everybody but this node.
func (g *Members) drop(ctx context.Context) {
	n, now := g.network.Load(), time.Now()
	g.table.Range(func(_, v any) bool {
		m := v.(*member)
		if _, err := n.Verify(m.signed, m.Peer, now); err != nil {
			g.forget(m.Peer)
			if g.host.Network().Connectedness(m.Peer) == network.Connected {
				g.greet(m.Peer)
			}
		}
		return true
	})
	g.revoked.distrust(ctx)
}

// keyNetwork is where a host keeps the description, with the root that it was
// configured with: in another network it is nothing.
var keyNetwork = ds.NewKey("/network")

type keptNetwork struct {
	Root   []byte `json:"root"`
	Signed []byte `json:"signed"`
}

func (g *Members) storeNetwork(ctx context.Context, signed []byte) error {
	root, err := crypto.MarshalPublicKey(g.configured)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(keptNetwork{root, signed})
	if err == nil {
		err = g.revoked.store.Put(ctx, keyNetwork, raw)
	}
	if err != nil {
		return fmt.Errorf("keeping the network's keys: %w", err)
	}
	return nil
}

// storedNetwork returns the newer of the network that a host is configured with and
// the one that it has adopted since, with its signed form if there is one.
func storedNetwork(ctx context.Context, configured Network, own ds.Batching) (Network, []byte, error) {
	raw, err := own.Get(ctx, keyNetwork)
	if errors.Is(err, ds.ErrNotFound) {
		return configured, nil, nil
	}
	if err != nil {
		return configured, nil, fmt.Errorf("reading the network's keys: %w", err)
	}
	var kept keptNetwork
	if err := json.Unmarshal(raw, &kept); err != nil {
		return configured, nil, fmt.Errorf("%w: the network's keys in the store: %w", ErrDamaged, err)
	}
	root, err := crypto.UnmarshalPublicKey(kept.Root)
	if err != nil {
		return configured, nil, fmt.Errorf("%w: the network's keys in the store: %w", ErrDamaged, err)
	}
	var rec networkRecord
	if _, err := record.ConsumeTypedEnvelope(kept.Signed, &rec); err != nil {
		return configured, nil, fmt.Errorf("%w: the network's keys in the store: %w", ErrDamaged, err)
	}
	n := rec.Network
	if !configured.trusts(root) && !n.trusts(configured.Root) {
		return configured, nil, nil // of a network that the node was in before
	}
	if n.Version < configured.Version {
		return configured, nil, nil
	}
	return n, kept.Signed, nil
}
