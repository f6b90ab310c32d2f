package auth_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

// The key of a certificate in a project's configuration is auth's to keep: monkeys give
// it, and nobody gets it from them.
func TestInlineCertificates(t *testing.T) {
	net := testnet.New(t)
	s := open(t, net.Node(taubyte.RoleAuth))
	monkey := client(t, net.Node(taubyte.RoleMonkey))
	ctx := t.Context()
	cert, key := certificate(t, time.Now().Add(time.Hour), "shop.example")
	in := auth.InlineCertificate{Project: "QmShop", Branch: "feature/x", Domain: "d", Host: "Shop.example", Cert: cert, Key: key}
	reference, err := monkey.KeepInlineCertificate(ctx, in)
	require.NoError(t, err)
	require.Equal(t, "secret:inline/QmShop/feature%2Fx/d", reference)
	again, err := monkey.KeepInlineCertificate(ctx, in)
	require.NoError(t, err)
	require.Equal(t, reference, again)
	in.Host = "other.example"
	_, err = monkey.KeepInlineCertificate(ctx, in)
	require.ErrorIs(t, err, taubyte.ErrInvalid)
	_, other := certificate(t, time.Now().Add(time.Hour), "shop.example")
	in.Host, in.Key = "shop.example", other
	_, err = monkey.KeepInlineCertificate(ctx, in)
	require.ErrorIs(t, err, taubyte.ErrInvalid)
	_, err = client(t, net.Node(taubyte.RoleSubstrate)).KeepInlineCertificate(ctx, in)
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	// A job gives the keys of its own branch.
	job := taubyte.Principal{Kind: taubyte.KindJob, Projects: []taubyte.ProjectID{"QmShop"}, Branch: "feature/x", Job: "j"}
	in.Key = key
	_, err = monkey.KeepInlineCertificate(taubyte.WithPrincipal(ctx, job), in)
	require.NoError(t, err)
	for _, change := range []func(*taubyte.Principal){
		func(p *taubyte.Principal) { p.Projects = []taubyte.ProjectID{"QmBlog"} },
		func(p *taubyte.Principal) { p.Branch = "main" },
	} {
		other := job
		change(&other)
		_, err = monkey.KeepInlineCertificate(taubyte.WithPrincipal(ctx, other), in)
		require.ErrorIs(t, err, taubyte.ErrForbidden)
	}
	audit, err := s.AuditLog(ctx, "", 10)
	require.NoError(t, err)
	require.Len(t, audit.Accesses, 1)
}

// An inlineNet is auth, the registry, and a gateway's certificates, on nodes of their own.
type inlineNet struct {
	*testing.T
	net     *testnet.Net
	authOn  *testnet.Node
	auth    *auth.Service
	tns     *tns.Service
	monkey  *auth.Client
	keyring *auth.Keyring
	order   uint64
}

func newInlineNet(t *testing.T) *inlineNet {
	n := &inlineNet{T: t, net: testnet.New(t)}
	n.authOn = n.net.Node(taubyte.RoleAuth)
	n.auth = open(t, n.authOn)
	on := n.net.Node(taubyte.RoleTNS)
	var err error
	n.tns, err = tns.New(t.Context(), on, on.Store, tns.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.tns.Close()) })
	n.monkey = client(t, n.net.Node(taubyte.RoleMonkey))
	n.keyring = auth.NewKeyring(client(t, n.net.Node(taubyte.RoleGateway)), testnet.Logger(t))
	t.Cleanup(func() { require.NoError(t, n.keyring.Close()) })
	return n
}

// keep gives auth a certificate for the hosts, the first of which names it, and returns the
// domain that a configuration then has.
func (n *inlineNet) keep(p taubyte.ProjectID, host string, names ...string) config.Domain {
	n.Helper()
	d := config.Domain{Common: config.Common{ID: taubyte.ResourceID("id-" + host), Name: host}, FQDN: host, CertType: "inline"}
	cert, key := certificate(n.T, time.Now().Add(time.Hour), append(names, host)...)
	var err error
	d.CertFile = cert
	d.KeyFile, err = n.monkey.KeepInlineCertificate(n.Context(), auth.InlineCertificate{
		Project: p, Branch: "main", Domain: d.ID, Host: host, Cert: cert, Key: key,
	})
	require.NoError(n, err)
	return d
}

func (n *inlineNet) deploy(p taubyte.ProjectID, domains ...config.Domain) {
	n.Helper()
	n.order++
	_, err := n.tns.Publish(n.Context(), p, "main", tns.Part{
		Repository: "local/" + taubyte.RepositoryID(p), Commit: taubyte.Commit(fmt.Sprintf("%040d", n.order)), Order: n.order, Time: time.Now(),
		Config: &config.Project{ID: p, Name: "p", Resources: config.Resources{Domains: domains}},
	})
	require.NoError(n, err)
}

