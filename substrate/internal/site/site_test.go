package site_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
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

// made is a site without faults.
func made(t testing.TB, tree site.Tree, root, encodings cid.Cid, cache *site.Cache) *site.Site {
	t.Helper()
	s, err := site.New(t.Context(), tree, root, encodings, cache)
	require.NoError(t, err)
	require.Empty(t, s.Faults())
	return s
}

type ask struct {
	*testing.T
	*site.Site
	prefix string
}

func newSite(t *testing.T, files map[string]string) ask {
	return ask{t, made(t, newTree(files), idOf([]byte(t.Name())), cid.Undef, site.NewCache(1<<20)), ""}
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
	a.ServeHTTP(w, r, a.prefix, strings.TrimPrefix(r.URL.Path, a.prefix))
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

	// A dot in a path does not make it a file, for a browser that says where it goes.
	for _, path := range []string{"/users/first.last", "/release/v1.2", "/@a.b/c", "/packages/left-pad.js", "/users/a@example.com"} {
		r := s.get(path, "Sec-Fetch-Mode", "navigate", "Accept", "text/html")
		require.Equal(t, "200 <p>app", fmt.Sprint(r.StatusCode, " ", body(t, r)), path)
		require.Contains(t, r.Header.Get("Vary"), "Sec-Fetch-Mode")
	}
	require.Equal(t, 200, s.get("/users/first.last", browser...).StatusCode, "no type of files")
	for _, name := range []string{"/missing.js", "/missing.css", "/a/missing.png", "/missing.woff2", "/data.json"} {
		require.Equal(t, 404, s.get(name, "Sec-Fetch-Mode", "no-cors", "Accept", "*/*").StatusCode, name)
		require.Equal(t, 404, s.get(name, browser...).StatusCode, name)
	}
	for accept, want := range map[string]int{
		"Text/HTML": 200, "TEXT/HTML;q=0.5": 200, "application/json, text/html": 200, "application/xhtml+xml": 200, " text/html ;level=1": 200,
		"text/html;q=0": 404, "text/html-ish": 404, "x-text/html": 404, "*/*": 404, "": 404,
	} {
		require.Equal(t, want, s.get("/users/1", "Accept", accept).StatusCode, accept)
	}
}

func TestErrorPage(t *testing.T) {
	s := newSite(t, map[string]string{"index.html": "<p>home", "404.html": "<p>gone"})
	r := s.get("/users/7", "Accept", "text/html")
	require.Equal(t, 404, r.StatusCode)
	require.Equal(t, "<p>gone", body(t, r))
	require.Empty(t, body(t, s.do(http.MethodHead, "/users/7")))
}

func TestConditions(t *testing.T) {
	s := newSite(t, map[string]string{
		"small.txt": "0123456789", "big.bin": strings.Repeat("0123456789", 20_000), "index.html": "home", "unknown": "text", "a.css": "plain", "a.css.gz": "gz",
	})
	for _, name := range []string{"/small.txt", "/big.bin", "/", "/unknown", "/a.css"} {
		for _, encoding := range []string{"", "gzip"} {
			whole := s.get(name, "Accept-Encoding", encoding)
			etag := whole.Header.Get("Etag")
			require.Regexp(t, `^"baf.+"$`, etag)
			for _, c := range []struct {
				header []string
				want   int
			}{
				{[]string{"If-Match", `"other"`}, 412},
				{[]string{"If-Match", `"a", "b"`}, 412},
				{[]string{"If-Match", "W/" + etag}, 412}, // its comparison is strong
				{[]string{"If-Match", etag}, 200},
				{[]string{"If-Match", `"other", ` + etag}, 200},
				{[]string{"If-Match", "*"}, 200},
				{[]string{"If-Match", ""}, 412},
				{[]string{"If-None-Match", etag}, 304},
				{[]string{"If-None-Match", "W/" + etag}, 304},
				{[]string{"If-None-Match", `"a,b", ` + etag}, 304},
				{[]string{"If-None-Match", "*"}, 304},
				{[]string{"If-None-Match", `"other"`}, 200},
				{[]string{"If-Match", `"other"`, "If-None-Match", etag}, 412},
				{[]string{"If-Match", etag, "If-None-Match", etag}, 304},
				// A file has no date.
				{[]string{"If-Modified-Since", "Fri, 01 Jan 2100 00:00:00 GMT"}, 200},
				{[]string{"If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:00 GMT"}, 200},
				// Conditions come before ranges.
				{[]string{"If-Match", `"other"`, "Range", "bytes=0-1"}, 412},
				{[]string{"If-None-Match", etag, "Range", "bytes=0-1"}, 304},
			} {
				for _, method := range []string{http.MethodGet, http.MethodHead} {
					r := s.do(method, name, append(c.header, "Accept-Encoding", encoding)...)
					what := fmt.Sprint(method, " ", name, " ", encoding, " ", c.header)
					text := body(t, r)
					require.Equal(t, c.want, r.StatusCode, what)
					require.Equal(t, whole.Header.Get("Vary"), r.Header.Get("Vary"), what)
					switch c.want {
					case 200:
						require.Equal(t, whole.Header, r.Header, what)
					case 304:
						require.Empty(t, text, what)
						require.Equal(t, etag, r.Header.Get("Etag"), what)
						require.Equal(t, whole.Header.Get("Cache-Control"), r.Header.Get("Cache-Control"), what)
						require.Empty(t, r.Header.Get("Content-Length")+r.Header.Get("Content-Type")+r.Header.Get("Content-Encoding"), what)
					case 412:
						require.Empty(t, r.Header.Get("Content-Length")+r.Header.Get("Content-Encoding")+r.Header.Get("Etag"), "nothing of the file: %s", what)
						require.Equal(t, "text/plain; charset=utf-8", r.Header.Get("Content-Type"), what)
					}
				}
			}
		}
	}
	etag := s.get("/small.txt").Header.Get("Etag")
	r := httptest.NewRequest("GET", "/small.txt", nil)
	r.Header["If-None-Match"] = []string{`"other"`, etag}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r, "", "/small.txt")
	require.Equal(t, 304, w.Code, "lines of one header are one list")
	require.Equal(t, 404, s.get("/nowhere.js", "If-Match", `"other"`).StatusCode, "what is not there has no version")
}

