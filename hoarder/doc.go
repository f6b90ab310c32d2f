// Package hoarder keeps things: content, such as the modules and websites that
// deployments run, and the databases and storages that functions use.
//
//	h, err := hoarder.New(ctx, host, store)
//	defer h.Close()
//	err = h.Keep(ctx, root, hoarder.KeepOptions{Project: project, Min: 2})
//
//	notes, err := h.Database(ctx, hoarder.Instance{Project: project, Branch: "main", Name: "notes"}, hoarder.DatabaseSpec{})
//	err = notes.Put(ctx, "2026/first", []byte("…"))
//
//	photos, err := h.Storage(ctx, hoarder.Instance{…}, hoarder.StorageSpec{Versioning: true})
//	file, err := photos.Add(ctx, "cat.jpg", reader, false)
//
// A Client does the same from a node that has no hoarder, and calls the service
// directly where there is one.
//
// # Content: who wants what
//
// A node of role hoarder fetches a DAG whole to its own disk before it says that
// it keeps it, and other hoarders pull it as well until as many hold it as were
// asked for. Content is kept for projects. Two projects that keep one root have a
// claim each, and it is freed when the last of them has released it. Nothing but what
// hoarder itself was asked to keep, or what its storages had, is ever deleted: the
// node's other blocks (replicated stores, deployments) are not its to judge.
//
// Keep returns when two hoarders have the content, where there are two; KeepCopies says how
// many do. A hoarder gives a copy up only after those that are to keep theirs have said
// that it is on their disks. At its start it compares what it has written down with
// its disk, and takes back what it said of content that is not there any more.
//
// # Databases and storages
//
// A store belongs to a project and branch, an application of it or none, and has a
// name: an Instance. The first opening makes it. Each is a crdt of its own on its
// replicas; what differs in any part of the Instance is another store.
//
// Of writes of several clients to one key at the same moment one counts, the same
// everywhere. A client sees what it wrote before, on whatever replica its call ends.
//
// What a store holds is counted with each write, at no cost that grows with it, and
// kept apart from what its users see: its size can't be got around. Replicas that are
// written to at the same moment may together exceed it by what they did not yet know of
// each other; they notice within as many writes as there are entries.
//
// Dropping a store frees all of it. Opened again, it is another one: whatever a node
// that was away still has of the old one does not come back.
//
// # On how many disks a write is
//
// Every replica of a store takes reads and writes. Each keeps an in-sync set: the other
// replicas that have confirmed everything that it has acknowledged. A write is committed
// on the disk of the replica that takes it, with those that wait beside it, and
// acknowledged when all in its set have confirmed that it is on theirs. So an
// acknowledged write is on as many disks as there are replicas in sync, two at least where
// there are two hoarders. PutCopies and AddCopies say on how many; a store with fewer
// than Min is degraded (Store.Degraded), and writes go on.
//
// Two hoarders that share a store hold leases from each other, of 800 ms. A replica that does
// not confirm for a second, or whose lease runs out, is taken out of the set. That is
// on disk and in the registry before a write is acknowledged without it, and it does
// not answer any more by then: its own lease has run out, or it has been told. So a
// replica that is killed, or hangs, stops the writes of a store for about a second, and
// no other replica's reads.
//
// A replica that was away takes part again when an active one has taken it into its set
// and it has all that this one has. Until then it answers nothing: what it can't know is
// taubyte.ErrUnavailable and never ErrNotFound. A process that was stopped finds that out
// by its clock. If no replica is active, because all have been restarted, they begin
// together once all are there that were in the set of one of them. One that is gone for
// good keeps them waiting, as it may have acknowledged writes alone: Forget says that
// it will not come back, and those writes are lost. Revoking its membership says the same.
//
// What this promises, and what not:
//
//   - One node killed, hung, restarted or emptied: no acknowledged write is lost or read as
//     missing. A node that comes back under its identity with an empty disk is not counted.
//   - Two replicas that can't reach each other while both live: each takes the other for gone
//     after its lease, and serves what it has. Their writes are merged when they meet again;
//     until then either may miss what the other has acknowledged. That there is no such
//     key or file, and what there is in all, is ErrUnavailable at once in that time: until they
//     are in sync again, or the other is known to be dead (its machine refuses connections), to
//     have been restarted, to have left or to be revoked, and for the grace at most (WithGrace).
//     Where neither side may go on, a network needs a third place to decide, which this has not.
//   - A write that the answer said to be on one disk is lost with that disk.
//   - A file is on two disks with its content when AddCopies says so. A replica that has a
//     file's record and not yet its content answers ErrUnavailable for the content, and the
//     client reads it from the next.
//   - A write that returns an error may have been done.
//
// # What substrate nodes reach
//
// They run strangers' code. Such a node reaches the stores that what runs declares, as the
// network's registry says (WithGrants), for reading and writing; it lists, drops, releases
// and moves nothing. The values of databases and the names of files can be heard by
// any member of the network that listens to the gossip of hoarders. What must be kept from
// other nodes is sealed before it is put here.
//
// Knowing a CID grants no access to its blocks. Content exchange (bitswap) gives a hoarder's
// blocks to other hoarders, and those of content that is open to nodes of role
// substrate. Such a node has content opened by naming a branch (Client.Content): the branch
// must run, and its project keep the content. It is open for two minutes after the last
// node that asked. Nodes of other roles are given none. What is kept as the log of a job
// (ClassLog) is read by nodes of role patrick (OpenLog).
//
// # Where it goes
//
// Every hoarder orders the living hoarders alike for a root or a store (rendezvous
// hashing). The first in that order that have room should have it; one that went away
// is given a while to come back before the next in the order takes its place. A
// replica of a store gives itself up only to others that are in sync. When no replica is
// there, calls fail; an empty one is never made in its stead.
//
// Databases, storages and content are on two hoarders by default, where there are two,
// and on up to three. A store is made on as many as that at its first opening; substrate
// opens those that a configuration names before the deployment serves.
//
// A replica is open while it is used and some minutes longer; WithOpenStores bounds
// how many are. Opening counts what is in the store, so the first call after a while
// takes time that grows with it. WithCapacity bounds content and files; databases are
// small and not counted there.
//
// # Adding content next to a hoarder
//
// Blocks that were added and not yet kept are nobody's. A program that adds them
// on a hoarder's own node wraps adding and Keep in Hold, which keeps garbage
// collection from taking a block that the new content shares with released one.
// Storages need none of this.
package hoarder
