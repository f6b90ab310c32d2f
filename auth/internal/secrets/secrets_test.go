package secrets_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth/internal/secrets"
	"github.com/taubyte/taubyte/crdt"
	"github.com/taubyte/taubyte/internal/envelope"
	"github.com/taubyte/taubyte/internal/testnet"
)

// cluster is a network of auth nodes, each with a store of secrets.
type cluster struct {
	t    *testing.T
	net  *testnet.Net
	mu   sync.Mutex
	live map[peer.ID]bool
	gone map[peer.ID]bool
	skew time.Duration
}

type node struct {
	*secrets.Store
	*testnet.Node
	replica *crdt.Store
	close   func()
}

func newCluster(t *testing.T) *cluster {
	return &cluster{t: t, net: testnet.New(t), live: map[peer.ID]bool{}, gone: map[peer.ID]bool{}}
}

func (c *cluster) peers() []peer.ID {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.live))
}

func (c *cluster) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.skew)
}

func (c *cluster) add() *node {
	n := c.net.Node(taubyte.RoleAuth)
	key, err := envelope.NewKey()
	require.NoError(c.t, err)
	return c.open(n, key)
}

func (c *cluster) open(n *testnet.Node, key *envelope.Key) *node {
	ctx := c.t.Context()
	replica, err := crdt.Open(ctx, n, n.Store, "auth", crdt.WithWriters(taubyte.RoleAuth), crdt.WithLogger(testnet.Logger(c.t)))
	require.NoError(c.t, err)
	c.mu.Lock()
	c.live[n.ID()] = true
	c.mu.Unlock()
	s, err := secrets.Open(ctx, secrets.Config{
		Store: replica, Local: n.Store, Self: n.ID(), Key: key, Peers: c.peers, Log: testnet.Logger(c.t), Now: c.now,
		Revoked: func(p peer.ID) bool { c.mu.Lock(); defer c.mu.Unlock(); return c.gone[p] },
	})
	require.NoError(c.t, err)
	made := &node{Store: s, Node: n, replica: replica}
	made.close = sync.OnceFunc(func() {
		c.mu.Lock()
		delete(c.live, n.ID())
		c.mu.Unlock()
		require.NoError(c.t, s.Close())
		require.NoError(c.t, replica.Close())
	})
	c.t.Cleanup(made.close)
	return made
}

func (c *cluster) revoke(n *node) {
	c.mu.Lock()
	c.gone[n.ID()] = true
	c.mu.Unlock()
}

var me = secrets.Caller{Who: "the test"}

func value(n *node, name string) string {
	v, _, err := n.Get(context.Background(), me, name)
	if err != nil {
		return "error: " + err.Error()
	}
	return string(v)
}

// disk is all that a node's store holds.
func disk(t *testing.T, n *testnet.Node) []byte {
	t.Helper()
	res, err := n.Store.Query(t.Context(), query.Query{})
	require.NoError(t, err)
	all, err := res.Rest()
	require.NoError(t, err)
	var b bytes.Buffer
	for _, e := range all {
		b.WriteString(e.Key)
		b.Write(e.Value)
	}
	return b.Bytes()
}

