package crdt

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	crdt "github.com/ipfs/go-ds-crdt"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
)

// broadcaster tells the other replicas of new heads over the store's topic.
type broadcaster struct {
	host  taubyte.Host
	topic *pubsub.Topic
	sub   *pubsub.Subscription
	once  sync.Once
	err   error
}

func newBroadcaster(h taubyte.Host, name string, writers []taubyte.Role, log *slog.Logger) (*broadcaster, error) {
	topic := "/taubyte/crdt/1/" + name
	validate := func(ctx context.Context, _ peer.ID, msg *pubsub.Message) pubsub.ValidationResult {
		author := msg.GetFrom()
		if author == h.ID() || len(writers) == 0 {
			return pubsub.ValidationAccept
		}
		m, err := h.Member(ctx, author)
		if err != nil {
			return pubsub.ValidationIgnore // not reached now; the heads are told again
		}
		if !m.Has(writers...) {
			log.Warn("change refused", "store", name, "author", author, "roles", m.Roles)
			return pubsub.ValidationReject
		}
		return pubsub.ValidationAccept
	}
	if err := h.PubSub().RegisterTopicValidator(topic, validate); err != nil {
		return nil, err
	}
	t, err := h.PubSub().Join(topic)
	if err != nil {
		return nil, errors.Join(err, h.PubSub().UnregisterTopicValidator(topic))
	}
	sub, err := t.Subscribe(pubsub.WithBufferSize(256))
	if err != nil {
		return nil, errors.Join(err, t.Close(), h.PubSub().UnregisterTopicValidator(topic))
	}
	return &broadcaster{host: h, topic: t, sub: sub}, nil
}

func (b *broadcaster) Broadcast(ctx context.Context, data []byte) error {
	return b.topic.Publish(ctx, data)
}

func (b *broadcaster) Next(ctx context.Context) ([]byte, error) {
	for {
		msg, err := b.sub.Next(ctx)
		if err != nil {
			return nil, crdt.ErrNoMoreBroadcast
		}
		if msg.GetFrom() != b.host.ID() {
			return msg.GetData(), nil
		}
	}
}

func (b *broadcaster) Close() error {
	b.once.Do(func() {
		b.sub.Cancel()
		b.err = errors.Join(b.topic.Close(), b.host.PubSub().UnregisterTopicValidator(b.topic.String()))
	})
	return b.err
}
