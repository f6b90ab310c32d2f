package taubyte

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/boxo/bitswap"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/namespace"
	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/routing"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	ma "github.com/multiformats/go-multiaddr"
)

// HostOption changes what NewHost makes.
type HostOption func(*hostConfig)

type hostConfig struct {
	listen    []ma.Multiaddr
	peers     []peer.AddrInfo
	authority *Authority
	roles     []Role
	name      string
	network   *Network
	source    MembershipSource
	identity  crypto.PrivKey
	keep      func(Network, *Authority) error
	libp2p    host.Host
	log       *slog.Logger
}

// WithListenAddrs sets where the host listens (TCP multiaddrs). The default is
// /ip4/127.0.0.1/tcp/0: reachable from this machine alone, on a free port,
// because a node that nobody configured should be found by nobody.
func WithListenAddrs(addrs ...ma.Multiaddr) HostOption {
	return func(c *hostConfig) { c.listen = addrs }
}

// WithPeers names members to keep connected to. NewHost does not wait for them:
// the host serves at once and dials them in the background for as long as it
// lives. The default is none; a lone node is a whole network.
func WithPeers(peers ...peer.AddrInfo) HostOption {
	return func(c *hostConfig) { c.peers = peers }
}

// WithAuthority makes the host a member, in the roles, of the network that it
// owns the root key of. It signs and renews its own membership. Without this
// option and without WithMembership the host makes an authority of its own, kept
// in its store, and holds all roles: a network of one, closed to all others.
func WithAuthority(a *Authority, roles ...Role) HostOption {
	return func(c *hostConfig) { c.authority, c.roles = a, roles }
}

// WithName names the node in the membership that it signs for itself: with
// WithAuthority, or alone. Where somebody else signs, the membership has the name, and
// this option is ErrInvalid. The default is none. See CheckNodeName.
func WithName(name string) HostOption { return func(c *hostConfig) { c.name = name } }

// WithMembership makes the host a member of a network whose root key it does
// not have: source gives it memberships that the root signed.
func WithMembership(n Network, source MembershipSource) HostOption {
	return func(c *hostConfig) { c.network, c.source = &n, source }
}

// WithIdentity sets the host's private key, and with it the peer ID. The default is
// a key that is made at the first start and kept in the store ([Identity]). A node
// that has to come back as itself after its store was lost keeps the key elsewhere
// and passes it here: memberships are bound to the peer ID. A host of [WithLibp2p] has
// its own.
func WithIdentity(key crypto.PrivKey) HostOption {
	return func(c *hostConfig) { c.identity = key }
}

// WithKeeper has keep called when the network's keys change, before the host goes by
// the new ones, with the authority that goes with them where the host has one, else
// nil. The host keeps the new description in its store; a program that configures hosts
// by files writes them anew, for a host that loses its store. An error of keep keeps
// the host at the old keys. keep is not called concurrently with itself.
func WithKeeper(keep func(Network, *Authority) error) HostOption {
	return func(c *hostConfig) { c.keep = keep }
}

// WithLibp2p builds upon a libp2p host that the program already runs. It is not
// closed with the Host, its identity and listeners are its own, and the
// network's swarm key is not applied to it; memberships are. Handlers that the
// program has set on it directly stay open to all.
func WithLibp2p(h host.Host) HostOption {
	return func(c *hostConfig) { c.libp2p = h }
}

// WithLogger sets where the host logs. The default is slog.Default().
func WithLogger(l *slog.Logger) HostOption {
	return func(c *hostConfig) { c.log = l }
}

// NodeHost is the Host that NewHost makes.
type NodeHost struct {
	host.Host
	limits  *limiter // nil for a libp2p host of the program's
	network atomic.Pointer[Network]
	gate    *Members
	speaks  *announcer
	ps      *pubsub.PubSub
	dht     *dht.IpfsDHT
	swap    *bitswap.Bitswap
	block   blockservice.BlockService
	shares  shares
	log     *slog.Logger

	stop  context.CancelFunc
	wg    sync.WaitGroup
	once  sync.Once
	ended error
	owns  bool // the libp2p host is ours to close

	mu     sync.RWMutex
	locals map[protocol.ID]any
}

