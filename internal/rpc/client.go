package rpc

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multihash"

	"github.com/taubyte/taubyte"
)

// A Finder knows which nodes run a service. A directory of nodes provides itself
// on the host under FinderProtocol, and the host's clients ask it first.
type Finder interface {
	// Find returns the healthy nodes that run the service, best first. It is
	// answered from memory.
	Find(id protocol.ID) []peer.ID
}

// FinderProtocol is where a Finder is provided.
const FinderProtocol protocol.ID = "/taubyte/finder/1"

// Limits of a call.
const (
	maxAttempts   = 5 // nodes that one call tries
	findTimeout   = 2 * time.Second
	maxAnswerSize = 64 << 20
	coolDown      = 2 * time.Second
)

// Patience says how long a call waits, and for what. A zero field has its default.
//
// It does not have to bound what a node that hangs costs: an attempt on one ends with
// ErrSuspect after about a second, whatever the patience (see Pulse).
type Patience struct {
	// Attempt bounds how long one node may take until its answer begins. The default is
	// 30 s where another node may be asked (Call, OpenAny): more than handlers take that do not
	// say otherwise. Where a node is named (CallPeer, Open) there is no bound but the context's.
	Attempt time.Duration
	// Budget bounds all attempts of a call together. The default is a minute. A context
	// that ends earlier ends the call.
	Budget time.Duration
	// Hedge is how long a call that is safe to repeat (GET, HEAD) waits for a node until
	// the next one is asked as well; the first answer counts. The default is half a
	// second, and a negative one asks no other.
	Hedge time.Duration
}

type patienceKey struct{}

// WithPatience returns a context whose calls wait so long.
func WithPatience(ctx context.Context, p Patience) context.Context {
	return context.WithValue(ctx, patienceKey{}, p)
}

func patienceOf(ctx context.Context) Patience {
	p, _ := ctx.Value(patienceKey{}).(Patience)
	return p
}

func (p Patience) withDefaults() Patience {
	return Patience{
		Attempt: cmp.Or(p.Attempt, 30*time.Second),
		Budget:  cmp.Or(p.Budget, time.Minute),
		Hedge:   cmp.Or(p.Hedge, 500*time.Millisecond),
	}
}

// errSlow ends an attempt whose answer did not begin in time.
var errSlow = fmt.Errorf("%w: it takes too long to answer", taubyte.ErrUnavailable)

// A Client calls one service on whatever node runs it. It is safe for concurrent
// use. It always crosses the network: who wants the local service asks
// Host.Local first.
type Client struct {
	host  taubyte.Host
	id    protocol.ID
	codes Codes
	rt    *Transport
	pulse *Pulse
	wg    sync.WaitGroup // attempts that lost a race

	mu     sync.Mutex
	closed bool
	bad    map[peer.ID]time.Time // failed lately; tried last until then
}

// NewClient returns a client of the service under that protocol. Close it when done.
func NewClient(h taubyte.Host, id protocol.ID, codes Codes) *Client {
	return &Client{host: h, id: id, codes: codes, rt: NewTransport(h, id), pulse: NewPulse(h), bad: map[peer.ID]time.Time{}}
}

// Close drops the client's streams. Calls are not made any more.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.wg.Wait()
	c.rt.Close()
	c.pulse.Close()
}

// Call sends in as JSON (nil: no body) and decodes the answer into out (nil:
// dropped). A node that can't be reached, hangs, breaks off, or says that it is
// unavailable, is passed over for the next. So a call may reach a service twice,
// whatever its method: services are made so that this does no harm.
func (c *Client) Call(ctx context.Context, method, path string, in, out any) error {
	body, err := encode(method, path, in)
	if err != nil {
		return err
	}
	answer, err := race(ctx, c, method, path, func(ctx context.Context, p peer.ID) ([]byte, error) {
		return c.call(ctx, p, method, path, body)
	}, func(answer []byte, release context.CancelFunc) []byte {
		release()
		return answer
	}, func([]byte) {})
	if err != nil {
		return err
	}
	return decode(method, path, answer, out)
}

