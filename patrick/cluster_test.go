package patrick_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/patrick"
)

// A cluster is several nodes of patrick.
type cluster struct {
	net   *testnet.Net
	nodes []*testnet.Node
	*origin
	services []*patrick.Service
}

func newCluster(t *testing.T, n int, opts ...patrick.Option) *cluster {
	c := &cluster{net: testnet.New(t), origin: newOrigin()}
	for range n {
		c.nodes = append(c.nodes, c.net.Node(taubyte.RolePatrick))
	}
	for _, node := range c.nodes {
		c.services = append(c.services, open(t, node, c.origin, opts...))
	}
	for _, a := range c.nodes {
		for _, b := range c.nodes {
			if a != b {
				testnet.Eventually(t, func() bool {
					known, err := a.Peerstore().SupportsProtocols(b.ID(), patrick.Protocol)
					return err == nil && len(known) == 1
				}, "the nodes know each other")
			}
		}
	}
	return c
}

// arbiter is the place of the node that granted a lease.
func (c *cluster) arbiter(l patrick.Lease) int {
	return slices.IndexFunc(c.nodes, func(n *testnet.Node) bool { return n.ID() == l.Arbiter })
}

// stop ends a node as a crash does for the others.
func (c *cluster) stop(t *testing.T, i int) {
	require.NoError(t, c.services[i].Close())
	require.NoError(t, c.nodes[i].Close())
	c.net.Forget(c.nodes[i])
}

// hang has a node answer no call any more. Its connections stay.
func hang(n *testnet.Node) (mend func()) {
	done := make(chan struct{})
	hung := func(s network.Stream) {
		<-done
		_ = s.Reset()
	}
	n.SetStreamHandlerMatch("/taubyte/crdt/1", func(id protocol.ID) bool { return id == "/taubyte/crdt/1/patrick" }, hung)
	n.SetStreamHandler(patrick.Protocol, hung)
	n.SetStreamHandler(rpc.PulseProtocol, hung)
	for _, id := range []protocol.ID{patrick.Protocol, rpc.PulseProtocol, "/taubyte/crdt/1/patrick"} {
		for _, c := range n.Network().Conns() {
			for _, s := range c.GetStreams() {
				if s.Protocol() == id && s.Stat().Direction == network.DirInbound {
					_ = s.Reset()
				}
			}
		}
	}
	return func() { close(done) }
}

// cut keeps nodes from reaching each other until mend is called, which connects them.
func cut(a, b *testnet.Node) (mend func()) {
	end := testnet.Cut(a, b)
	return func() {
		end()
		_ = a.Connect(context.Background(), b.Info())
	}
}

func everywhere(t *testing.T, services []*patrick.Service, id taubyte.JobID, want patrick.State) {
	t.Helper()
	for _, s := range services {
		testnet.Eventually(t, func() bool {
			j, err := s.Job(t.Context(), id)
			return err == nil && j.State == want
		}, "job %s is %s on every node", id, want)
	}
}

