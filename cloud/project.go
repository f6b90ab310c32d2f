package cloud

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/dev"
	"github.com/taubyte/taubyte/patrick"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

// mainBranch is the branch that a folder is deployed to.
const mainBranch taubyte.Branch = "main"

// A Project is a folder of this machine that is deployed to the node. It holds a
// project's configuration in config/, code in code/ and websites in websites/.
type Project struct {
	node   *Node
	dir    string
	name   string // of its repository
	folder *dev.Folder
	repo   taubyte.RepositoryID
	id     taubyte.ProjectID
}

// Progress is told what happens in a deployment. Its fields may be nil.
type Progress struct {
	// Job is called with each new state of the job.
	Job func(patrick.Job)
	// Log is called with each line of the job's log.
	Log func(line string)
}

// A Result is what a deployment led to.
type Result struct {
	Commit taubyte.Commit
	// Job is the job that built it; its ID is empty where nothing had to be done.
	Job    patrick.Job
	Routes []Route
}

// A Route is where something of a project is reached.
type Route struct {
	Kind   string `json:"kind"` // "function" or "website"
	Name   string `json:"name"`
	Method string `json:"method,omitempty"`
	URL    string `json:"url"`
}

// A Faults error lists what is wrong with a project's configuration.
type Faults struct {
	Dir         string
	Diagnostics config.Diagnostics
}

func (f *Faults) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the configuration in %s is not valid:", f.Dir)
	for _, d := range f.Diagnostics {
		d.File = filepath.Join(f.Dir, filepath.FromSlash(d.File))
		fmt.Fprintf(&b, "\n  %s", d)
	}
	return b.String()
}

// Is makes errors.Is(err, taubyte.ErrInvalid) hold.
func (f *Faults) Is(target error) bool { return target == taubyte.ErrInvalid }

// configFolder is where a project's folder has its configuration: config, or tau's clone of
// the repository of that, tb_<project>, where the clones lie side by side. The builders
// look for it by the same rule.
func configFolder(dir string) string {
	if _, err := os.Stat(filepath.Join(dir, "config", "config.yaml")); err == nil {
		return "config"
	}
	var found []string
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if project, ok := strings.CutPrefix(e.Name(), "tb_"); !ok || strings.HasPrefix(project, "code_") ||
			strings.HasPrefix(project, "website_") || strings.HasPrefix(project, "library_") {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, e.Name(), "config.yaml")); err == nil {
			found = append(found, e.Name())
		}
	}
	if len(found) == 1 {
		return found[0]
	}
	return "config"
}

// CheckProject reads the configuration of the project in a folder. What is no
// project, or has faults (a *Faults), is ErrInvalid. It needs no node.
func CheckProject(dir string) (*config.Project, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("%w project: %w", taubyte.ErrInvalid, err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%w project: %s is not a folder", taubyte.ErrInvalid, dir)
	}
	root := filepath.Join(dir, configFolder(dir))
	if _, err := os.Stat(filepath.Join(root, "config.yaml")); err != nil {
		return nil, fmt.Errorf("%w project: %s has no config/config.yaml (examples/hello shows what a project looks like)", taubyte.ErrInvalid, dir)
	}
	p, faults := config.Compile(os.DirFS(root))
	if faults.HasErrors() {
		return nil, &Faults{Dir: root, Diagnostics: faults}
	}
	return p, nil
}

// Project registers the project in a folder with the node, which must run auth
// and patrick, and returns what deploys it. Nothing is deployed yet.
func (n *Node) Project(ctx context.Context, dir string) (*Project, error) {
	if n.git == nil {
		return nil, fmt.Errorf("%w: this node serves no git repositories (it needs auth and patrick)", taubyte.ErrUnavailable)
	}
	compiled, err := CheckProject(dir)
	if err != nil {
		return nil, err
	}
	name := compiled.Name
	if name == "" {
		name = string(compiled.ID)
	}
	// A project that was renamed keeps its repository.
	repos, err := n.Auth.Repositories(ctx, compiled.ID)
	if err != nil {
		return nil, err
	}
	for _, r := range repos {
		if r.Kind == auth.KindProject && r.Provider == n.git.Name() {
			name = r.Name
		}
	}
	p := &Project{node: n, dir: dir, name: name, id: compiled.ID}
	if p.repo, err = n.register(ctx, name, compiled.ID); err != nil {
		return nil, err
	}
	state := filepath.Join(n.dir, dirDev, string(compiled.ID))
	if p.folder, err = dev.Open(ctx, dir, state, p.Remote()); err != nil {
		return nil, err
	}
	return p, nil
}

// Remote is the git remote to push to, from any clone.
func (p *Project) Remote() string { return p.node.Remote(p.name) }

// Deploy pushes the folder as it is, follows the job that this leads to, and
// returns when what it built is served by this node (or, where the node runs no
// substrate, published). A build that fails is an error; what was served before
// goes on being served.
func (p *Project) Deploy(ctx context.Context, progress *Progress) (Result, error) {
	if progress == nil {
		progress = &Progress{}
	}
	commit, _, err := p.folder.Push(ctx)
	if err != nil {
		return Result{}, err
	}
	return p.Await(ctx, commit, progress)
}

