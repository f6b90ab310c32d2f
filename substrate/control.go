package substrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
)

// Protocol is the node's API between nodes, and the name under which its host
// provides the Service. Users' requests come under wire.Protocol.
const Protocol protocol.ID = "/taubyte/substrate/control/1"

// Handler is the node's API, of which the methods say who may:
//
//	GET /stats                                    the node's figures: Stats
//	GET /serving?project=&branch=&sequence=       answers when the deployment is served
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, r *http.Request) {
		st, err := s.Stats(r.Context())
		rpc.Reply(w, st, err, nil)
	})
	mux.HandleFunc("GET /serving", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		project := taubyte.ProjectID(q.Get("project"))
		sequence, err := strconv.ParseUint(q.Get("sequence"), 10, 64)
		if err != nil {
			err = cmp.Or(taubyte.Allow(r.Context(), taubyte.VerbRead, project, taubyte.Roles()...), fmt.Errorf("%w sequence: %w", taubyte.ErrInvalid, err))
		} else {
			err = s.Serving(r.Context(), project, taubyte.Branch(q.Get("branch")), sequence)
		}
		rpc.Reply(w, nil, err, nil)
	})
	return mux
}

// A Client asks the substrate nodes of a network.
type Client struct {
	host taubyte.Host
	rpc  *rpc.Client
}

// NewClient returns a client. Close it when done.
func NewClient(host taubyte.Host) *Client {
	return &Client{host: host, rpc: rpc.NewClient(host, Protocol, nil)}
}

// Close drops the client's streams.
func (c *Client) Close() error {
	c.rpc.Close()
	return nil
}

// Serving waits until the node on this host serves a deployment or, where there
// is none, until every substrate node of the network does.
func (c *Client) Serving(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch, sequence uint64) error {
	if s, ok := c.host.Local(Protocol).(*Service); ok {
		return s.Serving(ctx, project, branch, sequence)
	}
	peers, err := c.rpc.Peers(ctx)
	if err != nil {
		return err
	}
	q := url.Values{"project": {string(project)}, "branch": {string(branch)}, "sequence": {strconv.FormatUint(sequence, 10)}}
	done := make(chan error, len(peers))
	for _, p := range peers {
		go func() { done <- c.rpc.CallPeer(ctx, p, http.MethodGet, "/serving?"+q.Encode(), nil, nil) }()
	}
	for range peers {
		err = errors.Join(err, <-done)
	}
	return err
}

// Stats returns the figures of the node on this host or, where there is none, of
// one on the network.
func (c *Client) Stats(ctx context.Context) (Stats, error) {
	if s, ok := c.host.Local(Protocol).(*Service); ok {
		return s.Stats(ctx)
	}
	var out Stats
	return out, c.rpc.Call(ctx, http.MethodGet, "/stats", nil, &out)
}
