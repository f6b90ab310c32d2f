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
	"github.com/taubyte/taubyte/internal/api"
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

// at has a store's path served by a function that is given which store, and the writes
// that the answer must know of.
func at[Out any](s *Service, do func(*http.Request, ref, position) (Out, error)) api.Endpoint {
	return api.Answer(func(r *http.Request) (out Out, err error) {
		store, after, err := s.storeOf(r)
		if err != nil {
			return out, err
		}
		return do(r, store, after)
	})
}

// atDone is at for what has no answer.
func atDone(s *Service, do func(*http.Request, ref, position) error) api.Endpoint {
	return api.Act(func(r *http.Request) error {
		store, after, err := s.storeOf(r)
		if err != nil {
			return err
		}
		return do(r, store, after)
	})
}

var (
	hoarderRole = []taubyte.Role{taubyte.RoleHoarder}
	storeID     = api.Texts{"id": "The store's ID.", "gen": "Its generation, a number."}
)

// asks are the parameters of a store's path, and further ones.
func asks(further ...api.Parameter) []api.Parameter {
	return append(further, api.Parameter{Name: "after", Text: `Writes that the answer must know of: {"<peer>": <n>}.`})
}

var (
	byKey     = api.Parameter{Name: "key", Text: "The key."}
	byName    = api.Parameter{Name: "name", Text: "The file's name."}
	byVersion = api.Parameter{Name: "version", Text: "The version: the newest where nothing is said, or 0.", Type: uint32(0)}
	overwrite = api.Parameter{Name: "overwrite", Text: "Replaces a file that is there.", Type: false}
	nonce     = api.Parameter{Name: "nonce", Text: "The same for each attempt of one upload."}
)

