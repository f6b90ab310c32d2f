package timers_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/substrate/internal/timers"
)

var key = timers.Key{Project: "p", Branch: "main", Function: "f"}

// A cluster is of nodes in one process, on a clock of its own. A node hears of one that
// came after a moment, and of one that was lost after some seconds, each at a moment of
// its own.
type cluster struct {
	*testing.T
	random *rand.Rand // under mu
	begun  time.Time
	takes  time.Duration // a run
	every  string

	mu    sync.Mutex
	nodes map[peer.ID]*node
	runs  map[time.Time][]peer.ID
	now   int // runs under way
	most  int
}

type node struct {
	id    peer.ID
	sees  map[peer.ID]bool
	lost  bool
	alive *timers.Timers
}

func newCluster(t *testing.T, seed uint64, every string, takes time.Duration, n int) *cluster {
	c := &cluster{
		T: t, random: rand.New(rand.NewPCG(seed, seed)), takes: takes, every: every, begun: time.Now(),
		nodes: map[peer.ID]*node{}, runs: map[time.Time][]peer.ID{},
	}
	for i := range n {
		c.join(fmt.Sprint("node", i))
	}
	return c
}

func (c *cluster) within(least, most time.Duration) time.Duration {
	return least + time.Duration(c.random.Int64N(int64(most-least)))
}

func (c *cluster) join(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := &node{id: peer.ID(name), sees: map[peer.ID]bool{peer.ID(name): true}}
	sees := func() []peer.ID {
		c.mu.Lock()
		defer c.mu.Unlock()
		return slices.Collect(maps.Keys(n.sees))
	}
	n.alive = timers.New(timers.Config{
		Self: n.id, Log: slog.New(slog.DiscardHandler), Voters: sees, Candidates: func(timers.Key) []peer.ID { return sees() },
		Ask: func(ctx context.Context, to peer.ID, b timers.Ballot) error {
			c.mu.Lock()
			other, wait := c.nodes[to], c.within(time.Millisecond, 50*time.Millisecond)
			dead := n.lost || other == nil || other.lost
			c.mu.Unlock()
			time.Sleep(wait)
			if dead {
				<-ctx.Done()
				return ctx.Err()
			}
			return other.alive.Vote(n.id, b)
		},
	})
	schedule, err := timers.Parse(c.every, "")
	require.NoError(c, err)
	n.alive.Set(map[timers.Key]timers.Timer{key: {Schedule: schedule, Run: func(ctx context.Context, due time.Time) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if n.lost {
			return nil
		}
		c.runs[due] = append(c.runs[due], n.id)
		c.now++
		c.most = max(c.most, c.now)
		c.mu.Unlock()
		time.Sleep(c.takes)
		c.mu.Lock()
		c.now--
		return nil
	}}})
	for _, other := range c.nodes {
		if !other.lost {
			c.later(c.within(0, time.Second), func() { other.sees[n.id] = true })
			c.later(c.within(0, time.Second), func() { n.sees[other.id] = true })
		}
	}
	c.nodes[n.id] = n
}

func (c *cluster) later(d time.Duration, do func()) {
	time.AfterFunc(d, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		do()
	})
}

// lose takes a node away without a word.
func (c *cluster) lose(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	gone := c.nodes[peer.ID(name)]
	gone.lost = true
	for _, other := range c.nodes {
		c.later(c.within(3*time.Second, 6*time.Second), func() { delete(other.sees, gone.id) })
	}
}

func (c *cluster) end() {
	for _, n := range c.nodes {
		n.alive.Close()
	}
	time.Sleep(time.Minute)
	synctest.Wait()
}

// missing lists the seconds after the beginning whose ticks were not run, and checks that
// none was run twice.
func (c *cluster) missing(from, to int) []int {
	c.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	var none []int
	for i := from; i < to; i++ {
		due := c.begun.Truncate(time.Second).Add(time.Duration(i) * time.Second).UTC()
		require.LessOrEqual(c, len(c.runs[due]), 1, "second %d on %q", i, c.runs[due])
		if len(c.runs[due]) == 0 {
			none = append(none, i)
		}
	}
	return none
}

