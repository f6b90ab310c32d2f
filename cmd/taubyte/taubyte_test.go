package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/testbin"
	"github.com/taubyte/taubyte/internal/testnet"
)

var build struct {
	sync.Once
	dir, program string
	err          error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if build.dir != "" {
		_ = os.RemoveAll(build.dir)
	}
	os.Exit(code)
}

// program builds the reference server once.
func program(t *testing.T) string {
	t.Helper()
	build.Do(func() {
		if build.dir, build.err = os.MkdirTemp("", "taubyte-test-*"); build.err != nil {
			return
		}
		build.program = filepath.Join(build.dir, "taubyte")
		out, err := exec.Command("go", "build", "-o", build.program, ".").CombinedOutput()
		if err != nil {
			build.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	require.NoError(t, build.err)
	return build.program
}

// taubyte runs a command to its end.
func taubyte(t *testing.T, env []string, args ...string) (code int, out, errOut string) {
	t.Helper()
	cmd := exec.Command(program(t), args...)
	cmd.Env = append(os.Environ(), env...)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return cmd.ProcessState.ExitCode(), o.String(), e.String()
}

// hello copies the example, so that a test may change it.
func hello(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "hello")
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join("..", "..", "examples", "hello"))))
	return dir
}

func edit(t *testing.T, file, from, to string) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(text), from)
	require.NoError(t, os.WriteFile(file, []byte(strings.ReplaceAll(string(text), from, to)), 0o600))
}

// A cloud is a running "taubyte dev".
type devCloud struct {
	*testbin.Process
	t         *testing.T
	data, dir string
	URL       string
	Git       string
	API       string
	Routes    []struct{ Kind, Name, Method, URL string }
}

func dev(t *testing.T, data, dir string) *devCloud {
	t.Helper()
	c := &devCloud{t: t, data: data, dir: dir}
	c.Process = testbin.Start(t, nil, program(t), "dev", dir, "--json", "--data", data, "--http", "127.0.0.1:0")
	require.NoError(t, json.Unmarshal([]byte(c.Line()), c))
	return c
}

// get asks for a path of the project's host.
func (c *devCloud) get(path string) (int, string) {
	c.t.Helper()
	u, err := url.Parse(c.URL)
	require.NoError(c.t, err)
	return get(c.t, "http://127.0.0.1:"+u.Port()+path, u.Host)
}

