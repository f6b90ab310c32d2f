package abi

// pubsub is publishing and subscribing. No channel can be reached.
var pubsub = []decl{
	{"getMessageData", "ii", wrongEvent},
	{"getMessageDataSize", "ii", wrongEvent},
	{"getMessageChannel", "ii", wrongEvent},
	{"getMessageChannelSize", "ii", wrongEvent},
	{"setSubscriptionChannel", "ii", fail(ErrSubscribeFailed)},
	{"publishToChannel", "iiii", fail(ErrPublishFailed)},
	{"getWebSocketURLSize", "iii", fail(ErrGetWebSocketURLFailed)},
	{"getWebSocketURL", "iii", fail(ErrGetWebSocketURLFailed)},
}
