package taubyte

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// protocolsProtocol is how a node tells the members that it is connected to which
// protocols it speaks: one [announcement] as JSON, answered by one byte.
//
// libp2p's identify tells them as well, but once: an identification that fails or a
// push that is lost (a receiver takes ten at once from a subnet, then one in five
// seconds) is not repeated, and an answer from before a push may arrive after it and
// stay. A service that a node began just then is not found by that peer until the
// connection ends. Announcements are numbered, and repeated until they are answered.
const protocolsProtocol protocol.ID = "/taubyte/protocols/1"

const (
	maxAnnouncement = 256 << 10 // bytes
	announceTimeout = 5 * time.Second
	// announceDelay lets the protocols of one service go out together.
	announceDelay                    = 20 * time.Millisecond
	announceAgain, maxAnnouncedAgain = 100 * time.Millisecond, 10 * time.Second
)

// An announcement says what a node speaks. Of two of a node's the one with the larger
// number holds. Numbers grow over restarts, too, as they begin with the time.
type announcement struct {
	Number    int64         `json:"number"`
	Protocols []protocol.ID `json:"protocols"`
}

// An announcer tells connected members what this node speaks, and keeps what they
// tell in the peerstore.
type announcer struct {
	h       *NodeHost
	changed event.Emitter

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	number  int64
	told    map[peer.ID]int64 // the number that a peer has answered
	telling map[peer.ID]bool
	heard   map[peer.ID]announcement
}

func newAnnouncer(h *NodeHost) (*announcer, error) {
	a := &announcer{
		h: h, number: time.Now().UnixNano(),
		told: map[peer.ID]int64{}, telling: map[peer.ID]bool{}, heard: map[peer.ID]announcement{},
	}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	var err error
	if a.changed, err = h.EventBus().Emitter(new(event.EvtPeerProtocolsUpdated)); err != nil {
		return nil, fmt.Errorf("announcing protocols: %w", err)
	}
	sub, err := h.EventBus().Subscribe([]any{
		new(event.EvtLocalProtocolsUpdated), new(event.EvtPeerConnectednessChanged),
		new(event.EvtPeerIdentificationCompleted), new(event.EvtPeerProtocolsUpdated),
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("announcing protocols: %w", err), a.changed.Close())
	}
	h.SetStreamHandler(protocolsProtocol, a.hear)
	for _, p := range h.Network().Peers() {
		a.tell(p)
	}
	a.spawn(func() {
		defer sub.Close()
		a.watch(sub)
	})
	return a, nil
}

func (a *announcer) close() error {
	a.h.RemoveStreamHandler(protocolsProtocol)
	a.mu.Lock()
	a.cancel() // under the lock: after it nothing is spawned
	a.mu.Unlock()
	a.wg.Wait()
	return a.changed.Close()
}

func (a *announcer) spawn(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ctx.Err() == nil {
		a.wg.Go(f)
	}
}

func (a *announcer) watch(sub event.Subscription) {
	for {
		select {
		case <-a.ctx.Done():
			return
		case e, ok := <-sub.Out():
			if !ok {
				return
			}
			switch e := e.(type) {
			case event.EvtLocalProtocolsUpdated:
				a.mu.Lock()
				a.number++
				a.mu.Unlock()
				for _, p := range a.h.Network().Peers() {
					a.tell(p)
				}
			case event.EvtPeerConnectednessChanged:
				if e.Connectedness == network.Connected {
					a.tell(e.Peer)
					continue
				}
				a.mu.Lock()
				delete(a.told, e.Peer)
				delete(a.heard, e.Peer)
				a.mu.Unlock()
			case event.EvtPeerIdentificationCompleted:
				a.correct(e.Peer)
			case event.EvtPeerProtocolsUpdated:
				a.correct(e.Peer)
			}
		}
	}
}

// tell has a peer told what this node speaks, unless it knows.
func (a *announcer) tell(p peer.ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.telling[p] || a.ctx.Err() != nil {
		return
	}
	a.telling[p] = true
	a.wg.Go(func() { a.tellUntilAnswered(p) })
}

