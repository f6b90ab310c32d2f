package cloud

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	manet "github.com/multiformats/go-multiaddr/net"
	"go.yaml.in/yaml/v3"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/acme"
	"github.com/taubyte/taubyte/auth/localgit"
	"github.com/taubyte/taubyte/gateway"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/monkey"
	"github.com/taubyte/taubyte/monkey/container"
	"github.com/taubyte/taubyte/patrick"
	"github.com/taubyte/taubyte/seer"
	"github.com/taubyte/taubyte/substrate"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

// startService starts one service by the node's options. A service finds those on
// the same host by itself.
func (n *Node) startService(ctx context.Context, role taubyte.Role) error {
	h, st, log := n.Host, n.Store, n.log.With("service", role)
	switch role {
	case taubyte.RoleTNS:
		opts := []tns.Option{tns.WithLogger(log), tns.WithZone(n.opts.zone), tns.WithKeyKeeper(n.keepKey())}
		switch {
		case n.opts.verifiedOnly():
			opts = append(opts, tns.WithVerifiedOnly())
		case n.opts.development:
			opts = append(opts, tns.WithOpenDomains())
		}
		s, err := tns.New(ctx, h, st, append(opts, n.opts.of.tns...)...)
		return run(n, role, &n.TNS, s, err)
	case taubyte.RoleAuth:
		opts := []auth.Option{auth.WithLogger(log), auth.WithSettings(auth.Settings{Zone: n.opts.zone, Development: n.opts.development, VerifiedOnly: n.opts.verified})}
		if n.opts.authority != nil {
			opts = append(opts, auth.WithAuthority(n.opts.authority))
		}
		for _, p := range n.opts.providers {
			opts = append(opts, auth.WithProvider(p))
		}
		opts = append(opts, auth.WithWebhooks(n.opts.webhookURL()))
		if n.opts.runs(taubyte.RolePatrick) {
			if err := n.startGit(ctx); err != nil {
				return err
			}
			opts = append(opts, auth.WithProvider(n.git))
		}
		if n.opts.resolver != nil {
			opts = append(opts, auth.WithResolver(n.opts.resolver))
		}
		s, err := auth.New(ctx, h, st, append(opts, n.opts.of.auth...)...)
		if err := run(n, role, &n.Auth, s, err); err != nil || n.opts.acme == nil {
			return err
		}
		return n.startACME(ctx, log)
	case taubyte.RoleSeer:
		opts := n.directory()
		if n.opts.dns != "" {
			hosts, err := n.followHosts(ctx)
			if err != nil {
				return err
			}
			n.closers = append(n.closers, hosts)
			opts = append(opts, seer.WithDNS(n.opts.dns, n.opts.zone), seer.WithHosts(hosts.presence))
		}
		s, err := seer.New(ctx, h, st, append(opts, n.opts.of.seer...)...)
		return run(n, role, &n.Seer, s, err)
	case taubyte.RoleHoarder:
		s, err := hoarder.New(ctx, h, st, append([]hoarder.Option{hoarder.WithLogger(log)}, n.opts.of.hoarder...)...)
		return run(n, role, &n.Hoarder, s, err)
	case taubyte.RolePatrick:
		s, err := patrick.New(ctx, h, st, append([]patrick.Option{patrick.WithLogger(log), patrick.WithJobURL(n.jobURL), patrick.WithDeployed(n.deployed())}, n.opts.of.patrick...)...)
		return run(n, role, &n.Patrick, s, err)
	case taubyte.RoleMonkey:
		opts, err := n.builds(ctx)
		if err != nil {
			return err
		}
		opts = append(opts, monkey.WithLogger(log), monkey.WithWorkDir(filepath.Join(n.dir, dirWork)))
		s, err := monkey.New(ctx, h, st, append(opts, n.opts.of.monkey...)...)
		return run(n, role, &n.Monkey, s, err)
	case taubyte.RoleSubstrate:
		opts := []substrate.Option{substrate.WithLogger(log), substrate.WithCacheDir(filepath.Join(n.dir, dirCache))}
		s, err := substrate.New(ctx, h, st, append(opts, n.opts.of.substrate...)...)
		return run(n, role, &n.Substrate, s, err)
	case taubyte.RoleGateway:
		opts := []gateway.Option{gateway.WithLogger(log), gateway.WithListener(n.http), gateway.WithLimits(n.opts.limits), gateway.WithWebhooks(n.webhooks())}
		if n.opts.https != "" {
			opts = append(opts, gateway.WithTLS(n.opts.https), gateway.WithCertificateFiles(n.opts.certs...))
		}
		s, err := gateway.New(ctx, h, st, append(opts, n.opts.of.gateway...)...)
		return run(n, role, &n.Gateway, s, err)
	}
	return fmt.Errorf("%w service %q", taubyte.ErrInvalid, role)
}

