package abi

// ipfs is content by CID. A guest gets no client.
var ipfs = []decl{
	{"newIpfsClient", "i", fail(ErrClientNotFound)},
	{"ipfsNewContent", "ii", fail(ErrClientNotFound)},
	{"ipfsOpenFile", "iii", fail(ErrClientNotFound)},
	{"ipfsCloseFile", "ii", fail(ErrClientNotFound)},
	{"ipfsFileCid", "iii", fail(ErrClientNotFound)},
	{"ipfsReadFile", "iiiii", fail(ErrClientNotFound)},
	{"ipfsWriteFile", "iiiii", fail(ErrClientNotFound)},
	{"ipfsPushFile", "iii", fail(ErrClientNotFound)},
	{"ipfsSeekFile", "iiIii", fail(ErrClientNotFound)},
}
