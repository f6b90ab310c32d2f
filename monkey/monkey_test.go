package monkey_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/internal/unixfs"
	"github.com/taubyte/taubyte/monkey"
	"github.com/taubyte/taubyte/monkey/environmenttest"
	"github.com/taubyte/taubyte/patrick"
	"github.com/taubyte/taubyte/tns"
)

const (
	projectID  taubyte.ProjectID  = "QmSEWhhg1EnyJpnUwXyMwZUxjMSmAxbG9DrLyEfNeLaZDz"
	functionID taubyte.ResourceID = "QmWoguKoSissCJpzs3qvNBxTWabd6m3PD4jqbvd3buqdR6"
	websiteID  taubyte.ResourceID = "QmaHkqiQ11sjo5rDMYe4eReb2wCsvaY4Y9mzGcCSWaVGmn"

	repo taubyte.RepositoryID = "local/hello"
)

var configuration = map[string]string{
	"config.yaml":         "id: " + string(projectID) + "\nname: hello\n",
	"domains/main.yaml":   "id: QmdQPaT9dojUHaQmi92VE8xWbnWdbaGA21ncZVrU7UmKKL\nfqdn: hello.localhost\n",
	"functions/ping.yaml": "id: " + string(functionID) + "\ntrigger:\n  type: http\n  method: GET\n  domains: [main]\n  paths: [/ping]\nsource: .\nexecution:\n  timeout: 5s\n  memory: 32MB\n  call: ping\n",
	"websites/site.yaml":  "id: " + string(websiteID) + "\ndomains: [main]\nsource:\n  paths: [/]\n",
}

// under puts files into a folder.
func under(dir string, files map[string]string) map[string]string {
	out := map[string]string{}
	for name, text := range files {
		out[dir+"/"+name] = text
	}
	return out
}

func merge(all ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range all {
		maps.Copy(out, m)
	}
	return out
}

var (
	goFunction = map[string]string{"main.go": "package main\n\n//go:wasmexport ping\nfunc ping(uint32) uint32 { return 0 }\n\nfunc main() {}\n"}
	// Takes no compiler.
	shFunction = map[string]string{
		".taubyte/config.yaml": "version: 1\nenvironment:\n  image: taubyte/go-wasi\n  variables:\nworkflow: [build]\n",
		".taubyte/build.sh":    "cp \"$SRC/ping.wasm\" \"$OUT/main.wasm\"\n",
		"ping.wasm":            string(tinyModule),
	}
	site = map[string]string{"index.html": "<p>hello", "css/style.css": "p{}"}
)

func project(function map[string]string, more ...map[string]string) map[string]string {
	return merge(append([]map[string]string{under("config", configuration), under("code/functions/ping", function), under("websites/site", site)}, more...)...)
}

// plain is for builds that are the tests' own.
var plain = monkey.WithEnvironment("process", &monkey.Process{})

// A bench is a node with tns, hoarder and a queue of jobs.
type bench struct {
	*queue
	node *testnet.Node
	tns  *tns.Service
	keep *hoarder.Service
	work string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	net := testnet.New(t)
	b := &bench{queue: newQueue(), node: net.Node(), work: t.TempDir()}
	var err error
	b.tns, err = tns.New(t.Context(), b.node, b.node.Store)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.tns.Close()) })
	b.keep, err = hoarder.New(t.Context(), b.node, b.node.Store)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.keep.Close()) })
	return b
}

func (b *bench) start(t *testing.T, opts ...monkey.Option) *monkey.Service {
	t.Helper()
	opts = append([]monkey.Option{monkey.WithPatrick(b.queue), monkey.WithWorkDir(b.work), plain, monkey.WithLogger(testnet.Logger(t))}, opts...)
	s, err := monkey.New(t.Context(), b.node, b.node.Store, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func (b *bench) wait(t *testing.T, j *queued) patrick.Outcome {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); b.outcome(j) == nil; time.Sleep(5 * time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "the job does not end:\n%s", b.text(j))
	}
	return *b.outcome(j)
}

