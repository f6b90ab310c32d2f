package testcluster

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/mr-tron/base58"
	"github.com/stretchr/testify/require"
)

// A Project is a copy of one of the examples, deployed to a cluster.
type Project struct {
	Name string // of its repository, and of its host below localhost
	ID   string
	c    *Cluster
	dir  string

	mu     sync.Mutex // one push at a time
	pushes []Push
	serial int
}

// A Push is one push and what came of it.
type Push struct {
	Commit, Branch string
	Via            string // the node that it was sent to
	At             time.Time
	Took           time.Duration
	Err            error // nil when the pusher was told that it is taken
	Interrupted    bool  // the node was taken away meanwhile
}

// Host is the host name that the project is served under.
func (p *Project) Host() string { return p.Name + ".localhost" }

// Deploy pushes a copy of an example under a name and waits until every gateway
// serves path. The copy has ids of its own: an example may be deployed several times.
func (c *Cluster) Deploy(example, name, path string) *Project {
	c.t.Helper()
	p := c.Project(example, name)
	push := p.Push(c.Nodes("patrick")[0], "main")
	require.NoError(c.t, push.Err, "pushing %s", name)
	p.AwaitServed(path, "")
	return p
}

// ids and names of the examples' configuration.
var (
	idLine   = regexp.MustCompile(`(?m)^id: (\S+)`)
	nameLine = regexp.MustCompile(`(?m)^name: .*`)
	fqdnLine = regexp.MustCompile(`(?m)^fqdn: .*`)
)

