package gateway_test

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/gateway"
)

func first(all ...gateway.Candidate) gateway.Candidate { return gateway.Order(all)[0] }

func TestARouteKeepsToItsNode(t *testing.T) {
	a := gateway.Candidate{Node: "a", Affinity: 9, Score: 100, Warm: true}
	b := gateway.Candidate{Node: "b", Affinity: 5, Score: 1, Warm: true}
	for range 20 {
		require.Equal(t, peer.ID("a"), first(b, a).Node, "affinity comes before the score")
	}
}

func TestAWarmNodeIsPreferred(t *testing.T) {
	cold := gateway.Candidate{Node: "cold", Affinity: 9, Score: 1}
	warm := gateway.Candidate{Node: "warm", Affinity: 1, Score: 100, Warm: true}
	for range 20 {
		require.Equal(t, peer.ID("warm"), first(cold, warm).Node)
	}
}

func TestLoadIsBounded(t *testing.T) {
	node := func(id peer.ID, affinity uint64, inFlight int64) gateway.Candidate {
		return gateway.Candidate{Node: id, Affinity: affinity, InFlight: inFlight, Score: float64(inFlight + 1), Warm: true}
	}
	require.Equal(t, "affinity", first(node("a", 9, 10), node("b", 1, 10), node("c", 2, 10)).Reason, "it has no more than its share")
	tally := map[peer.ID]int{}
	for range 500 {
		c := first(node("a", 9, 100), node("b", 1, 1), node("c", 2, 2))
		require.Equal(t, "two choices", c.Reason)
		tally[c.Node]++
	}
	require.Greater(t, tally["b"], tally["c"], "of two by chance the better")
	require.Greater(t, tally["c"], tally["a"])
}

func TestAFailingNodeIsLeftOutForATime(t *testing.T) {
	now := time.Now()
	var bad, good, third gateway.Seen
	good.Observe(time.Millisecond, false, now)
	third.Observe(time.Millisecond, false, now)
	judge := func(at time.Time) []gateway.Candidate {
		b := bad.Judged("bad", at)
		b.Affinity = 9
		return gateway.Order([]gateway.Candidate{b, good.Judged("good", at), third.Judged("third", at)})
	}
	for range 4 {
		bad.Observe(0, true, now)
	}
	require.Equal(t, peer.ID("bad"), judge(now)[0].Node, "four failures are not enough")
	bad.Observe(0, true, now)
	all := judge(now)
	require.NotEqual(t, peer.ID("bad"), all[0].Node)
	require.Equal(t, peer.ID("bad"), all[2].Node, "it is the last to be tried")
	require.Equal(t, peer.ID("bad"), judge(now.Add(6 * time.Second))[0].Node, "it gets another chance")
	later := now.Add(6 * time.Second)
	bad.Observe(0, true, later)
	require.NotEqual(t, peer.ID("bad"), judge(later.Add(6 * time.Second))[0].Node, "which is later the second time")
	bad.Observe(time.Millisecond, false, later)
	for range 4 {
		bad.Observe(0, true, later.Add(time.Minute))
	}
	require.Equal(t, peer.ID("bad"), judge(later.Add(2 * time.Minute))[0].Node, "an answer in between begins the count anew")
}

func TestWhereMostLookBadNobodyIsLeftOut(t *testing.T) {
	for range 20 {
		all := gateway.Order([]gateway.Candidate{
			{Node: "a", Affinity: 9, Ejected: true, Warm: true}, {Node: "b", Affinity: 5, Ejected: true, Warm: true}, {Node: "c", Affinity: 1, Warm: true},
		})
		require.Equal(t, peer.ID("a"), all[0].Node)
	}
}

func TestPeaksOfLatencyCountAtOnceAndFade(t *testing.T) {
	now := time.Now()
	var n gateway.Seen
	n.Observe(time.Millisecond, false, now)
	n.Observe(100*time.Millisecond, false, now.Add(time.Second))
	require.InDelta(t, 100e6, n.Judged("n", now).Latency, 1)
	n.Observe(time.Millisecond, false, now.Add(2*time.Second))
	soon := n.Judged("n", now).Latency
	require.Greater(t, soon, 50e6)
	n.Observe(time.Millisecond, false, now.Add(time.Minute))
	require.InDelta(t, 1e6, n.Judged("n", now).Latency, 1e4)

	n.Observe(time.Second, false, now.Add(2*time.Minute))
	require.InDelta(t, 1e9, n.Judged("n", now.Add(2*time.Minute)).Latency, 1)
	require.Less(t, n.Judged("n", now.Add(4*time.Minute)).Latency, 2e6, "also of a node that is asked nothing meanwhile")
}

func TestWhoseFaultA5xxIs(t *testing.T) {
	now := time.Now()
	ids := []peer.ID{"a", "b", "c"}
	judge := func(nodes []*gateway.Seen, route uint64, served, at time.Time) (out []peer.ID) {
		all := make([]gateway.Candidate, len(nodes))
		for i, n := range nodes {
			all[i] = n.JudgedFor(route, ids[i], at)
		}
		gateway.Judge(all, served, route, at)
		for _, c := range all {
			if c.Ejected {
				out = append(out, c.Node)
			}
		}
		return out
	}
	strike := func(n *gateway.Seen, route uint64, project taubyte.ProjectID, times int) {
		for range times {
			n.Answer(route, project, true, now)
		}
	}
	long := now.Add(-time.Hour)

	nodes := []*gateway.Seen{{}, {}, {}}
	strike(nodes[0], 1, "p", 4)
	require.Empty(t, judge(nodes, 1, long, now), "four are not enough")
	strike(nodes[0], 1, "p", 1)
	require.Equal(t, []peer.ID{"a"}, judge(nodes, 1, long, now), "others are tried")
	require.Empty(t, judge(nodes, 2, long, now), "for another route it is as good as before")
	strike(nodes[1], 1, "p", 5)
	require.Empty(t, judge(nodes, 1, long, now), "it fails everywhere: it is the function")
	require.Equal(t, []peer.ID{"a", "b"}, judge(nodes, 1, now.Add(time.Second), now.Add(time.Second)), "the third serves it: it is the nodes")
	require.Empty(t, judge(nodes, 1, long, now.Add(time.Minute)), "they get another chance")

	nodes = []*gateway.Seen{{}, {}, {}}
	for i, project := range []taubyte.ProjectID{"p", "p", "p", "q", "r"} {
		require.Empty(t, judge(nodes, 99, now, now), "%d routes of a project or two", i)
		strike(nodes[0], uint64(i), project, 5)
		require.Equal(t, []peer.ID{"a"}, judge(nodes, uint64(i), now.Add(time.Second), now.Add(time.Second)))
	}
	require.Equal(t, []peer.ID{"a"}, judge(nodes, 99, long, now.Add(time.Second)), "three projects agree, and nothing speaks for it")

	nodes = []*gateway.Seen{{}, {}, {}}
	for i, project := range []taubyte.ProjectID{"p", "q", "r", "s"} {
		strike(nodes[0], uint64(i), project, 5)
		nodes[0].Answer(50, "t", false, now)
		require.Equal(t, []peer.ID{"a"}, judge(nodes, uint64(i), now.Add(time.Second), now.Add(time.Second)))
	}
	require.Empty(t, judge(nodes, 99, long, now.Add(time.Second)), "what it serves well speaks for it")
}
