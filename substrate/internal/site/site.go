package site

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/mediatype"
	"github.com/taubyte/taubyte/internal/siterules"
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
	tree      Tree
	root      cid.Cid
	encodings cid.Cid
	cache     *Cache
	rules     *siterules.Rules
	faults    []error
}

// New returns the site with that root. What encodings leads to, unless it is cid.Undef, is
// a tree of encodings of the site's files, by their names with the suffixes that siblings
// have. No path of the site leads there. The site's rules are read, of which [Site.Faults]
// tells what is wrong; an error is one of the tree.
func New(ctx context.Context, tree Tree, root, encodings cid.Cid, cache *Cache) (*Site, error) {
	s := &Site{tree: tree, root: root, encodings: encodings, cache: cache}
	redirects, err := s.read(ctx, siterules.RedirectsFile)
	if err != nil {
		return nil, err
	}
	headers, err := s.read(ctx, siterules.HeadersFile)
	if err != nil {
		return nil, err
	}
	s.rules, s.faults = siterules.Parse(redirects, headers)
	return s, nil
}

// Faults are the lines of the site's rules that can't be read, and are left out. A build
// refuses them, but an older one may not have.
func (s *Site) Faults() []error { return s.faults }

// read returns a file of rules, nil where there is none.
func (s *Site) read(ctx context.Context, name string) ([]byte, error) {
	f, err := s.tree.Open(ctx, s.root, name)
	if errors.Is(err, taubyte.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if f.IsDir() {
		return nil, nil
	}
	return io.ReadAll(io.LimitReader(f, siterules.MaxSize+1))
}

// openTimeout bounds finding a file, whose blocks may be on another node.
const openTimeout = 30 * time.Second

// A request is one for what is at a path of the site.
type request struct {
	*http.Request
	prefix string // of the site
	at     string // the path in the site, decoded and clean; empty where prefix is all
}

// path is the path in the site as rules see it.
func (r *request) path() string { return cmp.Or(r.at, "/") }

// ServeHTTP answers a request for what is at a path of the site: rest is the part of the
// request's path behind prefix, the site's own, both decoded but for slashes that are data,
// which are %2F.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request, prefix, rest string) {
	at := path.Clean("/" + rest)
	switch slash := strings.HasSuffix(rest, "/"); {
	case at == "/" && !slash:
		at = ""
	case at != "/" && slash:
		at += "/"
	}
	if err := s.serve(w, &request{r, prefix, at}); err != nil {
		switch {
		case errors.Is(err, context.Canceled):
		default:
			w.Header().Set("Retry-After", "1")
			plain(w, http.StatusServiceUnavailable, "This file can't be had at the moment.")
		}
	}
}

func (s *Site) serve(w http.ResponseWriter, r *request) error {
	rule, ruled := s.rules.Redirect(r.Host, r.path(), r.URL.RawQuery)
	if ruled && rule.Shadows {
		return s.follow(w, r, rule)
	}
	found, folder, err := s.resolve(r.Context(), r.at)
	if err != nil {
		return err
	}
	if ruled && found == nil {
		return s.follow(w, r, rule)
	}
	if !readable(w, r) {
		return nil
	}
	switch {
	case found == nil:
		return s.notFound(w, r)
	case folder:
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
	return s.send(w, r, found)
}

// readable answers a request that does not only read, and reports whether it does.
func readable(w http.ResponseWriter, r *request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return true
	}
	w.Header().Set("Allow", "GET, HEAD")
	plain(w, http.StatusMethodNotAllowed, "This is a file.")
	return false
}

