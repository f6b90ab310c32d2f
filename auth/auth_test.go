package auth_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"testing"
	"time"

	"github.com/ipfs/go-datastore/query"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/internal/testnet"
)

// provider has one repository, "shop", of one commit, "c".
type provider struct{}

func (provider) Name() string { return "local" }

func (provider) Heads(_ context.Context, r auth.Remote) (map[taubyte.Branch]taubyte.Commit, error) {
	if r.ID != "shop" {
		return nil, taubyte.ErrNotFound
	}
	return map[taubyte.Branch]taubyte.Commit{"main": "c"}, nil
}

func (provider) Source(_ context.Context, r auth.Remote, c taubyte.Commit, w io.Writer) error {
	switch {
	case c == "cut":
		_, _ = w.Write(make([]byte, 64<<10))
		return errors.New("the disk is on fire")
	case r.ID != "shop" || c != "c":
		return taubyte.ErrNotFound
	}
	_, err := io.WriteString(w, "tree of c")
	return err
}

func open(t *testing.T, n *testnet.Node, opts ...auth.Option) *auth.Service {
	t.Helper()
	s, err := auth.New(t.Context(), n, n.Store, append([]auth.Option{auth.WithProvider(provider{}), auth.WithLogger(testnet.Logger(t))}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func client(t *testing.T, n *testnet.Node) *auth.Client {
	c := auth.NewClient(n)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

var shop = auth.Repository{ID: "local/shop", Project: "QmShop", Kind: auth.KindProject}

func TestProjectsAndRepositories(t *testing.T) {
	net := testnet.New(t)
	s := open(t, net.Node())
	ctx := t.Context()
	_, err := s.Register(ctx, shop)
	require.ErrorIs(t, err, taubyte.ErrNotFound, "no such project")
	for range 2 {
		_, err = s.CreateProject(ctx, auth.Project{ID: "QmShop", Name: "shop"})
		require.NoError(t, err)
		r, err := s.Register(ctx, shop)
		require.NoError(t, err)
		require.Equal(t, "shop", r.Name)
	}
	_, err = s.CreateProject(ctx, auth.Project{ID: "QmOther"})
	require.NoError(t, err)
	taken := shop
	taken.Project = "QmOther"
	_, err = s.Register(ctx, taken)
	require.ErrorIs(t, err, taubyte.ErrConflict)
	for _, bad := range []auth.Repository{
		{ID: "shop", Project: "QmShop", Kind: auth.KindProject},
		{ID: "local/x", Project: "QmShop", Kind: "thing"},
	} {
		_, err = s.Register(ctx, bad)
		require.ErrorIs(t, err, taubyte.ErrInvalid)
	}
	_, err = s.Register(ctx, auth.Repository{ID: "github/1", Project: "QmShop", Kind: auth.KindConfig})
	require.ErrorIs(t, err, taubyte.ErrNotFound, "no such provider")
	fresh, err := s.CreateProject(ctx, auth.Project{Name: "fresh"})
	require.NoError(t, err)
	require.Len(t, string(fresh.ID), 46, "an id was made")
	_, err = s.CreateProject(ctx, auth.Project{ID: "a/b"})
	require.ErrorIs(t, err, taubyte.ErrInvalid)

	all, err := s.Repositories(ctx, "")
	require.NoError(t, err)
	require.Len(t, all, 1)
	heads, err := s.Heads(ctx, shop.ID)
	require.NoError(t, err)
	require.Equal(t, taubyte.Commit("c"), heads["main"])
	require.NoError(t, s.RemoveProject(ctx, "QmShop"))
	_, err = s.Repository(ctx, shop.ID)
	require.ErrorIs(t, err, taubyte.ErrNotFound)
	_, err = s.Project(ctx, "QmShop")
	require.ErrorIs(t, err, taubyte.ErrNotFound)
}

func TestRolesAndSources(t *testing.T) {
	net := testnet.New(t)
	s := open(t, net.Node(taubyte.RoleAuth))
	patrick := client(t, net.Node(taubyte.RolePatrick))
	ctx := t.Context()
	_, err := s.CreateProject(ctx, auth.Project{ID: "QmShop"})
	require.NoError(t, err)
	_, err = s.Register(ctx, shop)
	require.NoError(t, err)

	var tree bytes.Buffer
	require.NoError(t, patrick.Source(ctx, shop.ID, "c", &tree))
	require.Equal(t, "tree of c", tree.String())
	require.ErrorIs(t, patrick.Source(ctx, shop.ID, "d", io.Discard), taubyte.ErrNotFound)
	require.Error(t, patrick.Source(ctx, shop.ID, "cut", io.Discard), "half a tree is an error")
	heads, err := patrick.Heads(ctx, shop.ID)
	require.NoError(t, err)
	require.Len(t, heads, 1)
	_, err = patrick.Register(ctx, shop)
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	_, err = patrick.WatchCertificates(ctx)
	require.ErrorIs(t, err, taubyte.ErrForbidden)

	for _, role := range []taubyte.Role{taubyte.RoleSubstrate, taubyte.RoleMonkey, taubyte.RoleGateway} {
		c := client(t, net.Node(role))
		require.ErrorIs(t, c.Source(ctx, shop.ID, "c", io.Discard), taubyte.ErrForbidden)
		_, err = c.Repositories(ctx, "")
		require.ErrorIs(t, err, taubyte.ErrForbidden)
		if role != taubyte.RoleGateway {
			_, err = c.WatchCertificates(ctx)
			require.ErrorIs(t, err, taubyte.ErrForbidden)
		}
	}
}

func TestAMemberRenewsItselfAlone(t *testing.T) {
	net := testnet.New(t)
	open(t, net.Node(taubyte.RoleAuth), auth.WithAuthority(net.Authority))
	node := net.Node(taubyte.RoleSubstrate)
	signed, err := client(t, node).RenewMembership(t.Context())
	require.NoError(t, err)
	m, err := net.Authority.Network().Verify(signed, node.ID(), time.Now())
	require.NoError(t, err)
	require.Equal(t, []taubyte.Role{taubyte.RoleSubstrate}, m.Roles, "its own roles, no more")
}

func TestRenewalNeedsTheRootKey(t *testing.T) {
	net := testnet.New(t)
	open(t, net.Node(taubyte.RoleAuth))
	_, err := client(t, net.Node(taubyte.RoleSubstrate)).RenewMembership(t.Context())
	require.ErrorIs(t, err, taubyte.ErrUnavailable)
}

// certificate makes a self-signed one.
func certificate(t testing.TB, until time.Time, hosts ...string) (cert, key string) {
	t.Helper()
	sk, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: hosts[0]}, DNSNames: hosts,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &sk.PublicKey, sk)
	require.NoError(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(sk)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}

func serves(k *auth.Keyring, host string) string {
	c, err := k.GetCertificate(&tls.ClientHelloInfo{ServerName: host})
	if err != nil {
		return ""
	}
	return c.Leaf.Subject.CommonName
}

func TestCertificates(t *testing.T) {
	net := testnet.New(t)
	first := net.Node(taubyte.RoleAuth)
	s := open(t, first)
	keyring := auth.NewKeyring(client(t, net.Node(taubyte.RoleGateway)), testnet.Logger(t))
	defer keyring.Close()
	ctx := t.Context()
	cert, key := certificate(t, time.Now().Add(time.Hour), "Shop.example", "*.shop.example")
	hosts, err := s.ImportCertificate(ctx, cert, key)
	require.NoError(t, err)
	require.Equal(t, []string{"shop.example", "*.shop.example"}, hosts)
	for _, name := range []string{"shop.example", "SHOP.example.", "www.shop.example"} {
		testnet.Eventually(t, func() bool { return serves(keyring, name) == "Shop.example" }, "%s", name)
	}
	require.Empty(t, serves(keyring, "a.b.shop.example"), "a wildcard is one label")
	require.Empty(t, serves(keyring, "example"))
	require.Empty(t, serves(keyring, ""))

	// One with another host too serves as well; what does not fit changes nothing.
	longer, longerKey := certificate(t, time.Now().Add(48*time.Hour), "longer", "shop.example")
	_, err = s.ImportCertificate(ctx, longer, longerKey)
	require.NoError(t, err)
	testnet.Eventually(t, func() bool { return serves(keyring, "shop.example") == "longer" }, "the new one")
	_, err = s.ImportCertificate(ctx, cert, longerKey)
	require.ErrorIs(t, err, taubyte.ErrInvalid, "another's key")

	// What is on disk shows no key.
	res, err := first.Store.Query(ctx, query.Query{})
	require.NoError(t, err)
	entries, err := res.Rest()
	require.NoError(t, err)
	for _, e := range entries {
		require.NotContains(t, string(e.Value), "PRIVATE KEY", e.Key)
	}

	// A node that joins can open them, and serves when the first is gone.
	second := net.Node(taubyte.RoleAuth)
	joined := open(t, second)
	mine, cancel := context.WithCancel(ctx)
	defer cancel()
	watch, err := joined.WatchCertificates(mine)
	require.NoError(t, err)
	seen := map[string]bool{}
	for change := range watch {
		for _, c := range change.Set {
			seen[c.Cert] = true
		}
		if seen[cert] && seen[longer] {
			break
		}
	}
	require.NoError(t, s.Close())
	require.NotEmpty(t, serves(keyring, "shop.example"), "what is known goes on being served")
	other := auth.NewKeyring(client(t, net.Node(taubyte.RoleGateway)), testnet.Logger(t))
	defer other.Close()
	testnet.Eventually(t, func() bool { return serves(other, "shop.example") == "longer" }, "by the second node")
}

func TestNothingIsGivenToOthersOrAfterClose(t *testing.T) {
	net := testnet.New(t)
	s := open(t, net.Node())
	c := rpc.NewClient(net.Node(taubyte.RoleTNS), auth.Protocol, nil)
	defer c.Close()
	require.ErrorIs(t, c.Call(t.Context(), "GET", "/certificates/watch", nil, nil), taubyte.ErrForbidden)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	_, err := s.WatchCertificates(t.Context())
	require.ErrorIs(t, err, taubyte.ErrClosed)
}

func TestRestartKeepsAll(t *testing.T) {
	net := testnet.New(t)
	n := net.Node()
	s := open(t, n)
	ctx := t.Context()
	_, err := s.CreateProject(ctx, auth.Project{ID: "QmShop"})
	require.NoError(t, err)
	_, err = s.Register(ctx, shop)
	require.NoError(t, err)
	cert, key := certificate(t, time.Now().Add(time.Hour), "shop.example")
	_, err = s.ImportCertificate(ctx, cert, key)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	s = open(t, n)
	_, err = s.Repository(ctx, shop.ID)
	require.NoError(t, err)
	watching, stop := context.WithCancel(ctx)
	defer stop()
	watch, err := s.WatchCertificates(watching)
	require.NoError(t, err)
	require.Len(t, (<-watch).Set, 1)
}
