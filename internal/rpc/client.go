package rpc

import (
	"bytes"
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

// Budgets of a call: how many nodes it tries, and how long it waits for one that
// runs the service at all.
const (
	maxAttempts   = 3
	findTimeout   = 2 * time.Second
	maxAnswerSize = 64 << 20
	coolDown      = 2 * time.Second
)

// A Client calls one service on whatever node runs it. It is safe for concurrent
// use. It always crosses the network: who wants the local service asks
// Host.Local first.
type Client struct {
	host  taubyte.Host
	id    protocol.ID
	codes Codes
	rt    *Transport

	mu  sync.Mutex
	bad map[peer.ID]time.Time // failed lately; tried last until then
}

// NewClient returns a client of the service under that protocol.
func NewClient(h taubyte.Host, id protocol.ID, codes Codes) *Client {
	return &Client{host: h, id: id, codes: codes, rt: NewTransport(h, id), bad: map[peer.ID]time.Time{}}
}

// Close drops the client's streams.
func (c *Client) Close() { c.rt.Close() }

// Call sends in as JSON (nil: no body) and decodes the answer into out (nil:
// dropped). A node that can't be reached, breaks off, or says that it is
// unavailable, is passed over for the next. So a call may reach a service twice,
// whatever its method: services are made so that this does no harm.
func (c *Client) Call(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	return c.each(ctx, method, path, func(p peer.ID) error { return c.call(ctx, p, method, path, body, out) })
}

// CallPeer is Call on one node.
func (c *Client) CallPeer(ctx context.Context, p peer.ID, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	return c.call(ctx, p, method, path, body, out)
}

func (c *Client) call(ctx context.Context, p peer.ID, method, path string, body []byte, out any) error {
	var r io.Reader
	if body != nil {
		r = bytes.NewReader(body)
	}
	resp, err := c.Open(ctx, p, method, path, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerSize+1))
	if err != nil {
		return fmt.Errorf("%s %s: reading the answer of %s: %w", method, path, p, err)
	}
	if len(answer) > maxAnswerSize {
		return fmt.Errorf("%s %s: %w: answer of %s", method, path, taubyte.ErrTooLarge, p)
	}
	if out == nil || len(answer) == 0 {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s %s: answer of %s: %w", method, path, p, err)
	}
	return nil
}

// Open sends a request to one node and returns its answer, whose body the caller
// closes. An error status is returned as an error.
func (c *Client) Open(ctx context.Context, p peer.ID, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+p.String()+path, body)
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
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if err := ReadError(resp, c.codes); err != nil {
		return nil, err
	}
	return resp, nil
}

// OpenAny is Open on the first node that answers.
func (c *Client) OpenAny(ctx context.Context, method, path string) (resp *http.Response, err error) {
	err = c.each(ctx, method, path, func(p peer.ID) error {
		resp, err = c.Open(ctx, p, method, path, nil)
		return err
	})
	return resp, err
}

func (c *Client) each(ctx context.Context, method, path string, do func(peer.ID) error) error {
	peers, err := c.Peers(ctx)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	var last error
	for i, p := range peers {
		if i == maxAttempts {
			break
		}
		last = do(p)
		if last == nil {
			c.mark(p, false)
			return nil
		}
		if ctx.Err() != nil {
			return last
		}
		var answered *Error
		if errors.As(last, &answered) && !errors.Is(last, taubyte.ErrUnavailable) && !errors.Is(last, taubyte.ErrClosed) {
			return last // the node's own word
		}
		c.mark(p, true)
	}
	return last
}

func (c *Client) mark(p peer.ID, bad bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if bad {
		c.bad[p] = time.Now().Add(coolDown)
	} else {
		delete(c.bad, p)
	}
}

// Peers returns the nodes that run the service, those that failed lately last. It
// waits a little for the first to appear, and gives ErrUnavailable without one.
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

func (c *Client) order(peers []peer.ID) []peer.ID {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	slices.SortStableFunc(peers, func(a, b peer.ID) int {
		return cmpBool(now.Before(c.bad[a]), now.Before(c.bad[b]))
	})
	return peers
}

func cmpBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
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
