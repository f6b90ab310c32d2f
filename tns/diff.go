package tns

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/tns/config"
)

// A Diff says how two deployments of a branch differ.
type Diff struct {
	From    Revision   `json:"from"`
	To      Revision   `json:"to"`
	Added   []Resource `json:"added,omitempty"`
	Removed []Resource `json:"removed,omitempty"`
	Changed []Resource `json:"changed,omitempty"`
}

// A Revision names a deployment of a branch.
type Revision struct {
	Sequence uint64         `json:"sequence"`
	Commit   taubyte.Commit `json:"commit"`
	Time     time.Time      `json:"time"`
}

// A Resource is one that differs.
type Resource struct {
	Group       string                `json:"group"` // functions, websites …; "project" and "applications" for what these say themselves
	ID          taubyte.ResourceID    `json:"id"`
	Name        string                `json:"name"`
	Application taubyte.ApplicationID `json:"application,omitempty"`
	// Fields of one that changed: those of the configuration, by their keys in its
	// JSON, and "asset" where something else was built.
	Fields []string `json:"fields,omitempty"`
}

// Diff compares two deployments of a branch. Each is named by its sequence ("12"), by
// its commit or the beginning of one (7 characters or more), of which the newest
// counts, or by "" for what the branch runs now.
//
// Every node may call it; of users, it takes the verb read on the project.
func (s *Service) Diff(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch, from, to string) (*Diff, error) {
	if err := taubyte.Allow(ctx, taubyte.VerbRead, project, taubyte.Roles()...); err != nil {
		return nil, err
	}
	k := branchKey{project, branch}
	a, err := s.revision(ctx, k, from)
	if err != nil {
		return nil, err
	}
	b, err := s.revision(ctx, k, to)
	if err != nil {
		return nil, err
	}
	return compare(a, b)
}

func (s *Service) revision(ctx context.Context, k branchKey, name string) (*Deployment, error) {
	if name == "" {
		return s.Current(ctx, k.project, k.branch)
	}
	sequence, err := strconv.ParseUint(name, 10, 64)
	return s.at(ctx, k, func(d *Deployment) bool {
		return err == nil && d.Sequence == sequence || len(name) >= 7 && strings.HasPrefix(string(d.Commit()), name)
	}, name)
}

type resourceKey struct {
	application taubyte.ApplicationID
	group       string
	id          taubyte.ResourceID
}

// facts are what a deployment says of one resource.
type facts struct {
	name   string
	fields map[string]json.RawMessage
}

func compare(a, b *Deployment) (*Diff, error) {
	before, err := resources(a)
	if err != nil {
		return nil, err
	}
	after, err := resources(b)
	if err != nil {
		return nil, err
	}
	d := &Diff{From: Revision{a.Sequence, a.Commit(), a.Time}, To: Revision{b.Sequence, b.Commit(), b.Time}}
	for k, was := range before {
		is, ok := after[k]
		if !ok {
			d.Removed = append(d.Removed, k.resource(was.name, nil))
			continue
		}
		var fields []string
		for name, value := range is.fields {
			if !bytes.Equal(value, was.fields[name]) {
				fields = append(fields, name)
			}
		}
		for name := range was.fields {
			if _, ok := is.fields[name]; !ok {
				fields = append(fields, name)
			}
		}
		if slices.Sort(fields); len(fields) > 0 {
			d.Changed = append(d.Changed, k.resource(is.name, fields))
		}
	}
	for k, is := range after {
		if _, ok := before[k]; !ok {
			d.Added = append(d.Added, k.resource(is.name, nil))
		}
	}
	for _, list := range [][]Resource{d.Added, d.Removed, d.Changed} {
		slices.SortFunc(list, func(a, b Resource) int {
			return cmp.Or(cmp.Compare(a.Application, b.Application), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
		})
	}
	return d, nil
}

func (k resourceKey) resource(name string, fields []string) Resource {
	return Resource{Group: k.group, ID: k.id, Name: name, Application: k.application, Fields: fields}
}

// resources takes a deployment apart. It goes by the JSON of the configuration, so
// that a field that a resource gains one day is compared as well.
func resources(d *Deployment) (map[resourceKey]facts, error) {
	all := map[resourceKey]facts{}
	c := d.Config()
	if c == nil {
		return all, nil
	}
	scope := func(app taubyte.ApplicationID, r config.Resources) error {
		raw, err := json.Marshal(r)
		if err != nil {
			return err
		}
		var groups map[string][]map[string]json.RawMessage
		if err := json.Unmarshal(raw, &groups); err != nil {
			return err
		}
		for group, list := range groups {
			for _, fields := range list {
				var id taubyte.ResourceID
				var name string
				if err := cmp.Or(json.Unmarshal(fields["id"], &id), json.Unmarshal(fields["name"], &name)); err != nil {
					return err
				}
				if asset, ok := d.Asset(id); ok {
					fields["asset"] = quoted(asset)
				}
				all[resourceKey{app, group, id}] = facts{name, fields}
			}
		}
		return nil
	}
	if err := scope("", c.Resources); err != nil {
		return nil, fmt.Errorf("comparing deployment %d of %s %s: %w", d.Sequence, d.Project, d.Branch, err)
	}
	project := *c
	project.Resources, project.Applications = config.Resources{}, nil
	own, err := fieldsOf(project)
	if err != nil {
		return nil, err
	}
	all[resourceKey{group: "project", id: taubyte.ResourceID(c.ID)}] = facts{c.Name, own}
	for _, a := range c.Applications {
		if err := scope(a.ID, a.Resources); err != nil {
			return nil, fmt.Errorf("comparing deployment %d of %s %s: %w", d.Sequence, d.Project, d.Branch, err)
		}
		name := a.Name
		a.Resources = config.Resources{}
		if own, err = fieldsOf(a); err != nil {
			return nil, err
		}
		all[resourceKey{group: "applications", id: taubyte.ResourceID(a.ID)}] = facts{name, own}
	}
	return all, nil
}

func quoted(c cid.Cid) json.RawMessage { return json.RawMessage(strconv.Quote(c.String())) }

func fieldsOf(v any) (fields map[string]json.RawMessage, err error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return fields, json.Unmarshal(raw, &fields)
}
