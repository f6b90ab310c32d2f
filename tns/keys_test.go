package tns_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/crdt"
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

// An oldRegistry is the store of a node as an earlier version left it: with private keys
// in deployments.
type oldRegistry struct {
	*testing.T
	nodes []*testnet.Node // all have the deployments, as nodes of a registry do
	store *crdt.Store
	last  map[taubyte.Branch]cid.Cid
}

func (o *oldRegistry) deploy(branch taubyte.Branch, sequence uint64, key string) {
	o.Helper()
	d := tns.Deployment{Project: "QmShop", Branch: branch, Sequence: sequence, Time: time.Unix(int64(sequence), 0).UTC(), Built: map[taubyte.RepositoryID]uint64{"local/shop": sequence},
		Parts: map[taubyte.RepositoryID]tns.Part{"local/shop": {Repository: "local/shop", Commit: taubyte.Commit(fmt.Sprintf("%040d", sequence)), Order: sequence, Config: &config.Project{
			ID: "QmShop", Applications: []config.Application{{ID: "a", Name: "app", Resources: config.Resources{Domains: []config.Domain{
				{Common: config.Common{ID: "d", Name: "shop"}, FQDN: "shop.example", CertType: "inline", CertFile: "the certificate", KeyFile: key},
			}}}},
		}}}}
	raw, err := json.Marshal(d)
	require.NoError(o, err)
	sum, err := multihash.Sum(raw, multihash.SHA2_256, -1)
	require.NoError(o, err)
	block, err := blocks.NewBlockWithCid(raw, cid.NewCidV1(cid.Raw, sum))
	require.NoError(o, err)
	for _, n := range o.nodes {
		require.NoError(o, n.Blocks().Blockstore().Put(o.Context(), block))
	}
	origin := map[string]any{"time": d.Time}
	if last, ok := o.last[branch]; ok {
		origin["follows"] = []cid.Cid{last}
	}
	value, err := json.Marshal(origin)
	require.NoError(o, err)
	require.NoError(o, o.store.Put(o.Context(), ds.RawKey(fmt.Sprintf("/history/QmShop/%s/%016d/%s", branch, sequence, block.Cid())), value))
	o.last[branch] = block.Cid()
}

// Private keys that an earlier version has written go to who keeps them, and nothing is
// left of them in what the registry has, on any of its nodes; the history is as it was.
func TestPrivateKeysAreMoved(t *testing.T) {
	net := testnet.New(t)
	a, b := net.Node(), net.Node()
	ctx := t.Context()
	pem := func(of string) string {
		return "-----BEGIN PRIVATE KEY-----\nplanted-" + of + "\n-----END PRIVATE KEY-----\n"
	}
	var err error
	old := &oldRegistry{T: t, nodes: []*testnet.Node{a, b}, last: map[taubyte.Branch]cid.Cid{}}
	old.store, err = crdt.Open(ctx, a, a.Store, "tns", crdt.WithWriters(taubyte.RoleTNS))
	require.NoError(t, err)
	const reference = "secret:inline/QmShop/dev/d"
	old.deploy("main", 1, pem("first"))
	old.deploy("main", 2, pem("second"))
	old.deploy("dev", 1, pem("dev"))
	old.deploy("dev", 2, reference)
	old.deploy("broken", 1, pem("broken"))
	require.NoError(t, old.store.Close())

	var mu sync.Mutex
	var kept []string
	away := true
	keep := func(_ context.Context, p taubyte.ProjectID, branch taubyte.Branch, d config.Domain) error {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case away:
			away = false
			return taubyte.ErrUnavailable
		case branch == "broken":
			return taubyte.ErrInvalid
		}
		kept = append(kept, fmt.Sprint(p, " ", branch, " ", d.ID, " ", d.FQDN, " ", d.CertFile, " ", strings.Fields(d.KeyFile)[3]))
		return nil
	}
	start := func(n *testnet.Node) *tns.Service {
		s, err := tns.New(ctx, n, n.Store, tns.WithKeyKeeper(keep), tns.WithLogger(testnet.Logger(t)))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		return s
	}
	left := func(n *testnet.Node) (where []string) {
		res, err := n.Store.Query(ctx, query.Query{})
		require.NoError(t, err)
		entries, err := res.Rest()
		require.NoError(t, err)
		for _, e := range entries {
			if strings.Contains(string(e.Value), "planted") {
				where = append(where, e.Key)
			}
		}
		return where
	}
	require.Len(t, left(a), 4)
	one := start(a)
	d, err := one.Current(ctx, "QmShop", "main")
	require.NoError(t, err)
	require.Equal(t, "secret:inline/QmShop/main/d", d.Config().Applications[0].Domains[0].KeyFile, "it is told to nobody, from the start")
	two := start(b)
	for _, n := range []*testnet.Node{a, b} {
		testnet.Eventually(t, func() bool { return len(left(n)) == 0 }, "a key is left")
	}
	for _, s := range []*tns.Service{one, two} {
		testnet.Eventually(t, func() bool {
			all, err := s.History(ctx, "QmShop", "main")
			return err == nil && len(all) == 2 && !all[0].Missing && !all[1].Missing
		}, "the history is not there")
		for branch, n := range map[taubyte.Branch]uint64{"main": 2, "dev": 2, "broken": 1} {
			var d *tns.Deployment
			testnet.Eventually(t, func() bool { d, err = s.Current(ctx, "QmShop", branch); return err == nil }, "branch %s is gone", branch)
			require.Equal(t, n, d.Sequence)
			require.Equal(t, "secret:inline/QmShop/"+string(branch)+"/d", d.Config().Applications[0].Domains[0].KeyFile)
		}
	}
	mu.Lock()
	slices.Sort(kept)
	require.Equal(t, []string{"QmShop main d shop.example the certificate planted-second"}, slices.Compact(kept))
	mu.Unlock()

	// It goes on from there, and back.
	_, err = two.Rollback(ctx, "QmShop", "main", 1)
	require.NoError(t, err)
	d, err = two.Current(ctx, "QmShop", "main")
	require.NoError(t, err)
	require.Equal(t, uint64(3), d.Sequence)
	require.Equal(t, fmt.Sprintf("%040d", 1), string(d.Commit()))
}
