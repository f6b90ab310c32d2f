package site

import (
	"context"
	"errors"
	"io"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/taubyte/taubyte"
)

// A File is an open file of a tree.
type File interface {
	io.ReadSeekCloser
	Size() int64
	CID() cid.Cid
	IsDir() bool
}

// A Tree opens files by their path from the root, without a slash before it; ""
// is the root. What is not there gives taubyte.ErrNotFound.
type Tree interface {
	Open(ctx context.Context, root cid.Cid, name string) (File, error)
}

// A Site is a website: one root of a tree. It is safe for concurrent use.
type Site struct {
	tree  Tree
	root  cid.Cid
	cache *Cache
}

// New returns the site with that root.
func New(tree Tree, root cid.Cid, cache *Cache) *Site {
	return &Site{tree: tree, root: root, cache: cache}
}

// openTimeout bounds finding a file, whose blocks may be on another node.
const openTimeout = 30 * time.Second

// ServeHTTP answers a request. prefix is the part of its path under which the
// site is, without a slash at the end.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request, prefix string) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	default:
		w.Header().Set("Allow", "GET, HEAD")
		plain(w, http.StatusMethodNotAllowed, "This is a file.")
		return
	}
	rest := strings.TrimPrefix(r.URL.Path, prefix)
	folder := strings.HasSuffix(rest, "/")
	name := strings.TrimPrefix(path.Clean("/"+rest), "/")

	if err := s.serve(w, r, name, folder); err != nil {
		switch {
		case errors.Is(err, context.Canceled):
		default:
			w.Header().Set("Retry-After", "1")
			plain(w, http.StatusServiceUnavailable, "This file can't be had at the moment.")
		}
	}
}

func (s *Site) serve(w http.ResponseWriter, r *http.Request, name string, folder bool) error {
	e, err := s.find(r.Context(), name)
	if err != nil {
		return err
	}
	switch {
	case e.dir:
		index := join(name, "index.html")
		if e, err = s.find(r.Context(), index); err != nil {
			return err
		}
		if e.missing {
			break
		}
		if !folder {
			to := r.URL.EscapedPath() + "/"
			if strings.HasPrefix(to, "//") {
				to = "/" + strings.TrimLeft(to, "/") // not another host
			}
			if r.URL.RawQuery != "" {
				to += "?" + r.URL.RawQuery
			}
			w.Header().Set("Location", to)
			plain(w, http.StatusTemporaryRedirect, "The page is at "+to)
			return nil
		}
		return s.send(w, r, e)
	case !e.missing && !folder:
		return s.send(w, r, e)
	case e.missing && !folder && path.Ext(name) == "":
		page := name + ".html"
		if e, err = s.find(r.Context(), page); err != nil {
			return err
		}
		if e.here() {
			return s.send(w, r, e)
		}
	}
	return s.notFound(w, r, name)
}

// notFound answers what is not there.
func (s *Site) notFound(w http.ResponseWriter, r *http.Request, name string) error {
	e, err := s.find(r.Context(), "404.html")
	if err != nil {
		return err
	}
	if e.here() {
		return s.sendError(w, r, e)
	}
	if navigation(r) && path.Ext(name) == "" {
		if e, err = s.find(r.Context(), "index.html"); err != nil {
			return err
		}
		if e.here() {
			w.Header().Add("Vary", "Accept, Sec-Fetch-Mode")
			return s.send(w, r, e)
		}
	}
	plain(w, http.StatusNotFound, "There is no such page.")
	return nil
}

// navigation says whether a browser is on its way to a page, rather than loading
// a part of one.
func navigation(r *http.Request) bool {
	if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" {
		return mode == "navigate"
	}
	return strings.Contains(r.Header.Get("Accept"), "text/html")
}