func TestRanges(t *testing.T) {
	big := strings.Repeat("0123456789", 20_000)
	small := strings.Repeat("0123456789", 20)
	s := newSite(t, map[string]string{"small.txt": small, "big.bin": big, "unknown": small, "empty.txt": "", "a.css": small, "a.css.gz": "compressed"})
	const whole, none = "whole", "none"
	for name, text := range map[string]string{"/small.txt": small, "/big.bin": big, "/unknown": small} {
		size := len(text)
		for value, want := range map[string]string{
			"bytes=0-9": "0-9", "bytes=2-4": "2-4", "bytes=0-0": "0-0", "bytes=5-": fmt.Sprint("5-", size-1),
			"bytes=-2":                             fmt.Sprintf("%d-%d", size-2, size-1),
			"bytes=0-99999999":                     fmt.Sprint("0-", size-1),
			"bytes=1-99999999999999999999":         fmt.Sprint("1-", size-1),
			"bytes=-99999999":                      fmt.Sprint("0-", size-1),
			"bytes=-99999999999999999999":          fmt.Sprint("0-", size-1),
			fmt.Sprintf("bytes=%d-", size-1):       fmt.Sprintf("%d-%d", size-1, size-1),
			"BYTES=0-9":                            "0-9",
			"bytes= 0-9 ":                          "0-9",
			"bytes=,0-9,":                          "0-9",
			"bytes=0-9,99999999-":                  "0-9", // the rest has nothing
			"bytes=-0,0-9":                         "0-9",
			"bytes=-0":                             none,
			"bytes=-00":                            none,
			fmt.Sprintf("bytes=%d-", size):         none,
			"bytes=99999999-":                      none,
			"bytes=99999999999999999999-":          none,
			"bytes=99999999-99999999,-0":           none,
			"items=0-5":                            whole, // another unit
			"seconds=0-5":                          whole,
			"bytes":                                whole,
			"":                                     whole,
			"0-9":                                  whole,
			"bytes=":                               whole,
			"bytes=,":                              whole,
			"bytes=-":                              whole,
			"bytes=9-0":                            whole,
			"bytes=a-b":                            whole,
			"bytes=+1-2":                           whole,
			"bytes=0x1-2":                          whole,
			"bytes=1 - 2":                          whole,
			"bytes=0-9,x":                          whole,
			"bytes=0-,0-,0-":                       whole, // more than there is
			"bytes=" + strings.Repeat("1-1,", 100): whole,
		} {
			r := s.get(name, "Range", value)
			got := body(t, r)
			what := name + " " + value
			switch want {
			case whole:
				require.Equal(t, 200, r.StatusCode, what)
				require.Empty(t, r.Header.Get("Content-Range"), what)
				require.Equal(t, text, got, what)
			case none:
				require.Equal(t, 416, r.StatusCode, what)
				require.Equal(t, fmt.Sprint("bytes */", size), r.Header.Get("Content-Range"), what)
				require.Empty(t, r.Header.Get("Etag")+r.Header.Get("Content-Encoding"), what)
			default:
				require.Equal(t, 206, r.StatusCode, what)
				require.Equal(t, fmt.Sprintf("bytes %s/%d", want, size), r.Header.Get("Content-Range"), what)
				var first, last int
				_, err := fmt.Sscanf(want, "%d-%d", &first, &last)
				require.NoError(t, err)
				require.Equal(t, text[first:last+1], got, what)
				require.Equal(t, int64(len(got)), r.ContentLength, what)
			}
			require.Equal(t, "200", fmt.Sprint(s.do(http.MethodHead, name, "Range", value).StatusCode), "a range is of GET alone: %s", what)
		}

		// Several parts.
		r := s.get(name, "Range", "bytes=0-1, 5-6, -2")
		require.Equal(t, 206, r.StatusCode)
		kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		require.NoError(t, err)
		require.Equal(t, "multipart/byteranges", kind)
		parts := multipart.NewReader(r.Body, params["boundary"])
		for _, want := range []string{"0-1 01", "5-6 56", fmt.Sprintf("%d-%d 89", size-2, size-1)} {
			p, err := parts.NextPart()
			require.NoError(t, err)
			b, err := io.ReadAll(p)
			require.NoError(t, err)
			at, content, _ := strings.Cut(want, " ")
			require.Equal(t, content, string(b))
			require.Equal(t, fmt.Sprintf("bytes %s/%d", at, size), p.Header.Get("Content-Range"))
			require.Equal(t, s.get(name).Header.Get("Content-Type"), p.Header.Get("Content-Type"))
		}
		_, err = parts.NextPart()
		require.ErrorIs(t, err, io.EOF)

		// Of one version.
		etag := s.get(name).Header.Get("Etag")
		for version, want := range map[string]int{etag: 206, `"other"`: 200, "W/" + etag: 200, "Fri, 01 Jan 2100 00:00:00 GMT": 200, "": 200} {
			require.Equal(t, want, s.get(name, "Range", "bytes=2-4", "If-Range", version).StatusCode, version)
		}
	}
	require.Equal(t, 200, s.get("/empty.txt", "Range", "bytes=0-9").StatusCode)
	require.Equal(t, 200, s.get("/empty.txt", "Range", "bytes=-5").StatusCode)
	require.Equal(t, 404, s.get("/nowhere", "Range", "bytes=0-9").StatusCode)
	r := s.get("/a.css", "Range", "bytes=0-3", "Accept-Encoding", "gzip")
	require.Equal(t, "206 comp gzip bytes 0-3/10", fmt.Sprint(r.StatusCode, " ", body(t, r), " ", r.Header.Get("Content-Encoding"), " ", r.Header.Get("Content-Range")))
}