func TestVersionsAndReaders(t *testing.T) {
	c := newCluster(t)
	n := c.add()
	ctx := t.Context()
	shop := secrets.ReaderProject("QmShop")
	first, err := n.Put(ctx, me, "projects/QmShop/a", []byte("hunter-2-hunter"), shop)
	require.NoError(t, err)
	require.Equal(t, uint64(1), first.Version)
	same, err := n.Put(ctx, me, "projects/QmShop/a", []byte("hunter-2-hunter"), shop)
	require.NoError(t, err)
	require.Equal(t, first, same, "the same again changes nothing")
	for i := 2; i <= 6; i++ {
		info, err := n.Put(ctx, me, "projects/QmShop/a", fmt.Append(nil, "v", i), shop)
		require.NoError(t, err)
		require.Equal(t, uint64(i), info.Version)
	}
	require.Equal(t, "v6", value(n, "projects/QmShop/a"))
	got, info, err := n.Get(ctx, secrets.Caller{Who: "x", As: shop}, "projects/QmShop/a")
	require.NoError(t, err)
	require.Equal(t, "v6", string(got))
	require.Equal(t, []secrets.Reader{shop}, info.Readers)
	_, _, err = n.Get(ctx, secrets.Caller{Who: "y", As: secrets.ReaderProject("QmOther")}, "projects/QmShop/a")
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	require.Equal(t, 3, n.Generations()[0].Secrets, "versions are bounded")

	_, err = n.Put(ctx, me, "projects/QmShop/b", []byte("other"))
	require.NoError(t, err)
	_, err = n.Put(ctx, me, "projects/QmShopkeeper/b", []byte("other"))
	require.NoError(t, err)
	var names []string
	for _, i := range n.List("projects/QmShop/") {
		names = append(names, i.Name)
	}
	require.Equal(t, []string{"projects/QmShop/a", "projects/QmShop/b"}, names)
	require.Len(t, n.List("projects/"), 3)

	require.NoError(t, n.Delete(ctx, me, "projects/QmShop/a"))
	require.ErrorIs(t, n.Delete(ctx, me, "projects/QmShop/a"), taubyte.ErrNotFound)
	_, _, err = n.Get(ctx, me, "projects/QmShop/a")
	require.ErrorIs(t, err, taubyte.ErrNotFound)
	again, err := n.Put(ctx, me, "projects/QmShop/a", []byte("back"))
	require.NoError(t, err)
	require.Equal(t, uint64(7), again.Version, "numbers are not used twice")

	for _, bad := range []string{"", "/a", "a//b", "a/", "a\nb", "\xff", strings.Repeat("x", 2000)} {
		_, err := n.Put(ctx, me, bad, []byte("x"))
		require.ErrorIs(t, err, taubyte.ErrInvalid, "%q", bad)
	}
	_, err = n.Put(ctx, me, "big", make([]byte, secrets.MaxValue+1))
	require.ErrorIs(t, err, taubyte.ErrTooLarge)

	log, err := n.Audit(ctx, "projects/QmShop/a", 100)
	require.NoError(t, err)
	var refused int
	for _, a := range log {
		require.True(t, strings.HasPrefix(a.Secret, "projects/QmShop/a"))
		if a.Refused != "" {
			refused++
			require.Equal(t, "y", a.Who)
		}
	}
	require.Equal(t, 1, refused)
	require.Equal(t, secrets.ActionSet, log[0].Action, "the newest first")
	require.NotContains(t, string(disk(t, n.Node)), "hunter-2-hunter")
}

// keys counts those of the node's replica.
func (n *node) keys(t *testing.T, prefix string) int {
	t.Helper()
	res, err := n.replica.Query(t.Context(), query.Query{Prefix: prefix, KeysOnly: true})
	require.NoError(t, err)
	all, err := res.Rest()
	require.NoError(t, err)
	return len(all)
}

// A node that joins is given the keys of the generations and nothing else, whatever the
// number of secrets.
func TestANewNodeCostsItsGenerations(t *testing.T) {
	c := newCluster(t)
	a := c.add()
	ctx := t.Context()
	for i := range 50 {
		_, err := a.Put(ctx, me, fmt.Sprint("many/", i), fmt.Append(nil, "value", i))
		require.NoError(t, err)
	}
	before := a.keys(t, "/secrets")
	b := c.add()
	testnet.Eventually(t, func() bool { return value(b, "many/49") == "value49" }, "not opened by the new node")
	for i := range 50 {
		require.Equal(t, fmt.Sprint("value", i), value(b, fmt.Sprint("many/", i)))
	}
	require.Equal(t, before+1, a.keys(t, "/secrets"), "one envelope")
	_, err := b.Put(ctx, me, "many/1", []byte("from b"))
	require.NoError(t, err)
	testnet.Eventually(t, func() bool { return value(a, "many/1") == "from b" }, "not replicated")
	require.Len(t, a.Generations(), 1)
	watch := a.Watch("many/")
	defer watch.Stop()
	<-watch.News()
	names, all := watch.Changed()
	require.True(t, all && len(names) == 0, "at first")
	_, err = a.Put(ctx, me, "other/1", []byte("x"))
	require.NoError(t, err)
	require.NoError(t, b.Delete(ctx, me, "many/2"))
	<-watch.News()
	names, all = watch.Changed()
	require.Equal(t, []string{"many/2"}, names)
	require.False(t, all)
	testnet.Eventually(t, func() bool { return strings.Contains(value(a, "many/2"), "not found") }, "deletion")
}

