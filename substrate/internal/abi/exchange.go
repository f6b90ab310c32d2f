package abi

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// An exchange is an HTTP event: a request, and the response as far as it has
// come.
//
// The first bytes of the body are held back, for two reasons: a response that
// fits gets its length, and a guest that traps in the middle of it gives a clean
// error. For the guest that shows in one thing: its first write fixes the header, and
// the status can be set until something has left, as guests do who write what is wrong
// first and then say that it is an error.
type exchange struct {
	w http.ResponseWriter
	r *http.Request

	query    url.Values // parsed on demand
	keys     []string   // names of its parameters
	names    []string   // of the request's header
	bodyRead int64

	status      int
	header      []field
	headerBytes int
	declared    []string // lengths that the guest has named
	wrote       bool     // by the guest: the header is fixed
	fixed       bool     // and the status is
	sent        bool     // to the user: they are on their way
	body        []byte
	total       int64
	deadlines   bool // set on the connection
	unhook      func() bool
	broken      error
}

type field struct{ key, value string }

const (
	heldBack       = 16 << 10
	maxHeaderBytes = 32 << 10
)

// hidden begins the names of the headers that nodes speak with each other.
const hidden = "Taubyte-"

var errOutput = errors.New("the response is larger than its limit")

// BeginHTTP makes a request the event under way and returns its id. EndHTTP
// follows.
func (g *Guest) BeginHTTP(w http.ResponseWriter, r *http.Request) uint32 {
	x := &g.http
	x.w, x.r = w, r
	x.status = http.StatusOK
	return g.begin(typeHTTP)
}

// EndHTTP ends the event and answers the user. failed is what became of the
// guest: on an error the answer is Failure's, or the connection is cut where a
// part of the guest's own is sent already: then the returned error is
// http.ErrAbortHandler, to be panicked with by the handler.
func (g *Guest) EndHTTP(failed error) error {
	x := &g.http
	defer func() {
		if x.deadlines {
			x.unhook()
			rc := http.NewResponseController(x.w)
			_ = rc.SetWriteDeadline(time.Time{})
			_ = rc.SetReadDeadline(time.Time{})
		}
		x.reset()
		g.End()
	}()
	if failed == nil {
		failed = x.broken
	}
	switch {
	case failed == nil && x.sent:
		return nil
	case failed == nil:
		x.setLength()
		x.send()
		failed = x.broken
	case !x.sent:
		Failure(x.w, failed)
		return nil
	}
	if failed != nil {
		return http.ErrAbortHandler
	}
	return nil
}

// reset forgets the exchange.
func (x *exchange) reset() {
	clear(x.header)
	*x = exchange{header: x.header[:0], body: x.body[:0]}
}

// setLength gives the length of a whole answer where the server would not find it
// out itself, as it does for small ones. What the guest has named counts only where
// there is nothing to count: in an answer to HEAD that says it without the body.
func (x *exchange) setLength() {
	const found = 2048
	head := x.r.Method == http.MethodHead
	switch {
	case x.empty():
	case head && x.total == 0:
		if n, ok := x.named(); ok {
			x.header = append(x.header, field{"Content-Length", n})
		}
	case head || x.total > found:
		x.header = append(x.header, field{"Content-Length", strconv.FormatInt(x.total, 10)})
	}
}

// named is the length that the guest has named, if it is one.
func (x *exchange) named() (string, bool) {
	if len(x.declared) != 1 {
		return "", false
	}
	n, err := strconv.ParseUint(x.declared[0], 10, 63)
	return strconv.FormatUint(n, 10), err == nil
}

// empty says whether an answer of that status has no content (RFC 9110, 15.3.5,
// 15.3.6 and 15.4.5).
func (x *exchange) empty() bool {
	return x.status == http.StatusNoContent || x.status == http.StatusResetContent || x.status == http.StatusNotModified
}

// Failure answers a request whose function did not: the status says what kind
// of failure it was, and nothing tells the user of the inside.
func Failure(w http.ResponseWriter, err error) {
	status, text := http.StatusInternalServerError, "The function failed."
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, ErrFuel):
		status, text = http.StatusGatewayTimeout, "The function took too long."
	case errors.Is(err, context.Canceled):
		status, text = 499, "The request was cancelled." // nobody reads it
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n")
}

