package localgit

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/taubyte/taubyte"
)

// The replicated keys:
//
//	/members/<peer>                                a node that serves git
//	/repositories/<name>                           a repository, the same value by whomever
//	/refs/<name>/<ref, escaped>/<order>-<peer>     what an update made of a reference
//
// A reference is what its entry says; an update writes a new entry and removes those
// that it follows, so that nothing is kept of the past. Two entries of one reference
// are two updates that did not know of each other, made on both sides of a cut. Every
// node takes the one of the greater order, and shows the other under refs/conflicts.
// The entry of "HEAD" names a branch.
const (
	membersPrefix = "/members"
	reposPrefix   = "/repositories"
	refsPrefix    = "/refs"

	headsPrefix     = "refs/heads/"
	conflictsPrefix = "refs/conflicts/"
	headRef         = "HEAD"
	defaultBranch   = "main"
)

// entry is what an update made of a reference.
type entry struct {
	New string `json:"new"` // a hash; of HEAD, a reference

	key   ds.Key
	ref   string
	order uint64
	by    string // peer
}

// newer orders the entries of a reference: the first is what it is.
func newer(a, b entry) int { return cmp.Or(cmp.Compare(b.order, a.order), cmp.Compare(b.by, a.by)) }

// id tells the entry from all others of the repository's reference.
func (e entry) id() string { return fmt.Sprintf("%d-%s", e.order, e.by[max(0, len(e.by)-8):]) }

func repositoryKey(name string) ds.Key { return ds.RawKey(reposPrefix + "/" + name) }

func entryKey(name, ref string, order uint64, by string) ds.Key {
	return ds.RawKey(fmt.Sprintf("%s/%s/%s/%020d-%s", refsPrefix, name, url.QueryEscape(ref), order, by))
}

// parseEntry reads an entry. What can't be read is skipped: a later version may have
// written it.
func parseEntry(key string, value []byte) (e entry, ok bool) {
	parts := strings.Split(strings.TrimPrefix(key, refsPrefix+"/"), "/")
	if len(parts) != 3 {
		return e, false
	}
	number, by, ok := strings.Cut(parts[2], "-")
	if !ok {
		return e, false
	}
	var errRef, errOrder error
	e.ref, errRef = url.QueryUnescape(parts[1])
	e.order, errOrder = strconv.ParseUint(number, 10, 64)
	if errRef != nil || errOrder != nil || json.Unmarshal(value, &e) != nil {
		return e, false
	}
	if e.ref == headRef && checkRef(e.New) != nil || e.ref != headRef && (checkRef(e.ref) != nil || !isHash(e.New)) {
		return e, false
	}
	e.key, e.by = ds.RawKey(key), by
	return e, true
}

// references are the entries of a repository at one moment.
type references struct {
	entries map[string][]entry // by reference, the newest first
	state   string             // tells one set of entries from another
}

func (s *Server) refs(ctx context.Context, name string) (references, error) {
	r := references{entries: map[string][]entry{}}
	res, err := s.store.Query(ctx, query.Query{Prefix: refsPrefix + "/" + name, Orders: []query.Order{query.OrderByKey{}}})
	if err != nil {
		return r, err
	}
	defer res.Close()
	var state strings.Builder
	for found := range res.Next() {
		if found.Error != nil {
			return r, found.Error
		}
		if e, ok := parseEntry(found.Key, found.Value); ok {
			r.entries[e.ref] = append(r.entries[e.ref], e)
			state.WriteString(found.Key)
			state.WriteByte('\n')
		}
	}
	for _, es := range r.entries {
		slices.SortFunc(es, newer)
	}
	r.state = state.String()
	return r, ctx.Err()
}

// split returns what each reference is, and the entries that lost: to a newer one of
// their reference, or to one of a reference that can't be beside theirs ("x" and
// "x/y").
func (r references) split() (current map[string]entry, lost []entry) {
	var first []entry
	for ref, es := range r.entries {
		if ref == headRef {
			continue
		}
		first = append(first, es[0])
		for _, e := range es[1:] {
			if e.New != es[0].New {
				lost = append(lost, e)
			}
		}
	}
	slices.SortFunc(first, newer)
	current = map[string]entry{}
	folders := map[string]bool{}
	for _, e := range first {
		if clashes(e.ref, current, folders) {
			lost = append(lost, e)
			continue
		}
		current[e.ref] = e
		for _, f := range foldersOf(e.ref) {
			folders[f] = true
		}
	}
	return current, lost
}

