package patrick_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/patrick"
)

func openHoarder(t testing.TB, n *testnet.Node) *hoarder.Service {
	t.Helper()
	h, err := hoarder.New(t.Context(), n, n.Store, hoarder.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	return h
}

// logItems are the logs that a hoarder knows to be kept.
func logItems(t *testing.T, h *hoarder.Service) (logs []hoarder.Item) {
	t.Helper()
	all, err := h.Items(t.Context())
	require.NoError(t, err)
	for _, i := range all {
		if slices.ContainsFunc(i.Claims, func(c hoarder.Claim) bool { return c.Class == hoarder.ClassLog }) {
			logs = append(logs, i)
		}
	}
	return logs
}

// The log of an attempt that has ended is kept by two hoarders, and nodes of patrick keep
// nothing of it: it is read when all that took part in it are gone. It goes with its job.
func TestLogsAreKeptByHoarder(t *testing.T) {
	c := newCluster(t, 2, patrick.WithRetention(time.Hour, 1))
	nodes := []*testnet.Node{c.net.Node(taubyte.RoleHoarder), c.net.Node(taubyte.RoleHoarder)}
	keepers := []*hoarder.Service{openHoarder(t, nodes[0]), openHoarder(t, nodes[1])}
	w, reader := newWorker(t, c.net.Node(taubyte.RoleMonkey)), client(t, c.net.Node(taubyte.RoleAuth))
	ctx := t.Context()
	build := func(n int) (patrick.Job, string) {
		j := push(t, c.services[0], repo, "main", hash(n))
		l := claim(t, w)
		require.Equal(t, j.ID, l.Job.ID)
		var want strings.Builder
		for i := range 400 {
			line := fmt.Sprintf("job %d, line %d %s\n", n, i, strings.Repeat("x", 200))
			want.WriteString(line)
		}
		for text := want.String(); len(text) > 0; {
			n := min(len(text), 50_000)
			require.NoError(t, w.Log(ctx, l, []byte(text[:n])))
			text = text[n:]
		}
		require.NoError(t, w.Finish(ctx, l, patrick.Outcome{State: patrick.Succeeded}))
		return j, want.String()
	}
	first, text1 := build(1)
	second, text2 := build(2)
	kept := func(n int) {
		t.Helper()
		for _, h := range keepers {
			testnet.Eventually(t, func() bool {
				items := logItems(t, h)
				return len(items) == n && !slices.ContainsFunc(items, func(i hoarder.Item) bool { return len(i.Replicas) != 2 })
			}, "%d logs are on two hoarders", n)
		}
		for _, s := range c.services {
			testnet.Eventually(t, func() bool { return patrick.Pieces(s) == 0 }, "patrick has handed its logs over")
		}
	}
	kept(2)
	for _, n := range c.nodes { // nor has it blocks of them
		for _, i := range logItems(t, keepers[0]) {
			has, err := n.Blocks().Blockstore().Has(ctx, i.Root)
			require.NoError(t, err)
			require.False(t, has)
		}
	}

	// Whoever took part in it and one of those that keep it may go.
	require.NoError(t, keepers[0].Close())
	require.NoError(t, nodes[0].Close())
	c.net.Forget(nodes[0])
	c.stop(t, 0)
	for id, want := range map[taubyte.JobID]string{first.ID: text1, second.ID: text2} {
		r, err := reader.Logs(ctx, id, 0, false)
		require.Equal(t, want, text(t, r, err))
	}
	// In the midst as well.
	var after string
	n := 0
	for line, err := range c.services[1].Lines(ctx, first.ID, patrick.LogOptions{}) {
		require.NoError(t, err)
		if n++; n == 300 {
			after = line.ID
			break
		}
	}
	rest, err := lines(c.services[1].Lines(ctx, first.ID, patrick.LogOptions{After: after}))
	require.NoError(t, err)
	require.Len(t, rest, 100)
	require.Contains(t, rest[0].Text, "job 1, line 300 ")

	// Nobody but nodes of patrick reads logs from hoarder.
	root := logItems(t, keepers[1])[0].Root
	stranger := hoarder.NewClient(c.net.Node(taubyte.RoleMonkey))
	_, err = stranger.OpenLog(ctx, "shop", root)
	require.NoError(t, stranger.Close())
	require.ErrorIs(t, err, taubyte.ErrForbidden)

	c.set(repo, "main", hash(2))
	testnet.Eventually(t, func() bool { return patrick.Retain(ctx, c.services[1], time.Now()) == nil }, "hoarder lets go")
	_, err = c.services[1].Job(ctx, first.ID)
	require.ErrorIs(t, err, taubyte.ErrNotFound)
	testnet.Eventually(t, func() bool { return len(logItems(t, keepers[1])) == 1 }, "the log goes with its job")
	r, err := reader.Logs(ctx, second.ID, 0, false)
	require.Equal(t, text2, text(t, r, err))
}

func lines(all func(func(patrick.LogLine, error) bool)) (got []patrick.LogLine, err error) {
	for line, e := range all {
		if e != nil {
			return got, e
		}
		got = append(got, line)
	}
	return got, nil
}

// What was acknowledged of a running attempt's log survives the node that took it, and a
// follower goes on with the next node by itself: nothing twice, nothing missing.
func TestALogOutlivesTheNodeThatTakesIt(t *testing.T) {
	c := newCluster(t, 3)
	w, reader := newWorker(t, c.net.Node(taubyte.RoleMonkey)), client(t, c.net.Node(taubyte.RoleAuth))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	j := push(t, c.services[0], repo, "main", hash(1))
	l := claim(t, w)
	everywhere(t, c.services, j.ID, patrick.Running)
	at := int64(0)
	log := func(text string) error {
		err := w.Client.Log(taubyte.WithPrincipal(ctx, as(l)), l, at, []byte(text))
		if err == nil {
			at += int64(len(text))
		}
		return err
	}
	require.NoError(t, log("one\n"))
	got := make(chan string, 100)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		defer close(got)
		for line, err := range reader.Lines(ctx, j.ID, patrick.LogOptions{Follow: true}) {
			if err != nil {
				t.Errorf("following: %v", err)
				return
			}
			got <- line.Text
		}
	})
	require.Equal(t, "one", <-got)
	require.NoError(t, log(strings.Repeat("y", 100_000)+"\n")) // over several pieces
	<-got
	<-got // a line of more than 64 KiB comes in parts
	require.NoError(t, log("two\n"))
	require.Equal(t, "two", <-got)
	gone := c.arbiter(l)
	c.stop(t, gone)
	left := slices.Delete(slices.Clone(c.services), gone, gone+1)
	l2, err := w.Renew(ctx, l)
	require.NoError(t, err)
	l.Arbiter = l2.Arbiter
	before := at
	require.NoError(t, log("three\n"))
	at = before
	require.NoError(t, log("three\n"), "sent again, since its answer was lost")
	require.Equal(t, "three", <-got)
	require.NoError(t, log("four\n"))
	require.NoError(t, w.Finish(ctx, l, patrick.Outcome{State: patrick.Succeeded}))
	require.Equal(t, "four", <-got)
	_, more := <-got
	require.False(t, more, "it ends with the attempt")
	for _, s := range left {
		everywhere(t, left, j.ID, patrick.Succeeded)
		r, err := s.Logs(ctx, j.ID, 0, false)
		all := text(t, r, err)
		require.True(t, strings.HasPrefix(all, "one\nyyy"))
		require.True(t, strings.HasSuffix(all, "y\ntwo\nthree\nfour\n"), "%q", all[max(0, len(all)-50):])
	}
}