var _ Host = (*NodeHost)(nil)

// NewHost makes a node and starts it. ctx bounds the start only; Close ends the
// node. The store keeps the node's identity (unless [WithIdentity] gives it), its
// blocks and its share of the routing table, each under "/host".
func NewHost(ctx context.Context, store Datastore, opts ...HostOption) (*NodeHost, error) {
	c := hostConfig{
		listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0")},
		log:    slog.Default(),
	}
	for _, o := range opts {
		o(&c)
	}
	if c.authority != nil && c.source != nil {
		return nil, fmt.Errorf("%w host: WithAuthority and WithMembership exclude each other", ErrInvalid)
	}
	if c.name != "" && c.source != nil {
		return nil, fmt.Errorf("%w host: its membership says its name, and WithName another", ErrInvalid)
	}
	own := namespace.Wrap(store, ds.NewKey("/host"))
	// Made before a service can ask for it.
	if _, err := StoreID(ctx, store); err != nil {
		return nil, err
	}
	if c.source == nil {
		if err := c.selfSign(ctx, own); err != nil {
			return nil, err
		}
	}
	h := &NodeHost{log: c.log, locals: map[protocol.ID]any{}, owns: c.libp2p == nil}
	if err := h.start(ctx, store, own, &c); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// selfSign makes the host its own source of memberships, with an authority from
// the store unless the program gave one.
func (c *hostConfig) selfSign(ctx context.Context, own ds.Batching) error {
	if c.authority == nil {
		a, err := storedAuthority(ctx, own)
		if err != nil {
			return err
		}
		c.authority, c.roles = a, Roles()
		keep := c.keep
		c.keep = func(n Network, a *Authority) error {
			if a != nil {
				if err := storeAuthority(context.WithoutCancel(ctx), own, a); err != nil {
					return err
				}
			}
			if keep == nil {
				return nil
			}
			return keep(n, a)
		}
	}
	n, a, name, roles := c.authority.Network(), c.authority, c.name, c.roles
	c.network = &n
	c.source = func(_ context.Context, p peer.ID) ([]byte, error) {
		return a.Sign(p, name, roles, DefaultMembershipLifetime)
	}
	return nil
}

var keyAuthority = ds.NewKey("/authority")

func storedAuthority(ctx context.Context, own ds.Batching) (*Authority, error) {
	a := new(Authority)
	text, err := own.Get(ctx, keyAuthority)
	if err == nil {
		return a, a.UnmarshalText(text)
	}
	if !errors.Is(err, ds.ErrNotFound) {
		return nil, fmt.Errorf("reading the node's authority: %w", err)
	}
	if a, err = NewAuthority(); err != nil {
		return nil, err
	}
	return a, storeAuthority(ctx, own, a)
}

func storeAuthority(ctx context.Context, own ds.Batching, a *Authority) error {
	text, err := a.MarshalText()
	if err == nil {
		err = own.Put(ctx, keyAuthority, text)
	}
	if err != nil {
		return fmt.Errorf("keeping the node's authority: %w", err)
	}
	return nil
}

func (h *NodeHost) start(ctx context.Context, store Datastore, own ds.Batching, c *hostConfig) error {
	life, stop := context.WithCancel(context.Background())
	h.stop = stop
	known, signed, err := storedNetwork(ctx, *c.network, own)
	if err != nil {
		return err
	}
	h.network.Store(&known)

	h.Host = c.libp2p
	if h.owns {
		sk := c.identity
		if sk == nil {
			var err error
			if sk, err = Identity(ctx, store); err != nil {
				return err
			}
		}
		var err error
		if h.limits, err = newLimiter(); err != nil {
			return err
		}
		if h.Host, err = newLibp2p(sk, c, h.swarmKeys, h.limits); err != nil {
			return err
		}
	}
	if signed == nil && c.authority != nil {
		signed = c.authority.state.Load().signed
	}
	revoked, err := loadRevocations(ctx, &h.network, own, c.log)
	if err != nil {
		return err
	}
	h.gate = newMembers(h.Host, &h.network, !h.owns, revoked, c.log)
	h.gate.configured, h.gate.authority, h.gate.keep = c.network.Root, c.authority, c.keep
	if signed != nil {
		h.gate.signedNetwork.Store(&signed)
	}
	if h.limits != nil {
		h.limits.setMembers(func(p peer.ID) bool {
			_, ok := h.gate.Known(p)
			return ok
		})
	}
	m, err := h.renew(ctx, c.source)
	if err != nil {
		return fmt.Errorf("this node's membership: %w", err)
	}
	h.gate.open()
	h.wg.Go(func() { h.keepMembership(life, m, c.source) })

	// From here on everything is built upon h, whose streams are gated.
	if h.speaks, err = newAnnouncer(h); err != nil {
		return err
	}
	h.ps, err = pubsub.NewGossipSub(life, h, pubsub.WithFloodPublish(true),
		pubsub.WithDefaultValidator(h.gate.validate, pubsub.WithValidatorInline(true)))
	if err != nil {
		return fmt.Errorf("starting gossip: %w", err)
	}
	h.dht, err = dht.New(h,
		dht.Mode(dht.ModeServer), // every member is reachable by the others
		dht.ProtocolPrefix("/taubyte"),
		dht.Datastore(namespace.Wrap(own, ds.NewKey("/dht"))),
	)
	if err != nil {
		return fmt.Errorf("starting routing: %w", err)
	}
	blocks := blockstore.NewIdStore(blockstore.NewBlockstore(own))
	h.swap = bitswap.New(life, bsnet.NewFromIpfsHost(h), h.dht, blocks, bitswap.WithPeerBlockRequestFilter(h.mayFetch))
	h.block = blockservice.New(blocks, h.swap)

	for _, p := range c.peers {
		if p.ID != h.ID() {
			h.wg.Go(func() { h.keepConnected(life, p) })
		}
	}
	return nil
}

// swarmKeys returns the keys under which connections are made and accepted.
func (h *NodeHost) swarmKeys() []pnet.PSK { return h.network.Load().swarmKeys() }

func newLibp2p(sk crypto.PrivKey, c *hostConfig, keys swarmKeys, limits *limiter) (host.Host, error) {
	h, err := libp2p.New(
		libp2p.Identity(sk),
		libp2p.ListenAddrs(c.listen...),
		libp2p.Transport(keys.transport),
		libp2p.Security(noise.ID, noise.New),
		libp2p.ResourceManager(limits),
		muxer(),
		libp2p.UserAgent("taubyte"),
		libp2p.DisableRelay(),
		libp2p.DisableMetrics(), // they would go to the process's default registerer
	)
	if err != nil {
		return nil, fmt.Errorf("starting libp2p on %v: %w", c.listen, err)
	}
	return h, nil
}

// renew fetches and installs this node's membership.
func (h *NodeHost) renew(ctx context.Context, source MembershipSource) (Membership, error) {
	signed, err := source(ctx, h.ID())
	if err != nil {
		return Membership{}, err
	}
	m, err := h.network.Load().Verify(signed, h.ID(), time.Now())
	if err != nil {
		return Membership{}, err
	}
	h.gate.setOwn(signed, m)
	return m, nil
}

// keepMembership renews at two thirds of the lifetime, and on failure again and
// again until it works.
func (h *NodeHost) keepMembership(ctx context.Context, m Membership, source MembershipSource) {
	for {
		wait := max(time.Until(m.NotBefore.Add(m.NotAfter.Sub(m.NotBefore)*2/3)), 100*time.Millisecond)
		if !signedBy(h.gate.Signed(), h.network.Load().Root) {
			wait = time.Second // whoever renews it may not know yet
		}
		select {
		case <-time.After(wait):
		case <-h.gate.renewing:
		case <-ctx.Done():
			return
		}
		next, err := h.renew(ctx, source)
		if err != nil {
			if ctx.Err() == nil {
				h.log.Warn("membership not renewed", "until", m.NotAfter, "err", err)
			}
			if again := m.NotAfter.Sub(m.NotBefore) / 20; !sleep(ctx, max(min(again, time.Minute), time.Second)) {
				return
			}
			continue
		}
		m = next
		h.gate.tell("", nil) // before the others drop the old one
	}
}

// keepConnected dials a peer whenever it is not connected, unless it was revoked.
func (h *NodeHost) keepConnected(ctx context.Context, p peer.AddrInfo) {
	const least, most = 200 * time.Millisecond, 5 * time.Second
	wait := least
	for {
		if h.Network().Connectedness(p.ID) == network.Connected {
			wait = least
		} else if h.gate.Revoked(p.ID) {
			wait = most
		} else {
			dial, cancel := context.WithTimeout(network.WithForceDirectDial(ctx, "keep connected"), most)
			err := h.Connect(dial, p)
			cancel()
			if err != nil {
				h.log.Debug("peer not reached", "peer", p.ID, "err", err)
				wait = min(wait*2, most)
			} else {
				wait = least
			}
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

// sleep waits, and reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Close ends the node. It may be called twice. Services on the host are closed
// before it, the store after it.
func (h *NodeHost) Close() error {
	h.once.Do(func() {
		if h.stop != nil {
			h.stop()
		}
		h.wg.Wait()
		var errs []error
		if h.swap != nil {
			errs = append(errs, h.swap.Close())
		}
		if h.dht != nil {
			errs = append(errs, h.dht.Close())
		}
		if h.speaks != nil {
			errs = append(errs, h.speaks.close())
		}
		if h.gate != nil {
			h.gate.close()
		}
		if h.owns && h.Host != nil {
			errs = append(errs, h.Host.Close())
		}
		h.ended = errors.Join(errs...)
	})
	return h.ended
}

// PubSub implements Host.
func (h *NodeHost) PubSub() *pubsub.PubSub { return h.ps }

// Routing implements Host.
func (h *NodeHost) Routing() routing.Routing { return h.dht }

// Blocks implements Host.
func (h *NodeHost) Blocks() blockservice.BlockService { return h.block }

// Members implements Host.
func (h *NodeHost) Members() *Members { return h.gate }

// Member implements Host.
func (h *NodeHost) Member(ctx context.Context, p peer.ID) (Membership, error) {
	return h.gate.admit(ctx, p)
}

// NewStream opens a stream to a member.
func (h *NodeHost) NewStream(ctx context.Context, p peer.ID, pids ...protocol.ID) (network.Stream, error) {
	if _, err := h.gate.admit(ctx, p); err != nil {
		return nil, err
	}
	return h.Host.NewStream(ctx, p, pids...)
}

// SetStreamHandler sets a handler that only members reach.
func (h *NodeHost) SetStreamHandler(id protocol.ID, handler network.StreamHandler) {
	h.Host.SetStreamHandler(id, h.gate.guard(handler))
}

// SetStreamHandlerMatch sets a handler that only members reach.
func (h *NodeHost) SetStreamHandlerMatch(id protocol.ID, match func(protocol.ID) bool, handler network.StreamHandler) {
	h.Host.SetStreamHandlerMatch(id, match, h.gate.guard(handler))
}

// Provide implements Host.
func (h *NodeHost) Provide(id protocol.ID, service any) (func(), error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, taken := h.locals[id]; taken {
		return nil, fmt.Errorf("%w: this host already runs %s", ErrConflict, id)
	}
	h.locals[id] = service
	var once sync.Once
	return func() {
		once.Do(func() {
			h.mu.Lock()
			delete(h.locals, id)
			h.mu.Unlock()
		})
	}, nil
}

// Local implements Host.
func (h *NodeHost) Local(id protocol.ID) any {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.locals[id]
}

// Provided implements Host.
func (h *NodeHost) Provided() []protocol.ID {
	h.mu.RLock()
	defer h.mu.RUnlock()
	ids := make([]protocol.ID, 0, len(h.locals))
	for id := range h.locals {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
