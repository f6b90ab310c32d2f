package hoarder_test

import (
	"bytes"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

// A substrate node reaches the stores that what runs declares, and no others, and can
// take nothing away.
func TestSubstrateReachesWhatRuns(t *testing.T) {
	net := testnet.New(t)
	n, from := net.Node(taubyte.RoleHoarder), net.Node(taubyte.RoleSubstrate)
	s := start(t, n, hoarder.WithGrants(nil))
	c := client(t, from)
	open := func(i hoarder.Instance) error {
		_, err := c.Database(t.Context(), i, hoarder.DatabaseSpec{})
		return err
	}
	require.ErrorIs(t, open(named("notes")), taubyte.ErrUnavailable, "no registry")

	at := net.Node(taubyte.RoleTNS)
	registry, err := tns.New(t.Context(), at, at.Store, tns.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, registry.Close()) })
	deploy := func(order uint64, databases ...config.Database) {
		p := &config.Project{ID: "P", Name: "p", Resources: config.Resources{Databases: databases, Storages: []config.Storage{
			{Common: config.Common{ID: "id-files", Name: "files"}, Match: "files", Type: "object"},
		}}, Applications: []config.Application{{ID: "id-app", Resources: config.Resources{Databases: []config.Database{{Common: config.Common{ID: "id-in", Name: "in"}, Match: "in"}}}}}}
		_, err := registry.Publish(t.Context(), "P", "main", tns.Part{Repository: "local/p", Commit: "c", Order: order, Config: p})
		require.NoError(t, err)
	}
	notes := config.Database{Common: config.Common{ID: "id-notes", Name: "notes"}, Match: "notes"}
	users := config.Database{Common: config.Common{ID: "id-users", Name: "users"}, Match: "^user/[0-9]+$", UseRegex: true}
	deploy(1, notes)
	testnet.Eventually(t, func() bool { return open(named("notes")) == nil }, "granted once the registry is in reach")
	in := named("in")
	in.Application = "id-app"
	require.NoError(t, open(in))
	require.NoError(t, open(hoarder.Instance{Project: "P", Branch: "main", Application: "@globals", Name: "globals"}))
	_, err = c.Storage(t.Context(), named("files"), hoarder.StorageSpec{})
	require.NoError(t, err)

	other, branch := named("notes"), named("notes")
	other.Project, branch.Branch = "Q", "else"
	for what, i := range map[string]hoarder.Instance{
		"another project": other, "another branch": branch, "another name": named("more"),
		"another application": {Project: "P", Branch: "main", Application: "id-else", Name: "in"},
		"a kind of its own":   named("files"),
		"a scope of another":  {Project: "Q", Branch: "main", Application: "@globals", Name: "globals"},
		"nothing of a scope":  {Project: "P", Branch: "main", Application: "@globals", Name: "else"},
	} {
		require.ErrorIs(t, open(i), taubyte.ErrForbidden, what)
	}
	// Another project's store is not reached by its id either.
	d := database(t, s, other, hoarder.DatabaseSpec{})
	require.NoError(t, d.Put(t.Context(), "secret", []byte("1")))
	raw := rpc.NewClient(from, hoarder.Protocol, nil)
	t.Cleanup(raw.Close)
	for _, what := range []string{"value?key=secret", "keys?prefix=", "used"} {
		_, err := raw.Open(t.Context(), n.ID(), http.MethodGet, "/stores/"+hoarder.ID(other)+"/1/"+what, nil)
		require.ErrorIs(t, err, taubyte.ErrForbidden, what)
	}
	_, err = raw.Open(t.Context(), n.ID(), http.MethodPut, "/stores/"+hoarder.ID(other)+"/1/value?key=secret", bytes.NewReader([]byte("2")))
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	wantValue(t, d, "secret", "1")

	// What a deployment that was not heard of yet declares is looked up.
	deploy(2, users)
	require.NoError(t, open(named("user/7")))
	require.ErrorIs(t, open(named("user/x")), taubyte.ErrForbidden)

	require.ErrorIs(t, c.Drop(t.Context(), named("notes")), taubyte.ErrForbidden)
	_, err = c.Stores(t.Context())
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	_, err = c.Items(t.Context())
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	root, foreign := add(t, n, 1, 1000), add(t, n, 2, 1000)
	require.NoError(t, s.Keep(t.Context(), root, for_("P")))
	require.NoError(t, s.Keep(t.Context(), foreign, for_("Q")))
	_, err = c.Item(t.Context(), root)
	require.NoError(t, err)
	_, err = c.Item(t.Context(), foreign)
	require.ErrorIs(t, err, taubyte.ErrNotFound)
	require.ErrorIs(t, c.Release(t.Context(), root, "P"), taubyte.ErrForbidden)
	for _, path := range []string{"/lease", "/has", "/stores/" + hoarder.ID(named("notes")) + "/1/begin", "/stores/" + hoarder.ID(named("notes")) + "/1/wake", "/stores/" + hoarder.ID(named("notes")) + "/1/admit"} {
		require.ErrorIs(t, raw.CallPeer(t.Context(), n.ID(), http.MethodPost, path, struct{}{}, nil), taubyte.ErrForbidden, path)
	}
	require.ErrorIs(t, raw.CallPeer(t.Context(), n.ID(), http.MethodDelete, "/stores/"+hoarder.ID(named("notes"))+"/1", nil, nil), taubyte.ErrForbidden)
}
