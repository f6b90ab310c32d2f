package reliability_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/testcluster"
)

// greedy: one client has many slow requests to one project, and the users of others
// notice nothing.
func (f *fixture) greedy(what string, crawl *testcluster.Crawl) {
	f.Helper()
	scenario := "one client with " + what
	l := f.load()
	slow := f.c.Load(crawl)
	at := time.Now()
	most := 0
	for time.Since(at) < 15*time.Second {
		most = max(most, crawl.Open())
		time.Sleep(50 * time.Millisecond)
	}
	end, left := time.Now(), crawl.Open()
	slow.Stop()
	l.Stop()
	f.say("%s: %d were open at once, %d after 15 s", scenario, most, left)
	all := figures(l, at, end)
	f.safeRequestsSucceed(scenario, all)
	for _, kind := range []string{function, website} {
		assert.Less(f, all[kind].P99, 2*time.Second, "%s: %s", scenario, all[kind])
	}
}

// sockets: many users of one page stay connected.
func (f *fixture) sockets(n int) {
	f.Helper()
	scenario := fmt.Sprintf("%d WebSockets", n)
	chat := f.c.Deploy("chat", "chat", "/socket")
	sockets := testcluster.NewSockets(chat, n)
	l := f.c.Load(sockets)
	took := f.c.Await("all sockets are open", time.Minute, func() error {
		if open := sockets.Open(); open < n {
			return fmt.Errorf("%d of %d: %s", open, n, l.Figures("open socket", time.Time{}, time.Time{}))
		}
		return nil
	})
	f.say("%s: all open after %s", scenario, took.Round(time.Millisecond))
	reads := f.load()
	time.Sleep(5 * time.Second)
	reads.Stop()
	l.Stop()
	f.safeRequestsSucceed(scenario, figures(reads, time.Time{}, time.Time{}))
	ended := l.Figures("socket", time.Time{}, time.Time{})
	f.tell(scenario, ended)
	assert.Zero(f, ended.Bad(), scenario)
}

func TestLimits(t *testing.T) {
	need(t, "long")
	f := setup(t, testcluster.TwoOfEverything())
	f.hello.Commit("main", "websites/site/big.txt", strings.Repeat("0123456789abcdef", 1<<17))
	push := f.hello.Push(f.c.Node("c1"), "main")
	require.NoError(t, push.Err)
	f.hello.AwaitServed("/big.txt", "0123")
	g := f.c.Node("g1")
	f.run("slow bodies", func(f *fixture) {
		f.greedy("220 slow bodies", testcluster.SlowBodies(f.notes, g, 220))
	})
	f.run("slow readers", func(f *fixture) {
		f.greedy("150 slow readers", testcluster.SlowReaders(f.hello, g, "/big.txt", 150))
	})
	f.run("sockets", func(f *fixture) { f.sockets(400) })
}

// TestOneAddress: many members behind one address all find each other.
func TestOneAddress(t *testing.T) {
	need(t, "long")
	nodes := testcluster.Topology{{Name: "control", Roles: "auth,tns,patrick,seer"}}
	for i := range 13 {
		nodes = append(nodes, testcluster.Spec{Name: fmt.Sprint("n", i), Roles: "hoarder"})
	}
	began := time.Now()
	c := testcluster.Start(t, testcluster.Config{Nodes: nodes})
	t.Logf("14 nodes on one address know each other after %s", time.Since(began))
	c.AwaitWhole()
}
