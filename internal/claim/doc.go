// Package claim decides which node does a piece of work that only one should do at a
// time: a build, the order of a certificate, the run of a timer. It is a state machine
// over replicated records and the time; writing the records and talking to other nodes
// is its user's.
//
// # Arbiters
//
// One of the live members grants the leases of a key: [Arbiter] chooses it by
// rendezvous hashing, so that nodes with the same view choose the same one. A lease
// stays with the member that granted it while that one is live ([Keeper]), and goes to
// the key's arbiter when it is not.
//
// # Records
//
// A granted lease is a [Grant], with a fencing number from [Numbers]. How it ended is an
// [End]. Each record has a key of its own and is written once, so they may reach a
// replica in any order and any number of times: [History] comes to the same [Status]
// on every node that has the same records. Members that do not see each other may both
// grant a lease. When they have each other's records, the larger fencing number
// counts, unless a smaller one has settled the work: so one result is kept, everywhere
// the same.
//
// # Time
//
// [Timing] is a node's own clock on the leases that it keeps. It compares no times of
// two nodes, so their clocks may differ. A node that begins to keep a lease, because it
// was started, was stopped for a while, or follows another, gives the holder a whole
// lease's time to be heard.
package claim
