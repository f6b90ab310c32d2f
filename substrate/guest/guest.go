package guest

import (
	"io"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/taubyte/taubyte/substrate/guest/event"
)

// ServeHTTP answers event e with handler, and gives what an entry point
// returns: 0, or 1 when the handler panicked. A handler that panics once it has
// written leaves a response that is not whole: ServeHTTP ends the instance, and the
// client gets status 500, or sees the connection break where a part was sent.
//
// Where the configuration has a path with wildcards ("/items/{id}"), r.PathValue gives
// what they stand for and r.Pattern is that path. A handler may be an http.ServeMux all
// the same, whose own wildcards come first.
//
// The lines of a header that the request has several times are one value, joined
// with ", ". The response streams: what is written goes out when it is flushed or
// the host's buffer is full.
func ServeHTTP(e uint32, handler http.Handler) uint32 {
	if kind := event.KindOf(e); kind != event.KindHTTP {
		os.Stderr.WriteString("guest: the event is " + kind.String() + ", not http\n")
		return 1
	}
	result, broken := serve(event.HTTP(e), handler)
	if broken {
		end() // the host answers what it says to
	}
	return result
}

// exchange is what is used of an event.HTTP.
type exchange interface {
	Method() string
	RequestURI() string
	Host() string
	Path() string
	Query(string) string
	QueryNames() []string
	Header(string) string
	HeaderNames() []string
	Body() io.ReadCloser
	AddHeader(name, value string) error
	Status(int) error
	Write([]byte) (int, error)
	WriteString(string) (int, error)
	Flush() error
}

// call is what a request needs, in one piece: a guest pays for every allocation.
type call struct {
	request  http.Request
	url      url.URL
	response response
}

// serve also says whether the response was broken off in the middle.
func serve(x exchange, handler http.Handler) (result uint32, broken bool) {
	c := &call{response: response{event: x}}
	w := &c.response
	defer func() {
		p := recover()
		if p == nil {
			w.WriteHeader(http.StatusOK) // unless it was written
			return
		}
		result = 1
		if p != http.ErrAbortHandler {
			os.Stderr.WriteString("guest: panic: " + text(p) + "\n")
			os.Stderr.Write(debug.Stack())
		}
		if broken = w.wrote; !broken {
			clear(w.header)
			http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		}
	}()
	c.read(x)
	handler.ServeHTTP(w, &c.request)
	return 0, false
}

func text(p any) string {
	switch p := p.(type) {
	case error:
		return p.Error()
	case string:
		return p
	}
	return "of another type"
}

func (c *call) read(x exchange) {
	u := &c.url
	uri := x.RequestURI()
	if !parse(u, uri) {
		u.Path = x.Path()
		if names := x.QueryNames(); len(names) > 0 { // most have none
			query := make(url.Values, len(names))
			for _, name := range names {
				query.Set(name, x.Query(name))
			}
			u.RawQuery = query.Encode()
		}
		uri = u.RequestURI()
	}
	names := x.HeaderNames()
	header, values := make(http.Header, len(names)), make([]string, len(names))
	for i, name := range names {
		values[i] = x.Header(name)
		header[http.CanonicalHeaderKey(name)] = values[i : i+1 : i+1]
	}
	length := int64(-1)
	if n, err := strconv.ParseInt(x.Header("Content-Length"), 10, 64); err == nil && n >= 0 {
		length = n
	}
	r := &c.request
	r.Method, r.URL, r.Header, r.Host, r.RequestURI = x.Method(), u, header, x.Host(), uri
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, 1
	r.ContentLength, r.Body = length, http.NoBody
	if length != 0 {
		r.Body = x.Body()
	}
	if r.Pattern = x.Header(":pattern"); r.Pattern == "" {
		return
	}
	for rest := r.Pattern; ; { // the names of its wildcards
		_, name, ok := strings.Cut(rest, "{")
		if !ok {
			return
		}
		name, rest, _ = strings.Cut(name, "}")
		if name = strings.TrimSuffix(name, "..."); name != "$" {
			r.SetPathValue(name, x.Header(":path/"+name))
		}
	}
}

// parse reads a path and a query into u. It reports whether there are any.
func parse(u *url.URL, uri string) bool {
	if uri == "" || uri[0] != '/' {
		return false
	}
	path, query, has := strings.Cut(uri, "?")
	u.Path = path
	if strings.IndexByte(path, '%') >= 0 {
		var err error
		if u.Path, err = url.PathUnescape(path); err != nil {
			*u = url.URL{}
			return false
		}
		if u.EscapedPath() != path {
			u.RawPath = path
		}
	}
	u.RawQuery, u.ForceQuery = query, has && query == ""
	return true
}

// response is the http.ResponseWriter of an event.
type response struct {
	event  exchange
	header http.Header // nil until it is asked for
	wrote  bool
}

func (w *response) Header() http.Header {
	if w.header == nil {
		w.header = http.Header{}
	}
	return w.header
}

func (w *response) WriteHeader(code int) {
	if w.wrote || code < 200 {
		return // informational ones can't be passed on
	}
	w.wrote = true
	for name, values := range w.header {
		for _, v := range values {
			w.note(w.event.AddHeader(name, v))
		}
	}
	w.note(w.event.Status(code))
}

// note logs what net/http has no error for.
func (w *response) note(err error) {
	if err != nil {
		os.Stderr.WriteString("guest: the head of the response: " + err.Error() + "\n")
	}
}

func (w *response) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.event.Write(b)
}

func (w *response) WriteString(s string) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.event.WriteString(s)
}

func (w *response) Flush() { w.FlushError() }

func (w *response) FlushError() error {
	w.WriteHeader(http.StatusOK)
	return w.event.Flush()
}
