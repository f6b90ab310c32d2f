package reliability_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/testcluster"
)

// storeLost: a node's store is gone, and it comes back under its identity. What was
// acknowledged is readable throughout.
func (f *fixture) storeLost(name string) {
	f.Helper()
	scenario := name + " lost its store"
	n := f.c.Node(name)
	l := f.load()
	time.Sleep(2 * time.Second)
	at := time.Now()
	n.Kill()
	n.LoseStore()
	time.Sleep(2 * time.Second)
	n.Start()
	f.c.AwaitWhole()
	took := f.awaitReplicated(time.Minute)
	l.Stop()
	f.say("%s: everything had its replicas again %s after it started", scenario, took.Round(time.Millisecond))
	all := figures(l, at, time.Time{})
	f.safeRequestsSucceed(scenario, all)
	f.writesGoOn(scenario, l, at, all[write], afterAKill)
	f.nothingIsLost(scenario)
}

// replaced: a node's disk is gone with its identity. It is put out of the network, and
// a new node joins in its place.
func (f *fixture) replaced(name, by string) {
	f.Helper()
	scenario := name + " lost its disk and was replaced"
	n := f.c.Node(name)
	spec := n.Spec
	spec.Name = by
	var via *testcluster.Node
	for _, via = range f.c.Nodes("auth") {
		if via != n {
			break
		}
	}
	l := f.load()
	time.Sleep(2 * time.Second)
	at := time.Now()
	n.Kill()
	n.LoseDisk()
	f.c.Revoke(via, n)
	f.c.Join(via, spec)
	joined := time.Since(at)
	f.c.AwaitWhole()
	took := f.awaitReplicated(time.Minute)
	l.Stop()
	f.say("%s: the new node served %s after the loss, everything had its replicas %s later", scenario, joined.Round(time.Millisecond), took.Round(time.Millisecond))
	all := figures(l, at, time.Time{})
	f.safeRequestsSucceed(scenario, all)
	f.writesGoOn(scenario, l, at, all[write], afterAKill)
	f.nothingIsLost(scenario)
}

// awaitReplicated waits until nobody waits for a replica, and returns how long that
// took.
func (f *fixture) awaitReplicated(within time.Duration) time.Duration {
	f.Helper()
	return f.c.Await("everything has its replicas", within, f.c.Replicated)
}

// corrupted: bits of a node's tables are flipped while it is down.
func (f *fixture) corrupted(name string) {
	f.Helper()
	scenario := name + " with flipped bits"
	n := f.c.Node(name)
	l := f.load()
	time.Sleep(time.Second)
	at := time.Now()
	n.Interrupt() // which writes tables
	damaged := n.Corrupt(3)
	took, err := n.TryStart()
	f.say("%s (%v): started after %s, or said: %v", scenario, damaged, took.Round(time.Millisecond), err)
	if err != nil {
		assert.ErrorContains(f, err, "taubyte store reset", "the remedy")
		_, err = n.Command("store", "reset")
		require.NoError(f, err)
		n.Start()
	}
	f.c.AwaitWhole()
	time.Sleep(3 * time.Second)
	l.Stop()
	f.safeRequestsSucceed(scenario, figures(l, at, time.Time{}))
	f.nothingIsLost(scenario)
}

// full: the disk of a node that keeps data and builds is full for a while.
func (f *fixture) full(name string, away time.Duration) {
	f.Helper()
	scenario := name + "'s disk full"
	n := f.c.Node(name)
	f.hello.Forget()
	l := f.load()
	time.Sleep(2 * time.Second)
	at := time.Now()
	n.FillDisk()
	push, says := f.hello.PushPage(f.c.Nodes("patrick")[0], "main")
	require.NoError(f, push.Err)
	time.Sleep(away)
	n.FreeDisk()
	if !n.Alive() {
		f.say("%s: the node ended, and is started again", scenario)
		n.Start()
	}
	f.c.AwaitWhole()
	f.hello.AwaitServed("/version.txt", says)
	time.Sleep(2 * time.Second)
	l.Stop()
	r, _ := f.hello.AwaitResults(time.Minute)
	assert.NoError(f, r.Good(), "%s: a push meanwhile", scenario)
	all := figures(l, at, time.Time{})
	f.safeRequestsSucceed(scenario, all)
	f.writesGoOn(scenario, l, at, all[write], afterAHang)
	f.nothingIsLost(scenario)
}

