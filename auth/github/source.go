package github

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	gh "github.com/google/go-github/v60/github"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/internal/forge"
)

// seen is the name that a repository had at a time.
type seen struct {
	owner, name string
	at          time.Time
}

// nameFor is how long a name is taken for a repository's while nothing of it changes.
const nameFor = 10 * time.Minute

// maxPages bounds how many pages are remembered. One that is not costs a request that
// counts.
const maxPages = 50_000

type pageID struct {
	repository string
	number     int
}

// page is an answer and the tag to ask for another by.
type page struct {
	seen
	etag string
	forge.Page
}

// Heads implements auth.Provider.
func (p *Provider) Heads(ctx context.Context, r auth.Remote) (map[taubyte.Branch]taubyte.Commit, error) {
	c, err := p.client(r.Credential)
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		p.mu.Lock()
		named, known := p.names[r.ID]
		p.mu.Unlock()
		checked := !known || p.o.clock.Now().Sub(named.at) > nameFor
		if checked {
			repo, err := p.find(ctx, c, r)
			if err != nil {
				return nil, err
			}
			named = seen{owner: owner(repo), name: repo.GetName()}
		}
		l := &lister{p: p, client: c, id: r.ID, seen: named, own: r.Credential == ""}
		heads, err := p.heads.List(ctx, r.ID, l)
		// Another repository may have the name by now. What did not change is the
		// repository's, whoever has the name.
		if checked || err == nil && !l.changed || err != nil && !errors.Is(err, taubyte.ErrNotFound) {
			return heads, err
		}
		repo, ferr := p.find(ctx, c, r)
		if ferr != nil {
			return nil, ferr
		}
		if owner(repo) == named.owner && repo.GetName() == named.name {
			return heads, err
		}
		if try == 3 {
			return nil, fmt.Errorf("%w: repository %s was renamed each time that it was read", taubyte.ErrUnavailable, r.ID)
		}
	}
}

// lister reads the branches of a repository under a name.
type lister struct {
	p      *Provider
	client *gh.Client
	id     string
	seen
	own     bool // by the provider's own credential: answers are remembered
	changed bool
}

func (l *lister) Page(ctx context.Context, number int) (forge.Page, bool, error) {
	path := fmt.Sprintf("repos/%s/%s/branches?per_page=%d&page=%d", url.PathEscape(l.owner), url.PathEscape(l.name), perPage, number)
	req, err := l.client.NewRequest(http.MethodGet, path, nil)
	if err != nil {
		return forge.Page{}, false, err
	}
	at := pageID{l.id, number}
	l.p.mu.Lock()
	last, known := l.p.pages[at]
	l.p.mu.Unlock()
	known = known && l.own && last.owner == l.owner && last.name == l.name
	if known {
		req.Header.Set("If-None-Match", last.etag)
	}
	var branches []*gh.Branch
	resp, err := l.client.Do(ctx, req, &branches)
	if known && resp != nil && resp.StatusCode == http.StatusNotModified {
		return last.Page, false, nil
	}
	l.changed = true
	if err == nil && branches == nil {
		err = errors.New("the answer is no list")
	}
	if err != nil {
		return forge.Page{}, false, failed("listing the branches of "+l.owner+"/"+l.name, resp, err)
	}
	now := forge.Page{Branches: map[taubyte.Branch]taubyte.Commit{}, Full: len(branches) >= perPage, Next: resp.NextPage}
	for _, b := range branches {
		if b.GetName() == "" || b.GetCommit().GetSHA() == "" {
			return forge.Page{}, false, fmt.Errorf("%w: github: a branch of %s/%s without a name or a commit", taubyte.ErrUnavailable, l.owner, l.name)
		}
		now.Branches[taubyte.Branch(b.GetName())] = taubyte.Commit(b.GetCommit().GetSHA())
	}
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	if etag := resp.Header.Get("ETag"); l.own && etag != "" {
		evict(l.p.pages, maxPages)
		l.p.pages[at] = page{l.seen, etag, now}
	}
	return now, true, nil
}

func (l *lister) Branch(ctx context.Context, b taubyte.Branch) (taubyte.Commit, error) {
	l.changed = true
	branch, resp, err := l.client.Repositories.GetBranch(ctx, l.owner, l.name, string(b), 1)
	if err != nil {
		return "", failed("asking for branch "+string(b)+" of "+l.owner+"/"+l.name, resp, err)
	}
	// A renamed branch answers under its old name too.
	if branch.GetName() != string(b) {
		return "", fmt.Errorf("%w: branch %s is %s now", taubyte.ErrNotFound, b, branch.GetName())
	}
	return taubyte.Commit(branch.GetCommit().GetSHA()), nil
}

// hostKeys are those that the API publishes.
type hostKeys struct {
	keys []string
	at   time.Time
}

const hostKeysFor = time.Hour

// knownHosts returns the keys that the host may show over ssh.
func (p *Provider) knownHosts(ctx context.Context, c *gh.Client) ([]string, error) {
	if len(p.o.hostKeys) > 0 {
		return p.o.hostKeys, nil
	}
	now := p.o.clock.Now()
	p.mu.Lock()
	have := p.keys
	p.mu.Unlock()
	if have.keys != nil && now.Sub(have.at) < hostKeysFor {
		return have.keys, nil
	}
	meta, resp, err := c.Meta.Get(ctx)
	if err != nil {
		return nil, failed("asking for the host's keys", resp, err)
	}
	have = hostKeys{append([]string{}, meta.SSHKeys...), now}
	p.mu.Lock()
	p.keys = have
	p.mu.Unlock()
	return have.keys, nil
}

// Source implements auth.Provider.
func (p *Provider) Source(ctx context.Context, r auth.Remote, commit taubyte.Commit, w io.Writer) error {
	c, repo, err := p.open(ctx, r)
	if err != nil {
		return err
	}
	from := forge.Source{URL: repo.GetSSHURL(), Commit: commit, Key: r.Key}
	if len(r.Key) > 0 {
		if from.KnownHosts, err = p.knownHosts(ctx, c); err != nil {
			return err
		}
	}
	if len(from.KnownHosts) == 0 {
		from.Key, from.URL, from.User, from.Password = nil, repo.GetCloneURL(), "x-access-token", r.Credential
		if r.Credential == "" {
			t, err := p.o.token.Token()
			if err != nil {
				return fmt.Errorf("%w: a token for GitHub: %w", taubyte.ErrUnavailable, err)
			}
			from.Password = t.AccessToken
		}
	}
	return p.fetcher.Tar(ctx, from, w)
}