func TestAnyNodeAnswersAnything(t *testing.T) {
	c := newCluster(t, 3)
	worker := newWorker(t, c.net.Node(taubyte.RoleMonkey))
	ctx := t.Context()
	for i := range 6 {
		b := taubyte.Branch(fmt.Sprint("b", i))
		at := func(n int) *patrick.Service { return c.services[(i+n)%3] }
		j := push(t, at(0), repo, b, hash(i))
		for n := range 3 {
			got, err := at(n).Job(ctx, j.ID)
			require.NoError(t, err)
			require.Equal(t, j.ID, got.ID)
			page, err := at(n).Jobs(ctx, patrick.Filter{Branch: b})
			require.NoError(t, err)
			require.Len(t, page.Jobs, 1)
			again, err := at(n).Submit(ctx, auth.Push{Repository: repo, Branch: b, Commit: hash(i)})
			require.NoError(t, err)
			require.Equal(t, j.ID, again.ID)
		}
		l := claim(t, worker)
		require.Equal(t, j.ID, l.Job.ID)
		// Whatever node a worker's call reaches, it is as good as the arbiter.
		for _, n := range c.nodes {
			l := l
			l.Arbiter = n.ID()
			_, err := worker.Renew(ctx, l)
			require.NoError(t, err)
			require.NoError(t, worker.Log(ctx, l, []byte("line\n")))
			src, err := worker.Source(ctx, l)
			require.NoError(t, err)
			require.NoError(t, src.Archive.Close())
		}
		for n := range 3 {
			testnet.Eventually(t, func() bool {
				r, err := at(n).Logs(ctx, j.ID, 0, false)
				return err == nil && text(t, r, nil) == "line\nline\nline\n"
			}, "the log is read everywhere")
		}
		require.NoError(t, at(1).Cancel(ctx, j.ID))
		everywhere(t, c.services, j.ID, patrick.Cancelled)
		require.NoError(t, at(2).Retry(ctx, j.ID))
		l = claim(t, worker)
		require.Equal(t, j.ID, l.Job.ID)
		l.Arbiter = c.nodes[i%3].ID()
		require.NoError(t, worker.Finish(ctx, l, patrick.Outcome{State: patrick.Succeeded}))
		require.NoError(t, worker.Finish(ctx, l, patrick.Outcome{State: patrick.Succeeded}), "said twice")
		everywhere(t, c.services, j.ID, patrick.Succeeded)
	}
	_, err := c.services[0].Job(ctx, "0123456789abcdef01234567")
	require.ErrorIs(t, err, taubyte.ErrNotFound)
}

