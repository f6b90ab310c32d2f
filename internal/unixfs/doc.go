// Package unixfs keeps files and trees of files as content-addressed blocks
// (UnixFS), and reads them back without unpacking.
//
// What is added is deterministic: the same bytes under the same names have the
// same root on every node and on every day. Times, owners and permissions are not
// part of it.
//
//	root, err := unixfs.AddFS(ctx, host.Blocks(), os.DirFS("site"))
//	f, err := unixfs.Open(ctx, host.Blocks(), root, "css/style.css")
//	io.Copy(w, f)
//
// The format, which a change here would break: CIDv1 with SHA2-256; files in
// chunks of 256 KiB, each a raw leaf, in a balanced tree of 174 links a node;
// directories as one node, or sharded (HAMT, 256 wide) beyond 256 KiB of names
// and links.
package unixfs