func (b *bench) succeed(t *testing.T, j *queued) patrick.Outcome {
	t.Helper()
	out := b.wait(t, j)
	require.Equal(t, patrick.Succeeded, out.State, "%s\n%s", out.Error, b.text(j))
	return out
}

func (b *bench) current(t *testing.T) *tns.Deployment {
	t.Helper()
	d, err := b.tns.Current(t.Context(), projectID, "main")
	require.NoError(t, err)
	return d
}

func (b *bench) read(t *testing.T, root cid.Cid, name string) string {
	t.Helper()
	f, err := unixfs.Open(t.Context(), b.node.Blocks(), root, name)
	require.NoError(t, err)
	defer f.Close()
	text, err := io.ReadAll(f)
	require.NoError(t, err)
	return string(text)
}

func (b *bench) clean(t *testing.T) {
	t.Helper()
	testnet.Eventually(t, func() bool {
		found, err := filepath.Glob(filepath.Join(b.work, "taubyte-build-job*"))
		return err == nil && len(found) == 0
	}, "a build's folder is left")
}

func cached(out patrick.Outcome) map[string]bool {
	m := map[string]bool{}
	for _, s := range out.Steps {
		m[s.Name] = s.Cached
	}
	return m
}

func TestProjectWithTheGoToolchain(t *testing.T) {
	b := newBench(t)
	b.start(t)
	first := b.push(repo, auth.KindProject, project(goFunction))
	out := b.succeed(t, first)
	require.Contains(t, cached(out), "source")
	require.Contains(t, cached(out), "configuration")
	require.Contains(t, cached(out), "publish")
	require.False(t, cached(out)["function ping"])

	d := b.current(t)
	require.EqualValues(t, 1, d.Sequence)
	require.Equal(t, first.job.Commit, d.Commit())
	module, ok := d.Asset(functionID)
	require.True(t, ok)
	require.NoError(t, monkey.CheckModule([]byte(b.read(t, module, "")), "ping"))
	pages, ok := d.Asset(websiteID)
	require.True(t, ok)
	require.Equal(t, "p{}", b.read(t, pages, "css/style.css"))
	for _, root := range []cid.Cid{module, pages} {
		item, err := b.keep.Item(t.Context(), root)
		require.NoError(t, err)
		require.Equal(t, projectID, item.Claims[0].Project)
	}

	// Only what has changed is built again.
	out = b.succeed(t, b.push(repo, auth.KindProject, project(goFunction, map[string]string{"websites/site/index.html": "<p>new"})))
	require.True(t, cached(out)["function ping"])
	require.False(t, cached(out)["website site"])
	again, _ := b.current(t).Asset(functionID)
	require.Equal(t, module, again)
	b.clean(t)
}

func TestFunctionThatDoesNotCompile(t *testing.T) {
	b := newBench(t)
	b.start(t)
	b.succeed(t, b.push(repo, auth.KindProject, project(shFunction)))
	before := b.current(t)
	j := b.push(repo, auth.KindProject, project(map[string]string{"main.go": "package main\n\nfunc main() { undefined() }\n"}))
	out := b.wait(t, j)
	require.Equal(t, patrick.Failed, out.State)
	require.Contains(t, out.Error, "function ping: it does not compile")
	require.Contains(t, b.text(j), "main.go:3:15: undefined: undefined")
	require.Equal(t, before.Sequence, b.current(t).Sequence, "what was served goes on being served")
	b.clean(t)
}

func TestNoToolchain(t *testing.T) {
	b := newBench(t)
	t.Setenv("PATH", t.TempDir())
	b.start(t)
	j := b.push(repo, auth.KindProject, project(goFunction))
	testnet.Eventually(t, func() bool { return len(b.returned(j)) > 0 }, "another worker may have it")
	require.Contains(t, b.returned(j)[0].Error, "the Go toolchain is not on this node: install Go")
	out := b.wait(t, b.push(repo, auth.KindProject, project(goFunction, map[string]string{"config/functions/ping.yaml": "id: 1"})))
	require.Equal(t, patrick.Failed, out.State, "what is wrong in any case")
}

