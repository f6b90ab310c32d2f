package auth_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/internal/testnet"
)

// A certificate is replaced by a newer one of the same names, also where that one ends
// earlier, and is gone when it is removed: on both nodes and at the gateway.
func TestCertificatesAreReplacedAndRemoved(t *testing.T) {
	net := testnet.New(t)
	one := open(t, net.Node(taubyte.RoleAuth))
	two := open(t, net.Node(taubyte.RoleAuth))
	gateway := client(t, net.Node(taubyte.RoleGateway))
	keyring := auth.NewKeyring(gateway, testnet.Logger(t))
	defer keyring.Close()
	ctx := t.Context()
	long, longKey := certificate(t, time.Now().Add(90*24*time.Hour), "shop.example", "www.shop.example")
	_, err := one.ImportCertificate(ctx, long, longKey)
	require.NoError(t, err)
	listed := func(s *auth.Service) (all []auth.CertificateInfo) {
		all, err := s.Certificates(ctx)
		require.NoError(t, err)
		return all
	}
	testnet.Eventually(t, func() bool { return len(listed(two)) == 1 }, "replicated")
	short, shortKey := certificate(t, time.Now().Add(time.Hour), "WWW.shop.example", "shop.example")
	_, err = two.ImportCertificate(ctx, short, shortKey)
	require.NoError(t, err)
	testnet.Eventually(t, func() bool { return serves(keyring, "shop.example") == "WWW.shop.example" }, "the newer one")
	testnet.Eventually(t, func() bool { return len(listed(one)) == 1 && listed(one)[0].Version == 2 }, "one of these names")
	require.ErrorIs(t, gateway.RemoveCertificate(ctx, "shop.example"), taubyte.ErrForbidden)
	require.NoError(t, one.RemoveCertificate(ctx, listed(one)[0].ID))
	testnet.Eventually(t, func() bool { return serves(keyring, "shop.example") == "" && len(listed(two)) == 0 }, "removed")
	require.ErrorIs(t, one.RemoveCertificate(ctx, "shop.example"), taubyte.ErrNotFound)
}

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
