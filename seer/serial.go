package seer

import (
	"encoding/binary"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// zoneState is what a seer says of its zone in its heartbeats, by which all seers of a
// network give one content one serial.
//
// A seer whose picture changes takes the serial that another has for the same picture,
// or else one that is greater than all it knows. Of two that had chosen at the same time
// the greater holds.
type zoneState struct {
	Digest uint64 `json:"digest"` // of the zone's name and content
	Serial uint32 `json:"serial"`
}

// serialAhead bounds the serials of others: they are seconds since 1970, and a little
// more where a zone changed often.
const serialAhead = 24 * time.Hour

// serial is the serial of a picture, after a state before.
func (a *agent) serial(before zoneState, digest uint64, now time.Time) uint32 {
	var same, most uint32 // of others: for this picture, and for any
	limit := uint32(now.Add(serialAhead).Unix())
	a.mu.Lock()
	for id, k := range a.known {
		if id == a.host.ID() || k.zone == nil || k.Health == Gone || k.zone.Serial > limit {
			continue
		}
		most = max(most, k.zone.Serial)
		if k.zone.Digest == digest {
			same = max(same, k.zone.Serial)
		}
	}
	a.mu.Unlock()
	switch {
	case before.Digest == digest && before.Serial != 0:
		return max(before.Serial, same)
	case same > before.Serial:
		return same
	}
	return max(uint32(now.Unix()), before.Serial+1, most+1)
}

// digest tells one content of a zone from another.
func (p *picture) digest(zone string) uint64 {
	h := fnv.New64a()
	text := func(s string) {
		_, _ = h.Write(binary.AppendUvarint(nil, uint64(len(s))))
		_, _ = h.Write([]byte(s))
	}
	list := func(addrs []netip.Addr) {
		_, _ = h.Write(binary.AppendUvarint(nil, uint64(len(addrs))))
		for _, a := range addrs {
			text(a.String())
		}
	}
	text(zone)
	list(p.gateways)
	for _, name := range slices.Sorted(maps.Keys(p.names)) {
		text(name)
		list(p.names[name])
	}
	return h.Sum64()
}