// Site generators put a page beside the folder of what belongs to it.
func TestPagesBesideFolders(t *testing.T) {
	s := newSite(t, map[string]string{
		"blog.html": "blog", "blog/first.html": "first", "sub/api.html": "api", "sub/api/x.html": "x",
		"both.html": "page", "both/index.html": "folder", "v1.2.html": "version", "a.b.c.html": "dots", "v1.2/notes.html": "notes", "about.html": "about",
		"styled.html": "plain", "styled.html.gz": "gz", "styled/x.txt": "x", "index/x.txt": "x", "index.html": "home",
	})
	for target, want := range map[string]string{
		"/blog": "200 blog", "/blog?page=2": "200 blog", "/blog/first": "200 first", "/sub/api": "200 api", "/about": "200 about", "/index": "200 home",
		"/both": "307 The page is at /both/\n", "/both/": "200 folder", "/v1.2": "200 version", "/a.b.c": "200 dots", "/v1.2/notes": "200 notes", "/v1.2.html": "200 version",
		"/blog/": "404 There is no such page.\n", "/blog/second": "404 There is no such page.\n", "/v1.3": "404 There is no such page.\n", "/sub": "404 There is no such page.\n",
	} {
		r := s.get(target)
		require.Equal(t, want, fmt.Sprint(r.StatusCode, " ", body(t, r)), target)
	}
	require.Equal(t, "gz", body(t, s.get("/styled", "Accept-Encoding", "gzip")))
	s.prefix = "/docs"
	require.Equal(t, "blog", body(t, s.get("/docs/blog")))
	require.Equal(t, 307, s.get("/docs").StatusCode)
}

