package crdt_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testnet"
)

// hang makes a member that has the store open as far as others can tell, and answers
// the first bytes of a pull, or none of them, and then nothing.
func (n *simulation) hang(i int, says string) (end func()) {
	h, err := taubyte.NewHost(n.t.Context(), n.disks[i], taubyte.WithLibp2p(n.peers[i]), taubyte.WithAuthority(n.authority, taubyte.Roles()...))
	require.NoError(n.t, err)
	over := make(chan struct{})
	h.SetStreamHandler("/taubyte/crdt/1/test", func(s network.Stream) {
		go func() {
			_, _ = io.Copy(io.Discard, s)
		}()
		_, _ = io.WriteString(s, says)
		<-over
		_ = s.Reset()
	})
	topic, err := h.PubSub().Join("/taubyte/crdt/1/test")
	require.NoError(n.t, err)
	sub, err := topic.Subscribe()
	require.NoError(n.t, err)
	return func() {
		synctest.Wait()
		close(over)
		sub.Cancel()
		require.NoError(n.t, topic.Close())
		require.NoError(n.t, h.Close())
	}
}

// A replica that joins is filled by the members that answer, whatever others do.
func TestJoinWithMembersThatHang(t *testing.T) {
	testnet.Bubble(t, func(t *testing.T) {
		const hung = 4
		n := newSimulation(t, hung+2)
		for i := range hung {
			defer n.hang(i, "m"[:i%2])()
		}
		good, end := n.open(hung)
		defer end()
		for i := range 50 {
			put(t, good, fmt.Sprintf("/k/%d", i), "v")
		}
		joining, end := n.open(hung + 1)
		defer end()
		for i := range hung + 1 {
			n.connect(i, hung+1)
		}
		start := time.Now()
		for len(all(t, joining)) < 50 {
			time.Sleep(10 * time.Millisecond)
			require.Less(t, time.Since(start), 5*time.Second)
		}
		t.Logf("all of it after %s (simulated)", time.Since(start))
		for len(joining.Peers()) < hung+1 {
			time.Sleep(10 * time.Millisecond)
		}
		start = time.Now()
		require.NoError(t, joining.Synced(t.Context()))
		t.Logf("in sync after %s (simulated)", time.Since(start))
		require.Less(t, time.Since(start), 5*time.Second)
		put(t, good, "/later", "v")
		require.NoError(t, joining.Synced(t.Context()))
		require.Equal(t, "v", get(t, joining, "/later"))
	})
}

// A member that hangs is like one that can't be reached.
func TestSyncedWithAMemberThatHangs(t *testing.T) {
	testnet.Bubble(t, func(t *testing.T) {
		n := newSimulation(t, 2)
		defer n.hang(0, "")()
		s, end := n.open(1)
		defer end()
		n.connect(0, 1)
		for len(s.Peers()) < 1 {
			time.Sleep(10 * time.Millisecond)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, s.Synced(ctx), context.DeadlineExceeded)
		start := time.Now()
		require.NoError(t, s.Synced(t.Context()))
		require.LessOrEqual(t, time.Since(start), 6*time.Second)
	})
}

// A member loses its disk and comes back as the same peer. What it writes then, before
// it has met anybody and after, is told from what it wrote in the life that it has
// forgotten.
func TestBackWithAnEmptyDisk(t *testing.T) {
	testnet.Bubble(t, func(t *testing.T) {
		n := newSimulation(t, 3)
		a, end := n.open(0)
		b, endB := n.open(1)
		defer endB()
		c, endC := n.open(2)
		defer endC()
		n.connect(0, 1)
		n.connect(0, 2)
		n.connect(1, 2)
		want := map[string]string{}
		write := func(key string) {
			t.Helper()
			put(t, a, key, "v")
			want[key] = "v"
		}
		for life := range 3 {
			for i := range 5 {
				write(fmt.Sprintf("/met/%d/%d", life, i))
			}
			require.NoError(t, a.Put(t.Context(), ds.NewKey("/shared"), []byte(fmt.Sprint(life))))
			converge(t, a, b, c)
			end()
			n.cut(0, 1)
			n.cut(0, 2)
			n.disks[0] = taubyte.MemoryDatastore()
			a, end = n.open(0)
			for i := range 5 {
				write(fmt.Sprintf("/alone/%d/%d", life, i))
			}
			n.connect(0, 1)
			n.connect(0, 2)
			converge(t, a, b, c)
			want["/shared"] = fmt.Sprint(life)
			require.Equal(t, want, all(t, a))
			require.Equal(t, want, all(t, c))
		}
		end()
	})
}
