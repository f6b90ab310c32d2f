package abi

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Commands is what commands between functions come to.
type Commands interface {
	// Protocol gives the name that a protocol has on the network; ok is false where
	// the function may not use it.
	Protocol(from *Self, protocol string) (name string, ok bool)
	// Send has a function run for a command: on the peer that is named, or on any
	// that has one. depth is how many functions have sent because of each other.
	Send(ctx context.Context, from *Self, c Command, to peer.ID, depth int) (Reply, error)
	// Peers lists other nodes that may have functions for commands, at most so many.
	// Where it knows none it waits for one, until ctx ends.
	Peers(ctx context.Context, most int) []peer.ID
}

// A Command is what is sent to a function.
type Command struct {
	Protocol, Name, Data string
}

// A Reply is what a function has answered a command with, if it has.
type Reply struct {
	Data []byte
	Set  bool
}

// MaxCommand bounds the data of a command, and that of its reply.
const MaxCommand = 4 << 20

// An order is a p2p event: a command that came in.
type order struct {
	Command
	from, to peer.ID
	reply    *Reply
}

// A sending is a command that a guest may send, and the last reply to it.
type sending struct {
	protocol, name string
	reply          []byte
}

// maxDiscoveries bounds the answers to discoverPeers of one event.
const maxDiscoveries = 64

// BeginCommand makes a command the event under way and returns its id. What the
// guest answers goes into reply. depth is how many functions have sent because of
// each other.
func (g *Guest) BeginCommand(c Command, from, to peer.ID, depth int, reply *Reply) uint32 {
	g.order = order{c, from, to, reply}
	g.depth = depth
	return g.begin(typeP2P)
}

// endCommands forgets what was answered during an event.
func (g *Guest) endCommands() {
	for _, s := range g.sendings {
		s.reply = nil
	}
	clear(g.discoveries)
}

var p2p = concat(
	ordered("getP2PEventData", func(o *order) string { return o.Data }),
	ordered("getP2PEventCommand", func(o *order) string { return o.Name }),
	ordered("getP2PEventFrom", func(o *order) string { return peerText(o.from) }),
	ordered("getP2PEventTo", func(o *order) string { return peerText(o.to) }),
	ordered("getP2PEventProtocol", func(o *order) string { return o.Protocol }),
	[]decl{
		{"writeP2PResponse", "iii", onEvent(typeP2P, func(g *Guest, m module, a []uint64) Errno {
			data, ok := m.view(a[1], a[2])
			if !ok {
				return ErrAddressOutOfMemory
			}
			if len(data) > MaxCommand {
				return ErrP2PSendFailed
			}
			*g.order.reply = Reply{append([]byte(nil), data...), true}
			return ErrNone
		})},

		{"newCommand", "iiiii", onProtocol(ErrCommandCreateFailed, func(g *Guest, m module, a []uint64, protocol string) Errno {
			name, ok := m.text(a[2], a[3])
			if !ok {
				return ErrAddressOutOfMemory
			}
			if _, ok := g.services.Commands.Protocol(&g.self, protocol); !ok {
				return ErrP2PProtocolNotFound
			}
			if len(g.sendings) >= maxHandles {
				return ErrCommandCreateFailed
			}
			g.sendings = append(g.sendings, &sending{protocol: protocol, name: name})
			return m.cell(a[4], uint32(len(g.sendings)-1))
		})},
		{"sendCommand", "iiii", onSending(func(g *Guest, s *sending, m module, a []uint64) Errno {
			return g.sendCommand(s, "", m, a[1], a[2], a[3])
		})},
		{"sendCommandTo", "iiiii", onSending(func(g *Guest, s *sending, m module, a []uint64) Errno {
			to, ok := m.peer(a[1])
			if !ok {
				return ErrP2PSendFailed
			}
			return g.sendCommand(s, to, m, a[2], a[3], a[4])
		})},
		{"readCommandResponse", "iii", onSending(func(_ *Guest, s *sending, m module, a []uint64) Errno {
			if uint64(len(s.reply)) != uint64(uint32(a[2])) {
				return ErrSizeMismatch
			}
			return m.put(a[1], string(s.reply))
		})},

		// A function listens on the protocol of its configuration, whether or not anybody
		// has called this.
		{"listenToProtocolSize", "iii", onProtocol(ErrP2PListenFailed, func(g *Guest, m module, a []uint64, protocol string) Errno {
			name, ok := g.services.Commands.Protocol(&g.self, protocol)
			if !ok {
				return ErrP2PListenFailed
			}
			return m.size(a[2], len(name))
		})},
		{"listenToProtocol", "iiii", onProtocol(ErrP2PListenFailed, func(g *Guest, m module, a []uint64, protocol string) Errno {
			name, ok := g.services.Commands.Protocol(&g.self, protocol)
			if !ok {
				return ErrP2PListenFailed
			}
			if uint64(len(name)) != uint64(uint32(a[3])) {
				return ErrEOF // as the SDKs know it
			}
			return m.put(a[2], name)
		})},

		{"discoverPeersSize", "iiii", errno(func(g *Guest, m module, a []uint64) Errno {
			if g.services.Commands == nil || len(g.discoveries) >= maxDiscoveries {
				return ErrP2PSendFailed
			}
			ctx, cancel := context.WithTimeout(g.waiting(), time.Duration(uint32(a[1])))
			defer cancel()
			var list []byte
			for _, p := range g.services.Commands.Peers(ctx, int(uint32(a[0]))) {
				text := peerText(p)
				list = binary.LittleEndian.AppendUint16(list, uint16(len(text)))
				list = append(list, text...)
			}
			if g.discoveries == nil {
				g.discoveries = map[uint32]string{}
			}
			id := g.lastDiscovery
			g.lastDiscovery++
			g.discoveries[id] = string(list)
			if e := m.cell(a[2], id); e != ErrNone {
				return e
			}
			return m.size(a[3], len(list))
		})},
		{"discoverPeers", "ii", errno(func(g *Guest, m module, a []uint64) Errno {
			list, ok := g.discoveries[uint32(a[0])]
			if !ok {
				return ErrP2PSendFailed // the Rust SDK does not know the number of ErrP2PDiscoverFailed
			}
			return m.put(a[1], list)
		})},
	},
)

