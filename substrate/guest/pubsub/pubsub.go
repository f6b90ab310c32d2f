// Package pubsub publishes messages on channels, to functions and to WebSockets.
// What a function gets of them is an event.PubSub.
package pubsub

import (
	"unsafe"

	"github.com/taubyte/taubyte/substrate/guest/errno"
	"github.com/taubyte/taubyte/substrate/guest/internal/sdk"
)

// Publish sends a message to all who listen on a channel: to a WebSocket as binary, which a
// page has as a Blob or an ArrayBuffer. The function that publishes does not get it. It fails with errno.PublishFailed where the
// configuration has no such channel, where the message is too large, or where too many
// messages are on their way.
func Publish(channel string, message []byte) error {
	data, size := sdk.Data(message)
	return sdk.PublishToChannel(channel, data, size).Err()
}

// PublishText is Publish of text, which a page has as a string. Text that is not UTF-8 is
// errno.PublishFailed.
func PublishText(channel, message string) error {
	data, size := unsafe.StringData(message), uint32(len(message))
	return sdk.PublishTextToChannel(channel, data, size).Err()
}

// Subscribe fails where the configuration has no such channel. A function gets the
// messages of the channel of its trigger whether or not anybody has called it.
func Subscribe(channel string) error { return sdk.SetSubscriptionChannel(channel).Err() }

// WebSocketURL is the path, without a "/" at the start, at which a browser opens
// a WebSocket to the channel on any host of the project. A channel without
// WebSockets in the configuration is errno.GetWebSocketURLFailed.
func WebSocketURL(channel string) (string, error) {
	return sdk.Text(
		func(n *uint32) errno.Errno { return sdk.GetWebSocketURLSize(channel, n) },
		func(b *byte, _ uint32) errno.Errno { return sdk.GetWebSocketURL(channel, b) })
}
