package abi

// Event types. That of a timer is this cloud's own.
const (
	typeNone uint32 = iota
	typeHTTP
	typePubSub
	typeP2P
	typeTimer
)

var events = []decl{
	{"getEventType", "ii", command(func(g *Guest, m module, a []uint64) {
		if kind := g.kind(a[0]); kind != typeNone {
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

// wrongEvent answers a question about an event of a kind that there is none of.
var wrongEvent = errno(func(g *Guest, _ module, a []uint64) Errno {
	if g.kind(a[0]) == typeNone {
		return ErrEventNotFound
	}
	return ErrNilAddress
})