// send sends status, header and what was held back.
func (x *exchange) send() {
	x.sent = true
	h := x.w.Header()
	for _, f := range x.header {
		h[f.key] = append(h[f.key], f.value)
	}
	switch {
	case x.status == http.StatusResetContent:
		h["Content-Length"] = []string{"0"}
	case x.r.Method == http.MethodHead && len(x.body) > 0 && !x.empty() && h["Content-Type"] == nil && h["Content-Encoding"] == nil:
		h["Content-Type"] = []string{http.DetectContentType(x.body)} // as the server does for GET
	}
	if x.status != http.StatusOK {
		x.w.WriteHeader(x.status)
	}
	if len(x.body) > 0 {
		x.emit(x.body)
		x.body = x.body[:0]
	}
}

// write appends to the body.
func (x *exchange) write(g *Guest, p []byte) (int, error) {
	x.wrote = true
	if x.broken != nil {
		return 0, x.broken
	}
	if x.total+int64(len(p)) > g.limits.Output {
		x.broken = errOutput
		return 0, errOutput
	}
	x.total += int64(len(p))
	if x.r.Method == http.MethodHead {
		x.fixed = x.fixed || x.total > heldBack // as for GET
		const looked = 512                      // at, to find out a type
		if len(x.body) < looked {
			x.body = append(x.body, p[:min(len(p), looked)]...)
		}
		return len(p), nil
	}
	if !x.sent && len(x.body)+len(p) <= heldBack {
		x.body = append(x.body, p...)
		return len(p), nil
	}
	x.hurry(g)
	if !x.sent {
		x.send()
	}
	x.emit(p)
	return len(p), x.broken
}

// emit writes to the user. What the protocol has no place for is dropped.
func (x *exchange) emit(p []byte) {
	if x.r.Method == http.MethodHead || x.empty() || len(p) == 0 || x.broken != nil {
		return
	}
	if _, err := x.w.Write(p); err != nil {
		x.broken = fmt.Errorf("writing the response: %w", err)
	}
}

func (x *exchange) flush(g *Guest) error {
	x.wrote = true
	x.hurry(g)
	if !x.sent {
		x.send()
	}
	return http.NewResponseController(x.w).Flush()
}

// hurry sets the guest's deadline on the connection, before something that may
// wait for the user.
func (x *exchange) hurry(g *Guest) {
	if x.deadlines {
		return
	}
	x.deadlines = true
	rc := http.NewResponseController(x.w)
	if d, ok := g.Deadline(); ok { // what has no deadlines does not wait
		_ = rc.SetReadDeadline(d)
		_ = rc.SetWriteDeadline(d.Add(toSayIt))
	}
	x.unhook = context.AfterFunc(g.life, func() {
		_ = rc.SetReadDeadline(time.Now())
		_ = rc.SetWriteDeadline(time.Now())
	})
	if x.r.Body != nil && x.r.Body != http.NoBody {
		_ = rc.EnableFullDuplex() // a guest may answer while it reads
	}
}

// toSayIt is the time that remains to tell a user that there was not enough.
const toSayIt = 2 * time.Second

