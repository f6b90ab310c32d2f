package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	gh "github.com/google/go-github/v60/github"
	"golang.org/x/oauth2"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/internal/forge"
)

// Option changes what New makes.
type Option func(*options)

type options struct {
	name       string
	enterprise string
	token      oauth2.TokenSource
	app        *app
	hostKeys   []string
	transport  http.RoundTripper
	clock      forge.Clock
}

// WithToken has the provider act by a personal access token or an OAuth token.
func WithToken(token string) Option {
	return WithTokenSource(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: token}))
}

// WithTokenSource has the provider act by a token that may change: that of an OAuth app
// which is refreshed, for example. The source is asked for each request, from many
// goroutines.
func WithTokenSource(s oauth2.TokenSource) Option { return func(o *options) { o.token = s } }

// WithApp has the provider act as an installation of a GitHub App, whose private key is
// given in PEM. Tokens are taken out for an hour, and renewed.
func WithApp(id, installation int64, key []byte) Option {
	return func(o *options) { o.app = &app{id: id, installation: installation, pem: key} }
}

// WithEnterprise sets the URL of a GitHub Enterprise server, "https://github.example.com".
// The default is github.com.
func WithEnterprise(url string) Option { return func(o *options) { o.enterprise = url } }

// WithName sets the provider's name, which is part of the ids of its repositories. The
// default is "github". A second GitHub needs another.
func WithName(name string) Option { return func(o *options) { o.name = name } }

// WithHostKeys sets the keys that the host of the repositories may show over ssh, each
// as "ssh-ed25519 AAAA…". The default is what the API publishes. An Enterprise server that
// publishes none, without this option, is read over HTTPS.
func WithHostKeys(keys ...string) Option { return func(o *options) { o.hostKeys = keys } }

// WithTransport sets what HTTP requests go through. The default is http.DefaultTransport.
func WithTransport(t http.RoundTripper) Option { return func(o *options) { o.transport = t } }

// WithClock sets the time that limits and tokens are kept by, and how to wait. The
// default is the machine's.
func WithClock(now func() time.Time, sleep func(ctx context.Context, d time.Duration) error) Option {
	return func(o *options) { o.clock = forge.Clock{Now: now, Sleep: sleep} }
}

// pace is the time between calls of one credential.
const pace = 100 * time.Millisecond

// Provider is GitHub. It is safe for concurrent use and has nothing to close.
type Provider struct {
	o       options
	own     *http.Client // with the provider's credential
	callers *http.Client // without one
	app     *app
	fetcher *forge.Fetcher
	heads   forge.Heads

	mu    sync.Mutex
	names map[string]seen   // by repository id
	looks map[string]lookUp // and what the provider's own credential saw
	pages map[pageID]page
	keys  hostKeys
}

var (
	_ auth.Provider           = (*Provider)(nil)
	_ auth.RepositoryProvider = (*Provider)(nil)
	_ auth.EventProvider      = (*Provider)(nil)
	_ auth.StatusProvider     = (*Provider)(nil)
	_ auth.AccountProvider    = (*Provider)(nil)
)

// New returns a provider. It makes no call. Without a credential, or with a key or a URL
// that can't be read, it gives ErrInvalid.
func New(opts ...Option) (*Provider, error) {
	o := options{name: "github", transport: http.DefaultTransport, clock: forge.SystemClock()}
	for _, opt := range opts {
		opt(&o)
	}
	if o.name == "" || strings.ContainsAny(o.name, "/ ") {
		return nil, fmt.Errorf("%w name of a git provider %q", taubyte.ErrInvalid, o.name)
	}
	if (o.token == nil) == (o.app == nil) {
		return nil, fmt.Errorf("%w github: it takes a token or an app, one of both", taubyte.ErrInvalid)
	}
	p := &Provider{o: o, app: o.app, fetcher: forge.NewFetcher(), names: map[string]seen{}, looks: map[string]lookUp{}, pages: map[pageID]page{}}
	p.callers = client(&forge.Limiter{Base: o.transport, Clock: o.clock, Pace: pace})
	if p.app != nil {
		if err := p.app.open(p); err != nil {
			return nil, err
		}
		p.o.token = p.app
	}
	p.own = client(&forge.Limiter{Base: &authorized{p.o.token, o.transport}, Clock: o.clock, Pace: pace})
	_, err := p.client("")
	return p, err
}