// What two nodes have acknowledged that are both gone is missing, and the log says so.
func TestAHoleInALogIsSaid(t *testing.T) {
	net := testnet.New(t)
	s := open(t, net.Node(), newOrigin())
	ctx := t.Context()
	j := push(t, s, repo, "main", hash(1))
	l := claim(t, s)
	require.NoError(t, s.Log(ctx, l, 0, []byte("one\n")))
	require.NoError(t, s.Log(ctx, l, 600_000, []byte("two\n")))
	require.NoError(t, s.Finish(ctx, l, patrick.Outcome{State: patrick.Succeeded}))
	r, err := s.Logs(ctx, j.ID, 0, false)
	require.Equal(t, "one\n\n… 599996 bytes of the log are lost with the nodes that had them\ntwo\n", text(t, r, err))
	require.ErrorIs(t, s.Log(ctx, l, -2, []byte("x")), taubyte.ErrInvalid)
}

// api serves a node's API to plain HTTP.
func api(t testing.TB, n *testnet.Node, s *patrick.Service) *httptest.Server {
	m, err := n.Member(t.Context(), n.ID())
	require.NoError(t, err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.Handler().ServeHTTP(w, r.WithContext(rpc.WithCaller(r.Context(), m)))
	}))
	t.Cleanup(server.Close)
	return server
}

