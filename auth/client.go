package auth

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth/environment"
	"github.com/taubyte/taubyte/internal/rpc"
)

// Client is auth as another node sees it: as much of it as the node's roles allow.
// It calls auth on its own host directly where there is one. It is safe for
// concurrent use.
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

// CreateProject is Service.CreateProject.
func (c *Client) CreateProject(ctx context.Context, p Project) (Project, error) {
	if s := c.local(); s != nil {
		return s.CreateProject(ctx, p)
	}
	err := c.rpc.Call(ctx, http.MethodPost, "/projects", p, &p)
	return p, err
}

// Project is Service.Project.
func (c *Client) Project(ctx context.Context, id taubyte.ProjectID) (p Project, err error) {
	if s := c.local(); s != nil {
		return s.Project(ctx, id)
	}
	err = c.rpc.Call(ctx, http.MethodGet, projectPath(id), nil, &p)
	return p, err
}

// Projects is Service.Projects.
func (c *Client) Projects(ctx context.Context) (all []Project, err error) {
	if s := c.local(); s != nil {
		return s.Projects(ctx)
	}
	err = c.rpc.Call(ctx, http.MethodGet, "/projects", nil, &all)
	return all, err
}

// DeleteProject is Service.DeleteProject by the providers' own credentials.
func (c *Client) DeleteProject(ctx context.Context, id taubyte.ProjectID) error {
	if s := c.local(); s != nil {
		return s.DeleteProject(ctx, id, "")
	}
	return c.rpc.Call(ctx, http.MethodDelete, projectPath(id), nil, nil)
}

// Register is Service.Register.
func (c *Client) Register(ctx context.Context, r Repository) (Repository, error) {
	if s := c.local(); s != nil {
		return s.Register(ctx, r)
	}
	err := c.rpc.Call(ctx, http.MethodPost, "/repositories", r, &r)
	return r, err
}

// RemoveRepository is Service.RemoveRepository by the provider's own credential.
func (c *Client) RemoveRepository(ctx context.Context, id taubyte.RepositoryID) error {
	if s := c.local(); s != nil {
		return s.RemoveRepository(ctx, id, "")
	}
	return c.rpc.Call(ctx, http.MethodDelete, repositoryPath(id, ""), nil, nil)
}

// ImportCertificate is Service.ImportCertificate.
func (c *Client) ImportCertificate(ctx context.Context, cert, key string) (hosts []string, err error) {
	if s := c.local(); s != nil {
		return s.ImportCertificate(ctx, cert, key)
	}
	err = c.rpc.Call(ctx, http.MethodPost, "/certificates", Certificate{Cert: cert, Key: key}, &hosts)
	return hosts, err
}

// Certificates is Service.Certificates.
func (c *Client) Certificates(ctx context.Context) (all []CertificateInfo, err error) {
	if s := c.local(); s != nil {
		return s.Certificates(ctx)
	}
	err = c.rpc.Call(ctx, http.MethodGet, "/certificates", nil, &all)
	return all, err
}

// RemoveCertificate is Service.RemoveCertificate.
func (c *Client) RemoveCertificate(ctx context.Context, id string) error {
	if s := c.local(); s != nil {
		return s.RemoveCertificate(ctx, id)
	}
	return c.rpc.Call(ctx, http.MethodDelete, "/certificates/"+url.PathEscape(id), nil, nil)
}

// KeepInlineCertificate is Service.KeepInlineCertificate.
func (c *Client) KeepInlineCertificate(ctx context.Context, i InlineCertificate) (reference string, err error) {
	if s := c.local(); s != nil {
		return s.KeepInlineCertificate(ctx, i)
	}
	err = c.rpc.Call(ctx, http.MethodPost, "/certificates/inline", i, &reference)
	return reference, err
}

// SetVariable is Service.SetVariable.
func (c *Client) SetVariable(ctx context.Context, v environment.Variable) (set environment.Variable, err error) {
	if s := c.local(); s != nil {
		return s.SetVariable(ctx, v)
	}
	err = c.rpc.Call(ctx, http.MethodPut, projectPath(v.Project)+"/variables", v, &set)
	return set, err
}

