package monkey

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/internal/siterules"
	"github.com/taubyte/taubyte/internal/unixfs"
	"github.com/taubyte/taubyte/patrick"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

// A target is one resource that a repository builds.
type target struct {
	kind   string // "function", "smartop", "library", "website"
	name   string
	id     taubyte.ResourceID
	dirs   []string // where its source may be; the first that is there counts
	beside []string // those of dirs that are clones of repositories
	// origin is the repository that it is built from by rights, which is not connected.
	origin *config.Origin
	call   string // the function that the module has to export
	// precompress: encodings are made of a website's files.
	precompress bool
}

func (t target) String() string { return t.kind + " " + t.name }

// A product is what a repository's build gives.
type product struct {
	config *config.Project
	assets map[taubyte.ResourceID]cid.Cid
	kinds  map[taubyte.ResourceID]string
	// encodings are those of websites that have any.
	encodings map[taubyte.ResourceID]cid.Cid
}

// A build is the work on one job: everything below one folder, which is gone
// afterwards.
type build struct {
	s    *Service
	held *held
	job  patrick.Job
	// labels are what the worker has stated to get the job.
	labels []string
	dir    string   // holds src, and a folder for each target
	root   *os.Root // of dir
	src    tree     // in dir
	log    *jobLog

	lacks []lack // of the source
	// repositories are those of the project, nil where they are not known.
	repositories []taubyte.RepositoryID

	whole struct { // of the source
		sync.Once
		digest string
		err    error
	}

	mu    sync.Mutex
	steps []patrick.Step
}

// step runs do and notes how long it took.
func (b *build) step(name string, do func() (cached bool, err error)) error {
	start := time.Now()
	cached, err := do()
	took := time.Since(start)
	b.mu.Lock()
	b.steps = append(b.steps, patrick.Step{Name: name, Duration: took, Cached: cached})
	b.mu.Unlock()
	how := "done"
	switch {
	case err != nil:
		how = "failed"
	case cached:
		how = "unchanged"
	}
	b.log.stepf(name, "%s (%s)", how, took.Round(time.Millisecond))
	return err
}

// errConfig: the log has the faults.
var errConfig = fmt.Errorf("%w configuration", taubyte.ErrInvalid)

// run builds what the repository holds.
func (b *build) run(ctx context.Context, kind auth.Kind) (p product, err error) {
	switch kind {
	case auth.KindProject:
		l := b.layout()
		if p.config, err = b.compile(l.config); err == nil {
			err = b.targets(ctx, &p, b.ownTargets(p.config, l))
		}
	case auth.KindConfig:
		where := "."
		if _, err := b.src.Stat("config.yaml"); err != nil {
			where = "config"
		}
		if p.config, err = b.compile(where); err == nil {
			err = b.sources(p.config)
		}
	case auth.KindCode:
		var c *config.Project
		if c, err = b.current(ctx); err == nil {
			err = b.targets(ctx, &p, codeTargets(c, "."))
		}
	case auth.KindWebsite, auth.KindLibrary:
		var c *config.Project
		if c, err = b.current(ctx); err != nil {
			break
		}
		targets := originTargets(c, b.job.Repository)
		if len(targets) == 0 {
			err = fmt.Errorf("%w: no website and no library of the configuration names the repository %s as its source", taubyte.ErrInvalid, b.job.Repository)
			break
		}
		err = b.targets(ctx, &p, targets)
	default:
		err = fmt.Errorf("%w repository: of kind %q", taubyte.ErrInvalid, kind)
	}
	return p, err
}

func (b *build) compile(folder string) (c *config.Project, err error) {
	err = b.step("configuration", func() (bool, error) {
		if _, err := b.src.Stat(path.Join(folder, "config.yaml")); err != nil {
			return false, fmt.Errorf("%w: no %s in this repository: is it a project?", errConfig, path.Join(folder, "config.yaml"))
		}
		var faults config.Diagnostics
		c, faults = config.Compile(b.src.sub(folder))
		n := 0
		for _, f := range faults {
			if f.Severity == config.Error {
				n++
			}
			f.File = path.Join(folder, f.File)
			b.log.stepf("configuration", "%s", f)
		}
		switch {
		case n == 1:
			for _, f := range faults {
				if f.Severity == config.Error {
					f.File = path.Join(folder, f.File)
					return false, fmt.Errorf("%w: %s", errConfig, f)
				}
			}
		case n > 1:
			return false, fmt.Errorf("%w: %d errors, see the log", errConfig, n)
		}
		if c.ID != b.job.Project {
			return false, fmt.Errorf("%w: %s has the id %s, and the repository belongs to the project %s",
				errConfig, path.Join(folder, "config.yaml"), c.ID, b.job.Project)
		}
		return false, nil
	})
	return c, err
}

