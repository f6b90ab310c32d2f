package cloud

import (
	"fmt"
	"log/slog"
	"slices"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/acme"
	"github.com/taubyte/taubyte/gateway"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/monkey"
	"github.com/taubyte/taubyte/monkey/container"
	"github.com/taubyte/taubyte/patrick"
	"github.com/taubyte/taubyte/seer"
	"github.com/taubyte/taubyte/substrate"
	"github.com/taubyte/taubyte/tns"
)

// An Option changes the node that Open makes.
type Option func(*options)

type options struct {
	name        string
	services    []taubyte.Role
	host        []taubyte.HostOption
	http, api   string
	https       string
	certs       []auth.CertificateFile
	acme        []acme.Option // nil: none is run
	resolver    auth.Resolver
	apiHosts    []string
	dns         string
	public      []string
	zone        string
	limits      gateway.Limits
	development bool
	verified    *bool // nil: but in development
	plainBuilds bool
	containers  *container.Config // nil: builds are no containers
	images      map[string]monkey.Image
	labels      []string
	buildNet    bool
	authority   *taubyte.Authority
	membership  *membershipFile
	providers   []auth.Provider
	webhooks    string
	logs        string
	log         *slog.Logger
	of          serviceOptions
}

// serviceOptions are those that a program hands to the services themselves.
type serviceOptions struct {
	tns       []tns.Option
	auth      []auth.Option
	seer      []seer.Option
	hoarder   []hoarder.Option
	patrick   []patrick.Option
	monkey    []monkey.Option
	substrate []substrate.Option
	gateway   []gateway.Option
}

func (o *options) verifiedOnly() bool {
	if o.verified != nil {
		return *o.verified
	}
	return !o.development
}

func (o *options) runs(r taubyte.Role) bool { return slices.Contains(o.services, r) }

// WithServices chooses the services that the node runs. The default is all, so
// that a node alone is a whole cloud.
func WithServices(roles ...taubyte.Role) Option {
	return func(o *options) { o.services = roles }
}

// WithHost passes options to the node's host: where it listens for other nodes,
// which peers it connects to, which network it is a member of. The default is a
// network of its own, on loopback.
func WithHost(opts ...taubyte.HostOption) Option {
	return func(o *options) { o.host = append(o.host, opts...) }
}

// WithAuthority gives the node the network's root key: its own membership is
// signed with it, and, where auth runs, those of others are renewed.
func WithAuthority(a *taubyte.Authority) Option {
	return func(o *options) { o.authority = a }
}

// WithHTTP sets where the gateway listens for users. The default is 127.0.0.1:0,
// a free port of loopback, which Node.URL tells.
func WithHTTP(addr string) Option { return func(o *options) { o.http = addr } }

// WithHTTPS makes the gateway listen for HTTPS too, with the certificates that auth has.
// The default is not to.
func WithHTTPS(addr string) Option { return func(o *options) { o.https = addr } }

// WithCertificateFiles has the node's gateway serve certificates of files, before others for
// the same names, and take in what replaces them. It takes WithHTTPS. See
// auth.CertificateFiles.
func WithCertificateFiles(files ...auth.CertificateFile) Option {
	return func(o *options) { o.certs = append(o.certs, files...) }
}

// WithACME orders certificates for the host names that are served, where the node runs
// auth: see package auth/acme for the options. The node's zone is given to it. Without
// any option, Let's Encrypt is asked, whose terms of service the caller so agrees to. The
// default is to order none.
func WithACME(opts ...acme.Option) Option {
	return func(o *options) { o.acme = append(append([]acme.Option{}, o.acme...), opts...) }
}

// WithResolver sets where the TXT records that show who owns a host name are looked up.
// The default is the system's resolver.
func WithResolver(r auth.Resolver) Option { return func(o *options) { o.resolver = r } }

// WithAPI sets where the node's API listens. The default is loopback, on the port
// that the node had the last time if that is free: git remotes hold it.
func WithAPI(addr string) Option { return func(o *options) { o.api = addr } }

// WithAPIHosts adds names under which the API and git may be asked. Without it these are
// addresses, localhost, the machine's name, the name in WithAPI, and the node's own name,
// alone and in the zone: under others a web page might have led its readers' browsers
// here (DNS rebinding).
func WithAPIHosts(names ...string) Option {
	return func(o *options) { o.apiHosts = append(o.apiHosts, names...) }
}

// WithDNS makes seer answer DNS queries for the zone on that address (UDP and
// TCP). The default is no DNS server.
func WithDNS(addr string) Option { return func(o *options) { o.dns = addr } }

// WithPublic sets the IP addresses at which users reach the node, which DNS answers
// with. The default is that of WithHTTP or, where it listens on all addresses and on
// nodes without a gateway, those at which other nodes reach the node.
func WithPublic(addrs ...string) Option { return func(o *options) { o.public = addrs } }

// WithZone sets the zone that host names are generated in. There is no default:
// without one no names are generated, but in development, where it is
// "localhost".
func WithZone(zone string) Option { return func(o *options) { o.zone = zone } }

// WithGatewayLimits bounds what users take of the node's gateway. A zero field has
// its default, which is in gateway.Limits with what each field means; a negative one is
// ErrInvalid.
func WithGatewayLimits(l gateway.Limits) Option { return func(o *options) { o.limits = l } }

