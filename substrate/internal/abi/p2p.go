package abi

// p2p is commands between nodes. No service can be reached.
var p2p = []decl{
	{"getP2PEventData", "ii", wrongEvent},
	{"getP2PEventDataSize", "ii", wrongEvent},
	{"getP2PEventCommand", "ii", wrongEvent},
	{"getP2PEventCommandSize", "ii", wrongEvent},
	{"getP2PEventFrom", "ii", wrongEvent},
	{"getP2PEventFromSize", "ii", wrongEvent},
	{"getP2PEventTo", "ii", wrongEvent},
	{"getP2PEventToSize", "ii", wrongEvent},
	{"getP2PEventProtocol", "ii", wrongEvent},
	{"getP2PEventProtocolSize", "ii", wrongEvent},
	{"writeP2PResponse", "iii", wrongEvent},
	{"newCommand", "iiiii", fail(ErrCommandCreateFailed)},
	{"sendCommand", "iiii", fail(ErrP2PCommandNotFound)},
	{"sendCommandTo", "iiiii", fail(ErrP2PCommandNotFound)},
	{"readCommandResponse", "iii", fail(ErrP2PCommandNotFound)},
	{"listenToProtocolSize", "iii", fail(ErrP2PListenFailed)},
	{"listenToProtocol", "iiii", fail(ErrP2PListenFailed)},
	{"discoverPeersSize", "iiii", fail(ErrP2PSendFailed)},
	{"discoverPeers", "ii", fail(ErrP2PSendFailed)},
}
