package event

import (
	"io"
	"strconv"
	"unsafe"

	"github.com/taubyte/taubyte/substrate/guest/errno"
	"github.com/taubyte/taubyte/substrate/guest/internal/sdk"
)

// HTTP is an HTTP request and its response. It is an io.Writer of the response's
// body.
//
// The headers are fixed by the first write, and the status when something leaves: by
// Flush, or when more was written than the host holds back (16 KiB). What is set later
// has no effect. What a request does not have is the empty string.
type HTTP uint32

// Method is the method, in capitals.
func (e HTTP) Method() string {
	var buf [8]byte // all usual methods
	n := uint32(0)
	if sdk.GetHttpEventMethodSize(uint32(e), &n) == 0 && n > 0 && n <= uint32(len(buf)) && sdk.GetHttpEventMethod(uint32(e), &buf[0], n) == 0 {
		for _, usual := range [...]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
			if usual == string(buf[:n]) {
				return usual
			}
		}
	}
	return quiet(sdk.Text(
		func(n *uint32) errno.Errno { return sdk.GetHttpEventMethodSize(uint32(e), n) },
		func(b *byte, n uint32) errno.Errno { return sdk.GetHttpEventMethod(uint32(e), b, n) }))
}

// Host is the host that the client asked for, with the port if it named one.
func (e HTTP) Host() string {
	return quiet(sdk.Text(
		func(n *uint32) errno.Errno { return sdk.GetHttpEventHostSize(uint32(e), n) },
		func(b *byte, n uint32) errno.Errno { return sdk.GetHttpEventHost(uint32(e), b, n) }))
}

// Path is the decoded path of the URL.
func (e HTTP) Path() string {
	return quiet(sdk.Text(
		func(n *uint32) errno.Errno { return sdk.GetHttpEventPathSize(uint32(e), n) },
		func(b *byte, n uint32) errno.Errno { return sdk.GetHttpEventPath(uint32(e), b, n) }))
}

// RequestURI is the path and the query of the URL as they were sent: a parameter that
// stands there several times can be seen by it. It is empty on a host that does not
// tell it.
func (e HTTP) RequestURI() string { return e.Header(":path") }

// UserAgent is the client's name for itself.
func (e HTTP) UserAgent() string {
	return quiet(sdk.Text(
		func(n *uint32) errno.Errno { return sdk.GetHttpEventUserAgentSize(uint32(e), n) },
		func(b *byte, n uint32) errno.Errno { return sdk.GetHttpEventUserAgent(uint32(e), b, n) }))
}

// Query is the first value of a parameter of the URL.
func (e HTTP) Query(name string) string {
	return quiet(sdk.Text(
		func(n *uint32) errno.Errno { return sdk.GetHttpEventQueryValueByNameSize(uint32(e), n, name) },
		func(b *byte, n uint32) errno.Errno { return sdk.GetHttpEventQueryValueByName(uint32(e), name, b, n) }))
}

// QueryValues are all values of a parameter of the URL, in their order.
func (e HTTP) QueryValues(name string) []string {
	return sdk.Each(
		func(n *uint32) errno.Errno { return sdk.GetHttpEventQueryValuesSize(uint32(e), n, name) },
		func(b *byte, n uint32) errno.Errno { return sdk.GetHttpEventQueryValues(uint32(e), name, b, n) })
}

// QueryNames are the names of the URL's parameters.
func (e HTTP) QueryNames() []string {
	names, _ := sdk.Strings(
		func(n *uint32) errno.Errno { return sdk.GetHttpEventRequestQueryKeysSize(uint32(e), n) },
		func(b *byte, _ uint32) errno.Errno { return sdk.GetHttpEventRequestQueryKeys(uint32(e), b) })
	return names
}

// Header is the value of a header of the request. The lines of one that was sent
// several times are joined with ", ". The case of name does not matter.
func (e HTTP) Header(name string) string {
	return quiet(sdk.Text(
		func(n *uint32) errno.Errno { return sdk.GetHttpEventHeadersSize(uint32(e), n, name) },
		func(b *byte, n uint32) errno.Errno { return sdk.GetHttpEventHeaders(uint32(e), name, b, n) }))
}

// HeaderLines are the lines of a header of the request, in their order.
func (e HTTP) HeaderLines(name string) []string {
	return sdk.Each(
		func(n *uint32) errno.Errno { return sdk.GetHttpEventHeaderLinesSize(uint32(e), n, name) },
		func(b *byte, n uint32) errno.Errno { return sdk.GetHttpEventHeaderLines(uint32(e), name, b, n) })
}

// HeaderNames are the names of the request's headers.
func (e HTTP) HeaderNames() []string {
	names, _ := sdk.Strings(
		func(n *uint32) errno.Errno { return sdk.GetHttpEventRequestHeaderKeysSize(uint32(e), n) },
		func(b *byte, n uint32) errno.Errno { return sdk.GetHttpEventRequestHeaderKeys(uint32(e), b, n) })
	return names
}

// Body reads the request's body as it comes in. Closing it is not needed.
func (e HTTP) Body() io.ReadCloser { return body(e) }

// AddHeader adds a header to the response. It does not replace one of the same
// name.
func (e HTTP) AddHeader(name, value string) error {
	return sdk.EventHttpHeaderAdd(uint32(e), name, value).Err()
}

// Status sets the status of the response, which is 200 otherwise. It may be called after
// something was written, as long as nothing has left; that of Redirect stays.
func (e HTTP) Status(code int) error {
	return sdk.EventHttpRetCode(uint32(e), uint32(code)).Err()
}

// Write writes to the response's body.
func (e HTTP) Write(b []byte) (int, error) {
	return sdk.Send(b, func(data *byte, size uint32, n *uint32) errno.Errno {
		return sdk.EventHttpWrite(uint32(e), data, size, n)
	})
}

// WriteString is Write of a string.
func (e HTTP) WriteString(s string) (int, error) {
	return e.Write(unsafe.Slice(unsafe.StringData(s), len(s)))
}

// Flush sends what was written so far to the client.
func (e HTTP) Flush() error { return sdk.EventHttpFlush(uint32(e)).Err() }

// Redirect answers with a redirection; 302, 303, 307 and 308 are usual.
func (e HTTP) Redirect(url string, code int) error {
	return sdk.EventHttpRedirect(uint32(e), url, uint32(code)).Err()
}

// Error answers with a status and a message as plain text.
func (e HTTP) Error(message string, code int) error {
	err := e.AddHeader("Content-Type", "text/plain; charset=utf-8")
	if err == nil {
		err = e.AddHeader("X-Content-Type-Options", "nosniff")
	}
	if err == nil {
		err = e.Status(code)
	}
	if err == nil {
		_, err = e.WriteString(message + "\n")
	}
	return err
}

// Length is the declared length of the request's body, 0 where there is none and -1
// where it is not known.
func (e HTTP) Length() int64 {
	if n, err := strconv.ParseInt(e.Header("Content-Length"), 10, 64); err == nil && n >= 0 {
		return n
	}
	return -1
}

type body HTTP

func (b body) Read(p []byte) (int, error) {
	return sdk.Stream(p, func(buf *byte, size uint32, n *uint32) errno.Errno {
		return sdk.ReadHttpEventBody(uint32(b), buf, size, n)
	})
}

func (b body) Close() error { return sdk.CloseHttpEventBody(uint32(b)).Err() }

// quiet leaves the error out: an event of another kind has none of it.
func quiet(s string, err error) string {
	if err != nil {
		return ""
	}
	return s
}
