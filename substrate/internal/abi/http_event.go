package abi

import "encoding/binary"

var httpEvents = []decl{
	textSize("getHttpEventMethodSize", func(x *exchange) string { return x.r.Method }),
	{"getHttpEventMethod", "iii", onHTTP(func(_ *Guest, x *exchange, m module, a []uint64) Errno {
		if uint32(a[2]) != uint32(len(x.r.Method)) {
			return ErrBufferTooSmall
		}
		return m.put(a[1], x.r.Method)
	})},
	textSize("getHttpEventHostSize", func(x *exchange) string { return x.r.Host }),
	text("getHttpEventHost", func(x *exchange) string { return x.r.Host }),
	textSize("getHttpEventPathSize", func(x *exchange) string { return x.r.URL.Path }),
	text("getHttpEventPath", func(x *exchange) string { return x.r.URL.Path }),
	textSize("getHttpEventUserAgentSize", func(x *exchange) string { return x.r.UserAgent() }),
	text("getHttpEventUserAgent", func(x *exchange) string { return x.r.UserAgent() }),

	namedSize("getHttpEventQueryValueByNameSize", (*exchange).parameter),
	named("getHttpEventQueryValueByName", (*exchange).parameter),
	namedSize("getHttpEventHeadersSize", (*exchange).value),
	named("getHttpEventHeaders", (*exchange).value),

	// All that a request has under a name, one by one.
	eachSize("getHttpEventQueryValuesSize", (*exchange).values),
	each("getHttpEventQueryValues", (*exchange).values),
	eachSize("getHttpEventHeaderLinesSize", (*exchange).lines),
	each("getHttpEventHeaderLines", (*exchange).lines),

	listSize("getHttpEventRequestQueryKeysSize", (*exchange).parameters),
	list("getHttpEventRequestQueryKeys", "ii", (*exchange).parameters),
	// The names of the headers have two spellings: that of the Go SDK …
	listSize("getHttpEventHeaderVarNameByIdSize", (*exchange).headerNames),
	list("getHttpEventHeaderVarNameById", "ii", (*exchange).headerNames),
	// … and that of the Rust SDK, which also gives the size of its buffer.
	listSize("getHttpEventRequestHeaderKeysSize", (*exchange).headerNames),
	list("getHttpEventRequestHeaderKeys", "iii", (*exchange).headerNames),

	{"readHttpEventBody", "iiii", onHTTP(func(g *Guest, x *exchange, m module, a []uint64) Errno {
		buf, ok := m.view(a[1], a[2])
		if !ok {
			return ErrAddressOutOfMemory
		}
		n, err := x.read(g, buf)
		return m.took(n, err, a[3], ErrHttpReadBody)
	})},
	{"closeHttpEventBody", "i", onHTTP(func(_ *Guest, x *exchange, _ module, _ []uint64) Errno {
		if x.r.Body != nil && x.r.Body.Close() != nil {
			return ErrCloseBody
		}
		return ErrNone
	})},
	{"eventHttpWrite", "iiii", onHTTP(func(g *Guest, x *exchange, m module, a []uint64) Errno {
		p, ok := m.view(a[1], a[2])
		if !ok {
			return ErrAddressOutOfMemory
		}
		n, err := x.write(g, p)
		if err != nil {
			return ErrHttpWrite
		}
		return m.cell(a[3], uint32(n))
	})},
	{"eventHttpFlush", "i", onHTTP(func(g *Guest, x *exchange, _ module, _ []uint64) Errno {
		if x.flush(g) != nil {
			return ErrHttpWrite
		}
		return ErrNone
	})},
	{"eventHttpRetCode", "ii", onHTTP(func(_ *Guest, x *exchange, _ module, a []uint64) Errno {
		code := uint32(a[1])
		if code < 100 || code > 999 {
			return ErrHttpWrite
		}
		// One of the informational codes is not the status of the response.
		if !x.sent && !x.fixed && code >= 200 {
			x.status = int(code)
		}
		return ErrNone
	})},
	{"eventHttpHeaderAdd", "iiiii", onHTTP(func(_ *Guest, x *exchange, m module, a []uint64) Errno {
		key, ok1 := m.text(a[1], a[2])
		value, ok2 := m.text(a[3], a[4])
		switch {
		case !ok1 || !ok2:
			return ErrAddressOutOfMemory
		case !x.add(key, value):
			return ErrHttpWrite
		}
		return ErrNone
	})},
	{"eventHttpRedirect", "iiii", onHTTP(func(g *Guest, x *exchange, m module, a []uint64) Errno {
		url, ok := m.text(a[1], a[2])
		code := uint32(a[3])
		switch {
		case !ok:
			return ErrAddressOutOfMemory
		case code < 300 || code > 399:
			return ErrHttpWrite
		case !x.wrote && !x.redirect(g, url, int(code)):
			return ErrHttpWrite
		}
		return ErrNone
	})},
}

