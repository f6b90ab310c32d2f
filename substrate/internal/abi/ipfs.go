package abi

// ipfs is content by CID, under clients. Its functions are those about the contents
// of storages, but that they name a client.
var ipfs = []decl{
	{"newIpfsClient", "i", errno(func(g *Guest, m module, a []uint64) Errno {
		if g.self.Stores == nil || len(g.kept.clients) >= maxHandles {
			return ErrClientNotFound
		}
		g.kept.clients = append(g.kept.clients, &library{})
		return m.cell(a[0], uint32(len(g.kept.clients)-1))
	})},
	{"ipfsNewContent", "ii", newContent(clientShelf, ErrCreatingNewFile)},
	{"ipfsOpenFile", "iii", openContent(clientShelf, ErrCidNotFoundOnIpfs)},
	{"ipfsCloseFile", "ii", closeContent(clientShelf)},
	{"ipfsFileCid", "iii", contentCID(clientShelf)},
	{"ipfsReadFile", "iiiii", readContent(clientShelf)},
	{"ipfsWriteFile", "iiiii", writeContent(clientShelf)},
	{"ipfsPushFile", "iii", pushContent(clientShelf)},
	{"ipfsSeekFile", "iiIii", seekContent(clientShelf)},
}
