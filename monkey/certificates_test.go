package monkey_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/ipfs/go-datastore/query"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/tns/config"
)

// The private key of a certificate in a configuration goes to auth, and neither into the
// registry nor onto the disk nor into the log.
func TestInlineCertificate(t *testing.T) {
	b := newBench(t)
	owner, err := auth.New(t.Context(), b.node, b.node.Store, auth.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, owner.Close()) })
	b.start(t)
	cert, key := testnet.InlineCertificate(t, "inline.example")
	files := maps.Clone(configuration)
	files["domains/inline.yaml"] = "id: QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG\nfqdn: inline.example\ncertificate:\n  type: inline\n  cert: |" +
		cert + "  key: |" + key
	j := b.push("github/1", auth.KindConfig, files)
	b.succeed(t, j)
	found := false
	for _, d := range b.current(t).Config().Domains {
		if d.Name == "inline" {
			found = true
			require.Equal(t, config.KeyReference(b.current(t).Project, "main", d.ID), d.KeyFile)
			require.Contains(t, d.CertFile, "BEGIN CERTIFICATE")
		}
	}
	require.True(t, found)
	secret := strings.Fields(key)[3] // a line of the key itself
	require.Greater(t, len(secret), 40)
	require.NotContains(t, b.text(j), secret)
	b.clean(t)
	res, err := b.node.Store.Query(t.Context(), query.Query{})
	require.NoError(t, err)
	entries, err := res.Rest()
	require.NoError(t, err)
	for _, e := range entries {
		require.NotContains(t, string(e.Value), secret, e.Key)
	}
}