// The type is the one that is registered for a name, and not what the first bytes look
// like.
func TestTypes(t *testing.T) {
	const zip, html, text = "PK\x03\x04rest", "<!DOCTYPE html><p>x", "WEBVTT"
	for name, want := range map[string]string{
		"report.docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document", "REPORT.DOCX": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
		"t.xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "t.pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
		"t.odt": "application/vnd.oasis.opendocument.text", "t.epub": "application/epub+zip", "t.apk": "application/vnd.android.package-archive", "t.jar": "application/java-archive",
		"page.xhtml": "application/xhtml+xml", "cap.vtt": "text/vtt", "feed.ics": "text/calendar", "card.vcf": "text/vcard", "a.md": "text/markdown", "data.geojson": "application/geo+json",
		"t.yaml": "application/yaml", "t.m3u8": "application/vnd.apple.mpegurl", "t.mpd": "application/dash+xml", "t.mov": "video/quicktime", "t.m4a": "audio/mp4", "t.opus": "audio/ogg",
		"t.eot": "application/vnd.ms-fontobject", "t.heic": "image/heic", "t.7z": "application/x-7z-compressed", "t.tar": "application/x-tar", "t.gpx": "application/gpx+xml",
		"a.mjs": "text/javascript", "a.webmanifest": "application/manifest+json", "t.glb": "model/gltf-binary", "t.tsv": "text/tab-separated-values", "t.rtf": "application/rtf",
		"apple-app-site-association": "application/json", ".well-known/apple-app-site-association": "application/json", ".well-known/webfinger": "application/jrd+json",
		".well-known/matrix/server": "application/json", ".well-known/security.txt": "text/plain", ".well-known/assetlinks.json": "application/json",
	} {
		for _, content := range []string{zip, html, text, strings.Repeat("x", 100_000)} {
			s := newSite(t, map[string]string{name: content})
			s.Site = made(t, newTree(map[string]string{name: content}), idOf([]byte(name+content)), cid.Undef, site.NewCache(1<<20))
			r := s.get("/" + name)
			kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
			require.Equal(t, want, kind, name)
			require.Equal(t, r.Header.Get("Content-Type"), s.do(http.MethodHead, "/"+name).Header.Get("Content-Type"))
		}
	}
	s := newSite(t, map[string]string{"LICENSE": "Do what you like.", "big": strings.Repeat("text ", 50_000), "picture": "\x89PNG\r\n\x1a\n"})
	require.Equal(t, "text/plain; charset=utf-8", s.get("/LICENSE").Header.Get("Content-Type"), "a name that tells nothing")
	require.Equal(t, "text/plain; charset=utf-8", s.get("/big").Header.Get("Content-Type"))
	require.Equal(t, "image/png", s.get("/picture").Header.Get("Content-Type"))
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
		// A file as it is has a weight too.
		"identity;q=1, gzip;q=0.5":       " plain",
		"gzip;q=0.5, identity;q=1":       " plain",
		"identity;q=0.5, gzip;q=1":       "gzip gz",
		"identity;q=0.5, gzip;q=0.5":     "gzip gz",
		"identity, gzip;q=0.9, br;q=0.8": " plain",
		"identity;q=0, gzip;q=0.1":       "gzip gz",
		"identity;q=0, deflate":          " plain", // there is nothing else
		"*;q=0.5, gzip;q=0.1":            "br br",
		"*;q=0, gzip;q=0.1":              "gzip gz",
		"*;q=0.1, identity;q=0.2":        " plain",
		"gzip;q=0.001":                   "gzip gz",
		"gzip;q=0.000":                   " plain",
		"gzip;q=1.1":                     " plain",
		"gzip;Q=0.5, br;q=0.4":           "gzip gz",
		"gzip;x=1;q=0.2, zstd;q=0.3":     "zstd zst",
		"x-gzip":                         "gzip gz",
		"deflate, compress":              " plain",
		",, gzip ,":                      "gzip gz",
	} {
		r := s.get("/app.js", "Accept-Encoding", accept)
		text := body(t, r)
		require.Equal(t, want, r.Header.Get("Content-Encoding")+" "+text, accept)
		require.Equal(t, "Accept-Encoding", r.Header.Get("Vary"))
		require.Equal(t, "text/javascript; charset=utf-8", r.Header.Get("Content-Type"))
		require.Equal(t, int64(len(text)), r.ContentLength)
	}
	require.NotEqual(t, s.get("/app.js").Header.Get("Etag"), s.get("/app.js", "Accept-Encoding", "br").Header.Get("Etag"))
	r := httptest.NewRequest("GET", "/app.js", nil)
	r.Header["Accept-Encoding"] = []string{"deflate", "gzip;q=0.5", "zstd"}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r, "", "/app.js")
	require.Equal(t, "zstd", w.Header().Get("Content-Encoding"), "lines of one header are one list")
	require.Empty(t, s.get("/only.css", "Accept-Encoding", "gzip").Header.Get("Vary"))
	require.Equal(t, "jpg", body(t, s.get("/photo.jpg", "Accept-Encoding", "gzip")))
}

