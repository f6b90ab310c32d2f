package patrick_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/github"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/patrick"
)

const (
	hookSecret = "secret of the webhook"
	shop       = taubyte.RepositoryID("local/700")
)

// forge is an origin whose repositories have webhooks, as GitHub sends them, and show
// statuses.
type forge struct {
	*origin
	events   auth.EventProvider
	statuses chan shown // nil: they are not looked at
	down     atomic.Int32
}

type shown struct {
	Commit taubyte.Commit
	auth.Status
}

func newForge(t testing.TB) *forge {
	p, err := github.New(github.WithToken("x"), github.WithName("local"))
	require.NoError(t, err)
	return &forge{origin: newOrigin(), events: p}
}

// Event knows the repositories of "local" but 404.
func (f *forge) Event(_ context.Context, id taubyte.RepositoryID, header http.Header, body []byte) (auth.Event, error) {
	known := []string{"another secret"}
	if strings.HasPrefix(string(id), "local/") && id != "local/404" {
		known = append(known, hookSecret)
	}
	e, err := f.events.Event(header, body, known...)
	if err == nil && e.Repository != "" && e.Repository != id {
		err = taubyte.ErrForbidden
	}
	e.Repository = id
	return e, err
}

func (f *forge) SetStatus(_ context.Context, _ taubyte.RepositoryID, c taubyte.Commit, s auth.Status) error {
	if f.statuses == nil {
		return nil
	}
	if f.down.Add(-1) >= 0 {
		return taubyte.ErrUnavailable
	}
	f.statuses <- shown{c, s}
	return nil
}

