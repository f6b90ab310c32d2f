package cloud

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/gitea"
	"github.com/taubyte/taubyte/auth/github"
	"github.com/taubyte/taubyte/patrick"
)

// WithProviders adds git providers to the node's own one, for nodes that run auth. All auth
// nodes of a network are given the same.
func WithProviders(p ...auth.Provider) Option {
	return func(o *options) { o.providers = append(o.providers, p...) }
}

// WithWebhooks sets the public URL of a gateway, or of what stands before the gateways:
// git providers send events there, and so it has to lead to this network from where they
// are. A URL with a path is taken as it is: that path has to lead to auth.WebhookPath of a
// gateway, or to /webhooks/ of the API of a node that runs patrick. Without one no webhooks
// are made, and pushes are found by looking for them each minute.
func WithWebhooks(url string) Option { return func(o *options) { o.webhooks = url } }

// WithLogs sets the public URL of the API of a node that runs patrick. The statuses of
// commits at git providers link to the logs of their jobs there, which take a token or, in a
// browser, its text as the password. Without one they link to nothing. All nodes that run
// patrick are given the same.
func WithLogs(url string) Option { return func(o *options) { o.logs = strings.TrimRight(url, "/") } }

// webhookURL is where providers send events to.
func (o *options) webhookURL() string {
	u, err := url.Parse(o.webhooks)
	if err != nil || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		return o.webhooks
	}
	return strings.TrimRight(o.webhooks, "/") + auth.WebhookPath
}

// webhooks takes what providers send to the gateway.
func (n *Node) webhooks() http.Handler {
	if n.Patrick != nil {
		return n.Patrick.Hooks()
	}
	c := patrick.NewClient(n.Host)
	n.closers = append(n.closers, c)
	return c.Hooks()
}

// jobURL is where the log of a job is read.
func (n *Node) jobURL(j patrick.Job) string {
	if n.opts.logs == "" {
		return ""
	}
	return n.opts.logs + "/v1/patrick/jobs/" + url.PathEscape(string(j.ID)) + "/logs"
}

// ProviderConfig is a git provider of the configuration file. Its credential stands in a
// file or in an environment variable, not in the configuration:
//
//	providers:
//	  github: {token-file: github.token}
//	  gitea: {url: https://git.example.com, token-env: GITEA_TOKEN}
//	  work: {type: github, url: https://github.example.com, app: {id: 7, installation: 8, key-file: app.pem}}
type ProviderConfig struct {
	// Type is "github" or "gitea" (Forgejo too). The default is the provider's name.
	Type string `yaml:"type,omitempty"`
	// URL is the server's: for gitea always, and for GitHub Enterprise.
	URL       string     `yaml:"url,omitempty"`
	TokenFile string     `yaml:"token-file,omitempty"`
	TokenEnv  string     `yaml:"token-env,omitempty"`
	App       *AppConfig `yaml:"app,omitempty"` // of GitHub
	// HostKeys is a file with the keys that the server may show over ssh, each line as
	// "ssh-ed25519 AAAA…".
	HostKeys string `yaml:"host-keys,omitempty"`
}

// AppConfig is an installation of a GitHub App.
type AppConfig struct {
	ID           int64  `yaml:"id"`
	Installation int64  `yaml:"installation"`
	KeyFile      string `yaml:"key-file"` // PEM
}

// providers makes the git providers of the configuration.
func (c *Config) providers() ([]Option, error) {
	var opts []Option
	names := make([]string, 0, len(c.Providers))
	for name := range c.Providers {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		p, err := c.provider(name, c.Providers[name])
		if err != nil {
			return nil, fmt.Errorf("git provider %s: %w", name, err)
		}
		opts = append(opts, WithProviders(p))
	}
	if c.Webhooks != "" {
		opts = append(opts, WithWebhooks(c.Webhooks))
	}
	if c.Logs != "" {
		opts = append(opts, WithLogs(c.Logs))
	}
	return opts, nil
}

func (c *Config) provider(name string, p ProviderConfig) (auth.Provider, error) {
	if p.Type == "" {
		p.Type = name
	}
	token, err := c.credential(p)
	if err != nil {
		return nil, err
	}
	var hostKeys []string
	if p.HostKeys != "" {
		text, err := os.ReadFile(c.path(p.HostKeys))
		if err != nil {
			return nil, err
		}
		for _, line := range strings.Split(string(text), "\n") {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				hostKeys = append(hostKeys, line)
			}
		}
	}
	switch {
	case p.Type == "github":
		opts := []github.Option{github.WithName(name), github.WithHostKeys(hostKeys...)}
		if p.URL != "" {
			opts = append(opts, github.WithEnterprise(p.URL))
		}
		if token != "" {
			opts = append(opts, github.WithToken(token))
		}
		if p.App != nil {
			key, err := os.ReadFile(c.path(p.App.KeyFile))
			if err != nil {
				return nil, err
			}
			opts = append(opts, github.WithApp(p.App.ID, p.App.Installation, key))
		}
		return github.New(opts...)
	case p.Type == "gitea" && p.App == nil:
		return gitea.New(p.URL, token, gitea.WithName(name), gitea.WithHostKeys(hostKeys...))
	}
	return nil, fmt.Errorf("%w type %q: it is github (with or without an app) or gitea", taubyte.ErrInvalid, p.Type)
}

// credential reads a provider's token.
func (c *Config) credential(p ProviderConfig) (string, error) {
	switch {
	case p.TokenFile != "" && p.TokenEnv != "":
		return "", fmt.Errorf("%w: token-file and token-env are both set", taubyte.ErrInvalid)
	case p.TokenFile != "":
		text, err := os.ReadFile(c.path(p.TokenFile))
		if err == nil && strings.TrimSpace(string(text)) == "" {
			err = fmt.Errorf("%w: %s is empty", taubyte.ErrInvalid, p.TokenFile)
		}
		return strings.TrimSpace(string(text)), err
	case p.TokenEnv != "":
		token := os.Getenv(p.TokenEnv)
		if token == "" {
			return "", fmt.Errorf("%w: the environment has no %s", taubyte.ErrInvalid, p.TokenEnv)
		}
		return token, nil
	}
	return "", nil
}
