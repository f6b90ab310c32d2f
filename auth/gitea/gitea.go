// Package gitea is Gitea, and Forgejo, as a git provider of package auth.
//
//	provider, err := gitea.New("https://git.example.com", token)
//	service, err := auth.New(ctx, host, store, auth.WithProvider(provider))
//
// A repository is known by its numeric id, "gitea/<id>". Its source is read over ssh by
// its deploy key where the keys that the server may show are known (WithHostKeys), and
// otherwise over HTTP with the token, by the git program of the machine.
//
// A server that wants fewer calls (429) is heeded as package github says.
package gitea

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	sdk "code.gitea.io/sdk/gitea"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/internal/forge"
)

// Option changes what New makes.
type Option func(*Provider)

// WithName sets the provider's name, which is part of the ids of its repositories. The
// default is "gitea". A second server needs another.
func WithName(name string) Option { return func(p *Provider) { p.name = name } }

// WithHostKeys sets the keys that the server may show over ssh, each as
// "ssh-ed25519 AAAA…". Without them sources are read over HTTP.
func WithHostKeys(keys ...string) Option { return func(p *Provider) { p.hostKeys = keys } }

// Provider is a Gitea server. It is safe for concurrent use and has nothing to close.
type Provider struct {
	name, url, token string
	hostKeys         []string
	http             *http.Client
	fetcher          *forge.Fetcher
	heads            forge.Heads
}

var (
	_ auth.Provider           = (*Provider)(nil)
	_ auth.RepositoryProvider = (*Provider)(nil)
	_ auth.EventProvider      = (*Provider)(nil)
	_ auth.StatusProvider     = (*Provider)(nil)
	_ auth.AccountProvider    = (*Provider)(nil)
)

// New returns a provider that acts by an access token, with the scopes write:repository
// and read:user. It makes no call.
func New(server, token string, opts ...Option) (*Provider, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%w URL of a Gitea server %q", taubyte.ErrInvalid, server)
	}
	if token == "" {
		return nil, fmt.Errorf("%w gitea: it takes a token", taubyte.ErrInvalid)
	}
	p := &Provider{name: "gitea", url: strings.TrimRight(server, "/"), token: token, fetcher: forge.NewFetcher()}
	for _, o := range opts {
		o(p)
	}
	if p.name == "" || strings.ContainsAny(p.name, "/ ") {
		return nil, fmt.Errorf("%w name of a git provider %q", taubyte.ErrInvalid, p.name)
	}
	p.http = &http.Client{
		Transport: &forge.Limiter{Base: http.DefaultTransport, Clock: forge.SystemClock()},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if req.URL.Host != via[0].URL.Host || len(via) > 5 {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}
	return p, nil
}

// Name implements auth.Provider.
func (p *Provider) Name() string { return p.name }

func (p *Provider) client(ctx context.Context, credential string) (*sdk.Client, error) {
	if credential == "" {
		credential = p.token
	}
	c, err := sdk.NewClient(p.url, sdk.SetContext(ctx), sdk.SetHTTPClient(p.http), sdk.SetToken(credential), sdk.SetGiteaVersion(""))
	if err != nil {
		return nil, fmt.Errorf("%w gitea: %w", taubyte.ErrInvalid, err)
	}
	return c, nil
}

// failed returns what an error of the API means.
func failed(what string, resp *sdk.Response, err error) error {
	status := 0
	if resp != nil && resp.Response != nil {
		status = resp.StatusCode
	}
	return forge.Error("gitea: "+what, status, err)
}

// open returns the API by the remote's credential, and the repository as it is now.
func (p *Provider) open(ctx context.Context, r auth.Remote) (*sdk.Client, *sdk.Repository, error) {
	c, err := p.client(ctx, r.Credential)
	if err != nil {
		return nil, nil, err
	}
	var repo *sdk.Repository
	var resp *sdk.Response
	if r.ID != "" {
		id, bad := strconv.ParseInt(r.ID, 10, 64)
		if bad != nil || id <= 0 {
			return nil, nil, fmt.Errorf("%w id of a Gitea repository %q: it is a number", taubyte.ErrInvalid, r.ID)
		}
		repo, resp, err = c.GetRepoByID(id)
	} else {
		owner, name, ok := strings.Cut(r.Name, "/")
		if !ok || owner == "" || name == "" || strings.Contains(name, "/") {
			return nil, nil, fmt.Errorf("%w name of a Gitea repository %q: it is <owner>/<name>", taubyte.ErrInvalid, r.Name)
		}
		repo, resp, err = c.GetRepo(owner, name)
	}
	if err == nil && (repo == nil || repo.ID <= 0 || repo.Owner == nil) {
		err = fmt.Errorf("the answer names no repository")
	}
	if err != nil {
		return nil, nil, failed("looking up repository "+r.ID+" "+r.Name, resp, err)
	}
	return c, repo, nil
}

