package patrick_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/environment"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/patrick"
)

const repo taubyte.RepositoryID = "local/shop"

// origin stands for auth: repositories "local/<project>" and their heads.
type origin struct {
	mu    sync.Mutex
	heads map[taubyte.RepositoryID]map[taubyte.Branch]taubyte.Commit
	since time.Time // when they became their projects'
}

func newOrigin() *origin {
	return &origin{heads: map[taubyte.RepositoryID]map[taubyte.Branch]taubyte.Commit{}}
}

func (o *origin) set(id taubyte.RepositoryID, b taubyte.Branch, c taubyte.Commit) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.heads[id] == nil {
		o.heads[id] = map[taubyte.Branch]taubyte.Commit{}
	}
	if c == "" {
		delete(o.heads[id], b)
	} else {
		o.heads[id][b] = c
	}
}

func (o *origin) Repository(_ context.Context, id taubyte.RepositoryID) (auth.Repository, error) {
	name, ok := strings.CutPrefix(string(id), "local/")
	if !ok {
		return auth.Repository{}, fmt.Errorf("%w: repository %s", taubyte.ErrNotFound, id)
	}
	return auth.Repository{ID: id, Project: taubyte.ProjectID(name), Kind: auth.KindProject, Provider: "local", Name: name, Since: o.since}, nil
}

func (o *origin) Repositories(ctx context.Context, _ taubyte.ProjectID) (all []auth.Repository, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id := range o.heads {
		r, _ := o.Repository(ctx, id)
		all = append(all, r)
	}
	return all, nil
}

func (o *origin) Heads(_ context.Context, id taubyte.RepositoryID) (map[taubyte.Branch]taubyte.Commit, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := map[taubyte.Branch]taubyte.Commit{}
	for b, c := range o.heads[id] {
		all[b] = c
	}
	return all, nil
}

func (o *origin) Source(_ context.Context, _ taubyte.RepositoryID, c taubyte.Commit, to io.Writer) error {
	w := tar.NewWriter(to)
	text := "commit " + string(c)
	if err := w.WriteHeader(&tar.Header{Name: "file", Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(text))}); err != nil {
		return err
	}
	if _, err := io.WriteString(w, text); err != nil {
		return err
	}
	return w.Close()
}

