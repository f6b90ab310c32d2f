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
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
)

// users are the roles that may use databases and storages; those of substrate only the
// ones that they are granted (Grants).
var users = []taubyte.Role{taubyte.RoleSubstrate, taubyte.RoleHoarder}

// written is the answer to a write.
type written struct {
	File   File     `json:"file,omitzero"`
	After  position `json:"after"`
	Copies Copies   `json:"copies"`
}

// wakeRequest asks a replica to be open and to answer when it has something.
type wakeRequest struct {
	After   position `json:"after,omitempty"`   // writes
	Content bool     `json:"content,omitempty"` // all files
	File    string   `json:"file,omitempty"`    // one of them, by the key of its record
}

// joinRequest asks a hoarder to have a replica.
type joinRequest struct {
	told
	From []peer.ID `json:"from"` // who has one
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

func (s remote) write(ctx context.Context, r ref, after position, key string, value []byte) (w written, err error) {
	if len(value) > MaxValue {
		return w, errTooLong(value)
	}
	path := s.path(r, "value", after, url.Values{"key": {key}})
	if value == nil {
		err = s.call(ctx, http.MethodDelete, path, nil, &w)
		return w, err
	}
	err = s.call(ctx, http.MethodPut, path, bytes.NewReader(value), &w)
	return w, err
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
	// It may take its time, once it has begun.
	ctx, cancel := context.WithCancel(ctx)
	begin := time.AfterFunc(writeWait+2*time.Second, cancel)
	resp, err := s.open(ctx, http.MethodGet, s.path(r, "content", after, q), nil)
	if !begin.Stop() && err == nil {
		_ = resp.Body.Close()
		err = fmt.Errorf("%w: %s did not begin with the content", taubyte.ErrUnavailable, s.p)
	}
	if err != nil {
		cancel()
		return nil, err
	}
	return ending{resp.Body, cancel}, nil
}

// ending is a body with a context of its own.
type ending struct {
	io.ReadCloser
	end context.CancelFunc
}

func (e ending) Close() error {
	defer e.end()
	return e.ReadCloser.Close()
}

func (s remote) files(ctx context.Context, r ref, after position, name string) (fs []File, err error) {
	err = s.call(ctx, http.MethodGet, s.path(r, "files", after, url.Values{"name": {name}}), nil, &fs)
	return fs, err
}

func (s remote) add(ctx context.Context, r ref, after position, a addition, content io.Reader) (w written, err error) {
	q := url.Values{"name": {a.name}, "nonce": {a.nonce}, "overwrite": {strconv.FormatBool(a.overwrite)}}
	// What can be refused at once is, before a byte is sent; and a stream that the
	// other side has closed meanwhile is found out here.
	begin, cancel := context.WithTimeout(ctx, writeWait)
	defer cancel()
	if err := s.call(begin, http.MethodPost, s.path(r, "upload", after, q), nil, nil); err != nil {
		if begin.Err() != nil && ctx.Err() == nil {
			err = fmt.Errorf("%w: %s takes no content: %w", taubyte.ErrUnavailable, s.p, err)
		}
		return w, err
	}
	in := &failing{r: content}
	// A reader of another type than net/http knows is read once and never again.
	err = s.call(ctx, http.MethodPut, s.path(r, "file", after, q), in, &w)
	if in.err != nil {
		return written{}, in.err // the content's own
	}
	return w, err
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

func (s remote) removeFile(ctx context.Context, r ref, after position, name string, n uint32, all bool) (w written, err error) {
	q := url.Values{"name": {name}, "version": {strconv.FormatUint(uint64(n), 10)}, "all": {strconv.FormatBool(all)}}
	err = s.call(ctx, http.MethodDelete, s.path(r, "file", after, q), nil, &w)
	return w, err
}

func (c *Client) locate(ctx context.Context, o openRequest) (p place, err error) {
	err = c.rpc.Call(ctx, http.MethodPost, "/stores/open", o, &p)
	return p, err
}

// Calls of one hoarder to another, which each makes in its own name: it has checked the
// call that led to them, and can't speak for a function or a job.

func (c *Client) wake(ctx context.Context, p peer.ID, r ref, in wakeRequest) (pos position, err error) {
	err = c.rpc.CallPeer(taubyte.AsService(ctx), p, http.MethodPost, remote{c, p}.path(r, "wake", nil, nil), in, &pos)
	return pos, err
}

func (c *Client) has(ctx context.Context, p peer.ID, in hasRequest) (bool, error) {
	var out hasAnswer
	err := c.rpc.CallPeer(taubyte.AsService(ctx), p, http.MethodPost, "/has", in, &out)
	return out.Has, err
}

func (c *Client) lease(ctx context.Context, p peer.ID, in leaseRequest) (out leaseAnswer, err error) {
	err = c.rpc.CallPeer(taubyte.AsService(ctx), p, http.MethodPost, "/lease", in, &out)
	return out, err
}

func (c *Client) standing(ctx context.Context, p peer.ID, r ref) (st standing, err error) {
	err = c.rpc.CallPeer(taubyte.AsService(ctx), p, http.MethodGet, remote{c, p}.path(r, "standing", nil, nil), nil, &st)
	return st, err
}

func (c *Client) admit(ctx context.Context, p peer.ID, r ref, in admission) (out admission, err error) {
	err = c.rpc.CallPeer(taubyte.AsService(ctx), p, http.MethodPost, remote{c, p}.path(r, "admit", nil, nil), in, &out)
	return out, err
}

func (c *Client) join(ctx context.Context, p peer.ID, r ref, in joinRequest) error {
	return c.rpc.CallPeer(taubyte.AsService(ctx), p, http.MethodPost, remote{c, p}.path(r, "join", nil, nil), in, nil)
}

func (c *Client) knowsSet(ctx context.Context, p peer.ID, r ref, of peer.ID, seq uint64) error {
	q := url.Values{"seq": {strconv.FormatUint(seq, 10)}}
	return c.rpc.CallPeer(taubyte.AsService(ctx), p, http.MethodGet, remote{c, p}.path(r, "sets/"+of.String(), nil, q), nil, nil)
}

func (c *Client) begin(ctx context.Context, p peer.ID, r ref, t told) error {
	return c.rpc.CallPeer(taubyte.AsService(ctx), p, http.MethodPost, remote{c, p}.path(r, "begin", nil, nil), t, nil)
}

func (c *Client) knows(ctx context.Context, p peer.ID, r ref, host peer.ID) error {
	return c.rpc.CallPeer(taubyte.AsService(ctx), p, http.MethodGet, remote{c, p}.path(r, "hosts/"+host.String(), nil, nil), nil, nil)
}

func (c *Client) destroy(ctx context.Context, p peer.ID, r ref) error {
	return c.rpc.CallPeer(taubyte.AsService(ctx), p, http.MethodDelete, strings.TrimSuffix(remote{c, p}.path(r, "", nil, nil), "/?"), nil, nil)
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
// Each takes after={"<peer>":<n>}: writes that the answer must know of. The first and the
// third are for hoarders alone. Between hoarders:
//
//	POST   /lease                     {"boot", "of", "fence", "bye"} → {"boot", "fence"}
//	POST   /stores/{id}/{gen}/wake    {"after", "content", "file"} → {"<peer>": n}
//	POST   /stores/{id}/{gen}/begin   be the first replica
//	POST   /stores/{id}/{gen}/join    be a further replica
//	GET    /stores/{id}/{gen}/standing   what the replica says of itself
//	POST   /stores/{id}/{gen}/admit   take the caller into the in-sync set
//	GET    /stores/{id}/{gen}/sets/{peer}?seq=   when the set of the peer is known
//	GET    /stores/{id}/{gen}/hosts/{peer}   when it is known that the peer has a replica
//	DELETE /stores/{id}/{gen}         it was dropped
func (s *Service) storeRoutes(mux *http.ServeMux) {
	of := func(pattern string, roles []taubyte.Role, do func(http.ResponseWriter, *http.Request, ref, position) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			store, after, err := storeOf(r)
			if e := s.allowed(r, roles); e != nil {
				err = e
			}
			if err == nil {
				err = s.grantedHere(r, store)
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
		err := s.allowed(r, hoarders)
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
			err = o.check()
		}
		if err == nil {
			err = s.granted(r, o.Kind, o.Instance)
		}
		if err == nil {
			p, err = s.locate(r.Context(), o)
		}
		rpc.Reply(w, p, err, codes)
	})
	mux.HandleFunc("POST /stores/drop", func(w http.ResponseWriter, r *http.Request) {
		var i Instance
		err := s.allowed(r, hoarders)
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
		return s.write(r.Context(), store, after, key, value)
	})
	of("DELETE /stores/{id}/{gen}/value", users, func(_ http.ResponseWriter, r *http.Request, store ref, after position) (any, error) {
		return s.write(r.Context(), store, after, r.URL.Query().Get("key"), nil)
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
		return s.add(r.Context(), store, after, additionOf(r), r.Body)
	})
	of("DELETE /stores/{id}/{gen}/file", users, func(_ http.ResponseWriter, r *http.Request, store ref, after position) (any, error) {
		n, err := versionOf(r)
		if err != nil {
			return nil, err
		}
		q := r.URL.Query()
		return s.removeFile(r.Context(), store, after, q.Get("name"), n, q.Get("all") == "true")
	})
	of("POST /stores/{id}/{gen}/wake", hoarders, func(w http.ResponseWriter, r *http.Request, store ref, _ position) (any, error) {
		var in wakeRequest
		if err := rpc.Decode(w, r, 1<<20, &in); err != nil {
			return nil, err
		}
		return s.wake(r.Context(), store, in)
	})
	mux.HandleFunc("POST /lease", func(w http.ResponseWriter, r *http.Request) {
		var in leaseRequest
		var out leaseAnswer
		err := s.allowed(r, hoarders)
		if err == nil {
			err = rpc.Decode(w, r, 1<<10, &in)
		}
		if err == nil {
			out = s.leases.grant(caller(r), in)
		}
		rpc.Reply(w, out, err, codes)
	})
	of("GET /stores/{id}/{gen}/standing", hoarders, func(_ http.ResponseWriter, r *http.Request, store ref, _ position) (any, error) {
		return s.standingOf(caller(r), store), nil
	})
	of("POST /stores/{id}/{gen}/admit", hoarders, func(w http.ResponseWriter, r *http.Request, store ref, _ position) (any, error) {
		var in admission
		if err := rpc.Decode(w, r, 1<<20, &in); err != nil {
			return nil, err
		}
		return s.admit(r.Context(), caller(r), store, in)
	})
	of("GET /stores/{id}/{gen}/sets/{peer}", hoarders, func(_ http.ResponseWriter, r *http.Request, store ref, _ position) (any, error) {
		p, err := peer.Decode(r.PathValue("peer"))
		seq, err2 := strconv.ParseUint(r.URL.Query().Get("seq"), 10, 64)
		if err = errors.Join(err, err2); err != nil {
			return nil, fmt.Errorf("%w question for a set: %w", taubyte.ErrInvalid, err)
		}
		ctx, cancel := context.WithTimeout(r.Context(), wakeTimeout)
		defer cancel()
		return nil, s.knowsSet(ctx, store, p, seq)
	})
	of("POST /stores/{id}/{gen}/join", hoarders, func(w http.ResponseWriter, r *http.Request, store ref, _ position) (any, error) {
		var in joinRequest
		if err := rpc.Decode(w, r, 64<<10, &in); err != nil {
			return nil, err
		}
		if err := (openRequest{in.Kind, in.Instance, in.Spec}).check(); err != nil || in.Instance.id(in.Kind) != store.ID {
			return nil, fmt.Errorf("%w store: %w", taubyte.ErrInvalid, err)
		}
		return nil, s.join(r.Context(), store, in.told, in.From...)
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
	if err == nil {
		err = s.grantedHere(r, store)
	}
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

// caller is the node that sent a request.
func caller(r *http.Request) peer.ID {
	m, _ := rpc.Caller(r.Context())
	return m.Peer
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
