package acme_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-acme/lego/v4/acme/api"
	"github.com/ipfs/go-datastore/query"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth/acme"
	"github.com/taubyte/taubyte/cloud"
	"github.com/taubyte/taubyte/internal/testnet"
)

// account is a client of the server with the account that a node's auth keeps, and its
// URL. eab is the id of the external account.
func account(t *testing.T, n *network, node *cloud.Node, eab string) (*api.Core, storedAccount) {
	t.Helper()
	sum := sha256.Sum256([]byte(n.pebble.Directory + "\x00" + eab))
	raw, err := node.Auth.OwnSecret(t.Context(), fmt.Sprintf("acme/accounts/%x", sum[:8]))
	require.NoError(t, err)
	var a storedAccount
	require.NoError(t, json.Unmarshal(raw, &a))
	key, err := x509.ParsePKCS8PrivateKey(a.Key)
	require.NoError(t, err)
	core, err := api.New(n.pebble.client(), "test", n.pebble.Directory, a.URL, key)
	require.NoError(t, err)
	return core, a
}

type storedAccount struct {
	Key []byte `json:"key"`
	URL string `json:"url"`
}

// accounts counts the accounts that were made at the server, by its log.
func accounts(n *network) int { return strings.Count(n.pebble.said.String(), "accounts in memory") }

// Two nodes that start at once, and order at once, have one account, made by the external
// account once. Its key lies on no disk, and a new contact is told.
func TestTwoNodesHaveOneAccount(t *testing.T) {
	n := newNetwork(t, func(c *pebbleConfig) { c.EAB = [2]string{"kid-1", eabKey}; c.AuthzReuse = 100 })
	n.dns.lead(gatewayAddrs[0])
	roles := []taubyte.Role{taubyte.RoleAuth, taubyte.RoleTNS, taubyte.RoleSeer, taubyte.RoleGateway}
	opts := []acme.Option{acme.WithExternalAccount("kid-1", eabKey), acme.WithEmail("old@example.com")}
	dir := filepath.Join(t.TempDir(), "first")
	first := n.openAt(dir, gatewayAddrs[0], roles, opts...)
	second := n.open("", []taubyte.Role{taubyte.RoleAuth}, opts...)
	var hosts []string
	for i := range 6 {
		hosts = append(hosts, fmt.Sprintf("h%d-%s.%s", i, lower(projectA[len(projectA)-8:]), zone))
	}
	deploy(t, first.TNS, projectA, 1, hosts...)
	for _, h := range hosts {
		n.serves(first, h, nil)
	}
	require.Equal(t, 1, accounts(n))
	require.Equal(t, len(hosts), issued(n))
	core, one := account(t, n, first, "kid-1")
	testnet.Eventually(t, func() bool {
		_, two := account(t, n, second, "kid-1")
		return two.URL == one.URL && bytes.Equal(two.Key, one.Key)
	}, "the same at both")
	at, err := core.Accounts.Get(one.URL)
	require.NoError(t, err)
	require.Equal(t, []string{"mailto:old@example.com"}, at.Contact)
	for _, node := range n.nodes {
		results, err := node.Store.Query(t.Context(), query.Query{})
		require.NoError(t, err)
		entries, err := results.Rest()
		require.NoError(t, err)
		for _, e := range entries {
			require.False(t, bytes.Contains(e.Value, one.Key) || bytes.Contains(e.Value, []byte(base64.StdEncoding.EncodeToString(one.Key))), e.Key)
		}
	}

	// Another contact, when the node starts again; it is not another account.
	require.NoError(t, second.Close())
	require.NoError(t, first.Close())
	n.nodes = nil
	again := n.openAt(dir, gatewayAddrs[0], roles, acme.WithExternalAccount("kid-1", eabKey), acme.WithEmail("new@example.com"))
	testnet.Eventually(t, func() bool {
		core, a := account(t, n, again, "kid-1")
		at, err := core.Accounts.Get(a.URL)
		require.NoError(t, err)
		return len(at.Contact) == 1 && at.Contact[0] == "mailto:new@example.com"
	}, "the new contact")
	require.Equal(t, 1, accounts(n))
}
