//go:build !wasip1

package guesttest

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/taubyte/taubyte/substrate/guest/errno"
	"github.com/taubyte/taubyte/substrate/guest/event"
	"github.com/taubyte/taubyte/substrate/guest/internal/sdk"
)

// heldBack is how much of a response is held back before something leaves.
const heldBack = 16 << 10

// exchange is an HTTP event.
type exchange struct {
	r      *http.Request
	status int
	header http.Header
	body   bytes.Buffer
	wrote  bool // the header is fixed
	left   bool // and the status
}

// HTTP has entry answer a request, such as httptest.NewRequest makes. What the wildcards of
// the function's path stand for is set as an http.ServeMux sets it: r.Pattern, and
// r.SetPathValue. Where entry panics the
// response is that of the cloud: status 500.
func (h *Host) HTTP(entry func(uint32) uint32, r *http.Request) *http.Response {
	x := &exchange{r: r, status: http.StatusOK, header: http.Header{}}
	h.kind, h.http = event.KindHTTP, x
	func() {
		defer func() {
			if p := recover(); p != nil {
				h.t.Logf("the function panicked: %v", p)
				x.status, x.header = http.StatusInternalServerError, http.Header{"Content-Type": {"text/plain; charset=utf-8"}}
				x.body.Reset()
				x.body.WriteString("The function failed.\n")
			}
		}()
		h.run(entry)
	}()
	body := x.body.Bytes()
	switch {
	case x.status == http.StatusNoContent || x.status == http.StatusResetContent || x.status == http.StatusNotModified:
		body = nil
	case len(body) > 0 && x.header.Get("Content-Type") == "" && x.header.Get("Content-Encoding") == "":
		x.header.Set("Content-Type", http.DetectContentType(body))
	}
	length := int64(len(body))
	if r.Method == http.MethodHead {
		body = nil
	}
	return &http.Response{
		Status: strconv.Itoa(x.status) + " " + http.StatusText(x.status), StatusCode: x.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: x.header, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: length, Request: r,
	}
}

// value is that of a header of the request, as a guest has it: its lines are one.
func (x *exchange) value(name string) string {
	key := textproto.CanonicalMIMEHeaderKey(name)
	switch {
	case key == "Content-Length":
		if x.r.ContentLength < 0 {
			return ""
		}
		return strconv.FormatInt(x.r.ContentLength, 10)
	case name == ":path":
		return x.r.URL.RequestURI()
	case name == ":pattern":
		return x.r.Pattern
	case strings.HasPrefix(name, ":path/"):
		return x.r.PathValue(strings.TrimPrefix(name, ":path/"))
	case key == "Cookie":
		return strings.Join(x.r.Header[key], "; ")
	}
	return strings.Join(x.r.Header[key], ", ")
}

func (x *exchange) lines(name string) []string {
	if lines := x.r.Header.Values(name); len(lines) > 0 {
		return lines
	}
	if v := x.value(name); v != "" {
		return []string{v}
	}
	return nil
}

func (x *exchange) query() url.Values { return x.r.URL.Query() }

func (x *exchange) write(p []byte) {
	x.wrote = true
	x.body.Write(p)
	x.left = x.left || x.body.Len() > heldBack
}

func (x *exchange) redirect(to string, code int) {
	x.header.Set("Location", to)
	x.status, x.wrote, x.left = code, true, true
}

