package abi

import (
	"bytes"
	"context"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// A client is a guest's HTTP client. It lives as long as the instance, since a
// guest may make it when it starts; its requests end with the event.
type client struct {
	requests map[uint32]*outgoing
	next     uint32
}

// outgoing is a request to another server, and its response.
type outgoing struct {
	method   string
	url      *url.URL
	host     string // in place of the URL's
	header   http.Header
	body     []byte
	response *http.Response
}

// methods are the numbers of the HTTP methods.
var methods = []string{"", "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT"}

var httpClient = []decl{
	{"newHttpClient", "i", errno(func(g *Guest, m module, a []uint64) Errno {
		if g.self.Network == nil || len(g.clients) >= maxHandles {
			return ErrHttpRequestFailed
		}
		g.clients = append(g.clients, &client{requests: map[uint32]*outgoing{}})
		return m.cell(a[0], uint32(len(g.clients)-1))
	})},
	{"newHttpRequest", "ii", errno(func(g *Guest, m module, a []uint64) Errno {
		c, e := g.client(a[0])
		if e != ErrNone {
			return e
		}
		if g.requests >= maxHandles {
			return ErrNewRequestFailed
		}
		g.requests++
		id := c.next
		c.next++
		c.requests[id] = &outgoing{method: http.MethodGet, header: http.Header{}}
		return m.cell(a[1], id)
	})},
	onRequest("setHttpRequestURL", "iiii", func(g *Guest, o *outgoing, m module, a []uint64) Errno {
		text, ok := m.text(a[2], a[3])
		if !ok {
			return ErrAddressOutOfMemory
		}
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return ErrParseUrlFailed
		}
		if !g.hold(len(text)) {
			return ErrBufferTooSmall
		}
		o.url = u
		return ErrNone
	}),
	onRequest("setHttpRequestMethod", "iii", func(_ *Guest, o *outgoing, _ module, a []uint64) Errno {
		n := uint32(a[2])
		if n == 0 || int(n) >= len(methods) {
			return ErrInvalidMethod
		}
		o.method = methods[n]
		return ErrNone
	}),
	onRequest("getHttpRequestMethod", "iii", func(_ *Guest, o *outgoing, m module, a []uint64) Errno {
		return m.cell(a[2], uint32(slices.Index(methods, o.method)))
	}),
	onRequest("setHttpRequestBody", "iiii", func(g *Guest, o *outgoing, m module, a []uint64) Errno {
		body, ok := m.view(a[2], a[3])
		switch {
		case !ok:
			return ErrAddressOutOfMemory
		case !g.hold(len(body) - len(o.body)):
			return ErrBufferTooSmall
		}
		o.body = bytes.Clone(body) // the guest may use the memory for something else before the request is sent
		return ErrNone
	}),
	// One header: the values are a list of texts.
	onRequest("setHttpRequestHeader", "iiiiii", func(g *Guest, o *outgoing, m module, a []uint64) Errno {
		key, ok1 := m.text(a[2], a[3])
		raw, ok2 := m.text(a[4], a[5])
		if !ok1 || !ok2 {
			return ErrAddressOutOfMemory
		}
		o.del(key)
		return o.add(g, key, pieces(raw))
	}),
	// Guests give the bare value, and some a list of one.
	onRequest("addHttpRequestHeader", "iiiiii", func(g *Guest, o *outgoing, m module, a []uint64) Errno {
		key, ok1 := m.text(a[2], a[3])
		raw, ok2 := m.text(a[4], a[5])
		if !ok1 || !ok2 {
			return ErrAddressOutOfMemory
		}
		values := []string{raw}
		if strings.HasSuffix(raw, "\x00") {
			values = pieces(raw)
		}
		return o.add(g, key, values)
	}),
	onRequest("deleteHttpRequestHeader", "iiii", func(_ *Guest, o *outgoing, m module, a []uint64) Errno {
		key, ok := m.text(a[2], a[3])
		if !ok {
			return ErrAddressOutOfMemory
		}
		o.del(key)
		return ErrNone
	}),
	onRequest("getHttpRequestHeaderSize", "iiiii", headerSize(sentHeader)),
	onRequest("getHttpRequestHeader", "iiiii", headerValues(sentHeader)),
	onRequest("getHttpRequestHeaderKeysSize", "iii", keysSize(sentHeader)),
	onRequest("getHttpRequestHeaderKeys", "iiii", keys(sentHeader)),

	onRequest("doHttpRequest", "ii", func(g *Guest, o *outgoing, _ module, _ []uint64) Errno {
		if o.url == nil {
			return ErrParseUrlFailed
		}
		if o.do(g.waiting(), g.self.Network.HTTP()) != nil {
			return ErrHttpRequestFailed
		}
		return ErrNone
	}),
	onRequest("getHttpResponseStatus", "iii", func(_ *Guest, o *outgoing, m module, a []uint64) Errno {
		if o.response == nil {
			return ErrHttpRequestFailed
		}
		return m.cell(a[2], uint32(o.response.StatusCode))
	}),
	onRequest("readHttpResponseBody", "iiiii", func(_ *Guest, o *outgoing, m module, a []uint64) Errno {
		if o.response == nil {
			return ErrHttpRequestFailed
		}
		buf, ok := m.view(a[2], a[3])
		if !ok {
			return ErrAddressOutOfMemory
		}
		n, err := o.response.Body.Read(buf)
		return m.took(n, err, a[4], ErrHttpReadBody)
	}),
	onRequest("closeHttpResponseBody", "ii", func(_ *Guest, o *outgoing, _ module, _ []uint64) Errno {
		if o.response == nil {
			return ErrHttpRequestFailed
		}
		if o.response.Body.Close() != nil {
			return ErrCloseBody
		}
		return ErrNone
	}),
	onRequest("getHttpResponseHeaderSize", "iiiii", headerSize(receivedHeader)),
	onRequest("getHttpResponseHeader", "iiiii", headerValues(receivedHeader)),
	onRequest("getHttpResponseHeaderKeysSize", "iii", keysSize(receivedHeader)),
	onRequest("getHttpResponseHeaderKeys", "iiii", keys(receivedHeader)),
}