func openForge(t testing.TB, n *testnet.Node, f *forge, opts ...patrick.Option) *patrick.Service {
	t.Helper()
	s, err := patrick.New(t.Context(), n, n.Store, append([]patrick.Option{
		patrick.WithAuth(f), patrick.WithLogger(testnet.Logger(t)), patrick.WithReconcile(time.Hour),
	}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// openTwo opens two nodes that know each other.
func openTwo(t testing.TB, net *testnet.Net, f *forge, opts ...patrick.Option) (a, b *patrick.Service) {
	t.Helper()
	nodes := []*testnet.Node{net.Node(taubyte.RolePatrick), net.Node(taubyte.RolePatrick)}
	a, b = openForge(t, nodes[0], f, opts...), openForge(t, nodes[1], f, opts...)
	for i, node := range nodes {
		testnet.Eventually(t, func() bool {
			known, err := node.Peerstore().SupportsProtocols(nodes[1-i].ID(), patrick.Protocol)
			return err == nil && len(known) == 1
		}, "the nodes know each other")
	}
	return a, b
}

// public serves what providers send.
func public(t testing.TB, h http.Handler) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL + "/webhooks/"
}

func signature(secret, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = io.WriteString(mac, body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// deliver sends an event to <url>local/700.
func deliver(t testing.TB, url, event, id, body string) (int, patrick.Receipt) {
	t.Helper()
	status, text := send(t, url+string(shop), event, id, signature(hookSecret, body), strings.NewReader(body))
	var said patrick.Receipt
	if status < 300 {
		require.NoError(t, json.Unmarshal([]byte(text), &said))
	}
	return status, said
}

func send(t testing.TB, url, event, id, signature string, body io.Reader) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, body)
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-GitHub-Event", event)
	req.Header.Set("X-GitHub-Delivery", id)
	req.Header.Set("X-Hub-Signature-256", signature)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(text)
}

const named = `"repository":{"id":700,"full_name":"acme/shop"}`

func pushOf(branch string, c taubyte.Commit, more string) string {
	return fmt.Sprintf(`{"ref":"refs/heads/%s","after":"%s","more":"%s",%s}`, branch, c, more, named)
}

func pull(action, state string, from int, c taubyte.Commit) string {
	return fmt.Sprintf(`{"action":"%s","number":7,"pull_request":{"state":"%s","head":{"ref":"topic","sha":"%s","repo":{"id":%d,"full_name":"a/b"}},"base":{"ref":"main"}},%s}`,
		action, state, c, from, named)
}

// latest is the newest job of a branch.
func latest(t *testing.T, s *patrick.Service, b taubyte.Branch) (j patrick.Job, n int) {
	t.Helper()
	page, err := s.Jobs(t.Context(), patrick.Filter{Repository: shop, Branch: b})
	require.NoError(t, err)
	if len(page.Jobs) > 0 {
		j = page.Jobs[0]
	}
	return j, len(page.Jobs)
}

func TestADeliveryIsTakenOnce(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	net := testnet.New(t)
	f := newForge(t)
	a, b := openTwo(t, net, f)
	edge := client(t, net.Node(taubyte.RoleGateway))
	urls := []string{public(t, a.Hooks()), public(t, b.Hooks()), public(t, edge.Hooks())}

	// At every node, under its own id and under another.
	first := pushOf("main", hash(1), "")
	var job taubyte.JobID
	for i, url := range urls {
		for _, id := range []string{"d1", fmt.Sprint("again-", i)} {
			status, said := deliver(t, url, "push", id, first)
			require.Equal(t, http.StatusOK, status)
			require.Equal(t, auth.EventPush, said.Event)
			if job == "" {
				job = said.Job
			}
			require.Equal(t, job, said.Job)
			require.NotEmpty(t, job)
		}
	}
	// A push that was found before its delivery came makes no job, and neither when it is
	// sent again after a later one.
	push(t, a, shop, "main", hash(2))
	status, _ := deliver(t, urls[2], "push", "d2", pushOf("main", hash(2), ""))
	require.Equal(t, http.StatusOK, status)
	_, said := deliver(t, urls[1], "push", "d3", pushOf("main", hash(3), ""))
	for i, url := range urls {
		for n := 1; n < 3; n++ {
			_, again := deliver(t, url, "push", fmt.Sprint("replay-", i, n), pushOf("main", hash(n), ""))
			require.Equal(t, said.Job, again.Job, "what was replaced does not come back")
		}
	}
	_, back := deliver(t, urls[0], "push", "d4", pushOf("main", hash(1), "pushed back"))
	j, n := latest(t, a, "main")
	require.Equal(t, back.Job, j.ID)
	require.Equal(t, hash(1), j.Commit)
	require.Equal(t, 4, n)
}

func TestWhatEventsDo(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	net := testnet.New(t)
	f := newForge(t)
	f.set(shop, "main", hash(1))
	f.set(shop, "topic", hash(2))
	s := openForge(t, net.Node(), f)
	url := public(t, s.Hooks())
	id := 0
	take := func(event, body string) patrick.Receipt {
		t.Helper()
		id++
		status, said := deliver(t, url, event, fmt.Sprint("d", id), body)
		require.Equal(t, http.StatusOK, status)
		return said
	}
	require.Equal(t, patrick.Receipt{Event: auth.EventPing}, take("ping", `{"zen":"x",`+named+`}`))
	require.Equal(t, patrick.Receipt{Event: auth.EventOther}, take("star", `{"action":"created"}`))
	require.Equal(t, patrick.Receipt{Event: auth.EventBranchDeleted}, take("delete", `{"ref":"nobody-knows","ref_type":"branch",`+named+`}`))
	require.Empty(t, take("delete", `{"ref":"v1","ref_type":"tag",`+named+`}`).Job)

	// A pull request is built under its number, and removed with it.
	require.Empty(t, take("pull_request", pull("closed", "closed", 700, hash(2))).Job)
	require.Empty(t, take("pull_request", pull("labeled", "open", 700, hash(2))).Job)
	require.Empty(t, take("pull_request", pull("opened", "open", 701, hash(9))).Job, "of a fork")
	for i, action := range []string{"opened", "synchronize", "reopened"} {
		said := take("pull_request", pull(action, "open", 700, hash(2+i)))
		j, n := latest(t, s, "pull/7")
		require.Equal(t, said.Job, j.ID)
		require.Equal(t, hash(2+i), j.Commit)
		require.False(t, j.Deleted)
		require.Equal(t, i+1, n)
	}
	// It is no branch there, and stays: with the newest commit that it proposes.
	f.set(shop, "topic", hash(6))
	require.NoError(t, s.Reconcile(t.Context()))
	j, n := latest(t, s, "pull/7")
	require.Equal(t, hash(6), j.Commit)
	require.Equal(t, 4, n)
	take("pull_request", pull("closed", "closed", 700, hash(6)))
	j, _ = latest(t, s, "pull/7")
	require.True(t, j.Deleted)
	require.NoError(t, s.Reconcile(t.Context()))
	j, n = latest(t, s, "pull/7")
	require.True(t, j.Deleted, "it does not come back")
	require.Equal(t, 5, n)

	// A branch goes, by whichever event says so first.
	take("push", pushOf("topic", hash(6), ""))
	said := take("delete", `{"ref":"topic","ref_type":"branch",`+named+`}`)
	j, _ = latest(t, s, "topic")
	require.Equal(t, said.Job, j.ID)
	require.True(t, j.Deleted)
	require.Equal(t, j.ID, take("push", pushOf("topic", taubyte.Commit(strings.Repeat("0", 40)), "")).Job)

	// The event of a new branch has no commit.
	f.set(shop, "young", hash(8))
	require.Equal(t, patrick.Receipt{Event: auth.EventBranchCreated}, take("create", `{"ref":"young","ref_type":"branch",`+named+`}`))
	testnet.Eventually(t, func() bool {
		j, _ := latest(t, s, "young")
		return j.Commit == hash(8)
	}, "the new branch is built")
}

func TestAMissedEndOfAPullRequestIsMadeUpFor(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	net := testnet.New(t)
	f := newForge(t)
	f.set(shop, "main", hash(1))
	f.set(shop, "topic", hash(2))
	s := openForge(t, net.Node(), f, patrick.WithReconcile(50*time.Millisecond))
	status, _ := deliver(t, public(t, s.Hooks()), "pull_request", "d1", pull("opened", "open", 700, hash(2)))
	require.Equal(t, http.StatusOK, status)
	f.set(shop, "topic", "")
	testnet.Eventually(t, func() bool {
		j, _ := latest(t, s, "pull/7")
		return j.Deleted
	}, "the branch that was proposed is gone, and so is the pull request")
}

func TestRefusalsAreAlike(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	net := testnet.New(t)
	s := openForge(t, net.Node(taubyte.RolePatrick), newForge(t))
	edge := client(t, net.Node(taubyte.RoleGateway))
	body := pushOf("main", hash(1), "")
	good := signature(hookSecret, body)
	for _, url := range []string{public(t, s.Hooks()), public(t, edge.Hooks())} {
		var group sync.WaitGroup
		var mu sync.Mutex
		answers := map[string][]string{}
		for path, signed := range map[string]string{
			"local/700":         signature("wrong", body),
			"local/700?x":       "",
			"local/700?y":       "sha256=zz",
			"local/700?z":       strings.TrimPrefix(good, "sha256="),
			"local/404":         good,
			"local/404?x":       signature("wrong", body),
			"local/701":         good, // it is of another
			"other/700":         good,
			"other/700?x":       "",
			"local/":            good,
			"/":                 good,
			"local%2f700/x":     good,
			"local/700/more":    good,
			"a/../local/404":    good,
			"local/" + "700%00": good,
		} {
			group.Go(func() {
				began := time.Now()
				status, said := send(t, url+path, "push", "d", signed, strings.NewReader(body))
				mu.Lock()
				defer mu.Unlock()
				if time.Since(began) < 250*time.Millisecond {
					t.Errorf("%s was refused after %s", path, time.Since(began))
				}
				answer := fmt.Sprint(status, said)
				answers[answer] = append(answers[answer], path)
			})
		}
		group.Wait()
		require.Len(t, answers, 1, "%v", answers)
		for answer := range answers {
			require.True(t, strings.HasPrefix(answer, "403"), answer)
		}
		status, _ := deliver(t, url, "push", "d", `{"ref":"main"}`)
		require.Equal(t, http.StatusBadRequest, status, "signed, and not understood")
		resp, err := http.Get(url + string(shop))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode)
	}
	page, err := s.Jobs(t.Context(), patrick.Filter{})
	require.NoError(t, err)
	require.Empty(t, page.Jobs)
	_, err = client(t, net.Node(taubyte.RoleSubstrate, taubyte.RoleMonkey)).Deliver(t.Context(), patrick.Delivery{Repository: shop})
	require.ErrorIs(t, err, taubyte.ErrForbidden)
}

func TestTheSizeOfDeliveries(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	net := testnet.New(t)
	s := openForge(t, net.Node(taubyte.RolePatrick), newForge(t))
	edge := client(t, net.Node(taubyte.RoleGateway))
	status, far := deliver(t, public(t, edge.Hooks()), "push", "d0", pushOf("far", hash(1), strings.Repeat("x", 1<<20)))
	require.Equal(t, http.StatusOK, status)
	require.NotEmpty(t, far.Job)
	big := pushOf("main", hash(1), strings.Repeat("x", auth.MaxEvent-200))
	direct := public(t, s.Hooks())
	url := direct + string(shop)
	status, _ = send(t, url, "push", "d1", signature("wrong", big), strings.NewReader(big)) // to read it takes the race detector long
	require.Equal(t, http.StatusForbidden, status)
	over := big + strings.Repeat(" ", 201)
	status, _ = send(t, url, "push", "d2", signature(hookSecret, over), strings.NewReader(over))
	require.Equal(t, http.StatusRequestEntityTooLarge, status)
	status, _ = send(t, url, "push", "d2", signature(hookSecret, over), io.MultiReader(strings.NewReader(over))) // chunked
	require.Equal(t, http.StatusRequestEntityTooLarge, status)
}

// All of GitHub's published examples, to the webhook of the repository that they name.
func TestPublishedDeliveries(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	net := testnet.New(t)
	s := openForge(t, net.Node(), newForge(t))
	handler := s.Hooks()
	ask := func(event, id, signature string, body []byte) int {
		var named struct {
			Repository struct{ ID int64 }
		}
		require.NoError(t, json.Unmarshal(body, &named))
		req := httptest.NewRequest(http.MethodPost, fmt.Sprint("/webhooks/local/", max(named.Repository.ID, 1)), bytes.NewReader(body))
		req.Header.Set("X-GitHub-Event", event)
		req.Header.Set("X-GitHub-Delivery", id)
		req.Header.Set("X-Hub-Signature-256", signature)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, req)
		return w.Code
	}
	file, err := os.Open(filepath.Join("..", "internal", "githubtest", "testdata", "webhooks.json"))
	require.NoError(t, err)
	defer file.Close()
	var refused sync.WaitGroup
	n := 0
	for lines := bufio.NewScanner(file); lines.Scan(); n++ {
		var example struct {
			Event string          `json:"event"`
			Body  json.RawMessage `json:"body"`
		}
		require.NoError(t, json.Unmarshal(lines.Bytes(), &example))
		require.Equal(t, http.StatusOK, ask(example.Event, fmt.Sprint(n), signature(hookSecret, string(example.Body)), example.Body), example.Event)
		refused.Go(func() {
			if got := ask(example.Event, "x", signature("wrong", string(example.Body)), example.Body); got != http.StatusForbidden {
				t.Errorf("%s: %d", example.Event, got)
			}
		})
	}
	refused.Wait()
	require.Greater(t, n, 100)
	page, err := s.Jobs(t.Context(), patrick.Filter{Limit: 500})
	require.NoError(t, err)
	branches := map[taubyte.Branch]bool{}
	for _, j := range page.Jobs {
		branches[j.Branch] = true
	}
	t.Logf("%d examples make %d jobs, of the branches %v", n, len(page.Jobs), branches)
	require.True(t, branches["master"])
	require.True(t, branches["pull/2"])
}

