// Package messages is a node's part in the channels of projects: who may publish
// where, the WebSockets that listen, the functions that run for a message, and
// what nodes tell each other.
//
// # Channels
//
// A channel belongs to a branch of a project and a scope in it: the project's own,
// or an application's. The messaging resources of the configuration say which there
// are. Those of the project count before those of the application that asks, and the
// scope of the first that fits is the channel's: so an application shares the
// project's channels, and has others for itself.
//
// # What is promised
//
// A WebSocket gets the messages of one publisher in their order, each once, while
// it can follow: one that falls behind is closed with the reason, and nobody waits for
// it. Between publishers there is no order: what a function says of a message may come
// before it. Of what was published before a socket was open nothing is kept.
//
// A function that listens on a channel runs once in the whole cluster for each
// message: the publisher's node chooses the node by rendezvous hashing and hands the
// message over, and where that node does not take it, to the next. A message that was
// taken is run at most once; if a node is lost in the moment between taking and
// saying so, twice. A function that has too much to do loses messages, which is counted and
// logged. The order in which a function gets messages is not promised.
//
// Publishing never waits. What would exceed the budget of what is on its way to
// others is refused, and the publisher told.
//
// # Between nodes
//
// Messages for WebSockets go to the other substrate nodes by gossip, on one topic
// however many channels there are, packed into frames (see frame). The frames of a
// sender are numbered: what comes out of order waits for what is missing, which is
// asked of the sender itself, and is given up when it does not answer in time.
package messages