// errUnconfigured: what the job builds is in no configuration yet. That of another
// repository may be under way.
var errUnconfigured = errors.New("there is no configuration yet")

// current is the configuration that the branch runs with.
func (b *build) current(ctx context.Context) (*config.Project, error) {
	var d *tns.Deployment
	err := persist(ctx, b.s.o.serviceTimeout, func(ctx context.Context) (err error) {
		d, err = b.s.o.tns.Current(ctx, b.job.Project, b.job.Branch)
		return err
	})
	if err != nil && !errors.Is(err, taubyte.ErrNotFound) {
		return nil, ofService(fmt.Errorf("reading the configuration of branch %s: %w", b.job.Branch, err))
	}
	if err != nil || d.Config() == nil {
		return nil, ours(fmt.Errorf("%w: branch %s: push the configuration's repository on this branch, this job goes on by itself then", errUnconfigured, b.job.Branch))
	}
	return d.Config(), nil
}

// eachScope calls do for the project's global resources, then for each application's.
func eachScope(c *config.Project, do func(app string, r *config.Resources)) {
	do("", &c.Resources)
	for i := range c.Applications {
		do(c.Applications[i].Name, &c.Applications[i].Resources)
	}
}

// codeTargets are the functions and smart operations with code of their own.
func codeTargets(c *config.Project, root string) (all []target) {
	eachScope(c, func(app string, r *config.Resources) {
		for _, f := range r.Functions {
			if f.Source == "." {
				all = append(all, target{kind: "function", name: path.Join(app, f.Name), id: f.ID, call: f.Call,
					dirs: []string{path.Join(root, app, "functions", f.Name)}})
			}
		}
		for _, o := range r.SmartOps {
			if o.Source == "." {
				all = append(all, target{kind: "smartop", name: path.Join(app, o.Name), id: o.ID, call: o.Call,
					dirs: []string{path.Join(root, app, "smartops", o.Name)}})
			}
		}
	})
	return all
}

// precompressed reports whether encodings are made of a website's files.
func precompressed(w config.Website) bool { return w.Precompress == nil || *w.Precompress }

// originTargets are the websites and libraries that are built from a repository.
func originTargets(c *config.Project, repo taubyte.RepositoryID) (all []target) {
	from := func(o config.Origin) bool {
		return o.Provider != "" && taubyte.RepositoryID(o.Provider+"/"+o.RepositoryID) == repo
	}
	eachScope(c, func(app string, r *config.Resources) {
		for _, w := range r.Websites {
			if from(w.Origin) {
				all = append(all, target{kind: "website", name: path.Join(app, w.Name), id: w.ID, dirs: []string{"."}, precompress: precompressed(w)})
			}
		}
		for _, l := range r.Libraries {
			if from(l.Origin) {
				all = append(all, target{kind: "library", name: path.Join(app, l.Name), id: l.ID, dirs: []string{inside(".", l.Path)}})
			}
		}
	})
	return all
}

