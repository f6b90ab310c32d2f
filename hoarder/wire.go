package hoarder

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
)

// users are the roles that may use databases and storages.
var users = []taubyte.Role{taubyte.RoleSubstrate, taubyte.RoleHoarder}

// written is the answer to a write.
type written struct {
	File  File     `json:"file,omitzero"`
	After position `json:"after"`
}

// wakeRequest asks a replica to be open.
type wakeRequest struct {
	After   position `json:"after,omitempty"`
	Content bool     `json:"content,omitempty"`
}

// remote is a site on another node.
type remote struct {
	c *Client
	p peer.ID
}

func (s remote) path(r ref, what string, after position, q url.Values) string {
	if q == nil {
		q = url.Values{}
	}
	if len(after) > 0 {
		text, _ := json.Marshal(after) // of names and numbers
		q.Set("after", string(text))
	}
	return "/stores/" + r.ID + "/" + strconv.FormatUint(r.Gen, 10) + "/" + what + "?" + q.Encode()
}

// open sends a request. Of a node that can't be reached, or breaks off, the error is
// ErrUnavailable.
func (s remote) open(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	resp, err := s.c.rpc.Open(ctx, s.p, method, path, body)
	return resp, unanswered(ctx, err)
}

func unanswered(ctx context.Context, err error) error {
	var answered *rpc.Error
	if err == nil || errors.As(err, &answered) || ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("%w: %w", taubyte.ErrUnavailable, err)
}

// maxAnswer bounds an answer that is read whole.
const maxAnswer = 256 << 20

func (s remote) call(ctx context.Context, method, path string, body io.Reader, out any) error {
	resp, err := s.open(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return unanswered(ctx, err)
	}
	if len(raw) > maxAnswer {
		return fmt.Errorf("%w: the answer of %s", taubyte.ErrTooLarge, s.p)
	}
	if value, ok := out.(*[]byte); ok {
		*value = raw
		return nil
	}
	if out == nil || len(raw) == 0 {
		return nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("the answer of %s: %w", s.p, err)
	}
	return nil
}

func (s remote) get(ctx context.Context, r ref, after position, key string) (value []byte, err error) {
	err = s.call(ctx, http.MethodGet, s.path(r, "value", after, url.Values{"key": {key}}), nil, &value)
	return value, err
}

func (s remote) write(ctx context.Context, r ref, after position, key string, value []byte) (position, error) {
	if len(value) > MaxValue {
		return nil, errTooLong(value)
	}
	var w written
	path := s.path(r, "value", after, url.Values{"key": {key}})
	if value == nil {
		err := s.call(ctx, http.MethodDelete, path, nil, &w)
		return w.After, err
	}
	err := s.call(ctx, http.MethodPut, path, bytes.NewReader(value), &w)
	return w.After, err
}

func (s remote) list(ctx context.Context, r ref, after position, prefix string) (keys []string, err error) {
	err = s.call(ctx, http.MethodGet, s.path(r, "keys", after, url.Values{"prefix": {prefix}}), nil, &keys)
	return keys, err
}

func (s remote) usedBytes(ctx context.Context, r ref, after position) (n int64, err error) {
	err = s.call(ctx, http.MethodGet, s.path(r, "used", after, nil), nil, &n)
	return n, err
}

func (s remote) stat(ctx context.Context, r ref, after position, name string, n uint32) (f File, err error) {
	q := url.Values{"name": {name}, "version": {strconv.FormatUint(uint64(n), 10)}}
	err = s.call(ctx, http.MethodGet, s.path(r, "file", after, q), nil, &f)
	return f, err
}

func (s remote) content(ctx context.Context, r ref, after position, f File, from int64) (io.ReadCloser, error) {
	q := url.Values{"name": {f.Name}, "cid": {f.CID.String()}, "from": {strconv.FormatInt(from, 10)}}
	resp, err := s.open(ctx, http.MethodGet, s.path(r, "content", after, q), nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

func (s remote) files(ctx context.Context, r ref, after position, name string) (fs []File, err error) {
	err = s.call(ctx, http.MethodGet, s.path(r, "files", after, url.Values{"name": {name}}), nil, &fs)
	return fs, err
}

func (s remote) add(ctx context.Context, r ref, after position, a addition, content io.Reader) (File, position, error) {
	q := url.Values{"name": {a.name}, "nonce": {a.nonce}, "overwrite": {strconv.FormatBool(a.overwrite)}}
	// What can be refused at once is, before a byte is sent; and a stream that the
	// other side has closed meanwhile is found out here.
	if err := s.call(ctx, http.MethodPost, s.path(r, "upload", after, q), nil, nil); err != nil {
		return File{}, nil, err
	}
	var w written
	in := &failing{r: content}
	// A reader of another type than net/http knows is read once and never again.
	err := s.call(ctx, http.MethodPut, s.path(r, "file", after, q), in, &w)
	if in.err != nil {
		return File{}, nil, in.err // the content's own
	}
	return w.File, w.After, err
}

// failing remembers the error that a reader ended with.
type failing struct {
	r   io.Reader
	err error
}

func (f *failing) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		f.err = fmt.Errorf("the content broke off: %w", err)
		err = f.err
	}
	return n, err
}