// deployed says which jobs the current deployment of a branch is of.
func (n *Node) deployed() func(context.Context, taubyte.ProjectID, taubyte.Branch) ([]taubyte.JobID, error) {
	c := tns.NewClient(n.Host)
	n.closers = append(n.closers, c)
	return func(ctx context.Context, p taubyte.ProjectID, b taubyte.Branch) (jobs []taubyte.JobID, err error) {
		d, err := c.Current(ctx, p, b)
		if err != nil {
			return nil, err
		}
		for _, part := range d.Parts {
			jobs = append(jobs, part.Job)
		}
		return jobs, nil
	}
}

// keepKey gives auth the private keys that a registry of an earlier version has.
func (n *Node) keepKey() tns.KeyKeeper {
	c := auth.NewClient(n.Host)
	n.closers = append(n.closers, c)
	return func(ctx context.Context, p taubyte.ProjectID, b taubyte.Branch, d config.Domain) error {
		_, err := c.KeepInlineCertificate(ctx, auth.InlineCertificate{Project: p, Branch: b, Domain: d.ID, Host: d.FQDN, Cert: d.CertFile, Key: d.KeyFile})
		return err
	}
}

// startACME orders certificates, beside auth.
func (n *Node) startACME(ctx context.Context, log *slog.Logger) (err error) {
	opts := []acme.Option{acme.WithLogger(log), acme.WithZone(n.opts.zone)}
	if n.opts.resolver != nil {
		opts = append(opts, acme.WithResolver(n.opts.resolver))
	}
	opts = append(opts, n.opts.acme...)
	if n.ACME, err = acme.New(ctx, n.Host, n.Store, opts...); err == nil {
		n.closers = append(n.closers, n.ACME)
	}
	return err
}

// builds is how the node runs builds.
func (n *Node) builds(ctx context.Context) (opts []monkey.Option, err error) {
	if n.opts.buildNet || n.opts.development {
		opts = append(opts, monkey.WithNetwork())
	}
	if len(n.opts.images) > 0 {
		opts = append(opts, monkey.WithImages(n.opts.images))
	}
	if len(n.opts.labels) > 0 {
		opts = append(opts, monkey.WithLabels(n.opts.labels...))
	}
	plain := monkey.WithEnvironment("process", &monkey.Process{})
	if n.opts.plainBuilds {
		n.unconfined = "so it was asked for"
		return append(opts, plain), nil
	}
	if n.opts.containers != nil {
		engine, err := container.New(ctx, n.Host.ID().String(), *n.opts.containers)
		var missing *monkey.MissingError
		if errors.As(err, &missing) {
			return nil, fmt.Errorf("%w: builds can't be containers: %w (builds: confined needs no engine)", taubyte.ErrUnavailable, err)
		}
		if err != nil {
			return nil, err
		}
		n.closers = append(n.closers, engine)
		return append(opts, monkey.WithEnvironment("container", engine)), nil
	}
	confined, err := monkey.NewConfined(ctx)
	var missing *monkey.MissingError
	switch {
	case err == nil:
		return append(opts, monkey.WithEnvironment("confined", confined)), nil
	case n.opts.development && errors.As(err, &missing):
		n.unconfined = missing.Error()
		return append(opts, plain), nil
	case errors.As(err, &missing):
		return nil, fmt.Errorf("%w: builds can't be confined: %w (or let them be plain processes, with all rights of the node: builds: plain)", taubyte.ErrUnavailable, err)
	}
	return nil, err
}

