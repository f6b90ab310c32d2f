package cloud

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"go.yaml.in/yaml/v3"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/gateway"
	"github.com/taubyte/taubyte/monkey"
	"github.com/taubyte/taubyte/monkey/container"
)

// Config is a node's configuration file (YAML). Relative paths are relative to
// the file's folder.
type Config struct {
	Name     string   `yaml:"name,omitempty"`
	Data     string   `yaml:"data"`             // the node's folder
	Services []string `yaml:"services"`         // what it runs
	Listen   []string `yaml:"listen,omitempty"` // multiaddrs for other nodes
	Peers    []string `yaml:"peers,omitempty"`  // multiaddrs of other nodes, with /p2p/<id>
	HTTP     string   `yaml:"http,omitempty"`   // address for users, with gateway
	HTTPS    string   `yaml:"https,omitempty"`  // address for users by HTTPS, with gateway
	// Certificates are files of certificates that are served by HTTPS, before others for
	// the same names; what replaces them is taken in. See WithCertificateFiles.
	Certificates []auth.CertificateFile `yaml:"certificates,omitempty"`
	API          string                 `yaml:"api,omitempty"` // address of the API
	// APIHosts: see WithAPIHosts.
	APIHosts []string `yaml:"api-hosts,omitempty"`
	DNS      string   `yaml:"dns,omitempty"`    // address for DNS queries, with seer
	Public   []string `yaml:"public,omitempty"` // IP addresses at which users reach the node
	Zone     string   `yaml:"zone,omitempty"`   // of generated host names
	// Limits of what users take of the gateway: see WithGatewayLimits.
	Limits *Limits `yaml:"limits,omitempty"`
	// ACME orders certificates, with auth: "acme: {}" at Let's Encrypt, to whose terms of
	// service that agrees. Every node of role auth has the same.
	ACME *ACMEConfig `yaml:"acme,omitempty"`
	// Resolver is the address of the DNS server that is asked who owns a host name. The
	// default is the system's resolver.
	Resolver string `yaml:"resolver,omitempty"`
	// Development: see WithDevelopment.
	Development bool `yaml:"development,omitempty"`
	// VerifiedOnly: see WithVerifiedOnly.
	VerifiedOnly *bool `yaml:"verified-only,omitempty"`
	// Providers are git providers by their names, with auth; Webhooks is the URL that they
	// send events to, and Logs that of the API where people read the logs of jobs. See
	// ProviderConfig, WithWebhooks and WithLogs.
	Providers map[string]ProviderConfig `yaml:"providers,omitempty"`
	Webhooks  string                    `yaml:"webhooks,omitempty"`
	Logs      string                    `yaml:"logs,omitempty"`
	// Builds is how monkey runs builds: "confined", the default, "container", or "plain".
	// See WithContainerBuilds, with Containers, and WithPlainBuilds. BuildNetwork: see
	// WithBuildNetwork.
	Builds       string            `yaml:"builds,omitempty"`
	Containers   *container.Config `yaml:"containers,omitempty"`
	BuildNetwork bool              `yaml:"build-network,omitempty"`
	// Images says what stands for container images that projects name: see
	// WithBuildImages.
	Images map[string]monkey.Image `yaml:"images,omitempty"`
	// BuildLabels say what the node has for builds that ask for it: see WithBuildLabels.
	BuildLabels []string `yaml:"build-labels,omitempty"`
	// Network, Membership and Authority are files that "taubyte init" makes: the
	// network's keys, this node's membership of it, and, on nodes that sign
	// memberships, the root key. Without them the node is a network of its own.
	Network    string `yaml:"network,omitempty"`
	Membership string `yaml:"membership,omitempty"`
	Authority  string `yaml:"authority,omitempty"`

	dir string // of the file
}

// Limits are those of gateway.Limits that a file sets; one that is not there has its
// default. None can be switched off.
type Limits struct {
	Requests    *int           `yaml:"requests,omitempty"`    // under way at a time
	Sockets     *int           `yaml:"sockets,omitempty"`     // WebSockets open at a time
	Connections *int           `yaml:"connections,omitempty"` // of users, idle ones included
	MinRate     *int           `yaml:"min_rate,omitempty"`    // bytes a second, as "1024"
	Grace       *time.Duration `yaml:"grace,omitempty"`       // behind min_rate, as "10s"
}