// Await follows a commit of the branch, pushed by whomever, until it is served or
// has failed.
func (p *Project) Await(ctx context.Context, commit taubyte.Commit, progress *Progress) (Result, error) {
	if progress == nil {
		progress = &Progress{}
	}
	result := Result{Commit: commit}
	current, err := p.node.TNS.Current(ctx, p.id, mainBranch)
	if err != nil && !errors.Is(err, taubyte.ErrNotFound) {
		return result, err
	}
	if current == nil || current.Parts[p.repo].Commit != commit {
		if result.Job, err = p.follow(ctx, commit, progress); err != nil {
			return result, err
		}
		if current, err = p.node.TNS.Current(ctx, p.id, mainBranch); err != nil {
			return result, err
		}
	}
	if p.node.Substrate != nil {
		if err := p.node.Substrate.Serving(ctx, p.id, mainBranch, current.Sequence); err != nil {
			return result, err
		}
	}
	result.Routes = p.node.routes(current)
	return result, nil
}

// follow waits for the commit's job to end.
func (p *Project) follow(ctx context.Context, commit taubyte.Commit, progress *Progress) (patrick.Job, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes, err := p.node.Patrick.Watch(ctx)
	if err != nil {
		return patrick.Job{}, err
	}
	job, err := p.job(ctx, commit)
	if err != nil {
		return job, err
	}
	logs := newLogFollower(p.node.Patrick, progress.Log)
	defer logs.wait()
	defer cancel()
	for {
		if progress.Job != nil {
			progress.Job(job)
		}
		if job.Attempt > 0 {
			logs.follow(ctx, job)
		}
		switch {
		case job.State == patrick.Succeeded:
			logs.wait()
			return job, nil
		case job.State.Done():
			logs.wait()
			return job, &BuildError{Job: job}
		}
		for next := (patrick.Job{}); next.ID != job.ID; {
			var ok bool
			select {
			case next, ok = <-changes:
				if !ok {
					return job, fmt.Errorf("following job %s: %w", job.ID, taubyte.ErrClosed)
				}
			case <-ctx.Done():
				return job, ctx.Err()
			}
			if next.ID == job.ID {
				job = next
				break
			}
		}
	}
}

// job finds the newest job of a commit, which the push may just be making.
func (p *Project) job(ctx context.Context, commit taubyte.Commit) (patrick.Job, error) {
	for wait := 5 * time.Millisecond; ; wait = min(wait*2, time.Second) {
		page, err := p.node.Patrick.Jobs(ctx, patrick.Filter{Project: p.id, Repository: p.repo, Branch: mainBranch})
		if err != nil {
			return patrick.Job{}, err
		}
		if i := slices.IndexFunc(page.Jobs, func(j patrick.Job) bool { return j.Commit == commit }); i >= 0 {
			return page.Jobs[i], nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return patrick.Job{}, ctx.Err()
		}
	}
}

// A BuildError is a job that ended without success.
type BuildError struct{ Job patrick.Job }

func (e *BuildError) Error() string {
	msg := fmt.Sprintf("job %s %s", e.Job.ID, e.Job.State)
	if e.Job.Error != "" {
		msg += ": " + e.Job.Error
	}
	return msg
}

// Watch calls changed after each save in the folder, until ctx ends.
func (p *Project) Watch(ctx context.Context, changed func()) error {
	return p.folder.Watch(ctx, changed)
}

// routes lists what a deployment serves, as users reach it through this node.
func (n *Node) routes(d *tns.Deployment) []Route {
	c := d.Config()
	if c == nil {
		return nil
	}
	var all []Route
	port := ""
	if n.http != nil {
		if base := n.URL(); strings.LastIndexByte(base, ':') > len("http:") {
			port = base[strings.LastIndexByte(base, ':'):]
		}
	}
	add := func(scope, global config.Resources, domains []taubyte.ResourceID, paths []string, r Route) {
		for _, id := range domains {
			for _, dom := range slices.Concat(scope.Domains, global.Domains) {
				if dom.ID != id {
					continue
				}
				host := dom.FQDN
				if zone := n.opts.zone; n.opts.development && host != zone && !strings.HasSuffix(host, "."+zone) {
					host += "." + zone // as which this machine knows it (tns.WithOpenDomains)
				}
				for _, path := range paths {
					r.URL = "http://" + host + port + (&url.URL{Path: path}).EscapedPath()
					all = append(all, r)
				}
				break
			}
		}
	}
	scope := func(r config.Resources) {
		for _, f := range r.Functions {
			if f.Type == config.TriggerHTTP || f.Type == config.TriggerHTTPS {
				for _, method := range f.AllMethods() {
					add(r, c.Resources, f.Domains, f.Paths, Route{Kind: "function", Name: f.Name, Method: method})
				}
			}
		}
		for _, w := range r.Websites {
			add(r, c.Resources, w.Domains, w.Paths, Route{Kind: "website", Name: w.Name})
		}
	}
	scope(c.Resources)
	for _, a := range c.Applications {
		scope(a.Resources)
	}
	return all
}
