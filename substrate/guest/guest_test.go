package guest

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/taubyte/taubyte/substrate/guest/event"
)

// fake is an HTTP event.
type fake struct {
	uri           string
	query, header map[string]string
	body          string

	status  int
	headers []string
	out     bytes.Buffer
	flushed int
}

func (f *fake) Method() string              { return "POST" }
func (f *fake) RequestURI() string          { return f.uri }
func (f *fake) Host() string                { return "example.com:8080" }
func (f *fake) Path() string                { return "/a b/ü" }
func (f *fake) Query(name string) string    { return f.query[name] }
func (f *fake) QueryNames() []string        { return slices.Collect(maps.Keys(f.query)) }
func (f *fake) Header(name string) string   { return f.header[name] }
func (f *fake) HeaderNames() []string       { return slices.Collect(maps.Keys(f.header)) }
func (f *fake) Body() io.ReadCloser         { return io.NopCloser(strings.NewReader(f.body)) }
func (f *fake) Write(b []byte) (int, error) { return f.out.Write(b) }
func (f *fake) Flush() error                { f.flushed++; return nil }

func (f *fake) WriteString(s string) (int, error) { return f.out.WriteString(s) }
func (f *fake) Status(code int) error             { f.status = code; return nil }
func (f *fake) AddHeader(name, value string) error {
	f.headers = append(f.headers, name+": "+value)
	return nil
}

var _ exchange = event.HTTP(0)

func TestRequest(t *testing.T) {
	f := &fake{query: map[string]string{"q": "x y&z", "empty": ""}, header: map[string]string{"Accept": "a", "X-One": "1", "Content-Length": "2"}, body: "in"}
	result, broken := serve(f, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got := []string{r.Method, r.Host, r.URL.Path, r.URL.Query().Get("q"), r.Header.Get("accept"), r.FormValue("q"), string(body)}
		want := []string{"POST", "example.com:8080", "/a b/ü", "x y&z", "a", "x y&z", "in"}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if !r.URL.Query().Has("empty") || r.ContentLength != 2 || r.RequestURI != "/a%20b/%C3%BC?empty=&q=x+y%26z" {
			t.Errorf("%v, %d, %q", r.URL.Query(), r.ContentLength, r.RequestURI)
		}
		w.Header().Add("X-Two", "1")
		w.Header().Add("X-Two", "2")
		w.WriteHeader(http.StatusCreated)
		w.WriteHeader(http.StatusTeapot)
		w.Header().Set("X-Late", "1")
		io.WriteString(w, "out")
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
	}))
	if result != 0 || broken || f.status != 201 || f.out.String() != "out" || f.flushed != 1 || !slices.Equal(f.headers, []string{"X-Two: 1", "X-Two: 2"}) {
		t.Errorf("%d, %+v", result, f)
	}
}

func TestResponses(t *testing.T) {
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		status  int
		out     string
		result  uint32
		broken  bool
	}{
		"nothing":      {func(http.ResponseWriter, *http.Request) {}, 200, "", 0, false},
		"written":      {func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("x")) }, 200, "x", 0, false},
		"early hints":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(103); w.WriteHeader(204) }, 204, "", 0, false},
		"error":        {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusTeapot) }, 418, "no\n", 0, false},
		"panic":        {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", "y"); panic("secret") }, 500, "Internal Server Error\n", 1, false},
		"late panic":   {func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("x")); panic(io.EOF) }, 200, "x", 1, true},
		"late abort":   {func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("x")); panic(http.ErrAbortHandler) }, 200, "x", 1, true},
		"only a head":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201); panic(io.EOF) }, 201, "", 1, true},
		"quiet abort":  {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 500, "Internal Server Error\n", 1, false},
		"mux, unknown": {http.NewServeMux().ServeHTTP, 404, "404 page not found\n", 0, false},
	} {
		f := &fake{}
		result, broken := serve(f, c.handler)
		if result != c.result || broken != c.broken || f.status != c.status || f.out.String() != c.out || slices.Contains(f.headers, "X: y") {
			t.Errorf("%s: %d, %+v", name, result, f)
		}
	}
}

