package abi

import "unicode/utf8"

// Messages is what publishing comes to. Its functions do not wait, and keep nothing
// that they are given.
type Messages interface {
	// Publish sends data to all who listen on a channel, but to the function
	// itself. text says that it arrives at WebSockets as text, which is UTF-8; depth is
	// how many functions have published because of each other.
	Publish(from *Self, channel string, data []byte, text bool, depth int) error
	// Channel reports whether there is such a channel for a function.
	Channel(from *Self, channel string) bool
	// SocketPath is where WebSockets to a channel are opened, if they are.
	SocketPath(from *Self, channel string) (path string, ok bool)
}

// A message is a pub/sub event.
type message struct {
	channel string
	data    string
}

// BeginMessage makes a message the event under way and returns its id. depth is how
// many functions have published because of each other.
func (g *Guest) BeginMessage(channel, data string, depth int) uint32 {
	g.message = message{channel, data}
	g.depth = depth
	return g.begin(typePubSub)
}

var pubsub = []decl{
	onMessage("getMessageData", "ii", func(g *Guest, m module, a []uint64) Errno { return m.put(a[1], g.message.data) }),
	onMessage("getMessageDataSize", "ii", func(g *Guest, m module, a []uint64) Errno { return m.size(a[1], len(g.message.data)) }),
	onMessage("getMessageChannel", "ii", func(g *Guest, m module, a []uint64) Errno { return m.put(a[1], g.message.channel) }),
	onMessage("getMessageChannelSize", "ii", func(g *Guest, m module, a []uint64) Errno { return m.size(a[1], len(g.message.channel)) }),
	// A function listens on the channel of its configuration, whether or not anybody
	// has called this.
	{"setSubscriptionChannel", "ii", onChannel(ErrSubscribeFailed, func(g *Guest, m module, a []uint64, channel string) Errno {
		if !g.services.Messages.Channel(&g.self, channel) {
			return ErrSubscribeFailed
		}
		return ErrNone
	})},
	publish("publishToChannel", false),
	publish("publishTextToChannel", true),
	{"getWebSocketURLSize", "iii", onChannel(ErrGetWebSocketURLFailed, func(g *Guest, m module, a []uint64, channel string) Errno {
		path, ok := g.services.Messages.SocketPath(&g.self, channel)
		if !ok {
			return ErrGetWebSocketURLFailed
		}
		return m.size(a[2], len(path))
	})},
	{"getWebSocketURL", "iii", onChannel(ErrGetWebSocketURLFailed, func(g *Guest, m module, a []uint64, channel string) Errno {
		path, ok := g.services.Messages.SocketPath(&g.self, channel)
		if !ok {
			return ErrGetWebSocketURLFailed
		}
		return m.put(a[2], path)
	})},
}

// publish declares a function that publishes. What is no text is not published as one:
// it would end the WebSockets that it came to (RFC 6455, 8.1).
func publish(name string, text bool) decl {
	return decl{name, "iiii", onChannel(ErrPublishFailed, func(g *Guest, m module, a []uint64, channel string) Errno {
		data, ok := m.view(a[2], a[3])
		switch {
		case !ok:
			return ErrAddressOutOfMemory
		case text && !utf8.Valid(data), g.services.Messages.Publish(&g.self, channel, data, text, g.depth) != nil:
			return ErrPublishFailed
		}
		return ErrNone
	})}
}

// onMessage declares a function about a pub/sub event.
func onMessage(name, params string, do errno) decl {
	return decl{name, params, onEvent(typePubSub, do)}
}

// onChannel is a function whose first parameters are the name of a channel.
func onChannel(none Errno, do func(*Guest, module, []uint64, string) Errno) errno {
	return func(g *Guest, m module, a []uint64) Errno {
		if g.services.Messages == nil {
			return none
		}
		channel, ok := m.text(a[0], a[1])
		if !ok {
			return ErrAddressOutOfMemory
		}
		return do(g, m, a, channel)
	}
}