// Each tick runs once, on one of the nodes, and each node has its share.
func TestOnceInTheCluster(t *testing.T) {
	for _, n := range []int{1, 2, 3, 8} {
		testnet.Bubble(t, func(t *testing.T) {
			c := newCluster(t, 1, "@every 1s", 300*time.Millisecond, n)
			time.Sleep(60*time.Second + 500*time.Millisecond)
			require.Empty(t, c.missing(6, 60), "%d nodes", n)
			share := map[peer.ID]int{}
			for _, by := range c.runs {
				share[by[0]]++
			}
			require.Len(t, share, n)
			c.end()
		})
	}
}

// A node that is lost takes at most the tick with it that it was running, and
// those that are due in the five seconds in which it is taken to run it; of two
// nodes, the other one must believe it gone first. One that comes disturbs nothing.
func TestNodesComeAndGo(t *testing.T) {
	for seed := range uint64(4) {
		testnet.Bubble(t, func(t *testing.T) {
			c := newCluster(t, seed, "@every 1s", 300*time.Millisecond, 3)
			time.Sleep(20*time.Second + 200*time.Millisecond)
			c.lose("node1")
			time.Sleep(20 * time.Second)
			c.join("node4")
			time.Sleep(20 * time.Second)
			c.lose("node0")
			time.Sleep(20 * time.Second)
			c.lose("node2") // of two
			time.Sleep(20 * time.Second)
			for _, second := range c.missing(6, 100) {
				lost := 0
				for at, gap := range map[int]int{20: 6, 60: 6, 80: 8} {
					if second >= at && second <= at+gap {
						lost = at
					}
				}
				require.NotZero(t, lost, "second %d is missing, seed %d", second, seed)
			}
			c.end()
		})
	}
}

// Whatever nodes do, one at a time, no tick runs twice.
func TestNeverTwice(t *testing.T) {
	for seed := range uint64(3) {
		testnet.Bubble(t, func(t *testing.T) {
			c := newCluster(t, 100+seed, "@every 1s", 1200*time.Millisecond, 4)
			random := rand.New(rand.NewPCG(seed, 0))
			time.Sleep(10 * time.Second)
			alive := []string{"node0", "node1", "node2", "node3"}
			for i := range 20 {
				if random.IntN(2) == 0 && len(alive) > 1 {
					at := random.IntN(len(alive))
					c.lose(alive[at])
					alive = slices.Delete(alive, at, at+1)
				} else {
					alive = append(alive, fmt.Sprint("new", i))
					c.join(alive[len(alive)-1])
				}
				time.Sleep(7*time.Second + time.Duration(random.Int64N(int64(5*time.Second))))
			}
			missing := c.missing(6, 140)
			require.Less(t, len(missing), 120, "it goes on")
			c.end()
		})
	}
}

// A tick waits while the former one is running, wherever that is, and is skipped once
// the next one is due.
func TestOverlap(t *testing.T) {
	testnet.Bubble(t, func(t *testing.T) {
		c := newCluster(t, 1, "@every 1s", 8400*time.Millisecond, 3)
		time.Sleep(60 * time.Second)
		c.end()
		require.Equal(t, 1, c.most)
		require.Len(t, c.runs, 7, "of 55")
	})
}