func TestOnePushToldTwiceIsOneJob(t *testing.T) {
	c := newCluster(t, 2)
	for i := range 20 {
		var jobs [4]patrick.Job
		var wg sync.WaitGroup
		for n := range jobs {
			wg.Go(func() {
				p := auth.Push{Repository: repo, Branch: "main", Commit: hash(i)}
				if n < 2 {
					p.Delivery = fmt.Sprint("delivery", i) // the hook; the others compare heads
				}
				var err error
				if jobs[n], err = c.services[n%2].Submit(t.Context(), p); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, j := range jobs {
			require.Equal(t, jobs[0].ID, j.ID)
		}
	}
	page, err := c.services[0].Jobs(t.Context(), patrick.Filter{Limit: 100})
	require.NoError(t, err)
	require.Len(t, page.Jobs, 20)
}

func TestALeaseOutlivesItsArbiter(t *testing.T) {
	c := newCluster(t, 3)
	worker := newWorker(t, c.net.Node(taubyte.RoleMonkey))
	ctx := t.Context()
	j := push(t, c.services[0], repo, "main", hash(1))
	l := claim(t, worker)
	require.NoError(t, worker.Log(ctx, l, []byte("before\n")))
	everywhere(t, c.services, j.ID, patrick.Running)
	gone := c.arbiter(l)
	c.stop(t, gone)
	left := slices.Delete(slices.Clone(c.services), gone, gone+1)
	began := time.Now()
	l, err := worker.Renew(ctx, l)
	require.NoError(t, err)
	t.Logf("renewed by another node after %s", time.Since(began))
	require.NotEqual(t, c.nodes[gone].ID(), l.Arbiter)
	require.NoError(t, worker.Log(ctx, l, []byte("after\n")))
	require.NoError(t, worker.Finish(ctx, l, patrick.Outcome{State: patrick.Succeeded}))
	everywhere(t, left, j.ID, patrick.Succeeded)
	got, err := left[0].Job(ctx, j.ID)
	require.NoError(t, err)
	require.Equal(t, 1, got.Attempt)
}

func TestAHungNodeHoldsNobodyUp(t *testing.T) {
	c := newCluster(t, 3, patrick.WithLease(3*time.Second))
	worker := newWorker(t, c.net.Node(taubyte.RoleMonkey))
	ctx := t.Context()
	// A lease that the node that will hang has granted.
	var l patrick.Lease
	for i := 0; c.arbiter(l) != 0; i++ {
		push(t, c.services[1], "local/held", taubyte.Branch(fmt.Sprint(i)), hash(i))
		l = claim(t, worker)
		if c.arbiter(l) != 0 {
			require.NoError(t, worker.Finish(ctx, l, patrick.Outcome{State: patrick.Succeeded}))
		}
	}
	everywhere(t, c.services, l.Job.ID, patrick.Running)
	mend := hang(c.nodes[0])
	defer mend()
	began := time.Now()
	l, err := worker.Renew(ctx, l)
	require.NoError(t, err)
	t.Logf("renewed after %s", time.Since(began))
	var slowest time.Duration
	for i := range 20 {
		began := time.Now()
		j := push(t, c.services[1+i%2], repo, taubyte.Branch(fmt.Sprint("b", i)), hash(i))
		next := claim(t, worker)
		require.Equal(t, j.ID, next.Job.ID)
		require.NoError(t, worker.Finish(ctx, next, patrick.Outcome{State: patrick.Succeeded}))
		slowest = max(slowest, time.Since(began))
		l, err = worker.Renew(ctx, l)
		require.NoError(t, err)
	}
	t.Logf("20 jobs while a node hangs, the slowest took %s", slowest)
	require.Less(t, slowest, 10*time.Second)
	// The node that hangs hears nobody, and gives nobody up that others hear.
	for until := time.Now().Add(4 * time.Second); time.Now().Before(until); time.Sleep(500 * time.Millisecond) {
		l, err = worker.Renew(ctx, l)
		require.NoError(t, err)
	}
	require.NoError(t, worker.Finish(ctx, l, patrick.Outcome{State: patrick.Succeeded}))
	everywhere(t, c.services[1:], l.Job.ID, patrick.Succeeded)
}

func TestAKilledWorkersJobIsTakenUp(t *testing.T) {
	c := newCluster(t, 2)
	node := c.net.Node(taubyte.RoleMonkey)
	other := newWorker(t, c.net.Node(taubyte.RoleMonkey))
	ctx := t.Context()
	j := push(t, c.services[0], repo, "main", hash(1))
	killed := newWorker(t, node)
	l := claim(t, killed)
	_, err := killed.Renew(ctx, l)
	require.NoError(t, err)
	time.Sleep(time.Second) // the arbiter sees that it is there
	began := time.Now()
	require.NoError(t, node.Close())
	next := claim(t, other)
	t.Logf("taken up after %s", time.Since(began))
	require.Less(t, time.Since(began), 10*time.Second)
	require.Equal(t, j.ID, next.Job.ID)
	require.Equal(t, 2, next.Job.Attempt)
	require.ErrorIs(t, killed.Finish(ctx, l, patrick.Outcome{State: patrick.Succeeded}), taubyte.ErrUnavailable)
}

// Two nodes that do not see each other both grant what they have. When they do again
// every push has one result.
func TestPushesOnBothSidesOfACut(t *testing.T) {
	c := newCluster(t, 2, patrick.WithLease(2*time.Second), patrick.WithAttempts(9, time.Millisecond))
	workers := []*testnet.Node{c.net.Node(taubyte.RoleMonkey), c.net.Node(taubyte.RoleMonkey)}
	clients := []worker{newWorker(t, workers[0]), newWorker(t, workers[1])}
	ctx := t.Context()
	// A job that is built on the other side of its arbiter.
	shared := push(t, c.services[0], repo, "shared", hash(1))
	l := claim(t, clients[0])
	l, err := clients[0].Renew(ctx, l)
	require.NoError(t, err)
	everywhere(t, c.services, shared.ID, patrick.Running)
	far := 1 - c.arbiter(l) // where its worker will be
	var mends []func()
	mends = append(mends, cut(c.nodes[0], c.nodes[1]), cut(workers[0], workers[1]),
		cut(c.nodes[1-far], workers[0]), cut(c.nodes[far], workers[1]))
	near := clients[1] // on the arbiter's side
	stopped, stop := context.WithCancel(ctx)
	defer stop()
	var renewing sync.WaitGroup
	renewing.Go(func() { // over the other node
		for stopped.Err() == nil {
			_, _ = clients[0].Renew(stopped, l)
			time.Sleep(50 * time.Millisecond)
		}
	})
	second := claim(t, near) // the arbiter has heard of the worker no more
	require.Equal(t, shared.ID, second.Job.ID)
	stop()
	renewing.Wait()

	var pushed []patrick.Job
	for side, s := range []*patrick.Service{c.services[far], c.services[1-far]} {
		j := push(t, s, repo, "main", hash(10+side))
		pushed = append(pushed, j)
		own := claim(t, clients[side])
		require.Equal(t, j.ID, own.Job.ID)
		require.NoError(t, clients[side].Finish(ctx, own, patrick.Outcome{State: patrick.Succeeded}))
	}
	require.NoError(t, clients[0].Finish(ctx, l, patrick.Outcome{State: patrick.Succeeded, Steps: []patrick.Step{{Name: "first"}}}))
	require.NoError(t, near.Finish(ctx, second, patrick.Outcome{State: patrick.Failed, Error: "second"}))
	for _, mend := range mends {
		mend()
	}
	for _, j := range append(pushed, shared) {
		everywhere(t, c.services, j.ID, patrick.Succeeded)
	}
	for _, s := range c.services {
		got, err := s.Job(ctx, shared.ID)
		require.NoError(t, err)
		require.Equal(t, []patrick.Step{{Name: "first"}}, got.Steps, "one result is kept, everywhere the same")
	}
}

var raceJobs = flag.Int("race-jobs", 200, "how many jobs workers race for")

// A raced job was claimed after a wait by a free worker, and ended with a result.
type raced struct {
	mu     sync.Mutex
	waits  []time.Duration
	ended  map[taubyte.JobID]int
	killed atomic.Bool // the first worker
}

func (r *raced) done() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.ended)
}

// race has workers claim and end jobs. wait has them go on until left says that none is left.
// What a worker is not told of, since it or the node that it asks is killed meanwhile, is not
// in what it has ended.
func race(t testing.TB, nodes []*testnet.Node) (r *raced, wait func(left func() int)) {
	r = &raced{ended: map[taubyte.JobID]int{}}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i, node := range nodes {
		w := worker{patrick.NewClient(node)}
		wg.Go(func() {
			defer w.Close()
			dead := func() bool { return i == 0 && r.killed.Load() }
			for ctx.Err() == nil && !dead() {
				free := time.Now()
				l, err := w.Claim(ctx)
				if err != nil || l.Job.ID == "" {
					time.Sleep(10 * time.Millisecond)
					continue
				}
				took := time.Since(free)
				out := patrick.Outcome{State: patrick.Succeeded, Steps: []patrick.Step{{Name: fmt.Sprintf("lease %d of %s", l.Fence, node.ID())}}}
				for ctx.Err() == nil && !dead() {
					if err = w.Finish(ctx, l, out); err == nil || errors.Is(err, taubyte.ErrConflict) {
						break
					}
					time.Sleep(20 * time.Millisecond)
				}
				r.mu.Lock()
				if r.waits = append(r.waits, took); err == nil {
					r.ended[l.Job.ID]++
				}
				r.mu.Unlock()
			}
		})
	}
	return r, func(left func() int) {
		defer wg.Wait()
		defer cancel()
		for until := time.Now().Add(2 * time.Minute); left() > 0; time.Sleep(10 * time.Millisecond) {
			require.True(t, time.Now().Before(until), "%d jobs have not ended", left())
		}
	}
}

// With three nodes and eight workers, of which one of each is killed, and the network cut for
// longer than a lease: every job has one result, the same everywhere.
func TestTheRaceForJobs(t *testing.T) {
	const lease = 2 * time.Second
	jobs := *raceJobs
	c := newCluster(t, 3, patrick.WithLease(lease), patrick.WithAttempts(100, time.Millisecond))
	var nodes []*testnet.Node
	for range 8 {
		nodes = append(nodes, c.net.Node(taubyte.RoleMonkey))
	}
	var all []taubyte.JobID
	for i := range jobs {
		j := push(t, c.services[i%3], taubyte.RepositoryID(fmt.Sprint("local/p", i%10)), taubyte.Branch(fmt.Sprint(i)), hash(i))
		all = append(all, j.ID)
	}
	began := time.Now()
	r, wait := race(t, nodes)
	after := func(share int) {
		for until := time.Now().Add(2 * time.Minute); r.done() < jobs*share/4; time.Sleep(10 * time.Millisecond) {
			require.True(t, time.Now().Before(until), "%d of %d jobs have ended", r.done(), jobs)
		}
	}
	after(1)
	r.killed.Store(true)
	require.NoError(t, nodes[0].Close())
	after(2)
	mend := cut(c.nodes[0], c.nodes[1])
	mended := time.AfterFunc(lease+time.Second, mend)
	after(3)
	c.stop(t, 2)
	left := c.services[:2]
	wait(func() (n int) {
		for _, id := range all {
			if j, err := left[0].Job(t.Context(), id); err != nil || !j.State.Done() {
				n++
			}
		}
		return n
	})
	if mended.Stop() {
		mend()
	}
	twice := 0
	for _, id := range all {
		if r.ended[id] > 1 {
			twice++
		}
		everywhere(t, left, id, patrick.Succeeded)
		testnet.Eventually(t, func() bool {
			a, err := left[0].Job(t.Context(), id)
			require.NoError(t, err)
			b, err := left[1].Job(t.Context(), id)
			require.NoError(t, err)
			return len(a.Steps) == 1 && slices.Equal(a.Steps, b.Steps)
		}, "one result of job %s", id)
	}
	slices.Sort(r.waits)
	t.Logf("%d jobs in %s, %d of them with two leases that ended; from free to claimed: median %s, p99 %s",
		jobs, time.Since(began), twice, r.waits[len(r.waits)/2], r.waits[len(r.waits)*99/100])
}

// From a free worker to its claim, while there are jobs: three nodes, eight workers.
func BenchmarkClaim(b *testing.B) {
	const jobs = 1000
	for b.Loop() {
		net := testnet.New(b)
		c := &cluster{net: net, origin: newOrigin()}
		for range 3 {
			c.nodes = append(c.nodes, net.Node(taubyte.RolePatrick))
		}
		for _, n := range c.nodes {
			s, err := patrick.New(b.Context(), n, n.Store, patrick.WithAuth(c.origin), patrick.WithReconcile(time.Hour), patrick.WithLogger(testnet.Logger(b)))
			require.NoError(b, err)
			b.Cleanup(func() { require.NoError(b, s.Close()) })
			c.services = append(c.services, s)
		}
		var nodes []*testnet.Node
		for range 8 {
			nodes = append(nodes, net.Node(taubyte.RoleMonkey))
		}
		for i := range jobs {
			_, err := c.services[i%3].Submit(b.Context(), auth.Push{
				Repository: taubyte.RepositoryID(fmt.Sprint("local/p", i%10)), Branch: taubyte.Branch(fmt.Sprint(i)), Commit: hash(i),
			})
			require.NoError(b, err)
		}
		began := time.Now()
		r, wait := race(b, nodes)
		wait(func() int { return jobs - r.done() })
		slices.Sort(r.waits)
		b.ReportMetric(float64(jobs)/time.Since(began).Seconds(), "jobs/s")
		b.ReportMetric(float64(r.waits[len(r.waits)/2].Microseconds())/1000, "p50-ms")
		b.ReportMetric(float64(r.waits[len(r.waits)*99/100].Microseconds())/1000, "p99-ms")
	}
}
