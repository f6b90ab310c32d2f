package hoarder

import "github.com/libp2p/go-libp2p/core/peer"

// Nearest is the node on which the handle's next call ends.
func Nearest(d *Database) peer.ID {
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	return d.h.place.Hosts[0]
}
