package abi

import (
	"net/http"

	"github.com/libp2p/go-libp2p/core/peer"
)

// ModuleSmartOps is what smart operations import beside taubyte/sdk: functions that
// guard a resource, and are asked before it is used.
const ModuleSmartOps = "taubyte/smartops"

// ResourceKind is what a smart operation is asked about. The numbers are those that
// smart operations were compiled with.
type ResourceKind uint32

// The kinds of resources. A function that is run by a timer is of no kind.
const (
	ResourceNone ResourceKind = iota
	ResourceFunctionHTTP
	ResourceWebsite
	ResourceFunctionP2P
	ResourceFunctionPubSub
	ResourceDatabase
	ResourceStorage
	ResourceService
	ResourceMessagingPubSub
	ResourceMessagingWebSocket
)

// A Resource is what a smart operation is asked about.
type Resource struct {
	Kind ResourceKind
	Name string
	Node peer.ID // on which it is used
}

// BeginResource asks a smart operation about a resource, and returns the resource's id
// there. Where it is used by an HTTP request, that is an event which the operation sees
// all of but the body; what it answers goes nowhere. End ends it.
func (g *Guest) BeginResource(of Resource, by *http.Request) uint32 {
	g.resource, g.asked = of, true
	if by == nil {
		return g.begin(typeResource)
	}
	bare := *by
	bare.Body = http.NoBody
	return g.BeginHTTP(nowhere{}, &bare)
}

// nowhere is the response of an event that has none.
type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) WriteHeader(int)             {}

var smartOps = concat(
	[]decl{
		{"getNodeId", "i", errno(func(g *Guest, m module, a []uint64) Errno {
			if !g.asked {
				return ErrSmartOpResourceNotFound
			}
			return m.put(a[0], peerText(g.resource.Node))
		})},
		{"getEventId", "ii", onResource(func(g *Guest, m module, a []uint64) Errno {
			if g.under == typeResource {
				return ErrEventNotFound
			}
			return m.cell(a[1], g.event)
		})},
		{"getResourceType", "ii", onResource(func(g *Guest, m module, a []uint64) Errno {
			return m.cell(a[1], uint32(g.resource.Kind))
		})},
	},
	resourceName("getFunctionHttpName", ResourceFunctionHTTP),
	resourceName("getWebsiteName", ResourceWebsite),
	resourceName("getFunctionP2PName", ResourceFunctionP2P),
	resourceName("getFunctionPubSubName", ResourceFunctionPubSub),
	resourceName("getDatabaseName", ResourceDatabase),
	resourceName("getStorageName", ResourceStorage),
	resourceName("getServiceName", ResourceService),
	resourceName("getMessagingPubSubName", ResourceMessagingPubSub),
	resourceName("getMessagingWebSocketName", ResourceMessagingWebSocket),
)

// onResource is a function whose first parameter is the id of the resource that is
// asked about.
func onResource(do errno) errno {
	return func(g *Guest, m module, a []uint64) Errno {
		if !g.asked || uint32(a[0]) != g.event {
			return ErrSmartOpResourceNotFound
		}
		return do(g, m, a)
	}
}

// resourceName declares the pair of functions that gives the name of a resource of one kind.
func resourceName(name string, kind ResourceKind) []decl {
	of := func(do func(m module, to uint64, name string) Errno) errno {
		return onResource(func(g *Guest, m module, a []uint64) Errno {
			if g.resource.Kind != kind {
				return ErrSmartOpWrongResourceInterface
			}
			return do(m, a[1], g.resource.Name)
		})
	}
	return []decl{
		{name + "Size", "ii", of(func(m module, to uint64, name string) Errno { return m.size(to, len(name)) })},
		{name, "ii", of(func(m module, to uint64, name string) Errno { return m.put(to, name) })},
	}
}
