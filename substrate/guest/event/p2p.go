package event

import (
	"github.com/taubyte/taubyte/substrate/guest/cid"
	"github.com/taubyte/taubyte/substrate/guest/errno"
	"github.com/taubyte/taubyte/substrate/guest/internal/sdk"
)

// P2P is a command that a peer sent to a protocol of the project.
type P2P uint32

// Protocol is the protocol that the command came by.
func (e P2P) Protocol() (string, error) {
	return sdk.Text(
		func(n *uint32) errno.Errno { return sdk.GetP2PEventProtocolSize(uint32(e), n) },
		func(b *byte, _ uint32) errno.Errno { return sdk.GetP2PEventProtocol(uint32(e), b) })
}

// Command is the name of the command.
func (e P2P) Command() (string, error) {
	return sdk.Text(
		func(n *uint32) errno.Errno { return sdk.GetP2PEventCommandSize(uint32(e), n) },
		func(b *byte, _ uint32) errno.Errno { return sdk.GetP2PEventCommand(uint32(e), b) })
}

// Data is what was sent along.
func (e P2P) Data() ([]byte, error) {
	return sdk.Fetch(
		func(n *uint32) errno.Errno { return sdk.GetP2PEventDataSize(uint32(e), n) },
		func(b *byte, _ uint32) errno.Errno { return sdk.GetP2PEventData(uint32(e), b) })
}

// From is the peer that sent the command.
func (e P2P) From() (cid.CID, error) {
	return cid.Read(func(b *byte) errno.Errno { return sdk.GetP2PEventFrom(uint32(e), b) })
}

// To is the peer that this function runs on.
func (e P2P) To() (cid.CID, error) {
	return cid.Read(func(b *byte) errno.Errno { return sdk.GetP2PEventTo(uint32(e), b) })
}

// Reply sets what the sender gets back. The last one counts.
func (e P2P) Reply(data []byte) error {
	b, n := sdk.Data(data)
	return sdk.WriteP2PResponse(uint32(e), b, n).Err()
}