// clashes reports whether a reference can't be beside those: git keeps them as files.
func clashes(ref string, current map[string]entry, folders map[string]bool) bool {
	if folders[ref] {
		return true
	}
	return slices.ContainsFunc(foldersOf(ref), func(f string) bool {
		_, taken := current[f]
		return taken
	})
}

func foldersOf(ref string) (all []string) {
	for i, c := range ref {
		if c == '/' {
			all = append(all, ref[:i])
		}
	}
	return all
}

// conflictRef is where an entry that lost is shown.
func conflictRef(e entry) string {
	return conflictsPrefix + e.id() + "/" + strings.TrimPrefix(e.ref, "refs/")
}

// head is the branch that a clone begins with: one that exists, if any does.
func (r references) head(current map[string]entry) string {
	if es := r.entries[headRef]; len(es) > 0 {
		if _, there := current[es[0].New]; there {
			return es[0].New
		}
	}
	return firstBranch(func(ref string) bool { _, there := current[ref]; return there }, current)
}

func firstBranch(there func(string) bool, current map[string]entry) string {
	for _, b := range []string{defaultBranch, "master"} {
		if there(headsPrefix + b) {
			return headsPrefix + b
		}
	}
	least := ""
	for ref := range current {
		if strings.HasPrefix(ref, headsPrefix) && (least == "" || ref < least) {
			least = ref
		}
	}
	return cmp.Or(least, headsPrefix+defaultBranch)
}

// checkRef takes the names that git takes (git-check-ref-format), below refs/.
func checkRef(ref string) error {
	bad := !strings.HasPrefix(ref, "refs/") || len(ref) > 1024 || strings.Count(ref, "/") < 2 ||
		strings.Contains(ref, "..") || strings.Contains(ref, "@{") || strings.ContainsAny(ref, " ~^:?*[\\\x7f") ||
		strings.HasSuffix(ref, ".")
	for _, c := range ref {
		bad = bad || c < 0x20
	}
	for part := range strings.SplitSeq(ref, "/") {
		bad = bad || part == "" || strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock")
	}
	if bad {
		return fmt.Errorf("%w reference %q", taubyte.ErrInvalid, ref)
	}
	return nil
}

// update is one command of a push.
type update struct {
	Ref string `json:"ref"`
	Old string `json:"old"`
	New string `json:"new"`
}

// push is what a client wants changed.
type push struct {
	Name    string   `json:"name"`
	Updates []update `json:"updates"`
	Atomic  bool     `json:"atomic,omitempty"`
}

