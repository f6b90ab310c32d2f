package site_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/substrate/internal/site"
)

// tree is a tree in memory.
type tree struct {
	files fstest.MapFS
	down  bool // blocks can't be had
	opens int
}

func (t *tree) Open(_ context.Context, _ cid.Cid, name string) (site.File, error) {
	t.opens++
	if t.down {
		return nil, fmt.Errorf("block: %w", taubyte.ErrUnavailable)
	}
	if name == "" {
		name = "."
	}
	info, err := t.files.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, taubyte.ErrNotFound)
	}
	if info.IsDir() {
		return &file{dir: true}, nil
	}
	data := t.files[name].Data
	return &file{Reader: strings.NewReader(string(data)), id: idOf(data)}, nil
}

type file struct {
	*strings.Reader
	id  cid.Cid
	dir bool
}

func (f *file) CID() cid.Cid { return f.id }
func (f *file) IsDir() bool  { return f.dir }
func (f *file) Close() error { return nil }

func idOf(data []byte) cid.Cid {
	h, err := multihash.Sum(data, multihash.SHA2_256, -1)
	if err != nil {
		panic(err)
	}
	return cid.NewCidV1(cid.Raw, h)
}

func newTree(files map[string]string) *tree {
	t := &tree{files: fstest.MapFS{}}
	for name, text := range files {
		t.files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return t
}

type ask struct {
	*testing.T
	*site.Site
	prefix string
}

func newSite(t *testing.T, files map[string]string) ask {
	return ask{t, site.New(newTree(files), idOf([]byte(t.Name())), site.NewCache(1<<20)), ""}
}

func (a ask) get(target string, header ...string) *http.Response {
	return a.do(http.MethodGet, target, header...)
}

func (a ask) do(method, target string, header ...string) *http.Response {
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r, a.prefix)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return string(b)
}

func TestFiles(t *testing.T) {
	s := newSite(t, map[string]string{
		"index.html":      "<p>home",
		"app.js":          "1+1",
		"about.html":      "<p>about",
		"docs/index.html": "<p>docs",
		"docs/a b.txt":    "spaces",
		"empty/x.txt":     "x",
		"LICENSE":         "Do what you like.",
	})
	for target, want := range map[string]string{
		"/":                 "200 text/html; charset=utf-8 <p>home",
		"/index.html":       "200 text/html; charset=utf-8 <p>home",
		"/app.js":           "200 text/javascript; charset=utf-8 1+1",
		"/about":            "200 text/html; charset=utf-8 <p>about",
		"/docs/":            "200 text/html; charset=utf-8 <p>docs",
		"/docs/a%20b.txt":   "200 text/plain; charset=utf-8 spaces",
		"/LICENSE":          "200 text/plain; charset=utf-8 Do what you like.",
		"//app.js":          "200 text/javascript; charset=utf-8 1+1",
		"/docs/../app.js":   "200 text/javascript; charset=utf-8 1+1",
		"/../../app.js":     "200 text/javascript; charset=utf-8 1+1",
		"/missing.js":       "404 text/plain; charset=utf-8 There is no such page.\n",
		"/app.js/":          "404 text/plain; charset=utf-8 There is no such page.\n",
		"/empty/":           "404 text/plain; charset=utf-8 There is no such page.\n",
		"/nowhere":          "404 text/plain; charset=utf-8 There is no such page.\n",
		"/docs/%2e%2e/none": "404 text/plain; charset=utf-8 There is no such page.\n",
	} {
		r := s.get(target)
		require.Equal(t, want, fmt.Sprintf("%d %s %s", r.StatusCode, r.Header.Get("Content-Type"), body(t, r)), target)
	}
	r := s.get("/docs?x=1")
	require.Equal(t, http.StatusTemporaryRedirect, r.StatusCode)
	require.Equal(t, "/docs/?x=1", r.Header.Get("Location"))
	require.Equal(t, "/docs/", s.get("//docs").Header.Get("Location"), "no redirect to another host")
}

