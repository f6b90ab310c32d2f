package testcluster

import (
	"strings"
	"time"
)

// A Topology is the nodes of a cluster, each with its roles.
type Topology []Spec

// A Spec describes a node.
type Spec struct {
	Name  string
	Roles string // as in "taubyte init": auth,tns,patrick,seer, or all
	// Disk is the size in bytes of a disk of its own for the node's data. It is
	// what FillDisk fills. 0 keeps the data on the machine's disk.
	Disk int64
}

func (s Spec) has(role string) bool {
	for r := range strings.SplitSeq(s.Roles, ",") {
		if r == role {
			return true
		}
	}
	return false
}

// TwoOfEverything is nine nodes: two of each role, and three that keep data, so that
// what one of them loses has another place to go.
func TwoOfEverything() Topology {
	const control = "auth,tns,patrick,seer"
	return Topology{
		{Name: "c1", Roles: control},
		{Name: "c2", Roles: control},
		{Name: "b1", Roles: "monkey,hoarder"},
		{Name: "b2", Roles: "monkey,hoarder"},
		{Name: "h1", Roles: "hoarder"},
		{Name: "s1", Roles: "substrate"},
		{Name: "s2", Roles: "substrate"},
		{Name: "g1", Roles: "gateway"},
		{Name: "g2", Roles: "gateway"},
	}
}

// A Link is one direction of the way between two nodes. The zero Link loses and
// delays nothing.
type Link struct {
	Cut    bool          // everything is lost, and nobody is told
	Loss   float64       // share of packets that are lost, 0 to 1
	Delay  time.Duration // of each packet
	Jitter time.Duration // up to so much more, without overtaking
	Rate   int64         // bytes a second; 0 is unlimited
}
