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
	"github.com/taubyte/taubyte/internal/api"
	"github.com/taubyte/taubyte/internal/rpc"
)

// Protocol is the node's API between nodes, and the name under which its host
// provides the Service. Users' requests come under wire.Protocol.
const Protocol protocol.ID = "/taubyte/substrate/control/1"

// Handler is the node's API, of which the methods say who may.
func (s *Service) Handler() http.Handler {
	mux := api.New(nil)
	mux.Handle("GET /stats", api.Operation{
		Summary: "Returns the node's figures.", Rights: api.Everything(taubyte.VerbRead, taubyte.Roles()...),
	}, api.Answer(func(r *http.Request) (Stats, error) {
		return s.Stats(r.Context())
	}))
	mux.Handle("GET /serving", api.Operation{
		Summary: "Answers when a deployment is served.",
		Query: []api.Parameter{
			{Name: "project", Text: "The project's ID."}, {Name: "branch", Text: "The branch."},
			{Name: "sequence", Text: "The number of the deployment.", Type: uint64(0), Required: true},
		},
		Rights: api.Project(taubyte.VerbRead, taubyte.Roles()...),
	}, api.Act(func(r *http.Request) error {
		q := r.URL.Query()
		project := taubyte.ProjectID(q.Get("project"))
		sequence, err := strconv.ParseUint(q.Get("sequence"), 10, 64)
		if err != nil {
			return cmp.Or(taubyte.Allow(r.Context(), taubyte.VerbRead, project, taubyte.Roles()...), fmt.Errorf("%w sequence: %w", taubyte.ErrInvalid, err))
		}
		return s.Serving(r.Context(), project, taubyte.Branch(q.Get("branch")), sequence)
	}))
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
