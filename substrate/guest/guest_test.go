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
	query, header map[string]string
	body          string

	status  int
	headers []string
	out     bytes.Buffer
	flushed int
}

func (f *fake) Method() string              { return "POST" }
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
	result := serve(f, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
	if result != 0 || f.status != 201 || f.out.String() != "out" || f.flushed != 1 || !slices.Equal(f.headers, []string{"X-Two: 1", "X-Two: 2"}) {
		t.Errorf("%d, %+v", result, f)
	}
}

func TestResponses(t *testing.T) {
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		status  int
		out     string
		result  uint32
	}{
		"nothing":      {func(http.ResponseWriter, *http.Request) {}, 200, "", 0},
		"written":      {func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("x")) }, 200, "x", 0},
		"early hints":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(103); w.WriteHeader(204) }, 204, "", 0},
		"error":        {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusTeapot) }, 418, "no\n", 0},
		"panic":        {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", "y"); panic("secret") }, 500, "Internal Server Error\n", 1},
		"late panic":   {func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("x")); panic(io.EOF) }, 200, "x", 1},
		"quiet abort":  {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 500, "Internal Server Error\n", 1},
		"mux, unknown": {http.NewServeMux().ServeHTTP, 404, "404 page not found\n", 0},
	} {
		f := &fake{}
		result := serve(f, c.handler)
		if result != c.result || f.status != c.status || f.out.String() != c.out || slices.Contains(f.headers, "X: y") {
			t.Errorf("%s: %d, %+v", name, result, f)
		}
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