// CallPeer is Call on one node.
func (c *Client) CallPeer(ctx context.Context, p peer.ID, method, path string, in, out any) error {
	body, err := encode(method, path, in)
	if err != nil {
		return err
	}
	answer, err := c.call(ctx, p, method, path, body)
	if err != nil {
		return err
	}
	return decode(method, path, answer, out)
}

func encode(method, path string, in any) ([]byte, error) {
	if in == nil {
		return nil, nil
	}
	body, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return body, nil
}

func decode(method, path string, answer []byte, out any) error {
	if out == nil || len(answer) == 0 {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s %s: decoding the answer: %w", method, path, err)
	}
	return nil
}

func (c *Client) call(ctx context.Context, p peer.ID, method, path string, body []byte) ([]byte, error) {
	var r io.Reader
	if body != nil {
		r = bytes.NewReader(body)
	}
	resp, err := c.Open(ctx, p, method, path, r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerSize+1))
	if err != nil {
		return nil, fmt.Errorf("%s %s: reading the answer of %s: %w", method, path, p, err)
	}
	if len(answer) > maxAnswerSize {
		return nil, fmt.Errorf("%s %s: %w: answer of %s", method, path, taubyte.ErrTooLarge, p)
	}
	return answer, nil
}

// Open sends a request to one node and returns its answer, whose body the caller
// closes. An error status is returned as an error. When the node hangs, before its
// answer or in it, that is ErrSuspect.
func (c *Client) Open(ctx context.Context, p peer.ID, method, path string, body io.Reader) (*http.Response, error) {
	a := c.pulse.begin(ctx, p)
	resp, err := c.open(ctx, a, p, method, path, body)
	if err != nil {
		a.end()
		return nil, err
	}
	resp.Body = &guardedBody{ReadCloser: resp.Body, ctx: a.ctx, done: a.end}
	return resp, nil
}

func (c *Client) open(ctx context.Context, a *attempt, p peer.ID, method, path string, body io.Reader) (*http.Response, error) {
	if most := patienceOf(ctx).Attempt; most > 0 {
		slow := time.AfterFunc(most, func() { a.cancel(errSlow) })
		defer slow.Stop()
	}
	req, err := http.NewRequestWithContext(a.ctx, method, "http://"+p.String()+path, body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	// Has net/http repeat the request when a kept stream turns out to be closed.
	req.Header["Idempotency-Key"] = []string{}
	resp, err := c.rt.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("%s %s at %s: %w", method, path, p, because(a.ctx, ctx, err))
	}
	if err := ReadError(resp, c.codes); err != nil {
		return nil, err
	}
	return resp, nil
}

// because prefers the reason for which an attempt was ended to what broke by it.
func because(attempt, caller context.Context, err error) error {
	if caller.Err() != nil {
		return errors.Join(caller.Err(), err)
	}
	switch cause := context.Cause(attempt); cause {
	case ErrSuspect, errSlow:
		return cause
	}
	return err
}

// guardedBody is an answer on its way.
type guardedBody struct {
	io.ReadCloser
	ctx  context.Context
	done func()
}

func (b *guardedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF && context.Cause(b.ctx) == ErrSuspect {
		err = ErrSuspect
	}
	return n, err
}

// Write is for the body of an upgraded connection.
func (b *guardedBody) Write(p []byte) (int, error) {
	w, ok := b.ReadCloser.(io.Writer)
	if !ok {
		return 0, fmt.Errorf("%w: writing to an answer", taubyte.ErrInvalid)
	}
	return w.Write(p)
}

func (b *guardedBody) Close() error {
	err := b.ReadCloser.Close()
	b.done()
	return err
}