func open(t *testing.T, n *testnet.Node, o *origin, opts ...patrick.Option) *patrick.Service {
	t.Helper()
	s, err := patrick.New(t.Context(), n, n.Store, append([]patrick.Option{
		patrick.WithAuth(o), patrick.WithLogger(testnet.Logger(t)), patrick.WithReconcile(time.Hour),
	}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func client(t *testing.T, n *testnet.Node) *patrick.Client {
	c := patrick.NewClient(n)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// leased is what is done under a lease.
type leased interface {
	Renew(context.Context, patrick.Lease) (patrick.Lease, error)
	Log(context.Context, patrick.Lease, int64, []byte) error
	Finish(context.Context, patrick.Lease, patrick.Outcome) error
	Source(context.Context, patrick.Lease) (patrick.Source, error)
	Environment(context.Context, patrick.Lease, patrick.EnvironmentRequest) ([]environment.Variable, error)
}

// A worker speaks for the jobs that it holds, as a node of monkey does.
type worker struct{ *patrick.Client }

func newWorker(t *testing.T, n *testnet.Node) worker { return worker{client(t, n)} }

// as is the principal of the job of a lease.
func as(l patrick.Lease) taubyte.Principal {
	return taubyte.Principal{Kind: taubyte.KindJob, Projects: []taubyte.ProjectID{l.Job.Project}, Branch: l.Job.Branch, Job: l.Job.ID, Attempt: l.Fence}
}

func (w worker) Renew(ctx context.Context, l patrick.Lease) (patrick.Lease, error) {
	return w.Client.Renew(taubyte.WithPrincipal(ctx, as(l)), l)
}

func (w worker) Log(ctx context.Context, l patrick.Lease, lines []byte) error {
	return w.Client.Log(taubyte.WithPrincipal(ctx, as(l)), l, -1, lines)
}

func (w worker) Finish(ctx context.Context, l patrick.Lease, o patrick.Outcome) error {
	return w.Client.Finish(taubyte.WithPrincipal(ctx, as(l)), l, o)
}

func (w worker) Source(ctx context.Context, l patrick.Lease) (patrick.Source, error) {
	return w.Client.Source(taubyte.WithPrincipal(ctx, as(l)), l)
}

func hash(n int) taubyte.Commit { return taubyte.Commit(fmt.Sprintf("%040x", n)) }

func push(t *testing.T, s *patrick.Service, id taubyte.RepositoryID, b taubyte.Branch, c taubyte.Commit) patrick.Job {
	t.Helper()
	j, err := s.Submit(t.Context(), auth.Push{Repository: id, Branch: b, Commit: c})
	require.NoError(t, err)
	return j
}

type claimer interface {
	Claim(ctx context.Context, labels ...string) (patrick.Lease, error)
}

func claim(t *testing.T, c claimer, labels ...string) patrick.Lease {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	l, err := c.Claim(ctx, labels...)
	require.NoError(t, err)
	require.NotEmpty(t, l.Job.ID, "a job")
	return l
}

func state(t *testing.T, s *patrick.Service, id taubyte.JobID) patrick.State {
	t.Helper()
	j, err := s.Job(t.Context(), id)
	require.NoError(t, err)
	return j.State
}

func text(t *testing.T, r io.ReadCloser, err error) string {
	t.Helper()
	require.NoError(t, err)
	defer r.Close()
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(b)
}

func TestTheLifeOfAJob(t *testing.T) {
	net := testnet.New(t)
	o := newOrigin()
	s := open(t, net.Node(taubyte.RolePatrick), o)
	worker, reader := newWorker(t, net.Node(taubyte.RoleMonkey)), client(t, net.Node(taubyte.RoleAuth))
	ctx := t.Context()

	claimed := make(chan patrick.Lease, 1)
	go func() {
		l, _ := worker.Claim(ctx) // waits: there is nothing yet
		claimed <- l
	}()
	watch, err := s.Watch(ctx)
	require.NoError(t, err)
	j := push(t, s, repo, "main", hash(1))
	require.Equal(t, taubyte.ProjectID("shop"), j.Project)
	l := <-claimed
	require.Equal(t, j.ID, l.Job.ID)
	require.Equal(t, patrick.Running, l.Job.State)
	require.Equal(t, 1, l.Job.Attempt)

	src, err := worker.Source(ctx, l)
	require.NoError(t, err)
	require.Equal(t, auth.KindProject, src.Kind)
	r := tar.NewReader(src.Archive)
	_, err = r.Next()
	require.NoError(t, err)
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Equal(t, "commit "+string(hash(1)), string(b))
	require.NoError(t, src.Archive.Close())

	// Followers here and elsewhere have each line as it comes.
	live, err := reader.Logs(ctx, j.ID, 1, true)
	require.NoError(t, err)
	defer live.Close()
	require.NoError(t, worker.Log(ctx, l, []byte("first\n")))
	buf := make([]byte, 6)
	_, err = io.ReadFull(live, buf)
	require.NoError(t, err)
	require.Equal(t, "first\n", string(buf))
	require.NoError(t, worker.Log(ctx, l, []byte("second\n")))
	renewed, err := worker.Renew(ctx, l)
	require.NoError(t, err)
	require.False(t, renewed.Expires.Before(l.Expires))

	end := patrick.Outcome{State: patrick.Succeeded, Steps: []patrick.Step{{Name: "build", Duration: time.Second}}}
	require.NoError(t, worker.Finish(ctx, l, end))
	require.NoError(t, worker.Finish(ctx, l, end), "said twice")
	rest, err := io.ReadAll(live)
	require.NoError(t, err)
	require.Equal(t, "second\n", string(rest), "a follower's log ends with the attempt")
	kept, err := reader.Logs(ctx, j.ID, 0, false)
	require.Equal(t, "first\nsecond\n", text(t, kept, err))
	_, err = s.Logs(ctx, j.ID, 2, false)
	require.ErrorIs(t, err, taubyte.ErrNotFound)

	j, err = reader.Job(ctx, j.ID)
	require.NoError(t, err)
	require.Equal(t, patrick.Succeeded, j.State)
	require.Equal(t, end.Steps, j.Steps)
	for seen := range watch {
		if seen.ID == j.ID && seen.State == patrick.Succeeded {
			break
		}
	}
	require.ErrorIs(t, worker.Log(ctx, l, []byte("late\n")), taubyte.ErrConflict)
	require.ErrorIs(t, s.Retry(ctx, j.ID), taubyte.ErrConflict)
}

func TestSubmitAgainGivesTheSameJob(t *testing.T) {
	net := testnet.New(t)
	s := open(t, net.Node(), newOrigin())
	first, err := s.Submit(t.Context(), auth.Push{Repository: repo, Branch: "main", Commit: hash(1), Delivery: "d1"})
	require.NoError(t, err)
	again := push(t, s, repo, "main", hash(1))
	require.Equal(t, first.ID, again.ID, "the same commit")
	second := push(t, s, repo, "main", hash(2))
	require.Greater(t, second.Order, first.Order)
	late, err := s.Submit(t.Context(), auth.Push{Repository: repo, Branch: "main", Commit: hash(1), Delivery: "d1"})
	require.NoError(t, err)
	require.Equal(t, first.ID, late.ID, "the same delivery")
	back := push(t, s, repo, "main", hash(1))
	require.NotEqual(t, first.ID, back.ID, "pushed back to an older commit")
	require.Greater(t, back.Order, second.Order)
	_, err = s.Submit(t.Context(), auth.Push{Repository: "github/1", Branch: "main", Commit: hash(1)})
	require.ErrorIs(t, err, taubyte.ErrNotFound)
	_, err = s.Submit(t.Context(), auth.Push{Repository: repo, Commit: hash(1)})
	require.ErrorIs(t, err, taubyte.ErrInvalid)
}

func TestALaterPushSupersedes(t *testing.T) {
	net := testnet.New(t)
	s := open(t, net.Node(), newOrigin())
	running := push(t, s, repo, "main", hash(1))
	l := claim(t, s)
	require.Equal(t, running.ID, l.Job.ID)
	queued := push(t, s, repo, "main", hash(2))
	other := push(t, s, repo, "other", hash(2))
	newest := push(t, s, repo, "main", hash(3))
	require.Equal(t, patrick.Superseded, state(t, s, queued.ID))
	require.Equal(t, patrick.Queued, state(t, s, other.ID))
	require.Equal(t, patrick.Queued, state(t, s, newest.ID))
	require.Equal(t, patrick.Running, state(t, s, running.ID), "what runs goes on")
	require.NoError(t, s.Finish(t.Context(), l, patrick.Outcome{State: patrick.Failed, Error: "no"}))
	require.ErrorIs(t, s.Retry(t.Context(), running.ID), taubyte.ErrConflict)
}

func TestCancelAndRetry(t *testing.T) {
	net := testnet.New(t)
	s := open(t, net.Node(taubyte.RolePatrick), newOrigin())
	worker := newWorker(t, net.Node(taubyte.RoleMonkey))
	ctx := t.Context()
	j := push(t, s, repo, "main", hash(1))
	l := claim(t, worker)
	require.ErrorIs(t, worker.Cancel(ctx, j.ID), taubyte.ErrForbidden, "not a worker's business")
	require.ErrorIs(t, worker.Retry(ctx, j.ID), taubyte.ErrForbidden)
	require.NoError(t, s.Cancel(ctx, j.ID))
	require.NoError(t, s.Cancel(ctx, j.ID))
	require.Equal(t, patrick.Cancelled, state(t, s, j.ID))
	_, err := worker.Renew(ctx, l)
	require.ErrorIs(t, err, taubyte.ErrConflict, "the worker hears of it")
	require.ErrorIs(t, worker.Finish(ctx, l, patrick.Outcome{State: patrick.Succeeded}), taubyte.ErrConflict)

	require.NoError(t, s.Retry(ctx, j.ID))
	next := claim(t, worker)
	require.Equal(t, j.ID, next.Job.ID)
	require.Greater(t, next.Fence, l.Fence)
	require.Equal(t, 2, next.Job.Attempt)
	_, err = worker.Renew(ctx, l)
	require.ErrorIs(t, err, taubyte.ErrConflict, "the older lease stays lost")
	require.NoError(t, worker.Finish(ctx, next, patrick.Outcome{State: patrick.Failed, Error: "broken"}))
	got, err := s.Job(ctx, j.ID)
	require.NoError(t, err)
	require.Equal(t, "broken", got.Error)
	require.ErrorIs(t, s.Cancel(ctx, j.ID), taubyte.ErrConflict)
	require.ErrorIs(t, s.Cancel(ctx, "nothing"), taubyte.ErrNotFound)
}

func TestALostWorkersJobIsTriedAgain(t *testing.T) {
	net := testnet.New(t)
	s := open(t, net.Node(taubyte.RolePatrick), newOrigin(),
		patrick.WithLease(300*time.Millisecond), patrick.WithAttempts(2, time.Millisecond))
	lost, steady := newWorker(t, net.Node(taubyte.RoleMonkey)), newWorker(t, net.Node(taubyte.RoleMonkey))
	ctx := t.Context()
	j := push(t, s, repo, "main", hash(1))
	first := claim(t, lost)
	require.NoError(t, lost.Log(ctx, first, []byte("so far\n")))
	second := claim(t, steady) // waits until the first lease is over
	require.Equal(t, j.ID, second.Job.ID)
	_, err := steady.Renew(ctx, second)
	require.NoError(t, err)
	require.Greater(t, second.Fence, first.Fence)
	require.ErrorIs(t, lost.Finish(ctx, first, patrick.Outcome{State: patrick.Succeeded}), taubyte.ErrConflict)
	r, err := s.Logs(ctx, j.ID, 1, false)
	require.Equal(t, "so far\n", text(t, r, err))

	testnet.Eventually(t, func() bool { return state(t, s, j.ID) == patrick.Failed }, "attempts are used up")
	got, err := s.Job(ctx, j.ID)
	require.NoError(t, err)
	require.Contains(t, got.Error, "attempt 2 of 2")
}

func TestAWorkerThatRenewsKeepsItsJob(t *testing.T) {
	net := testnet.New(t)
	s := open(t, net.Node(taubyte.RolePatrick), newOrigin(), patrick.WithLease(2*time.Second))
	worker := newWorker(t, net.Node(taubyte.RoleMonkey))
	push(t, s, repo, "main", hash(1))
	l := claim(t, worker)
	for until := l.Expires.Add(time.Second); time.Now().Before(until); {
		var err error
		l, err = worker.Renew(t.Context(), l)
		require.NoError(t, err)
		time.Sleep(50 * time.Millisecond)
	}
	require.Equal(t, 1, l.Job.Attempt)
}

func TestOnlyTheHolderAndOnlyWorkers(t *testing.T) {
	net := testnet.New(t)
	s := open(t, net.Node(taubyte.RolePatrick), newOrigin())
	holder, rival := newWorker(t, net.Node(taubyte.RoleMonkey)), newWorker(t, net.Node(taubyte.RoleMonkey))
	stranger := client(t, net.Node(taubyte.RoleSubstrate, taubyte.RoleGateway, taubyte.RoleTNS, taubyte.RoleHoarder))
	ctx := t.Context()
	j := push(t, s, repo, "main", hash(1))
	l := claim(t, holder)
	for _, c := range []worker{rival, {stranger}} {
		_, err := c.Renew(ctx, l)
		require.ErrorIs(t, err, taubyte.ErrForbidden)
		require.ErrorIs(t, c.Log(ctx, l, []byte("x")), taubyte.ErrForbidden)
		require.ErrorIs(t, c.Finish(ctx, l, patrick.Outcome{State: patrick.Failed}), taubyte.ErrForbidden)
		_, err = c.Source(ctx, l)
		require.ErrorIs(t, err, taubyte.ErrForbidden)
	}
	_, err := stranger.Claim(ctx)
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	_, err = stranger.Logs(ctx, j.ID, 1, false)
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	_, err = stranger.Submit(ctx, auth.Push{Repository: repo, Branch: "main", Commit: hash(2)})
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	require.ErrorIs(t, holder.Finish(ctx, l, patrick.Outcome{State: patrick.Running}), taubyte.ErrInvalid)
	require.ErrorIs(t, holder.Log(ctx, l, make([]byte, 1<<20)), taubyte.ErrTooLarge)
	require.Equal(t, patrick.Running, state(t, s, j.ID))
}

// A worker's claim for another (worker=) is believed of nodes of patrick alone.
func TestNobodySpeaksForAWorker(t *testing.T) {
	net := testnet.New(t)
	node := net.Node(taubyte.RolePatrick)
	s := open(t, node, newOrigin())
	holder := net.Node(taubyte.RoleMonkey)
	rival := net.Node(taubyte.RoleMonkey)
	j := push(t, s, repo, "main", hash(1))
	l := claim(t, newWorker(t, holder))
	c := rpc.NewClient(rival, patrick.Protocol, nil)
	defer c.Close()
	path := fmt.Sprintf("/jobs/%s/finish?fence=%d&worker=%s", j.ID, l.Fence, holder.ID())
	require.ErrorIs(t, c.CallPeer(t.Context(), node.ID(), http.MethodPost, path, patrick.Outcome{State: patrick.Failed}, nil), taubyte.ErrForbidden)
	path = fmt.Sprintf("/jobs/%s/grant?worker=%s", j.ID, rival.ID())
	require.ErrorIs(t, c.CallPeer(t.Context(), node.ID(), http.MethodPost, path, nil, nil), taubyte.ErrForbidden)
}

func TestProjectsTakeTurns(t *testing.T) {
	net := testnet.New(t)
	s := open(t, net.Node(), newOrigin(), patrick.WithPriority(func(_ auth.Repository, p auth.Push) int {
		if p.Branch == "urgent" {
			return 1
		}
		return 0
	}))
	for i := range 5 {
		push(t, s, "local/busy", taubyte.Branch(fmt.Sprint("b", i)), hash(i))
	}
	push(t, s, "local/busy", "urgent", hash(9))
	push(t, s, "local/quiet", "main", hash(1))
	var got []string
	for range 4 {
		l := claim(t, s)
		got = append(got, string(l.Job.Project)+" "+string(l.Job.Branch))
		require.NoError(t, s.Finish(t.Context(), l, patrick.Outcome{State: patrick.Succeeded}))
	}
	require.Equal(t, []string{"busy urgent", "quiet main", "busy b0", "busy b1"}, got)
}

func TestARemovalRunsAlone(t *testing.T) {
	net := testnet.New(t)
	s := open(t, net.Node(), newOrigin())
	ctx := t.Context()
	push(t, s, repo, "main", hash(1))
	build := claim(t, s)
	gone := push(t, s, repo, "main", "")
	require.True(t, gone.Deleted)
	push(t, s, repo, "other", hash(1))
	require.Equal(t, taubyte.Branch("other"), claim(t, s).Job.Branch, "the removal waits for the build")
	require.NoError(t, s.Finish(ctx, build, patrick.Outcome{State: patrick.Succeeded}))
	removal := claim(t, s)
	require.Equal(t, gone.ID, removal.Job.ID)
	src, err := s.Source(ctx, removal)
	require.NoError(t, err)
	require.True(t, src.Deleted)
	require.Nil(t, src.Archive)
	after := push(t, s, repo, "main", hash(2))
	require.NoError(t, s.Finish(ctx, removal, patrick.Outcome{State: patrick.Succeeded}))
	require.Equal(t, after.ID, claim(t, s).Job.ID)
}

func TestMissedPushesAreFound(t *testing.T) {
	net := testnet.New(t)
	o := newOrigin()
	o.set(repo, "main", hash(1))
	s := open(t, net.Node(), o, patrick.WithReconcile(time.Second))
	all := func() (jobs []patrick.Job) {
		page, err := s.Jobs(t.Context(), patrick.Filter{Repository: repo})
		require.NoError(t, err)
		return page.Jobs
	}
	testnet.Eventually(t, func() bool { return len(all()) == 1 }, "the push before the start")
	require.NoError(t, s.Reconcile(t.Context()))
	require.Len(t, all(), 1, "known")
	o.set(repo, "main", hash(2))
	o.set(repo, "feature", hash(3))
	require.NoError(t, s.Reconcile(t.Context()))
	require.Len(t, all(), 3)
	// What takes something back has to stay: heads and jobs are replicated apart.
	o.set(repo, "feature", "")
	require.NoError(t, s.Reconcile(t.Context()))
	require.Len(t, all(), 3)
	testnet.Eventually(t, func() bool { return len(all()) == 4 }, "the branch stays removed")
	require.NoError(t, s.Reconcile(t.Context()))
	jobs := all()
	require.Len(t, jobs, 4)
	require.True(t, jobs[0].Deleted)
	require.Equal(t, taubyte.Branch("feature"), jobs[0].Branch)
}

// A repository that left its project and comes back is built again, also of the same
// commit: what it had deployed went with the project.
func TestARepositoryThatComesBack(t *testing.T) {
	net := testnet.New(t)
	o := newOrigin()
	o.since = time.Now()
	s := open(t, net.Node(), o)
	first := push(t, s, repo, "main", hash(1))
	o.set(repo, "main", hash(1))
	require.Equal(t, first.ID, push(t, s, repo, "main", hash(1)).ID, "the same push")
	o.mu.Lock()
	o.since = o.since.Add(time.Second)
	o.mu.Unlock()
	again := push(t, s, repo, "main", hash(1))
	require.NotEqual(t, first.ID, again.ID)
	require.Greater(t, again.Order, first.Order)
	require.Equal(t, patrick.Superseded, state(t, s, first.ID))
	require.Equal(t, again.ID, push(t, s, repo, "main", hash(1)).ID)

	o.mu.Lock()
	o.since = o.since.Add(time.Second)
	o.heads[repo] = map[taubyte.Branch]taubyte.Commit{"main": hash(1)}
	o.mu.Unlock()
	for range 2 {
		require.NoError(t, s.Reconcile(t.Context()))
		page, err := s.Jobs(t.Context(), patrick.Filter{Repository: repo})
		require.NoError(t, err)
		require.Len(t, page.Jobs, 3, "as is one whose push was missed")
	}
}

func TestRestart(t *testing.T) {
	testnet.CheckLeaks(t)
	dir := t.TempDir()
	a, err := taubyte.NewAuthority()
	require.NoError(t, err)
	start := func() (*patrick.Service, func()) {
		store, err := taubyte.OpenDatastore(dir)
		require.NoError(t, err)
		h, err := taubyte.NewHost(t.Context(), store, taubyte.WithAuthority(a, taubyte.Roles()...), taubyte.WithLogger(testnet.Logger(t)))
		require.NoError(t, err)
		s, err := patrick.New(t.Context(), h, store, patrick.WithAuth(newOrigin()), patrick.WithLogger(testnet.Logger(t)), patrick.WithAttempts(2, time.Millisecond))
		require.NoError(t, err)
		return s, func() {
			require.NoError(t, s.Close())
			require.NoError(t, s.Close())
			require.NoError(t, h.Close())
			require.NoError(t, store.Close())
		}
	}
	ctx := t.Context()
	s, stop := start()
	j := push(t, s, repo, "main", hash(1))
	l := claim(t, s)
	require.NoError(t, s.Log(ctx, l, -1, []byte("before the crash\n")))
	done := push(t, s, "local/other", "main", hash(2))
	finished := claim(t, s)
	require.NoError(t, s.Log(ctx, finished, -1, []byte("kept\n")))
	require.NoError(t, s.Finish(ctx, finished, patrick.Outcome{State: patrick.Succeeded}))
	stop()

	s, stop = start()
	defer func() { stop() }()
	r, err := s.Logs(ctx, done.ID, 1, false)
	require.Equal(t, "kept\n", text(t, r, err))
	next := claim(t, s) // at once: the worker was on this node, and was killed with it
	require.Equal(t, j.ID, next.Job.ID)
	require.Greater(t, next.Fence, l.Fence)
	r, err = s.Logs(ctx, j.ID, 1, false)
	require.Equal(t, "before the crash\n", text(t, r, err))
	later := push(t, s, repo, "main", hash(3))
	require.Greater(t, later.Order, j.Order)
	require.Equal(t, done.ID, push(t, s, "local/other", "main", hash(2)).ID)
}

func TestLogsAreBounded(t *testing.T) {
	net := testnet.New(t)
	s := open(t, net.Node(), newOrigin(), patrick.WithLogLimit(1000))
	ctx := t.Context()
	j := push(t, s, repo, "main", hash(1))
	l := claim(t, s)
	for range 100 {
		require.NoError(t, s.Log(ctx, l, -1, bytes.Repeat([]byte("x"), 300)))
	}
	require.NoError(t, s.Finish(ctx, l, patrick.Outcome{State: patrick.Succeeded}))
	r, err := s.Logs(ctx, j.ID, 1, false)
	got := text(t, r, err)
	require.Contains(t, got, "cut off here")
	require.Less(t, len(got), 1200)
}

func TestPages(t *testing.T) {
	net := testnet.New(t)
	s := open(t, net.Node(), newOrigin())
	var want []taubyte.JobID
	for i := range 25 {
		want = append(want, push(t, s, "local/"+taubyte.RepositoryID(fmt.Sprint("p", i%5)), taubyte.Branch(fmt.Sprint(i)), hash(i)).ID)
	}
	var got []taubyte.JobID
	f := patrick.Filter{Limit: 10}
	for {
		page, err := s.Jobs(t.Context(), f)
		require.NoError(t, err)
		for _, j := range page.Jobs {
			got = append([]taubyte.JobID{j.ID}, got...)
		}
		if f.After = page.Next; f.After == "" {
			break
		}
	}
	require.Equal(t, want, got, "ids sort by time, pages are newest first and leave none out")
	page, err := s.Jobs(t.Context(), patrick.Filter{Project: "p3"})
	require.NoError(t, err)
	require.Len(t, page.Jobs, 5)
}

func TestTwoNodes(t *testing.T) {
	net := testnet.New(t)
	o := newOrigin()
	n1, n2 := net.Node(taubyte.RolePatrick), net.Node(taubyte.RolePatrick)
	opts := []patrick.Option{patrick.WithLease(2 * time.Second), patrick.WithAttempts(9, time.Millisecond)}
	s1, s2 := open(t, n1, o, opts...), open(t, n2, o, opts...)
	const jobs = 12
	for i := range jobs {
		s := s1
		if i%2 == 0 {
			s = s2
		}
		push(t, s, repo, taubyte.Branch(fmt.Sprint(i)), hash(i))
	}
	// Whichever node a worker asks, each job is given out once and ends everywhere.
	var mu sync.Mutex
	seen := map[taubyte.JobID]int{}
	var wg sync.WaitGroup
	for range 3 {
		w := newWorker(t, net.Node(taubyte.RoleMonkey))
		wg.Go(func() {
			for {
				mu.Lock()
				n := len(seen)
				mu.Unlock()
				if n == jobs {
					return
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				l, err := w.Claim(ctx)
				cancel()
				if err != nil || l.Job.ID == "" {
					continue
				}
				if err := w.Log(t.Context(), l, []byte("line\n")); err != nil {
					t.Errorf("log: %v", err)
				}
				if err := w.Finish(t.Context(), l, patrick.Outcome{State: patrick.Succeeded}); err != nil {
					t.Errorf("finish: %v", err)
				}
				mu.Lock()
				seen[l.Job.ID]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for id, n := range seen {
		require.Equal(t, 1, n, "job %s", id)
		for _, s := range []*patrick.Service{s1, s2} {
			testnet.Eventually(t, func() bool {
				j, err := s.Job(t.Context(), id)
				return err == nil && j.State == patrick.Succeeded
			}, "job %s ends on both nodes", id)
			testnet.Eventually(t, func() bool {
				r, err := s.Logs(t.Context(), id, 1, false)
				if err != nil {
					return false
				}
				defer r.Close()
				b, err := io.ReadAll(r)
				return err == nil && string(b) == "line\n"
			}, "its log is read on both")
		}
	}

	// The worker of a lease goes on with the node that is left.
	j := push(t, s2, repo, "last", hash(99))
	w := net.Node(taubyte.RoleMonkey)
	c := newWorker(t, w)
	testnet.Eventually(t, func() bool {
		_, err := s1.Job(t.Context(), j.ID)
		return err == nil
	}, "known to both")
	l := claim(t, c)
	testnet.Eventually(t, func() bool {
		got, err := s2.Job(t.Context(), j.ID)
		return err == nil && got.State == patrick.Running
	}, "the lease is known to both")
	require.NoError(t, s1.Close())
	testnet.Eventually(t, func() bool {
		_, err := c.Renew(t.Context(), l)
		return err == nil
	}, "renewed by the other node")
	require.NoError(t, c.Finish(t.Context(), l, patrick.Outcome{State: patrick.Succeeded}))
	require.Equal(t, patrick.Succeeded, state(t, s2, j.ID))
}

func TestEventsOnTheWire(t *testing.T) {
	net := testnet.New(t)
	n := net.Node()
	s := open(t, n, newOrigin())
	ctx := t.Context()
	j := push(t, s, repo, "main", hash(1))
	l := claim(t, s)
	require.NoError(t, s.Log(ctx, l, -1, []byte("a\r\nevent: x\n")))
	require.NoError(t, s.Finish(ctx, l, patrick.Outcome{State: patrick.Succeeded}))
	m, err := n.Member(ctx, n.ID())
	require.NoError(t, err)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.Handler().ServeHTTP(w, r.WithContext(rpc.WithCaller(r.Context(), m)))
	}))
	defer api.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, api.URL+"/jobs/"+string(j.ID)+"/logs?follow=true", nil)
	require.NoError(t, err)
	req.Header.Set("Accept", "text/event-stream")
	resp, err := api.Client().Do(req)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("id: %d-3\ndata: {\"text\":\"a\"}\n\nid: %d-12\ndata: {\"text\":\"event: x\"}\n\nevent: end\ndata:\n\n", l.Fence, l.Fence), text(t, resp.Body, nil))
}

// What the queue does costs the same after many jobs as before them.
func BenchmarkClaimAfterHistory(b *testing.B) {
	for _, history := range []int{0, 5000} {
		b.Run(fmt.Sprint(history), func(b *testing.B) {
			net := testnet.New(b)
			n := net.Node()
			s, err := patrick.New(b.Context(), n, n.Store, patrick.WithAuth(newOrigin()), patrick.WithReconcile(time.Hour), patrick.WithLogger(testnet.Logger(b)))
			require.NoError(b, err)
			defer s.Close()
			one := func(i int) {
				_, err := s.Submit(b.Context(), auth.Push{Repository: repo, Branch: "main", Commit: hash(i)})
				require.NoError(b, err)
				l, err := s.Claim(b.Context())
				require.NoError(b, err)
				require.NoError(b, s.Finish(b.Context(), l, patrick.Outcome{State: patrick.Succeeded}))
			}
			for i := range history {
				one(i)
			}
			i := history
			for b.Loop() {
				one(i)
				i++
			}
		})
	}
}
