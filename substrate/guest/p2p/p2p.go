// Package p2p sends commands to functions of the project on other nodes. What
// they get is an event.P2P.
//
//	greet, err := p2p.NewCommand("/greetings/v1", "greet")
//	reply, err := greet.Send([]byte("hello"))
package p2p

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/taubyte/taubyte/substrate/guest/cid"
	"github.com/taubyte/taubyte/substrate/guest/errno"
	"github.com/taubyte/taubyte/substrate/guest/internal/sdk"
)

// Command is a command on a protocol, which is a service of the project's
// configuration. Make it once and keep it: each takes a handle of the host.
type Command uint32

// NewCommand makes a command.
func NewCommand(protocol, command string) (Command, error) {
	var id uint32
	err := sdk.NewCommand(protocol, command, &id).Err()
	return Command(id), err
}

// Send sends the command to any peer that has a function for it, this one first, and
// gives its reply. It has the time of the caller.
func (c Command) Send(data []byte) ([]byte, error) {
	buf, size := sdk.Data(data)
	return c.reply(func(n *uint32) errno.Errno { return sdk.SendCommand(uint32(c), buf, size, n) })
}

// SendTo sends the command to one peer and gives its reply.
func (c Command) SendTo(peer cid.CID, data []byte) ([]byte, error) {
	to, err := peer.Buffer()
	if err != nil {
		return nil, err
	}
	buf, size := sdk.Data(data)
	return c.reply(func(n *uint32) errno.Errno { return sdk.SendCommandTo(uint32(c), &to[0], buf, size, n) })
}

func (c Command) reply(send func(*uint32) errno.Errno) ([]byte, error) {
	return sdk.Fetch(send, func(b *byte, n uint32) errno.Errno { return sdk.ReadCommandResponse(uint32(c), b, n) })
}

// Listen gives the name that a protocol has on the network. A function gets the
// commands of its trigger whether or not anybody has called it.
func Listen(protocol string) (string, error) {
	return sdk.Text(
		func(n *uint32) errno.Errno { return sdk.ListenToProtocolSize(protocol, n) },
		func(b *byte, n uint32) errno.Errno { return sdk.ListenToProtocol(protocol, b, n) })
}

// Discover finds up to most peers of the project, for at most the given time,
// which the host's interface limits to 4.29 seconds.
func Discover(most int, timeout time.Duration) ([]cid.CID, error) {
	wait := uint32(min(max(timeout, 0), math.MaxUint32))
	var id uint32
	list, err := sdk.Fetch(
		func(n *uint32) errno.Errno { return sdk.DiscoverPeersSize(uint32(most), wait, &id, n) },
		func(b *byte, _ uint32) errno.Errno { return sdk.DiscoverPeers(id, b) })
	var peers []cid.CID
	for len(list) > 2 {
		n := int(binary.LittleEndian.Uint16(list))
		if n > len(list)-2 {
			return peers, cid.ErrInvalid
		}
		peers = append(peers, cid.CID(list[2:2+n]))
		list = list[2+n:]
	}
	return peers, err
}