// served waits until a gateway answers for a host with the certificate of that name.
func (n *inlineNet) served(host, name string) {
	n.Helper()
	testnet.Eventually(n.T, func() bool { return serves(n.keyring, host) == name }, "%s is not served with %q", host, name)
}

// Gateways serve the certificate of a project's configuration where the registry says that
// the host is the project's, and nowhere else.
func TestInlineCertificatesAreServed(t *testing.T) {
	n := newInlineNet(t)
	ctx := t.Context()
	shop := n.keep("QmShop", "shop.example", "first")
	n.deploy("QmShop", shop)
	n.served("shop.example", "first")
	_, err := client(t, n.net.Node(taubyte.RoleSubstrate, taubyte.RoleMonkey, taubyte.RoleTNS)).WatchInlineCertificates(ctx)
	require.ErrorIs(t, err, taubyte.ErrForbidden)

	// Another project brings one for the same host, refers to the key of the first, and has
	// a host of its own, by which its deployment is known to have come here.
	stolen := config.Domain{Common: config.Common{ID: "id-stolen", Name: "stolen"}, FQDN: "stolen.example", CertType: "inline", CertFile: shop.CertFile, KeyFile: shop.KeyFile}
	theirs := n.keep("QmThief", "shop.example", "thief", "own.example")
	own := n.keep("QmThief", "own.example", "own")
	n.deploy("QmThief", theirs, stolen, own)
	n.served("own.example", "own")
	require.Equal(t, "first", serves(n.keyring, "shop.example"))
	require.Empty(t, serves(n.keyring, "stolen.example"))

	// One that was imported later does not take its place, and it is replaced by the next
	// deployment's.
	cert, key := certificate(t, time.Now().Add(24*time.Hour), "imported", "shop.example", "other.example")
	_, err = n.auth.ImportCertificate(ctx, cert, key)
	require.NoError(t, err)
	n.served("other.example", "imported")
	require.Equal(t, "first", serves(n.keyring, "shop.example"))
	n.deploy("QmShop", n.keep("QmShop", "shop.example", "second"))
	n.served("shop.example", "second")

	listed := map[string]taubyte.ProjectID{}
	all, err := n.auth.Certificates(ctx)
	require.NoError(t, err)
	for _, c := range all {
		listed[fmt.Sprint(c.Hosts)] = c.Project
	}
	require.Equal(t, map[string]taubyte.ProjectID{"[shop.example]": "QmShop", "[own.example]": "QmThief", "[imported shop.example other.example]": ""}, listed)
	require.ErrorIs(t, n.auth.RemoveCertificate(ctx, "own.example"), taubyte.ErrConflict)

	// A gateway goes on while auth is away, and after auth has come back.
	require.NoError(t, n.auth.Close())
	require.Equal(t, "second", serves(n.keyring, "shop.example"))
	n.auth = open(t, n.authOn)
	n.deploy("QmShop", n.keep("QmShop", "shop.example", "third"))
	n.served("shop.example", "third")

	// Whoever shows that the host is theirs is served with their own.
	require.NoError(t, n.tns.Verify(ctx, "QmThief", "shop.example", true))
	n.served("shop.example", "thief")
	require.NoError(t, n.tns.Verify(ctx, "QmThief", "shop.example", false))
	n.served("shop.example", "third")

	// It goes with the domain, with the branch, and with the project.
	n.deploy("QmThief", theirs)
	n.served("own.example", "")
	require.NoError(t, n.tns.Remove(ctx, "QmShop", "main"))
	n.served("shop.example", "thief")
	testnet.Eventually(t, func() bool {
		all, err := n.auth.AuditLog(ctx, "", 20)
		return err == nil && slices.ContainsFunc(all.Accesses, func(a auth.Access) bool {
			return a.Action == "delete" && a.Secret == "inline/QmShop/main/id-shop.example"
		})
	}, "the key is not deleted")
	require.NoError(t, n.auth.DeleteProject(ctx, "QmThief", ""))
	n.served("shop.example", "imported")
}

// The wildcard of a project does not answer for a host below it that is another's.
func TestInlineWildcards(t *testing.T) {
	n := newInlineNet(t)
	wild := n.keep("QmShop", "*.shop.example", "wild")
	n.deploy("QmShop", wild)
	n.served("www.shop.example", "wild")
	n.deploy("QmOther", config.Domain{Common: config.Common{ID: "d", Name: "api"}, FQDN: "api.shop.example", CertType: "auto"})
	n.served("api.shop.example", "")
	require.Equal(t, "wild", serves(n.keyring, "www.shop.example"))
	require.NoError(t, n.tns.Remove(t.Context(), "QmOther", "main"))
	n.served("api.shop.example", "wild")
}