// Repository implements auth.RepositoryProvider.
func (p *Provider) Repository(ctx context.Context, r auth.Remote) (auth.RemoteRepository, error) {
	_, repo, err := p.open(ctx, r)
	if err != nil {
		return auth.RemoteRepository{}, err
	}
	return auth.RemoteRepository{
		ID: strconv.FormatInt(repo.ID, 10), Name: repo.FullName, DefaultBranch: taubyte.Branch(repo.DefaultBranch),
		Administered: repo.Permissions != nil && repo.Permissions.Admin,
	}, nil
}

const perPage = 50 // the most that a server gives by default

// AddKey implements auth.RepositoryProvider.
func (p *Provider) AddKey(ctx context.Context, r auth.Remote, title, public string) error {
	c, repo, err := p.open(ctx, r)
	if err != nil {
		return err
	}
	there, err := deployKeys(c, repo, public)
	if err != nil || len(there) > 0 {
		return err
	}
	_, resp, err := c.CreateDeployKey(repo.Owner.UserName, repo.Name, sdk.CreateKeyOption{Title: title + " " + strings.Fields(public)[1][max(0, len(strings.Fields(public)[1])-8):], Key: public, ReadOnly: true})
	return failed("adding a deploy key to "+repo.FullName, resp, err)
}

// RemoveKey implements auth.RepositoryProvider.
func (p *Provider) RemoveKey(ctx context.Context, r auth.Remote, public string) error {
	c, repo, err := p.open(ctx, r)
	if err != nil {
		return err
	}
	there, err := deployKeys(c, repo, public)
	if err != nil {
		return err
	}
	for _, id := range there {
		if resp, err := c.DeleteDeployKey(repo.Owner.UserName, repo.Name, id); err != nil && (resp == nil || resp.StatusCode != http.StatusNotFound) {
			return failed("removing a deploy key of "+repo.FullName, resp, err)
		}
	}
	return nil
}

// deployKeys lists the deploy keys that are this public key.
func deployKeys(c *sdk.Client, repo *sdk.Repository, public string) (ids []int64, err error) {
	for page := 1; page != 0; {
		keys, resp, err := c.ListDeployKeys(repo.Owner.UserName, repo.Name, sdk.ListDeployKeysOptions{ListOptions: sdk.ListOptions{Page: page, PageSize: perPage}})
		if err != nil {
			return nil, failed("listing the deploy keys of "+repo.FullName, resp, err)
		}
		for _, k := range keys {
			a, b := strings.Fields(k.Key), strings.Fields(public)
			if len(a) >= 2 && len(b) >= 2 && a[1] == b[1] {
				ids = append(ids, k.ID)
			}
		}
		page = resp.NextPage
	}
	return ids, nil
}

// events are what a webhook is told of.
var events = []string{"push", "create", "delete", "pull_request"}

// SetWebhook implements auth.RepositoryProvider.
func (p *Provider) SetWebhook(ctx context.Context, r auth.Remote, url, secret string) error {
	c, repo, err := p.open(ctx, r)
	if err != nil {
		return err
	}
	config := map[string]string{"url": url, "content_type": "json", "secret": secret}
	there, err := webhooks(c, repo, url)
	if err != nil {
		return err
	}
	_, resp, err := c.CreateRepoHook(repo.Owner.UserName, repo.Name, sdk.CreateHookOption{Type: sdk.HookTypeGitea, Config: config, Events: events, Active: true})
	if err != nil {
		return failed("adding a webhook to "+repo.FullName, resp, err)
	}
	// The secret of one that is there can't be changed: another takes its place.
	return remove(c, repo, there)
}

// RemoveWebhook implements auth.RepositoryProvider.
func (p *Provider) RemoveWebhook(ctx context.Context, r auth.Remote, url string) error {
	c, repo, err := p.open(ctx, r)
	if err != nil {
		return err
	}
	there, err := webhooks(c, repo, url)
	if err != nil {
		return err
	}
	return remove(c, repo, there)
}

func remove(c *sdk.Client, repo *sdk.Repository, webhooks []int64) error {
	for _, id := range webhooks {
		if resp, err := c.DeleteRepoHook(repo.Owner.UserName, repo.Name, id); err != nil && (resp == nil || resp.StatusCode != http.StatusNotFound) {
			return failed("removing the webhook of "+repo.FullName, resp, err)
		}
	}
	return nil
}

