package hoarder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
)

// site is a node with a replica: this one, called directly, or another. A write
// returns what whoever wants to see it must wait for.
type site interface {
	get(ctx context.Context, r ref, after position, key string) ([]byte, error)
	write(ctx context.Context, r ref, after position, key string, value []byte) (written, error)
	list(ctx context.Context, r ref, after position, prefix string) ([]string, error)
	usedBytes(ctx context.Context, r ref, after position) (int64, error)
	add(ctx context.Context, r ref, after position, a addition, content io.Reader) (written, error)
	stat(ctx context.Context, r ref, after position, name string, version uint32) (File, error)
	// content reads a version from a place on; it may be an io.Seeker.
	content(ctx context.Context, r ref, after position, f File, from int64) (io.ReadCloser, error)
	files(ctx context.Context, r ref, after position, name string) ([]File, error)
	removeFile(ctx context.Context, r ref, after position, name string, version uint32, all bool) (written, error)
}

// handles are a client's stores. A store has one handle, whoever opens it, so that
// all see each other's writes.
type handles struct {
	mu  sync.Mutex
	all map[string]*handle
}

// maxHandles bounds what a client remembers; those that were not used for the
// longest time are forgotten.
const maxHandles = 4096

// handle is a client's way to a store.
type handle struct {
	c    *Client
	id   string
	inst Instance
	kind kind

	mu    sync.Mutex
	spec  spec
	known bool
	place place
	used  time.Time
	seen  position // of this client
}

func (c *Client) open(ctx context.Context, k kind, i Instance, sp spec) (*handle, error) {
	if err := i.check(); err != nil {
		return nil, err
	}
	id := i.id(k)
	c.handles.mu.Lock()
	h := c.handles.all[id]
	if h == nil {
		if c.handles.all == nil {
			c.handles.all = map[string]*handle{}
		}
		if len(c.handles.all) >= maxHandles {
			c.handles.forgetOne()
		}
		h = &handle{c: c, id: id, inst: i, kind: k}
		c.handles.all[id] = h
	}
	c.handles.mu.Unlock()
	h.mu.Lock()
	same := h.known && h.spec == sp
	h.used = time.Now()
	h.mu.Unlock()
	if same {
		return h, nil
	}
	return h, h.find(ctx, sp)
}

// forgetOne forgets the handle that was not used for the longest time. Callers hold
// mu.
func (hs *handles) forgetOne() {
	var oldest string
	var at time.Time
	for id, h := range hs.all {
		h.mu.Lock()
		used := h.used
		h.mu.Unlock()
		if oldest == "" || used.Before(at) {
			oldest, at = id, used
		}
	}
	delete(hs.all, oldest)
}

// find asks where the store is, and has it made if need be.
func (h *handle) find(ctx context.Context, sp spec) error {
	o := openRequest{Kind: h.kind, Instance: h.inst, Spec: sp}
	var p place
	var err error
	if s := h.c.local(); s != nil {
		p, err = s.locate(ctx, o)
	} else {
		p, err = h.c.locate(ctx, o)
	}
	if err != nil {
		return err
	}
	if len(p.Hosts) == 0 {
		return fmt.Errorf("%w: a store without replicas", taubyte.ErrUnavailable)
	}
	p.Hosts = h.c.nearest(ctx, p)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.place.Gen != p.Gen {
		h.seen = nil // another life, in which nothing was written
	}
	h.known, h.spec, h.place = true, sp, p
	return nil
}

// nearWait bounds how long the nearest replica may take to answer.
const nearWait = time.Second

// nearest puts the replica first that answers first.
func (c *Client) nearest(ctx context.Context, p place) []peer.ID {
	s := c.local()
	if len(p.Hosts) < 2 || s != nil && s.serves(ref{p.ID, p.Gen}) {
		return p.Hosts
	}
	ctx, cancel := context.WithTimeout(ctx, nearWait)
	defer cancel()
	type answer struct {
		from peer.ID
		err  error
	}
	answers := make(chan answer, len(p.Hosts))
	for _, host := range p.Hosts {
		go func() {
			_, err := remote{c, host}.usedBytes(ctx, ref{p.ID, p.Gen}, nil)
			answers <- answer{host, err}
		}()
	}
	var first, rest []peer.ID
	for range p.Hosts {
		a := <-answers
		if (a.err == nil || errors.Is(a.err, errDoubt)) && len(first) == 0 {
			first = append(first, a.from)
			cancel() // the others need not answer
		}
	}
	for _, host := range p.Hosts {
		if !slices.Contains(first, host) {
			rest = append(rest, host)
		}
	}
	return append(first, rest...)
}

// trying is how long a call goes on asking where the store is and trying its replicas:
// longer than it takes to find out that one is gone and to go on without it. It is
// behindFor where a replica says that it has to wait for another one to come back.
const (
	trying    = 8 * time.Second
	behindFor = time.Second
)

