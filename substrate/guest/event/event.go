package event

import (
	"github.com/taubyte/taubyte/substrate/guest/internal/sdk"
)

// Kind is what an event is.
type Kind uint32

// The kinds of events. Unknown is also that of an event that does not exist.
const (
	Unknown Kind = iota
	KindHTTP
	KindPubSub
	KindP2P
	KindTimer
)

// String gives the kind's name.
func (k Kind) String() string {
	switch k {
	case KindHTTP:
		return "http"
	case KindPubSub:
		return "pubsub"
	case KindP2P:
		return "p2p"
	case KindTimer:
		return "timer"
	}
	return "unknown"
}

// KindOf tells what event e is.
func KindOf(e uint32) Kind {
	var k uint32
	sdk.GetEventType(e, &k)
	return Kind(k)
}
