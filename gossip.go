package taubyte

import (
	"bytes"
	"context"
	"fmt"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Introduce says where messages on a gossip topic carry the signed membership of
// their author (Signed): carried returns it, or nil. Members learn of a node that they
// are not connected to by its messages then, and ask nobody. carried is called for
// each message and must be quick. A second one for a topic is ErrConflict; remove
// takes it back.
func (g *Members) Introduce(topic string, carried func(message []byte) []byte) (remove func(), err error) {
	if _, taken := g.carried.LoadOrStore(topic, carried); taken {
		return nil, fmt.Errorf("%w: messages on %s bring memberships already", ErrConflict, topic)
	}
	return func() { g.carried.Delete(topic) }, nil
}

// validate is the rule for all gossip: a message of who is no member now is neither
// delivered nor passed on. Nobody is dialled for it. The author's signature was checked
// before.
func (g *Members) validate(_ context.Context, from peer.ID, msg *pubsub.Message) pubsub.ValidationResult {
	author := msg.GetFrom()
	if author == g.host.ID() {
		return pubsub.ValidationAccept
	}
	m := g.current(author, time.Now())
	if carried, ok := g.carried.Load(msg.GetTopic()); ok {
		signed := carried.(func([]byte) []byte)(msg.GetData())
		if len(signed) > 0 && len(signed) <= maxMembershipSize && (m == nil || !bytes.Equal(signed, m.signed)) {
			if _, err := g.learn(author, signed); err != nil {
				return pubsub.ValidationReject
			}
			m = g.current(author, time.Now())
		}
	}
	if m != nil {
		return pubsub.ValidationAccept
	}
	g.inquire(from, author)
	return pubsub.ValidationReject // an honest node would not have passed it on
}

// inquire asks the member that passed a message on who its author is: it must know.
// Messages of the author are refused until then; what they would have said is asked
// for by those who missed it. One question to a member at a time bounds what made-up
// authors cost.
func (g *Members) inquire(from, author peer.ID) {
	if from == author || from == g.host.ID() || g.revoked.has(author) || g.current(from, time.Now()) == nil {
		return
	}
	g.mu.Lock()
	busy := g.pending[from]
	g.pending[from] = true
	g.mu.Unlock()
	if busy {
		return
	}
	g.spawn(func() {
		ctx, cancel := context.WithTimeout(g.ctx, admissionTime)
		defer cancel()
		err := g.question(ctx, from, shown{Who: author}, nil)
		if err != nil {
			sleep(ctx, time.Second) // it should not have passed the message on
		}
		g.mu.Lock()
		delete(g.pending, from)
		g.mu.Unlock()
	})
}