// What one replica on another node may take of a call. A node that hangs is found out
// sooner; this is for one that lives and does not get on.
const (
	readWait  = 1500 * time.Millisecond
	writeWait = 2500 * time.Millisecond // it may have to take another out of the in-sync set
	noBound   = 0                       // of contents, which take their time
	// doubtWait is what the others get where one has said that it can't know.
	doubtWait = 500 * time.Millisecond
)

// do runs a call on the nearest replica, or on the next if that can't be reached or
// does not serve.
func (h *handle) do(ctx context.Context, bound time.Duration, call func(context.Context, site, ref, position) error) error {
	var err, doubt error
	began := time.Now()
	for wait := time.Duration(0); ; wait = min(max(2*wait, 20*time.Millisecond), 250*time.Millisecond) {
		if wait > 0 {
			if took := time.Since(began); took > trying || took > behindFor && errors.Is(err, errBehind) {
				break
			}
			bound = min(2*bound, trying) // the machine may be busy
			if !pause(ctx, wait) {
				return err
			}
			h.mu.Lock()
			sp := h.spec
			h.mu.Unlock()
			if e := h.find(ctx, sp); e != nil {
				if !errors.Is(e, taubyte.ErrUnavailable) {
					return e
				}
				err = e
				continue
			}
		}
		h.mu.Lock()
		r, hosts, after := ref{h.place.ID, h.place.Gen}, h.place.Hosts, h.seen // never changed in place
		h.mu.Unlock()
		if s := h.c.local(); s != nil && s.serves(r) {
			if err = call(ctx, s, r, after); !passOver(err) || ctx.Err() != nil {
				return err
			}
			if errors.Is(err, errDoubt) {
				doubt = err
			}
		}
		for i, p := range hosts {
			if p == h.c.host.ID() {
				continue
			}
			if doubt != nil {
				// Another may have it, if it is on this side.
				if h.c.host.Network().Connectedness(p) != network.Connected {
					continue
				}
				bound = min(bound, doubtWait)
			}
			if err = h.attempt(ctx, bound, p, func(ctx context.Context) error { return call(ctx, remote{h.c, p}, r, after) }); !passOver(err) || ctx.Err() != nil {
				if i > 0 && doubt == nil {
					h.prefer(p)
				}
				return err
			}
			if errors.Is(err, errDoubt) && doubt == nil {
				doubt = err
			}
		}
		if doubt != nil {
			return doubt // asking again would not help for as long as anybody waits
		}
	}
	if err == nil {
		err = errElsewhere
	}
	return err
}

// attempt bounds a call to one replica.
func (h *handle) attempt(ctx context.Context, bound time.Duration, p peer.ID, call func(context.Context) error) error {
	if bound == noBound {
		return call(ctx)
	}
	some, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	err := call(some)
	if err != nil && some.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: %s takes longer than %s: %w", taubyte.ErrUnavailable, p, bound, err)
	}
	return err
}

// passOver reports whether another replica may do better.
func passOver(err error) bool {
	return errors.Is(err, taubyte.ErrUnavailable) || errors.Is(err, taubyte.ErrClosed)
}

// prefer puts the replica that answered first.
func (h *handle) prefer(p peer.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.Index(h.place.Hosts, p); i > 0 {
		hosts := slices.Delete(slices.Clone(h.place.Hosts), i, i+1)
		h.place.Hosts = append([]peer.ID{p}, hosts...)
	}
}

// wrote keeps what a write to a life of the store returned.
func (h *handle) wrote(r ref, w written, err error) error {
	if err != nil {
		return err
	}
	h.saw(r, w.After)
	return nil
}

// saw has later calls wait for writes to a life of the store. Those of an earlier life,
// which a call may report that began before the store was dropped, would never arrive.
func (h *handle) saw(r ref, pos position) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.Gen != h.place.Gen {
		return
	}
	for p, seq := range pos {
		if seq > h.seen[p] {
			seen := make(position, len(h.seen)+1)
			maps.Copy(seen, h.seen)
			seen[p] = seq
			h.seen = seen
		}
	}
}

func (h *handle) total(ctx context.Context) (n int64, err error) {
	err = h.do(ctx, readWait, func(ctx context.Context, s site, r ref, after position) error {
		n, err = s.usedBytes(ctx, r, after)
		return err
	})
	return n, h.wrap("measuring", "", err)
}

func (h *handle) capacity() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.spec.Size
}

func (h *handle) wrap(doing, key string, err error) error {
	if err == nil {
		return nil
	}
	if key == "" {
		return fmt.Errorf("%s %s %q: %w", doing, h.kind, h.inst.Name, err)
	}
	return fmt.Errorf("%s %.100q of %s %q: %w", doing, key, h.kind, h.inst.Name, err)
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