func (s remote) removeFile(ctx context.Context, r ref, after position, name string, n uint32, all bool) (position, error) {
	q := url.Values{"name": {name}, "version": {strconv.FormatUint(uint64(n), 10)}, "all": {strconv.FormatBool(all)}}
	var w written
	err := s.call(ctx, http.MethodDelete, s.path(r, "file", after, q), nil, &w)
	return w.After, err
}

func (c *Client) locate(ctx context.Context, o openRequest) (p place, err error) {
	err = c.rpc.Call(ctx, http.MethodPost, "/stores/open", o, &p)
	return p, err
}

// Calls of one hoarder to another.

func (c *Client) wake(ctx context.Context, p peer.ID, r ref, after position, content bool) (pos position, err error) {
	err = c.rpc.CallPeer(ctx, p, http.MethodPost, remote{c, p}.path(r, "wake", nil, nil), wakeRequest{after, content}, &pos)
	return pos, err
}

func (c *Client) begin(ctx context.Context, p peer.ID, r ref, t told) error {
	return c.rpc.CallPeer(ctx, p, http.MethodPost, remote{c, p}.path(r, "begin", nil, nil), t, nil)
}

func (c *Client) knows(ctx context.Context, p peer.ID, r ref, host peer.ID) error {
	return c.rpc.CallPeer(ctx, p, http.MethodGet, remote{c, p}.path(r, "hosts/"+host.String(), nil, nil), nil, nil)
}

func (c *Client) destroy(ctx context.Context, p peer.ID, r ref) error {
	return c.rpc.CallPeer(ctx, p, http.MethodDelete, strings.TrimSuffix(remote{c, p}.path(r, "", nil, nil), "/?"), nil, nil)
}