// webhooks lists the webhooks of a URL.
func webhooks(c *sdk.Client, repo *sdk.Repository, url string) (ids []int64, err error) {
	for page := 1; page != 0; {
		hooks, resp, err := c.ListRepoHooks(repo.Owner.UserName, repo.Name, sdk.ListHooksOptions{ListOptions: sdk.ListOptions{Page: page, PageSize: perPage}})
		if err != nil {
			return nil, failed("listing the webhooks of "+repo.FullName, resp, err)
		}
		for _, h := range hooks {
			if h.Config["url"] == url {
				ids = append(ids, h.ID)
			}
		}
		page = resp.NextPage
	}
	return ids, nil
}

// Event implements auth.EventProvider.
func (p *Provider) Event(header http.Header, body []byte, secrets ...string) (auth.Event, error) {
	return forge.Webhooks{Provider: p.name, Event: "X-Gitea-Event", Delivery: "X-Gitea-Delivery", Signature: "X-Gitea-Signature"}.Read(header, body, secrets...)
}

// SetStatus implements auth.StatusProvider.
func (p *Provider) SetStatus(ctx context.Context, r auth.Remote, commit taubyte.Commit, s auth.Status) error {
	c, repo, err := p.open(ctx, r)
	if err != nil {
		return err
	}
	text := []rune(s.Description)
	_, resp, err := c.CreateStatus(repo.Owner.UserName, repo.Name, string(commit), sdk.CreateStatusOption{
		State: sdk.StatusState(s.State), TargetURL: s.URL, Context: s.Context, Description: string(text[:min(len(text), 140)]),
	})
	return failed("setting the status of commit "+string(commit), resp, err)
}

// Account implements auth.AccountProvider.
func (p *Provider) Account(ctx context.Context, credential string) (auth.Account, error) {
	c, err := p.client(ctx, credential)
	if err != nil {
		return auth.Account{}, err
	}
	u, resp, err := c.GetMyUserInfo()
	if err != nil {
		return auth.Account{}, failed("asking whose a token is", resp, err)
	}
	return auth.Account{ID: strconv.FormatInt(u.ID, 10), Name: u.UserName}, nil
}

// Heads implements auth.Provider.
func (p *Provider) Heads(ctx context.Context, r auth.Remote) (map[taubyte.Branch]taubyte.Commit, error) {
	c, repo, err := p.open(ctx, r)
	if err != nil {
		return nil, err
	}
	return p.heads.List(ctx, r.ID, &lister{c, repo, map[int]forge.Page{}})
}

type lister struct {
	client *sdk.Client
	repo   *sdk.Repository
	last   map[int]forge.Page // by number
}

func (l *lister) Page(_ context.Context, number int) (forge.Page, bool, error) {
	branches, resp, err := l.client.ListRepoBranches(l.repo.Owner.UserName, l.repo.Name, sdk.ListRepoBranchesOptions{ListOptions: sdk.ListOptions{Page: number, PageSize: perPage}})
	if err == nil && branches == nil {
		err = fmt.Errorf("the answer is no list")
	}
	if err != nil {
		return forge.Page{}, false, failed("listing the branches of "+l.repo.FullName, resp, err)
	}
	now := forge.Page{Branches: map[taubyte.Branch]taubyte.Commit{}, Full: len(branches) >= perPage, Next: resp.NextPage}
	for _, b := range branches {
		if b.Name == "" || b.Commit == nil || b.Commit.ID == "" {
			return forge.Page{}, false, fmt.Errorf("%w: gitea: a branch of %s without a name or a commit", taubyte.ErrUnavailable, l.repo.FullName)
		}
		now.Branches[taubyte.Branch(b.Name)] = taubyte.Commit(b.Commit.ID)
	}
	last, known := l.last[number]
	l.last[number] = now
	return now, !known || last.Next != now.Next || !maps.Equal(last.Branches, now.Branches), nil
}

func (l *lister) Branch(_ context.Context, b taubyte.Branch) (taubyte.Commit, error) {
	branch, resp, err := l.client.GetRepoBranch(l.repo.Owner.UserName, l.repo.Name, string(b))
	if err == nil && (branch == nil || branch.Commit == nil) {
		err = fmt.Errorf("the answer names no commit")
	}
	if err != nil {
		return "", failed("asking for branch "+string(b)+" of "+l.repo.FullName, resp, err)
	}
	return taubyte.Commit(branch.Commit.ID), nil
}

// Source implements auth.Provider.
func (p *Provider) Source(ctx context.Context, r auth.Remote, commit taubyte.Commit, w io.Writer) error {
	_, repo, err := p.open(ctx, r)
	if err != nil {
		return err
	}
	from := forge.Source{URL: repo.SSHURL, Commit: commit, Key: r.Key, KnownHosts: p.hostKeys}
	if len(r.Key) == 0 || len(p.hostKeys) == 0 {
		from.Key, from.URL, from.User, from.Password = nil, repo.CloneURL, "taubyte", r.Credential
		if r.Credential == "" {
			from.Password = p.token
		}
	}
	return p.fetcher.Tar(ctx, from, w)
}