// Events have steps and IDs, and are taken up after any of them at any node.
func TestALogIsTakenUp(t *testing.T) {
	net := testnet.New(t)
	n := net.Node()
	s := open(t, n, newOrigin())
	ctx := t.Context()
	j := push(t, s, repo, "main", hash(1))
	l := claim(t, s)
	step := func(name, text string) string { return name + string(patrick.StepMark) + text + "\n" }
	text := step("source", "fetched") + step("build", "one: two") + "of none\n" + step("build", "three\x00")
	require.NoError(t, s.Log(ctx, l, 0, []byte(text)))
	web := api(t, n, s)
	events := func(query, last string) ([]patrick.LogLine, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, web.URL+"/jobs/"+string(j.ID)+"/logs?"+query, nil)
		require.NoError(t, err)
		req.Header.Set("Accept", "text/event-stream")
		if last != "" {
			req.Header.Set("Last-Event-ID", last)
		}
		resp, err := web.Client().Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("status %d", resp.StatusCode)
		}
		return lines(patrick.ReadEvents(resp.Body))
	}
	all, err := events("", "")
	require.NoError(t, err)
	require.Len(t, all, 4)
	for i, want := range []string{"source: fetched", "build: one: two", "of none", "build: three"} {
		require.Equal(t, want, all[i].String())
		rest, err := events("", all[i].ID)
		require.NoError(t, err)
		require.Equal(t, all[i+1:], append(all[4:4:4], rest...))
	}
	some, err := events("step=build", "")
	require.NoError(t, err)
	require.Equal(t, []patrick.LogLine{all[1], all[3]}, some)
	for _, bad := range []string{"x", "1-2", "1-", "-5", fmt.Sprint(l.Fence, "-x")} {
		_, err := events("", bad)
		require.Error(t, err, bad)
	}
	_, err = events("attempt=2", "")
	require.Error(t, err)
	_, err = lines(patrick.ReadEvents(strings.NewReader("id: 1-1\ndata: {}\n\n")))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)

	// A follower of an attempt that is to come is answered at once, and then has it.
	require.NoError(t, s.Finish(ctx, l, patrick.Outcome{State: patrick.Failed}))
	require.NoError(t, s.Retry(ctx, j.ID))
	resp, err := http.Get(web.URL + "/jobs/" + string(j.ID) + "/logs?follow=true&attempt=2&format=events")
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	l = claim(t, s)
	require.NoError(t, s.Log(ctx, l, -1, []byte("again\n")))
	require.NoError(t, s.Finish(ctx, l, patrick.Outcome{State: patrick.Failed}))
	next, err := lines(patrick.ReadEvents(resp.Body))
	require.NoError(t, err)
	require.Len(t, next, 1)
	require.Equal(t, "again", next[0].Text)
}