// get asks an address for a page of a host, on a connection of its own. Where there is no
// answer the status is 0, and the text says why.
func get(t *testing.T, address, host string) (status int, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	require.NoError(t, err)
	req.Host = host
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

func (c *devCloud) serves(path, want string) {
	c.t.Helper()
	testnet.Eventually(c.t, func() bool {
		status, body := c.get(path)
		return status == http.StatusOK && strings.Contains(body, want)
	}, "%s says %q\n%s", path, want, c.Said())
}

func TestDev(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	dir := hello(t)
	c := dev(t, data, dir)
	require.Len(t, c.Routes, 2)
	status, body := c.get("/ping")
	require.Equal(t, http.StatusOK, status, "served when the line is printed")
	require.Equal(t, "PONG", body)
	_, body = c.get("/")
	require.Contains(t, body, "<h1>Hello</h1>")
	status, _ = c.get("/style.css")
	require.Equal(t, http.StatusOK, status)
	status, _ = c.get("/none.js")
	require.Equal(t, http.StatusNotFound, status)

	t.Run("a save is served", func(t *testing.T) {
		edit(t, filepath.Join(dir, "code", "functions", "ping", "main.go"), "PONG", "SAVED")
		c.serves("/ping", "SAVED")
	})

	t.Run("a build that fails says why and leaves what is served", func(t *testing.T) {
		main := filepath.Join(dir, "code", "functions", "ping", "main.go")
		edit(t, main, "return 0", "return nothing")
		testnet.Eventually(t, func() bool { return strings.Contains(c.Said(), "undefined: nothing") }, "the compiler's word in the terminal")
		_, body := c.get("/ping")
		require.Equal(t, "SAVED", body)
		testnet.Eventually(t, func() bool {
			code, out, _ := taubyte(t, nil, "logs", "--data", data)
			return code == 0 && strings.Contains(out, "undefined: nothing")
		}, "the compiler's word in the log")
		edit(t, main, "return nothing", "return 0")
	})

	t.Run("a fault in the configuration says where", func(t *testing.T) {
		file := filepath.Join(dir, "config", "functions", "ping.yaml")
		edit(t, file, "timeout: 5s", "timeout: soon")
		testnet.Eventually(t, func() bool { return strings.Contains(c.Said(), "functions/ping.yaml:10:14") }, "the place of the fault: %s", c.Said())
		_, body := c.get("/ping")
		require.Equal(t, "SAVED", body)
		edit(t, file, "timeout: soon", "timeout: 5s")
	})

	t.Run("a push is served", func(t *testing.T) {
		clone := filepath.Join(t.TempDir(), "clone")
		git := func(args ...string) {
			out, err := exec.Command("git", append([]string{"-c", "user.name=t", "-c", "user.email=t@localhost"}, args...)...).CombinedOutput()
			require.NoError(t, err, "%s", out)
		}
		git("clone", "-q", c.Git, clone)
		edit(t, filepath.Join(clone, "websites", "site", "index.html"), "<h1>Hello", "<h1>Pushed")
		git("-C", clone, "commit", "-qam", "change")
		// The last save may be on its way at this moment: then git wants a pull first.
		testnet.Eventually(t, func() bool {
			err := exec.Command("git", "-C", clone, "push", "-q", "origin", "main").Run()
			if err != nil {
				git("-C", clone, "pull", "-q", "--rebase", "origin", "main")
			}
			return err == nil
		}, "the push is taken")
		c.serves("/", "<h1>Pushed")
	})

	t.Run("the other commands", func(t *testing.T) {
		for _, args := range [][]string{{"projects"}, {"jobs"}, {"routes"}, {"nodes"}, {"explain", c.URL + "/ping"}} {
			code, out, errOut := taubyte(t, nil, append(args, "--data", data, "--json")...)
			require.Zero(t, code, "%v: %s", args, errOut)
			require.True(t, json.Valid([]byte(out)), "%v: %s", args, out)
			code, out, errOut = taubyte(t, nil, append(args, "--data", data)...)
			require.Zero(t, code, "%v: %s", args, errOut)
			require.NotEmpty(t, out)
		}
		var projects []struct{ Project string }
		_, out, _ := taubyte(t, nil, "projects", "--data", data, "--json")
		require.NoError(t, json.Unmarshal([]byte(out), &projects))
		code, _, errOut := taubyte(t, nil, "rollback", projects[0].Project, "none", "--data", data)
		require.Equal(t, 3, code)
		require.Contains(t, errOut, "invalid sequence")
		code, out, _ = taubyte(t, nil, "rollback", projects[0].Project, "--data", data)
		require.Zero(t, code)
		require.Contains(t, out, "DEPLOYMENT")
		code, _, errOut = taubyte(t, nil, "rollback", projects[0].Project, "1", "--data", data)
		require.Zero(t, code, errOut)
		c.serves("/ping", "PONG")
	})

	require.NoError(t, c.Interrupt(), "an interrupt is not a failure")
	code, _, errOut := taubyte(t, nil, "jobs", "--data", data)
	require.Equal(t, 6, code)
	require.Contains(t, errOut, "no node runs on "+data)
}

func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	dir := hello(t)
	c := dev(t, data, dir)
	main := filepath.Join(dir, "code", "functions", "ping", "main.go")
	said := "PONG"
	for i := range 6 {
		next := fmt.Sprintf("ANSWER-%d", i)
		edit(t, main, said, next)
		// From before the save is noticed to after it is published.
		time.Sleep(time.Duration(rand.IntN(700)) * time.Millisecond)
		c.Kill()

		c = dev(t, data, dir)
		status, body := c.get("/ping")
		require.Equal(t, http.StatusOK, status, "what was deployed serves: %s", c.Said())
		require.Contains(t, []string{said, next}, body)
		c.serves("/ping", next)
		said = next
	}
	require.NoError(t, c.Interrupt())
}

