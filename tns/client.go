package tns

import (
	"bufio"
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/ipfs/go-cid"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
)

// Client is the registry as another node sees it. It calls the registry on its own
// host directly where there is one. It is safe for concurrent use.
type Client struct {
	host taubyte.Host
	rpc  *rpc.Client
}

// NewClient returns a client. Close it when done.
func NewClient(h taubyte.Host) *Client {
	return &Client{host: h, rpc: rpc.NewClient(h, Protocol, nil)}
}

// Close drops the client's connections.
func (c *Client) Close() error {
	c.rpc.Close()
	return nil
}

func (c *Client) local() *Service {
	s, _ := c.host.Local(Protocol).(*Service)
	return s
}

// Publish is Service.Publish.
func (c *Client) Publish(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch, part Part) (*Deployment, error) {
	if s := c.local(); s != nil {
		return s.Publish(ctx, project, branch, part)
	}
	d := new(Deployment)
	err := c.rpc.Call(ctx, http.MethodPost, branchPath(project, branch, "/parts"), part, d)
	return d, err
}

// Remove is Service.Remove.
func (c *Client) Remove(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch) error {
	if s := c.local(); s != nil {
		return s.Remove(ctx, project, branch)
	}
	return c.rpc.Call(ctx, http.MethodDelete, branchPath(project, branch, ""), nil, nil)
}

// RemoveProject is Service.RemoveProject.
func (c *Client) RemoveProject(ctx context.Context, project taubyte.ProjectID) error {
	if s := c.local(); s != nil {
		return s.RemoveProject(ctx, project)
	}
	return c.rpc.Call(ctx, http.MethodDelete, "/projects/"+url.PathEscape(string(project)), nil, nil)
}

// Rollback is Service.Rollback.
func (c *Client) Rollback(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch, sequence uint64) (*Deployment, error) {
	if s := c.local(); s != nil {
		return s.Rollback(ctx, project, branch, sequence)
	}
	d := new(Deployment)
	err := c.rpc.Call(ctx, http.MethodPost, branchPath(project, branch, "/rollback?sequence="+strconv.FormatUint(sequence, 10)), nil, d)
	return d, err
}

// Current is Service.Current.
func (c *Client) Current(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch) (*Deployment, error) {
	if s := c.local(); s != nil {
		return s.Current(ctx, project, branch)
	}
	d := new(Deployment)
	if err := c.rpc.Call(ctx, http.MethodGet, branchPath(project, branch, ""), nil, d); err != nil {
		return nil, err
	}
	return d, nil
}

// History is Service.History.
func (c *Client) History(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch) (all []*Deployment, err error) {
	if s := c.local(); s != nil {
		return s.History(ctx, project, branch)
	}
	err = c.rpc.Call(ctx, http.MethodGet, branchPath(project, branch, "/history"), nil, &all)
	return all, err
}

// Projects is Service.Projects.
func (c *Client) Projects(ctx context.Context) (all []Summary, err error) {
	if s := c.local(); s != nil {
		return s.Projects(ctx)
	}
	err = c.rpc.Call(ctx, http.MethodGet, "/projects", nil, &all)
	return all, err
}

// Find is Service.Find.
func (c *Client) Find(ctx context.Context, what string) (all []Summary, err error) {
	if s := c.local(); s != nil {
		return s.Find(ctx, what)
	}
	err = c.rpc.Call(ctx, http.MethodGet, "/projects?find="+url.QueryEscape(what), nil, &all)
	return all, err
}

// Diff is Service.Diff.
func (c *Client) Diff(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch, from, to string) (*Diff, error) {
	if s := c.local(); s != nil {
		return s.Diff(ctx, project, branch, from, to)
	}
	d := new(Diff)
	if err := c.rpc.Call(ctx, http.MethodGet, branchPath(project, branch, "/diff?from="+url.QueryEscape(from)+"&to="+url.QueryEscape(to)), nil, d); err != nil {
		return nil, err
	}
	return d, nil
}

// Assets is Service.Assets.
func (c *Client) Assets(ctx context.Context, project taubyte.ProjectID) (all []cid.Cid, err error) {
	if s := c.local(); s != nil {
		return s.Assets(ctx, project)
	}
	err = c.rpc.Call(ctx, http.MethodGet, "/projects/"+url.PathEscape(string(project))+"/assets", nil, &all)
	return all, err
}

// Verify is Service.Verify.
func (c *Client) Verify(ctx context.Context, project taubyte.ProjectID, host string, verified bool) error {
	if s := c.local(); s != nil {
		return s.Verify(ctx, project, host, verified)
	}
	method := http.MethodPut
	if !verified {
		method = http.MethodDelete
	}
	return c.rpc.Call(ctx, method, "/hosts/"+url.PathEscape(host)+"/owners/"+url.PathEscape(string(project)), nil, nil)
}

// Claims is Service.Claims.
func (c *Client) Claims(ctx context.Context, host string) (all []Claim, err error) {
	if s := c.local(); s != nil {
		return s.Claims(ctx, host)
	}
	err = c.rpc.Call(ctx, http.MethodGet, "/hosts/"+url.PathEscape(host), nil, &all)
	return all, err
}

// Conflicts is Service.Conflicts.
func (c *Client) Conflicts(ctx context.Context, project taubyte.ProjectID) (all []Claim, err error) {
	if s := c.local(); s != nil {
		return s.Conflicts(ctx, project)
	}
	err = c.rpc.Call(ctx, http.MethodGet, "/projects/"+url.PathEscape(string(project))+"/conflicts", nil, &all)
	return all, err
}

// Watch is Service.Watch on one node: the channel also closes when that node goes
// away. Watch again with the last token then.
func (c *Client) Watch(ctx context.Context, after string) (<-chan Change, error) {
	return c.WatchProject(ctx, "", "", after)
}

// WatchProject is Service.WatchProject, as Watch is.
func (c *Client) WatchProject(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch, after string) (<-chan Change, error) {
	if s := c.local(); s != nil {
		return s.WatchProject(ctx, project, branch, after)
	}
	q := url.Values{"after": {after}, "project": {string(project)}, "branch": {string(branch)}}
	resp, err := c.rpc.OpenAny(ctx, http.MethodGet, "/watch?"+q.Encode())
	if err != nil {
		return nil, err
	}
	out := make(chan Change)
	go func() {
		defer close(out)
		body := rpc.Followed(resp.Body, rpc.Silence)
		defer body.Close()
		lines := bufio.NewReaderSize(body, 64<<10)
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				return
			}
			if len(line) == 1 {
				continue // it is still there
			}
			change, err := unmarshal[Change](line)
			if err != nil {
				return
			}
			select {
			case out <- *change:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}