// A large log passes through the worker's node, patrick and a client, with hoarder, and
// neither holds it; a reader that stands still keeps nobody waiting.
func TestALargeLog(t *testing.T) {
	const size = 32 << 20 // the benchmark passes a hundred
	net := testnet.New(t)
	node := net.Node(taubyte.RolePatrick, taubyte.RoleHoarder)
	keeper := openHoarder(t, node)
	s := open(t, node, newOrigin())
	w, reader := newWorker(t, net.Node(taubyte.RoleMonkey)), client(t, net.Node(taubyte.RoleAuth))
	ctx := t.Context()
	j := push(t, s, repo, "main", hash(1))
	l := claim(t, w)
	slow, err := http.Get(api(t, node, s).URL + "/jobs/" + string(j.ID) + "/logs?follow=true&format=events") // nobody reads it
	require.NoError(t, err)
	defer slow.Body.Close()

	line := bytes.Repeat([]byte("0123456789abcde"), 66)
	line = append(line, "\n"...)
	batch := bytes.Repeat(line, 200_000/len(line))
	n := (size + len(batch) - 1) / len(batch)
	var before, most runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	peak := uint64(0)
	began := time.Now()
	for i := range n {
		require.NoError(t, w.Client.Log(taubyte.WithPrincipal(ctx, as(l)), l, int64(i*len(batch)), batch))
		if i%(n/8+1) == 0 {
			runtime.GC()
			runtime.ReadMemStats(&most)
			peak = max(peak, most.HeapAlloc)
		}
	}
	written := time.Since(began)
	require.NoError(t, w.Finish(ctx, l, patrick.Outcome{State: patrick.Succeeded}))
	testnet.Eventually(t, func() bool { return patrick.Pieces(s) == 0 && len(logItems(t, keeper)) == 1 }, "hoarder keeps it")
	began = time.Now()
	r, err := reader.Logs(ctx, j.ID, 0, false)
	require.NoError(t, err)
	defer r.Close()
	got, err := io.Copy(io.Discard, r)
	require.NoError(t, err)
	require.EqualValues(t, n*len(batch), got)
	runtime.GC()
	runtime.ReadMemStats(&most)
	peak = max(peak, most.HeapAlloc)
	grown := int64(peak) - int64(before.HeapAlloc)
	t.Logf("%d MiB written in %s, read in %s; the heap grew by %d MiB", got>>20, written, time.Since(began), grown>>20)
	require.Less(t, grown, int64(64<<20))
}

// From a worker's call to a follower's line.
func TestALineIsReadAtOnce(t *testing.T) {
	c := newCluster(t, 2)
	w, reader := newWorker(t, c.net.Node(taubyte.RoleMonkey)), client(t, c.net.Node(taubyte.RoleAuth))
	ctx := t.Context()
	j := push(t, c.services[0], repo, "main", hash(1))
	l := claim(t, w)
	got := make(chan time.Time)
	var wg sync.WaitGroup
	defer wg.Wait()
	following, stop := context.WithCancel(ctx)
	defer stop()
	wg.Go(func() {
		defer close(got)
		for _, err := range reader.Lines(following, j.ID, patrick.LogOptions{Follow: true}) {
			if err != nil {
				return
			}
			got <- time.Now()
		}
	})
	var delays []time.Duration
	for range 50 {
		began := time.Now()
		require.NoError(t, w.Log(ctx, l, []byte("a line\n")))
		delays = append(delays, (<-got).Sub(began))
	}
	require.NoError(t, w.Finish(ctx, l, patrick.Outcome{State: patrick.Succeeded}))
	slices.Sort(delays)
	t.Logf("from a worker's call to a follower's line, over two nodes of patrick: median %s, the slowest %s", delays[25], delays[49])
	require.Less(t, delays[25], 2*time.Second)
}

