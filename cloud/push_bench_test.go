package cloud_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/cloud"
	"github.com/taubyte/taubyte/internal/guestsdk"
	"github.com/taubyte/taubyte/patrick"
)

// BenchmarkPush is the time from the start of a git push over HTTP to the first answer of
// what was pushed, on one node of all services. It needs git and Go.
//
//	go test -run xxx -bench Push -benchtime 20x ./cloud
//
// Each push changes the text that examples/hello answers: the module is compiled anew by go,
// which has everything else in its cache. Stages are those of the job, as patrick shows them
// (the function's has its go build in it); git is until the job is there, published from then
// until tns has the deployment, serving from then until the node leads requests to it. Unchanged
// pushes change a page beside the function. Bare is git push to a repository of git http-backend, and then go build in a
// folder. Together is ten projects, each with a push, at a time, in parts of ten times one.
func BenchmarkPush(b *testing.B) {
	b.Run("bare", benchmarkBare)
	b.Run("changed", func(b *testing.B) {
		n, all := pushed(b, 1)
		benchmarkPushes(b, n, all[0], all[0].change)
	})
	b.Run("unchanged", func(b *testing.B) {
		n, all := pushed(b, 1)
		benchmarkPushes(b, n, all[0], all[0].changePage)
	})
	b.Run("together", benchmarkTogether)
}

// quiet is a log of warnings alone.
func quiet() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// A clone of examples/hello, to push from.
type clone struct {
	b      *testing.B
	dir    string
	id     taubyte.ProjectID
	host   string
	remote string
	n      int
}

func newClone(b *testing.B, i int) *clone {
	b.Helper()
	c := &clone{b: b, dir: b.TempDir(), id: "QmSEWhhg1EnyJpnUwXyMwZUxjMSmAxbG9DrLyEfNeLaZDz", host: "hello.localhost"}
	require.NoError(b, os.CopyFS(c.dir, os.DirFS("../examples/hello")))
	if i > 0 {
		host, id := fmt.Sprintf("hello%d.localhost", i), string(c.id)
		c.host, c.id = host, taubyte.ProjectID(id[:len(id)-1]+string("abcdefghijk"[i]))
		c.replace("config/domains/main.yaml", "hello.localhost", host)
		c.replace("config/config.yaml", id, string(c.id))
		c.replace("config/config.yaml", "name: hello", fmt.Sprintf("name: hello%d", i))
	}
	c.git("init", "-q", "-b", "main")
	return c
}

func (c *clone) replace(file, old, text string) {
	c.b.Helper()
	name := filepath.Join(c.dir, filepath.FromSlash(file))
	was, err := os.ReadFile(name)
	require.NoError(c.b, err)
	require.Contains(c.b, string(was), old)
	require.NoError(c.b, os.WriteFile(name, []byte(strings.ReplaceAll(string(was), old, text)), 0o644))
}

func (c *clone) git(args ...string) string {
	c.b.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=t", "-c", "user.email=t@localhost"}, args...)...)
	cmd.Dir = c.dir
	out, err := cmd.CombinedOutput()
	require.NoError(c.b, err, "git %v: %s", args, out)
	return string(out)
}

// change commits another answer of the function, and returns where it comes.
func (c *clone) change() (path, answer string) {
	c.n++
	answer = fmt.Sprintf("PONG %d", c.n)
	source := fmt.Sprintf(`package main

import "github.com/taubyte/taubyte/substrate/guest/event"

func main() {}

//go:wasmexport ping
func ping(e uint32) uint32 {
	event.HTTP(e).WriteString(%q)
	return 0
}
`, answer)
	require.NoError(c.b, os.WriteFile(filepath.Join(c.dir, "code/functions/ping/main.go"), []byte(source), 0o644))
	c.commit()
	return "/ping", answer
}

// changePage commits another page.
func (c *clone) changePage() (path, answer string) {
	c.n++
	answer = fmt.Sprintf("page %d", c.n)
	require.NoError(c.b, os.WriteFile(filepath.Join(c.dir, "websites/site/page.txt"), []byte(answer), 0o644))
	c.commit()
	return "/page.txt", answer
}

func (c *clone) commit() {
	c.git("add", ".")
	c.git("commit", "-qm", fmt.Sprint("change ", c.n))
}

func (c *clone) push() { c.git("push", "-q", c.remote, "main") }

// pushed starts a node with so many projects that are served.
func pushed(b *testing.B, projects int) (*cloud.Node, []*clone) {
	b.Helper()
	n, err := cloud.Open(b.Context(), filepath.Join(b.TempDir(), "node"), cloud.WithDevelopment(), cloud.WithLogger(quiet()))
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, n.Close()) })
	var all []*clone
	for i := range projects {
		c := newClone(b, i)
		c.remote = n.Remote(fmt.Sprint("hello", i))
		path, answer := c.change()
		c.push()
		await(b, n, c, path, answer)
		all = append(all, c)
	}
	return n, all
}

// get asks a project's host.
func get(n *cloud.Node, host, path string) string {
	r, err := http.NewRequest(http.MethodGet, n.URL()+path, nil)
	if err != nil {
		return err.Error()
	}
	r.Host = host
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return string(body)
}

// await polls until an answer comes.
func await(b *testing.B, n *cloud.Node, c *clone, path, answer string) {
	for began := time.Now(); get(n, c.host, path) != answer; time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			page, err := n.Patrick.Jobs(b.Context(), patrick.Filter{Project: c.id})
			b.Fatalf("%s of %s is not served: %v %v", path, c.host, page, err)
		}
	}
}