func TestEveryFaultOfTheConfigurationIsTold(t *testing.T) {
	b := newBench(t)
	b.start(t)
	files := project(shFunction)
	files["config/functions/ping.yaml"] = strings.Replace(files["config/functions/ping.yaml"], "timeout: 5s", "timeout: soon", 1)
	files["config/websites/site.yaml"] = strings.Replace(files["config/websites/site.yaml"], "main", "none", 1)
	j := b.push(repo, auth.KindProject, files)
	out := b.wait(t, j)
	require.Equal(t, patrick.Failed, out.State)
	require.Contains(t, out.Error, "2 errors")
	require.Regexp(t, `config/functions/ping\.yaml:\d+:\d+: error: `, b.text(j))
	require.Regexp(t, `config/websites/site\.yaml:\d+:\d+: error: `, b.text(j))
	_, err := b.tns.Current(t.Context(), projectID, "main")
	require.ErrorIs(t, err, taubyte.ErrNotFound)

	foreign := project(shFunction)
	foreign["config/config.yaml"] = strings.Replace(foreign["config/config.yaml"], string(projectID), "QmYJREDH1g4quMigBJutYMBgxTwWTJhEtvcrVzrQrxWvfj", 1)
	out = b.wait(t, b.push(repo, auth.KindProject, foreign))
	require.Equal(t, patrick.Failed, out.State, "another project's configuration")
	require.Contains(t, out.Error, string(projectID))

	out = b.wait(t, b.push(repo, auth.KindProject, map[string]string{"README": "x"}))
	require.Contains(t, out.Error, "config/config.yaml")
}

func TestBadOutput(t *testing.T) {
	b := newBench(t)
	b.start(t)
	with := func(name, text string) map[string]string { return merge(shFunction, map[string]string{name: text}) }
	for want, files := range map[string]map[string]string{
		"not WebAssembly":                        project(with("ping.wasm", "text")),
		"no function \"ping\"":                   project(with("ping.wasm", "\x00asm\x01\x00\x00\x00")),
		"from env, which has no such function":   project(with("ping.wasm", importing("env", "emscripten_x"))),
		"neither main.wasm":                      project(with(".taubyte/build.sh", "true")),
		"exit status 3":                          project(with(".taubyte/build.sh", "echo oh no; exit 3")),
		"no regular file":                        project(with(".taubyte/build.sh", "ln -s /etc/passwd $OUT/main.wasm")),
		"there is no .taubyte/build.sh":          project(map[string]string{".taubyte/config.yaml": "workflow: [build]"}),
		"nothing to build":                       project(map[string]string{"README": "x"}),
		"no folder code/functions/ping":          merge(under("config", configuration), under("websites/site", site)),
		"the link link leads out of the website": project(shFunction, map[string]string{"websites/site/link": "->/etc/passwd"}),
		"holds no file":                          project(shFunction, map[string]string{"websites/site/.taubyte/config.yaml": "workflow: [x]", "websites/site/.taubyte/x.sh": "true"}),
	} {
		out := b.wait(t, b.push(repo, auth.KindProject, files))
		require.Equal(t, patrick.Failed, out.State, want)
		require.Contains(t, out.Error, want)
	}
	b.clean(t)
}

// keeper is a hoarder that says what it has kept.
type keeper struct {
	monkey.Keeper
	err error

	mu   sync.Mutex
	kept map[cid.Cid]int // and how many times it is to be held
}

func (k *keeper) Keep(ctx context.Context, root cid.Cid, o hoarder.KeepOptions) error {
	if k.err != nil {
		return k.err
	}
	err := k.Keeper.Keep(ctx, root, o)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		k.kept[root] = o.Min
	}
	return err
}

