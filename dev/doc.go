// Package dev deploys a folder of a developer's machine, and again on every
// save.
//
// A Folder is committed and pushed to a git remote as its owner would do it by
// hand, but from a repository of its own: the folder need not be a git clone, and
// where it is one, or lies in one, that repository is neither read nor written.
// What others push to the same branch in the meantime is merged, not
// overwritten.
//
//	folder, err := dev.Open(ctx, "examples/hello", stateDir, remote)
//	commit, err := folder.Push(ctx)
//	err = folder.Watch(ctx, func() { folder.Push(ctx) })
package dev
