package abi

// Event types. That of a timer is this cloud's own.
const (
	typeNone uint32 = iota
	typeHTTP
	typePubSub
	typeP2P
	typeTimer
	typeResource // which smart operations are asked about; it shows to none
)

var events = []decl{
	{"getEventType", "ii", command(func(g *Guest, m module, a []uint64) {
		if kind := g.kind(a[0]); kind != typeNone && kind != typeResource {
			m.cell(a[1], kind)
		}
	})},
}

// kind is the type of an event: none for every id but that of the event under way.
func (g *Guest) kind(id uint64) uint32 {
	if uint32(id) != g.event {
		return typeNone
	}
	return g.under
}

// onEvent is a function about the event under way, whose id is its first parameter
// and which has to be of a kind.
func onEvent(kind uint32, do errno) errno {
	return func(g *Guest, m module, a []uint64) Errno {
		switch g.kind(a[0]) {
		case kind:
			return do(g, m, a)
		case typeNone:
			return ErrEventNotFound
		}
		return ErrNilAddress
	}
}