// BuildEnvironment is Service.BuildEnvironment.
func (c *Client) BuildEnvironment(ctx context.Context, r BuildRequest) (all []environment.Variable, err error) {
	if s := c.local(); s != nil {
		return s.BuildEnvironment(ctx, r)
	}
	err = c.rpc.Call(ctx, http.MethodPost, "/environments/build", r, &all)
	return all, err
}

// Repository is Service.Repository.
func (c *Client) Repository(ctx context.Context, id taubyte.RepositoryID) (r Repository, err error) {
	if s := c.local(); s != nil {
		return s.Repository(ctx, id)
	}
	err = c.rpc.Call(ctx, http.MethodGet, repositoryPath(id, ""), nil, &r)
	return r, err
}

// Repositories is Service.Repositories.
func (c *Client) Repositories(ctx context.Context, project taubyte.ProjectID) (all []Repository, err error) {
	if s := c.local(); s != nil {
		return s.Repositories(ctx, project)
	}
	err = c.rpc.Call(ctx, http.MethodGet, "/repositories?project="+url.QueryEscape(string(project)), nil, &all)
	return all, err
}

// Heads is Service.Heads.
func (c *Client) Heads(ctx context.Context, id taubyte.RepositoryID) (heads map[taubyte.Branch]taubyte.Commit, err error) {
	if s := c.local(); s != nil {
		return s.Heads(ctx, id)
	}
	err = c.rpc.Call(ctx, http.MethodGet, repositoryPath(id, "/heads"), nil, &heads)
	return heads, err
}

// Source is Service.Source.
func (c *Client) Source(ctx context.Context, id taubyte.RepositoryID, commit taubyte.Commit, w io.Writer) error {
	if s := c.local(); s != nil {
		return s.Source(ctx, id, commit, w)
	}
	resp, err := c.rpc.OpenAny(ctx, http.MethodGet, repositoryPath(id, "/commits/"+url.PathEscape(string(commit))))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("reading commit %s of %s: %w", commit, id, err)
	}
	return nil
}

// WatchCertificates is Service.WatchCertificates on one node: the channel also
// closes when that node goes away.
func (c *Client) WatchCertificates(ctx context.Context) (<-chan CertificateChange, error) {
	if s := c.local(); s != nil {
		return s.WatchCertificates(rpc.AsNode(ctx, c.host, taubyte.RoleGateway))
	}
	return c.watchCertificates(ctx, "/certificates/watch")
}

// WatchInlineCertificates is Service.WatchInlineCertificates on one node, likewise.
func (c *Client) WatchInlineCertificates(ctx context.Context) (<-chan CertificateChange, error) {
	if s := c.local(); s != nil {
		return s.WatchInlineCertificates(rpc.AsNode(ctx, c.host, taubyte.RoleGateway))
	}
	return c.watchCertificates(ctx, "/certificates/inline/watch")
}

func (c *Client) watchCertificates(ctx context.Context, path string) (<-chan CertificateChange, error) {
	resp, err := c.rpc.OpenAny(ctx, http.MethodGet, path)
	if err != nil {
		return nil, err
	}
	out := make(chan CertificateChange)
	go func() {
		defer close(out)
		body := rpc.Followed(resp.Body, rpc.Silence)
		defer body.Close()
		readCertificates(ctx, body, out)
	}()
	return out, nil
}

// RenewMembership returns the node's own membership, signed anew.
func (c *Client) RenewMembership(ctx context.Context) (signed []byte, err error) {
	if s := c.local(); s != nil {
		m, err := c.host.Member(ctx, c.host.ID())
		if err != nil {
			return nil, err
		}
		return s.Renew(ctx, m)
	}
	err = c.rpc.Call(ctx, http.MethodPost, "/membership", nil, &signed)
	return signed, err
}

