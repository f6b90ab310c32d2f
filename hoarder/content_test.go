package hoarder_test

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/internal/unixfs"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

// runs is what the test says that runs.
type runs struct {
	mu       sync.Mutex
	branches map[hoarder.Instance]bool
}

func (r *runs) Granted(_ context.Context, kind string, i hoarder.Instance) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if kind != "content" || !r.branches[i] {
		return taubyte.ErrForbidden
	}
	return nil
}

// fetches reports whether a node is given a whole DAG by content exchange.
func fetches(t *testing.T, bs blockservice.BlockService, root cid.Cid, patience time.Duration) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := unixfs.Fetch(ctx, bs, root)
	return err == nil
}

const (
	refusal = 700 * time.Millisecond // that nothing came for so long is taken for a refusal
	arrival = 30 * time.Second
)

// Whoever knows the CID of content is given its blocks if he is a hoarder, or a substrate
// node that runs a branch of a project which keeps it; nobody else is.
func TestBlocksAreGivenToWhomTheyAreDue(t *testing.T) {
	net := testnet.New(t)
	a, b := net.Node(taubyte.RoleHoarder), net.Node(taubyte.RoleHoarder)
	grants := &runs{branches: map[hoarder.Instance]bool{{Project: "P", Branch: "main"}: true}}
	first, second := start(t, a, hoarder.WithGrants(grants), hoarder.WithOpenFor(2*time.Second)), start(t, b, hoarder.WithGrants(grants), hoarder.WithOpenFor(2*time.Second))
	build := net.Node(taubyte.RoleMonkey)
	tree := fstest.MapFS{"index.html": {Data: noise(1, 1000)}, "assets/big": {Data: noise(2, 1<<20)}}
	root, err := unixfs.AddFS(t.Context(), build.Blocks(), tree)
	require.NoError(t, err)
	foreign := add(t, build, 3, 600<<10)
	// Sent by the builder, and copied from one hoarder to the other.
	keeper := client(t, build)
	require.NoError(t, keeper.Keep(t.Context(), root, for_("P")))
	require.NoError(t, keeper.Keep(t.Context(), foreign, for_("Q")))
	for _, n := range []*testnet.Node{a, b} {
		testnet.Eventually(t, func() bool { return onDisk(t, n, root) && onDisk(t, n, foreign) }, "replicated")
	}

	sub, late := net.Node(taubyte.RoleSubstrate), net.Node(taubyte.RoleSubstrate)
	others := []*testnet.Node{
		sub, late, net.Node(taubyte.RoleMonkey), net.Node(taubyte.RoleGateway), net.Node(taubyte.RoleSeer),
		net.Node(taubyte.RoleTNS, taubyte.RolePatrick, taubyte.RoleAuth), net.Member(noRole(net)),
	}
	var wg sync.WaitGroup
	for i, n := range others {
		for _, c := range []cid.Cid{root, foreign, cid.NewCidV1(cid.Raw, root.Hash())} {
			wg.Go(func() {
				assert.False(t, fetches(t, n.Blocks(), c, refusal), "node %d is given %s", i, c)
			})
		}
	}
	wg.Wait()

	c := client(t, sub)
	for what, ask := range map[string]struct {
		project taubyte.ProjectID
		branch  taubyte.Branch
		root    cid.Cid
		want    error
	}{
		"a project that does not run":            {"Q", "main", foreign, taubyte.ErrForbidden},
		"a branch that does not run":             {"P", "else", root, taubyte.ErrForbidden},
		"another project's, by one of its own":   {"P", "main", foreign, taubyte.ErrNotFound},
		"a part that no project keeps by itself": {"P", "main", cid.NewCidV1(cid.Raw, root.Hash()), taubyte.ErrNotFound},
		"no name of a branch":                    {"P", "", root, taubyte.ErrInvalid},
	} {
		wg.Go(func() {
			began := time.Now()
			_, err := unixfs.Fetch(t.Context(), c.Content(ask.project, ask.branch, ask.root), ask.root)
			assert.ErrorIs(t, err, ask.want, what)
			assert.Less(t, time.Since(began), 20*time.Second, what)
			t.Logf("%s: refused after %s: %v", what, time.Since(began).Round(time.Millisecond), err)
		})
	}
	wg.Wait()

	require.True(t, fetches(t, c.Content("P", "main", root), root, arrival))
	f, err := unixfs.Open(t.Context(), c.Content("P", "main", root), root, "assets/big")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.False(t, fetches(t, sub.Blocks(), foreign, refusal))
	for _, n := range others[2:] { // open to substrate nodes, and to no others
		wg.Go(func() { assert.False(t, fetches(t, n.Blocks(), root, refusal)) })
	}
	wg.Wait()
	// It is closed again some time after the last one asked.
	testnet.Eventually(t, func() bool { return hoarder.Opened(first) == 0 && hoarder.Opened(second) == 0 }, "closed")
	require.False(t, fetches(t, late.Blocks(), root, refusal))

	// A project that starts to run gets its own.
	grants.mu.Lock()
	grants.branches[hoarder.Instance{Project: "Q", Branch: "dev"}] = true
	grants.mu.Unlock()
	require.True(t, fetches(t, client(t, late).Content("Q", "dev", foreign), foreign, arrival))
}