// resolve finds the file that is at a path of the site, nil where there is none. It is
// folder where it is a folder's page and the path lacks the slash at its end.
func (s *Site) resolve(ctx context.Context, at string) (found *entry, folder bool, err error) {
	slash := strings.HasSuffix(at, "/")
	name := strings.Trim(at, "/")
	if hidden(name) {
		return nil, false, nil
	}
	e, err := s.find(ctx, s.root, name)
	if err != nil {
		return nil, false, err
	}
	if e.dir {
		if e, err = s.find(ctx, s.root, join(name, "index.html")); err != nil {
			return nil, false, err
		}
		if e.here() {
			return e, !slash, nil
		}
	} else if e.here() && !slash {
		return e, false, nil
	}
	if name != "" && !slash { // perhaps beside a folder without a page of its own
		if e, err = s.find(ctx, s.root, name+".html"); err != nil {
			return nil, false, err
		}
		if e.here() {
			return e, false, nil
		}
	}
	return nil, false, nil
}

// follow does what a rule of the site asks for.
func (s *Site) follow(w http.ResponseWriter, r *request, rule siterules.Redirect) error {
	if rule.Status != http.StatusOK && rule.Status != http.StatusNotFound {
		to := rule.To
		if strings.HasPrefix(to, "/") {
			to = siterules.EscapePath(r.prefix) + to
		}
		w.Header().Set("Location", to)
		plain(w, rule.Status, "The page is at "+to)
		return nil
	}
	if !readable(w, r) {
		return nil
	}
	to := path.Clean("/" + rule.To)
	found, _, err := s.resolve(r.Context(), to) // of a folder, its page
	switch {
	case err != nil:
		return err
	case found == nil:
		return s.notFound(w, r)
	case rule.Status == http.StatusNotFound:
		return s.sendError(w, r, found)
	}
	return s.send(w, r, found)
}