// idle waits until the node has nothing to do.
func idle(b *testing.B, n *cloud.Node) {
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		stats, err := n.Substrate.Stats(b.Context())
		require.NoError(b, err)
		if stats.Interpreted == 0 {
			return
		}
		require.Less(b, time.Since(began), time.Minute, "the compiler does not end")
	}
}

// stages are the times of one push, in the order in which they come.
type stages struct {
	names []string
	times map[string][]time.Duration
}

func (s *stages) add(name string, d time.Duration) {
	if s.times == nil {
		s.times = map[string][]time.Duration{}
	}
	if s.times[name] == nil {
		s.names = append(s.names, name)
	}
	s.times[name] = append(s.times[name], d)
}

// report reports medians.
func (s *stages) report(b *testing.B) {
	for _, name := range s.names {
		t := s.times[name]
		slices.Sort(t)
		b.ReportMetric(milliseconds(t[len(t)/2]), name+"-ms")
	}
	b.ReportMetric(0, "ns/op")
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func benchmarkPushes(b *testing.B, n *cloud.Node, c *clone, change func() (path, answer string)) {
	jobs, err := n.Patrick.Watch(b.Context())
	require.NoError(b, err)
	ends := make(chan patrick.Job, 16)
	go func() {
		for j := range jobs {
			if j.State.Done() {
				ends <- j
			}
		}
	}()
	var s stages
	for b.Loop() {
		idle(b, n)
		path, answer := change()
		var serving, first time.Time
		before, err := n.TNS.Current(b.Context(), c.id, "main")
		require.NoError(b, err)
		var watching sync.WaitGroup
		watching.Go(func() {
			if n.Substrate.Serving(b.Context(), c.id, "main", before.Sequence+1) == nil {
				serving = time.Now()
			}
		})
		began := time.Now()
		watching.Go(func() {
			await(b, n, c, path, answer)
			first = time.Now()
		})
		c.push()
		told := time.Now()
		watching.Wait()
		job := <-ends
		require.Equal(b, patrick.Succeeded, job.State, job.Error)
		d, err := n.TNS.Current(b.Context(), c.id, "main")
		require.NoError(b, err)
		s.add("total", first.Sub(began))
		s.add("push", told.Sub(began))
		s.add("git", job.Created.Sub(began))
		s.add("claim", job.Started.Sub(job.Created))
		for _, step := range job.Steps {
			s.add(strings.ReplaceAll(step.Name, " ", "-"), step.Duration)
		}
		s.add("published", d.Time.Sub(job.Created))
		s.add("serving", serving.Sub(d.Time))
		s.add("answer", first.Sub(serving))
	}
	s.report(b)
}

// benchmarkBare pushes to git's own server, and builds by hand.
func benchmarkBare(b *testing.B) {
	root := b.TempDir()
	c := newClone(b, 0)
	c.git("init", "-q", "--bare", "-b", "main", filepath.Join(root, "hello.git"))
	c.git("--git-dir", filepath.Join(root, "hello.git"), "config", "http.receivepack", "true")
	out, err := exec.Command("git", "--exec-path").Output()
	require.NoError(b, err)
	server := httptest.NewServer(&cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1"},
	})
	defer server.Close()
	c.remote = server.URL + "/hello.git"

	folder := b.TempDir()
	sdk, err := guestsdk.Folder(filepath.Join(folder, "sdk"))
	require.NoError(b, err)
	dir := filepath.Join(c.dir, "code/functions/ping")
	gomod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	require.NoError(b, err)
	work := filepath.Join(folder, "go.work")
	require.NoError(b, os.WriteFile(work, []byte(guestsdk.Work(dir, sdk, "", gomod)), 0o600))
	build := func() {
		cmd := exec.Command("go", "build", "-tags=wasi", "-buildmode=c-shared", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", filepath.Join(folder, "main.wasm"), ".")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOWORK="+work, "GOFLAGS=")
		out, err := cmd.CombinedOutput()
		require.NoError(b, err, "%s", out)
	}
	c.change()
	c.push()
	build()
	var s stages
	for b.Loop() {
		c.change()
		began := time.Now()
		c.push()
		told := time.Now()
		build()
		s.add("total", time.Since(began))
		s.add("push", told.Sub(began))
		s.add("build", time.Since(told))
	}
	s.report(b)
}

// benchmarkTogether pushes ten projects at a time, and each alone.
func benchmarkTogether(b *testing.B) {
	const many = 10
	n, all := pushed(b, many)
	var s stages
	for b.Loop() {
		var alone time.Duration
		for _, c := range all {
			idle(b, n)
			path, answer := c.change()
			began := time.Now()
			c.push()
			await(b, n, c, path, answer)
			alone += time.Since(began)
		}
		type want struct{ path, answer string }
		wants := make([]want, many)
		for i, c := range all {
			wants[i].path, wants[i].answer = c.change()
		}
		idle(b, n)
		began := time.Now()
		var pushing sync.WaitGroup
		for i, c := range all {
			pushing.Go(func() {
				c.push()
				await(b, n, c, wants[i].path, wants[i].answer)
			})
		}
		pushing.Wait()
		s.add("one", alone/many)
		s.add("ten", time.Since(began))
		b.ReportMetric(float64(time.Since(began))/float64(alone), "of-ten-times-one")
	}
	s.report(b)
}