// handleStores mounts the part of the API for databases and storages. Values and contents
// are bodies as they are.
func (s *Service) handleStores(mux *api.Mux) {
	forUsers, forHoarders := api.Nodes(users...).Guarded(), api.Nodes(hoarderRole...).Guarded()
	mux.Handle("GET /stores", api.Operation{
		Summary: "Lists the databases and storages.", Rights: forHoarders,
	}, api.Answer(func(r *http.Request) ([]Store, error) {
		return s.Stores(r.Context())
	}))
	mux.Handle("POST /stores/open", api.Operation{
		Summary: "Says where a database or storage is, and makes it where it is not there.", Rights: forUsers,
	}, api.Call(64<<10, func(r *http.Request, o openRequest) (place, error) {
		if err := o.check(); err != nil {
			return place{}, err
		}
		if err := s.granted(r, o.Kind, o.Instance); err != nil {
			return place{}, err
		}
		return s.locate(r.Context(), o)
	}))
	mux.Handle("POST /stores/drop", api.Operation{
		Summary: "Drops a database or storage.", Rights: forHoarders,
	}, api.Take(64<<10, func(r *http.Request, i Instance) error {
		return s.Drop(r.Context(), i)
	}))
	const value = "/stores/{id}/{gen}/value"
	const file = "/stores/{id}/{gen}/file"
	mux.Handle("GET "+value, api.Operation{
		Summary: "Returns a value.", Path: storeID, Query: asks(byKey), Rights: forUsers,
	}, api.Serve(s.serveValue).Bytes(bytesType, "The value."))
	mux.Handle("PUT "+value, api.Operation{
		Summary: "Writes a value.", Path: storeID, Query: asks(byKey), Rights: forUsers,
	}, at(s, func(r *http.Request, store ref, after position) (written, error) {
		key := r.URL.Query().Get("key")
		value, err := io.ReadAll(io.LimitReader(r.Body, MaxValue+1)) // which write refuses
		if err != nil {
			return written{}, fmt.Errorf("reading the value: %w", err)
		}
		return s.write(r.Context(), store, after, key, value)
	}).Reads(bytesType, "The value."))
	mux.Handle("DELETE "+value, api.Operation{
		Summary: "Deletes a value.", Path: storeID, Query: asks(byKey), Rights: forUsers,
	}, at(s, func(r *http.Request, store ref, after position) (written, error) {
		return s.write(r.Context(), store, after, r.URL.Query().Get("key"), nil)
	}))
	mux.Handle("GET /stores/{id}/{gen}/keys", api.Operation{
		Summary: "Lists the keys of a database.", Path: storeID, Query: asks(api.Parameter{Name: "prefix", Text: "What they begin with."}), Rights: forUsers,
	}, at(s, func(r *http.Request, store ref, after position) ([]string, error) {
		return s.list(r.Context(), store, after, r.URL.Query().Get("prefix"))
	}))
	mux.Handle("GET /stores/{id}/{gen}/used", api.Operation{
		Summary: "Returns how many bytes a store has.", Path: storeID, Query: asks(), Rights: forUsers,
	}, at(s, func(r *http.Request, store ref, after position) (int64, error) {
		return s.usedBytes(r.Context(), store, after)
	}))
	mux.Handle("GET "+file, api.Operation{
		Summary: "Returns what is known of a file.", Path: storeID, Query: asks(byName, byVersion), Rights: forUsers,
	}, at(s, func(r *http.Request, store ref, after position) (File, error) {
		n, err := versionOf(r)
		if err != nil {
			return File{}, err
		}
		return s.stat(r.Context(), store, after, r.URL.Query().Get("name"), n)
	}))
	mux.Handle("GET /stores/{id}/{gen}/content", api.Operation{
		Summary: "Returns the content of a file.", Path: storeID,
		Query: asks(byName, api.Parameter{Name: "cid", Text: "The CID of the content.", Required: true},
			api.Parameter{Name: "from", Text: "The place of the first byte that is answered.", Type: int64(0), Required: true}),
		Rights: forUsers,
	}, api.Serve(func(w http.ResponseWriter, r *http.Request, codes rpc.Codes) {
		if err := s.serveContent(w, r); err != nil {
			rpc.WriteError(w, err, codes)
		}
	}).Bytes(bytesType, "The content, from that place on."))
	mux.Handle("GET /stores/{id}/{gen}/files", api.Operation{
		Summary: "Lists the files of a storage, or the versions of one.", Path: storeID, Query: asks(byName), Rights: forUsers,
	}, at(s, func(r *http.Request, store ref, after position) ([]File, error) {
		return s.files(r.Context(), store, after, r.URL.Query().Get("name"))
	}))
	mux.Handle("POST /stores/{id}/{gen}/upload", api.Operation{
		Summary: "Asks whether a file would be taken.", Path: storeID, Query: asks(byName, overwrite, nonce), Rights: forUsers,
	}, atDone(s, func(r *http.Request, store ref, after position) error {
		return s.wouldAdd(r.Context(), store, after, additionOf(r))
	}))
	mux.Handle("PUT "+file, api.Operation{
		Summary: "Adds a file, or a version of one.", Path: storeID, Query: asks(byName, overwrite, nonce), Rights: forUsers,
	}, at(s, func(r *http.Request, store ref, after position) (written, error) {
		return s.add(r.Context(), store, after, additionOf(r), r.Body)
	}).Reads(bytesType, "The content."))
	mux.Handle("DELETE "+file, api.Operation{
		Summary: "Deletes a version of a file, or all.", Path: storeID,
		Query:  asks(byName, byVersion, api.Parameter{Name: "all", Text: "Deletes all versions.", Type: false}),
		Rights: forUsers,
	}, at(s, func(r *http.Request, store ref, after position) (written, error) {
		n, err := versionOf(r)
		if err != nil {
			return written{}, err
		}
		q := r.URL.Query()
		return s.removeFile(r.Context(), store, after, q.Get("name"), n, q.Get("all") == "true")
	}))
}

