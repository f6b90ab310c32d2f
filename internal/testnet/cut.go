package testnet

import (
	"github.com/libp2p/go-libp2p/core/network"
)

// Cut keeps two nodes from reaching each other until mend is called. They are not
// connected again by that: what needs the other dials it.
func Cut(a, b *Node) (mend func()) {
	var undo []func()
	for _, pair := range [][2]*Node{{a, b}, {b, a}} {
		other := pair[1].ID()
		n := &network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) {
			if c.RemotePeer() == other {
				go c.Close()
			}
		}}
		pair[0].Network().Notify(n)
		undo = append(undo, func() { pair[0].Network().StopNotify(n) })
	}
	_ = a.Network().ClosePeer(b.ID())
	return func() {
		for _, f := range undo {
			f()
		}
	}
}