// firstWrites: a database is used for the first time.
func (f *fixture) firstWrites() {
	f.Helper()
	const scenario = "the first writes to a database"
	p := f.c.Project("notes", "first")
	require.NoError(f, p.Push(f.c.Nodes("patrick")[0], "main").Err)
	p.AwaitRouted("/notes")
	ledger := testcluster.Notes(p, 20, 20)
	l := f.c.Load(ledger)
	time.Sleep(5 * time.Second)
	l.Stop()
	for _, all := range figures(l, time.Time{}, time.Time{}) {
		f.tell(scenario, all)
		assert.Zero(f, all.Bad(), "%s: %s", scenario, all)
		assert.Less(f, all.Max, slack(time.Second), "%s: %s", scenario, all)
	}
	lost, unknown := ledger.Lost(10 * time.Second)
	assert.Empty(f, append(lost, unknown...))
}

func TestFirstWrites(t *testing.T) {
	need(t, "long")
	setup(t, testcluster.TwoOfEverything()).firstWrites()
}

func TestReplaced(t *testing.T) {
	need(t, "long")
	f := setup(t, testcluster.TwoOfEverything())
	for _, name := range []string{"h1", "b1", "b2", "c1", "c2", "s1", "g1"} {
		f.run(name, func(f *fixture) { f.replaced(name, name+"-new") })
	}
}

func TestLostStore(t *testing.T) {
	need(t, "long")
	f := setup(t, testcluster.TwoOfEverything())
	for _, name := range []string{"h1", "b1", "b2", "c1", "s1"} {
		f.run(name, func(f *fixture) { f.storeLost(name) })
	}
}

func TestFlippedBits(t *testing.T) {
	need(t, "long")
	f := setup(t, testcluster.TwoOfEverything())
	for _, name := range []string{"h1", "b1", "c1"} {
		f.run(name, func(f *fixture) { f.corrupted(name) })
	}
}

func TestFullDisk(t *testing.T) {
	need(t, "long")
	nodes := testcluster.TwoOfEverything()
	for i := range nodes {
		if nodes[i].Name == "b1" || nodes[i].Name == "c2" {
			nodes[i].Disk = 192 << 20
		}
	}
	f := setup(t, nodes)
	f.run("b1", func(f *fixture) { f.full("b1", 10*time.Second) })
	f.run("c2", func(f *fixture) { f.full("c2", 10*time.Second) })
}

// TestSkewedClock: a node's clock is an hour wrong, either way.
func TestSkewedClock(t *testing.T) {
	need(t, "long")
	f := setupConfig(t, testcluster.Config{Nodes: testcluster.TwoOfEverything(), Isolated: true, Skewable: true})
	for _, name := range []string{"h1", "s1", "c2"} {
		for _, by := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
			f.run(name+" "+by.String(), func(f *fixture) {
				scenario := name + "'s clock wrong by " + by.String()
				f.hello.Forget()
				l := f.load()
				time.Sleep(2 * time.Second)
				at := time.Now()
				f.c.Node(name).Skew(by)
				push, says := f.hello.PushPage(f.c.Node("c2"), "main")
				require.NoError(f, push.Err)
				f.hello.AwaitServed("/version.txt", says)
				time.Sleep(10 * time.Second)
				f.c.Node(name).Skew(0)
				time.Sleep(2 * time.Second)
				l.Stop()
				all := figures(l, at, time.Time{})
				f.safeRequestsSucceed(scenario, all)
				f.writesGoOn(scenario, l, at, all[write], afterAKill)
				r, _ := f.hello.AwaitResults(time.Minute)
				assert.NoError(f, r.Good(), scenario)
				f.nothingIsLost(scenario)
			})
		}
	}
}

// TestSlowLinks: the way between one node and all others is slow, or lossy.
func TestSlowLinks(t *testing.T) {
	need(t, "long")
	f := setup(t, testcluster.TwoOfEverything())
	for _, name := range []string{"h1", "s1", "c1"} {
		for what, link := range map[string]testcluster.Link{
			"slow":   {Delay: 100 * time.Millisecond, Jitter: 20 * time.Millisecond},
			"lossy":  {Loss: 0.05},
			"narrow": {Rate: 200_000},
		} {
			f.run(name+" "+what, func(f *fixture) {
				scenario := name + "'s links " + what
				l := f.load()
				time.Sleep(2 * time.Second)
				at := time.Now()
				for _, other := range f.c.Nodes() {
					if other.Name != name {
						f.c.SetLink(f.c.Node(name), other, link)
					}
				}
				time.Sleep(15 * time.Second)
				f.c.Heal()
				time.Sleep(2 * time.Second)
				l.Stop()
				all := figures(l, at, time.Time{})
				f.safeRequestsSucceed(scenario, all)
				f.writesGoOn(scenario, l, at, all[write], afterAKill)
				f.nothingIsLost(scenario)
			})
		}
	}
}