// mostOf bounds each number of Limits: more is a slip of the keyboard.
const mostOf = 100_000_000

func (l *Limits) options() (g gateway.Limits, err error) {
	for _, n := range []struct {
		key  string
		from *int
		to   *int
	}{
		{"requests", l.Requests, &g.Requests}, {"sockets", l.Sockets, &g.Sockets},
		{"connections", l.Connections, &g.Connections}, {"min_rate", l.MinRate, &g.MinRate},
	} {
		if n.from == nil {
			continue
		}
		if *n.to = *n.from; *n.to < 1 || *n.to > mostOf {
			return g, fmt.Errorf("%w limits: %s is %d: it takes 1 to %d, or is left out for its default", taubyte.ErrInvalid, n.key, *n.from, mostOf)
		}
	}
	if l.Grace != nil {
		if g.Grace = *l.Grace; g.Grace < time.Second || g.Grace > time.Hour {
			return g, fmt.Errorf("%w limits: grace is %s: it takes 1s to 1h, or is left out for its default", taubyte.ErrInvalid, g.Grace)
		}
	}
	if g.Sockets > 0 && g.Connections > 0 && g.Sockets > g.Connections {
		return g, fmt.Errorf("%w limits: %d sockets need as many connections, and connections is %d", taubyte.ErrInvalid, g.Sockets, g.Connections)
	}
	return g, nil
}

// ReadConfig reads a configuration file. Unknown keys are faults.
func ReadConfig(path string) (*Config, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	c := &Config{dir: filepath.Dir(path)}
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	dec.KnownFields(true)
	if err := dec.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w configuration %s: %w", taubyte.ErrInvalid, path, err)
	}
	if c.Data == "" {
		return nil, fmt.Errorf("%w configuration %s: data names no folder", taubyte.ErrInvalid, path)
	}
	if len(c.Services) == 0 {
		return nil, fmt.Errorf("%w configuration %s: services is empty (there are %v)", taubyte.ErrInvalid, path, taubyte.Roles())
	}
	if c.Membership != "" && c.Network == "" {
		return nil, fmt.Errorf("%w configuration %s: membership without network", taubyte.ErrInvalid, path)
	}
	return c, nil
}

// DataDir is the node's folder.
func (c *Config) DataDir() string { return c.path(c.Data) }

func (c *Config) path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(c.dir, p)
}

