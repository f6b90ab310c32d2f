package monkey_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/monkey"
	"github.com/taubyte/taubyte/patrick"
	"github.com/taubyte/taubyte/tns"
)

// broken is a queue and a registry that fail in the way that is set.
type broken struct {
	*queue
	*tns.Service
	keep    *hoarder.Service
	calls   atomic.Pointer[error] // of renewing, logging and finishing
	source  atomic.Pointer[error]
	tns     atomic.Pointer[error]
	hoarder atomic.Pointer[error]
}

func (b *broken) set(p *atomic.Pointer[error], err error) {
	if err == nil {
		p.Store(nil)
	} else {
		p.Store(&err)
	}
}

func failing(p *atomic.Pointer[error]) error {
	if err := p.Load(); err != nil {
		return *err
	}
	return nil
}

func (b *broken) Renew(ctx context.Context, l patrick.Lease) (patrick.Lease, error) {
	if err := failing(&b.calls); err != nil {
		return patrick.Lease{}, err
	}
	return b.queue.Renew(ctx, l)
}

func (b *broken) Log(ctx context.Context, l patrick.Lease, at int64, lines []byte) error {
	if err := failing(&b.calls); err != nil {
		return err
	}
	return b.queue.Log(ctx, l, at, lines)
}

func (b *broken) Finish(ctx context.Context, l patrick.Lease, o patrick.Outcome) error {
	if err := failing(&b.calls); err != nil {
		return err
	}
	return b.queue.Finish(ctx, l, o)
}

func (b *broken) Source(ctx context.Context, l patrick.Lease) (patrick.Source, error) {
	if err := failing(&b.source); err != nil {
		return patrick.Source{}, err
	}
	return b.queue.Source(ctx, l)
}

func (b *broken) Publish(ctx context.Context, p taubyte.ProjectID, branch taubyte.Branch, part tns.Part) (*tns.Deployment, error) {
	if err := failing(&b.tns); err != nil {
		return nil, err
	}
	return b.Service.Publish(ctx, p, branch, part)
}

func (b *broken) Hold(ctx context.Context) (release func(), err error) {
	if err := failing(&b.hoarder); err != nil {
		return nil, err
	}
	return b.keep.Hold(ctx)
}

func (b *broken) Keep(ctx context.Context, root cid.Cid, o hoarder.KeepOptions) error {
	return b.keep.Keep(ctx, root, o)
}

func (b *bench) startBroken(t *testing.T) *broken {
	x := &broken{queue: b.queue, Service: b.tns, keep: b.keep}
	b.start(t, monkey.WithPatrick(x), monkey.WithTNS(x), monkey.WithHoarder(x), monkey.WithPatience(200*time.Millisecond, 500*time.Millisecond))
	return x
}

// What other nodes lack, or fail in, is no fault of the build: it waits for them.
func TestAnOutageGivesTheJobBack(t *testing.T) {
	b := newBench(t)
	x := b.startBroken(t)
	for name, at := range map[string]*atomic.Pointer[error]{"source": &x.source, "tns": &x.tns, "hoarder": &x.hoarder} {
		for _, fault := range []error{
			fmt.Errorf("%w: away", taubyte.ErrUnavailable),
			fmt.Errorf("%w: git repository", taubyte.ErrNotFound), // not on the node that was asked yet
			fmt.Errorf("its disk is full"),                        // a service's own trouble
		} {
			x.set(at, fault)
			j := b.push(repo, auth.KindProject, project(shFunction))
			testnet.Eventually(t, func() bool { return len(b.returned(j)) > 1 }, "%s: %s", name, fault)
			require.Contains(t, b.returned(j)[0].Error, fault.Error())
			require.False(t, b.returned(j)[0].Stopping)
			x.set(at, nil)
			b.succeed(t, j)
		}
	}
	x.set(&x.tns, fmt.Errorf("%w: another project has the host", taubyte.ErrForbidden))
	out := b.wait(t, b.push(repo, auth.KindProject, project(shFunction)))
	require.Equal(t, patrick.Failed, out.State, "tns says no")
}

