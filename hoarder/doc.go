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
// # Databases and storages: what a call may count on
//
// A store belongs to a project and branch, an application of it or none, and has a
// name: an Instance. The first opening makes it. Each is a crdt of its own on its
// replicas; what differs in any part of the Instance is another store.
//
// A write is on the disk of the replica that took it when it returns, and on its way
// to the others. A client sees what it wrote before, on whatever replica its call ends:
// a replica that misses it waits for it, and if it does not come the call goes to the
// next one. Writes that only a replica had that is gone for longer than the grace are
// given up. Of writes of several clients to one key at the same moment one counts, the
// same everywhere.
//
// What a store holds is counted with each write, at no cost that grows with it, and
// kept apart from what its users see: its size can't be got around. Replicas that are
// written to at the same moment may together exceed it by what they did not yet know of
// each other; they notice within as many writes as there are entries.
//
// Dropping a store frees all of it. Opened again, it is another one: whatever a node
// that was away still has of the old one does not come back.
//
// The values of databases and the names of files can be heard by any member of the
// network that listens to the gossip of hoarders. What must be kept from other nodes is
// sealed before it is put here. Calls are taken from nodes of role substrate and
// hoarder, which are trusted to name the project that they act for.
//
// # Where it goes
//
// Every hoarder orders the living hoarders alike for a root or a store (rendezvous
// hashing). The first in that order that have room should have it; one that went away
// is given a while to come back before the next in the order takes its place. A
// replica of a store serves once it has all that the others have, whether it is new or
// was away, and gives itself up only to others that have all of it. When no replica is
// there, calls fail; an empty one is never made in its stead.
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