// OpenAny is Open on the first node that answers.
func (c *Client) OpenAny(ctx context.Context, method, path string) (*http.Response, error) {
	return race(ctx, c, method, path, func(ctx context.Context, p peer.ID) (*http.Response, error) {
		return c.Open(ctx, p, method, path, nil)
	}, func(resp *http.Response, release context.CancelFunc) *http.Response {
		body := resp.Body.(*guardedBody)
		done := body.done
		body.done = func() { done(); release() }
		return resp
	}, func(resp *http.Response) { _ = resp.Body.Close() })
}

// race makes attempts until one succeeds or has an answer that no other node would
// change: one after the other or, where the method is safe, beside one that is slow.
// keep is called with what is returned, and a function that releases its context; drop
// with what came too late.
func race[T any](ctx context.Context, c *Client, method, path string, do func(context.Context, peer.ID) (T, error),
	keep func(T, context.CancelFunc) T, drop func(T)) (T, error) {
	var none T
	peers, err := c.Peers(ctx)
	if err != nil {
		return none, fmt.Errorf("%s %s: %w", method, path, err)
	}
	peers = peers[:min(len(peers), maxAttempts)]
	patience, began := patienceOf(ctx).withDefaults(), time.Now()
	left := func() time.Duration { return patience.Budget - time.Since(began) }
	safe := method == http.MethodGet || method == http.MethodHead
	if !safe || len(peers) < 2 || patience.Hedge < 0 {
		var last error
		for i, p := range peers {
			if i > 0 && left() <= 0 {
				break
			}
			patience.Attempt = min(patience.Attempt, max(left(), time.Millisecond))
			var v T
			v, last = do(WithPatience(ctx, patience), p)
			if last == nil {
				return keep(v, func() {}), nil
			}
			if ctx.Err() != nil || c.final(p, last) {
				return none, last
			}
		}
		return none, last
	}
	r := &racers[T]{do: do, drop: drop, results: make(chan result[T], len(peers)), running: map[int]context.CancelFunc{}}
	defer r.end()
	hedge := time.NewTimer(0)
	defer hedge.Stop()
	var last error
	for next, open := 0, 0; open > 0 || next < len(peers); {
		select {
		case <-hedge.C:
			if next == len(peers) || next > 0 && left() <= 0 {
				next = len(peers) // nobody is left to be asked, or no time to do so
				continue
			}
			patience.Attempt = min(patience.Attempt, max(left(), time.Millisecond))
			if !c.spawn(r.attempt(WithPatience(ctx, patience), next, peers[next])) {
				return none, fmt.Errorf("%s %s: %w", method, path, taubyte.ErrClosed)
			}
			next, open = next+1, open+1
			hedge.Reset(patience.Hedge)
		case res := <-r.results:
			open--
			if res.err == nil {
				return keep(res.v, res.cancel), nil
			}
			if ctx.Err() != nil || c.final(res.from, res.err) {
				return none, res.err
			}
			last = res.err
			hedge.Reset(0)
		}
	}
	return none, last
}

// racers are attempts beside each other.
type racers[T any] struct {
	do      func(context.Context, peer.ID) (T, error)
	drop    func(T)
	results chan result[T] // has room for all

	mu      sync.Mutex
	over    bool
	running map[int]context.CancelFunc
}

// result is what an attempt returned. cancel releases its context, which an answer that
// is still read needs.
type result[T any] struct {
	from   peer.ID
	v      T
	err    error
	cancel context.CancelFunc
}

// attempt returns what makes one.
func (r *racers[T]) attempt(ctx context.Context, n int, p peer.ID) func() {
	ctx, cancel := context.WithCancel(ctx)
	r.mu.Lock()
	r.running[n] = cancel
	r.mu.Unlock()
	return func() {
		v, err := r.do(ctx, p)
		if err != nil {
			cancel()
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.running, n)
		if !r.over {
			r.results <- result[T]{p, v, err, cancel}
			return
		}
		if err == nil {
			r.drop(v)
			cancel()
		}
	}
}

