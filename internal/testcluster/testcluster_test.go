package testcluster_test

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/testcluster"
	"github.com/taubyte/taubyte/internal/testnet"
)

func TestMain(m *testing.M) { os.Exit(testcluster.Main(m)) }

// all are the figures of a load from its begin to its end.
func all(l *testcluster.Load, kind string) testcluster.Figures {
	return l.Figures(kind, time.Time{}, time.Time{})
}

func TestFaults(t *testing.T) {
	testnet.CheckLeaks(t)
	c := testcluster.Start(t, testcluster.Config{Isolated: true, Nodes: testcluster.Topology{
		{Name: "control", Roles: "auth,tns,patrick,seer"},
		{Name: "build", Roles: "monkey,hoarder", Disk: 128 << 20},
		{Name: "edge", Roles: "substrate,gateway"},
	}})
	control, build, edge := c.Node("control"), c.Node("build"), c.Node("edge")
	p := c.Deploy("hello", "hello", "/ping")
	load := func(d time.Duration) testcluster.Figures {
		l := c.Load(testcluster.Reads("ping", p, "/ping", 50))
		time.Sleep(d)
		l.Stop()
		return all(l, "ping")
	}
	f := load(time.Second)
	require.Zero(t, f.Bad()+f.Interrupted, f)
	require.Greater(t, f.OK, 20)
	health := func(name string) string {
		var seen []struct{ Name, Health string }
		require.NoError(t, control.Get("/v1/seer/nodes", &seen))
		for _, n := range seen {
			if n.Name == name {
				return n.Health
			}
		}
		return ""
	}

	t.Run("a slow and a lossy link", func(t *testing.T) {
		c.SetUsersLink(edge, testcluster.Link{Delay: 50 * time.Millisecond, Jitter: 10 * time.Millisecond})
		f := load(time.Second)
		require.Zero(t, f.Bad(), f)
		require.Greater(t, f.P50, 100*time.Millisecond, "there and back")
		c.SetUsersLink(edge, testcluster.Link{Loss: 0.2})
		f = load(time.Second)
		require.Zero(t, f.Bad(), "lost packets are sent again: %s", f)
		require.Greater(t, f.Max, 150*time.Millisecond, "after a while")
		c.SetUsersLink(edge, testcluster.Link{Rate: 20_000})
		f = load(time.Second)
		require.Greater(t, f.P50, 10*time.Millisecond, f)
		c.Heal()
		f = load(time.Second)
		require.Less(t, f.P50, 100*time.Millisecond, "less than the slow link took: %s", f)
	})

	t.Run("a cut, which nobody is told of", func(t *testing.T) {
		c.Cut("edge")
		testnet.Eventually(t, func() bool { return health("edge") != "alive" }, "control still sees edge")
		require.Equal(t, "alive", health("build"))
		f := load(time.Second)
		require.Zero(t, f.Bad(), "users reach both sides: %s", f)
		c.Heal()
		c.AwaitWhole()
	})

	t.Run("a process that hangs", func(t *testing.T) {
		l := c.Load(testcluster.Reads("ping", p, "/ping", 50))
		time.Sleep(300 * time.Millisecond)
		edge.Hang()
		require.False(t, edge.Running())
		time.Sleep(2 * time.Second)
		edge.Resume()
		time.Sleep(300 * time.Millisecond)
		l.Stop()
		f := all(l, "ping")
		require.NotZero(t, f.Interrupted+f.Failed, "its users leave it, and have no other: %s", f)
		require.Greater(t, f.Gap, time.Second)
		c.AwaitWhole()
	})

	t.Run("a crash and a return", func(t *testing.T) {
		edge.Kill()
		require.Error(t, edge.Get("/healthz", nil))
		status, _ := p.Ask(edge, "/ping")
		require.Zero(t, status)
		edge.Start()
		p.AwaitServed("/ping", "PONG")
	})

	t.Run("a full disk", func(t *testing.T) {
		build.FillDisk()
		build.FreeDisk()
	})

	t.Run("flipped bits and a lost disk", func(t *testing.T) {
		build.Interrupt()
		require.Len(t, build.Corrupt(3), 3)
		build.LoseDisk()
		_, err := build.Token()
		require.ErrorIs(t, err, os.ErrNotExist)
	})

	t.Run("a node that can't start says why", func(t *testing.T) {
		edge.Interrupt()
		edge.Break()
		_, err := edge.TryStart()
		require.ErrorContains(t, err, "configuration")
	})
}

func TestOnLoopback(t *testing.T) {
	testnet.CheckLeaks(t)
	c := testcluster.Start(t, testcluster.Config{Nodes: testcluster.Topology{{Name: "all", Roles: "all"}}})
	p := c.Deploy("notes", "notes", "/notes")
	ledger := testcluster.Notes(p, 20, 20)
	l := c.Load(ledger)
	time.Sleep(time.Second)
	c.Node("all").Kill()
	c.Node("all").Start()
	p.AwaitServed("/notes", "")
	l.Stop()
	t.Log(all(l, "write"))
	t.Log(all(l, "read back"))
	require.NotZero(t, ledger.Acknowledged())
	lost, unknown := ledger.Lost(10 * time.Second)
	require.Empty(t, lost)
	require.Empty(t, unknown)

	push, says := p.PushPage(c.Node("all"), "main")
	require.NoError(t, push.Err)
	r, _ := p.AwaitResults(time.Minute)
	require.NoError(t, r.Good())
	require.Equal(t, 2, r.Acked, "with that of Deploy")
	require.True(t, strings.HasPrefix(says, "notes main"))
	status, _ := p.Ask(c.Node("all"), "/none")
	require.Equal(t, http.StatusNotFound, status)
}
