package monkey_test

import (
	"archive/tar"
	"context"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/monkey"
	"github.com/taubyte/taubyte/patrick"
	"github.com/taubyte/taubyte/tns"
)

// origin is one repository.
type origin struct {
	mu    sync.Mutex
	trees map[taubyte.Commit]map[string]string
}

func (o *origin) Repository(_ context.Context, id taubyte.RepositoryID) (auth.Repository, error) {
	return auth.Repository{ID: id, Project: projectID, Kind: auth.KindProject, Provider: "local", Name: "hello"}, nil
}

func (o *origin) Repositories(context.Context, taubyte.ProjectID) ([]auth.Repository, error) {
	return nil, nil
}

func (o *origin) Heads(context.Context, taubyte.RepositoryID) (map[taubyte.Branch]taubyte.Commit, error) {
	return nil, nil
}

func (o *origin) Source(_ context.Context, _ taubyte.RepositoryID, c taubyte.Commit, to io.Writer) error {
	o.mu.Lock()
	files := o.trees[c]
	o.mu.Unlock()
	w := tar.NewWriter(to)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(files[name]))}); err != nil {
			return err
		}
		if _, err := io.WriteString(w, files[name]); err != nil {
			return err
		}
	}
	return w.Close()
}

// From patrick on one node, over a worker on a second, to tns on the first and
// hoarder on a third.
func TestThreeNodes(t *testing.T) {
	net := testnet.New(t)
	control := net.Node(taubyte.RolePatrick, taubyte.RoleTNS)
	keeper := net.Node(taubyte.RoleHoarder)
	builder := net.Node(taubyte.RoleMonkey)

	older, newer := taubyte.Commit(strings.Repeat("a", 40)), taubyte.Commit(strings.Repeat("b", 40))
	o := &origin{trees: map[taubyte.Commit]map[string]string{older: project(shFunction), newer: project(map[string]string{"README": "nothing to build"})}}
	registry, err := tns.New(t.Context(), control, control.Store)
	require.NoError(t, err)
	defer registry.Close()
	jobs, err := patrick.New(t.Context(), control, control.Store, patrick.WithAuth(o), patrick.WithLease(time.Second))
	require.NoError(t, err)
	defer jobs.Close()
	kept, err := hoarder.New(t.Context(), keeper, keeper.Store)
	require.NoError(t, err)
	defer kept.Close()
	var came arrivals
	came.record(t, control, tns.Protocol, registry.Handler(), builder.ID())
	came.record(t, control, patrick.Protocol, jobs.Handler(), builder.ID())
	came.record(t, keeper, hoarder.Protocol, kept.Handler(), builder.ID())
	worker, err := monkey.New(t.Context(), builder, builder.Store, monkey.WithWorkDir(t.TempDir()), plain, monkey.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	defer worker.Close()

	end := func(c taubyte.Commit) patrick.Job {
		j, err := jobs.Submit(t.Context(), auth.Push{Repository: repo, Branch: "main", Commit: c})
		require.NoError(t, err)
		testnet.Eventually(t, func() bool {
			j, err = jobs.Job(t.Context(), j.ID)
			return err == nil && j.State.Done()
		}, "the job ends")
		return j
	}
	log := func(j patrick.Job) string {
		r, err := jobs.Logs(t.Context(), j.ID, j.Attempt, false)
		require.NoError(t, err)
		defer r.Close()
		text, err := io.ReadAll(r)
		require.NoError(t, err)
		return string(text)
	}
	j := end(older)
	require.Equal(t, patrick.Succeeded, j.State, j.Error)
	require.Contains(t, log(j), "published as deployment 1 of branch main")
	d, err := registry.Current(t.Context(), projectID, "main")
	require.NoError(t, err)
	require.Equal(t, older, d.Commit())
	pages, ok := d.Asset(websiteID)
	require.True(t, ok)
	item, err := kept.Item(t.Context(), pages)
	require.NoError(t, err)
	require.Len(t, item.Replicas, 1)

	j = end(newer)
	require.Equal(t, patrick.Failed, j.State)
	require.Contains(t, j.Error, "nothing to build")
	require.Contains(t, log(j), "nothing to build")

	j = end("") // the branch is deleted
	require.Equal(t, patrick.Succeeded, j.State, j.Error)
	_, err = registry.Current(t.Context(), projectID, "main")
	require.ErrorIs(t, err, taubyte.ErrNotFound)

	// What the worker did for a job came as the job's, and nothing else did.
	seen := map[string]bool{}
	for _, a := range came.all() {
		seen[a.call] = true
		if a.call == "POST /claim" {
			require.Equal(t, taubyte.KindNode, a.by.Kind)
			continue
		}
		require.Equal(t, taubyte.KindJob, a.by.Kind, "%s by %s", a.call, a.by)
		require.Equal(t, []taubyte.ProjectID{projectID}, a.by.Projects, a.call)
		require.EqualValues(t, "main", a.by.Branch, a.call)
		require.NotZero(t, a.by.Attempt, a.call)
		if a.job != "" {
			require.Equal(t, a.job, a.by.Job, a.call)
		}
	}
	for _, call := range []string{
		"POST /claim", "POST /jobs/{id}/renew", "POST /jobs/{id}/log", "POST /jobs/{id}/finish", "GET /jobs/{id}/source", "POST /keep",
		"POST /projects/{id}/branches/main/parts", "GET /projects/{id}/branches/main", "DELETE /projects/{id}/branches/main",
	} {
		require.True(t, seen[call], "%s of %v", call, slices.Sorted(maps.Keys(seen)))
	}
}

// arrivals are the calls of one node as they come in at others.
type arrivals struct {
	mu    sync.Mutex
	calls []arrival
}

type arrival struct {
	call string // with {id} for the project or the job
	job  taubyte.JobID
	by   taubyte.Principal
}

func (a *arrivals) all() []arrival {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.calls)
}

