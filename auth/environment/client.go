package environment

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
)

// A Source gives environments: auth's service, or a Client of one.
type Source interface {
	// Environment returns the variables, with their values, that functions of a branch
	// may see. ErrForbidden: nothing of the branch is deployed.
	Environment(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch) (Environment, error)
	// WatchEnvironments tells of all projects that have variables, and then of each
	// change. The channel closes when ctx ends or the source goes away.
	WatchEnvironments(ctx context.Context) (<-chan Change, error)
}

// Client is a Source for a node that runs functions. It calls auth on its own host
// directly where there is one. It keeps nothing. It is safe for concurrent use.
type Client struct {
	host taubyte.Host
	rpc  *rpc.Client
}

var _ Source = (*Client)(nil)

// NewClient returns a client. Close it when done.
func NewClient(h taubyte.Host) *Client {
	return &Client{host: h, rpc: rpc.NewClient(h, Protocol, nil)}
}

// Close drops the client's connections.
func (c *Client) Close() error {
	c.rpc.Close()
	return nil
}

func (c *Client) local() Source {
	s, _ := c.host.Local(Protocol).(Source)
	return s
}

// Environment implements Source.
func (c *Client) Environment(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch) (e Environment, err error) {
	if s := c.local(); s != nil {
		return s.Environment(rpc.AsNode(ctx, c.host, taubyte.RoleSubstrate), project, branch)
	}
	err = c.rpc.Call(ctx, http.MethodGet, "/environments/"+url.PathEscape(string(project))+"?branch="+url.QueryEscape(string(branch)), nil, &e)
	return e, err
}

// WatchEnvironments implements Source, by one node that runs auth.
func (c *Client) WatchEnvironments(ctx context.Context) (<-chan Change, error) {
	if s := c.local(); s != nil {
		return s.WatchEnvironments(ctx)
	}
	resp, err := c.rpc.OpenAny(ctx, http.MethodGet, "/environments/watch")
	if err != nil {
		return nil, err
	}
	out := make(chan Change)
	go func() {
		defer close(out)
		body := rpc.Followed(resp.Body, rpc.Silence)
		defer body.Close()
		for lines := json.NewDecoder(body); ; {
			var change Change
			if lines.Decode(&change) != nil {
				return
			}
			select {
			case out <- change:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

// Reachable reports whether a node that runs auth is known, this one included. It is
// answered from memory.
func (c *Client) Reachable() bool {
	if c.local() != nil {
		return true
	}
	if f, ok := c.host.Local(rpc.FinderProtocol).(rpc.Finder); ok && len(f.Find(Protocol)) > 0 {
		return true
	}
	for _, p := range c.host.Network().Peers() {
		if known, err := c.host.Peerstore().SupportsProtocols(p, Protocol); err == nil && len(known) > 0 {
			return true
		}
	}
	return false
}
