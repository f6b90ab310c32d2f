package crdt_test

import (
	"fmt"
	"testing"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/crdt"
	"github.com/taubyte/taubyte/internal/testnet"
)

func TestReplicates(t *testing.T) {
	nw := testnet.New(t)
	a, b := nw.Node(), nw.Node()
	sa, err := crdt.Open(t.Context(), a, a.Store, "x")
	require.NoError(t, err)
	defer sa.Close()
	sb, err := crdt.Open(t.Context(), b, b.Store, "x")
	require.NoError(t, err)
	defer sb.Close()
	ch, err := sb.Watch(t.Context(), ds.NewKey("/k"), 0)
	require.NoError(t, err)
	for i := range 20 {
		require.NoError(t, sa.Put(t.Context(), ds.NewKey(fmt.Sprintf("/k/%d", i)), []byte("v")))
	}
	seen := map[string]bool{}
	for len(seen) < 20 {
		select {
		case e := <-ch:
			seen[e.Key.String()] = true
		case <-time.After(20 * time.Second):
			t.Fatalf("saw %d of 20: %v", len(seen), seen)
		}
	}
}