// What is kept for ever must never change under its name: an identifier, a date, a
// number or words in a name are no hash, and pages and documents have none.
func TestCacheHeaders(t *testing.T) {
	files := map[string]string{}
	forever := []string{
		"main.3f2a9c01.js", "main.3f2a9c01.chunk.js", "css/app-0a1b2c3d4e5f.css", "assets/index-Diwr4Tda.js", "_app/chunk-2DZ7YZQK.js",
		"assets/logo-BkT5xH1s.svg", "static/media/logo.3f2a9c01d4e5f6a7b8c9.png", "_next/static/css/3f2a9c01d4e5f6a7.css", "_nuxt/BkT5xH1s.js",
		"_astro/hero.BkT5xH1s.webp", "assets/inter-DRtmQk3A.woff2", "assets/index-XK2WDRTM.js.map",
		// esbuild and Angular
		"app-3NLHZDZC.js", "chunk-2DZ7YZQK.js", "styles-5INURTSO.css", "chunks/logo-3NLHZDZC.png",
		// Vite and Rollup
		"assets/index-B-x2_3dK.js", "assets/vendor-_kX-2b9Q.css", "assets/index-B-x2_3dK.js.map", "assets/KaTeX_Main-Regular-B22Nviop.woff2", "assets/roboto-latin-400-normal-mTIRXP6Y.woff2",
		// webpack and Parcel
		"static/js/787.28cb0dcd.chunk.js", "js/chunk-vendors.7c1f8a3b.js", "runtime~main.3f2a9c01d4e5f6a7b8c9.js", "index.3f2a9c01.css",
		// Next.js, with and without a base path
		"_next/static/chunks/main-app-3f2a9c01d4e5f6a7.js", "_next/static/chunks/pages/_app-72b849fbd24ac258.js", "_next/static/wX3kq9/_buildManifest.js", "_next/static/media/a34f9d1faa5f3315-s.p.woff2",
		"shop/_next/static/chunks/app/layout-0123456789abcdef.js", "_next/static/chunks/0a1b2c3d.js",
		// SvelteKit
		"_app/immutable/entry/start.B2k9fXcQ.js", "_app/immutable/nodes/0.DqS1zXyW.js",
	}
	asked := []string{
		"sku-ABCD2345.js", "chunk-ABCDEFGH.js", "assets/my-long-A-name.js", "assets/the-Old-Page.png", "assets/a-My-Photo.png", "_next/data/wX3kq9/index.json", "_app/version.json", "_nuxt/builds/latest.json", "app-3nlhzdzc.js", "team-3NLHZDZC.jpg", "3NLHZDZC.js",
		"index.html", "app.js", "my-component.js", "photo-20240115.jpg", "js/my-MainView.js", "feedface.js", "a-deadbeef.js", "jquery-3.7.1.min.js",
		"my-story-3f2a9c01.html", "assets/my-story-3f2a9c01.html", "static/report.3f2a9c01.html", "report-deadbeef1.html", "post-3f2a9c01.xhtml",
		"report.3f2a9c01.pdf", "assets/invoice-3f2a9c01.pdf", "data-3f2a9c01.json", "assets/data.3f2a9c01.json", "notes-3f2a9c01.txt", "3f2a9c01.html",
		"photo-3f2a9c01.jpg", "photo.3f2a9c01.jpg", "team/IMG-A1B2C3D4.jpg", "logo-BkT5xH1s.svg", "feed-3f2a9c01.xml", "3f2a9c01d4e5f6a7.css",
		"assets/a-deadbeef1.png", "assets/hero-MainPhoto.jpg", "assets/photo-DSC00012.jpg", "assets/photo-IMG_1234.jpg", "assets/guide-Chapter1.png", "assets/BkT5xH1s.js",
		"assets/1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed.jpg", "assets/photo-20240115.jpg", "assets/index-DiwrgTda.js", "assets/report-3f2a9c01.docx", "my-story-3f2a9c01",
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
	s = newSite(t, map[string]string{"my-story-3f2a9c01.html": "x"})
	require.Equal(t, "no-cache", s.get("/my-story-3f2a9c01").Header.Get("Cache-Control"), "by its clean URL")
}

// A file that can't be had at the moment is not a missing one: nobody may
// remember it so.
func TestUnavailable(t *testing.T) {
	files := newTree(map[string]string{"index.html": "home", "a.js": "a"})
	s := ask{t, made(t, files, idOf(nil), cid.Undef, site.NewCache(1<<20)), ""}
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
	s := ask{t, made(t, tr, idOf(nil), cid.Undef, site.NewCache(50_000)), ""}
	for range 3 {
		for i := range 200 {
			require.Equal(t, 1000, len(body(t, s.get(fmt.Sprintf("/%d.txt", i)))))
		}
	}
	one := ask{t, made(t, tr, idOf([]byte("one")), cid.Undef, site.NewCache(50_000)), ""}
	opens := tr.opens
	for range 10 {
		one.get("/7.txt")
	}
	require.LessOrEqual(t, tr.opens-opens, 4, "the file and its encodings, once")
}

// What a site's own rules ask for.
func TestRules(t *testing.T) {
	s := newSite(t, map[string]string{
		"index.html": "home", "app.js": "1+1", "about.html": "about", "docs/index.html": "docs", "gone.html": "gone", "new.html": "new", "app/index.html": "app", "a.css": "plain", "a.css.br": "br",
		"_redirects": "/old /new 301\n/about /new 302\n/docs /app 200\n/app/* /app/index.html 200\n/gone/* /gone.html 404\n/lost/* /nowhere 200\n/x/* /y/:splat 307\n/a.c* /no 302\n/i* /forced 302!\n/submit https://forms.example.com/ 308\n",
		"_headers":   "/*\n  X-Frame-Options: DENY\n/app.js\n  Cache-Control: public, max-age=60\n  Content-Type: application/x-own\n/gone/*\n  X-Gone: yes\n",
	})
	for target, want := range map[string]string{
		"/":              "200 home",
		"/old?a=1":       "301 /new?a=1",
		"/about":         "302 /new", // one path is led away even from a file
		"/docs":          "200 app",
		"/docs/":         "200 app",
		"/app/deep/er":   "200 app",
		"/gone/x":        "404 gone",
		"/lost/x":        "404 There is no such page.\n",
		"/x/a/b/?c=d":    "307 /y/a/b/?c=d",
		"/a.css":         "200 plain", // many paths leave a file where it is
		"/a.ccc":         "302 /no",
		"/index.html":    "302 /forced",
		"/_redirects":    "404 There is no such page.\n",
		"/_headers":      "404 There is no such page.\n",
		"/sub/_headers":  "404 There is no such page.\n",
		"/docs/../old":   "301 /new",
		"/x/%5cevil.com": "307 /y/%5Cevil.com",
	} {
		r := s.get(target)
		got := r.Header.Get("Location")
		if got == "" {
			got = body(t, r)
		}
		require.Equal(t, want, fmt.Sprint(r.StatusCode, " ", got), target)
	}
	r := s.get("/app.js")
	require.Equal(t, "DENY public, max-age=60 application/x-own", r.Header.Get("X-Frame-Options")+" "+r.Header.Get("Cache-Control")+" "+r.Header.Get("Content-Type"))
	r = s.get("/app.js", "If-None-Match", r.Header.Get("Etag"))
	require.Equal(t, "304 public, max-age=60", fmt.Sprint(r.StatusCode, " ", r.Header.Get("Cache-Control")))
	require.Equal(t, "yes", s.get("/gone/x").Header.Get("X-Gone"))
	require.Equal(t, "no-cache", s.get("/").Header.Get("Cache-Control"))
	require.Equal(t, "br DENY", s.get("/a.css", "Accept-Encoding", "br").Header.Get("Content-Encoding")+" "+s.get("/a.css").Header.Get("X-Frame-Options"))

	require.Equal(t, "308 https://forms.example.com/", fmt.Sprint(s.do(http.MethodPost, "/submit").StatusCode, " ", s.do(http.MethodPost, "/submit").Header.Get("Location")))
	require.Equal(t, 405, s.do(http.MethodPost, "/app/x").StatusCode)

	s.prefix = "/my site"
	require.Equal(t, "/my%20site/new", s.get("/my%20site/old").Header.Get("Location"))
	require.Equal(t, "app", body(t, s.get("/my%20site/app/x")))

	// A rule that can't be read is left out.
	old, err := site.New(t.Context(), newTree(map[string]string{"_redirects": "/a /b\nnonsense\n"}), idOf([]byte("faulty")), cid.Undef, site.NewCache(1<<20))
	require.NoError(t, err)
	require.Len(t, old.Faults(), 1)
	require.ErrorContains(t, old.Faults()[0], "_redirects:2: ")
	require.Equal(t, 301, ask{t, old, ""}.get("/a").StatusCode)
	down := newTree(nil)
	down.down = true
	_, err = site.New(t.Context(), down, idOf(nil), cid.Undef, site.NewCache(1<<20))
	require.ErrorIs(t, err, taubyte.ErrUnavailable)
}

func TestDotFiles(t *testing.T) {
	s := newSite(t, map[string]string{
		"index.html": "home", ".env": "secret", ".git/config": "secret", "docs/.htpasswd": "secret", "docs/.x/a.txt": "secret", ".well-known/.secret": "secret", "docs/.well-known/a": "secret",
		".html": "secret", ".well-known/security.txt": "contact", ".well-known/acme/index.html": "acme", "a.b": "dots", "..c": "secret", "x..y": "dots", ".env.br": "secret",
		"_redirects": "/leak /.env 200\n/leak2/* /:splat 200\n",
	})
	for target, want := range map[string]string{
		"/.env": "404", "/.git/config": "404", "/.git/": "404", "/.git": "404", "/docs/.htpasswd": "404", "/docs/.x/a.txt": "404", "/.well-known/.secret": "404", "/docs/.well-known/a": "404", "/.html": "404", "/..c": "404",
		"/.env.br": "404", "/%2eenv": "404", "/docs/../.env": "404", "/leak": "404", "/leak2/.env": "404", "/leak2/_redirects": "404", "/.well-known/../.env": "404",
		"/.well-known/security.txt": "200", "/.well-known/acme/": "200", "/a.b": "200", "/x..y": "200", "/leak2/a.b": "200",
	} {
		require.Equal(t, want, fmt.Sprint(s.get(target).StatusCode), target)
	}
}

// Large files that are asked for again are in memory, by their content, within a bound; all
// others are streamed, and all are right.
func TestLargeFiles(t *testing.T) {
	files := map[string]string{"same.bin": strings.Repeat("0", 100_000), "huge.bin": strings.Repeat("h", 300_000)}
	for i := range 12 {
		files[fmt.Sprintf("%d.bin", i)] = strings.Repeat(string(rune('0'+i)), 100_000)
	}
	tr := newTree(files)
	cache := site.NewCache(1 << 20) // of which 768 KiB for them, and 192 for one
	s := ask{t, made(t, tr, idOf(nil), cid.Undef, cache), ""}
	other := ask{t, made(t, tr, idOf([]byte("other")), cid.Undef, cache), ""}
	get := func(s ask, name string) (opens int) {
		before := tr.opens
		require.Equal(t, files[name], body(t, s.get("/"+name)), name)
		return tr.opens - before
	}
	for range 2 {
		get(s, "0.bin")
	}
	require.Zero(t, get(s, "0.bin"))
	for _, again := range []struct {
		s    ask
		name string
	}{{s, "same.bin"}, {other, "0.bin"}} { // of the same content
		get(again.s, again.name)
		require.Zero(t, get(again.s, again.name), again.name)
	}
	r := s.get("/0.bin", "Range", "bytes=99998-")
	require.Equal(t, "206 00", fmt.Sprint(r.StatusCode, " ", body(t, r)))
	for range 3 {
		get(s, "huge.bin")
		require.Equal(t, 1, get(s, "huge.bin"), "streamed")
	}
	for range 3 {
		for i := range 12 {
			get(s, fmt.Sprintf("%d.bin", i))
		}
	}
	require.Equal(t, 1, get(s, "0.bin"), "what was used longest ago was given up")
	require.Zero(t, get(s, "0.bin"))

	// A user who does not read on keeps the file in memory, and nobody else from being served.
	var slow []*slowWriter
	for i := range 7 {
		w := &slowWriter{ResponseRecorder: httptest.NewRecorder(), entered: make(chan struct{}), goOn: make(chan struct{}), done: make(chan struct{})}
		name := fmt.Sprintf("/%d.bin", i)
		go func() {
			defer close(w.done)
			s.ServeHTTP(w, httptest.NewRequest("GET", name, nil), "", name)
		}()
		<-w.entered
		slow = append(slow, w)
	}
	for range 3 {
		require.Equal(t, 1, get(s, "8.bin"), "there is no room for another")
	}
	for _, w := range slow {
		close(w.goOn)
		<-w.done
		require.Equal(t, 100_000, w.Body.Len())
	}
	get(s, "8.bin")
	require.Zero(t, get(s, "8.bin"))

	tr.down = true
	require.Equal(t, 503, s.get("/11.bin").StatusCode)
	tr.down = false
	require.Equal(t, files["11.bin"], body(t, s.get("/11.bin")))
}

// slowWriter holds the first bytes of an answer back.
type slowWriter struct {
	*httptest.ResponseRecorder
	once                sync.Once
	entered, goOn, done chan struct{}
}

func (w *slowWriter) Write(p []byte) (int, error) {
	w.once.Do(func() {
		close(w.entered)
		<-w.goOn
	})
	return w.ResponseRecorder.Write(p)
}

func FuzzPath(f *testing.F) {
	f.Add("/a/../b", "br;q=0.1,*")
	f.Add("/%00", ";;q=,")
	tr := newTree(map[string]string{"index.html": "home", "a.js": "a", "a.js.br": "b"})
	s := made(f, tr, idOf(nil), cid.Undef, site.NewCache(1<<16))
	f.Fuzz(func(t *testing.T, path, accept string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL.Path = path
		r.Header.Set("Accept-Encoding", accept)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r, "", path)
		if w.Code != 200 && w.Code != 404 && w.Code != 307 {
			t.Fatal(w.Code)
		}
		if to := w.Header().Get("Location"); strings.HasPrefix(to, "//") {
			t.Fatal(errors.New(to))
		}
	})
}

