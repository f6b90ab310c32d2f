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

// What services of role auth keep for themselves is on each node of the role, and nobody
// else's.
func TestOwnSecrets(t *testing.T) {
	net := testnet.New(t)
	one, two := open(t, net.Node(taubyte.RoleAuth)), open(t, net.Node(taubyte.RoleAuth))
	ctx := t.Context()
	_, err := one.OwnSecret(ctx, "acme/x")
	require.ErrorIs(t, err, taubyte.ErrNotFound)
	require.NoError(t, one.KeepOwnSecret(ctx, "acme/x", []byte("first")))
	testnet.Eventually(t, func() bool { v, err := two.OwnSecret(ctx, "acme/x"); return err == nil && string(v) == "first" }, "replicated")
	require.ErrorIs(t, one.KeepOwnSecret(ctx, "", nil), taubyte.ErrInvalid)
	user := taubyte.WithPrincipal(ctx, taubyte.Principal{Kind: taubyte.KindUser, Name: "u"})
	_, err = one.OwnSecret(user, "acme/x")
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	require.ErrorIs(t, one.KeepOwnSecret(user, "acme/x", []byte("y")), taubyte.ErrForbidden)
	gateway := client(t, net.Node(taubyte.RoleGateway))
	_, err = gateway.OwnSecret(ctx, "acme/x")
	require.ErrorIs(t, err, taubyte.ErrUnavailable, "it does not leave the role")
}
