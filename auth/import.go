package auth

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

// An Import asks for a project that exists at a provider.
type Import struct {
	// Provider and Repository name the repository that holds the configuration, by its id
	// there or by its full name: one with config.yaml at its root, or one with everything
	// in it and the configuration in config/.
	Provider   string `json:"provider"`
	Repository string `json:"repository"`
	// Code is the repository of the functions, by id or name, where the configuration has
	// one to itself. Without it it is looked for beside the configuration's, by tau's
	// rule for names: tb_code_<project> beside tb_<project>.
	Code string `json:"code,omitempty"`
	// Credential is the caller's own token at the provider. Without one it is the
	// provider's.
	Credential string `json:"credential,omitempty"`
}

// Imported is a project and its repositories.
type Imported struct {
	Project      Project      `json:"project"`
	Repositories []Repository `json:"repositories"`
}

// ImportProject makes the project that a repository configures known, with all of its
// repositories: that of the configuration, of the code, and those that its websites and
// libraries name. The credential must administer each at the provider. It is all or
// nothing; the same again adds what is new.
//
// For the administrator, nodes of role auth, and users that may administer the project
// and bring a credential of their own.
// ErrInvalid: there is no configuration, or it has faults. ErrForbidden: a repository
// is not administered. ErrConflict: one is another project's, or the project has another
// configuration.
func (s *Service) ImportProject(ctx context.Context, in Import) (Imported, error) {
	first := Addition{Provider: in.Provider, Repository: in.Repository, Credential: in.Credential}
	found, remote, _, err := s.administered(ctx, first)
	if err != nil {
		return Imported{}, err
	}
	p, kind, err := s.configuration(ctx, in.Provider, found, remote)
	if err != nil {
		return Imported{}, fmt.Errorf("importing %s: %w", found.Name, err)
	}
	if err := taubyte.Allow(ctx, taubyte.VerbAdminister, p.ID, taubyte.RoleAuth); err != nil {
		return Imported{}, err
	}
	first.Repository, first.Kind = found.ID, kind
	additions := []Addition{first}
	if kind == KindConfig {
		code := first
		code.Kind, code.Repository = KindCode, in.Code
		if code.Repository == "" {
			owner, name, _ := strings.Cut(found.Name, "/")
			code.Repository = owner + "/tb_code_" + strings.TrimPrefix(name, "tb_")
		}
		additions = append(additions, code)
	}
	for _, o := range origins(p) {
		o.Credential = in.Credential
		if o.Provider != in.Provider {
			o.Credential = ""
		}
		if !slices.ContainsFunc(additions, func(a Addition) bool { return a.Provider == o.Provider && a.Repository == o.Repository }) {
			additions = append(additions, o)
		}
	}

	// All are looked up before one is changed.
	type checked struct {
		Addition
		found  RemoteRepository
		remote Remote
		p      RepositoryProvider
		id     taubyte.RepositoryID
		there  bool
	}
	var all []checked
	for _, a := range additions {
		a.Project = p.ID
		found, remote, rp, err := s.administered(ctx, a)
		if errors.Is(err, taubyte.ErrNotFound) && a.Kind == KindCode && in.Code == "" {
			return Imported{}, fmt.Errorf("%w: there is no repository %s for the code: name the one that is it", taubyte.ErrNotFound, a.Repository)
		}
		if err != nil {
			return Imported{}, fmt.Errorf("importing %s: its repository of kind %s: %w", found.Name, a.Kind, err)
		}
		c := checked{a, found, remote, rp, NewRepositoryID(a.Provider, found.ID), false}
		have, err := s.Repository(taubyte.AsService(ctx), c.id)
		switch {
		case err == nil && have.Project != p.ID:
			return Imported{}, fmt.Errorf("%w: repository %s belongs to project %s", taubyte.ErrConflict, found.Name, have.Project)
		case err != nil && !errors.Is(err, taubyte.ErrNotFound):
			return Imported{}, err
		}
		c.there = err == nil
		all = append(all, c)
	}
	have, err := s.Repositories(taubyte.AsService(ctx), p.ID)
	if err != nil {
		return Imported{}, err
	}
	for _, r := range have {
		if (r.Kind == KindConfig || r.Kind == KindProject) && r.ID != all[0].id {
			return Imported{}, fmt.Errorf("%w: project %s has its configuration in %s", taubyte.ErrConflict, p.ID, r.Name)
		}
	}
	out := Imported{Project: Project{ID: p.ID, Name: p.Name}}
	_, err = s.Project(taubyte.AsService(ctx), p.ID)
	known := err == nil
	if !known {
		if out.Project, err = s.CreateProject(ctx, out.Project); err != nil {
			return Imported{}, err
		}
	}
	for i, c := range all {
		r, err := s.connect(ctx, c.Addition, c.found, c.remote, c.p)
		if err == nil {
			out.Repositories = append(out.Repositories, r)
			continue
		}
		undo := context.WithoutCancel(ctx)
		for _, c := range all[:i+1] {
			if !c.there {
				if uerr := s.RemoveRepository(undo, c.id, in.Credential); uerr != nil && !errors.Is(uerr, taubyte.ErrNotFound) {
					err = errors.Join(err, uerr)
				}
			}
		}
		if !known {
			err = errors.Join(err, s.RemoveProject(undo, p.ID))
		}
		return Imported{}, fmt.Errorf("importing %s: %w", c.found.Name, err)
	}
	s.log.Info("project imported", "project", p.ID, "repositories", len(out.Repositories))
	return out, nil
}