// trees are several trees in memory.
type trees map[cid.Cid]*tree

func (t trees) Open(ctx context.Context, root cid.Cid, name string) (site.File, error) {
	return t[root].Open(ctx, root, name)
}

// What was compressed when the site was built is served as siblings are, and is not there
// by a path.
func TestEncodingsBesideTheSite(t *testing.T) {
	root, encodings := idOf([]byte("site")), idOf([]byte("encodings"))
	of := trees{
		root:      newTree(map[string]string{"index.html": "0123456789", "app.js": "plain", "app.js.gz": "the author's", "photo.jpg": "jpg"}),
		encodings: newTree(map[string]string{"index.html.br": "compressed", "index.html.gz": "gz", "app.js.gz": "never", "app.js.zst": "zst", "photo.jpg.br": "never"}),
	}
	cache := site.NewCache(1 << 20)
	without := ask{t, made(t, of, root, cid.Undef, cache), ""}
	require.Empty(t, without.get("/index.html", "Accept-Encoding", "br").Header.Get("Content-Encoding"))

	s := ask{t, made(t, of, root, encodings, cache), ""}
	plain := s.get("/index.html")
	require.Equal(t, "0123456789", body(t, plain))
	r := s.get("/index.html", "Accept-Encoding", "gzip, br")
	require.Equal(t, "compressed br text/html; charset=utf-8 Accept-Encoding no-cache 10",
		strings.Join([]string{body(t, r), r.Header.Get("Content-Encoding"), r.Header.Get("Content-Type"), r.Header.Get("Vary"), r.Header.Get("Cache-Control"), r.Header.Get("Content-Length")}, " "))
	etag := r.Header.Get("Etag")
	require.NotEqual(t, plain.Header.Get("Etag"), etag)
	require.Equal(t, "Accept-Encoding", plain.Header.Get("Vary"))

	require.Equal(t, http.StatusNotModified, s.get("/index.html", "Accept-Encoding", "br", "If-None-Match", etag).StatusCode)
	require.Equal(t, http.StatusOK, s.get("/index.html", "If-None-Match", etag).StatusCode)
	r = s.do(http.MethodHead, "/index.html", "Accept-Encoding", "br")
	require.Equal(t, "br 10 "+etag, r.Header.Get("Content-Encoding")+" "+r.Header.Get("Content-Length")+" "+r.Header.Get("Etag"))
	r = s.get("/index.html", "Accept-Encoding", "br", "Range", "bytes=0-3", "If-Range", etag)
	require.Equal(t, "206 comp br bytes 0-3/10", fmt.Sprint(r.StatusCode, " ", body(t, r), " ", r.Header.Get("Content-Encoding"), " ", r.Header.Get("Content-Range")))

	require.Equal(t, "the author's", body(t, s.get("/app.js", "Accept-Encoding", "gzip")))
	require.Equal(t, "zst", body(t, s.get("/app.js", "Accept-Encoding", "zstd")))
	require.Equal(t, "jpg", body(t, s.get("/photo.jpg", "Accept-Encoding", "br")))
	for _, path := range []string{"/index.html.br", "/index.html.gz", "/app.js.zst"} {
		require.Equal(t, http.StatusNotFound, s.get(path).StatusCode, path)
	}
}
