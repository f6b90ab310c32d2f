package tns

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/multiformats/go-multihash"

	"github.com/taubyte/taubyte"
)

// The registry's keys, one for each deployment that ever was current:
//
//	/history/<project>/<branch>/<sequence, 16 digits>/<CID of the deployment>
//
// with what it was made from as value: the entries that it follows. The branch is
// escaped as in a URL's path. Entries that no other follows are the branch's tips:
// one, or several after nodes that did not reach each other published. What the
// branch runs is the merge of its tips, and the next deployment follows all of them.
// A deployment without parts says that the branch was removed.
//
// Old entries are deleted, and never one before those that it follows: whoever has
// not heard of an entry's end has the entries that follow it, so that none becomes a
// tip again.
const historyPrefix = "/history"

// origin is the value of an entry.
type origin struct {
	Time    time.Time `json:"time"`
	Follows []cid.Cid `json:"follows,omitempty"`
	Removed bool      `json:"removed,omitempty"` // the branch ended here
}

type branchKey struct {
	project taubyte.ProjectID
	branch  taubyte.Branch
}

// entry is a key of the history, taken apart.
type entry struct {
	branchKey
	sequence uint64
	object   cid.Cid
	origin   // where values were asked for
}

// tips returns the entries that no other follows, the furthest last.
func tips(all []entry) []entry {
	followed := map[cid.Cid]bool{}
	for _, e := range all {
		for _, c := range e.Follows {
			followed[c] = true
		}
	}
	ends := slices.DeleteFunc(slices.Clone(all), func(e entry) bool { return followed[e.object] })
	slices.SortFunc(ends, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.sequence, b.sequence), cmp.Compare(a.object.KeyString(), b.object.KeyString()))
	})
	return ends
}

func (e entry) key() ds.Key {
	return ds.RawKey(fmt.Sprintf("%s/%s/%s/%016d/%s", historyPrefix, e.project, url.PathEscape(string(e.branch)), e.sequence, e.object))
}

func (k branchKey) prefix() string {
	return historyPrefix + "/" + string(k.project) + "/" + url.PathEscape(string(k.branch))
}

func parseEntry(k string) (e entry, err error) {
	parts := strings.Split(k, "/")
	if len(parts) != 6 || "/"+parts[1] != historyPrefix {
		return e, fmt.Errorf("%w registry key %s", taubyte.ErrInvalid, k)
	}
	branch, err := url.PathUnescape(parts[3])
	if err != nil {
		return e, fmt.Errorf("%w registry key %s: %w", taubyte.ErrInvalid, k, err)
	}
	e.project, e.branch = taubyte.ProjectID(parts[2]), taubyte.Branch(branch)
	if e.sequence, err = strconv.ParseUint(parts[4], 10, 64); err != nil {
		return e, fmt.Errorf("%w registry key %s: %w", taubyte.ErrInvalid, k, err)
	}
	if e.object, err = cid.Decode(parts[5]); err != nil {
		return e, fmt.Errorf("%w registry key %s: %w", taubyte.ErrInvalid, k, err)
	}
	return e, nil
}

// encode makes a deployment the block that holds it: JSON, whose maps encoding/json
// writes in the order of their keys, so that equal deployments are one block.
func encode(d *Deployment) (blocks.Block, error) {
	raw, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	return blockOf(raw)
}

// blockOf is a block of bytes as they stand.
func blockOf(raw []byte) (blocks.Block, error) {
	sum, err := multihash.Sum(raw, multihash.SHA2_256, -1)
	if err != nil {
		return nil, err
	}
	return blocks.NewBlockWithCid(raw, cid.NewCidV1(cid.Raw, sum))
}

// decode reads such a block. Private keys, which earlier versions wrote, are left out.
func decode(raw []byte) (*Deployment, error) {
	d, err := unmarshal[Deployment](raw)
	if err != nil {
		return nil, fmt.Errorf("%w deployment: %w", taubyte.ErrInvalid, err)
	}
	d.Conflicts = nil // of an answer, and none of the deployment's
	if mayHoldKey(raw) {
		withoutKeys(d)
	}
	return d, nil
}

// merge resolves two deployments neither of which knew of the other, as after a
// partition: for each repository the part with the larger order counts. The result
// is the same whichever comes first.
func merge(a, b *Deployment) *Deployment {
	m := &Deployment{
		Project: a.Project, Branch: a.Branch, Sequence: max(a.Sequence, b.Sequence), Time: later(a.Time, b.Time),
		Parts: map[taubyte.RepositoryID]Part{}, Built: map[taubyte.RepositoryID]uint64{}, Began: earlier(a.Began, b.Began),
	}
	for _, d := range []*Deployment{a, b} {
		for id, p := range d.Parts {
			if have, ok := m.Parts[id]; !ok || p.Order > have.Order || p.Order == have.Order && p.Commit > have.Commit {
				m.Parts[id] = p
			}
		}
		for id, order := range d.Built {
			m.Built[id] = max(m.Built[id], order)
		}
	}
	c := m.Config()
	if c == nil {
		return m
	}
	m.Claims = map[string]time.Time{}
	for _, dom := range domains(c) {
		for _, d := range []*Deployment{a, b} {
			since, ok := d.Claims[dom.FQDN]
			if have, known := m.Claims[dom.FQDN]; ok && (!known || since.Before(have)) {
				m.Claims[dom.FQDN] = since
			}
		}
	}
	return m
}

// earlier is the first of two moments, of which one that is zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