func TestPrefix(t *testing.T) {
	s := newSite(t, map[string]string{"index.html": "home", "a.txt": "a"})
	s.prefix = "/site"
	require.Equal(t, "a", body(t, s.get("/site/a.txt")))
	require.Equal(t, "home", body(t, s.get("/site/")))
	require.Equal(t, "/site/", s.get("/site").Header.Get("Location"))
}

func TestHeadAndMethods(t *testing.T) {
	s := newSite(t, map[string]string{"index.html": "home"})
	r := s.do(http.MethodHead, "/")
	require.Equal(t, 200, r.StatusCode)
	require.Equal(t, "4", r.Header.Get("Content-Length"))
	require.Empty(t, body(t, r))
	r = s.do(http.MethodPost, "/")
	require.Equal(t, http.StatusMethodNotAllowed, r.StatusCode)
	require.Equal(t, "GET, HEAD", r.Header.Get("Allow"))
}

// A page of HTML under the name of a script breaks an application in ways that
// its author can't see.
func TestSinglePageFallback(t *testing.T) {
	s := newSite(t, map[string]string{"index.html": "<p>app"})
	browser := []string{"Accept", "text/html,application/xhtml+xml,*/*;q=0.8"}

	r := s.get("/users/7", browser...)
	require.Equal(t, 200, r.StatusCode)
	require.Equal(t, "<p>app", body(t, r))
	require.Equal(t, "no-cache", r.Header.Get("Cache-Control"))

	require.Equal(t, 404, s.get("/missing.js", browser...).StatusCode)
	require.Equal(t, 404, s.get("/data/7", "Accept", "application/json").StatusCode)
	require.Equal(t, 404, s.get("/users/7", "Accept", "text/html", "Sec-Fetch-Mode", "cors").StatusCode)
	require.Equal(t, 200, s.get("/users/7", "Sec-Fetch-Mode", "navigate").StatusCode)
}

func TestErrorPage(t *testing.T) {
	s := newSite(t, map[string]string{"index.html": "<p>home", "404.html": "<p>gone"})
	r := s.get("/users/7", "Accept", "text/html")
	require.Equal(t, 404, r.StatusCode)
	require.Equal(t, "<p>gone", body(t, r))
	require.Empty(t, body(t, s.do(http.MethodHead, "/users/7")))
}

func TestConditionalAndRanges(t *testing.T) {
	big := strings.Repeat("0123456789", 20_000)
	s := newSite(t, map[string]string{"small.txt": "0123456789", "big.bin": big})
	for name, size := range map[string]int{"/small.txt": 10, "/big.bin": len(big)} {
		r := s.get(name)
		require.Equal(t, int64(size), r.ContentLength, name)
		etag := r.Header.Get("Etag")
		require.Regexp(t, `^"baf.+"$`, etag)
		require.Equal(t, 304, s.get(name, "If-None-Match", etag).StatusCode)
		require.Equal(t, 200, s.get(name, "If-None-Match", `"other"`).StatusCode)

		r = s.get(name, "Range", "bytes=2-4")
		require.Equal(t, 206, r.StatusCode)
		require.Equal(t, "234", body(t, r))
		require.Equal(t, fmt.Sprintf("bytes 2-4/%d", size), r.Header.Get("Content-Range"))
		require.Equal(t, "89", body(t, s.get(name, "Range", "bytes=-2")))
		require.Equal(t, 416, s.get(name, "Range", "bytes=999999-").StatusCode)
		require.Equal(t, 200, s.get(name, "Range", "bytes=2-4", "If-Range", `"other"`).StatusCode)
	}
}