// Unconfined says why builds on this node run as plain processes, with all rights of the
// node: "" where they do not.
func (n *Node) Unconfined() string { return n.unconfined }

// directory is how the node presents itself to the others.
func (n *Node) directory() []seer.Option {
	opts := []seer.Option{seer.WithLogger(n.log.With("service", taubyte.RoleSeer))}
	if len(n.opts.public) > 0 {
		return append(opts, seer.WithPublic(n.opts.public...))
	}
	if n.http == nil {
		return opts
	}
	if ip := publicIP(n.http.Addr().String()); ip != "" {
		return append(opts, seer.WithPublic(ip))
	}
	// Users are sent to where other nodes are.
	for _, a := range n.Host.Addrs() {
		if !manet.IsIPLoopback(a) {
			return opts
		}
	}
	n.log.Warn("DNS sends users to a loopback address: the gateway listens on all addresses, and other nodes reach this node on loopback only",
		"missing", "public, the IP addresses at which users reach it, or a listen address that is none of loopback")
	return opts
}

// startGit makes the node's own git provider, which has the repositories of all
// control nodes.
func (n *Node) startGit(ctx context.Context) (err error) {
	n.git, err = localgit.New(ctx, n.Host, n.Store, filepath.Join(n.dir, dirGit),
		localgit.WithLogger(n.log.With("service", "git")),
		localgit.WithAccess(localgit.Access{
			Caller: func(w http.ResponseWriter, r *http.Request) (taubyte.Principal, bool) {
				name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), ".git/")
				return n.caller(w, r, name)
			},
			Repository: n.mayGit,
			Push:       n.admit,
		}),
		localgit.WithOnPush(n.pushed))
	if err == nil {
		n.closers = append(n.closers, n.git)
	}
	return err
}

// configLimit bounds what is read of a pushed config/config.yaml.
const configLimit = 1 << 20

// pushed makes a job of a push. A repository that nobody has registered belongs to
// the project whose configuration it holds: the first push to a new name is enough.
// Of a push that any control node has taken, one hears: the node that decides on
// pushes to the repository, so that no two register it or make a job of it.
func (n *Node) pushed(ctx context.Context, name string, p auth.Push) (string, error) {
	select {
	case <-n.started: // git serves other nodes before auth and patrick do
	case <-ctx.Done():
		return "", fmt.Errorf("%w: this node is starting", taubyte.ErrUnavailable)
	}
	ctx = taubyte.AsService(ctx) // mayGit and admit have let it through
	_, err := n.Auth.Repository(ctx, p.Repository)
	if errors.Is(err, taubyte.ErrNotFound) && p.Commit != "" {
		err = n.adopt(ctx, name, p)
	}
	if err != nil {
		return "", err
	}
	job, err := n.Patrick.Submit(ctx, p)
	if err != nil {
		return "", err
	}
	said := fmt.Sprintf("job %s builds branch %s", job.ID, p.Branch)
	for _, c := range n.lostBy(ctx, job.Project, p.Branch) {
		said += "\ntaubyte: " + c.String()
	}
	return said, nil
}

// lostBy lists the host names that a branch claims and does not have, as far as a registry
// in reach says so in time: what is pushed is taken up without it.
func (n *Node) lostBy(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch) []tns.Claim {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	c := tns.NewClient(n.Host)
	defer c.Close()
	all, err := c.Conflicts(ctx, project)
	if err != nil {
		n.log.Debug("hosts of a project not asked for", "project", project, "err", err)
	}
	return slices.DeleteFunc(all, func(c tns.Claim) bool { return c.Branch != branch })
}