// publishing is a registry that looks at what is published.
type publishing struct {
	monkey.Registry
	look func(tns.Part)
}

func (p publishing) Publish(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch, part tns.Part) (*tns.Deployment, error) {
	p.look(part)
	return p.Registry.Publish(ctx, project, branch, part)
}

// All that a deployment has is held by as many hoarders as were asked for before it becomes
// current; where that can't be, it does not.
func TestPublishedWhenKept(t *testing.T) {
	b := newBench(t)
	k := &keeper{Keeper: b.keep, kept: map[cid.Cid]int{}}
	published := 0
	look := func(part tns.Part) {
		k.mu.Lock()
		defer k.mu.Unlock()
		published++
		if len(part.Assets) != 2 {
			t.Errorf("%d assets", len(part.Assets))
		}
		for id, root := range part.Assets {
			if k.kept[root] != 3 {
				t.Errorf("%s is published when it is held %d times", id, k.kept[root])
			}
		}
	}
	b.start(t, monkey.WithHoarder(k), monkey.WithTNS(publishing{b.tns, look}), monkey.WithReplicas(3))
	b.succeed(t, b.push(repo, auth.KindProject, project(shFunction)))
	require.Equal(t, 1, published)
	before := b.current(t).Sequence
	k.err = fmt.Errorf("%w: no room for it anywhere", taubyte.ErrTooLarge)
	out := b.wait(t, b.push(repo, auth.KindProject, project(shFunction, map[string]string{"websites/site/new.html": "new"})))
	require.Equal(t, patrick.Failed, out.State)
	require.Contains(t, out.Error, "no room for it anywhere")
	require.Equal(t, before, b.current(t).Sequence)
}

func TestWorkflows(t *testing.T) {
	b := newBench(t)
	b.start(t)
	j := b.push(repo, auth.KindProject, project(
		map[string]string{
			"taubyte/config.yaml": "enviroment:\n  image: taubyte/rust-wasi\n  variables: {MODULE: ping.wasm}\nworkflow: [one, two]\n",
			"taubyte/one.sh":      "echo first; cp \"$SRC/$MODULE\" made\n",
			"taubyte/two.sh":      "echo second; mv made $OUT/artifact.wasm\n",
			"ping.wasm":           string(tinyModule),
		},
		map[string]string{
			"websites/site/.taubyte/config.yaml": "workflow: [build]",
			"websites/site/.taubyte/build.sh":    "mkdir $OUT/a && cp index.html $OUT/a/",
		}))
	b.succeed(t, j)
	log := b.text(j)
	require.Contains(t, log, "function ping: note: the image taubyte/rust-wasi is not used")
	require.Less(t, strings.Index(log, "function ping: first\n"), strings.Index(log, "function ping: second\n"))
	pages, _ := b.current(t).Asset(websiteID)
	require.Equal(t, "<p>hello", b.read(t, pages, "a/index.html"))
	_, err := unixfs.Open(t.Context(), b.node.Blocks(), pages, "index.html")
	require.ErrorIs(t, err, taubyte.ErrNotFound)
}

func TestRepositoriesOfEachKind(t *testing.T) {
	b := newBench(t)
	b.start(t)
	code := under("functions/ping", shFunction)
	early := b.push("github/2", auth.KindCode, code)
	testnet.Eventually(t, func() bool { return len(b.returned(early)) > 0 }, "it waits")
	require.Contains(t, b.returned(early)[0].Error, "no configuration yet: branch main")
	require.True(t, b.returned(early)[0].Unconfigured)

	files := maps.Clone(configuration)
	files["websites/site.yaml"] = strings.Replace(files["websites/site.yaml"], "source:", "source:\n  github:\n    id: \"3\"\n    fullname: acme/site", 1)
	b.succeed(t, b.push("github/1", auth.KindConfig, files))
	b.succeed(t, early)
	b.succeed(t, b.push("github/2", auth.KindCode, code))
	b.succeed(t, b.push("github/3", auth.KindWebsite, site))
	d := b.current(t)
	require.Len(t, d.Parts, 3)
	_, ok := d.Asset(functionID)
	require.True(t, ok)
	pages, ok := d.Asset(websiteID)
	require.True(t, ok)
	require.Equal(t, "<p>hello", b.read(t, pages, "index.html"))

	out := b.wait(t, b.push("github/4", auth.KindWebsite, site))
	require.Contains(t, out.Error, "names the repository github/4")
}

