package abi

import (
	"context"
	"net"
	"net/http"
)

// A Network is what the functions of a project reach others by: it decides whom.
type Network interface {
	HTTP() *http.Client
	// DialContext connects to DNS servers of a guest's choice.
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
	// Resolves reports whether the node's own resolver may be asked about a name or,
	// the other way round, about an address.
	Resolves(nameOrAddress string) bool
	// Tells reports whether a guest may hear of a name or an address at all, whichever
	// resolver is asked.
	Tells(nameOrAddress string) bool
}