func (h *Host) httpEvents() {
	f := &sdk.Fake
	// text is a pair that has the size of its buffer as well.
	text := func(of func(*exchange) string) (func(uint32, *uint32) errno.Errno, func(uint32, *byte, uint32) errno.Errno) {
		size, get := pair1(func(e uint32) (string, errno.Errno) {
			if wrong := h.on(e, event.KindHTTP); wrong != errno.None {
				return "", wrong
			}
			return of(h.http), errno.None
		})
		return size, func(e uint32, p *byte, _ uint32) errno.Errno { return get(e, p) }
	}
	f.GetHttpEventMethodSize, f.GetHttpEventMethod = text(func(x *exchange) string { return x.r.Method })
	f.GetHttpEventHostSize, f.GetHttpEventHost = text(func(x *exchange) string { return x.r.Host })
	f.GetHttpEventPathSize, f.GetHttpEventPath = text(func(x *exchange) string { return x.r.URL.Path })
	f.GetHttpEventUserAgentSize, f.GetHttpEventUserAgent = text(func(x *exchange) string { return x.r.UserAgent() })
	f.GetHttpEventRequestHeaderKeysSize, f.GetHttpEventRequestHeaderKeys = text(func(x *exchange) string {
		return joined(slices.Sorted(maps.Keys(x.r.Header)))
	})
	keys := func(x *exchange) string { return joined(slices.Sorted(maps.Keys(x.query()))) }
	size, get := text(keys)
	f.GetHttpEventRequestQueryKeysSize = size
	f.GetHttpEventRequestQueryKeys = func(e uint32, p *byte) errno.Errno { return get(e, p, 0) }

	named := func(of func(*exchange, string) string) (func(uint32, *uint32, string) errno.Errno, func(uint32, string, *byte, uint32) errno.Errno) {
		size, get := pair2(func(e uint32, name string) (string, errno.Errno) {
			if wrong := h.on(e, event.KindHTTP); wrong != errno.None {
				return "", wrong
			}
			return of(h.http, name), errno.None
		})
		return func(e uint32, n *uint32, name string) errno.Errno { return size(e, name, n) },
			func(e uint32, name string, p *byte, _ uint32) errno.Errno { return get(e, name, p) }
	}
	f.GetHttpEventQueryValueByNameSize, f.GetHttpEventQueryValueByName = named(func(x *exchange, name string) string { return x.query().Get(name) })
	f.GetHttpEventHeadersSize, f.GetHttpEventHeaders = named((*exchange).value)
	f.GetHttpEventQueryValuesSize, f.GetHttpEventQueryValues = named(func(x *exchange, name string) string { return prefixed(x.query()[name]) })
	f.GetHttpEventHeaderLinesSize, f.GetHttpEventHeaderLines = named(func(x *exchange, name string) string { return prefixed(x.lines(name)) })

	f.ReadHttpEventBody = func(e uint32, p *byte, size uint32, n *uint32) errno.Errno {
		if wrong := h.on(e, event.KindHTTP); wrong != errno.None {
			return wrong
		}
		return read(h.http.r.Body, p, size, n, errno.HttpReadBody)
	}
	f.CloseHttpEventBody = func(e uint32) errno.Errno { return h.on(e, event.KindHTTP) }
	f.EventHttpWrite = func(e uint32, p *byte, size uint32, n *uint32) errno.Errno {
		if wrong := h.on(e, event.KindHTTP); wrong != errno.None {
			return wrong
		}
		h.http.write(view(p, size))
		*n = size
		return errno.None
	}
	f.EventHttpFlush = func(e uint32) errno.Errno {
		wrong := h.on(e, event.KindHTTP)
		if wrong == errno.None {
			h.http.wrote, h.http.left = true, true
		}
		return wrong
	}
	f.EventHttpRetCode = func(e, code uint32) errno.Errno {
		switch wrong := h.on(e, event.KindHTTP); {
		case wrong != errno.None:
			return wrong
		case code < 100 || code > 999:
			return errno.HttpWrite
		case code >= 200 && !h.http.left:
			h.http.status = int(code)
		}
		return errno.None
	}
	f.EventHttpHeaderAdd = func(e uint32, name, value string) errno.Errno {
		wrong := h.on(e, event.KindHTTP)
		if wrong == errno.None && !h.http.wrote {
			h.http.header.Add(name, value)
		}
		return wrong
	}
	f.EventHttpRedirect = func(e uint32, to string, code uint32) errno.Errno {
		switch wrong := h.on(e, event.KindHTTP); {
		case wrong != errno.None:
			return wrong
		case code < 300 || code > 399:
			return errno.HttpWrite
		case !h.http.wrote:
			h.http.redirect(to, int(code))
		}
		return errno.None
	}
}

// read reads as the host does: the end may come with the last bytes.
func read(r io.Reader, p *byte, size uint32, n *uint32, failed errno.Errno) errno.Errno {
	if r == nil {
		return errno.EOF
	}
	count, err := r.Read(view(p, size))
	*n = uint32(count)
	switch {
	case err == nil:
		return errno.None
	case errors.Is(err, io.EOF):
		return errno.EOF
	}
	return failed
}