// targets builds all, as many at a time as there are CPUs to spare. Each is tried,
// so that all failures are told at once.
func (b *build) targets(ctx context.Context, p *product, all []target) error {
	p.assets = map[taubyte.ResourceID]cid.Cid{}
	p.encodings = map[taubyte.ResourceID]cid.Cid{}
	p.kinds = map[taubyte.ResourceID]string{}
	if err := b.suits(all); err != nil {
		return err
	}
	errs := make([]error, len(all))
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i, t := range all {
		wg.Go(func() {
			select {
			case b.s.cpus <- struct{}{}:
				defer func() { <-b.s.cpus }()
			case <-ctx.Done():
				errs[i] = context.Cause(ctx)
				return
			}
			errs[i] = b.step(t.String(), func() (bool, error) {
				made, cached, err := b.target(ctx, i, t)
				if err != nil {
					return false, fmt.Errorf("%s: %w", t, err)
				}
				mu.Lock()
				defer mu.Unlock()
				p.assets[t.id], p.kinds[t.id] = made.root, t.kind
				if made.encodings.Defined() {
					p.encodings[t.id] = made.encodings
				}
				return cached, nil
			})
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// What fails by itself would do so again: that counts more than what another
	// worker could build.
	own := slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return err == nil || isOutage(err) })
	if len(own) > 0 {
		return errors.Join(own...)
	}
	return errors.Join(errs...)
}

// digest is that of the whole source, which no build writes to.
func (b *build) digest(ctx context.Context) (string, error) {
	b.whole.Do(func() {
		h := sha256.New()
		b.whole.err = hashTree(ctx, h, b.src, ".")
		b.whole.digest = hex.EncodeToString(h.Sum(nil))
	})
	return b.whole.digest, b.whole.err
}

// folder is where a target's source is, "" where it has none.
func (b *build) folder(t target) string {
	for _, d := range t.dirs {
		if info, err := b.src.Stat(d); err == nil && info.IsDir() {
			return d
		}
	}
	return ""
}

// lacking is why a target can't be built from what there is: a name that can't be kept,
// or, in a website that is taken as it is, a file that would be served without content.
func (b *build) lacking(t target, dir string, w *workflow) error {
	for _, l := range b.lacks {
		if l.below(dir) && (l.name || w == nil && t.kind == "website") {
			return fmt.Errorf("%w: %s", taubyte.ErrInvalid, l)
		}
	}
	return nil
}

// target builds one, or finds that it was built before.
func (b *build) target(ctx context.Context, n int, t target) (made artefact, cached bool, err error) {
	dir := b.folder(t)
	if dir == "" {
		return made, false, t.nowhere()
	}
	p, err := b.plan(ctx, t, dir)
	if err != nil {
		return made, false, err
	}
	given, err := b.given(ctx, t, p.w)
	if err != nil {
		return made, false, err
	}
	defer func() { err = hidden(err, given.mask) }()
	key, err := b.cacheKey(ctx, t, p, given)
	if err != nil {
		return made, false, err
	}
	if made, ok := b.s.cache.get(ctx, key); ok {
		return made, true, nil
	}
	out, err := b.make(ctx, n, t, p, given)
	if err != nil {
		return made, false, err
	}
	defer out.root.Close()
	if t.kind == "website" {
		made, err = b.addSite(ctx, n, out, t)
	} else {
		made.root, err = b.addModule(ctx, out, t)
	}
	if err == nil {
		err = ours(b.s.cache.put(ctx, key, made))
	}
	return made, false, err
}

// make runs a target's build, and opens what has come of it.
func (b *build) make(ctx context.Context, n int, t target, p plan, given given) (tree, error) {
	if p.k == nil && p.builder == nil {
		return b.opened(b.src.root, p.dir) // it is taken as it is
	}
	w, err := b.workshop(ctx, n, p)
	if err != nil {
		return tree{}, err
	}
	defer w.close()
	if err := muteTelemetry(w.tmp); err != nil {
		return tree{}, ours(err)
	}
	spec := b.spec(w, p)
	lines := b.log.of(t.String(), given.mask)
	defer lines.Close()
	spec.Log = lines
	switch {
	case p.builder != nil:
		err = b.runDockerfile(ctx, spec, w, p)
	case p.w != nil:
		spec.Dockerfile = p.docker
		err = b.s.runWorkflow(ctx, spec, p.dir, w.src, w.tmp, w.utils, p.w, given, p.k)
	case p.golang:
		err = b.s.buildGo(ctx, spec, "${SRC}", w.src, w.tmp, p.k)
	default:
		err = b.s.runScript(ctx, spec, w, p)
	}
	var over *LimitError
	if errors.As(err, &over) {
		err = errors.Join(err, ours(b.s.dropCache(string(b.job.Project)))) // which may be what is too large
	}
	if err != nil {
		return tree{}, err
	}
	if p.site != nil {
		return b.site(w, p)
	}
	return b.output(path.Join(w.name, "out"))
}

// output opens a folder with the result of commands that have ended. One that a command
// has put a link in the place of is none.
func (b *build) output(name string) (tree, error) {
	info, err := b.root.Lstat(name)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%w: its folder was replaced by something else", taubyte.ErrInvalid)
	}
	if err != nil {
		return tree{}, fmt.Errorf("reading the output: %w", err)
	}
	return b.opened(b.root, name)
}