// A worker sees the jobs that it holds, in whatever name it asks.
func TestAWorkerSeesItsOwnJobs(t *testing.T) {
	net := testnet.New(t)
	s := open(t, net.Node(taubyte.RolePatrick), newOrigin())
	node := net.Node(taubyte.RoleMonkey)
	w, rival := newWorker(t, node), newWorker(t, net.Node(taubyte.RoleMonkey))
	ctx := t.Context()
	push(t, s, "local/shop", "main", hash(1))
	push(t, s, "local/blog", "main", hash(2))
	own, others := claim(t, w), claim(t, rival)
	queued := push(t, s, "local/blog", "other", hash(3))
	require.NoError(t, w.Log(ctx, own, []byte("mine\n")))
	require.NoError(t, rival.Log(ctx, others, []byte("not yours\n")))

	user := taubyte.Principal{Kind: taubyte.KindUser, Name: "ann", Verb: taubyte.VerbAdminister, AllProjects: true}
	foreign := as(others) // a job that the node does not hold
	for what, p := range map[string]taubyte.Principal{"the node": taubyte.Administrator(), "its job": as(own), "another's job": foreign, "a user": user} {
		ctx := taubyte.WithPrincipal(ctx, p)
		for _, id := range []taubyte.JobID{others.Job.ID, queued.ID} {
			_, err := w.Job(ctx, id)
			require.ErrorIs(t, err, taubyte.ErrForbidden, what)
			_, err = w.Logs(ctx, id, 0, false)
			require.ErrorIs(t, err, taubyte.ErrForbidden, what)
			_, err = lines(w.Lines(ctx, id, patrick.LogOptions{}))
			require.ErrorIs(t, err, taubyte.ErrForbidden, what)
		}
		_, err := w.Client.Source(ctx, others)
		require.ErrorIs(t, err, taubyte.ErrForbidden, what)
		_, err = w.Job(ctx, "0123456789abcdef01234567")
		require.ErrorIs(t, err, taubyte.ErrForbidden, "%s: whether a job is there is not told", what)
		page, err := w.Jobs(ctx, patrick.Filter{})
		switch what {
		case "the node", "its job":
			require.NoError(t, err)
			require.Len(t, page.Jobs, 1, what)
			require.Equal(t, own.Job.ID, page.Jobs[0].ID)
			_, err = w.Job(ctx, own.Job.ID)
			require.NoError(t, err)
			r, err := w.Logs(ctx, own.Job.ID, 0, false)
			require.Equal(t, "mine\n", text(t, r, err))
		case "another's job":
			require.NoError(t, err)
			require.Empty(t, page.Jobs)
		default:
			require.ErrorIs(t, err, taubyte.ErrForbidden)
		}
	}
	// In its own name it does nothing under a lease: it may hold several.
	_, err := w.Client.Renew(ctx, own)
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	require.ErrorIs(t, w.Client.Log(ctx, own, -1, []byte("x")), taubyte.ErrForbidden)
	require.ErrorIs(t, w.Client.Finish(ctx, own, patrick.Outcome{State: patrick.Succeeded}), taubyte.ErrForbidden)
	_, err = w.Client.Source(ctx, own)
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	_, err = w.Client.Environment(ctx, own, patrick.EnvironmentRequest{Names: []string{"KEY"}})
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	// Nor is it a node of patrick.
	c := rpc.NewClient(node, patrick.Protocol, nil)
	defer c.Close()
	for method, path := range map[string]string{http.MethodGet: "", http.MethodPost: "&at=0"} {
		path = fmt.Sprintf("/jobs/%s/pieces?fence=%d%s", others.Job.ID, others.Fence, path)
		require.ErrorIs(t, c.Call(ctx, method, path, nil, nil), taubyte.ErrForbidden)
	}

	seen, err := w.Watch(ctx)
	require.NoError(t, err)
	require.NoError(t, rival.Finish(ctx, others, patrick.Outcome{State: patrick.Succeeded}))
	require.NoError(t, w.Finish(ctx, own, patrick.Outcome{State: patrick.Queued, Error: "again"}))
	next := claim(t, w) // either of what is queued
	j := <-seen
	require.Equal(t, next.Job.ID, j.ID, "the first that it is told of is its own")
	require.Equal(t, node.ID(), j.Worker)
	_, err = w.Job(ctx, others.Job.ID)
	require.ErrorIs(t, err, taubyte.ErrForbidden)
}