// AddMember is Service.AddMember.
func (c *Client) AddMember(ctx context.Context, name string, roles []taubyte.Role, valid time.Duration) (i Invitation, err error) {
	if s := c.local(); s != nil {
		return s.AddMember(ctx, name, roles, valid)
	}
	err = c.rpc.Call(ctx, http.MethodPost, "/members", addition{name, roles, valid}, &i)
	return i, err
}

// Members is Service.Members.
func (c *Client) Members(ctx context.Context) (all []Member, err error) {
	if s := c.local(); s != nil {
		return s.Members(ctx)
	}
	err = c.rpc.Call(ctx, http.MethodGet, "/members", nil, &all)
	return all, err
}

// RenewMember is Service.RenewMember.
func (c *Client) RenewMember(ctx context.Context, who string) (signed []byte, err error) {
	if s := c.local(); s != nil {
		return s.RenewMember(ctx, who)
	}
	err = c.rpc.Call(ctx, http.MethodPost, memberPath(who, "/renewal"), nil, &signed)
	return signed, err
}

// RevokeMember is Service.RevokeMember.
func (c *Client) RevokeMember(ctx context.Context, who string) error {
	if s := c.local(); s != nil {
		return s.RevokeMember(ctx, who)
	}
	return c.rpc.Call(ctx, http.MethodDelete, memberPath(who, ""), nil, nil)
}

// AddRepository is Service.AddRepository.
func (c *Client) AddRepository(ctx context.Context, a Addition) (r Repository, err error) {
	if s := c.local(); s != nil {
		return s.AddRepository(ctx, a)
	}
	err = c.rpc.Call(ctx, http.MethodPost, "/additions", a, &r)
	return r, err
}

// ImportProject is Service.ImportProject.
func (c *Client) ImportProject(ctx context.Context, in Import) (out Imported, err error) {
	if s := c.local(); s != nil {
		return s.ImportProject(ctx, in)
	}
	err = c.rpc.Call(ctx, http.MethodPost, "/imports", in, &out)
	return out, err
}

// Event is Service.Event.
func (c *Client) Event(ctx context.Context, id taubyte.RepositoryID, header http.Header, body []byte) (e Event, err error) {
	if s := c.local(); s != nil {
		return s.Event(ctx, id, header, body)
	}
	err = c.rpc.Call(ctx, http.MethodPost, repositoryPath(id, "/events"), sentEvent{header, body}, &e)
	return e, err
}

// SetStatus is Service.SetStatus.
func (c *Client) SetStatus(ctx context.Context, id taubyte.RepositoryID, commit taubyte.Commit, status Status) error {
	if s := c.local(); s != nil {
		return s.SetStatus(ctx, id, commit, status)
	}
	return c.rpc.Call(ctx, http.MethodPost, repositoryPath(id, "/statuses"), sentStatus{commit, status}, nil)
}

// CreateToken is Service.CreateToken.
func (c *Client) CreateToken(ctx context.Context, t Token) (made NewToken, err error) {
	if s := c.local(); s != nil {
		return s.CreateToken(ctx, t)
	}
	err = c.rpc.Call(ctx, http.MethodPost, "/tokens", t, &made)
	return made, err
}

// Tokens is Service.Tokens.
func (c *Client) Tokens(ctx context.Context) (all []Token, err error) {
	if s := c.local(); s != nil {
		return s.Tokens(ctx)
	}
	err = c.rpc.Call(ctx, http.MethodGet, "/tokens", nil, &all)
	return all, err
}

// RevokeToken is Service.RevokeToken.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	if s := c.local(); s != nil {
		return s.RevokeToken(ctx, id)
	}
	return c.rpc.Call(ctx, http.MethodDelete, "/tokens/"+url.PathEscape(id), nil, nil)
}

// Authenticate is Service.Authenticate.
func (c *Client) Authenticate(ctx context.Context, secret string) (p taubyte.Principal, err error) {
	if s := c.local(); s != nil {
		return s.Authenticate(ctx, secret)
	}
	err = c.rpc.Call(ctx, http.MethodPost, "/tokens/principal", shownToken{secret}, &p)
	return p, err
}