// storeRoutes are the part of the API for databases and storages. Values and contents
// are bodies as they are.
//
//	GET    /stores                            [Store]
//	POST   /stores/open                       {"kind", "instance", "spec"} → where it is
//	POST   /stores/drop                       an instance
//	GET    /stores/{id}/{gen}/value?key=      the value
//	PUT    /stores/{id}/{gen}/value?key=
//	DELETE /stores/{id}/{gen}/value?key=
//	GET    /stores/{id}/{gen}/keys?prefix=    ["…"]
//	GET    /stores/{id}/{gen}/used            bytes
//	GET    /stores/{id}/{gen}/file?name=&version=
//	POST   /stores/{id}/{gen}/upload?name=&overwrite=&nonce=   would it be taken?
//	PUT    /stores/{id}/{gen}/file?name=&overwrite=&nonce=     the content
//	DELETE /stores/{id}/{gen}/file?name=&version=&all=
//	GET    /stores/{id}/{gen}/content?name=&cid=&from=   the bytes from a place on
//	GET    /stores/{id}/{gen}/files?name=     [File]
//
// Each takes after={"<peer>":<n>}: writes that the answer must know of. Between
// hoarders:
//
//	POST   /stores/{id}/{gen}/wake    {"after", "content"} → {"<peer>": n}
//	POST   /stores/{id}/{gen}/begin   be the first replica
//	GET    /stores/{id}/{gen}/hosts/{peer}   when it is known that the peer has a replica
//	DELETE /stores/{id}/{gen}         it was dropped
func (s *Service) storeRoutes(mux *http.ServeMux) {
	of := func(pattern string, roles []taubyte.Role, do func(http.ResponseWriter, *http.Request, ref, position) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			store, after, err := storeOf(r)
			if e := s.allowed(r, roles); e != nil {
				err = e
			}
			var out any
			if err == nil {
				out, err = do(w, r, store, after)
			}
			if raw, ok := out.([]byte); ok && err == nil {
				w.Header().Set("Content-Type", "application/octet-stream")
				w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
				_, _ = w.Write(raw)
				return
			}
			rpc.Reply(w, out, err, codes)
		})
	}
	hoarders := []taubyte.Role{taubyte.RoleHoarder}
	mux.HandleFunc("GET /stores", func(w http.ResponseWriter, r *http.Request) {
		var all []Store
		err := s.allowed(r, users)
		if err == nil {
			all, err = s.Stores(r.Context())
		}
		rpc.Reply(w, all, err, codes)
	})
	mux.HandleFunc("POST /stores/open", func(w http.ResponseWriter, r *http.Request) {
		var o openRequest
		var p place
		err := s.allowed(r, users)
		if err == nil {
			err = rpc.Decode(w, r, 64<<10, &o)
		}
		if err == nil {
			p, err = s.locate(r.Context(), o)
		}
		rpc.Reply(w, p, err, codes)
	})
	mux.HandleFunc("POST /stores/drop", func(w http.ResponseWriter, r *http.Request) {
		var i Instance
		err := s.allowed(r, users)
		if err == nil {
			err = rpc.Decode(w, r, 64<<10, &i)
		}
		if err == nil {
			err = s.Drop(r.Context(), i)
		}
		rpc.Reply(w, nil, err, codes)
	})
	of("GET /stores/{id}/{gen}/value", users, func(_ http.ResponseWriter, r *http.Request, store ref, after position) (any, error) {
		value, err := s.get(r.Context(), store, after, r.URL.Query().Get("key"))
		if value == nil {
			value = []byte{}
		}
		return value, err
	})
	of("PUT /stores/{id}/{gen}/value", users, func(_ http.ResponseWriter, r *http.Request, store ref, after position) (any, error) {
		key := r.URL.Query().Get("key")
		value, err := io.ReadAll(io.LimitReader(r.Body, MaxValue+1)) // which write refuses
		if err != nil {
			return nil, fmt.Errorf("reading the value: %w", err)
		}
		pos, err := s.write(r.Context(), store, after, key, value)
		return written{After: pos}, err
	})
	of("DELETE /stores/{id}/{gen}/value", users, func(_ http.ResponseWriter, r *http.Request, store ref, after position) (any, error) {
		pos, err := s.write(r.Context(), store, after, r.URL.Query().Get("key"), nil)
		return written{After: pos}, err
	})
	of("GET /stores/{id}/{gen}/keys", users, func(_ http.ResponseWriter, r *http.Request, store ref, after position) (any, error) {
		return s.list(r.Context(), store, after, r.URL.Query().Get("prefix"))
	})
	of("GET /stores/{id}/{gen}/used", users, func(_ http.ResponseWriter, r *http.Request, store ref, after position) (any, error) {
		return s.usedBytes(r.Context(), store, after)
	})
	of("GET /stores/{id}/{gen}/file", users, func(_ http.ResponseWriter, r *http.Request, store ref, after position) (any, error) {
		n, err := versionOf(r)
		if err != nil {
			return nil, err
		}
		return s.stat(r.Context(), store, after, r.URL.Query().Get("name"), n)
	})
	mux.HandleFunc("GET /stores/{id}/{gen}/content", func(w http.ResponseWriter, r *http.Request) {
		if err := s.serveContent(w, r); err != nil {
			rpc.WriteError(w, err, codes)
		}
	})
	of("GET /stores/{id}/{gen}/files", users, func(_ http.ResponseWriter, r *http.Request, store ref, after position) (any, error) {
		return s.files(r.Context(), store, after, r.URL.Query().Get("name"))
	})
	of("POST /stores/{id}/{gen}/upload", users, func(_ http.ResponseWriter, r *http.Request, store ref, after position) (any, error) {
		return nil, s.wouldAdd(r.Context(), store, after, additionOf(r))
	})
	of("PUT /stores/{id}/{gen}/file", users, func(_ http.ResponseWriter, r *http.Request, store ref, after position) (any, error) {
		f, pos, err := s.add(r.Context(), store, after, additionOf(r), r.Body)
		return written{File: f, After: pos}, err
	})
	of("DELETE /stores/{id}/{gen}/file", users, func(_ http.ResponseWriter, r *http.Request, store ref, after position) (any, error) {
		n, err := versionOf(r)
		if err != nil {
			return nil, err
		}
		q := r.URL.Query()
		pos, err := s.removeFile(r.Context(), store, after, q.Get("name"), n, q.Get("all") == "true")
		return written{After: pos}, err
	})
	of("POST /stores/{id}/{gen}/wake", hoarders, func(w http.ResponseWriter, r *http.Request, store ref, _ position) (any, error) {
		var in wakeRequest
		if err := rpc.Decode(w, r, 1<<20, &in); err != nil {
			return nil, err
		}
		return s.wake(r.Context(), store, in.After, in.Content)
	})
	of("POST /stores/{id}/{gen}/begin", hoarders, func(w http.ResponseWriter, r *http.Request, store ref, _ position) (any, error) {
		var t told
		if err := rpc.Decode(w, r, 64<<10, &t); err != nil {
			return nil, err
		}
		if err := (openRequest{t.Kind, t.Instance, t.Spec}).check(); err != nil || t.Instance.id(t.Kind) != store.ID {
			return nil, fmt.Errorf("%w store: %w", taubyte.ErrInvalid, err)
		}
		return nil, s.begin(r.Context(), store, t)
	})
	of("GET /stores/{id}/{gen}/hosts/{peer}", hoarders, func(_ http.ResponseWriter, r *http.Request, store ref, _ position) (any, error) {
		host, err := peer.Decode(r.PathValue("peer"))
		if err != nil {
			return nil, fmt.Errorf("%w peer: %w", taubyte.ErrInvalid, err)
		}
		ctx, cancel := context.WithTimeout(r.Context(), wakeTimeout)
		defer cancel()
		return nil, s.knows(ctx, store, host)
	})
	of("DELETE /stores/{id}/{gen}", hoarders, func(_ http.ResponseWriter, r *http.Request, store ref, _ position) (any, error) {
		return nil, s.destroyDropped(r.Context(), store)
	})
}