// notFound answers what is not there.
func (s *Site) notFound(w http.ResponseWriter, r *request) error {
	e, err := s.find(r.Context(), s.root, "404.html")
	if err != nil {
		return err
	}
	if e.here() {
		return s.sendError(w, r, e)
	}
	// A browser that does not say where it goes asks for a script as it does for a page.
	if yes, said := navigation(r.Request); yes && (said || mediatype.Of(strings.Trim(r.at, "/")) == "") {
		if e, err = s.find(r.Context(), s.root, "index.html"); err != nil {
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

// send answers with a file, or with one of its encodings.
func (s *Site) send(w http.ResponseWriter, r *request, e *entry) error {
	h := w.Header()
	body, encoding := e, ""
	if e.compressible && !e.alone.Load() {
		var any bool
		var err error
		if body, encoding, any, err = s.encoded(r.Request, e); err != nil {
			return err
		}
		if any {
			h.Add("Vary", "Accept-Encoding")
		} else {
			e.alone.Store(true)
		}
	}
	if conditional(r.Request) {
		switch precondition(r.Request, body.etag[0]) {
		case http.StatusNotModified:
			h["Etag"], h["Cache-Control"] = body.etag, e.caching
			s.rules.Apply(h, r.Host, r.path())
			w.WriteHeader(http.StatusNotModified)
			return nil
		case http.StatusPreconditionFailed:
			plain(w, http.StatusPreconditionFailed, "This is another version of the file.")
			return nil
		}
	}
	parts := ""
	if r.Method == http.MethodGet && r.Header["Range"] != nil {
		var ok bool
		if parts, ok = ranges(r.Request, body.etag[0], body.size); !ok {
			h.Set("Content-Range", "bytes */"+body.length[0])
			plain(w, http.StatusRequestedRangeNotSatisfiable, "The file has "+body.length[0]+" bytes.")
			return nil
		}
	}
	var content io.ReadSeekCloser // but of what is here and sent as a whole
	if r.Method == http.MethodGet && (body.data == nil || parts != "") {
		var err error
		if content, err = s.content(r.Context(), body); err != nil {
			return err // and nothing was said yet
		}
		defer content.Close()
	}
	h["Content-Type"], h["Etag"], h["Cache-Control"], h["Accept-Ranges"] = e.kind, body.etag, e.caching, acceptRanges
	if encoding != "" {
		h.Set("Content-Encoding", encoding)
	}
	s.rules.Apply(h, r.Host, r.path())
	if parts != "" {
		http.ServeContent(w, ranged(parts), "", time.Time{}, content)
		return nil
	}
	h["Content-Length"] = body.length
	switch {
	case r.Method == http.MethodHead:
	case content != nil:
		copyTo(w, content, body.size)
	default:
		_, _ = w.Write(body.data)
	}
	return nil
}

var (
	forever      = []string{"public, max-age=31536000, immutable"}
	askAgain     = []string{"no-cache"}
	acceptRanges = []string{"bytes"}
)

// encoded returns the best of what there is of a file: one of its encodings that
// the user accepts, with its name, or the file as it is; and whether it has any.
func (s *Site) encoded(r *http.Request, e *entry) (best *entry, name string, any bool, err error) {
	of, identity := weights(r.Header["Accept-Encoding"])
	best, top := e, 0.0
	for i, c := range encodings {
		sibling, err := s.find(r.Context(), s.root, e.name+c.suffix)
		if err == nil && sibling.missing && s.encodings.Defined() {
			sibling, err = s.find(r.Context(), s.encodings, e.name+c.suffix)
		}
		if err != nil {
			return nil, "", false, err
		}
		if !sibling.here() {
			continue
		}
		any = true
		if of[i] > top && of[i] >= identity {
			best, name, top = sibling, c.name, of[i]
		}
	}
	return best, name, any, nil
}

// sendError answers with the site's page for what is not there.
func (s *Site) sendError(w http.ResponseWriter, r *request, e *entry) error {
	content, err := s.content(r.Context(), e)
	if err != nil {
		return err
	}
	defer content.Close()
	h := w.Header()
	h["Content-Type"] = e.kind
	h["Cache-Control"] = askAgain
	s.rules.Apply(h, r.Host, r.path())
	h["Content-Length"] = e.length
	w.WriteHeader(http.StatusNotFound)
	if r.Method != http.MethodHead {
		copyTo(w, content, e.size)
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

// find looks a name up in a tree, in the cache first.
func (s *Site) find(ctx context.Context, root cid.Cid, name string) (*entry, error) {
	key := cacheKey{root, s.encodings, name}
	if e := s.cache.get(key); e != nil {
		return e, nil
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	f, err := s.tree.Open(ctx, root, name)
	if errors.Is(err, taubyte.ErrNotFound) {
		e := &entry{missing: true}
		s.cache.put(key, e)
		return e, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	e := &entry{root: root, name: name, dir: f.IsDir()}
	if !e.dir {
		head := make([]byte, min(f.Size(), sniffed))
		if f.Size() <= maxCached {
			head = make([]byte, f.Size())
			e.data = head
		}
		if e.data != nil || mediatype.Of(name) == "" {
			if _, err := io.ReadFull(f, head); err != nil {
				return nil, err
			}
		}
		e.describe(f.CID(), f.Size(), head)
	}
	s.cache.put(key, e)
	return e, nil
}

// content opens the bytes of a file.
func (s *Site) content(ctx context.Context, e *entry) (io.ReadSeekCloser, error) {
	if e.data != nil {
		return newMemoryFile(e.data), nil
	}
	if e.wanted.Swap(true) { // what is asked for once stays away from what many want
		f, err := s.cache.large.open(e.id, e.size, func(to []byte) error {
			f, err := s.tree.Open(ctx, e.root, e.name)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.ReadFull(f, to)
			return err
		})
		if f != nil || err != nil {
			return f, err
		}
	}
	return s.tree.Open(ctx, e.root, e.name)
}

// copyTo sends a file. Where it is cut, the length that was said shows it.
func copyTo(w io.Writer, f io.Reader, size int64) {
	if from, ok := f.(io.WriterTo); ok { // in the pieces that it has, without a copy
		_, _ = from.WriteTo(w)
		return
	}
	_, _ = io.CopyN(w, f, size)
}