const endless = "echo begun; (while :; do echo x >> \"$ALIVE\"; sleep 0.02; done) & wait\n"

// slow is a project whose function takes for ever to build, and says so in a file.
func slow(t *testing.T) (files map[string]string, alive string) {
	alive = filepath.Join(t.TempDir(), "alive")
	return project(map[string]string{
		".taubyte/config.yaml": "environment:\n  variables: {ALIVE: \"" + alive + "\"}\nworkflow: [build]\n",
		".taubyte/build.sh":    endless,
	}), alive
}

func requireDead(t *testing.T, alive string) {
	t.Helper()
	size := func() int64 {
		info, err := os.Stat(alive)
		require.NoError(t, err)
		return info.Size()
	}
	before := size()
	time.Sleep(100 * time.Millisecond) // five times what a live one would need
	require.Equal(t, before, size())
}

// running is what a worker is at.
func running(t *testing.T, s *monkey.Service) []monkey.Running {
	t.Helper()
	st, err := s.Status(t.Context())
	require.NoError(t, err)
	return st.Running
}

func TestLostLeaseEndsTheBuild(t *testing.T) {
	b := newBench(t)
	b.ttl = 300 * time.Millisecond
	s := b.start(t)
	files, alive := slow(t)
	j := b.push(repo, auth.KindProject, files)
	testnet.Eventually(t, func() bool { return strings.Contains(b.text(j), "function ping: begun") }, "the log comes while it builds")
	testnet.Eventually(t, func() bool { return len(running(t, s)) == 1 }, "shown")
	_, err := s.Status(testnet.Reader(t.Context()))
	require.NoError(t, err)
	for what, ctx := range testnet.Outsiders(t.Context(), projectID) {
		_, err = s.Status(ctx)
		require.ErrorIs(t, err, taubyte.ErrForbidden, what)
	}
	b.take(j)
	testnet.Eventually(t, func() bool { return len(running(t, s)) == 0 }, "given up")
	requireDead(t, alive)
	b.clean(t)
	require.Nil(t, b.outcome(j))
	b.succeed(t, b.push(repo, auth.KindProject, project(shFunction)))
}

func TestTimeout(t *testing.T) {
	b := newBench(t)
	b.start(t, monkey.WithTimeout(500*time.Millisecond))
	files, _ := slow(t)
	out := b.wait(t, b.push(repo, auth.KindProject, files))
	require.Equal(t, patrick.TimedOut, out.State)
	b.clean(t)
}

func TestStoppedInMidBuild(t *testing.T) {
	b := newBench(t)
	b.ttl = 300 * time.Millisecond
	s := b.start(t)
	files, alive := slow(t)
	j := b.push(repo, auth.KindProject, files)
	testnet.Eventually(t, func() bool { _, err := os.Stat(alive); return err == nil }, "begun")
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	requireDead(t, alive)
	b.clean(t)

	// What a crash would have left is removed at the start, and nothing else.
	left := filepath.Join(b.work, "taubyte-build-job999-1", "src")
	require.NoError(t, os.MkdirAll(left, 0o700))
	own := filepath.Join(b.work, "mine")
	require.NoError(t, os.Mkdir(own, 0o700))
	b.mu.Lock()
	j.files = project(shFunction)
	b.mu.Unlock()
	b.start(t)
	b.succeed(t, j)
	require.Greater(t, j.job.Attempt, 1)
	require.EqualValues(t, 1, b.current(t).Sequence)
	require.NoDirExists(t, left)
	require.DirExists(t, own)
}