// Who is revoked is no recipient of what comes later, and what there was is sealed anew.
func TestWhoLeavesIsSealedOut(t *testing.T) {
	c := newCluster(t)
	a, b := c.add(), c.add()
	ctx := t.Context()
	for i := range 100 {
		_, err := a.Put(ctx, me, fmt.Sprint("many/", i), fmt.Append(nil, "value", i))
		require.NoError(t, err)
	}
	testnet.Eventually(t, func() bool { return value(b, "many/99") == "value99" }, "b")
	old := a.Generations()
	require.Len(t, old, 1)
	require.ElementsMatch(t, []peer.ID{a.ID(), b.ID()}, old[0].Recipients)
	b.close()
	c.revoke(b)
	testnet.Eventually(t, func() bool {
		all := a.Generations()
		last := all[len(all)-1]
		return len(all) == 2 && last.Secrets == 100 && all[0].Secrets == 0 && slices.Equal(last.Recipients, []peer.ID{a.ID()})
	}, "not sealed anew: %v", a.Generations())
	require.Equal(t, "value42", value(a, "many/42"))
	d := c.add()
	testnet.Eventually(t, func() bool { return value(d, "many/7") == "value7" }, "a third node opens them")

	// On demand, and by age.
	g, err := a.Rotate(ctx, me)
	require.NoError(t, err)
	require.Equal(t, uint64(3), g.Number)
	require.Equal(t, 100, g.Secrets)
	testnet.Eventually(t, func() bool { return value(d, "many/8") == "value8" }, "after a rotation")
	c.mu.Lock()
	c.skew = 91 * 24 * time.Hour
	c.mu.Unlock()
	testnet.Eventually(t, func() bool {
		all := a.Generations()
		last := all[len(all)-1]
		return last.Number >= 4 && last.Secrets == 100 && len(all) <= 2
	}, "an old generation is replaced, and those that nothing needs are forgotten")
	testnet.Eventually(t, func() bool { return a.keys(t, "/secrets/values") == 100 }, "both nodes seal at the same time, as their clocks jump, and one copy stays")
	require.Equal(t, "value8", value(a, "many/8"))
}

// Two nodes that each made a first key, not seeing each other, end up with one.
func TestTwoFirstKeysBecomeOne(t *testing.T) {
	c := newCluster(t)
	a, b := c.add(), c.add()
	ctx := t.Context()
	var wg sync.WaitGroup
	for i, n := range []*node{a, b} {
		wg.Go(func() {
			_, err := n.Put(ctx, me, fmt.Sprint("from/", i), fmt.Append(nil, "value", i))
			if err != nil {
				t.Error(err)
			}
			_, err = n.Put(ctx, me, "both/x", fmt.Append(nil, "by ", i))
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	testnet.Eventually(t, func() bool {
		x, y := value(a, "both/x"), value(b, "both/x")
		return x == y && strings.HasPrefix(x, "by ") && value(a, "from/1") == "value1" && value(b, "from/0") == "value0"
	}, "not one")
	testnet.Eventually(t, func() bool {
		all := a.Generations()
		used := 0
		for _, g := range all {
			if g.Secrets > 0 {
				used++
			}
		}
		return used == 1
	}, "sealed under one key")
}

func TestRestart(t *testing.T) {
	c := newCluster(t)
	n := c.net.Node(taubyte.RoleAuth)
	key, err := envelope.NewKey()
	require.NoError(t, err)
	s := c.open(n, key)
	_, err = s.Put(t.Context(), me, "a/b", []byte("kept"))
	require.NoError(t, err)
	s.close()
	s = c.open(n, key)
	require.Equal(t, "kept", value(s, "a/b"))
	log, err := s.Audit(t.Context(), "", 10)
	require.NoError(t, err)
	require.Len(t, log, 2)
	s.close()
	// With another key, alone, nothing opens and nothing can be set.
	other, err := envelope.NewKey()
	require.NoError(t, err)
	s = c.open(n, other)
	_, _, err = s.Get(t.Context(), me, "a/b")
	require.ErrorIs(t, err, taubyte.ErrUnavailable)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = s.Put(ctx, me, "a/b", []byte("x"))
	require.Error(t, err)
	_, err = s.Rotate(t.Context(), me)
	require.NoError(t, err, "by which it can go on")
	_, err = s.Put(t.Context(), me, "a/b", []byte("x"))
	require.NoError(t, err)
	require.Equal(t, "x", value(s, "a/b"))
}