// origins are the repositories that websites and libraries name.
func origins(p *config.Project) (all []Addition) {
	add := func(r config.Resources) {
		for _, w := range r.Websites {
			if w.Provider != "" {
				all = append(all, Addition{Provider: w.Provider, Repository: w.RepositoryID, Kind: KindWebsite})
			}
		}
		for _, l := range r.Libraries {
			if l.Provider != "" {
				all = append(all, Addition{Provider: l.Provider, Repository: l.RepositoryID, Kind: KindLibrary})
			}
		}
	}
	add(p.Resources)
	for _, a := range p.Applications {
		add(a.Resources)
	}
	return all
}

// configuration reads the one that a repository holds on its default branch.
func (s *Service) configuration(ctx context.Context, provider string, found RemoteRepository, remote Remote) (*config.Project, Kind, error) {
	from := s.providers[provider]
	heads, err := from.Heads(ctx, remote)
	if err != nil {
		return nil, "", err
	}
	commit, ok := heads[found.DefaultBranch]
	if !ok {
		return nil, "", fmt.Errorf("%w: it has no branch %q: nothing was pushed to it", taubyte.ErrInvalid, found.DefaultBranch)
	}
	dir, err := os.MkdirTemp("", "taubyte-import-*")
	if err != nil {
		return nil, "", err
	}
	defer os.RemoveAll(dir)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, "", err
	}
	defer root.Close()
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.CloseWithError(from.Source(ctx, remote, commit, w))
	}()
	err = unpackYAML(r, root)
	_ = r.Close()
	<-done
	if err != nil {
		return nil, "", err
	}
	kind, at := KindConfig, root.FS()
	if _, err := fs.Stat(at, "config.yaml"); err != nil {
		kind = KindProject
		if at, err = fs.Sub(at, "config"); err != nil {
			return nil, "", err
		}
		if _, err := fs.Stat(at, "config.yaml"); err != nil {
			return nil, "", fmt.Errorf("%w: it is no repository of a configuration: it has neither config.yaml nor config/config.yaml", taubyte.ErrInvalid)
		}
	}
	p, faults := config.Compile(at)
	if faults.HasErrors() {
		return nil, "", fmt.Errorf("%w configuration:\n%s", taubyte.ErrInvalid, faults)
	}
	return p, kind, nil
}

// Limits of what is read of a configuration.
const (
	maxConfigFile  = 1 << 20
	maxConfigFiles = 10_000
	maxConfigDepth = 8
)

// unpackYAML writes the YAML files of a tar stream to a folder, and nothing else.
func unpackYAML(r io.Reader, root *os.Root) error {
	count := 0
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the configuration: %w", err)
		}
		name := path.Clean(h.Name)
		if h.Typeflag != tar.TypeReg || !strings.HasSuffix(name, ".yaml") && !strings.HasSuffix(name, ".yml") ||
			strings.Count(name, "/") > maxConfigDepth || !fs.ValidPath(name) {
			continue
		}
		if count++; count > maxConfigFiles || h.Size > maxConfigFile {
			return fmt.Errorf("%w: the configuration has more than %d files, or one of more than %d bytes", taubyte.ErrTooLarge, maxConfigFiles, maxConfigFile)
		}
		text, err := io.ReadAll(in)
		if err != nil {
			return fmt.Errorf("reading the configuration: %w", err)
		}
		if err := root.MkdirAll(path.Dir(name), 0o700); err != nil {
			return err
		}
		if err := root.WriteFile(name, text, 0o600); err != nil {
			return err
		}
	}
}

// Deployments is what a project has deployed: tns.
type Deployments interface {
	Find(ctx context.Context, what string) ([]tns.Summary, error)
	// RemoveProject takes all of a project off the air, and lets no job publish that was
	// made before.
	RemoveProject(ctx context.Context, project taubyte.ProjectID) error
}

// DeleteProject deletes a project: its repositories are let go with their deploy keys and
// webhooks, everything that it served stops, and what is being built of it is not published. The repositories stay as they are. What
// is deleted only in part when it fails is deleted by the next call.
//
// For the administrator, nodes of role auth, and users that may administer the project.
// ErrUnavailable: a provider or tns does not answer.
func (s *Service) DeleteProject(ctx context.Context, id taubyte.ProjectID, credential string) error {
	if err := taubyte.Allow(ctx, taubyte.VerbAdminister, id, taubyte.RoleAuth); err != nil {
		return err
	}
	own := taubyte.AsService(ctx)
	_, err := s.Project(own, id)
	if err != nil && !errors.Is(err, taubyte.ErrNotFound) {
		return err
	}
	known := err == nil
	repos, err := s.Repositories(own, id)
	if err != nil {
		return err
	}
	// First what would deploy again.
	for _, r := range repos {
		if err := s.RemoveRepository(ctx, r.ID, credential); err != nil {
			return err
		}
	}
	deployed, err := s.deployments.Find(own, string(id))
	if err != nil {
		return err
	}
	for _, p := range deployed {
		if p.Project != id {
			continue
		}
		known = true
	}
	if !known {
		return fmt.Errorf("%w: project %s", taubyte.ErrNotFound, id)
	}
	// Also where nothing is deployed yet: its first build may be under way.
	if err := s.deployments.RemoveProject(own, id); err != nil {
		return fmt.Errorf("taking project %s off the air: %w", id, err)
	}
	s.log.Info("project deleted", "project", id)
	return s.RemoveProject(own, id)
}