// A function that is replaced is run in its new form, also where the clock has struck
// in between.
func TestReplaced(t *testing.T) {
	testnet.Bubble(t, func(t *testing.T) {
		self := []peer.ID{"self"}
		n := timers.New(timers.Config{Self: "self", Log: slog.New(slog.DiscardHandler), Voters: func() []peer.ID { return self }, Candidates: func(timers.Key) []peer.ID { return self }})
		schedule, err := timers.Parse("@every 10s", "")
		require.NoError(t, err)
		var mu sync.Mutex
		ran := map[string]int{}
		have := func() map[string]int {
			mu.Lock()
			defer mu.Unlock()
			return maps.Clone(ran)
		}
		set := func(name string) {
			n.Set(map[timers.Key]timers.Timer{key: {Schedule: schedule, Run: func(context.Context, time.Time) error {
				mu.Lock()
				defer mu.Unlock()
				ran[name]++
				if name == "old" && ran["old"] == 2 {
					return fmt.Errorf("function %w", taubyte.ErrClosed)
				}
				return nil
			}}})
		}
		set("old")
		time.Sleep(20*time.Second + time.Millisecond)
		require.Equal(t, map[string]int{"old": 2}, have())
		set("new")
		time.Sleep(time.Second)
		require.Equal(t, map[string]int{"old": 2, "new": 1}, have())
		time.Sleep(10 * time.Second)
		require.Equal(t, 2, have()["new"])
		require.Equal(t, 1, n.Len())
		n.Set(nil)
		time.Sleep(time.Minute)
		require.Equal(t, 2, have()["new"])
		n.Close()
		n.Close()
		n.Set(map[timers.Key]timers.Timer{key: {Schedule: schedule}})
		require.Zero(t, n.Len())
	})
}

func TestVote(t *testing.T) {
	testnet.Bubble(t, func(t *testing.T) {
		n := timers.New(timers.Config{Self: "self", Log: slog.New(slog.DiscardHandler)})
		defer n.Close()
		start := time.Now()
		at := func(d time.Duration, what string) timers.Ballot {
			return timers.Ballot{Key: key, Tick: start.Add(d).UnixNano(), What: what}
		}
		require.ErrorIs(t, n.Vote("a", at(-time.Second, timers.Take)), taubyte.ErrConflict, "before it was there")
		time.Sleep(time.Minute)
		require.ErrorIs(t, n.Vote("a", at(time.Hour, timers.Take)), taubyte.ErrInvalid)
		require.ErrorIs(t, n.Vote("a", at(time.Minute, "steal")), taubyte.ErrInvalid)
		require.NoError(t, n.Vote("a", at(time.Minute, timers.Take)))
		require.NoError(t, n.Vote("a", at(time.Minute, timers.Take)), "again")
		require.ErrorIs(t, n.Vote("b", at(time.Minute, timers.Take)), taubyte.ErrConflict, "once")
		require.ErrorIs(t, n.Vote("b", at(61*time.Second, timers.Take)), taubyte.ErrConflict, "while it runs")
		require.NoError(t, n.Vote("b", at(time.Minute, timers.Free)), "of no effect")
		require.ErrorIs(t, n.Vote("b", at(time.Minute, timers.Take)), taubyte.ErrConflict)
		require.NoError(t, n.Vote("a", at(time.Minute, timers.Free)))
		require.NoError(t, n.Vote("b", at(time.Minute, timers.Take)), "given back")
		require.NoError(t, n.Vote("b", at(time.Minute, timers.Done)))
		require.ErrorIs(t, n.Vote("a", at(time.Minute, timers.Take)), taubyte.ErrConflict, "over")
		require.ErrorIs(t, n.Vote("a", at(59*time.Second, timers.Take)), taubyte.ErrConflict, "older")
		require.NoError(t, n.Vote("a", at(61*time.Second, timers.Take)))
		other := at(61*time.Second, timers.Take)
		other.Key.Branch = "dev"
		require.NoError(t, n.Vote("b", other), "another branch is another timer")
		time.Sleep(4 * time.Second)
		require.ErrorIs(t, n.Vote("b", at(62*time.Second, timers.Take)), taubyte.ErrConflict)
		time.Sleep(2 * time.Second)
		require.NoError(t, n.Vote("b", at(62*time.Second, timers.Take)), "the holder was not heard of")
	})
}
