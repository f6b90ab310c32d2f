package monkey

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/tns/config"
)

// A layout is where the parts of a project are in one repository.
type layout struct {
	config, code string
	// beside: it holds clones of tau's repositories side by side, in folders named tb_…
	beside bool
}

// Folders of tau's repositories are named by these, and then by project or resource.
const (
	tauPrefix  = "tb_"
	tauCode    = "tb_code_"
	tauWebsite = "tb_website_"
	tauLibrary = "tb_library_"
)

// layout finds the parts of a project in a repository that has all of them.
func (b *build) layout() layout {
	has := func(dir string) bool {
		info, err := b.src.Stat(path.Join(dir, "config.yaml"))
		return err == nil && info.Mode().IsRegular()
	}
	own := layout{config: "config", code: "code"}
	if has(own.config) {
		return own
	}
	var configs, codes []string
	entries, _ := fs.ReadDir(b.src, ".")
	for _, e := range entries {
		name := e.Name()
		switch {
		case !e.IsDir() || !strings.HasPrefix(name, tauPrefix):
		case strings.HasPrefix(name, tauCode):
			codes = append(codes, name)
		case strings.HasPrefix(name, tauWebsite), strings.HasPrefix(name, tauLibrary):
		case has(name):
			configs = append(configs, name)
		}
	}
	if len(configs) != 1 {
		return own
	}
	l := layout{config: configs[0], code: tauCode + strings.TrimPrefix(configs[0], tauPrefix), beside: true}
	if !slices.Contains(codes, l.code) && len(codes) == 1 {
		l.code = codes[0] // the project was renamed
	}
	return l
}

// ownTargets is all that a project keeps in its one repository. A website or library with a
// repository elsewhere is built from there, once that is connected; until then from the
// folder that stands for it.
func (b *build) ownTargets(c *config.Project, l layout) []target {
	all := codeTargets(c, l.code)
	add := func(kind, group, prefix, app, name, sub string, id taubyte.ResourceID, o config.Origin, precompress bool) {
		if o.Provider != "" && b.connected(o) {
			return
		}
		t := target{kind: kind, name: path.Join(app, name), id: id, precompress: precompress}
		if o.Provider != "" {
			t.origin = &o
		}
		dirs := ownDirs(group, app, name)
		if l.beside {
			if repo := path.Base(o.RepositoryName); o.RepositoryName != "" && fs.ValidPath(repo) && repo != "." {
				t.beside = append(t.beside, repo)
			}
			if !slices.Contains(t.beside, prefix+name) {
				t.beside = append(t.beside, prefix+name)
			}
			dirs = append(slices.Clone(t.beside), dirs...)
		}
		for _, dir := range dirs {
			t.dirs = append(t.dirs, inside(dir, sub))
		}
		all = append(all, t)
	}
	eachScope(c, func(app string, r *config.Resources) {
		for _, w := range r.Websites {
			add("website", "websites", tauWebsite, app, w.Name, "", w.ID, w.Origin, precompressed(w))
		}
		for _, lib := range r.Libraries {
			add("library", "libraries", tauLibrary, app, lib.Name, lib.Path, lib.ID, lib.Origin, false)
		}
	})
	return all
}

// ownDirs: an application's resource may have a folder under the application's name,
// for two of one name.
func ownDirs(group, app, name string) []string {
	if app == "" {
		return []string{path.Join(group, name)}
	}
	return []string{path.Join(app, group, name), path.Join(group, name)}
}

// inside appends a path from a configuration, which may begin with a slash, and may
// not lead out.
func inside(dir, sub string) string { return path.Join(dir, path.Clean("/"+sub)) }

// connected reports whether the repository that a website or library names is one of the
// project's that this network follows: what is pushed there is built from there.
func (b *build) connected(o config.Origin) bool {
	id := auth.NewRepositoryID(o.Provider, o.RepositoryID)
	return id != b.job.Repository && slices.Contains(b.repositories, id)
}

// sources refuses a configuration, in a repository of its own, that names a repository which
// can't become the source of its website or library: it is at a provider that is not the
// configuration's, and not connected. One that only has yet to be connected is noted.
func (b *build) sources(c *config.Project) (err error) {
	provider, _, _ := strings.Cut(string(b.job.Repository), "/")
	check := func(kind, app, name string, o config.Origin) {
		if o.Provider == "" || b.repositories == nil || b.connected(o) || err != nil {
			return
		}
		t := target{kind: kind, name: path.Join(app, name), origin: &o}
		if o.Provider != provider {
			err = fmt.Errorf("%s: %w", t, t.nowhere())
			return
		}
		b.log.printf("note: %s: %s is not connected: nothing is served of it until it is", t, nameOf(o))
	}
	eachScope(c, func(app string, r *config.Resources) {
		for _, w := range r.Websites {
			check("website", app, w.Name, w.Origin)
		}
		for _, l := range r.Libraries {
			check("library", app, l.Name, l.Origin)
		}
	})
	return err
}

// nameOf is a repository elsewhere for people.
func nameOf(o config.Origin) string {
	name := o.RepositoryName
	if name == "" {
		name = o.RepositoryID
	}
	return fmt.Sprintf("the repository %s at %s", name, o.Provider)
}

// nowhere is why a target without a folder can't be built.
func (t target) nowhere() error {
	if t.origin == nil {
		return fmt.Errorf("%w: the configuration names it, and there is no folder %s", taubyte.ErrInvalid, t.dirs[len(t.dirs)-1])
	}
	o := *t.origin
	hint := ""
	if len(t.dirs) > 0 {
		hint = fmt.Sprintf("; there is no folder %s to build it from either", strings.Join(t.dirs, " or "))
	}
	return fmt.Errorf("%w: its source is %s, which is not connected to this network (taubyte repo add %s/%s)%s", taubyte.ErrInvalid, nameOf(o), o.Provider, o.RepositoryID, hint)
}

// isAlone reports whether a folder of the source is a clone of a repository.
func (t target) isAlone(dir string) bool { return slices.Contains(t.beside, dir) }
