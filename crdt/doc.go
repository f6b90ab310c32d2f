// Package crdt is a replicated taubyte.Datastore: members of a network that
// open a store of the same name hold the same entries, each on its own disk, and
// each reads and writes its own replica whether or not it reaches the others.
//
//	store, err := crdt.Open(ctx, host, disk, "registry", crdt.WithWriters(taubyte.RoleTNS))
//	err = store.Put(ctx, ds.NewKey("/routes/example.com"), value)
//	events, err := store.Watch(ctx, ds.NewKey("/routes"), 0)
//
// # What a write means
//
// Put, Delete and a batch's Commit return when the change is on this node's
// disk, and it is on its way to the other members. Of writes that did not know
// of each other the one higher in the history counts, then the greater value;
// every replica chooses alike. A deletion removes what its writer knew of: a
// value that another member put at the same time stays. No clock takes part. There
// is no transaction, no compare-and-swap: two nodes should not write different
// content to one key, and anything big is a block of the host's, its CID the
// value.
//
// # Writes of many goroutines
//
// One goroutine changes a replica. It takes all writes that wait, makes one block
// of them and one write to disk, so that 64 callers pay for one sync together.
// When the disk refuses, all of them get the error, and the replica goes on from
// what is on the disk.
//
// # Who may write
//
// WithWriters names the roles of the replicas. What other members tell is
// refused before it is read, whether it comes by gossip, whose author is checked,
// or by a pull, which is answered to replicas and asked of replicas only. What a
// replica may say is bounded: the size of a block, its keys and links, what waits
// for something that is missing, and its priority, which is at most one above
// everything before it. Who may read is not bounded: any member can listen to the
// gossip, so secrets are sealed before they are put here.
//
// # Damage
//
// A bit that flipped in a record is an error and is mended from another member, as
// long as the datastore below still reads the rest. One that flipped in the log makes
// the replica drop the log. One that flipped in what the replica knows of itself
// makes it read only until it meets another: records and log say what it has seen at
// least, which is enough to join the two and to keep what only it has. A deletion
// that nobody else has seen may be forgotten by that if its block is not in the log
// any more. A datastore that is itself broken is not repaired: it gives errors; open
// a new one, and the replica fills from the others.
//
// On a full disk, writes are errors and nothing else happens; the replica goes on when
// there is room. A replica whose disk lost its last writes, or that comes back from
// an old copy of its disk, gets what it misses from the others, its own changes among
// it.
//
// # How it works
//
// Changes are blocks of the Merkle DAG of go-ds-crdt, which decides what each does.
// A block carries its dot, the writer's number for it, and the dots of the
// blocks that it links to. A vector, one number for each writer, says exactly
// which blocks a replica has. New blocks go out by gossip; a replica that
// misses something pulls what lies between its vector and another's.
//
// The replica itself is a record for each key: the versions that are neither
// overwritten nor deleted. It rests on these invariants, which the tests check
// against a model after every step of random histories:
//
//  1. A block is applied once, and after every block that its writer had: its dot
//     is the next of its writer, and its links' dots are in the vector.
//  2. A write removes every version of the key that its writer had. So a key has
//     several versions only if they were written concurrently, and a version that
//     was removed can't come back: its block will not be applied again. Nothing
//     has to be remembered of it.
//  3. Records, vector, heads and log on disk are those after some whole groups of
//     blocks: one atomic commit of the datastore carries all of it.
//  4. Records and vector alone are the state; the log of blocks serves others. A
//     replica may forget any of it at any time.
//  5. Two states are joined by keeping a version that both have, and one that
//     only one of them has if the other's vector does not cover it: if it does,
//     the version was removed there. What the joining replica wrote and the other
//     has not seen stays, with its priority.
//
// # Growth
//
// Because of 4, compaction needs no agreement. When the log has grown beyond
// half of what the records take (and 1 MiB), a replica drops the oldest blocks
// that every connected member has; beyond four times that, those that somebody
// misses too. Who comes for a block that is gone gets the whole state and
// joins it by 5. A deleted key leaves nothing but its place in the log, which
// goes as well.
//
// What grows is the vector: by some twenty bytes whenever a replica is
// opened and written to. It can't be helped by going on as the writer of the life
// before: an old copy of the disk would do that too, and give numbers again that
// others know for something else.
package crdt
