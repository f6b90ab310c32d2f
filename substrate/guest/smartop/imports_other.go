//go:build !wasip1

package smartop

import "github.com/taubyte/taubyte/substrate/guest/errno"

func getNodeId(_ *byte) errno.Errno                                 { return errno.Outside }
func getEventId(_ uint32, _ *uint32) errno.Errno                    { return errno.Outside }
func getResourceType(_ uint32, _ *uint32) errno.Errno               { return errno.Outside }
func getFunctionHttpNameSize(_ uint32, _ *uint32) errno.Errno       { return errno.Outside }
func getFunctionHttpName(_ uint32, _ *byte) errno.Errno             { return errno.Outside }
func getWebsiteNameSize(_ uint32, _ *uint32) errno.Errno            { return errno.Outside }
func getWebsiteName(_ uint32, _ *byte) errno.Errno                  { return errno.Outside }
func getFunctionP2PNameSize(_ uint32, _ *uint32) errno.Errno        { return errno.Outside }
func getFunctionP2PName(_ uint32, _ *byte) errno.Errno              { return errno.Outside }
func getFunctionPubSubNameSize(_ uint32, _ *uint32) errno.Errno     { return errno.Outside }
func getFunctionPubSubName(_ uint32, _ *byte) errno.Errno           { return errno.Outside }
func getDatabaseNameSize(_ uint32, _ *uint32) errno.Errno           { return errno.Outside }
func getDatabaseName(_ uint32, _ *byte) errno.Errno                 { return errno.Outside }
func getStorageNameSize(_ uint32, _ *uint32) errno.Errno            { return errno.Outside }
func getStorageName(_ uint32, _ *byte) errno.Errno                  { return errno.Outside }
func getServiceNameSize(_ uint32, _ *uint32) errno.Errno            { return errno.Outside }
func getServiceName(_ uint32, _ *byte) errno.Errno                  { return errno.Outside }
func getMessagingPubSubNameSize(_ uint32, _ *uint32) errno.Errno    { return errno.Outside }
func getMessagingPubSubName(_ uint32, _ *byte) errno.Errno          { return errno.Outside }
func getMessagingWebSocketNameSize(_ uint32, _ *uint32) errno.Errno { return errno.Outside }
func getMessagingWebSocketName(_ uint32, _ *byte) errno.Errno       { return errno.Outside }
