package event

import (
	"github.com/taubyte/taubyte/substrate/guest/errno"
	"github.com/taubyte/taubyte/substrate/guest/internal/sdk"
)

// PubSub is a message of a channel.
type PubSub uint32

// Channel is where the message was published.
func (e PubSub) Channel() (string, error) {
	return sdk.Text(
		func(n *uint32) errno.Errno { return sdk.GetMessageChannelSize(uint32(e), n) },
		func(b *byte, _ uint32) errno.Errno { return sdk.GetMessageChannel(uint32(e), b) })
}

// Data is what was published.
func (e PubSub) Data() ([]byte, error) {
	return sdk.Fetch(
		func(n *uint32) errno.Errno { return sdk.GetMessageDataSize(uint32(e), n) },
		func(b *byte, _ uint32) errno.Errno { return sdk.GetMessageData(uint32(e), b) })
}
