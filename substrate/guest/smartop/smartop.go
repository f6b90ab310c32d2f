// Package smartop is for smart operations: modules that are asked before a resource is
// used which is tagged with their name.
//
//	//go:wasmexport check
//	func check(r uint32) uint32 {
//		e, ok := smartop.Resource(r).Event()
//		if ok && event.HTTP(e).Header("X-Key") == key {
//			return smartop.Allow
//		}
//		return smartop.Refuse
//	}
package smartop

import (
	"github.com/taubyte/taubyte/substrate/guest/cid"
	"github.com/taubyte/taubyte/substrate/guest/errno"
	"github.com/taubyte/taubyte/substrate/guest/internal/sdk"
)

// What an entry point returns. Every number but Allow refuses.
const (
	Allow  uint32 = 0
	Refuse uint32 = 1
)

// Kind is what a resource is.
type Kind uint32

// The kinds of resources. KindNone is also that of functions with a timer.
const (
	KindNone Kind = iota
	KindFunctionHTTP
	KindWebsite
	KindFunctionP2P
	KindFunctionPubSub
	KindDatabase
	KindStorage
	KindService
	KindMessagingPubSub
	KindMessagingWebSocket
)

// Resource is what an entry point is asked about.
type Resource uint32

// Kind is what the resource is.
func (r Resource) Kind() Kind {
	var k uint32
	getResourceType(uint32(r), &k)
	return Kind(k)
}

// Event is the event that the resource is used by, if it is an HTTP request: all of it
// can be read but the body, and what is answered goes nowhere.
func (r Resource) Event() (e uint32, ok bool) {
	ok = getEventId(uint32(r), &e) == 0
	return e, ok
}

// Name is what the configuration calls the resource.
func (r Resource) Name() (string, error) {
	f, ok := names[r.Kind()]
	if !ok {
		return "", errno.SmartOpErrorWrongResourceInterface
	}
	return sdk.Text(
		func(n *uint32) errno.Errno { return f.size(uint32(r), n) },
		func(b *byte, _ uint32) errno.Errno { return f.name(uint32(r), b) })
}

var names = map[Kind]struct {
	size func(uint32, *uint32) errno.Errno
	name func(uint32, *byte) errno.Errno
}{
	KindFunctionHTTP:       {getFunctionHttpNameSize, getFunctionHttpName},
	KindWebsite:            {getWebsiteNameSize, getWebsiteName},
	KindFunctionP2P:        {getFunctionP2PNameSize, getFunctionP2PName},
	KindFunctionPubSub:     {getFunctionPubSubNameSize, getFunctionPubSubName},
	KindDatabase:           {getDatabaseNameSize, getDatabaseName},
	KindStorage:            {getStorageNameSize, getStorageName},
	KindService:            {getServiceNameSize, getServiceName},
	KindMessagingPubSub:    {getMessagingPubSubNameSize, getMessagingPubSubName},
	KindMessagingWebSocket: {getMessagingWebSocketNameSize, getMessagingWebSocketName},
}

// Node is the peer that this runs on.
func Node() (cid.CID, error) { return cid.Read(getNodeId) }