func (a *announcer) tellUntilAnswered(p peer.ID) {
	begun, wait := time.Now(), announceDelay
	for again := announceAgain; ; again = min(2*again, maxAnnouncedAgain) {
		a.mu.Lock()
		// It ends under the lock, so that a change that comes now finds it or begins another.
		if a.told[p] == a.number || a.h.Network().Connectedness(p) != network.Connected || a.ctx.Err() != nil {
			delete(a.telling, p)
			a.mu.Unlock()
			return
		}
		a.mu.Unlock()
		if !sleep(a.ctx, wait) {
			continue
		}
		wait = again
		if _, ok := a.h.gate.Known(p); !ok {
			// The program's own peer, on a libp2p host of the program's.
			if time.Since(begun) > 2*admissionTime {
				a.mu.Lock()
				delete(a.telling, p)
				a.mu.Unlock()
				return
			}
			continue
		}
		a.mu.Lock()
		number := a.number
		a.mu.Unlock()
		// What is read after the number is at least as new.
		if err := a.send(p, announcement{Number: number, Protocols: a.h.Mux().Protocols()}); err != nil {
			a.h.log.Debug("announcing protocols", "peer", p, "err", err)
			continue
		}
		a.mu.Lock()
		a.told[p] = number
		a.mu.Unlock()
		again, wait = announceAgain, announceDelay
	}
}

func (a *announcer) send(p peer.ID, said announcement) error {
	ctx, cancel := context.WithTimeout(network.WithNoDial(a.ctx, "announcing protocols"), announceTimeout)
	defer cancel()
	// Not by the gate: it would dial for the admission. The peer's gate admits this node.
	s, err := a.h.Host.NewStream(ctx, p, protocolsProtocol)
	if err != nil {
		return err
	}
	defer func() { _ = s.Reset() }() // after the answer there is nothing to be lost
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	if err := json.NewEncoder(s).Encode(said); err != nil {
		return err
	}
	if err := s.CloseWrite(); err != nil {
		return err
	}
	_, err = io.ReadFull(s, make([]byte, 1))
	return err
}

// hear takes a member's announcement.
func (a *announcer) hear(s network.Stream) {
	defer s.Close()
	_ = s.SetDeadline(time.Now().Add(announceTimeout))
	var said announcement
	if err := json.NewDecoder(io.LimitReader(s, maxAnnouncement)).Decode(&said); err != nil {
		_ = s.Reset()
		return
	}
	p := s.Conn().RemotePeer()
	a.mu.Lock()
	if a.heard[p].Number < said.Number {
		a.heard[p] = said
	}
	a.mu.Unlock()
	if news, changed := a.store(p); changed {
		_ = a.changed.Emit(news)
	}
	_, _ = s.Write([]byte{1})
	if a.h.Network().Connectedness(p) != network.Connected { // it went meanwhile, and nothing takes this back any more
		a.mu.Lock()
		delete(a.heard, p)
		a.mu.Unlock()
	}
}

// correct puts what a peer announced over what identify stored, where that is another.
// It does not wait: emitting an event may.
func (a *announcer) correct(p peer.ID) {
	if news, changed := a.store(p); changed {
		a.spawn(func() { _ = a.changed.Emit(news) })
	}
}

// store stores what a peer announced, and returns what to tell those who watch where that
// was not stored.
func (a *announcer) store(p peer.ID) (news event.EvtPeerProtocolsUpdated, changed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	said := a.heard[p].Protocols
	if len(said) == 0 {
		return news, false
	}
	stored, err := a.h.Peerstore().GetProtocols(p)
	if err == nil {
		news = event.EvtPeerProtocolsUpdated{Peer: p, Added: without(said, stored), Removed: without(stored, said)}
		if changed = len(news.Added)+len(news.Removed) > 0; changed {
			err = a.h.Peerstore().SetProtocols(p, said...)
		}
	}
	if err != nil {
		a.h.log.Warn("protocols of a peer not kept", "peer", p, "err", err)
	}
	return news, changed
}

// without returns what is in all and not in some.
func without(all, some []protocol.ID) (rest []protocol.ID) {
	for _, id := range all {
		if !slices.Contains(some, id) {
			rest = append(rest, id)
		}
	}
	return rest
}
