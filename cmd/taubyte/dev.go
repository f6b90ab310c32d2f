package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/cloud"
	"github.com/taubyte/taubyte/patrick"
)

func devCommand() command {
	return command{
		name: "dev", args: "[DIR]", summary: "run the whole cloud in this process, and deploy the project in a folder to it on every save",
		maxArgs: 1,
		prepare: func(fs *flag.FlagSet) func(*invocation) error {
			var d devRun
			fs.StringVar(&d.data, "data", "", "where the cloud keeps its state (default: a folder of your cache directory, one for each project)")
			fs.StringVar(&d.http, "http", "127.0.0.1:8080", "where the cloud serves its users")
			fs.StringVar(&d.api, "api", "", "where the node's API and git listen (default: a free port, the same at the next start)")
			fs.BoolVar(&d.quiet, "quiet", false, "show failures alone")
			level := logFlag(fs, "error")
			return func(inv *invocation) error {
				d.invocation = inv
				if len(inv.args) == 1 {
					d.dir = inv.args[0]
				}
				var err error
				if d.log, err = logger(inv.err, *level); err != nil {
					return err
				}
				return d.run()
			}
		},
	}
}

// devRun is one run of the command.
type devRun struct {
	*invocation
	dir, data, http, api string
	quiet                bool
	log                  *slog.Logger

	project *cloud.Project
	out     sync.Mutex     // one line at a time
	said    taubyte.Commit // the commit whose job deploy tells of
}

func (d *devRun) run() error {
	if d.dir != "" {
		if _, err := cloud.CheckProject(d.dir); err != nil {
			return err
		}
		if err := checkTools(d.dir); err != nil {
			return err
		}
	}
	if d.data == "" {
		var err error
		if d.data, err = dataDir(d.dir); err != nil {
			return err
		}
	}
	began := time.Now()
	node, err := cloud.Open(d.ctx, d.data, cloud.WithDevelopment(), cloud.WithHTTP(d.http), cloud.WithAPI(d.api), cloud.WithLogger(d.log))
	if err != nil {
		return err
	}
	d.printf("the cloud is up after %s", round(time.Since(began)))
	if why := node.Unconfined(); why != "" {
		d.printf("builds are plain processes with your rights: %s", why)
	}
	err = d.serve(node)
	return errors.Join(err, node.Close())
}

func (d *devRun) serve(node *cloud.Node) (err error) {
	if d.dir == "" {
		if err := d.announce(node, "", nil); err != nil {
			return err
		}
		<-d.ctx.Done()
		return nil
	}
	if d.project, err = node.Project(d.ctx, d.dir); err != nil {
		return err
	}
	result, err := d.deploy()
	if err != nil && !isBuildError(err) {
		return err
	}
	// A first build that fails is not the end: the next save may mend it.
	if err := d.announce(node, d.project.Remote(), result.Routes); err != nil {
		return err
	}
	var watching sync.WaitGroup
	defer watching.Wait()
	ctx, cancel := context.WithCancel(d.ctx)
	defer cancel()
	watching.Go(func() { d.followPushes(ctx, node) })
	return d.project.Watch(ctx, func() {
		if _, err := d.deploy(); err != nil && d.ctx.Err() == nil {
			d.complain(err)
		}
	})
}

func isBuildError(err error) bool {
	var build *cloud.BuildError
	return errors.As(err, &build)
}

// deploy pushes the folder and follows what comes of it. What is wrong with a build
// is told here; other errors are returned.
func (d *devRun) deploy() (cloud.Result, error) {
	began := time.Now()
	result, err := d.project.Deploy(d.ctx, d.progress())
	switch {
	case isBuildError(err):
		d.complain(err)
		d.complain(errors.New("what was served before goes on being served"))
	case err == nil && result.Job.ID != "":
		d.printf("deployed %s after %s", short(result.Commit), round(time.Since(began)))
	}
	return result, err
}

// followPushes tells of deployments that came by git push.
func (d *devRun) followPushes(ctx context.Context, node *cloud.Node) {
	jobs, err := node.Patrick.Watch(ctx)
	if err != nil {
		return
	}
	for j := range jobs {
		d.out.Lock()
		ours := j.Commit == d.said
		d.out.Unlock()
		if ours || !j.State.Done() {
			continue
		}
		if j.State == patrick.Succeeded {
			d.printf("deployed %s of branch %s, job %s", short(j.Commit), j.Branch, j.ID)
		} else if j.State != patrick.Superseded {
			d.complain(&cloud.BuildError{Job: j})
		}
	}
}