// record serves a protocol in the place of the service whose handler it is.
func (a *arrivals) record(t *testing.T, on *testnet.Node, id protocol.ID, handler http.Handler, from peer.ID) {
	server, err := rpc.Serve(on, id, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m, _ := rpc.Caller(r.Context()); m.Peer == from {
			c := arrival{by: taubyte.PrincipalOf(r.Context())}
			parts := strings.Split(r.URL.Path, "/")
			if len(parts) > 2 {
				if parts[1] == "jobs" {
					c.job = taubyte.JobID(parts[2])
				}
				parts[2] = "{id}"
			}
			c.call = r.Method + " " + strings.Join(parts, "/")
			a.mu.Lock()
			a.calls = append(a.calls, c)
			a.mu.Unlock()
		}
		handler.ServeHTTP(w, r)
	}))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
}

// A job that kills the only node, worker and patrick together, is not taken up for ever:
// each attempt is on disk before it begins.
func TestAJobThatKillsALoneNodeEnds(t *testing.T) {
	node := testnet.New(t).Node()
	c := taubyte.Commit(strings.Repeat("a", 40))
	o := &origin{trees: map[taubyte.Commit]map[string]string{c: project(shFunction)}}
	open := func() *patrick.Service {
		jobs, err := patrick.New(t.Context(), node, node.Store, patrick.WithAuth(o),
			patrick.WithLease(200*time.Millisecond), patrick.WithAttempts(3, 10*time.Millisecond), patrick.WithLogger(testnet.Logger(t)))
		require.NoError(t, err)
		return jobs
	}
	jobs := open()
	j, err := jobs.Submit(t.Context(), auth.Push{Repository: repo, Branch: "main", Commit: c})
	require.NoError(t, err)
	for range 3 {
		testnet.Eventually(t, func() bool { l, err := jobs.Claim(t.Context()); return err == nil && l.Job.ID == j.ID }, "claimed")
		require.NoError(t, jobs.Close()) // nothing is said of the attempt
		jobs = open()
	}
	defer jobs.Close()
	testnet.Eventually(t, func() bool { j, err = jobs.Job(t.Context(), j.ID); return err == nil && j.State == patrick.Failed }, "given up")
	require.Equal(t, 3, j.Attempt)
	t.Log(j.Error)
}
