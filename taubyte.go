package taubyte

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/routing"
)

// The identifiers of the cloud. Each is a type of its own, so that a
// signature with three of them can't be called with two swapped.
type (
	// ProjectID names a project for ever: the text of a CID ("Qm…").
	ProjectID string
	// ApplicationID names an application within a project; empty is the
	// project's global scope.
	ApplicationID string
	// ResourceID names a function, a website, a database … of a project.
	ResourceID string
	// RepositoryID names a git repository: "<provider>/<id at the provider>".
	RepositoryID string
	// Branch is a git branch, without "refs/heads/".
	Branch string
	// Commit is a full git commit hash in lower-case hexadecimal.
	Commit string
	// JobID names a build job. Job identifiers sort by the time of their
	// creation.
	JobID string
)

// A Role is what a node of a network may be: the name of a service.
type Role string

// The roles, one for each service.
const (
	RoleAuth      Role = "auth"
	RoleSeer      Role = "seer"
	RoleTNS       Role = "tns"
	RoleGateway   Role = "gateway"
	RolePatrick   Role = "patrick"
	RoleMonkey    Role = "monkey"
	RoleHoarder   Role = "hoarder"
	RoleSubstrate Role = "substrate"
)

// Roles returns all roles, in the order in which a whole node starts them.
func Roles() []Role {
	return []Role{RoleTNS, RoleAuth, RoleSeer, RoleHoarder, RolePatrick, RoleMonkey, RoleSubstrate, RoleGateway}
}

// ParseRole returns the role of that name, or an error that lists the roles.
func ParseRole(name string) (Role, error) {
	r := Role(strings.ToLower(strings.TrimSpace(name)))
	if slices.Contains(Roles(), r) {
		return r, nil
	}
	return "", fmt.Errorf("%w: no role %q (the roles are %v)", ErrInvalid, name, Roles())
}

// Errors that every service shares. A service's own errors wrap one of them,
// and all keep their identity over the wire: errors.Is holds for the answer of
// a remote node as it does for a local one.
var (
	ErrNotFound    = errors.New("not found")
	ErrInvalid     = errors.New("invalid")
	ErrConflict    = errors.New("conflict")
	ErrForbidden   = errors.New("forbidden")
	ErrUnavailable = errors.New("unavailable")
	ErrTooLarge    = errors.New("too large")
	ErrClosed      = errors.New("closed")
	// ErrDamaged says that what was once written to a disk is not there any more,
	// or is not what was written.
	ErrDamaged = errors.New("damaged")
)

// Datastore is where a node keeps what must outlive it. It is go-datastore's
// Batching and nothing that ties it to an engine; Put, Delete and a batch's
// Commit are durable when they return. It is safe for concurrent use. Who opens
// a store closes it, after the hosts and services upon it.
type Datastore interface {
	ds.Batching
}

// Host is one node of a network: a libp2p host and what every service on it
// shares. NewHost makes one. All methods may be called concurrently.
//
// Streams in both directions, and so gossip, routing, content exchange and
// every service, are open to members of the host's network only.
type Host interface {
	host.Host

	// PubSub is the node's gossip. Messages are signed by their author and
	// the signature is checked before they are delivered or passed on.
	PubSub() *pubsub.PubSub

	// Routing is the network's own Kademlia DHT.
	Routing() routing.Routing

	// Blocks is content exchange: blocks of the node's own blockstore first,
	// those of other members after that. Members of role hoarder are given every block of
	// this node, and others none but those of ShareBlocks: knowing a CID grants no access.
	Blocks() blockservice.BlockService

	// ShareBlocks adds a rule by which other members may fetch blocks of this node: a
	// block is given to a member that one rule at least lets have it. may is called for
	// each block that is asked for, concurrently, and does not wait for other nodes.
	// Blocks are known by their hashes: the same one can be asked for under CIDs of other
	// versions and codecs. stop takes the rule back and may be called twice.
	ShareBlocks(may func(Membership, cid.Cid) bool) (stop func())

	// Member returns the membership of peer p, asking the peer, and dialling it
	// if its address is known, where none is known that holds now. A peer
	// without a valid one gives ErrForbidden. The host's own ID gives its own
	// membership.
	Member(ctx context.Context, p peer.ID) (Membership, error)

	// Members is what the host knows of the network's members without asking,
	// and how revocations are made known.
	Members() *Members

	// Provide makes service the one that this node runs under a protocol, so
	// that clients on the same host find it and call it directly. A second
	// one under the same protocol is ErrConflict. withdraw takes it back and
	// may be called twice.
	Provide(id protocol.ID, service any) (withdraw func(), err error)

	// Local returns what Provide was given for the protocol, or nil.
	Local(id protocol.ID) any

	// Provided lists the protocols of the services that run on this host.
	Provided() []protocol.ID
}
