package crdt

import (
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/taubyte/taubyte"
)

// Protocol is what replicas speak, with "/" and the store's name behind it. The host
// has one handler for all of its stores, under this name: each protocol that a host
// has is told to every peer by libp2p's identify, which takes 10 messages of 8 KiB and
// 128 protocols at most, and tells a peer nothing at all of a host that has more.
const Protocol protocol.ID = "/taubyte/crdt/1"

func (s *Store) protocol() protocol.ID { return Protocol + "/" + protocol.ID(s.name) }

// exchange hands the streams that come in at a host to its open stores. The stores of
// a host share it: the first makes it, the last ends it.
type exchange struct {
	host     taubyte.Host
	withdraw func()

	mu    sync.Mutex
	ended bool
	open  map[protocol.ID]func(network.Stream)
}

// serveStreams has answer take the streams for the store that come in, until stop is
// called. A host has a store open once: that its topic has one subscriber sees to it.
func (s *Store) serveStreams(answer func(network.Stream)) (stop func()) {
	for {
		if x, ok := s.host.Local(Protocol).(*exchange); ok && x.add(s.protocol(), answer) {
			return func() { x.remove(s.protocol()) }
		}
		x := &exchange{host: s.host, open: map[protocol.ID]func(network.Stream){s.protocol(): answer}}
		var err error
		if x.withdraw, err = s.host.Provide(Protocol, x); err == nil {
			s.host.SetStreamHandlerMatch(Protocol, x.has, x.hand)
			return func() { x.remove(s.protocol()) }
		}
		time.Sleep(time.Millisecond) // another was faster, or is just ending
	}
}

func (x *exchange) add(id protocol.ID, answer func(network.Stream)) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ended {
		return false
	}
	x.open[id] = answer
	return true
}

func (x *exchange) remove(id protocol.ID) {
	x.mu.Lock()
	delete(x.open, id)
	last := len(x.open) == 0 && !x.ended
	if last {
		x.ended = true
	}
	x.mu.Unlock()
	if last {
		x.host.RemoveStreamHandler(Protocol)
		x.withdraw()
	}
}

func (x *exchange) has(id protocol.ID) bool {
	if !strings.HasPrefix(string(id), string(Protocol)) {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.open[id] != nil
}

func (x *exchange) hand(stream network.Stream) {
	x.mu.Lock()
	answer := x.open[stream.Protocol()]
	x.mu.Unlock()
	if answer == nil { // closed meanwhile
		_ = stream.Reset()
		return
	}
	answer(stream)
}
