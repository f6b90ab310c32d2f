package monkey

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/taubyte/taubyte"
)

// A plan is how a target is built.
type plan struct {
	dir string
	w   *workflow // what .taubyte/config.yaml says
	k   *kit      // nil for files that are taken as they are
	// script builds a folder without a workflow, other than by Go.
	script string
	site   *manifest // of a website that a package.json builds
	golang bool
	// docker is the Dockerfile of the workflow's image or, with a builder, what the folder is
	// built by.
	docker  *Dockerfile
	builder ImageBuilder
	// wide: the build may read the whole repository, and not its folder alone.
	wide bool
}

// plan finds out how a target is built: by its workflow or, where it has none, by what its
// folder holds.
func (b *build) plan(ctx context.Context, t target, dir string) (p plan, err error) {
	src := b.src.sub(dir)
	p.dir = dir
	if p.w, err = readWorkflow(src); err != nil {
		return p, err
	}
	if err := b.lacking(t, dir, p.w); err != nil {
		return p, err
	}
	if p.w != nil {
		if p.k, err = b.s.kit(ctx, "", p.w.image, false); err != nil {
			return p, err
		}
		// tau's own images see the folder alone, and so does what was a repository of its own.
		p.wide = !p.k.tau && !t.isAlone(dir) && dir != "."
		return p, b.dockerfile(t, &p, src)
	}
	tool := ""
	m, err := readManifest(src)
	if err != nil {
		return p, err
	}
	files := t.kind == "website"
	switch {
	case files && m != nil && m.Scripts["build"] != "":
		tool, p.site = toolNode, m
		p.script = b.s.packageScript(src, m)
	case files:
		if !hasFile(src, "index.html") && hasFile(src, "Dockerfile") {
			return p, b.dockerfile(t, &p, src)
		}
		return p, nil
	case hasGo(src):
		tool, p.golang = toolGo, true
	case hasFile(src, "Cargo.toml"):
		tool, p.script = toolRust, ". \"$UTILS/wasm.sh\"\nbuild\n"
	case hasFile(src, "asconfig.json", "assembly/index.ts") || m != nil && m.has("assemblyscript") || m == nil && hasFile(src, "*.ts"):
		tool, p.script = toolAssemblyScript, ". \"$UTILS/wasm.sh\"\nbuild\n"
		if m != nil && m.packages() && b.s.o.network {
			p.script = strings.Join(packageManager(src).full, " ") + "\n" + p.script
		}
	case m != nil && m.Scripts["build"] != "":
		tool, p.script = toolNode, b.s.packageScript(src, m)
	case hasFile(src, "Dockerfile"):
		return p, b.dockerfile(t, &p, src)
	default:
		return p, fmt.Errorf("%w: nothing to build in %s: neither .taubyte/config.yaml nor Go, Rust, AssemblyScript, a package.json with a script \"build\" or a Dockerfile", taubyte.ErrInvalid, dir)
	}
	if p.k, err = b.s.kit(ctx, tool, standIn[tool], true); err != nil {
		return p, b.lacksTool(tool, err)
	}
	p.wide = !t.isAlone(dir) && dir != "." && (hasLinks(b.src, dir) || p.golang && localModules(b.src, dir) || m != nil && m.beside())
	return p, nil
}

// beside reports whether a package may need folders beside its own.
func (m *manifest) beside() bool {
	for _, deps := range []map[string]string{m.Dependencies, m.DevDependencies, m.OptionalDependencies} {
		for _, version := range deps {
			for _, prefix := range []string{"file:", "link:", "workspace:", "portal:", "."} {
				if strings.HasPrefix(version, prefix) {
					return true
				}
			}
		}
	}
	return false
}

// A workshop is where a target is built: folders that are its own.
type workshop struct {
	name  string // of its folder in the build's
	src   tree   // its copy of the source
	tmp   tree
	utils tree
	roots []*os.Root
}

func (w *workshop) close() {
	for _, r := range w.roots {
		_ = r.Close()
	}
}

// workshop makes the folders of a target, with a copy of what it may read: so no build
// sees what another makes of the source, and each comes to the same wherever and beside
// whatever it runs.
func (b *build) workshop(ctx context.Context, n int, p plan) (w *workshop, err error) {
	w = &workshop{name: fmt.Sprint("target-", n)}
	for _, d := range []string{"out", "tmp", "utils", "repo"} {
		if err := b.root.MkdirAll(path.Join(w.name, d), 0o700); err != nil {
			return nil, ours(fmt.Errorf("making a folder for the build: %w", err))
		}
	}
	if err := b.root.Chmod(path.Join(w.name, "utils"), 0o755); err != nil {
		return nil, ours(fmt.Errorf("making a folder for the build: %w", err))
	}
	w.tmp = tree{root: b.root, dir: path.Join(w.name, "tmp")}
	w.utils = tree{root: b.root, dir: path.Join(w.name, "utils")}
	root, err := b.root.OpenRoot(path.Join(w.name, "repo"))
	if err != nil {
		return nil, ours(fmt.Errorf("making a folder for the build: %w", err))
	}
	w.roots = append(w.roots, root)
	from := b.src
	w.src = tree{root: root, dir: "."}
	if p.wide {
		w.src.dir = p.dir
	} else {
		from = b.src.sub(p.dir)
	}
	if err := copySource(ctx, from, root); err != nil {
		w.close()
		return nil, ours(fmt.Errorf("copying the source for the build: %w", err))
	}
	return w, nil
}