// send answers with a file, or with one of its encodings.
func (s *Site) send(w http.ResponseWriter, r *http.Request, e *entry) error {
	h := w.Header()
	body := e
	if e.compressible && !e.alone.Load() {
		encoded, encoding, any, err := s.encoded(r, e.name)
		switch {
		case err != nil:
			return err
		case any:
			h.Add("Vary", "Accept-Encoding")
		default:
			e.alone.Store(true)
		}
		if encoded != nil {
			h.Set("Content-Encoding", encoding)
			body = encoded
		}
	}
	if e.kind != nil {
		h["Content-Type"] = e.kind
	}
	h["Etag"] = body.etag
	h["Cache-Control"] = e.caching
	h["Content-Length"] = body.length // ServeContent changes it where it sends less, and gives none with an encoding
	if body.data != nil && e.kind != nil && simple(r) {
		if r.Method != http.MethodHead {
			_, _ = w.Write(body.data)
		}
		return nil
	}
	content, err := s.content(r.Context(), body)
	if err != nil {
		for _, k := range []string{"Content-Type", "Content-Encoding", "Content-Length", "Etag", "Cache-Control"} {
			h.Del(k)
		}
		return err
	}
	defer content.Close()
	http.ServeContent(w, r, "", time.Time{}, content)
	return nil
}

// simple says that a request asks for all of a file, under no condition.
func simple(r *http.Request) bool {
	for _, k := range [...]string{"Range", "If-None-Match", "If-Match", "If-Modified-Since", "If-Unmodified-Since"} {
		if _, ok := r.Header[k]; ok {
			return false
		}
	}
	return true
}

var (
	forever  = []string{"public, max-age=31536000, immutable"}
	askAgain = []string{"no-cache"}
)

// encoded returns the best of a file's encodings that the user accepts, or nil,
// and whether there is any at all.
func (s *Site) encoded(r *http.Request, name string) (best *entry, encoding string, any bool, err error) {
	accept := r.Header.Get("Accept-Encoding")
	top := 0.0
	for _, c := range encodings {
		e, err := s.find(r.Context(), name+c.suffix)
		if err != nil {
			return nil, "", false, err
		}
		if !e.here() {
			continue
		}
		any = true
		if q := quality(accept, c.name); q > top {
			best, encoding, top = e, c.name, q
		}
	}
	return best, encoding, any, nil
}

// encodings, the best first.
var encodings = []struct{ name, suffix string }{{"br", ".br"}, {"zstd", ".zst"}, {"gzip", ".gz"}}

// sendError answers with the site's page for what is not there.
func (s *Site) sendError(w http.ResponseWriter, r *http.Request, e *entry) error {
	content, err := s.content(r.Context(), e)
	if err != nil {
		return err
	}
	defer content.Close()
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h["Cache-Control"] = askAgain
	h["Content-Length"] = e.length
	w.WriteHeader(http.StatusNotFound)
	if r.Method != http.MethodHead {
		_, _ = io.Copy(w, content)
	}
	return nil
}

func plain(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h["Cache-Control"] = askAgain
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n")
}

func join(folder, name string) string {
	if folder == "" {
		return name
	}
	return folder + "/" + name
}

// find looks a name up, in the cache first.
func (s *Site) find(ctx context.Context, name string) (*entry, error) {
	key := cacheKey{s.root, name}
	if e := s.cache.get(key); e != nil {
		return e, nil
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	f, err := s.tree.Open(ctx, s.root, name)
	if errors.Is(err, taubyte.ErrNotFound) {
		e := &entry{missing: true}
		s.cache.put(key, e)
		return e, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	e := &entry{name: name, dir: f.IsDir()}
	if !e.dir {
		e.describe(f.CID(), f.Size())
		if f.Size() <= maxCached {
			e.data = make([]byte, f.Size())
			if _, err := io.ReadFull(f, e.data); err != nil {
				return nil, err
			}
		}
	}
	s.cache.put(key, e)
	return e, nil
}

// content opens the bytes of a file.
func (s *Site) content(ctx context.Context, e *entry) (io.ReadSeekCloser, error) {
	if e.data != nil {
		return newMemoryFile(e.data), nil
	}
	return s.tree.Open(ctx, s.root, e.name)
}