// A keeper that is away until it is back.
type away struct {
	*hoarder.Client
	back  chan struct{}
	asked chan struct{}
}

func (a *away) Keep(ctx context.Context, root cid.Cid, o hoarder.KeepOptions) error {
	select {
	case a.asked <- struct{}{}:
	default:
	}
	select {
	case <-a.back:
		return a.Client.Keep(ctx, root, o)
	default:
		return taubyte.ErrUnavailable
	}
}

func TestStoppedInMidPublish(t *testing.T) {
	b := newBench(t)
	b.ttl = 300 * time.Millisecond
	c := hoarder.NewClient(b.node)
	defer c.Close()
	k := &away{Client: c, back: make(chan struct{}), asked: make(chan struct{}, 1)}
	s := b.start(t, monkey.WithHoarder(k))
	j := b.push(repo, auth.KindProject, project(shFunction))
	<-k.asked
	require.NoError(t, s.Close())
	_, err := b.tns.Current(t.Context(), projectID, "main")
	require.ErrorIs(t, err, taubyte.ErrNotFound, "nothing is half published")

	// A hoarder that comes back is waited for.
	b.start(t, monkey.WithHoarder(k))
	<-k.asked
	close(k.back)
	out := b.succeed(t, j)
	require.True(t, cached(out)["function ping"], "what was built is not built again")
	require.EqualValues(t, 1, b.current(t).Sequence)
}

func TestLaterPushWins(t *testing.T) {
	b := newBench(t)
	older := b.push(repo, auth.KindProject, project(shFunction))
	newer := b.push(repo, auth.KindProject, project(shFunction, map[string]string{"websites/site/index.html": "<p>new"}))
	older.expires = time.Now().Add(time.Hour) // with a worker that is slow
	b.start(t)
	b.succeed(t, newer)
	b.mu.Lock()
	older.expires = time.Time{}
	b.mu.Unlock()
	out := b.wait(t, older)
	require.Equal(t, patrick.Superseded, out.State, out.Error)
	require.Equal(t, newer.job.Commit, b.current(t).Commit())
}

func TestDeletedBranch(t *testing.T) {
	b := newBench(t)
	gone := func(repo taubyte.RepositoryID) *queued {
		return b.pushCommit(repo, "", nil, "")
	}
	b.start(t)
	files := maps.Clone(configuration)
	files["websites/site.yaml"] = strings.Replace(files["websites/site.yaml"], "source:", "source:\n  github:\n    id: \"3\"\n    fullname: acme/site", 1)
	b.succeed(t, b.push("github/1", auth.KindConfig, files))
	b.succeed(t, b.push("github/3", auth.KindWebsite, site))
	b.succeed(t, gone("github/3"))
	_, ok := b.current(t).Asset(websiteID)
	require.False(t, ok, "its branch of the website's repository is gone")
	b.succeed(t, gone("github/1"))
	_, err := b.tns.Current(t.Context(), projectID, "main")
	require.ErrorIs(t, err, taubyte.ErrNotFound, "the branch of the configuration is gone")
	b.succeed(t, gone("github/1"))
}

func TestLogIsBounded(t *testing.T) {
	b := newBench(t)
	b.start(t, monkey.WithOutputLimits(1<<20, 1<<20, 4<<10))
	j := b.push(repo, auth.KindProject, project(merge(shFunction, map[string]string{
		".taubyte/build.sh": "i=0; while [ $i -lt 500 ]; do echo 'a line that is rather long, as lines go'; i=$((i+1)); done; cp ping.wasm $OUT/main.wasm",
	})))
	b.succeed(t, j)
	require.Less(t, len(b.text(j)), 5<<10)
	require.Contains(t, b.text(j), "bytes of the log are left out")
}

func TestProcess(t *testing.T) { environmenttest.Run(t, &monkey.Process{}) }
