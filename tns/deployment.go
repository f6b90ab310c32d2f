package tns

import (
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/tns/config"
)

// Protocol is the registry's protocol between nodes, and the name under which
// its host provides it.
const Protocol protocol.ID = "/taubyte/tns/1"

// A Part is what one repository contributes to a deployment: the outcome of one
// build of one commit. It is immutable.
type Part struct {
	Repository taubyte.RepositoryID `json:"repository"`
	Commit     taubyte.Commit       `json:"commit"`
	Job        taubyte.JobID        `json:"job,omitempty"`
	// Order ranks the builds of one repository and branch: the larger wins,
	// whatever arrives last. Patrick gives it (Job.Order), so that a job that was
	// granted twice, or an older one that ends later, changes nothing.
	Order uint64    `json:"order"`
	Time  time.Time `json:"time"`
	// Config is the compiled configuration; only the part of the repository
	// that holds the project's configuration has one.
	Config *config.Project `json:"config,omitempty"`
	// Assets are the roots (UnixFS) of what was built: a wasm module as a file
	// for a function or a library, a directory for a website.
	Assets map[taubyte.ResourceID]cid.Cid `json:"assets,omitempty"`
	// Encodings are the roots (UnixFS) of encodings of websites' files, made when they
	// were built: for index.html any of index.html.br (Brotli), index.html.zst
	// (Zstandard) and index.html.gz (gzip). A website without any has none.
	Encodings map[taubyte.ResourceID]cid.Cid `json:"encodings,omitempty"`
}

// A Deployment is what a branch of a project runs: one part for each repository.
// It is immutable and content-addressed.
type Deployment struct {
	Project  taubyte.ProjectID             `json:"project"`
	Branch   taubyte.Branch                `json:"branch"`
	Sequence uint64                        `json:"sequence"` // of the branch, from 1
	Time     time.Time                     `json:"time"`     // when it was published
	Parts    map[taubyte.RepositoryID]Part `json:"parts"`
	// Built is the largest Order of each repository that was ever published to the
	// branch. It outlives rollbacks and removals: a build that was there before does
	// not come back by being delivered again.
	Built map[taubyte.RepositoryID]uint64 `json:"built,omitempty"`
	// Claims says since when the project has claimed each host name of the
	// configuration without a break: who left and comes back begins anew.
	Claims map[string]time.Time `json:"claims,omitempty"`
	// Began is when the project was first deployed, on any branch: of two whose ids end
	// alike, names are generated for the first.
	Began time.Time `json:"began,omitzero"`
	// Conflicts are set in the answers of Publish and Rollback: the claims of the branch
	// that lead nowhere, as Change has them.
	Conflicts []Claim `json:"conflicts,omitempty"`
	// Missing is set in a history where the deployment is known and could not be
	// had: all but Project, Branch, Sequence and Time is then absent.
	Missing bool `json:"missing,omitempty"`
}

func (d *Deployment) claimedSince(fqdn string) time.Time {
	if since, ok := d.Claims[fqdn]; ok {
		return since
	}
	return d.Time
}

// part finds the part that has something; of several, which only a fault can bring
// about, the one with the largest order, on every node alike.
func (d *Deployment) part(has func(*Part) bool) *Part {
	var found *Part
	for _, p := range d.Parts {
		if has(&p) && (found == nil || p.Order > found.Order || p.Order == found.Order && p.Repository > found.Repository) {
			found = &p
		}
	}
	return found
}

func hasConfig(p *Part) bool { return p.Config != nil }

// Config returns the deployment's configuration, or nil while no repository has
// given one.
func (d *Deployment) Config() *config.Project {
	if p := d.part(hasConfig); p != nil {
		return p.Config
	}
	return nil
}

// Commit returns the commit of the configuration, which names the deployment.
func (d *Deployment) Commit() taubyte.Commit {
	if p := d.part(hasConfig); p != nil {
		return p.Commit
	}
	return ""
}

// Asset returns the root of what was built for a resource.
func (d *Deployment) Asset(id taubyte.ResourceID) (cid.Cid, bool) {
	p := d.part(func(p *Part) bool { _, ok := p.Assets[id]; return ok })
	if p == nil {
		return cid.Undef, false
	}
	return p.Assets[id], true
}

// Encoding returns the root of the encodings of a website's files: of those that Asset
// returns.
func (d *Deployment) Encoding(id taubyte.ResourceID) (cid.Cid, bool) {
	p := d.part(func(p *Part) bool { _, ok := p.Assets[id]; return ok })
	if p == nil {
		return cid.Undef, false
	}
	root, ok := p.Encodings[id]
	return root, ok
}

// removed reports whether the branch was taken off the air: such a deployment only
// says what was built before.
func (d *Deployment) removed() bool { return len(d.Parts) == 0 }
