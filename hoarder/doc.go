// Package hoarder keeps content: the modules and websites that deployments run,
// and whatever else a project wants kept.
//
// A node of role hoarder fetches a DAG whole to its own disk before it says that
// it keeps it, and other hoarders pull it as well until as many hold it as were
// asked for.
//
//	h, err := hoarder.New(ctx, host, store)
//	defer h.Close()
//	err = h.Keep(ctx, root, hoarder.KeepOptions{Project: project, Min: 2})
//
// # Who wants what
//
// Content is kept for projects. Two projects that keep one root have a claim each,
// and it is freed when the last of them has released it. Nothing but what hoarder
// itself was asked to keep is ever deleted: the node's other blocks (replicated
// stores, deployments) are not its to judge.
//
// # Where it goes
//
// Every hoarder orders the living hoarders alike for a root (rendezvous hashing).
// While too few hold it, the first in that order that do not, and are not full,
// pull it. A holder that went away is given a while to come back.
//
// # Adding content next to a hoarder
//
// Blocks that were added and not yet kept are nobody's. A program that adds them
// on a hoarder's own node wraps adding and Keep in Hold, which keeps garbage
// collection from taking a block that the new content shares with released one.
package hoarder