func TestThreeProcesses(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cluster")
	code, out, errOut := taubyte(t, nil, "init", "--development", dir,
		"--node", "control=auth,tns,patrick,seer@"+freeAddr(t), "--node", "build=monkey,hoarder@"+freeAddr(t), "--node", "edge=substrate,gateway@"+freeAddr(t))
	require.Zero(t, code, errOut)
	require.Contains(t, out, "taubyte start --config "+filepath.Join(dir, "edge", "taubyte.yaml"))
	for _, name := range []string{"control", "build", "edge"} {
		anyPorts(t, filepath.Join(dir, name, "taubyte.yaml"))
	}
	type node struct {
		*testbin.Process
		ID, API, URL string
	}
	start := func(name string) *node {
		n := &node{Process: testbin.Start(t, nil, program(t), "start", "--json", "--builds", "plain", "--config", filepath.Join(dir, name, "taubyte.yaml"))}
		require.NoError(t, json.Unmarshal([]byte(n.Line()), n))
		return n
	}
	control, builder, edge := start("control"), start("build"), start("edge")
	token, err := os.ReadFile(filepath.Join(dir, "control", "data", "token"))
	require.NoError(t, err)
	remote := strings.Replace(control.API, "http://", "http://x:"+strings.TrimSpace(string(token))+"@", 1) + "/git/hello.git"

	project := hello(t)
	git := func(args ...string) string {
		out, err := exec.Command("git", append([]string{"-C", project, "-c", "user.name=t", "-c", "user.email=t@localhost"}, args...)...).CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	git("init", "-q", "-b", "main")
	git("add", ".")
	git("commit", "-qm", "first")
	require.Contains(t, git("push", remote, "main"), "taubyte: job", "the pusher is told of the job")
	c := &devCloud{Process: edge.Process, t: t, URL: strings.Replace(edge.URL, "127.0.0.1", "hello.localhost", 1)}
	c.serves("/ping", "PONG")

	// One after the other is killed and comes back; a push in between gets built.
	builder.Kill()
	edit(t, filepath.Join(project, "code", "functions", "ping", "main.go"), "PONG", "SECOND")
	git("commit", "-qam", "second")
	git("push", "-q", remote, "main")
	_, body := c.get("/ping")
	require.Equal(t, "PONG", body, "the others go on")
	builder = start("build")
	c.serves("/ping", "SECOND")

	control.Kill()
	_, body = c.get("/ping")
	require.Equal(t, "SECOND", body, "a request asks nobody but substrate")
	control = start("control")

	edge.Kill()
	edge = start("edge")
	c = &devCloud{Process: edge.Process, t: t, URL: strings.Replace(edge.URL, "127.0.0.1", "hello.localhost", 1)}
	c.serves("/ping", "SECOND")
	for _, n := range []*node{edge, builder, control} {
		require.NoError(t, n.Interrupt(), n.Said())
	}
}

// anyPorts has a node listen for users and its API on ports that are free here.
func anyPorts(t *testing.T, config string) {
	t.Helper()
	text, err := os.ReadFile(config)
	require.NoError(t, err)
	lines := strings.Split(string(text), "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, "api:") || strings.HasPrefix(l, "http:") {
			lines[i] = l[:strings.IndexByte(l, ':')] + ": 127.0.0.1:0"
		}
	}
	require.NoError(t, os.WriteFile(config, []byte(strings.Join(lines, "\n")), 0o600))
}

