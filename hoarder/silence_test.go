package hoarder_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/internal/testnet"
)

// On one side of a cut what is there is served; that something is not there is nothing
// that can be known, until the sides are one again.
func TestMissesInACut(t *testing.T) {
	c := newCluster(t, 2, hoarder.WithGrace(time.Minute))
	c.met()
	a, b := c.nodes[0], c.nodes[1]
	da := database(t, c.at[a.ID()], named("x"), hoarder.DatabaseSpec{})
	require.NoError(t, da.Put(t.Context(), "both", []byte("1")))
	db := database(t, c.at[b.ID()], named("x"), hoarder.DatabaseSpec{})
	sa := storage(t, c.at[a.ID()], named("x"), hoarder.StorageSpec{Versioning: true})
	put(t, sa, "f", []byte("1"), false)
	c.inSync(named("x"))
	mend := testnet.Cut(a, b)
	began := time.Now()
	require.NoError(t, db.Put(t.Context(), "of b", []byte("1")))
	put(t, sa, "g", []byte("1"), false)
	t.Logf("both sides write %s after the cut", time.Since(began).Round(time.Millisecond))
	unknown := func(err error) {
		t.Helper()
		require.ErrorIs(t, err, taubyte.ErrUnavailable)
		require.NotErrorIs(t, err, taubyte.ErrNotFound)
	}
	testnet.Eventually(t, func() bool { _, err := da.Get(t.Context(), "both"); return err == nil }, "a serves what it has")
	began = time.Now()
	_, err := da.Get(t.Context(), "of b")
	unknown(err)
	took := time.Since(began)
	_, err = da.List(t.Context(), "")
	unknown(err)
	_, err = da.Used(t.Context())
	unknown(err)
	_, err = sa.Stat(t.Context(), "h", 0)
	unknown(err)
	_, err = sa.Stat(t.Context(), "f", 7)
	unknown(err)
	_, err = sa.List(t.Context())
	unknown(err)
	unknown(sa.Remove(t.Context(), "h", 0, true))
	wantValue(t, da, "both", "1")
	require.Equal(t, "1", string(content(t, sa, "g", 0)))
	require.NoError(t, da.Delete(t.Context(), "nothing"))
	mend()
	began = time.Now()
	testnet.Eventually(t, func() bool {
		v, err := da.Get(t.Context(), "of b")
		require.NotErrorIs(t, err, taubyte.ErrNotFound)
		return err == nil && string(v) == "1"
	}, "what the other side took")
	for _, d := range []*hoarder.Database{da, db} {
		testnet.Eventually(t, func() bool {
			_, err := d.Get(t.Context(), "never")
			keys, err2 := d.List(t.Context(), "")
			return !isUnavailable(err) && err2 == nil && len(keys) == 2
		}, "nobody doubts any more")
	}
	t.Logf("a miss took %s; whole %s after the cut", took.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	require.Less(t, took, 2*time.Second)
}

// A replica that was killed refuses connections, and takes no knowledge with it.
func TestMissesAfterAKill(t *testing.T) {
	c := newCluster(t, 2, hoarder.WithGrace(time.Minute))
	c.met()
	d := database(t, client(t, c.caller), named("x"), hoarder.DatabaseSpec{})
	require.NoError(t, d.Put(t.Context(), "k", nil))
	c.inSync(named("x"))
	gone, began := served(t, c, d), time.Now()
	c.kill(gone)
	testnet.Eventually(t, func() bool { _, err := d.Get(t.Context(), "never"); return !isUnavailable(err) }, "misses are known")
	t.Logf("misses are known %s after the kill", time.Since(began).Round(time.Millisecond))
	require.Less(t, time.Since(began), 10*time.Second)
	wantNoKey(t, d, "never")
}

// A hoarder whose membership is revoked is forgotten: what waited for it goes on, and
// what it had is made anew elsewhere.
func TestRevokedHoarder(t *testing.T) {
	c := newCluster(t, 3, hoarder.WithGrace(time.Minute))
	c.met()
	d := database(t, client(t, c.caller), named("x"), hoarder.DatabaseSpec{Min: 2, Max: 2})
	require.NoError(t, d.Put(t.Context(), "k", []byte("v")))
	ids := c.wantReady(named("x"), 2)
	gone := served(t, c, d)
	require.Contains(t, ids, gone)
	for _, n := range c.nodes {
		if n.ID() != gone {
			c.net.Revoke(n, gone)
			break
		}
	}
	c.net.Revoke(c.caller, gone)
	c.kill(gone)
	began := time.Now()
	testnet.Eventually(t, func() bool {
		hosts, err := hoarder.Hosts(t.Context(), c.at[c.nodes[0].ID()], named("x"))
		return err == nil && len(hosts) == 2 && !slices.Contains(hosts, gone)
	}, "another takes its place")
	t.Logf("another has taken its place after %s", time.Since(began).Round(time.Millisecond))
	wantValue(t, d, "k", "v")
	testnet.Eventually(t, func() bool { _, err := d.Get(t.Context(), "never"); return !isUnavailable(err) }, "misses are known")
}

func isUnavailable(err error) bool { return errors.Is(err, taubyte.ErrUnavailable) }
