package tns

import (
	"strings"
	"time"

	"github.com/taubyte/taubyte"
)

// A project's id is its maker's choice, and so is its end, by which names are generated.
// Of the projects whose ids end alike one is the heir of those names, all of them: the one
// that was first deployed. Who chooses an id by another's end gets none.

// began is when the project of a deployment was first deployed. Deployments of earlier
// versions do not say so.
func (d *Deployment) began() time.Time {
	if d.Began.IsZero() {
		return d.Time
	}
	return d.Began
}

// addEnd notes a project that has its first head. mu is held.
func (f *feed) addEnd(project taubyte.ProjectID) {
	end := idEnd(project)
	if end == "" {
		return
	}
	if f.ends[end] == nil {
		f.ends[end] = map[taubyte.ProjectID]bool{}
	}
	f.ends[end][project] = true
}

// heir is the project that names with this end are generated for; "" while none with it
// is known. mu is held.
func (f *feed) heir(end string) (heir taubyte.ProjectID) {
	var first time.Time
	for project := range f.ends[end] {
		if len(f.ends[end]) == 1 {
			return project
		}
		began := f.began(project)
		if heir == "" || began.Before(first) || began.Equal(first) && strings.Compare(string(project), string(heir)) < 0 {
			heir, first = project, began
		}
	}
	return heir
}

// began is when a project was first deployed, by all its branches. mu is held.
func (f *feed) began(project taubyte.ProjectID) (first time.Time) {
	for _, h := range f.heads[project] {
		first = earlier(first, h.began)
	}
	return first
}

// beginning is when the project of a deployment to be was first deployed. A new one is
// later than all with the same end, whatever this node's clock says.
func (f *feed) beginning(d *Deployment) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	if began := f.began(d.Project); !began.IsZero() {
		return began
	}
	began := d.Time
	for other := range f.ends[idEnd(d.Project)] {
		if theirs := f.began(other); !theirs.Before(began) {
			began = theirs.Add(1)
		}
	}
	return began
}

// inherit works out anew the names of the projects that end like one that changed, where
// the heir is another than before. mu is held.
func (f *feed) inherit(before, changed taubyte.ProjectID) (lost []Claim) {
	end := idEnd(changed)
	if before == "" || f.heir(end) == before {
		return nil
	}
	for project := range f.ends[end] {
		for _, h := range f.heads[project] {
			lost = append(lost, f.claim(h)...)
		}
	}
	return lost
}

// reclaim works out anew what comes of the claims to a host. mu is held.
func (f *feed) reclaim(host string) (lost []Claim) {
	for _, h := range append([]*head(nil), f.hosts[host]...) {
		lost = append(lost, f.claim(h)...)
	}
	return lost
}
