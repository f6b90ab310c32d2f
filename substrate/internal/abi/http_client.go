package abi

// httpClient is requests to other servers. A guest gets no client.
var httpClient = []decl{
	{"newHttpClient", "i", fail(ErrHttpRequestFailed)},
	{"newHttpRequest", "ii", fail(ErrClientNotFound)},
	{"getHttpRequestHeaderSize", "iiiii", fail(ErrClientNotFound)},
	{"getHttpRequestHeader", "iiiii", fail(ErrClientNotFound)},
	{"setHttpRequestHeader", "iiiiii", fail(ErrClientNotFound)},
	{"deleteHttpRequestHeader", "iiii", fail(ErrClientNotFound)},
	{"addHttpRequestHeader", "iiiiii", fail(ErrClientNotFound)},
	{"getHttpRequestHeaderKeysSize", "iii", fail(ErrClientNotFound)},
	{"getHttpRequestHeaderKeys", "iiii", fail(ErrClientNotFound)},
	{"setHttpRequestMethod", "iii", fail(ErrClientNotFound)},
	{"getHttpRequestMethod", "iii", fail(ErrClientNotFound)},
	{"setHttpRequestBody", "iiii", fail(ErrClientNotFound)},
	{"setHttpRequestURL", "iiii", fail(ErrClientNotFound)},
	{"doHttpRequest", "ii", fail(ErrClientNotFound)},
	{"readHttpResponseBody", "iiiii", fail(ErrClientNotFound)},
	{"closeHttpResponseBody", "ii", fail(ErrClientNotFound)},
	{"getHttpResponseHeaderSize", "iiiii", fail(ErrClientNotFound)},
	{"getHttpResponseHeader", "iiiii", fail(ErrClientNotFound)},
	{"getHttpResponseHeaderKeysSize", "iii", fail(ErrClientNotFound)},
	{"getHttpResponseHeaderKeys", "iiii", fail(ErrClientNotFound)},
}