// Jobs go by age and by number, and what counts stays.
func TestOldJobsGo(t *testing.T) {
	net := testnet.New(t)
	o := newOrigin()
	n1, n2 := net.Node(taubyte.RolePatrick), net.Node(taubyte.RolePatrick)
	var deployed taubyte.JobID
	var away error
	runs := patrick.WithDeployed(func(_ context.Context, p taubyte.ProjectID, b taubyte.Branch) ([]taubyte.JobID, error) {
		if p != "shop" || b != "main" {
			return nil, taubyte.ErrNotFound
		}
		return []taubyte.JobID{deployed}, away
	})
	s, other := open(t, n1, o, patrick.WithRetention(time.Hour, 5), runs), open(t, n2, o, patrick.WithRetention(time.Hour, 5), runs)
	ctx := t.Context()
	build := func(b taubyte.Branch, c taubyte.Commit, as patrick.State) patrick.Job {
		j := push(t, s, repo, b, c)
		l := claim(t, s)
		require.Equal(t, j.ID, l.Job.ID)
		require.NoError(t, s.Log(ctx, l, -1, []byte("built\n")))
		require.NoError(t, s.Finish(ctx, l, patrick.Outcome{State: as}))
		return j
	}
	retain := func(now time.Time) {
		t.Helper()
		for _, s := range []*patrick.Service{s, other} {
			require.NoError(t, patrick.Retain(ctx, s, now))
		}
	}
	list := func(b taubyte.Branch) (ids []taubyte.JobID) {
		for _, s := range []*patrick.Service{s, other} {
			page, err := s.Jobs(ctx, patrick.Filter{Branch: b, Limit: 500})
			require.NoError(t, err)
			ids = ids[:0]
			for _, j := range page.Jobs {
				ids = append(ids, j.ID)
			}
		}
		return ids
	}
	var jobs []patrick.Job
	for i := range 40 {
		state := patrick.Failed
		if i == 10 || i == 20 {
			state = patrick.Succeeded
		}
		jobs = append(jobs, build("main", hash(100+i), state))
	}
	o.set(repo, "main", hash(139))
	deployed = jobs[3].ID // it was rolled back to
	away = taubyte.ErrUnavailable
	for _, s := range []*patrick.Service{s, other} {
		if err := patrick.Retain(ctx, s, time.Now()); err != nil {
			require.ErrorIs(t, err, taubyte.ErrUnavailable)
		}
	}
	require.Len(t, list("main"), 40, "nothing goes while nobody says what runs")
	away = nil
	retain(time.Now())
	want := []taubyte.JobID{jobs[39].ID, jobs[38].ID, jobs[37].ID, jobs[36].ID, jobs[35].ID, jobs[20].ID, jobs[3].ID}
	testnet.Eventually(t, func() bool { return slices.Equal(want, list("main")) }, "by number, on both nodes")
	_, err := s.Logs(ctx, jobs[5].ID, 0, false)
	require.ErrorIs(t, err, taubyte.ErrNotFound)
	for _, s := range []*patrick.Service{s, other} {
		testnet.Eventually(t, func() bool { return patrick.Pieces(s) <= len(want) }, "their logs go with them")
		records, err := patrick.StoredRecords(ctx, s, "/jobs")
		require.NoError(t, err)
		require.LessOrEqual(t, records, 4*len(want))
	}
	// What is running and queued stays, however old; so does the latest.
	running := push(t, s, repo, "main", hash(500))
	l := claim(t, s)
	retain(time.Now().Add(2 * time.Hour))
	want = []taubyte.JobID{running.ID, jobs[20].ID, jobs[3].ID}
	testnet.Eventually(t, func() bool { return slices.Equal(want, list("main")) }, "by age")
	require.NoError(t, s.Finish(ctx, l, patrick.Outcome{State: patrick.Failed}))
	retain(time.Now().Add(4 * time.Hour))
	require.Equal(t, want, list("main"))

	// Of a branch that is removed nothing stays, once all of it is old.
	for i := range 3 {
		build("pull/1", hash(600+i), patrick.Succeeded)
	}
	build("pull/1", "", patrick.Succeeded)
	retain(time.Now())
	require.Len(t, list("pull/1"), 4)
	retain(time.Now().Add(2 * time.Hour))
	testnet.Eventually(t, func() bool { return len(list("pull/1")) == 0 }, "all of a removed branch")

	// Nor of a repository that nobody has any more.
	blog := push(t, s, "local/blog", "master", hash(1))
	require.NoError(t, s.Finish(ctx, claim(t, s), patrick.Outcome{State: patrick.Succeeded}))
	retain(time.Now())
	require.Equal(t, []taubyte.JobID{blog.ID}, list("master"))
	retain(time.Now().Add(90 * time.Minute))
	testnet.Eventually(t, func() bool { return len(list("master")) == 0 }, "all of a repository that is gone")

	// A restart brings nothing back, and a branch goes on.
	require.NoError(t, s.Close())
	s = open(t, n1, o, patrick.WithRetention(time.Hour, 5), runs)
	require.Equal(t, want, list("main"))
	require.Greater(t, push(t, s, repo, "main", hash(700)).Order, running.Order)
}

var _ patrick.Keeper = (*hoarder.Client)(nil)
var _ patrick.Keeper = (*hoarder.Service)(nil)

func FuzzReadEvents(f *testing.F) {
	f.Add("id: 1-2\ndata: {\"text\":\"x\"}\n\nevent: end\ndata:\n\n")
	f.Add(":\n\ndata: x\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		for line, err := range patrick.ReadEvents(strings.NewReader(text)) {
			if err != nil {
				return
			}
			_ = line.String()
		}
	})
}