// The URL is the one that was sent, where the host tells it.
func TestURL(t *testing.T) {
	for uri, want := range map[string][3]string{ // path, raw path, query
		"/":                  {"/", "", ""},
		"/a/b?tag=a&tag=b":   {"/a/b", "", "tag=a&tag=b"},
		"/a%20b":             {"/a b", "", ""},
		"/x%2Fy?q=%2F":       {"/x/y", "/x%2Fy", "q=%2F"},
		"/caf%C3%A9?":        {"/café", "", ""},
		"//double//slash?a":  {"//double//slash", "", "a"},
		"/?a=1;b=2&%zz&c=+x": {"/", "", "a=1;b=2&%zz&c=+x"},
		"/q?a?b=c":           {"/q", "", "a?b=c"},
	} {
		f := &fake{uri: uri, query: map[string]string{"tag": "a"}}
		serve(f, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if got := [3]string{r.URL.Path, r.URL.RawPath, r.URL.RawQuery}; got != want || r.RequestURI != uri || r.URL.RequestURI() != uri {
				t.Errorf("%s: %q, %q, %q", uri, got, r.RequestURI, r.URL.RequestURI())
			}
		}))
	}
	for _, uri := range []string{"", "*", "/%zz"} { // what it has of it otherwise
		f := &fake{uri: uri, query: map[string]string{"tag": "a"}}
		serve(f, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.RequestURI != "/a%20b/%C3%BC?tag=a" || r.URL.Path != "/a b/ü" {
				t.Errorf("%s: %q", uri, r.RequestURI)
			}
		}))
	}
}

// A request without a body has the length 0, and -1 is that of one whose length is not
// known.
func TestLength(t *testing.T) {
	for declared, want := range map[string]int64{"0": 0, "2": 2, "": -1, "-1": -1, "x": -1} {
		f := &fake{body: "in", header: map[string]string{"Content-Length": declared}}
		serve(f, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.ContentLength != want || (r.Body == http.NoBody) != (want == 0) {
				t.Errorf("%q: %d", declared, r.ContentLength)
			}
		}))
	}
}

func TestOutside(t *testing.T) {
	if got := ServeHTTP(0, http.NotFoundHandler()); got != 1 {
		t.Errorf("got %d", got)
	}
	if _, err := event.PubSub(0).Data(); err == nil || !strings.Contains(err.Error(), "GOOS=wasip1") {
		t.Errorf("got %v", err)
	}
}

func TestPathValues(t *testing.T) {
	f := &fake{header: map[string]string{":pattern": "/items/{id}/{rest...}", ":path/id": "a/b", ":path/rest": "c/d"}}
	serve(f, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := [4]string{r.Pattern, r.PathValue("id"), r.PathValue("rest"), r.PathValue("none")}; got != [4]string{"/items/{id}/{rest...}", "a/b", "c/d", ""} {
			t.Errorf("%q", got)
		}
	}))
	serve(&fake{header: map[string]string{":pattern": "/{id}/{$}", ":path/id": "7"}}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("id") != "7" || r.PathValue("$") != "" {
			t.Errorf("%q", r.PathValue("id"))
		}
	}))
	mux := http.NewServeMux()
	mux.HandleFunc("/{first}/", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("first") != "items" || r.PathValue("id") != "7" {
			t.Errorf("%q, %q", r.PathValue("first"), r.PathValue("id"))
		}
		w.WriteHeader(http.StatusAccepted)
	})
	m := &fake{uri: "/items/7", header: map[string]string{":pattern": "/items/{id}", ":path/id": "7"}}
	if serve(m, mux); m.status != http.StatusAccepted {
		t.Errorf("status %d", m.status)
	}
}
