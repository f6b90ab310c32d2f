package tns

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/tns/config"
)

// A Summary is a project in a list.
type Summary struct {
	Project  taubyte.ProjectID `json:"project"`
	Name     string            `json:"name"`
	Branches []BranchSummary   `json:"branches"`
}

// A BranchSummary is what a branch runs, in short.
type BranchSummary struct {
	Branch       taubyte.Branch      `json:"branch"`
	Commit       taubyte.Commit      `json:"commit"`
	Sequence     uint64              `json:"sequence"`
	Time         time.Time           `json:"time"`
	Repositories []RepositorySummary `json:"repositories,omitempty"`
	// Conflicts are the host names that the branch claims and does not have.
	Conflicts []Claim `json:"conflicts,omitempty"`
}

// A RepositorySummary is what a repository gave to a branch, or will: one that the
// configuration names is listed before it was built.
type RepositorySummary struct {
	Repository taubyte.RepositoryID `json:"repository"`
	Name       string               `json:"name,omitempty"` // as its provider knows it
	Commit     taubyte.Commit       `json:"commit,omitempty"`
}

// Projects lists the projects that have something deployed, by id: for a user those that
// it may read. Every node may call it.
func (s *Service) Projects(ctx context.Context) ([]Summary, error) {
	p := taubyte.PrincipalOf(ctx)
	if len(p.Repositories) > 0 || p.Kind == "" {
		return nil, p.May(taubyte.VerbRead, "")
	}
	return slices.DeleteFunc(summaries(s.feed.snapshot("")), func(one Summary) bool {
		return p.Kind != taubyte.KindNode && p.May(taubyte.VerbRead, one.Project) != nil
	}), nil
}

// Find lists those of Projects that have an id or name, or a repository of that id or
// name.
func (s *Service) Find(ctx context.Context, what string) ([]Summary, error) {
	all, err := s.Projects(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(p Summary) bool {
		return string(p.Project) != what && p.Name != what && !slices.ContainsFunc(p.Branches, func(b BranchSummary) bool {
			return slices.ContainsFunc(b.Repositories, func(r RepositorySummary) bool { return string(r.Repository) == what || r.Name == what })
		})
	}), nil
}

func summaries(heads []head) []Summary {
	heads = slices.DeleteFunc(heads, func(h head) bool { return h.deployment == nil })
	slices.SortFunc(heads, func(a, b head) int {
		return cmp.Or(cmp.Compare(a.project, b.project), cmp.Compare(a.branch, b.branch))
	})
	all := []Summary{}
	for _, h := range heads {
		if len(all) == 0 || all[len(all)-1].Project != h.project {
			all = append(all, Summary{Project: h.project})
		}
		p := &all[len(all)-1]
		if c := h.deployment.Config(); c != nil {
			p.Name = c.Name
		}
		d := h.deployment
		p.Branches = append(p.Branches, BranchSummary{h.branch, d.Commit(), d.Sequence, d.Time, repositories(d), h.conflicts})
	}
	return all
}

// repositories lists those that a deployment has parts of, and those that its
// configuration names.
func repositories(d *Deployment) []RepositorySummary {
	all := map[taubyte.RepositoryID]RepositorySummary{}
	for id, p := range d.Parts {
		all[id] = RepositorySummary{Repository: id, Commit: p.Commit}
	}
	if c := d.Config(); c != nil {
		name := func(r *config.Resources) {
			for _, o := range origins(r) {
				id := taubyte.RepositoryID(o.Provider + "/" + o.RepositoryID)
				all[id] = RepositorySummary{Repository: id, Name: o.RepositoryName, Commit: all[id].Commit}
			}
		}
		name(&c.Resources)
		for i := range c.Applications {
			name(&c.Applications[i].Resources)
		}
	}
	list := make([]RepositorySummary, 0, len(all))
	for _, id := range slices.Sorted(maps.Keys(all)) {
		list = append(list, all[id])
	}
	return list
}

// origins are the repositories of their own that resources name.
func origins(r *config.Resources) (all []config.Origin) {
	for i := range r.Websites {
		all = append(all, r.Websites[i].Origin)
	}
	for i := range r.Libraries {
		all = append(all, r.Libraries[i].Origin)
	}
	return slices.DeleteFunc(all, func(o config.Origin) bool { return o.Provider == "" })
}