// copySource copies files, folders and links as they are.
func copySource(ctx context.Context, from tree, to *os.Root) error {
	return from.walk(ctx, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		switch {
		case d.IsDir():
			return to.Mkdir(name, 0o700)
		case d.Type()&fs.ModeSymlink != 0:
			link, err := from.ReadLink(name)
			if err != nil {
				return err
			}
			return to.Symlink(link, name)
		case !d.Type().IsRegular():
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return copyFile(from, name, to, name, 0o600|info.Mode()&0o100)
	})
}

// spec is the session of a target's build.
func (b *build) spec(w *workshop, p plan) Spec {
	at := func(name string) string { return filepath.Join(b.dir, w.name, name) }
	spec := Spec{
		Owner: string(b.job.Project), Limits: b.s.o.limits, Network: b.s.o.network,
		Mounts: []Mount{
			{Name: "OUT", Dir: at("out"), Write: true},
			{Name: "TMP", Dir: at("tmp"), Write: true},
		},
	}
	if _, native := b.s.native(); native {
		spec.Mounts = append(spec.Mounts, Mount{Name: "UTILS", Dir: at("utils")})
	} else if p.w == nil && !p.golang && p.k != nil {
		spec.Image = p.k.image()
		spec.Mounts = append(spec.Mounts, Mount{Name: "UTILS", Dir: at("utils"), Place: "/taubyte"})
	}
	source := Mount{Name: "SRC", Dir: at("repo"), Write: true}
	if p.wide {
		// It is at /src, and where paths that lead out of it lead to the rest.
		source.Dir = filepath.Join(source.Dir, filepath.FromSlash(p.dir))
		own := source
		own.Name, own.Place = "", "/src"
		source.Place = "/repo/" + p.dir
		spec.Mounts = append(spec.Mounts, Mount{Name: "REPO", Dir: at("repo"), Write: true}, own)
	}
	spec.Mounts = append(spec.Mounts, source)
	return spec
}

// image is the container image for a build without a file.
func (k *kit) image() string { return standIn[k.Toolchain] }

// runScript builds a folder without a workflow.
func (s *Service) runScript(ctx context.Context, spec Spec, w *workshop, p plan) error {
	if err := w.utils.put("build.sh", "set -e\ncd \"$SRC\"\n"+p.script); err != nil {
		return ours(err)
	}
	env, spec, err := s.prepare(ctx, spec, p.dir, w.src, w.tmp, w.utils, p.k, true)
	if err != nil {
		return err
	}
	session, err := s.o.env.Open(ctx, spec)
	if err != nil {
		return err
	}
	defer session.Close()
	vars, err := env(session)
	if err != nil {
		return err
	}
	log := &notFound{w: spec.Log}
	c := Command{Words: []string{shell, "${UTILS}/build.sh"}, Dir: "${SRC}", Env: append(vars, p.k.env...), Log: log}
	if err := s.failed(session.Exec(ctx, c)); err != nil {
		return fmt.Errorf("it does not build (%w), see the log", log.explain(err, p.k, s.confines()))
	}
	return nil
}

// siteFolders are where tools leave a website, the likeliest first.
var siteFolders = []string{"dist", "build", "out", "_site", "public", ".output/public", "www"}

// site finds what a package.json's build has made of a website: what is in $OUT, or the
// folder with an index.html that tools leave. What was there before the build is one when
// nothing else is.
func (b *build) site(w *workshop, p plan) (tree, error) {
	out, err := b.output(path.Join(w.name, "out"))
	if err != nil {
		return tree{}, err
	}
	if entries, err := fs.ReadDir(out, "."); err == nil && len(entries) > 0 {
		return out, nil
	}
	_ = out.root.Close()
	var made, there []string
	for _, dir := range siteFolders {
		for _, pattern := range []string{dir, dir + "/*", dir + "/*/browser"} { // Angular has its project's name between
			found, _ := fs.Glob(w.src, pattern+"/index.html")
			for _, name := range found {
				at := path.Dir(name)
				if info, err := w.src.Lstat(at); err != nil || !info.IsDir() {
					continue
				}
				if _, err := b.src.sub(p.dir).Lstat(dir); err != nil {
					made = append(made, at)
				} else {
					there = append(there, at)
				}
			}
		}
	}
	for _, at := range slices.Concat(made, there) {
		return b.opened(w.src.root, w.src.at(at))
	}
	return tree{}, fmt.Errorf("%w output: the script \"build\" of package.json has left no index.html in $OUT, nor in %s", taubyte.ErrInvalid, strings.Join(siteFolders, ", "))
}
