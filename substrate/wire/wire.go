// Package wire names what a gateway and a substrate node say to each other: the
// protocol, and the headers that a gateway adds to a user's request. It imports
// nothing of substrate, so that a gateway carries no WebAssembly engine.
//
// A request crosses as the user sent it: method, path, Host header, body. The
// gateway removes any header of these names that came from outside.
package wire

import "github.com/libp2p/go-libp2p/core/protocol"

// Protocol is HTTP from a gateway to a substrate node. On one host a substrate
// service provides its http.Handler under this name, and a gateway calls it
// directly.
const Protocol protocol.ID = "/taubyte/substrate/1"

// The gateway's word about the user's side of the request.
const (
	// HeaderClient is the user's address, "ip:port".
	HeaderClient = "Taubyte-Client"
	// HeaderProto is the scheme that the user came by: http or https.
	HeaderProto = "Taubyte-Proto"
	// HeaderRequest identifies the request in the logs of all nodes.
	HeaderRequest = "Taubyte-Request-Id"
)

// The substrate's word about its answer; the gateway keeps it from the user.
const (
	// HeaderRefused is set on answers that substrate itself gave because it could
	// not serve: the request reached no function. Its value is a Refusal.
	HeaderRefused = "Taubyte-Refused"
)

// Refusals: why a substrate node served nothing.
const (
	RefusedNoHost   = "no-host"   // it knows no such host
	RefusedNoRoute  = "no-route"  // it knows the host and no such path
	RefusedBusy     = "busy"      // its queue is full: another node may do
	RefusedDraining = "draining"  // it takes no new work: another node may do
	RefusedNotReady = "not-ready" // it has the route and not yet the module: another node may do
)