func (b *build) opened(in *os.Root, name string) (tree, error) {
	root, err := in.OpenRoot(name)
	if err != nil {
		return tree{}, fmt.Errorf("reading the output: %w", err)
	}
	return tree{root: root, dir: "."}, nil
}

func (b *build) addSite(ctx context.Context, n int, out tree, t target) (made artefact, err error) {
	site := linked{out}
	var size int64
	files := 0
	all := map[string]int64{} // with sizes, those of folders -1
	err = fs.WalkDir(site, ".", bounded(ctx, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		all[name] = -1
		if !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files++
		all[name] = info.Size()
		if size += info.Size(); size > b.s.o.outputLimit {
			return fmt.Errorf("the output: %w: more than %d bytes", taubyte.ErrTooLarge, b.s.o.outputLimit)
		}
		return nil
	}))
	if err == nil && files == 0 {
		err = fmt.Errorf("%w output: it holds no file (a workflow leaves them in the folder $OUT)", taubyte.ErrInvalid)
	}
	if err == nil {
		err = checkRules(out, all)
	}
	if err != nil {
		return made, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var beside sync.WaitGroup
	if t.precompress {
		beside.Go(func() {
			var err error
			if made.encodings, err = b.encodings(ctx, n, out, all); err != nil {
				cancel(err)
			}
		})
	}
	root, err := unixfs.AddFS(ctx, b.s.host.Blocks(), site)
	if err != nil {
		cancel(err)
	}
	beside.Wait()
	if ctx.Err() != nil {
		return made, context.Cause(ctx)
	}
	made.root = root
	return made, nil
}

// checkRules reports what is wrong in a website's files of rules, by line.
func checkRules(out tree, all map[string]int64) error {
	var texts [2][]byte
	for i, name := range []string{siterules.RedirectsFile, siterules.HeadersFile} {
		if size, ok := all[name]; !ok || size < 0 {
			continue
		}
		f, err := out.Open(name)
		if err != nil {
			return fmt.Errorf("reading the output: %w", err)
		}
		texts[i], err = io.ReadAll(io.LimitReader(f, siterules.MaxSize+1))
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("reading the output: %w", err)
		}
	}
	if _, faults := siterules.Parse(texts[0], texts[1]); len(faults) > 0 {
		return fmt.Errorf("%w website: %w", taubyte.ErrInvalid, errors.Join(faults...))
	}
	return nil
}

func (b *build) addModule(ctx context.Context, out tree, t target) (cid.Cid, error) {
	for _, name := range []string{"main.wasm", "artifact.wasm"} {
		info, err := out.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return cid.Undef, fmt.Errorf("reading the output: %w", err)
		}
		if !info.Mode().IsRegular() {
			return cid.Undef, fmt.Errorf("%w output: %s is no regular file", taubyte.ErrInvalid, name)
		}
		if info.Size() > b.s.o.moduleLimit {
			return cid.Undef, fmt.Errorf("%w: the module has %d bytes, and %d are allowed", taubyte.ErrTooLarge, info.Size(), b.s.o.moduleLimit)
		}
		opened, err := out.Open(name)
		if err != nil {
			return cid.Undef, fmt.Errorf("reading the output: %w", err)
		}
		defer opened.Close()
		module, err := io.ReadAll(io.LimitReader(opened, b.s.o.moduleLimit))
		if err != nil {
			return cid.Undef, fmt.Errorf("reading the output: %w", err)
		}
		// It is added while it is looked at, which takes longer: one that is refused is
		// nobody's, and goes with what else nobody keeps.
		checked := make(chan error, 1)
		go func() { checked <- checkModule(module, t.call) }()
		root, err := unixfs.AddFile(ctx, b.s.host.Blocks(), bytes.NewReader(module))
		return root, cmp.Or(<-checked, err)
	}
	return cid.Undef, fmt.Errorf("%w output: there is neither main.wasm nor artifact.wasm in it", taubyte.ErrInvalid)
}

// names lists the first few, for a message.
func names[V any](set map[string]V) string {
	const most = 8
	var list []string
	for name := range set {
		if len(list) == most {
			list = append(list, "…")
			break
		}
		list = append(list, name)
	}
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}