func TestADeliveryIsForgotten(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	net := testnet.New(t)
	node := net.Node()
	f := newForge(t)
	s := openForge(t, node, f, patrick.WithDeliveries(time.Second))
	url := public(t, s.Hooks())
	_, first := deliver(t, url, "push", "d1", pushOf("main", hash(1), ""))
	deliver(t, url, "push", "d2", pushOf("main", hash(2), ""))
	testnet.Eventually(t, func() bool {
		_, again := deliver(t, url, "push", "d3", pushOf("main", hash(1), ""))
		j, _ := latest(t, s, "main")
		return j.Commit == hash(1) && again.Job != first.Job
	}, "nothing is remembered for ever")
}

// Many deliveries, each at both nodes at once, while nobody builds.
func TestAFloodOfDeliveries(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	net := testnet.New(t)
	f := newForge(t)
	a, b := openTwo(t, net, f)
	urls := []string{public(t, a.Hooks()), public(t, b.Hooks())}
	const branches, commits = 20, 4
	var group sync.WaitGroup
	var slowest atomic.Int64
	for i := range branches {
		group.Go(func() {
			for c := range commits {
				var both sync.WaitGroup
				for _, url := range urls {
					both.Go(func() {
						began := time.Now()
						body := pushOf(fmt.Sprint("b", i), hash(c+1), "")
						status, text := send(t, url+string(shop), "push", fmt.Sprint("d", i, "-", c), signature(hookSecret, body), strings.NewReader(body))
						if status != http.StatusOK {
							t.Errorf("%d %s", status, text)
						}
						for took := int64(time.Since(began)); ; {
							if old := slowest.Load(); took <= old || slowest.CompareAndSwap(old, took) {
								break
							}
						}
					})
				}
				both.Wait()
			}
		})
	}
	group.Wait()
	t.Logf("the slowest of %d was answered after %s", branches*commits*2, time.Duration(slowest.Load()))
	for i := range branches {
		testnet.Eventually(t, func() bool {
			j, n := latest(t, a, taubyte.Branch(fmt.Sprint("b", i)))
			return n == commits && j.Commit == hash(commits)
		}, "each push makes one job")
	}
}