// tips are the objects that the push makes references lead to.
func (p push) tips() (all []string) {
	for _, u := range p.Updates {
		if !isZero(u.New) {
			all = append(all, u.New)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// outcome is what became of a push.
type outcome struct {
	// Refused has a reason for each update, "" where it was made.
	Refused []string `json:"refused"`
	// Said are lines for the pusher.
	Said []string `json:"said,omitempty"`
}

// Reasons of git's own, which its clients explain.
const (
	reasonStale  = "fetch first"
	reasonAtomic = "atomic transaction failed"
)

// decide makes the updates of a push that fit what the references are, all at once, and
// returns those that were made. It is called by the node that decides on pushes to the
// repository, one at a time, when the objects are on this disk.
func (s *Server) decide(ctx context.Context, p push) (out outcome, made []update, err error) {
	refs, err := s.refs(ctx, p.Name)
	if err != nil {
		return out, nil, err
	}
	current, lost := refs.split()
	batch, err := s.store.Batch(ctx)
	if err != nil {
		return out, nil, err
	}
	out.Refused = make([]string, len(p.Updates))
	after := map[string]entry{}
	folders := map[string]bool{}
	keep := func(ref string, e entry) {
		after[ref] = e
		for _, f := range foldersOf(ref) {
			folders[f] = true
		}
	}
	deleted := map[string]bool{}
	for _, u := range p.Updates {
		deleted[u.Ref] = deleted[u.Ref] || isZero(u.New)
	}
	for ref, e := range current {
		if !deleted[ref] {
			keep(ref, e)
		}
	}
	var writes []entry
	var removes []ds.Key
	seen := map[string]bool{}
	for i, u := range p.Updates {
		reason, again := "", false
		have := current[u.Ref].New
		switch {
		case seen[u.Ref]:
			reason = "multiple updates for ref '" + u.Ref + "' not allowed"
		case strings.HasPrefix(u.Ref, conflictsPrefix) && !isZero(u.New):
			reason = "only the cloud writes below " + conflictsPrefix
		case strings.HasPrefix(u.Ref, conflictsPrefix) && have == "": // shown, of a reference that has lost it
			for _, e := range lost {
				if conflictRef(e) == u.Ref {
					removes = append(removes, e.key)
				}
			}
			again = true
		case have == u.New || have == "" && isZero(u.New):
			again = true
		case have != u.Old && (have != "" || !isZero(u.Old)):
			reason = reasonStale
		case !isZero(u.New) && have == "" && clashes(u.Ref, after, folders):
			reason = "a reference of another name is in its place"
		}
		seen[u.Ref] = true
		out.Refused[i] = reason
		if reason != "" || again {
			continue
		}
		// What this update follows goes: the entry that the reference is, and its like.
		// What is not among it goes where it has been shown so far.
		var last uint64
		for _, e := range refs.entries[u.Ref] {
			last = max(last, e.order)
			removes = append(removes, e.key)
			if e.New != have && (isZero(u.New) || !s.isAncestor(ctx, p.Name, e.New, u.New)) {
				writes = append(writes, s.newEntry(p.Name, conflictRef(e), e.New, 0))
			}
		}
		if !isZero(u.New) {
			e := s.newEntry(p.Name, u.Ref, u.New, last)
			writes = append(writes, e)
			keep(u.Ref, e)
		}
		made = append(made, u)
	}
	if p.Atomic && slices.ContainsFunc(out.Refused, func(r string) bool { return r != "" }) {
		for i, r := range out.Refused {
			out.Refused[i] = cmp.Or(r, reasonAtomic)
		}
		return out, nil, nil
	}
	if head, ok := newHead(refs, after, made); ok {
		var last uint64
		for _, e := range refs.entries[headRef] {
			last = max(last, e.order)
			removes = append(removes, e.key)
		}
		writes = append(writes, s.newEntry(p.Name, headRef, head, last))
	}
	for _, k := range removes {
		if err := batch.Delete(ctx, k); err != nil {
			return out, nil, err
		}
	}
	for _, e := range writes {
		raw, err := json.Marshal(e)
		if err != nil {
			return out, nil, err
		}
		if err := batch.Put(ctx, e.key, raw); err != nil {
			return out, nil, err
		}
	}
	if len(removes)+len(writes) == 0 {
		return out, made, nil
	}
	return out, made, batch.Commit(ctx)
}

// newEntry makes an entry that is newer than the last one. Orders are nanoseconds, so
// that of two sides of a cut the later push counts.
func (s *Server) newEntry(name, ref, value string, last uint64) entry {
	e := entry{New: value, ref: ref, order: max(uint64(time.Now().UnixNano()), last+1), by: s.host.ID().String()}
	e.key = entryKey(name, ref, e.order, e.by)
	return e
}

// newHead returns what HEAD is to be where the branch that it names does not exist: of
// the branches that were pushed the default one, or the first.
func newHead(refs references, after map[string]entry, made []update) (string, bool) {
	if _, there := after[refs.head(after)]; there && len(refs.entries[headRef]) > 0 {
		if _, there := after[refs.entries[headRef][0].New]; there {
			return "", false
		}
	}
	pushed := map[string]bool{}
	first := ""
	for _, u := range made {
		if strings.HasPrefix(u.Ref, headsPrefix) && !isZero(u.New) {
			pushed[u.Ref] = true
			first = cmp.Or(first, u.Ref)
		}
	}
	for _, b := range []string{defaultBranch, "master"} {
		if pushed[headsPrefix+b] {
			return headsPrefix + b, true
		}
	}
	return first, first != ""
}

// isAncestor reports whether a commit is among those that another builds upon. Of what
// is not a commit, or not here, it says no.
func (s *Server) isAncestor(ctx context.Context, name, old, of string) bool {
	if old == of {
		return true
	}
	_, err := s.short(ctx, s.path(name), "", "merge-base", "--is-ancestor", old, of)
	return err == nil
}

// exists reports whether a repository of that name was ever made, as far as this node
// knows.
func (s *Server) exists(ctx context.Context, name string) (bool, error) {
	return s.store.Has(ctx, repositoryKey(name))
}

// names lists the repositories.
func (s *Server) names(ctx context.Context, prefix string) (all []string, err error) {
	res, err := s.store.Query(ctx, query.Query{Prefix: prefix, KeysOnly: true})
	if err != nil {
		return nil, err
	}
	defer res.Close()
	for r := range res.Next() {
		if r.Error != nil {
			return nil, r.Error
		}
		all = append(all, strings.TrimPrefix(r.Key, prefix+"/"))
	}
	return all, errors.Join(ctx.Err())
}