// Options translates the configuration for Open, reading the files that it names.
func (c *Config) Options() ([]Option, error) {
	opts := []Option{WithName(c.Name)}
	var roles []taubyte.Role
	for _, s := range c.Services {
		r, err := taubyte.ParseRole(s)
		if err != nil {
			return nil, fmt.Errorf("services: %w", err)
		}
		roles = append(roles, r)
	}
	opts = append(opts, WithServices(roles...))

	var listen []ma.Multiaddr
	for _, s := range c.Listen {
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			return nil, fmt.Errorf("%w listen address %q: %w", taubyte.ErrInvalid, s, err)
		}
		listen = append(listen, a)
	}
	if len(listen) > 0 {
		opts = append(opts, WithHost(taubyte.WithListenAddrs(listen...)))
	}
	var peers []peer.AddrInfo
	for _, s := range c.Peers {
		p, err := peer.AddrInfoFromString(s)
		if err != nil {
			return nil, fmt.Errorf("%w peer %q: %w", taubyte.ErrInvalid, s, err)
		}
		peers = append(peers, *p)
	}
	opts = append(opts, WithHost(taubyte.WithPeers(peers...)))

	for _, a := range []struct {
		value string
		with  func(string) Option
	}{{c.HTTP, WithHTTP}, {c.HTTPS, WithHTTPS}, {c.API, WithAPI}, {c.DNS, WithDNS}, {c.Zone, WithZone}} {
		if a.value != "" {
			opts = append(opts, a.with(a.value))
		}
	}
	for i, f := range c.Certificates {
		if f.Cert == "" || f.Key == "" {
			return nil, fmt.Errorf("%w certificates: number %d has no cert or no key", taubyte.ErrInvalid, i+1)
		}
		opts = append(opts, WithCertificateFiles(auth.CertificateFile{Cert: c.path(f.Cert), Key: c.path(f.Key)}))
	}
	opts = append(opts, WithAPIHosts(c.APIHosts...))
	for _, s := range c.Public {
		if _, err := netip.ParseAddr(s); err != nil {
			return nil, fmt.Errorf("%w public address: %w", taubyte.ErrInvalid, err)
		}
	}
	opts = append(opts, WithPublic(c.Public...))
	if c.Limits != nil {
		if !slices.Contains(roles, taubyte.RoleGateway) {
			return nil, fmt.Errorf("%w limits: they are those of the gateway, which is not among the services", taubyte.ErrInvalid)
		}
		l, err := c.Limits.options()
		if err != nil {
			return nil, err
		}
		opts = append(opts, WithGatewayLimits(l))
	}
	if c.Resolver != "" {
		if _, _, err := net.SplitHostPort(c.Resolver); err != nil {
			return nil, fmt.Errorf("%w resolver %q: %w", taubyte.ErrInvalid, c.Resolver, err)
		}
		opts = append(opts, WithResolver(&net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, c.Resolver)
		}}))
	}
	if c.ACME != nil {
		acme, err := c.acme()
		if err != nil {
			return nil, err
		}
		opts = append(opts, WithACME(acme...))
	}
	if c.Development {
		opts = append(opts, WithDevelopment())
	}
	if c.VerifiedOnly != nil {
		opts = append(opts, WithVerifiedOnly(*c.VerifiedOnly))
	}
	providers, err := c.providers()
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	opts = append(opts, providers...)
	switch c.Builds {
	case "", "confined":
	case "container":
		var containers container.Config
		if c.Containers != nil {
			containers = *c.Containers
		}
		opts = append(opts, WithContainerBuilds(containers))
	case "plain":
		opts = append(opts, WithPlainBuilds())
	default:
		return nil, fmt.Errorf("%w configuration: builds is %q (there are confined, container and plain)", taubyte.ErrInvalid, c.Builds)
	}
	if c.Containers != nil && c.Builds != "container" {
		return nil, fmt.Errorf("%w configuration: containers is for builds: container, and builds is %q", taubyte.ErrInvalid, c.Builds)
	}
	if c.BuildNetwork {
		opts = append(opts, WithBuildNetwork())
	}
	if len(c.Images) > 0 {
		opts = append(opts, WithBuildImages(c.Images))
	}
	if len(c.BuildLabels) > 0 {
		opts = append(opts, WithBuildLabels(c.BuildLabels...))
	}
	membership, err := c.membership(roles)
	return append(opts, membership...), err
}

// membership says which network the node belongs to, and by what right.
func (c *Config) membership(roles []taubyte.Role) ([]Option, error) {
	if c.Authority != "" {
		text, err := os.ReadFile(c.path(c.Authority))
		if err != nil {
			return nil, fmt.Errorf("authority: %w", err)
		}
		a := new(taubyte.Authority)
		if err := a.UnmarshalText(bytes.TrimSpace(text)); err != nil {
			return nil, fmt.Errorf("authority %s: %w", c.Authority, err)
		}
		file := c.path(c.Authority)
		keep := taubyte.WithKeeper(func(_ taubyte.Network, a *taubyte.Authority) error {
			if a == nil {
				return nil
			}
			text, err := a.MarshalText()
			if err != nil {
				return err
			}
			return replaceFile(file, append(text, '\n'))
		})
		return []Option{WithAuthority(a), WithHost(keep)}, nil
	}
	if c.Network == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(c.path(c.Network))
	if err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	var n taubyte.Network
	if err := json.Unmarshal(raw, &n); err != nil {
		return nil, fmt.Errorf("network %s: %w", c.Network, err)
	}
	if c.Membership == "" {
		return nil, fmt.Errorf("%w configuration: network without membership", taubyte.ErrInvalid)
	}
	file := c.path(c.Network)
	keep := taubyte.WithKeeper(func(n taubyte.Network, _ *taubyte.Authority) error {
		text, err := json.Marshal(n)
		if err != nil {
			return err
		}
		return replaceFile(file, append(text, '\n'))
	})
	return []Option{withMembershipFile(n, c.path(c.Membership)), WithHost(keep)}, nil
}