// WithName names a node that signs its own membership: with WithAuthority, or alone.
// Others have the name that their membership gives them. The default is none. See
// taubyte.CheckNodeName.
func WithName(name string) Option { return func(o *options) { o.name = name } }

// WithDevelopment takes every host name that a project configures as owned by it,
// and generates names under "localhost". DNS answers for labels of the zone before
// they are deployed, those that are reserved apart (taubyte.CheckNodeName). It is for
// one developer's machine: where strangers can push, it lets one take the other's names.
func WithDevelopment() Option {
	return func(o *options) { o.development = true }
}

// WithVerifiedOnly says whether a host name is served for a project only if it was generated
// for it or the project showed that it owns it ("taubyte domains"). With false the project
// that claims a name first has it until another shows that it is its own, which suits a cloud
// whose users trust each other. With true in development, names are not taken as owned
// either. All nodes that run tns have the same. The default is true, and false in
// development. See tns.WithVerifiedOnly.
func WithVerifiedOnly(on bool) Option { return func(o *options) { o.verified = &on } }

// WithPlainBuilds runs builds as plain processes of the machine: what is pushed has all that
// the node's user has, the node's keys too. It is for a node that only builds its operator's
// own code. The default is to confine builds (monkey.Confined), without which a node with
// monkey does not open; in development they are plain where they can't be confined, which
// Node.Unconfined tells.
func WithPlainBuilds() Option { return func(o *options) { o.plainBuilds = true } }

// WithContainerBuilds runs builds in containers of a Docker engine, by the images that
// projects name. A node with monkey does not open without the engine, in development neither.
func WithContainerBuilds(c container.Config) Option {
	return func(o *options) { o.containers = &c }
}

// WithBuildNetwork lets the scripts of builds use the machine's network, ports on its
// loopback included. The default is none for scripts, but in development.
func WithBuildNetwork() Option { return func(o *options) { o.buildNet = true } }

// WithBuildImages says what stands for container images that projects name, beside what
// monkey knows by itself. See monkey.WithImages.
func WithBuildImages(table map[string]monkey.Image) Option {
	return func(o *options) { o.images = table }
}

// WithBuildLabels says what the node has that not every node with monkey has, such as "gpu",
// for builds that ask for it. See monkey.WithLabels.
func WithBuildLabels(labels ...string) Option { return func(o *options) { o.labels = labels } }

// WithTNS passes options to the node's tns, after those that the node itself gives it, so
// that these count. So do the options below for the other services. On a node that does
// not run the service they are of no effect: all nodes of a program may have the same.
func WithTNS(opts ...tns.Option) Option {
	return func(o *options) { o.of.tns = append(o.of.tns, opts...) }
}

// WithAuth passes options to the node's auth: see WithTNS.
func WithAuth(opts ...auth.Option) Option {
	return func(o *options) { o.of.auth = append(o.of.auth, opts...) }
}

// WithSeer passes options to the node's seer, and to its heartbeats, which each node has
// (seer.Join): see WithTNS.
func WithSeer(opts ...seer.Option) Option {
	return func(o *options) { o.of.seer = append(o.of.seer, opts...) }
}

// WithHoarder passes options to the node's hoarder: see WithTNS.
func WithHoarder(opts ...hoarder.Option) Option {
	return func(o *options) { o.of.hoarder = append(o.of.hoarder, opts...) }
}

// WithPatrick passes options to the node's patrick: see WithTNS.
func WithPatrick(opts ...patrick.Option) Option {
	return func(o *options) { o.of.patrick = append(o.of.patrick, opts...) }
}

// WithMonkey passes options to the node's monkey: see WithTNS.
func WithMonkey(opts ...monkey.Option) Option {
	return func(o *options) { o.of.monkey = append(o.of.monkey, opts...) }
}

// WithSubstrate passes options to the node's substrate: see WithTNS.
func WithSubstrate(opts ...substrate.Option) Option {
	return func(o *options) { o.of.substrate = append(o.of.substrate, opts...) }
}

// WithGateway passes options to the node's gateway: see WithTNS. Where it listens and its
// limits are better said to the node (WithHTTP, WithHTTPS, WithGatewayLimits), which tells
// them to others.
func WithGateway(opts ...gateway.Option) Option {
	return func(o *options) { o.of.gateway = append(o.of.gateway, opts...) }
}

// WithLogger sets where the node and its services log. The default is
// slog.Default().
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.log = l } }

func (o *options) check() error {
	if len(o.services) == 0 {
		return fmt.Errorf("%w node: it runs no service", taubyte.ErrInvalid)
	}
	for _, r := range o.services {
		if !slices.Contains(taubyte.Roles(), r) {
			return fmt.Errorf("%w node: no service %q (the services are %v)", taubyte.ErrInvalid, r, taubyte.Roles())
		}
	}
	if l := o.limits; min(l.Requests, l.Sockets, l.Connections, l.MinRate) < 0 || l.Grace < 0 {
		return fmt.Errorf("%w node: a limit of its gateway is negative: %+v", taubyte.ErrInvalid, l)
	}
	if len(o.certs) > 0 && (o.https == "" || !o.runs(taubyte.RoleGateway)) {
		return fmt.Errorf("%w node: certificate files are served by HTTPS, by a gateway", taubyte.ErrInvalid)
	}
	return nil
}