func (g *Guest) client(id uint64) (*client, Errno) {
	if uint64(uint32(id)) >= uint64(len(g.clients)) {
		return nil, ErrClientNotFound
	}
	return g.clients[uint32(id)], ErrNone
}

type requestFunc = func(*Guest, *outgoing, module, []uint64) Errno

// onRequest declares a function about a request: its first two arguments are the
// client and the request. One that there is not is error 3, as guests expect.
func onRequest(name, params string, do requestFunc) decl {
	return decl{name, params, errno(func(g *Guest, m module, a []uint64) Errno {
		c, e := g.client(a[0])
		if e != ErrNone {
			return e
		}
		o, ok := c.requests[uint32(a[1])]
		if !ok {
			return ErrAddressOutOfMemory
		}
		return do(g, o, m, a)
	})}
}

// hold counts bytes that the host keeps for the requests of an event.
func (g *Guest) hold(n int) bool {
	if g.outgoing+int64(n) > g.limits.Body {
		return false
	}
	g.outgoing += int64(n)
	return true
}

func (o *outgoing) add(g *Guest, key string, values []string) Errno {
	if !httpguts.ValidHeaderFieldName(key) {
		return ErrReadHeaders
	}
	key = textproto.CanonicalMIMEHeaderKey(key)
	for _, v := range values {
		if !httpguts.ValidHeaderFieldValue(v) || len(o.header[key]) >= maxHandles || len(o.header) >= maxHandles {
			return ErrReadHeaders
		}
		if !g.hold(len(key) + len(v)) {
			return ErrBufferTooSmall
		}
		if key == "Host" {
			o.host = v
		}
		o.header[key] = append(o.header[key], v)
	}
	return ErrNone
}

func (o *outgoing) del(key string) {
	if o.header.Del(key); textproto.CanonicalMIMEHeaderKey(key) == "Host" {
		o.host = "" // the URL's again
	}
}

func (o *outgoing) do(ctx context.Context, c *http.Client) error {
	if o.response != nil {
		_ = o.response.Body.Close()
		o.response = nil
	}
	r, err := http.NewRequestWithContext(ctx, o.method, o.url.String(), bytes.NewReader(o.body))
	if err != nil {
		return err
	}
	r.Header = o.header.Clone()
	if o.host != "" {
		r.Host = o.host
	}
	o.response, err = c.Do(r)
	return err
}

// sentHeader and receivedHeader are the two headers of a request. There is none
// before the response.
func sentHeader(o *outgoing) (http.Header, Errno) { return o.header, ErrNone }

func receivedHeader(o *outgoing) (http.Header, Errno) {
	if o.response == nil {
		return nil, ErrHttpRequestFailed
	}
	return o.response.Header, ErrNone
}

func headerSize(of func(*outgoing) (http.Header, Errno)) requestFunc {
	return func(_ *Guest, o *outgoing, m module, a []uint64) Errno {
		h, e := of(o)
		key, ok := m.text(a[2], a[3])
		switch {
		case e != ErrNone:
			return e
		case !ok:
			return ErrAddressOutOfMemory
		}
		return m.size(a[4], sliceSize(h.Values(key)))
	}
}

func headerValues(of func(*outgoing) (http.Header, Errno)) requestFunc {
	return func(_ *Guest, o *outgoing, m module, a []uint64) Errno {
		h, e := of(o)
		key, ok := m.text(a[2], a[3])
		switch {
		case e != ErrNone:
			return e
		case !ok:
			return ErrAddressOutOfMemory
		}
		return m.putSlice(a[4], h.Values(key))
	}
}

func keysSize(of func(*outgoing) (http.Header, Errno)) requestFunc {
	return func(_ *Guest, o *outgoing, m module, a []uint64) Errno {
		h, e := of(o)
		if e != ErrNone {
			return e
		}
		return m.size(a[2], sliceSize(sortedKeys(h)))
	}
}

func keys(of func(*outgoing) (http.Header, Errno)) requestFunc {
	return func(_ *Guest, o *outgoing, m module, a []uint64) Errno {
		h, e := of(o)
		if e != ErrNone {
			return e
		}
		names := sortedKeys(h)
		if uint64(sliceSize(names)) > uint64(uint32(a[3])) {
			return ErrBufferTooSmall
		}
		return m.putSlice(a[2], names)
	}
}

func sortedKeys(h http.Header) []string {
	var names []string
	for k := range h {
		names = append(names, k)
	}
	slices.Sort(names)
	return names
}

// pieces decodes a list of texts.
func pieces(raw string) []string {
	if raw == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(raw, "\x00"), "\x00")
}

// hangUp ends the requests of an event.
func (g *Guest) hangUp() {
	for _, c := range g.clients {
		for id, o := range c.requests {
			if o.response != nil {
				_ = o.response.Body.Close()
			}
			delete(c.requests, id)
		}
	}
	g.outgoing, g.requests = 0, 0
}
