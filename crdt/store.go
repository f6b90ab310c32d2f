package crdt

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ipfs/boxo/ipld/merkledag"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/namespace"
	crdt "github.com/ipfs/go-ds-crdt"
	"github.com/ipfs/go-log/v2"

	"github.com/taubyte/taubyte"
)

// Option changes how a store is opened.
type Option func(*options)

type options struct {
	writers []taubyte.Role
	log     *slog.Logger
}

// WithWriters names the roles whose nodes may write: changes from others are
// refused before they are processed. The default is every member.
func WithWriters(roles ...taubyte.Role) Option { return func(o *options) { o.writers = roles } }

// WithLogger sets where the store logs. The default is slog.Default().
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.log = l } }

// Store is a replicated Datastore. It is safe for concurrent use.
type Store struct {
	*crdt.Datastore
	hub  *hub
	cast *broadcaster
	once sync.Once
	err  error
}

var _ taubyte.Datastore = (*Store)(nil)

// Open opens the replica of the store of that name that is kept in store. Members
// that open the same name are its other replicas.
func Open(ctx context.Context, h taubyte.Host, store taubyte.Datastore, name string, opts ...Option) (*Store, error) {
	o := options{log: slog.Default()}
	for _, opt := range opts {
		opt(&o)
	}
	own := namespace.Wrap(store, ds.NewKey("/crdt").ChildString(name))
	s := &Store{hub: newHub()}
	var err error
	if s.cast, err = newBroadcaster(h, name, o.writers, o.log); err != nil {
		return nil, fmt.Errorf("opening the store %s: %w", name, err)
	}
	c := crdt.DefaultOptions()
	c.Logger = log.Logger("crdt")
	c.RebroadcastInterval = 5 * time.Second
	c.MultiHeadProcessing = true
	c.PutHook = func(k ds.Key, v []byte) { s.hub.publish(Event{Key: k, Value: v}) }
	c.DeleteHook = func(k ds.Key) { s.hub.publish(Event{Key: k, Deleted: true}) }
	if s.Datastore, err = crdt.New(own, ds.NewKey("/"), merkledag.NewDAGService(h.Blocks()), s.cast, c); err != nil {
		_ = s.cast.Close()
		return nil, fmt.Errorf("opening the store %s: %w", name, err)
	}
	return s, nil
}

// Watch returns every change of a key under prefix, local and remote, in the
// order in which this replica applied them, from the event after a token on; 0
// stands for now. The channel closes when ctx ends or the store closes.
func (s *Store) Watch(ctx context.Context, prefix ds.Key, after Token) (<-chan Event, error) {
	return s.hub.watch(ctx, prefix, after), nil
}

// Close ends the replica. It may be called twice.
func (s *Store) Close() error {
	s.once.Do(func() {
		_ = s.cast.Close()
		s.err = s.Datastore.Close()
		s.hub.close()
	})
	return s.err
}