// hopByHop are the headers that belong to a connection, which is not the guest's.
var hopByHop = []string{"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// add adds a header to the response. It reports whether it could. How the response
// is framed is the host's to say, who sees all of it: the guest may be wrong.
func (x *exchange) add(key, value string) bool {
	if x.wrote {
		return true // too late, which is no error
	}
	if !httpguts.ValidHeaderFieldName(key) || !httpguts.ValidHeaderFieldValue(value) {
		return false
	}
	key = textproto.CanonicalMIMEHeaderKey(key)
	if strings.HasPrefix(key, hidden) || x.headerBytes+len(key)+len(value) > maxHeaderBytes {
		return false
	}
	if slices.Contains(hopByHop, key) {
		return true
	}
	if key == "Content-Length" {
		if len(x.declared) < 2 && !slices.Contains(x.declared, value) {
			x.declared = append(x.declared, value)
		}
		return true
	}
	x.headerBytes += len(key) + len(value)
	x.header = append(x.header, field{key, value})
	return true
}

// redirect answers as http.Redirect does, with a short page for GET, but that a
// reference which is relative is taken as RFC 3986 has it (5.2): a query alone keeps the
// path, and nothing of a path is cleaned away. It reports whether the reference can be
// sent.
func (x *exchange) redirect(g *Guest, to string, code int) bool {
	if u, err := url.Parse(to); err == nil && u.Scheme == "" && u.Host == "" && u.User == nil {
		if strings.HasPrefix(u.Path, "//") {
			return false // that would be another host
		}
		base := url.URL{Path: x.r.URL.Path, RawPath: x.r.URL.RawPath, RawQuery: x.r.URL.RawQuery}
		if base.Path == "" {
			base.Path = "/"
		}
		to = base.ResolveReference(u).String()
		if strings.HasPrefix(to, "//") {
			to = "/" + strings.TrimLeft(to, "/")
		}
	}
	to = ascii(to)
	if !x.add("Location", to) {
		return false
	}
	typed := slices.ContainsFunc(x.header, func(f field) bool { return f.key == "Content-Type" })
	read := x.r.Method == http.MethodGet || x.r.Method == http.MethodHead
	if read && !typed {
		x.add("Content-Type", "text/html; charset=utf-8")
	}
	x.status, x.wrote, x.fixed = code, true, true
	if read && !typed {
		_, _ = x.write(g, fmt.Appendf(nil, "<a href=\"%s\">%s</a>.\n\n", html.EscapeString(to), http.StatusText(code)))
	}
	return true
}

// ascii escapes what a URL has beyond ASCII, and spaces.
func ascii(s string) string {
	var b []byte
	for i := range len(s) {
		if c := s[i]; c > ' ' && c < 0x7f {
			b = append(b, c)
		} else {
			b = fmt.Appendf(b, "%%%02X", c)
		}
	}
	return string(b)
}

// read reads from the request's body into the guest's memory.
func (x *exchange) read(g *Guest, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	left := g.limits.Body - x.bodyRead
	if int64(len(p)) > left {
		p = p[:max(left, 1)] // one byte more shows whether there is any
	}
	if x.r.Body == nil || x.r.Body == http.NoBody {
		return 0, io.EOF
	}
	x.hurry(g)
	n, err := x.r.Body.Read(p)
	x.bodyRead += int64(n)
	if x.bodyRead > g.limits.Body {
		return 0, fmt.Errorf("the request's body is larger than %d bytes", g.limits.Body)
	}
	return n, err
}

// requestURI is the name under which a guest finds the path and the query of its
// request, as they were sent, among the headers: no client can send one of that name,
// and hosts that don't know it say nothing.
const requestURI = ":path"

// value is what a request has of a header: the lines of one are one list (RFC 9110,
// 5.3). The length is that of the body, whatever the header of it has become on its way,
// and 0 where there is no body.
func (x *exchange) value(name string) string {
	key := textproto.CanonicalMIMEHeaderKey(name)
	switch {
	case strings.HasPrefix(key, hidden):
		return ""
	case key == "Content-Length":
		if x.r.ContentLength < 0 {
			return ""
		}
		return strconv.FormatInt(x.r.ContentLength, 10)
	case key == requestURI:
		return x.r.URL.RequestURI()
	case key == pathPattern || strings.HasPrefix(key, pathValue):
		return routed(x.r, key)
	}
	switch v := x.r.Header[key]; len(v) {
	case 0:
		return ""
	case 1:
		return v[0]
	default:
		if key == "Cookie" { // which has a list of its own (RFC 6265, 4.2.1)
			return strings.Join(v, "; ")
		}
		return strings.Join(v, ", ")
	}
}

// lines are those of a header, as value has them.
func (x *exchange) lines(name string) []string {
	key := textproto.CanonicalMIMEHeaderKey(name)
	if v := x.r.Header[key]; len(v) > 1 && key != "Content-Length" && !strings.HasPrefix(key, hidden) {
		return v
	}
	if v := x.value(name); v != "" || len(x.r.Header[key]) > 0 && !strings.HasPrefix(key, hidden) {
		return []string{v}
	}
	return nil
}

// headerNames are the names of the request's header fields, in order.
func (x *exchange) headerNames() []string {
	if x.names == nil {
		for name := range x.r.Header {
			if !strings.HasPrefix(name, hidden) {
				x.names = append(x.names, name)
			}
		}
		slices.Sort(x.names)
	}
	return x.names
}

// parameter is the first value of a query parameter.
func (x *exchange) parameter(name string) string {
	if x.query == nil {
		x.query = x.r.URL.Query()
	}
	return x.query.Get(name)
}

// values are all those of a query parameter.
func (x *exchange) values(name string) []string {
	if x.query == nil {
		x.query = x.r.URL.Query()
	}
	return x.query[name]
}

// parameters are the names of the query parameters, in order.
func (x *exchange) parameters() []string {
	if x.query == nil {
		x.query = x.r.URL.Query()
	}
	if x.keys == nil {
		for name := range x.query {
			x.keys = append(x.keys, name)
		}
		slices.Sort(x.keys)
	}
	return x.keys
}