// The build goes on while patrick is away, and what it came to is said later.
func TestAResultIsKeptWhilePatrickIsAway(t *testing.T) {
	b := newBench(t)
	b.ttl = 10 * time.Second // of which the build takes less
	x := b.startBroken(t)
	x.set(&x.source, taubyte.ErrUnavailable)
	j := b.push(repo, auth.KindProject, project(shFunction))
	testnet.Eventually(t, func() bool { return j.fenceOf(b.queue) != 0 }, "claimed")
	x.set(&x.calls, taubyte.ErrUnavailable)
	x.set(&x.source, nil)
	testnet.Eventually(t, func() bool { _, err := b.tns.Current(t.Context(), projectID, "main"); return err == nil }, "built")
	require.Nil(t, b.outcome(j))
	next := b.push(repo, auth.KindProject, project(shFunction))
	testnet.Eventually(t, func() bool { return next.fenceOf(b.queue) != 0 }, "the worker goes on meanwhile")
	x.set(&x.calls, nil)
	b.succeed(t, j)
	b.succeed(t, next)
	require.Contains(t, b.text(j), "published as deployment")
}

// Nothing is published by a worker that can't know whether its lease is still its own.
func TestNothingIsPublishedWithoutTheLease(t *testing.T) {
	b := newBench(t)
	b.ttl = time.Second
	x := b.startBroken(t)
	x.set(&x.tns, taubyte.ErrUnavailable)
	j := b.push(repo, auth.KindProject, project(shFunction))
	testnet.Eventually(t, func() bool { return strings.Contains(b.text(j), "website site: done") }, "built")
	x.set(&x.calls, taubyte.ErrUnavailable)
	b.take(j)
	time.Sleep(2 * b.ttl) // until the worker's own clock says so
	x.set(&x.tns, nil)
	x.set(&x.calls, nil)
	b.succeed(t, b.push("local/other", auth.KindProject, project(shFunction, map[string]string{"websites/site/index.html": "<p>other"})))
	require.Nil(t, b.outcome(j))
	require.NotContains(t, b.text(j), "published")
}

// A worker that stops gives its jobs back before it is gone.
func TestAnOrderlyStopCostsNoAttempt(t *testing.T) {
	net := testnet.New(t)
	control := net.Node(taubyte.RolePatrick, taubyte.RoleTNS)
	keeper := net.Node(taubyte.RoleHoarder)
	builder := net.Node(taubyte.RoleMonkey)
	files, _ := slow(t)
	c := taubyte.Commit(strings.Repeat("a", 40))
	o := &origin{trees: map[taubyte.Commit]map[string]string{c: files}}
	registry, err := tns.New(t.Context(), control, control.Store)
	require.NoError(t, err)
	defer registry.Close()
	jobs, err := patrick.New(t.Context(), control, control.Store, patrick.WithAuth(o), patrick.WithLease(time.Hour), patrick.WithAttempts(1, time.Hour))
	require.NoError(t, err)
	defer jobs.Close()
	kept, err := hoarder.New(t.Context(), keeper, keeper.Store)
	require.NoError(t, err)
	defer kept.Close()
	j, err := jobs.Submit(t.Context(), auth.Push{Repository: repo, Branch: "main", Commit: c})
	require.NoError(t, err)
	for range 3 {
		w, err := monkey.New(t.Context(), builder, builder.Store, monkey.WithWorkDir(t.TempDir()), plain, monkey.WithLogger(testnet.Logger(t)))
		require.NoError(t, err)
		defer w.Close()
		testnet.Eventually(t, func() bool { return len(running(t, w)) == 1 }, "claimed")
		require.NoError(t, w.Close())
		j, err = jobs.Job(t.Context(), j.ID)
		require.NoError(t, err)
		require.Equal(t, patrick.Queued, j.State)
		require.Equal(t, "its worker was stopped", j.Error)
	}
	o.mu.Lock()
	o.trees[c] = project(shFunction)
	o.mu.Unlock()
	w, err := monkey.New(t.Context(), builder, builder.Store, monkey.WithWorkDir(t.TempDir()), plain, monkey.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	defer w.Close()
	testnet.Eventually(t, func() bool { j, err = jobs.Job(t.Context(), j.ID); return err == nil && j.State == patrick.Succeeded }, "built in the end")
}
