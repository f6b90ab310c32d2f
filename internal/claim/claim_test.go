package claim_test

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/claim"
)

func TestTheLargerFenceCountsUnlessSettled(t *testing.T) {
	var h claim.History[string]
	require.Equal(t, claim.Free, h.Status(0).State)
	h.Add(claim.Grant{Fence: 20, Arbiter: "b", Holder: "w2"})
	h.Add(claim.Grant{Fence: 10, Arbiter: "a", Holder: "w1"})
	h.Add(claim.Grant{Fence: 10, Arbiter: "a", Holder: "w1"})
	st := h.Status(0)
	require.Equal(t, claim.Held, st.State)
	require.Equal(t, peer.ID("w2"), st.Grant.Holder)
	require.Equal(t, 2, st.Counted)
	require.ErrorIs(t, h.Check(10, "w1"), taubyte.ErrConflict)
	require.ErrorIs(t, h.Check(10, "w2"), taubyte.ErrForbidden)
	require.ErrorIs(t, h.Check(15, "w2"), taubyte.ErrConflict)
	require.ErrorIs(t, h.Check(30, "w2"), claim.ErrUnknown)
	require.NoError(t, h.Check(20, "w2"))

	h.AddEnd(20, claim.End[string]{Kind: claim.Final, By: "b", Result: "failed"})
	require.Equal(t, "failed", h.Status(0).End.Result)
	h.AddEnd(10, claim.End[string]{Kind: claim.Settled, By: "a", Result: "done"})
	st = h.Status(30)
	require.Equal(t, claim.Done, st.State)
	require.Equal(t, "done", st.End.Result)
	require.EqualValues(t, 10, st.Grant.Fence)
}

func TestAHoldersWordCountsMoreThanItsLoss(t *testing.T) {
	var h claim.History[string]
	at := time.Unix(0, 0)
	h.Add(claim.Grant{Fence: 10, Arbiter: "a", Holder: "w"})
	h.AddEnd(10, claim.End[string]{Kind: claim.Lost, By: "a", At: at})
	require.Equal(t, claim.Free, h.Status(0).State)
	require.Equal(t, 1, h.Status(0).Counted)
	require.ErrorIs(t, h.Check(10, "w"), taubyte.ErrConflict)
	require.NoError(t, h.CheckEnd(10, "w"))
	h.AddEnd(10, claim.End[string]{Kind: claim.Final, By: "a", At: at.Add(time.Hour), Result: "late"})
	require.Equal(t, "late", h.Status(0).End.Result)
	require.ErrorIs(t, h.CheckEnd(10, "w"), taubyte.ErrConflict)

	h.Add(claim.Grant{Fence: 20, Arbiter: "a", Holder: "w"})
	h.AddEnd(20, claim.End[string]{Kind: claim.Returned, By: "a"})
	st := h.Status(0)
	require.Equal(t, claim.Free, st.State)
	require.Equal(t, 1, st.Counted)
	require.Equal(t, 1, st.Returned)
	require.Equal(t, claim.Free, h.Status(30).State, "a later beginning")
	require.Zero(t, h.Status(30).Counted)
}

func TestALeaseStaysWhereItWasGranted(t *testing.T) {
	live := []peer.ID{"a", "b", "c"}
	best := claim.Arbiter("key", live)
	for _, p := range live {
		g := claim.Grant{Fence: 1, Arbiter: p}
		require.Equal(t, p, claim.Keeper(g, "key", live))
		g.Arbiter = "gone"
		require.Equal(t, best, claim.Keeper(g, "key", live))
	}
}

func TestNumbersGrow(t *testing.T) {
	now := time.UnixMilli(1000)
	a := claim.NewNumbers("a", func() time.Time { return now })
	b := claim.NewNumbers("b", func() time.Time { return now.Add(-time.Minute) })
	first := a.Next(0)
	second := a.Next(0)
	require.Greater(t, second, first)
	require.Greater(t, b.Next(second), second, "whatever its clock says")
}

func TestTiming(t *testing.T) {
	now := time.Unix(1000, 0)
	timing := claim.NewTiming[string](time.Second)
	view := claim.View{Kept: true, Near: true}
	step := func(d time.Duration) []claim.Expired[string] {
		now = now.Add(d)
		return timing.Tick(now, func(string) claim.View { return view })
	}
	timing.Begin("k", 1, now)
	require.Empty(t, step(400*time.Millisecond))
	require.Empty(t, step(400*time.Millisecond))
	require.Equal(t, []claim.Expired[string]{{Key: "k", Fence: 1}}, step(400*time.Millisecond), "never heard of")
	require.False(t, timing.Heard("k", 1, now))
	require.Equal(t, now.Add(time.Second), timing.Hear("k", 1, now))
	require.True(t, timing.Heard("k", 1, now))
	require.False(t, timing.Heard("k", 2, now))
	require.False(t, timing.Heard("k", 1, now.Add(time.Second)))
	require.Empty(t, step(400*time.Millisecond))
	view.Near = false // the connection is gone
	require.Empty(t, step(100*time.Millisecond))
	require.Equal(t, []claim.Expired[string]{{Key: "k", Fence: 1, Taken: true}}, step(500*time.Millisecond), "after half its time")
	timing.Hear("k", 1, now) // over another node
	require.Empty(t, step(400*time.Millisecond))
	require.Empty(t, step(400*time.Millisecond))
	view.Kept = false
	require.Empty(t, step(400*time.Millisecond))
	view.Kept = true
	require.Empty(t, step(400*time.Millisecond), "a whole time after another kept it")
	require.Empty(t, step(10*time.Second), "this node was stopped")
	require.Empty(t, step(400*time.Millisecond))
	require.Empty(t, step(400*time.Millisecond))
	require.Len(t, step(400*time.Millisecond), 1)
	timing.Forget("k")
	require.Empty(t, step(400*time.Millisecond))
}