// serveContent returns an error only as long as nothing was sent.
func (s *Service) serveContent(w http.ResponseWriter, r *http.Request) error {
	if err := s.allowed(r, users); err != nil {
		return err
	}
	store, after, err := storeOf(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	root, err := parseRoot(q.Get("cid"))
	if err != nil {
		return err
	}
	from, err := strconv.ParseInt(q.Get("from"), 10, 64)
	if err != nil || from < 0 {
		return fmt.Errorf("%w place %.100q", taubyte.ErrInvalid, q.Get("from"))
	}
	if err := checkKey("name", q.Get("name")); err != nil {
		return err
	}
	content, err := s.content(r.Context(), store, after, File{Name: q.Get("name"), CID: root}, from)
	if err != nil {
		return err
	}
	defer content.Close()
	if sized, ok := content.(interface{ Size() int64 }); ok {
		// So that one that breaks off does not pass for whole.
		w.Header().Set("Content-Length", strconv.FormatInt(max(sized.Size()-from, 0), 10))
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{content}, make([]byte, 256<<10))
	return nil
}

func (s *Service) allowed(r *http.Request, roles []taubyte.Role) error {
	if m, ok := rpc.Caller(r.Context()); !ok || m.Peer != s.host.ID() && !m.Has(roles...) {
		return fmt.Errorf("%w: this takes one of the roles %v", taubyte.ErrForbidden, roles)
	}
	return nil
}

func storeOf(r *http.Request) (ref, position, error) {
	gen, err := strconv.ParseUint(r.PathValue("gen"), 10, 62)
	id := r.PathValue("id")
	if err != nil || len(id) != idLen || strings.Trim(id, "0123456789abcdef") != "" {
		return ref{}, nil, fmt.Errorf("%w store %.100q", taubyte.ErrInvalid, r.URL.Path)
	}
	var after position
	if text := r.URL.Query().Get("after"); text != "" {
		if err := json.Unmarshal([]byte(text), &after); err != nil {
			return ref{}, nil, fmt.Errorf("%w position: %w", taubyte.ErrInvalid, err)
		}
	}
	return ref{id, gen}, after, nil
}

func versionOf(r *http.Request) (uint32, error) {
	text := r.URL.Query().Get("version")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%w version %.100q", taubyte.ErrInvalid, text)
	}
	return uint32(n), nil
}

func additionOf(r *http.Request) addition {
	q := r.URL.Query()
	return addition{name: q.Get("name"), overwrite: q.Get("overwrite") == "true", nonce: q.Get("nonce")}
}