func freeAddr(t *testing.T) string {
	return fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", testnet.FreePort(t))
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	invalid, noProject, foreign := hello(t), t.TempDir(), t.TempDir()
	edit(t, filepath.Join(invalid, "config", "functions", "ping.yaml"), "method: GET", "method: FETCH")
	require.NoError(t, os.WriteFile(filepath.Join(foreign, "letter.txt"), []byte("hi"), 0o600))
	gitOnly := t.TempDir()
	gitPath, err := exec.LookPath("git")
	require.NoError(t, err)
	require.NoError(t, os.Symlink(gitPath, filepath.Join(gitOnly, "git")))

	for _, c := range []struct {
		name string
		env  []string
		args []string
		code int
		want []string
	}{
		{"no command", nil, nil, 2, []string{"Usage: taubyte COMMAND"}},
		{"an unknown command", nil, []string{"fly"}, 2, []string{`no command "fly"`}},
		{"an unknown flag", nil, []string{"dev", "--fly"}, 2, []string{"-fly", "Usage: taubyte dev"}},
		{"no such folder", nil, []string{"dev", "nowhere"}, 3, []string{"nowhere"}},
		{"a folder that is no project", nil, []string{"dev", noProject}, 3, []string{"has no config/config.yaml"}},
		{"an invalid configuration", nil, []string{"dev", invalid}, 3, []string{"config/functions/ping.yaml:5:13: error: trigger.method must be an HTTP method", "one of GET"}},
		{"no toolchain", []string{"PATH=" + gitOnly}, []string{"dev", hello(t)}, 6, []string{"go is not installed", "install Go"}},
		{"no git", []string{"PATH="}, []string{"dev", hello(t)}, 6, []string{"git is not installed"}},
		{"a port in use", nil, []string{"dev", hello(t), "--http", taken.Addr().String()}, 5, []string{"address already in use", taken.Addr().String(), "choose another address"}},
		{"a foreign data folder", nil, []string{"dev", hello(t), "--data", foreign}, 3, []string{foreign, "is not empty", "choose another folder"}},
		{"a configuration that is not there", nil, []string{"start", "--config", "none.yaml"}, 1, []string{"none.yaml"}},
		{"no node to ask", nil, []string{"jobs", "--data", noProject}, 6, []string{"no node runs on"}},
		{"an API that is not there", nil, []string{"jobs", "--api", "http://127.0.0.1:1"}, 6, []string{"no node answers"}},
		{"a role that is none", nil, []string{"init", "x", "--node", "a=pilot"}, 2, []string{`no role "pilot"`}},
		{"a network without auth", nil, []string{"init", filepath.Join(noProject, "x"), "--node", "a=tns"}, 3, []string{"no node runs auth"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := filepath.Join(t.TempDir(), "data")
			args := c.args
			if len(args) > 0 && args[0] == "dev" && !strings.Contains(strings.Join(args, " "), "--data") && c.name != "an unknown flag" {
				args = append(args, "--data", data)
			}
			if len(args) > 0 && args[0] == "dev" && !strings.Contains(strings.Join(args, " "), "--http") {
				args = append(args, "--http", "127.0.0.1:0")
			}
			code, out, errOut := taubyte(t, c.env, args...)
			require.Equal(t, c.code, code, "%s%s", out, errOut)
			for _, want := range c.want {
				require.Contains(t, errOut, want)
			}
			require.NoDirExists(t, data, "nothing is left behind")
		})
	}
	entries, err := os.ReadDir(foreign)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	entries, err = os.ReadDir(noProject)
	require.NoError(t, err)
	require.Empty(t, entries)

	t.Run("a data folder in use", func(t *testing.T) {
		data, dir := filepath.Join(t.TempDir(), "data"), hello(t)
		c := dev(t, data, dir)
		code, _, errOut := taubyte(t, nil, "dev", dir, "--data", data, "--http", "127.0.0.1:0")
		require.Equal(t, 5, code)
		require.Contains(t, errOut, "in use by another process")
		_, body := c.get("/ping")
		require.Equal(t, "PONG", body)
		code, _, errOut = taubyte(t, nil, "logs", "--data", data)
		require.Zero(t, code, errOut)
	})
}

func TestValidate(t *testing.T) {
	dir := hello(t)
	code, out, _ := taubyte(t, nil, "validate", dir)
	require.Zero(t, code)
	require.Contains(t, out, "is valid")
	edit(t, filepath.Join(dir, "config", "functions", "ping.yaml"), "memory: 32MB", "memory: lots")
	edit(t, filepath.Join(dir, "config", "websites", "site.yaml"), "[main]", "[other]")
	code, out, _ = taubyte(t, nil, "validate", dir)
	require.Equal(t, 3, code)
	require.Contains(t, out, "functions/ping.yaml:11:13: error")
	require.Contains(t, out, `there is no domain "other"`)
	code, out, _ = taubyte(t, nil, "validate", "--json", dir)
	require.Equal(t, 3, code)
	require.True(t, json.Valid([]byte(out)))
	code, out, _ = taubyte(t, nil, "validate", "--schema")
	require.Zero(t, code)
	require.True(t, json.Valid([]byte(out)))
}

func TestHelpAndCompletion(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"help", "dev"}, {"start", "--help"}, {"store", "--help"}, {"version"}, {"version", "--json"}, {"completion", "bash"}, {"completion", "zsh"}, {"completion", "fish"}} {
		code, out, errOut := taubyte(t, nil, args...)
		require.Zero(t, code, "%v: %s", args, errOut)
		require.NotEmpty(t, out)
	}
	script := filepath.Join(t.TempDir(), "c.bash")
	_, out, _ := taubyte(t, nil, "completion", "bash")
	require.NoError(t, os.WriteFile(script, []byte(out), 0o600))
	said, err := exec.Command("bash", "-c", `source "$1"; COMP_WORDS=(taubyte repo a) COMP_CWORD=2; _taubyte; echo "${COMPREPLY[@]}"`, "bash", script).CombinedOutput()
	require.NoError(t, err, "%s", said)
	require.Equal(t, "add\n", string(said))
}