func noRole(net *testnet.Net) taubyte.MembershipSource {
	return func(_ context.Context, p peer.ID) ([]byte, error) {
		return net.Authority.Sign(p, "", nil, taubyte.DefaultMembershipLifetime)
	}
}

// A hoarder that goes away in the middle of a fetch is replaced by another that has the
// content.
func TestContentComesFromTheNextHoarder(t *testing.T) {
	net := testnet.New(t)
	a, b := net.Node(taubyte.RoleHoarder), net.Node(taubyte.RoleHoarder)
	services := []*hoarder.Service{start(t, a), start(t, b)}
	root := add(t, a, 1, 4<<20)
	require.NoError(t, services[0].Keep(t.Context(), root, for_("P")))
	testnet.Eventually(t, func() bool { return onDisk(t, b, root) }, "replicated")
	sub := net.Node(taubyte.RoleSubstrate)
	f, err := unixfs.Open(t.Context(), client(t, sub).Content("P", "main", root), root, "")
	require.NoError(t, err)
	defer f.Close()
	gone := 0
	if hoarder.Opened(services[1]) > 0 {
		gone = 1
	}
	require.Positive(t, hoarder.Opened(services[gone]))
	require.NoError(t, services[gone].Close())
	var all bytes.Buffer
	_, err = all.ReadFrom(f)
	require.NoError(t, err)
	require.True(t, bytes.Equal(noise(1, 4<<20), all.Bytes()))
}

// What runs is what the network's registry says: a new deployment's content is had at once,
// that of a branch which is removed is not.
func TestContentOfWhatTheRegistrySaysRuns(t *testing.T) {
	net := testnet.New(t)
	n := net.Node(taubyte.RoleHoarder)
	s := start(t, n, hoarder.WithGrants(nil))
	at := net.Node(taubyte.RoleTNS)
	registry, err := tns.New(t.Context(), at, at.Store, tns.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, registry.Close()) })
	c := client(t, net.Node(taubyte.RoleSubstrate))
	order := uint64(0)
	deploy := func(project taubyte.ProjectID, branch taubyte.Branch, root cid.Cid) uint64 {
		order++
		p := &config.Project{ID: project, Name: "p", Resources: config.Resources{Websites: []config.Website{{Common: config.Common{ID: "id-w", Name: "w"}}}}}
		d, err := registry.Publish(t.Context(), project, branch, tns.Part{
			Repository: "local/p", Commit: "c", Order: order, Config: p, Assets: map[taubyte.ResourceID]cid.Cid{"id-w": root},
		})
		require.NoError(t, err)
		return d.Sequence
	}
	one, two, preview := add(t, n, 1, 300<<10), add(t, n, 2, 300<<10), add(t, n, 3, 300<<10)
	for _, root := range []cid.Cid{one, two, preview} {
		require.NoError(t, s.Keep(t.Context(), root, for_("P")))
	}
	sequence := deploy("P", "main", one)
	require.True(t, fetches(t, c.Content("P", "main", one), one, arrival))
	deploy("P", "main", two)
	require.True(t, fetches(t, c.Content("P", "main", two), two, arrival))
	deploy("P", "feature", preview)
	require.True(t, fetches(t, c.Content("P", "feature", preview), preview, arrival))
	_, err = registry.Rollback(t.Context(), "P", "main", sequence)
	require.NoError(t, err)
	require.True(t, fetches(t, client(t, net.Node(taubyte.RoleSubstrate)).Content("P", "main", one), one, arrival))

	fourth := add(t, n, 4, 300<<10)
	require.NoError(t, s.Keep(t.Context(), fourth, for_("Q")))
	_, err = unixfs.Fetch(t.Context(), c.Content("Q", "main", fourth), fourth)
	require.ErrorIs(t, err, taubyte.ErrForbidden, "not deployed yet")
	deploy("Q", "main", fourth)
	require.True(t, fetches(t, c.Content("Q", "main", fourth), fourth, arrival))
}

func BenchmarkBlockOpen(b *testing.B) {
	may, miss := hoarder.ManyOpened(1_000_000)
	b.Run("open", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if !may(i % 1_000_000) {
				b.Fatal("closed")
			}
		}
	})
	b.Run("closed", func(b *testing.B) {
		for b.Loop() {
			if miss() {
				b.Fatal("open")
			}
		}
	})
}