// The delay of a line, and how fast a log is read that hoarder keeps, beside a bare copy
// over HTTP.
func BenchmarkLogs(b *testing.B) {
	net := testnet.New(b)
	node := net.Node(taubyte.RolePatrick, taubyte.RoleHoarder)
	h, err := hoarder.New(b.Context(), node, node.Store, hoarder.WithLogger(testnet.Logger(b)))
	require.NoError(b, err)
	defer h.Close()
	s, err := patrick.New(b.Context(), node, node.Store, patrick.WithAuth(newOrigin()), patrick.WithReconcile(time.Hour), patrick.WithLogger(testnet.Logger(b)))
	require.NoError(b, err)
	defer s.Close()
	ctx := b.Context()
	start := func(n int) (patrick.Job, patrick.Lease) {
		j, err := s.Submit(ctx, auth.Push{Repository: repo, Branch: taubyte.Branch(fmt.Sprint("b", n)), Commit: hash(n)})
		require.NoError(b, err)
		l, err := s.Claim(ctx)
		require.NoError(b, err)
		return j, l
	}
	web := api(b, node, s)
	get := func(path string) io.ReadCloser {
		resp, err := http.Get(web.URL + path)
		require.NoError(b, err)
		require.Equal(b, http.StatusOK, resp.StatusCode)
		return resp.Body
	}
	b.Run("delay", func(b *testing.B) {
		j, l := start(1)
		body := get("/jobs/" + string(j.ID) + "/logs?follow=true&format=events")
		defer body.Close()
		got := make(chan time.Time)
		go func() {
			defer close(got)
			for range patrick.ReadEvents(body) {
				got <- time.Now()
			}
		}()
		var delays []time.Duration
		for b.Loop() {
			began := time.Now()
			require.NoError(b, s.Log(ctx, l, -1, []byte("a line\n")))
			delays = append(delays, (<-got).Sub(began))
		}
		require.NoError(b, s.Finish(ctx, l, patrick.Outcome{State: patrick.Succeeded}))
		for range got {
		}
		slices.Sort(delays)
		b.ReportMetric(float64(delays[len(delays)/2].Microseconds())/1000, "p50-ms")
		b.ReportMetric(float64(delays[len(delays)*99/100].Microseconds())/1000, "p99-ms")
	})
	const size = 100 << 20
	line := []byte("+ go build -o /out/artifact.wasm ./functions/resize: 0123456789abcdef0123456789abcdef\n")
	batch := bytes.Repeat(line, 200_000/len(line))
	j, l := start(2)
	n := size / len(batch)
	began := time.Now()
	for i := range n {
		require.NoError(b, s.Log(ctx, l, int64(i*len(batch)), batch))
	}
	b.Logf("%d MB logged at %.0f MB/s", size>>20, float64(size)/1e6/time.Since(began).Seconds())
	read := func(b *testing.B, path string) {
		b.SetBytes(int64(n * len(batch)))
		for b.Loop() {
			body := get(path)
			_, err := io.Copy(io.Discard, body)
			require.NoError(b, err)
			require.NoError(b, body.Close())
		}
	}
	path := "/jobs/" + string(j.ID) + "/logs"
	b.Run("running-text", func(b *testing.B) { read(b, path) })
	require.NoError(b, s.Finish(ctx, l, patrick.Outcome{State: patrick.Succeeded}))
	testnet.Eventually(b, func() bool { return patrick.Pieces(s) <= 1 }, "hoarder keeps it")
	b.Run("kept-text", func(b *testing.B) { read(b, path) })
	b.Run("kept-events", func(b *testing.B) { read(b, path+"?format=events") })
	b.Run("bare", func(b *testing.B) {
		bare := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for range n {
				_, _ = w.Write(batch)
			}
		}))
		defer bare.Close()
		b.SetBytes(int64(n * len(batch)))
		for b.Loop() {
			resp, err := http.Get(bare.URL)
			require.NoError(b, err)
			_, err = io.Copy(io.Discard, resp.Body)
			require.NoError(b, err)
			_ = resp.Body.Close()
		}
	})
}
