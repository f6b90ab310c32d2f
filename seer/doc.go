// Package seer is the directory of a network's nodes: which there are, what they
// run, how they are, and how busy.
//
//	agent, err := seer.Join(ctx, host)
//	for _, node := range agent.Nodes() {
//		fmt.Println(node.ID, node.Services, node.Health, node.Load.InFlight)
//	}
//
// # Heartbeats
//
// Every node that has joined tells the others by gossip, about once a second, what
// it runs and how busy it is. A heartbeat is believed only from the node that it
// is about: gossip is signed, and the signer is compared. A node whose heartbeats
// do not come is suspect after a few, and gone after more. One that leaves says so.
//
// The directory is in memory, in every node that has joined: asking it costs no
// call. It also tells clients on the same host where a service runs
// (rpc.Finder), and the host where the nodes are.
//
// # The service
//
// New adds what one node or a few do for all: an API, a history of load, and a DNS
// server for the network's zone, which answers with the gateways that are alive: for the
// zone itself and for the hosts of projects (WithHosts). A name that nobody has does not
// exist. All DNS servers of a network give one content of the zone one serial. Zone
// transfers are refused.
package seer