// client follows no redirect but that of a look-up by a former name, on the same host:
// requests carry a credential, and what else was asked for by name is looked up again.
func client(t http.RoundTripper) *http.Client {
	return &http.Client{Transport: t, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		lookUp := path.Base(path.Dir(req.URL.Path)) == "repositories"
		if !lookUp || req.URL.Host != via[0].URL.Host || req.URL.Scheme != via[0].URL.Scheme || len(via) > 5 {
			return http.ErrUseLastResponse
		}
		return nil
	}}
}

// authorized sends the provider's own credential.
type authorized struct {
	token oauth2.TokenSource
	base  http.RoundTripper
}

func (a *authorized) RoundTrip(req *http.Request) (*http.Response, error) {
	t, err := a.token.Token()
	if err != nil {
		return nil, fmt.Errorf("%w: a token for GitHub: %w", taubyte.ErrUnavailable, err)
	}
	req = req.Clone(req.Context())
	t.SetAuthHeader(req)
	return a.base.RoundTrip(req)
}

// client returns the API by a caller's credential, or by the provider's own.
func (p *Provider) client(credential string) (*gh.Client, error) {
	var c *gh.Client
	if credential == "" {
		c = gh.NewClient(p.own)
	} else {
		c = gh.NewClient(p.callers).WithAuthToken(credential)
	}
	if p.o.enterprise == "" {
		return c, nil
	}
	c, err := c.WithEnterpriseURLs(p.o.enterprise, p.o.enterprise)
	if err != nil {
		return nil, fmt.Errorf("%w URL of GitHub: %w", taubyte.ErrInvalid, err)
	}
	return c, nil
}

// Name implements auth.Provider.
func (p *Provider) Name() string { return p.o.name }

// Event implements auth.EventProvider.
func (p *Provider) Event(header http.Header, body []byte, secrets ...string) (auth.Event, error) {
	return forge.Webhooks{
		Provider: p.o.name, Event: "X-GitHub-Event", Delivery: "X-GitHub-Delivery",
		Signature: "X-Hub-Signature-256", SignaturePrefix: "sha256=",
	}.Read(header, body, secrets...)
}

// SetStatus implements auth.StatusProvider.
func (p *Provider) SetStatus(ctx context.Context, r auth.Remote, commit taubyte.Commit, s auth.Status) error {
	c, repo, err := p.open(ctx, r)
	if err != nil {
		return err
	}
	status := &gh.RepoStatus{State: gh.String(string(s.State)), Context: &s.Context}
	if s.URL != "" {
		status.TargetURL = &s.URL
	}
	if text := []rune(s.Description); len(text) > 0 {
		status.Description = gh.String(string(text[:min(len(text), 140)]))
	}
	_, resp, err := c.Repositories.CreateStatus(ctx, owner(repo), repo.GetName(), string(commit), status)
	return failed("setting the status of commit "+string(commit), resp, err)
}

// Account implements auth.AccountProvider.
func (p *Provider) Account(ctx context.Context, credential string) (auth.Account, error) {
	c, err := p.client(credential)
	if err != nil {
		return auth.Account{}, err
	}
	u, resp, err := c.Users.Get(ctx, "")
	if err != nil {
		return auth.Account{}, failed("asking whose a token is", resp, err)
	}
	a := auth.Account{ID: strconv.FormatInt(u.GetID(), 10), Name: u.GetLogin()}
	if text, told := resp.Header["X-Oauth-Scopes"]; told {
		a.Scopes = []string{}
		for _, scope := range strings.Split(strings.Join(text, ","), ",") {
			if scope = strings.TrimSpace(scope); scope != "" {
				a.Scopes = append(a.Scopes, scope)
			}
		}
	}
	return a, nil
}

// failed returns what an error of the API means.
func failed(what string, resp *gh.Response, err error) error {
	status := 0
	if resp != nil && resp.Response != nil {
		status = resp.StatusCode
	}
	var answer *gh.ErrorResponse
	if errors.As(err, &answer) {
		said := answer.Message
		for _, e := range answer.Errors {
			said += " " + e.Message
		}
		if status == http.StatusUnprocessableEntity && strings.Contains(said, "already") {
			status = http.StatusConflict
		}
	}
	return forge.Error("github: "+what, status, err)
}