// onHTTP is a function about an HTTP event, whose id is its first argument.
func onHTTP(do func(*Guest, *exchange, module, []uint64) Errno) errno {
	return func(g *Guest, m module, a []uint64) Errno {
		switch g.kind(a[0]) {
		case typeHTTP:
			return do(g, &g.http, m, a)
		case typeNone:
			return ErrEventNotFound
		}
		return ErrNilAddress
	}
}

// textSize and text declare the pair of functions that reads a text.
func textSize(name string, of func(*exchange) string) decl {
	return decl{name, "ii", onHTTP(func(_ *Guest, x *exchange, m module, a []uint64) Errno {
		return m.size(a[1], len(of(x)))
	})}
}

func text(name string, of func(*exchange) string) decl {
	return decl{name, "iii", onHTTP(func(_ *Guest, x *exchange, m module, a []uint64) Errno {
		return m.fill(a[1], a[2], of(x))
	})}
}

// namedSize and named declare the pair of functions that reads a text by its
// name. The first has the address of the size before the name, the second has
// the buffer behind it.
func namedSize(fn string, of func(*exchange, string) string) decl {
	return decl{fn, "iiii", onHTTP(func(_ *Guest, x *exchange, m module, a []uint64) Errno {
		name, ok := m.text(a[2], a[3])
		if !ok {
			return ErrAddressOutOfMemory
		}
		return m.size(a[1], len(of(x, name)))
	})}
}

func named(fn string, of func(*exchange, string) string) decl {
	return decl{fn, "iiiii", onHTTP(func(_ *Guest, x *exchange, m module, a []uint64) Errno {
		name, ok := m.text(a[1], a[2])
		if !ok {
			return ErrAddressOutOfMemory
		}
		return m.fill(a[3], a[4], of(x, name))
	})}
}

// eachSize and each are namedSize and named for several texts, in which any character may
// stand: before each is its length, in four bytes.
func eachSize(fn string, of func(*exchange, string) []string) decl {
	return namedSize(fn, func(x *exchange, name string) string { return prefixed(of(x, name)) })
}

func each(fn string, of func(*exchange, string) []string) decl {
	return named(fn, func(x *exchange, name string) string { return prefixed(of(x, name)) })
}

func prefixed(list []string) string {
	var b []byte
	for _, s := range list {
		b = append(binary.LittleEndian.AppendUint32(b, uint32(len(s))), s...)
	}
	return string(b)
}

// listSize and list declare the pair of functions that reads a list of texts.
func listSize(name string, of func(*exchange) []string) decl {
	return decl{name, "ii", onHTTP(func(_ *Guest, x *exchange, m module, a []uint64) Errno {
		return m.size(a[1], sliceSize(of(x)))
	})}
}

func list(name, params string, of func(*exchange) []string) decl {
	return decl{name, params, onHTTP(func(_ *Guest, x *exchange, m module, a []uint64) Errno {
		return m.putSlice(a[1], of(x))
	})}
}