// Project makes a copy of an example, with a first commit, and deploys nothing.
func (c *Cluster) Project(example, name string) *Project {
	c.t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/taubyte/taubyte").Output()
	require.NoError(c.t, err)
	p := &Project{Name: name, c: c, dir: filepath.Join(c.dir, "projects", name)}
	source := filepath.Join(strings.TrimSpace(string(out)), "examples", example)
	for _, part := range []string{"config", "code", "libraries", "websites"} {
		if _, err := os.Stat(filepath.Join(source, part)); err == nil {
			require.NoError(c.t, os.CopyFS(filepath.Join(p.dir, part), os.DirFS(filepath.Join(source, part))))
		}
	}
	require.NoError(c.t, filepath.WalkDir(filepath.Join(p.dir, "config"), func(file string, e fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(file) != ".yaml" {
			return err
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		text := idLine.ReplaceAllStringFunc(string(raw), func(line string) string { return "id: " + idOf(name, line) })
		text = fqdnLine.ReplaceAllString(text, "fqdn: "+p.Host())
		if filepath.Base(file) == "config.yaml" {
			text = nameLine.ReplaceAllString(text, "name: "+name)
			p.ID = idLine.FindStringSubmatch(text)[1]
		}
		return os.WriteFile(file, []byte(text), 0o600)
	}))
	p.git("init", "-q", "-b", "main")
	p.git("add", ".")
	p.git("commit", "-qm", "first")
	return p
}

// idOf makes a CID of version 0, as ids of the configuration are.
func idOf(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return base58.Encode(append([]byte{0x12, 0x20}, sum[:]...))
}

func (p *Project) git(args ...string) string {
	p.c.t.Helper()
	out, err := p.tryGit(args...)
	require.NoError(p.c.t, err)
	return out
}

func (p *Project) tryGit(args ...string) (string, error) {
	cmd := exec.Command("git", append([]string{"-C", p.dir, "-c", "user.name=t", "-c", "user.email=t@localhost"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "GIT_HTTP_LOW_SPEED_LIMIT=1", "GIT_HTTP_LOW_SPEED_TIME=20")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// Remote is the project's git remote on a node.
func (p *Project) Remote(via *Node) (string, error) {
	token, err := via.Token()
	return "http://x:" + token + "@" + via.api + "/git/" + p.Name + ".git", err
}

// Heads lists the branches that a node serves, and their commits.
func (p *Project) Heads(via *Node) (string, error) {
	remote, err := p.Remote(via)
	if err != nil {
		return "", err
	}
	return p.tryGit("ls-remote", "--heads", remote)
}

// Builds reports whether a node holds the job of a push at this moment.
func (p *Project) Builds(push Push, n *Node) bool {
	for _, control := range p.c.Nodes("patrick") {
		var page struct{ Jobs []job }
		if !control.Running() || control.Get("/v1/patrick/jobs?limit=500&project="+url.QueryEscape(p.ID), &page) != nil {
			continue
		}
		for _, j := range page.Jobs {
			if j.Commit == push.Commit && j.State == "running" && j.Worker == n.id {
				return true
			}
		}
	}
	return false
}

// Commit writes a file and commits it to the branch, from the branch main where it is
// new.
func (p *Project) Commit(branch, file, content string) string {
	p.c.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.commitLocked(branch, file, content)
}

func (p *Project) commitLocked(branch, file, content string) string {
	p.c.t.Helper()
	if _, err := p.tryGit("checkout", "-q", branch); err != nil {
		p.git("checkout", "-q", "-b", branch, "main")
	}
	if file != "" {
		path := filepath.Join(p.dir, filepath.FromSlash(file))
		require.NoError(p.c.t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(p.c.t, os.WriteFile(path, []byte(content), 0o600))
		p.git("add", file)
		p.git("commit", "-qm", "change "+file)
	}
	return strings.TrimSpace(p.git("rev-parse", "HEAD"))
}

// Push pushes a branch to a node, and remembers what it was told.
func (p *Project) Push(via *Node, branch string) Push {
	p.c.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pushLocked(via, branch)
}

func (p *Project) pushLocked(via *Node, branch string) Push {
	p.c.t.Helper()
	push := Push{Branch: branch, Via: via.Name, At: time.Now(), Commit: strings.TrimSpace(p.git("rev-parse", branch))}
	remote, err := p.Remote(via)
	if err == nil {
		_, err = p.tryGit("push", "-q", remote, branch)
	}
	push.Took, push.Err = time.Since(push.At), err
	push.Interrupted = err != nil && p.c.awaySince(via, push.At)
	p.pushes = append(p.pushes, push)
	return push
}

// PushPage changes the page version.txt of the project's website and pushes that.
// The page then says what Version returns for the push's serial number.
func (p *Project) PushPage(via *Node, branch string) (Push, string) {
	p.c.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.serial++
	content := fmt.Sprintf("%s %s %d", p.Name, branch, p.serial)
	p.commitLocked(branch, "websites/site/version.txt", content)
	return p.pushLocked(via, branch), content
}

// Pushes lists all pushes so far.
func (p *Project) Pushes() []Push {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Push(nil), p.pushes...)
}

// Forget leaves out the pushes so far: Results tells of later ones.
func (p *Project) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pushes = nil
}

// AwaitServed waits until every gateway that runs answers a path with a text in it,
// and returns how long that took.
func (p *Project) AwaitServed(path, want string) time.Duration {
	p.c.t.Helper()
	return p.c.Await(p.Name+path+" is served", 2*time.Minute, func() error {
		for _, g := range p.c.Nodes("gateway") {
			if !g.Running() {
				continue
			}
			if status, body := p.Ask(g, path); status != http.StatusOK || !strings.Contains(body, want) {
				r, err := p.Results()
				return fmt.Errorf("%s answers %s with %d %.200q instead of %q; its jobs: %+v %v", g.Name, path, status, body, want, r, err)
			}
		}
		return nil
	})
}

// AwaitRouted waits until every gateway that runs knows the project's routes, without
// calling a function: PATCH is a method that none of them has.
func (p *Project) AwaitRouted(path string) {
	p.c.t.Helper()
	p.c.Await(p.Name+path+" is routed", 2*time.Minute, func() error {
		for _, g := range p.c.Nodes("gateway") {
			if !g.Running() {
				continue
			}
			if status, body := p.c.ask(http.MethodPatch, g, p.Host(), path, nil); status != http.StatusMethodNotAllowed {
				return fmt.Errorf("%s answers %d %.200q", g.Name, status, body)
			}
		}
		return nil
	})
}

// Ask asks a gateway for a path of the project. The status is 0 where there was no
// answer.
func (p *Project) Ask(g *Node, path string) (int, string) {
	return p.c.ask(http.MethodGet, g, p.Host(), path, nil)
}

// A Result is what became of the pushes.
type Result struct {
	Pushes, Acked int
	None          []string // acknowledged, and no job has ended on it
	Several       []string // more than one job, or more than one deployment, of a commit
	Failed        []string // jobs that ended otherwise than Succeeded or Superseded, and why
	Apart         []string // what control nodes say otherwise than the first
}

// Good is nil when each acknowledged push had exactly one result, which is no
// failure, and all control nodes say the same.
func (r Result) Good() error {
	if len(r.None)+len(r.Several)+len(r.Failed)+len(r.Apart) > 0 {
		return fmt.Errorf("%+v", r)
	}
	return nil
}

// job is what patrick says of one.
type job struct {
	ID, Branch, Commit, State, Error, Worker string
	Attempt                                  int
}

func (j job) done() bool {
	switch j.State {
	case "succeeded", "failed", "cancelled", "superseded", "timedout", "timed out":
		return true
	}
	return false
}

// Results asks every control node that runs what became of the pushes.
func (p *Project) Results() (Result, error) {
	pushes := p.Pushes()
	r := Result{Pushes: len(pushes)}
	var first string
	for _, n := range p.c.Nodes("patrick") {
		if !n.Running() {
			continue
		}
		var page struct{ Jobs []job }
		if err := n.Get("/v1/patrick/jobs?limit=500&project="+url.QueryEscape(p.ID), &page); err != nil {
			return r, err
		}
		by := map[string][]job{}
		for _, j := range page.Jobs {
			by[j.Commit] = append(by[j.Commit], j)
		}
		var states []string
		for _, push := range pushes {
			for _, j := range by[push.Commit] {
				states = append(states, j.ID+" "+j.State)
			}
		}
		if text, _ := json.Marshal(states); first == "" {
			first = string(text)
		} else if string(text) != first {
			r.Apart = append(r.Apart, fmt.Sprintf("%s: %s; another: %s", n.Name, text, first))
		}
		if r.Acked > 0 {
			continue // the first speaks for all, if they say the same
		}
		for _, push := range pushes {
			of := by[push.Commit]
			if push.Err == nil {
				r.Acked++
			}
			done := 0
			for _, j := range of {
				if j.done() {
					done++
				}
				if j.done() && j.State != "succeeded" && j.State != "superseded" {
					r.Failed = append(r.Failed, fmt.Sprintf("%.8s via %s: job %s %s: %s", push.Commit, push.Via, j.ID, j.State, j.Error))
				}
			}
			if push.Err == nil && done == 0 {
				r.None = append(r.None, fmt.Sprintf("%.8s via %s: %v", push.Commit, push.Via, of))
			}
			if len(of) > 1 {
				r.Several = append(r.Several, fmt.Sprintf("%.8s: %v", push.Commit, of))
			}
		}
	}
	return r, nil
}

// AwaitResults waits until each acknowledged push has exactly one result everywhere,
// and returns what is so after a time anyway.
func (p *Project) AwaitResults(within time.Duration) (Result, time.Duration) {
	p.c.t.Helper()
	began := time.Now()
	for {
		r, err := p.Results()
		if err == nil {
			err = r.Good()
		}
		if err == nil || time.Since(began) > within {
			return r, time.Since(began)
		}
		time.Sleep(200 * time.Millisecond)
	}
}
