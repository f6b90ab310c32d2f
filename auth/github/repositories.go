package github

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	gh "github.com/google/go-github/v60/github"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
)

// events are what a webhook is told of.
var events = []string{"push", "create", "delete", "pull_request"}

const perPage = 100

// find looks a repository up, by its id if it has one.
func (p *Provider) find(ctx context.Context, c *gh.Client, r auth.Remote) (*gh.Repository, error) {
	var repo *gh.Repository
	var resp *gh.Response
	var err error
	if r.ID != "" {
		id, bad := strconv.ParseInt(r.ID, 10, 64)
		if bad != nil || id <= 0 {
			return nil, fmt.Errorf("%w id of a GitHub repository %q: it is a number", taubyte.ErrInvalid, r.ID)
		}
		repo, resp, err = p.byID(ctx, c, r)
		if err == nil && repo.GetID() != id {
			err = fmt.Errorf("the repository of id %d is said to be %d", id, repo.GetID())
		}
	} else {
		owner, name, ok := strings.Cut(r.Name, "/")
		if !ok || owner == "" || name == "" || strings.Contains(name, "/") {
			return nil, fmt.Errorf("%w name of a GitHub repository %q: it is <owner>/<name>", taubyte.ErrInvalid, r.Name)
		}
		repo, resp, err = c.Repositories.Get(ctx, owner, name)
	}
	if err != nil {
		return nil, failed("looking up repository "+r.ID+" "+r.Name, resp, err)
	}
	if repo.GetID() <= 0 || owner(repo) == "" || repo.GetName() == "" {
		return nil, fmt.Errorf("%w: GitHub's answer names no repository", taubyte.ErrUnavailable)
	}
	p.mu.Lock()
	evict(p.names, maxPages)
	p.names[strconv.FormatInt(repo.GetID(), 10)] = seen{owner(repo), repo.GetName(), p.o.clock.Now()}
	p.mu.Unlock()
	return repo, nil
}

// lookUp is an answer and the tag to ask for another by.
type lookUp struct {
	etag string
	repo *gh.Repository
}

// byID looks a repository up by its id: by the provider's own credential conditionally,
// which costs nothing while nothing changed.
func (p *Provider) byID(ctx context.Context, c *gh.Client, r auth.Remote) (*gh.Repository, *gh.Response, error) {
	req, err := c.NewRequest(http.MethodGet, "repositories/"+r.ID, nil)
	if err != nil {
		return nil, nil, err
	}
	p.mu.Lock()
	last, known := p.looks[r.ID]
	p.mu.Unlock()
	known = known && r.Credential == ""
	if known {
		req.Header.Set("If-None-Match", last.etag)
	}
	repo := new(gh.Repository)
	resp, err := c.Do(ctx, req, repo)
	if known && resp != nil && resp.StatusCode == http.StatusNotModified {
		return last.repo, resp, nil
	}
	if err == nil && r.Credential == "" && resp.Header.Get("ETag") != "" {
		p.mu.Lock()
		evict(p.looks, maxLooks)
		p.looks[r.ID] = lookUp{resp.Header.Get("ETag"), repo}
		p.mu.Unlock()
	}
	return repo, resp, err
}

// maxLooks bounds how many look-ups are remembered, of some kilobytes each.
const maxLooks = 10_000

// evict makes room for one more in a map of at most so many.
func evict[K comparable, V any](m map[K]V, most int) {
	for old := range m {
		if len(m) < most {
			return
		}
		delete(m, old)
	}
}

// open returns the API by the remote's credential, and the repository as it is now.
func (p *Provider) open(ctx context.Context, r auth.Remote) (*gh.Client, *gh.Repository, error) {
	c, err := p.client(r.Credential)
	if err != nil {
		return nil, nil, err
	}
	repo, err := p.find(ctx, c, r)
	return c, repo, err
}

func owner(r *gh.Repository) string { return r.GetOwner().GetLogin() }

// Repository implements auth.RepositoryProvider.
func (p *Provider) Repository(ctx context.Context, r auth.Remote) (auth.RemoteRepository, error) {
	_, repo, err := p.open(ctx, r)
	if err != nil {
		return auth.RemoteRepository{}, err
	}
	return auth.RemoteRepository{
		ID: strconv.FormatInt(repo.GetID(), 10), Name: owner(repo) + "/" + repo.GetName(),
		DefaultBranch: taubyte.Branch(repo.GetDefaultBranch()),
		Administered:  repo.GetPermissions()["admin"] || r.Credential == "" && p.app != nil && p.app.administers(),
	}, nil
}

