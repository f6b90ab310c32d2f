package tns_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

// Every node can read the registry: it takes no private key.
func TestPrivateKeysAreRefused(t *testing.T) {
	node := testnet.New(t).Node()
	s, err := tns.New(t.Context(), node, node.Store, tns.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	defer s.Close()
	domain := config.Domain{Common: config.Common{ID: "d", Name: "shop"}, FQDN: "shop.example", CertType: "inline",
		CertFile: "-----BEGIN CERTIFICATE-----", KeyFile: "-----BEGIN EC PRIVATE KEY-----"}
	part := tns.Part{Repository: "local/shop", Commit: "c", Order: 1, Time: time.Now(), Config: &config.Project{ID: "QmShop", Applications: []config.Application{
		{ID: "a", Name: "app", Resources: config.Resources{Domains: []config.Domain{domain}}},
	}}}
	_, err = s.Publish(t.Context(), "QmShop", "main", part)
	require.ErrorIs(t, err, taubyte.ErrInvalid)
	require.ErrorContains(t, err, "shop")
	part.Config.Applications[0].Domains[0].KeyFile = "secret:inline/QmShop/main/d"
	_, err = s.Publish(t.Context(), "QmShop", "main", part)
	require.NoError(t, err)
}