// admit says whether a push to a repository of no project may make it the one of the
// project that its configuration names: one that is there belongs to those who may
// administer it, and has one repository.
func (n *Node) admit(ctx context.Context, name string, p auth.Push) error {
	_, err := n.repository(ctx, p.Repository)
	if p.Commit == "" || !errors.Is(err, taubyte.ErrNotFound) {
		return err
	}
	named, err := n.named(ctx, name, p)
	if errors.Is(err, taubyte.ErrNotFound) {
		return nil // it is of no project, which pushed says
	}
	if err != nil {
		return err
	}
	self := taubyte.AsService(ctx)
	have, err := n.Auth.Project(self, named.ID)
	who := taubyte.PrincipalOf(ctx)
	switch {
	case errors.Is(err, taubyte.ErrNotFound):
		if who.Kind == taubyte.KindUser && who.MayGit(p.Repository, "", true) == nil {
			return nil // a credential of this repository, for a project that is new
		}
		return taubyte.Allow(ctx, taubyte.VerbAdminister, named.ID, taubyte.RoleAuth)
	case err != nil:
		return err
	}
	const own = "give this one an id of its own (id in config/config.yaml)"
	repos, err := n.Auth.Repositories(self, named.ID)
	if err != nil {
		return err
	}
	for _, r := range repos {
		if r.Kind == auth.KindProject || r.Kind == auth.KindConfig {
			return fmt.Errorf("%w: project %s (%s) is that of the repository %s: %s", taubyte.ErrConflict, named.ID, have.Name, r.ID, own)
		}
	}
	if err := taubyte.Allow(ctx, taubyte.VerbAdminister, named.ID, taubyte.RoleAuth); err != nil {
		return fmt.Errorf("project %s (%s) is there already: %s: %w", named.ID, have.Name, own, err)
	}
	return nil
}

// named reads which project the configuration of a pushed commit names.
func (n *Node) named(ctx context.Context, name string, p auth.Push) (project auth.Project, err error) {
	text, err := n.git.File(ctx, name, p.Commit, "config/config.yaml", configLimit)
	if err != nil {
		return project, fmt.Errorf("this repository is of no project: it holds no config/config.yaml: %w", err)
	}
	var config struct {
		ID   taubyte.ProjectID `yaml:"id"`
		Name string            `yaml:"name"`
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		return project, fmt.Errorf("%w config/config.yaml: %w", taubyte.ErrInvalid, err)
	}
	if config.ID == "" {
		return project, fmt.Errorf("%w config/config.yaml: it has no id, which says whose project this is", taubyte.ErrInvalid)
	}
	return auth.Project{ID: config.ID, Name: config.Name}, nil
}

func (n *Node) adopt(ctx context.Context, name string, p auth.Push) error {
	project, err := n.named(ctx, name, p)
	if err != nil {
		return err
	}
	_, err = n.registerAs(ctx, name, project.ID, project.Name)
	return err
}

// register makes a repository of the node's git provider the one of a project.
func (n *Node) register(ctx context.Context, name string, id taubyte.ProjectID) (taubyte.RepositoryID, error) {
	if err := n.git.Create(ctx, name); err != nil {
		return "", err
	}
	return n.registerAs(ctx, name, id, name)
}

func (n *Node) registerAs(ctx context.Context, repository string, id taubyte.ProjectID, name string) (taubyte.RepositoryID, error) {
	if _, err := n.Auth.Project(ctx, id); errors.Is(err, taubyte.ErrNotFound) {
		if _, err := n.Auth.CreateProject(ctx, auth.Project{ID: id, Name: name}); err != nil {
			return "", err
		}
	} else if err != nil {
		return "", err
	}
	r, err := n.Auth.Register(ctx, auth.Repository{
		ID: auth.NewRepositoryID(n.git.Name(), repository), Project: id, Kind: auth.KindProject, Name: repository,
	})
	return r.ID, err
}

// CreateRepository makes an empty repository at the node's own git provider, unless
// it is there. The first push to a name does so as well.
func (n *Node) CreateRepository(ctx context.Context, name string) error {
	if n.git == nil {
		return fmt.Errorf("%w: this node serves no git repositories (it needs auth and patrick)", taubyte.ErrUnavailable)
	}
	return n.git.Create(ctx, name)
}