// progress shows a build to a person.
func (d *devRun) progress() *cloud.Progress {
	return &cloud.Progress{
		Log: func(line string) { d.printf("  %s", line) },
		Job: func(j patrick.Job) {
			d.out.Lock()
			d.said = j.Commit // followPushes leaves it to deploy
			d.out.Unlock()
			if j.State == patrick.Queued && j.Error != "" {
				d.printf("  the build waits: %s", j.Error)
			}
			if !j.State.Done() {
				return
			}
			for _, s := range j.Steps {
				cached := ""
				if s.Cached {
					cached = " (cached)"
				}
				d.printf("  %-24s %8s%s", s.Name, round(s.Duration), cached)
			}
		},
	}
}

// announce says, once, where everything is.
func (d *devRun) announce(node *cloud.Node, remote string, routes []cloud.Route) error {
	d.out.Lock()
	defer d.out.Unlock()
	if routes == nil {
		routes = []cloud.Route{}
	}
	url := node.URL()
	if len(routes) > 0 {
		url = routes[0].URL
		if i := strings.Index(url[len("http://"):], "/"); i >= 0 {
			url = url[:len("http://")+i]
		}
	}
	if d.asJSON {
		return d.json(map[string]any{"url": url, "git": remote, "api": node.API(), "routes": routes})
	}
	var b strings.Builder
	for _, r := range routes {
		fmt.Fprintf(&b, "%-9s %-16s %-6s %s\n", r.Kind, r.Name, r.Method, r.URL)
	}
	if remote != "" {
		fmt.Fprintf(&b, "git push  %s main\n", remote)
	}
	fmt.Fprintf(&b, "API       %s (its token is in %s)\n", node.API(), filepath.Join(d.data, "token"))
	if d.dir != "" && !d.quiet {
		fmt.Fprintf(&b, "watching  %s; Ctrl-C ends it\n", d.dir)
	}
	_, err := io.WriteString(d.invocation.out, b.String())
	return err
}

func (d *devRun) printf(format string, args ...any) {
	if d.quiet {
		return
	}
	d.out.Lock()
	defer d.out.Unlock()
	fmt.Fprintf(d.err, format+"\n", args...)
}

func (d *devRun) complain(err error) {
	d.out.Lock()
	defer d.out.Unlock()
	fmt.Fprintf(d.err, "taubyte dev: %v\n", err)
}

func round(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(time.Millisecond)
}

func short(c taubyte.Commit) string {
	if len(c) > 10 {
		return string(c[:10])
	}
	return string(c)
}

// checkTools says what has to be installed before anything is begun.
func checkTools(dir string) error {
	if _, err := exec.LookPath("git"); err != nil {
		return fmt.Errorf("%w: git is not installed, or not in PATH: install git", taubyte.ErrUnavailable)
	}
	goFiles, _ := filepath.Glob(filepath.Join(dir, "code", "functions", "*", "*.go"))
	if len(goFiles) == 0 {
		return nil
	}
	if _, err := exec.LookPath("go"); err != nil {
		return fmt.Errorf("%w: %s is written in Go, and go is not installed, or not in PATH: install Go 1.24 or later (https://go.dev/dl)", taubyte.ErrUnavailable, goFiles[0])
	}
	return nil
}

// devRoot is the folder of the state of development clouds.
func devRoot() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no folder for the state (%w): choose one with --data", err)
	}
	return filepath.Join(cache, "taubyte", "dev"), nil
}

// dataDir is where the cloud of a project keeps its state.
func dataDir(dir string) (string, error) {
	root, err := devRoot()
	if err != nil {
		return "", err
	}
	if dir == "" {
		return filepath.Join(root, "default"), nil
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(abs))
	name := strings.Map(func(r rune) rune {
		if slices.Contains([]rune("-_."), r) || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, filepath.Base(abs))
	return filepath.Join(root, name+"-"+hex.EncodeToString(sum[:4])), nil
}
