package crdt_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/host"
	mocknet "github.com/libp2p/go-libp2p/p2p/net/mock"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/crdt"
	"github.com/taubyte/taubyte/internal/testnet"
)

// A simulation is a network whose links and time are the test's: hosts in memory,
// in a bubble of synctest.
type simulation struct {
	t         *testing.T
	authority *taubyte.Authority
	links     mocknet.Mocknet
	peers     []host.Host
	disks     []taubyte.Datastore
}

func newSimulation(t *testing.T, members int) *simulation {
	authority, err := taubyte.NewAuthority()
	require.NoError(t, err)
	n := &simulation{t: t, authority: authority, links: mocknet.New()}
	t.Cleanup(func() { require.NoError(t, n.links.Close()) })
	for range members {
		p, err := n.links.GenPeer()
		require.NoError(t, err)
		n.peers = append(n.peers, p)
		n.disks = append(n.disks, taubyte.MemoryDatastore())
	}
	return n
}

// open starts a member, and returns what ends it. The links of mocknet do not end a
// stream that is opened while its connection is closed, so both wait until nobody does.
func (n *simulation) open(i int) (*crdt.Store, func()) {
	h, err := taubyte.NewHost(n.t.Context(), n.disks[i], taubyte.WithLibp2p(n.peers[i]), taubyte.WithAuthority(n.authority, taubyte.Roles()...))
	require.NoError(n.t, err)
	s, err := crdt.Open(n.t.Context(), h, n.disks[i], "test")
	require.NoError(n.t, err)
	return s, func() {
		synctest.Wait()
		require.NoError(n.t, s.Close())
		require.NoError(n.t, h.Close())
	}
}

func (n *simulation) connect(a, b int) {
	_, err := n.links.LinkPeers(n.peers[a].ID(), n.peers[b].ID())
	require.NoError(n.t, err)
	_, err = n.links.ConnectPeers(n.peers[a].ID(), n.peers[b].ID())
	require.NoError(n.t, err)
}

func (n *simulation) cut(a, b int) {
	synctest.Wait()
	require.NoError(n.t, n.links.DisconnectPeers(n.peers[a].ID(), n.peers[b].ID()))
	require.NoError(n.t, n.links.UnlinkPeers(n.peers[a].ID(), n.peers[b].ID()))
}

// same reports whether all stores hold the same.
func same(t *testing.T, stores ...*crdt.Store) bool {
	for _, s := range stores[1:] {
		if fmt.Sprint(all(t, s)) != fmt.Sprint(all(t, stores[0])) {
			return false
		}
	}
	return true
}

// converge waits until all stores hold the same, and returns how long that took.
func converge(t *testing.T, stores ...*crdt.Store) time.Duration {
	start := time.Now()
	for !same(t, stores...) {
		time.Sleep(10 * time.Millisecond)
		require.Less(t, time.Since(start), time.Hour)
	}
	return time.Since(start)
}

// An hour without each other, by the clock that all timers go by.
func TestPartitionOfAnHour(t *testing.T) {
	testnet.Bubble(t, func(t *testing.T) {
		n := newSimulation(t, 3)
		var stores []*crdt.Store
		for i := range 3 {
			s, end := n.open(i)
			defer end()
			stores = append(stores, s)
		}
		n.connect(0, 1)
		n.connect(0, 2)
		n.connect(1, 2)
		for i := range 20 {
			put(t, stores[i%3], fmt.Sprintf("/k/%d", i), "before")
		}
		time.Sleep(time.Minute)
		require.True(t, same(t, stores...))

		n.cut(0, 1)
		n.cut(0, 2)
		for i := range 60 {
			put(t, stores[0], fmt.Sprintf("/0/%d", i), "v")
			put(t, stores[0], "/both", "higher in the history")
			put(t, stores[1], fmt.Sprintf("/1/%d", i), "v")
			time.Sleep(time.Minute)
		}
		require.NoError(t, stores[0].Delete(t.Context(), ds.NewKey("/k/1")))
		put(t, stores[2], "/k/1", "written again")
		require.NoError(t, stores[1].Delete(t.Context(), ds.NewKey("/k/2")))

		n.connect(0, 1)
		n.connect(0, 2)
		t.Logf("the same everywhere %s (simulated) after the links were back", converge(t, stores...))
		got := all(t, stores[0])
		require.Equal(t, "written again", got["/k/1"], "a value whose writer did not know of the deletion stays")
		require.NotContains(t, got, "/k/2")
		require.Len(t, got, 20-1+2*60+1)
	})
}

// Two members write without each other, one of them a day after the other, as they
// would if a clock were wrong by that. What counts is the history.
func TestClockWrongByADay(t *testing.T) {
	testnet.Bubble(t, func(t *testing.T) {
		n := newSimulation(t, 2)
		a, end := n.open(0)
		for i := range 3 {
			put(t, a, "/both", fmt.Sprint("third in its history ", i))
		}
		end()
		time.Sleep(24 * time.Hour)
		b, end := n.open(1)
		put(t, b, "/both", "a day later")
		put(t, b, "/b", "b")
		end()

		a, end = n.open(0)
		defer end()
		b, end = n.open(1)
		defer end()
		n.connect(0, 1)
		t.Logf("the same everywhere %s (simulated) after they met", converge(t, a, b))
		require.Equal(t, map[string]string{"/both": "third in its history 2", "/b": "b"}, all(t, a))
		put(t, b, "/both", "who knows of it overwrites it")
		converge(t, a, b)
		require.Equal(t, "who knows of it overwrites it", get(t, a, "/both"))
	})
}