func TestEncodings(t *testing.T) {
	s := newSite(t, map[string]string{
		"app.js": "plain", "app.js.br": "br", "app.js.gz": "gz", "app.js.zst": "zst",
		"only.css": "plain", "photo.jpg": "jpg", "photo.jpg.gz": "never",
	})
	for accept, want := range map[string]string{
		"":                         " plain",
		"gzip":                     "gzip gz",
		"gzip, deflate, br":        "br br",
		"gzip, deflate, br, zstd":  "br br",
		"br;q=0, gzip;q=0.5":       "gzip gz",
		"gzip;q=1.0, zstd;q=0.1":   "gzip gz",
		"*":                        "br br",
		"identity":                 " plain",
		"br;q=nonsense, gzip":      "gzip gz",
		"GZIP":                     "gzip gz",
		"br;q=0,*;q=0":             " plain",
		"br ; q=0.2 , gzip ; q=.9": "gzip gz",
	} {
		r := s.get("/app.js", "Accept-Encoding", accept)
		text := body(t, r)
		require.Equal(t, want, r.Header.Get("Content-Encoding")+" "+text, accept)
		require.Equal(t, "Accept-Encoding", r.Header.Get("Vary"))
		require.Equal(t, "text/javascript; charset=utf-8", r.Header.Get("Content-Type"))
		require.Equal(t, int64(len(text)), r.ContentLength)
	}
	require.NotEqual(t, s.get("/app.js").Header.Get("Etag"), s.get("/app.js", "Accept-Encoding", "br").Header.Get("Etag"))
	require.Empty(t, s.get("/only.css", "Accept-Encoding", "gzip").Header.Get("Vary"))
	require.Equal(t, "jpg", body(t, s.get("/photo.jpg", "Accept-Encoding", "gzip")))
}

func TestCacheHeaders(t *testing.T) {
	files := map[string]string{}
	forever := []string{
		"main.3f2a9c01.js", "main.3f2a9c01.chunk.js", "css/app-0a1b2c3d4e5f.css", "assets/index-DiwrgTda.js", "_app/chunk-2DZ7YZQK.js",
	}
	asked := []string{
		"index.html", "app.js", "my-component.js", "photo-20240115.jpg", "js/my-MainView.js", "feedface.js", "a-deadbeef.js", "jquery-3.7.1.min.js",
	}
	for _, name := range append(forever, asked...) {
		files[name] = "x"
	}
	s := newSite(t, files)
	for _, name := range forever {
		require.Equal(t, "public, max-age=31536000, immutable", s.get("/"+name).Header.Get("Cache-Control"), name)
	}
	for _, name := range asked {
		require.Equal(t, "no-cache", s.get("/"+name).Header.Get("Cache-Control"), name)
	}
}

// A file that can't be had at the moment is not a missing one: nobody may
// remember it so.
func TestUnavailable(t *testing.T) {
	files := newTree(map[string]string{"index.html": "home", "a.js": "a"})
	s := ask{t, site.New(files, idOf(nil), site.NewCache(1<<20)), ""}
	files.down = true
	r := s.get("/a.js")
	require.Equal(t, 503, r.StatusCode)
	require.Equal(t, "1", r.Header.Get("Retry-After"))
	require.Empty(t, r.Header.Get("Etag"))
	files.down = false
	require.Equal(t, "a", body(t, s.get("/a.js")))
}

func TestCacheIsUsedAndBounded(t *testing.T) {
	files := map[string]string{}
	for i := range 200 {
		files[fmt.Sprintf("%d.txt", i)] = strings.Repeat("x", 1000)
	}
	tr := newTree(files)
	s := ask{t, site.New(tr, idOf(nil), site.NewCache(50_000)), ""}
	for range 3 {
		for i := range 200 {
			require.Equal(t, 1000, len(body(t, s.get(fmt.Sprintf("/%d.txt", i)))))
		}
	}
	opens := tr.opens
	one := ask{t, site.New(tr, idOf([]byte("one")), site.NewCache(50_000)), ""}
	for range 10 {
		one.get("/7.txt")
	}
	require.LessOrEqual(t, tr.opens-opens, 4, "the file and its encodings, once")
}

func FuzzPath(f *testing.F) {
	f.Add("/a/../b", "br;q=0.1,*")
	f.Add("/%00", ";;q=,")
	tr := newTree(map[string]string{"index.html": "home", "a.js": "a", "a.js.br": "b"})
	s := site.New(tr, idOf(nil), site.NewCache(1<<16))
	f.Fuzz(func(t *testing.T, path, accept string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL.Path = path
		r.Header.Set("Accept-Encoding", accept)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r, "")
		if w.Code != 200 && w.Code != 404 && w.Code != 307 {
			t.Fatal(w.Code)
		}
		if to := w.Header().Get("Location"); strings.HasPrefix(to, "//") {
			t.Fatal(errors.New(to))
		}
	})
}