// ordered declares the pair of functions that reads one text of a command.
func ordered(name string, of func(*order) string) []decl {
	return []decl{
		{name + "Size", "ii", onEvent(typeP2P, func(g *Guest, m module, a []uint64) Errno { return m.size(a[1], len(of(&g.order))) })},
		{name, "ii", onEvent(typeP2P, func(g *Guest, m module, a []uint64) Errno { return m.put(a[1], of(&g.order)) })},
	}
}

// onProtocol is a function whose first parameters are the name of a protocol.
func onProtocol(none Errno, do func(*Guest, module, []uint64, string) Errno) errno {
	return func(g *Guest, m module, a []uint64) Errno {
		if g.services.Commands == nil {
			return none
		}
		protocol, ok := m.text(a[0], a[1])
		if !ok {
			return ErrAddressOutOfMemory
		}
		return do(g, m, a, protocol)
	}
}

// onSending is a function whose first parameter is the handle of a command.
func onSending(do func(*Guest, *sending, module, []uint64) Errno) errno {
	return func(g *Guest, m module, a []uint64) Errno {
		if uint64(uint32(a[0])) >= uint64(len(g.sendings)) {
			return ErrP2PCommandNotFound
		}
		return do(g, g.sendings[uint32(a[0])], m, a)
	}
}

func (g *Guest) sendCommand(s *sending, to peer.ID, m module, ptr, n, size uint64) Errno {
	data, ok := m.view(ptr, n)
	if !ok {
		return ErrAddressOutOfMemory
	}
	s.reply = nil
	if len(data) > MaxCommand {
		return ErrP2PSendFailed
	}
	c := Command{s.protocol, s.name, string(data)}
	reply, err := g.services.Commands.Send(g.waiting(), &g.self, c, to, g.depth)
	switch {
	case err != nil:
		return ErrP2PSendFailed
	case !reply.Set:
		return ErrMarshalDataFailed // as the SDKs know a reply without data
	}
	s.reply = reply.Data
	return m.size(size, len(reply.Data))
}

// peerText is how guests get a peer: the bytes of its CID.
func peerText(p peer.ID) string { return peer.ToCid(p).KeyString() }

// peer reads the CID of a peer, which comes without its length.
func (m module) peer(ptr uint64) (peer.ID, bool) {
	const most = 64
	at, size := uint32(ptr), m.Memory().Size()
	if at >= size {
		return "", false
	}
	b, _ := m.Memory().Read(at, min(most, size-at))
	_, c, err := cid.CidFromBytes(b)
	if err != nil {
		return "", false
	}
	p, err := peer.FromCid(c)
	return p, err == nil
}
