// Package testcluster runs whole clusters for tests, breaks them while they run, and
// counts what their users notice.
//
//	c := testcluster.Start(t, testcluster.Config{Nodes: testcluster.TwoOfEverything()})
//	project := c.Deploy("notes")
//	load := c.Load(testcluster.Reads(project, 20), testcluster.Notes(project, 10))
//	c.Node("h1").Kill()
//	...
//	c.Node("h1").Start()
//	figures := load.Stop()
//
// # Topologies
//
// A Topology is data: the name and the roles of each node. Start makes the network
// with "taubyte init" and runs each node as a process of cmd/taubyte, built once for
// a test binary.
//
// # Machines
//
// Where this machine allows it (Linux, root, /dev/net/tun), each process has a network
// namespace and a mount namespace of its own. The network between them is a switch in
// the test's own process: every packet passes it, so a link is cut, lossy, slow or
// narrow by a call, for any pair of nodes, at once. The namespaces have no names and
// the interfaces live as long as the test's process: nothing remains of a test that was
// interrupted or killed. Elsewhere the processes share loopback; tests that need links
// or disks call Config.Isolated and are skipped with the reason.
//
// # Faults
//
//   - Node.Kill, Node.Start: a crash and a return. Node.Interrupt: an orderly end.
//   - Node.Hang, Node.Resume: the process stands still (SIGSTOP) and goes on.
//   - Cluster.Cut, Cluster.SetLink, Cluster.Heal: the network.
//   - Node.FillDisk, Node.FreeDisk: no space is left, on a node with Spec.Disk.
//   - Node.LoseStore, Node.LoseDisk: the store is gone, or all that the node had.
//     Node.Corrupt: bits of its tables are flipped.
//   - Cluster.Revoke, Cluster.Join: a node is put out, another one is added.
//   - Node.Skew: its wall clock is wrong by so much (Config.Skewable).
//
// # Load
//
// A Load has users that come in by the gateways as users do who know several
// addresses: each prefers one, and leaves it a second after a fault took it away. What
// was under way on a gateway at that moment is counted as Interrupted, everything else
// that was not answered as it should be is Failed. Requests begin on a schedule, not
// when the last was answered, so a slow cluster is not asked less.
//
// Notes keeps a ledger of every write that was acknowledged, reads them all the time
// and all at the end: one that is not found is lost. Pushes counts results of each
// push.
package testcluster