func TestStatusesGoBack(t *testing.T) {
	net := testnet.New(t)
	f := newForge(t)
	f.statuses = make(chan shown, 100)
	f.down.Store(1) // the first is tried again
	node := net.Node()
	s := openForge(t, node, f, patrick.WithJobURL(func(j patrick.Job) string { return "https://cloud.example/" + string(j.ID) }))
	j := push(t, s, shop, "main", hash(1))
	next := func(state auth.StatusState) shown {
		t.Helper()
		for timeout := time.After(30 * time.Second); ; {
			select {
			case got := <-f.statuses:
				require.Equal(t, hash(1), got.Commit)
				require.Equal(t, "taubyte/main", got.Context)
				require.Equal(t, "https://cloud.example/"+string(j.ID), got.URL)
				if got.State == state {
					return got
				}
			case <-timeout:
				require.FailNow(t, "no status "+string(state))
			}
		}
	}
	require.Equal(t, "Waiting for a worker", next(auth.StatusPending).Description)
	l := claim(t, s)
	require.Equal(t, "Building", next(auth.StatusPending).Description)
	require.NoError(t, s.Finish(t.Context(), l, patrick.Outcome{State: patrick.Failed, Error: "the password is 123"}))
	require.Equal(t, "The build failed", next(auth.StatusFailure).Description)
	require.NoError(t, s.Retry(t.Context(), j.ID))
	l = claim(t, s)
	require.NoError(t, s.Finish(t.Context(), l, patrick.Outcome{State: patrick.Succeeded}))
	next(auth.StatusSuccess)
}