// handleReplicas mounts what hoarders ask each other.
func (s *Service) handleReplicas(mux *api.Mux) {
	rights := api.Nodes(hoarderRole...).Guarded()
	mux.Handle("POST /lease", api.Operation{
		Summary: "Asks another hoarder for the lease under which the caller serves stores.", Rights: rights,
	}, api.Call(1<<10, func(r *http.Request, in leaseRequest) (leaseAnswer, error) {
		return s.leases.grant(caller(r), in), nil
	}))
	mux.Handle("POST /stores/{id}/{gen}/wake", api.Operation{
		Summary: "Has a replica be open, and answers when it has something.", Path: storeID, Rights: rights,
	}, api.Call(1<<20, func(r *http.Request, in wakeRequest) (position, error) {
		store, _, err := s.storeOf(r)
		if err != nil {
			return nil, err
		}
		return s.wake(r.Context(), store, in)
	}))
	mux.Handle("GET /stores/{id}/{gen}/standing", api.Operation{
		Summary: "Returns what a replica says of itself.", Path: storeID, Rights: rights,
	}, at(s, func(r *http.Request, store ref, _ position) (standing, error) {
		return s.standingOf(caller(r), store), nil
	}))
	mux.Handle("POST /stores/{id}/{gen}/admit", api.Operation{
		Summary: "Takes the caller into the in-sync set.", Path: storeID, Rights: rights,
	}, api.Call(1<<20, func(r *http.Request, in admission) (admission, error) {
		store, _, err := s.storeOf(r)
		if err != nil {
			return admission{}, err
		}
		return s.admit(r.Context(), caller(r), store, in)
	}))
	mux.Handle("GET /stores/{id}/{gen}/sets/{peer}", api.Operation{
		Summary: "Answers when the in-sync set of a replica is known.",
		Path:    api.Texts{"id": storeID["id"], "gen": storeID["gen"], "peer": "The peer ID of the node that has the replica."},
		Query:   []api.Parameter{{Name: "seq", Text: "The number of the set.", Type: uint64(0), Required: true}},
		Rights:  rights,
	}, atDone(s, func(r *http.Request, store ref, _ position) error {
		p, err := peer.Decode(r.PathValue("peer"))
		seq, err2 := strconv.ParseUint(r.URL.Query().Get("seq"), 10, 64)
		if err = errors.Join(err, err2); err != nil {
			return fmt.Errorf("%w question for a set: %w", taubyte.ErrInvalid, err)
		}
		ctx, cancel := context.WithTimeout(r.Context(), wakeTimeout)
		defer cancel()
		return s.knowsSet(ctx, store, p, seq)
	}))
	mux.Handle("POST /stores/{id}/{gen}/join", api.Operation{
		Summary: "Has a hoarder have a further replica.", Path: storeID, Rights: rights,
	}, api.Take(64<<10, func(r *http.Request, in joinRequest) error {
		store, err := s.toldOf(r, in.told)
		if err != nil {
			return err
		}
		return s.join(r.Context(), store, in.told, in.From...)
	}))
	mux.Handle("POST /stores/{id}/{gen}/begin", api.Operation{
		Summary: "Has a hoarder have the first replica.", Path: storeID, Rights: rights,
	}, api.Take(64<<10, func(r *http.Request, t told) error {
		store, err := s.toldOf(r, t)
		if err != nil {
			return err
		}
		return s.begin(r.Context(), store, t)
	}))
	mux.Handle("GET /stores/{id}/{gen}/hosts/{peer}", api.Operation{
		Summary: "Answers when it is known that a node has a replica.",
		Path:    api.Texts{"id": storeID["id"], "gen": storeID["gen"], "peer": "The node's peer ID."},
		Rights:  rights,
	}, atDone(s, func(r *http.Request, store ref, _ position) error {
		host, err := peer.Decode(r.PathValue("peer"))
		if err != nil {
			return fmt.Errorf("%w peer: %w", taubyte.ErrInvalid, err)
		}
		ctx, cancel := context.WithTimeout(r.Context(), wakeTimeout)
		defer cancel()
		return s.knows(ctx, store, host)
	}))
	mux.Handle("DELETE /stores/{id}/{gen}", api.Operation{
		Summary: "Destroys the replica of a store that was dropped.", Path: storeID, Rights: rights,
	}, atDone(s, func(r *http.Request, store ref, _ position) error {
		return s.destroyDropped(r.Context(), store)
	}))
}

// toldOf is the store of a request that says what it is.
func (s *Service) toldOf(r *http.Request, t told) (ref, error) {
	store, _, err := s.storeOf(r)
	if err != nil {
		return ref{}, err
	}
	if err := (openRequest{t.Kind, t.Instance, t.Spec}).check(); err != nil || t.Instance.id(t.Kind) != store.ID {
		return ref{}, fmt.Errorf("%w store: %w", taubyte.ErrInvalid, err)
	}
	return store, nil
}

const bytesType = "application/octet-stream"

func (s *Service) serveValue(w http.ResponseWriter, r *http.Request, codes rpc.Codes) {
	store, after, err := s.storeOf(r)
	var value []byte
	if err == nil {
		value, err = s.get(r.Context(), store, after, r.URL.Query().Get("key"))
	}
	if err != nil {
		rpc.WriteError(w, err, codes)
		return
	}
	w.Header().Set("Content-Type", bytesType)
	w.Header().Set("Content-Length", strconv.Itoa(len(value)))
	_, _ = w.Write(value)
}

// serveContent returns an error only as long as nothing was sent.
func (s *Service) serveContent(w http.ResponseWriter, r *http.Request) error {
	store, after, err := s.storeOf(r)
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
	w.Header().Set("Content-Type", bytesType)
	_, _ = io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{content}, make([]byte, 256<<10))
	return nil
}

// caller is the node that sent a request.
func caller(r *http.Request) peer.ID {
	m, _ := rpc.Caller(r.Context())
	return m.Peer
}

// storeOf returns the store of a request, if the caller may reach it, and the writes that
// its answer must know of.
func (s *Service) storeOf(r *http.Request) (ref, position, error) {
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
	store := ref{id, gen}
	return store, after, s.grantedHere(r, store)
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
