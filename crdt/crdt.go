package crdt

import (
	ds "github.com/ipfs/go-datastore"
)

// An Event is one change of a key.
type Event struct {
	Key     ds.Key
	Value   []byte // nil when the key is gone
	Deleted bool
	Token   Token // resume a watch after this event
	// Lost says that events before this one were dropped because the watcher
	// was slow, or that a token was too old: list the prefix again. Such an event
	// has no key.
	Lost bool
}

// A Token is a place in a store's sequence of events.
type Token uint64