// AddKey implements auth.RepositoryProvider.
func (p *Provider) AddKey(ctx context.Context, r auth.Remote, title, public string) error {
	c, repo, err := p.open(ctx, r)
	if err != nil {
		return err
	}
	there, err := p.deployKeys(ctx, c, repo, public)
	if err != nil || len(there) > 0 {
		return err
	}
	_, resp, err := c.Repositories.CreateKey(ctx, owner(repo), repo.GetName(), &gh.Key{Title: &title, Key: &public, ReadOnly: gh.Bool(true)})
	return failed("adding a deploy key to "+repo.GetFullName(), resp, err)
}

// RemoveKey implements auth.RepositoryProvider.
func (p *Provider) RemoveKey(ctx context.Context, r auth.Remote, public string) error {
	c, repo, err := p.open(ctx, r)
	if err != nil {
		return err
	}
	there, err := p.deployKeys(ctx, c, repo, public)
	if err != nil {
		return err
	}
	for _, id := range there {
		resp, err := c.Repositories.DeleteKey(ctx, owner(repo), repo.GetName(), id)
		if err != nil && !gone(resp) {
			return failed("removing a deploy key of "+repo.GetFullName(), resp, err)
		}
	}
	return nil
}

// deployKeys lists the deploy keys that are this public key.
func (p *Provider) deployKeys(ctx context.Context, c *gh.Client, repo *gh.Repository, public string) (ids []int64, err error) {
	for page := 1; page != 0; {
		keys, resp, err := c.Repositories.ListKeys(ctx, owner(repo), repo.GetName(), &gh.ListOptions{Page: page, PerPage: perPage})
		if err != nil {
			return nil, failed("listing the deploy keys of "+repo.GetFullName(), resp, err)
		}
		for _, k := range keys {
			if sameKey(k.GetKey(), public) {
				ids = append(ids, k.GetID())
			}
		}
		page = resp.NextPage
	}
	return ids, nil
}

// sameKey compares public keys without their comments.
func sameKey(a, b string) bool {
	x, y := strings.Fields(a), strings.Fields(b)
	return len(x) >= 2 && len(y) >= 2 && x[0] == y[0] && x[1] == y[1]
}

// SetWebhook implements auth.RepositoryProvider.
func (p *Provider) SetWebhook(ctx context.Context, r auth.Remote, url, secret string) error {
	c, repo, err := p.open(ctx, r)
	if err != nil {
		return err
	}
	hook := &gh.Hook{Active: gh.Bool(true), Events: events, Config: &gh.HookConfig{
		URL: &url, Secret: &secret, ContentType: gh.String("json"), InsecureSSL: gh.String("0"),
	}}
	there, err := p.webhooks(ctx, c, repo, url)
	if err != nil {
		return err
	}
	for _, id := range there {
		_, resp, err := c.Repositories.EditHook(ctx, owner(repo), repo.GetName(), id, hook)
		if err != nil {
			return failed("changing the webhook of "+repo.GetFullName(), resp, err)
		}
	}
	if len(there) > 0 {
		return nil
	}
	_, resp, err := c.Repositories.CreateHook(ctx, owner(repo), repo.GetName(), hook)
	return failed("adding a webhook to "+repo.GetFullName(), resp, err)
}

// RemoveWebhook implements auth.RepositoryProvider.
func (p *Provider) RemoveWebhook(ctx context.Context, r auth.Remote, url string) error {
	c, repo, err := p.open(ctx, r)
	if err != nil {
		return err
	}
	there, err := p.webhooks(ctx, c, repo, url)
	if err != nil {
		return err
	}
	for _, id := range there {
		resp, err := c.Repositories.DeleteHook(ctx, owner(repo), repo.GetName(), id)
		if err != nil && !gone(resp) {
			return failed("removing the webhook of "+repo.GetFullName(), resp, err)
		}
	}
	return nil
}

// webhooks lists the webhooks of a URL.
func (p *Provider) webhooks(ctx context.Context, c *gh.Client, repo *gh.Repository, url string) (ids []int64, err error) {
	for page := 1; page != 0; {
		hooks, resp, err := c.Repositories.ListHooks(ctx, owner(repo), repo.GetName(), &gh.ListOptions{Page: page, PerPage: perPage})
		if err != nil {
			return nil, failed("listing the webhooks of "+repo.GetFullName(), resp, err)
		}
		for _, h := range hooks {
			if h.GetConfig().GetURL() == url {
				ids = append(ids, h.GetID())
			}
		}
		page = resp.NextPage
	}
	return ids, nil
}

func gone(resp *gh.Response) bool { return resp != nil && resp.StatusCode == http.StatusNotFound }