// What a node had not told when it ended, it tells when it is there again.
func TestAStatusSurvivesItsNode(t *testing.T) {
	net := testnet.New(t)
	f := newForge(t)
	f.statuses = make(chan shown, 100)
	f.down.Store(1 << 20)
	node := net.Node()
	s := openForge(t, node, f)
	j := push(t, s, shop, "main", hash(1))
	l := claim(t, s)
	require.NoError(t, s.Finish(t.Context(), l, patrick.Outcome{State: patrick.Succeeded}))
	require.NoError(t, s.Close())
	require.Empty(t, f.statuses)
	f.down.Store(0)
	openForge(t, node, f)
	select {
	case got := <-f.statuses:
		require.Equal(t, shown{j.Commit, auth.Status{State: auth.StatusSuccess, Context: "taubyte/main", Description: "Deployed"}}, got)
	case <-time.After(30 * time.Second):
		require.FailNow(t, "no status")
	}
}

// Deliveries a second, each of a branch's next commit, beside a server that only reads
// and checks them.
func BenchmarkDeliveries(b *testing.B) {
	run := func(b *testing.B, handler http.Handler) {
		server := httptest.NewServer(handler)
		defer server.Close()
		tr := &http.Transport{MaxIdleConnsPerHost: 64}
		defer tr.CloseIdleConnections()
		c := &http.Client{Transport: tr}
		var n atomic.Int64
		var mu sync.Mutex
		var took []time.Duration
		b.SetParallelism(16)
		b.RunParallel(func(pb *testing.PB) {
			var own []time.Duration
			defer func() {
				mu.Lock()
				defer mu.Unlock()
				took = append(took, own...)
			}()
			for pb.Next() {
				began := time.Now()
				i := int(n.Add(1))
				body := pushOf(fmt.Sprint("b", i%500), hash(i), "")
				req, _ := http.NewRequest(http.MethodPost, server.URL+"/webhooks/"+string(shop), strings.NewReader(body))
				req.Header.Set("X-GitHub-Event", "push")
				req.Header.Set("X-GitHub-Delivery", fmt.Sprint(i))
				req.Header.Set("X-Hub-Signature-256", signature(hookSecret, body))
				resp, err := c.Do(req)
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					b.Errorf("%d", resp.StatusCode)
				}
				own = append(own, time.Since(began))
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)*99/100].Milliseconds()), "p99-ms")
	}
	quiet := patrick.WithLogger(slog.New(slog.DiscardHandler))
	b.Run("one node", func(b *testing.B) {
		s := openForge(b, testnet.New(b).Node(), newForge(b), quiet)
		b.ResetTimer()
		run(b, s.Hooks())
	})
	b.Run("two nodes", func(b *testing.B) {
		a, _ := openTwo(b, testnet.New(b), newForge(b), quiet)
		b.ResetTimer()
		run(b, a.Hooks())
	})
	b.Run("net/http", func(b *testing.B) {
		run(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if !hmac.Equal([]byte(signature(hookSecret, string(body))), []byte(r.Header.Get("X-Hub-Signature-256"))) {
				w.WriteHeader(http.StatusForbidden)
			}
		}))
	})
}
