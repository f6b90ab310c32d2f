package smartop

import "github.com/taubyte/taubyte/substrate/guest/errno"

//go:wasmimport taubyte/smartops getNodeId
//go:noescape
func getNodeId(p *byte) errno.Errno

//go:wasmimport taubyte/smartops getEventId
//go:noescape
func getEventId(r uint32, p *uint32) errno.Errno

//go:wasmimport taubyte/smartops getResourceType
//go:noescape
func getResourceType(r uint32, p *uint32) errno.Errno

//go:wasmimport taubyte/smartops getFunctionHttpNameSize
//go:noescape
func getFunctionHttpNameSize(r uint32, p *uint32) errno.Errno

//go:wasmimport taubyte/smartops getFunctionHttpName
//go:noescape
func getFunctionHttpName(r uint32, p *byte) errno.Errno

//go:wasmimport taubyte/smartops getWebsiteNameSize
//go:noescape
func getWebsiteNameSize(r uint32, p *uint32) errno.Errno

//go:wasmimport taubyte/smartops getWebsiteName
//go:noescape
func getWebsiteName(r uint32, p *byte) errno.Errno

//go:wasmimport taubyte/smartops getFunctionP2PNameSize
//go:noescape
func getFunctionP2PNameSize(r uint32, p *uint32) errno.Errno

//go:wasmimport taubyte/smartops getFunctionP2PName
//go:noescape
func getFunctionP2PName(r uint32, p *byte) errno.Errno

//go:wasmimport taubyte/smartops getFunctionPubSubNameSize
//go:noescape
func getFunctionPubSubNameSize(r uint32, p *uint32) errno.Errno

//go:wasmimport taubyte/smartops getFunctionPubSubName
//go:noescape
func getFunctionPubSubName(r uint32, p *byte) errno.Errno

//go:wasmimport taubyte/smartops getDatabaseNameSize
//go:noescape
func getDatabaseNameSize(r uint32, p *uint32) errno.Errno

//go:wasmimport taubyte/smartops getDatabaseName
//go:noescape
func getDatabaseName(r uint32, p *byte) errno.Errno

//go:wasmimport taubyte/smartops getStorageNameSize
//go:noescape
func getStorageNameSize(r uint32, p *uint32) errno.Errno

//go:wasmimport taubyte/smartops getStorageName
//go:noescape
func getStorageName(r uint32, p *byte) errno.Errno

//go:wasmimport taubyte/smartops getServiceNameSize
//go:noescape
func getServiceNameSize(r uint32, p *uint32) errno.Errno

//go:wasmimport taubyte/smartops getServiceName
//go:noescape
func getServiceName(r uint32, p *byte) errno.Errno

//go:wasmimport taubyte/smartops getMessagingPubSubNameSize
//go:noescape
func getMessagingPubSubNameSize(r uint32, p *uint32) errno.Errno

//go:wasmimport taubyte/smartops getMessagingPubSubName
//go:noescape
func getMessagingPubSubName(r uint32, p *byte) errno.Errno

//go:wasmimport taubyte/smartops getMessagingWebSocketNameSize
//go:noescape
func getMessagingWebSocketNameSize(r uint32, p *uint32) errno.Errno

//go:wasmimport taubyte/smartops getMessagingWebSocketName
//go:noescape
func getMessagingWebSocketName(r uint32, p *byte) errno.Errno