// end cancels the attempts that still run, and drops what nobody has taken.
func (r *racers[T]) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	for _, cancel := range r.running {
		cancel()
	}
	for {
		select {
		case res := <-r.results:
			if res.err == nil {
				r.drop(res.v)
				res.cancel()
			}
		default:
			return
		}
	}
}

// spawn runs f in a goroutine that Close waits for.
func (c *Client) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.wg.Go(f)
	return true
}

// final reports whether an attempt's error is the node's own word, which another node
// would not change. If it is not, the node is asked last for a while.
func (c *Client) final(p peer.ID, err error) bool {
	var answered *Error
	if errors.As(err, &answered) && !errors.Is(err, taubyte.ErrUnavailable) && !errors.Is(err, taubyte.ErrClosed) {
		return true
	}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for q, until := range c.bad {
		if now.After(until) {
			delete(c.bad, q)
		}
	}
	c.bad[p] = now.Add(coolDown)
	return false
}

// Peers returns the nodes that run the service, best first: those that failed lately
// or are suspect come last. It waits a little for the first to appear, and gives
// ErrUnavailable without one.
func (c *Client) Peers(ctx context.Context) ([]peer.ID, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, findTimeout, errNobody)
	defer cancel()
	for wait := 10 * time.Millisecond; ; wait *= 2 {
		if peers := c.find(ctx); len(peers) > 0 {
			return c.order(peers), nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			if err := context.Cause(ctx); !errors.Is(err, errNobody) {
				return nil, err
			}
			return nil, fmt.Errorf("%w: no node runs %s", taubyte.ErrUnavailable, c.id)
		}
	}
}

var errNobody = errors.New("nobody found in time")

// order moves the nodes to the end that are not expected to answer.
func (c *Client) order(peers []peer.ID) []peer.ID {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	slices.SortStableFunc(peers, func(a, b peer.ID) int { return cmp.Compare(c.doubt(a, now), c.doubt(b, now)) })
	return peers
}

// doubt is larger for a node that is less likely to answer. Callers hold mu.
func (c *Client) doubt(p peer.ID, now time.Time) int {
	switch {
	case c.pulse.Suspect(p):
		return 2
	case now.Before(c.bad[p]):
		return 1
	}
	return 0
}

// find asks the directory, then libp2p's identify, then the DHT.
func (c *Client) find(ctx context.Context) []peer.ID {
	self := c.host.ID()
	if f, ok := c.host.Local(FinderProtocol).(Finder); ok {
		peers := slices.DeleteFunc(f.Find(c.id), func(p peer.ID) bool { return p == self })
		if len(peers) > 0 {
			return peers
		}
	}
	var peers []peer.ID
	for _, p := range c.host.Network().Peers() {
		if known, err := c.host.Peerstore().SupportsProtocols(p, c.id); err == nil && len(known) > 0 {
			peers = append(peers, p)
		}
	}
	if len(peers) > 0 {
		// No order among them is better than another: spread the load.
		rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
		return peers
	}
	if len(c.host.Network().Peers()) == 0 {
		return nil
	}
	dht, cancel := context.WithTimeout(ctx, findTimeout/2)
	defer cancel()
	for info := range c.host.Routing().FindProvidersAsync(dht, serviceCID(c.id), maxAttempts) {
		if info.ID != self {
			c.host.Peerstore().AddAddrs(info.ID, info.Addrs, time.Hour)
			peers = append(peers, info.ID)
		}
	}
	return peers
}

// serviceCID is the DHT key under which the nodes that run a service are found.
func serviceCID(id protocol.ID) cid.Cid {
	h, err := multihash.Sum([]byte(id), multihash.SHA2_256, -1)
	if err != nil {
		panic(err) // sha2-256 is always there
	}
	return cid.NewCidV1(cid.Raw, h)
}
