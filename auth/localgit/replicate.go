package localgit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/taubyte/taubyte"
)

// Protocol is how control nodes tell each other of pushes; over objectsProtocol, git's
// own upload-pack gives one the objects of another.
const (
	Protocol        protocol.ID = "/taubyte/git/1"
	objectsProtocol protocol.ID = "/taubyte/git/objects/1"
)

// Times between control nodes. One that says nothing for hearFor is passed over: while
// it works on something it says so every beat.
const (
	hearFor  = 2 * time.Second
	beat     = 300 * time.Millisecond
	pullFor  = 1500 * time.Millisecond // the little that was written just now
	fillFor  = time.Minute             // all that was written
	probe    = 500 * time.Millisecond  // of nodes that were passed over
	retry    = 2 * time.Second         // of repositories that could not be brought up to date
	joinFor  = 5 * time.Second         // for the other nodes to appear after a start
	catchUp  = 10 * time.Second        // a request waits for what this node misses
	fetchGap = 20 * time.Second        // a fetch under way without a byte
	telling  = 30 * time.Second        // for what hears of a push
)

// repository is what a node knows of one in memory.
type repository struct {
	deciding sync.Mutex // one push after the other

	mu     sync.Mutex
	state  string            // of the references that are on disk
	refs   map[string]string // on disk
	ready  bool              // state and refs are known
	flight *flight           // brings the disk up to date
	failed bool              // the last flight
}

type flight struct {
	done chan struct{}
	err  error
}

func (s *Server) repository(name string) *repository {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.repos[name]
	if !ok {
		r = &repository{}
		s.repos[name] = r
	}
	return r
}

// others are the nodes that have served git in this network, without this one.
func (s *Server) others(ctx context.Context) ([]string, error) {
	all, err := s.names(ctx, membersPrefix)
	return slices.DeleteFunc(all, func(p string) bool { return p == s.host.ID().String() }), err
}

// takeIn makes entries of the references of repositories that have none.
func (s *Server) takeIn(ctx context.Context) error {
	self := ds.RawKey(membersPrefix + "/" + s.host.ID().String())
	if has, err := s.store.Has(ctx, self); err != nil {
		return err
	} else if !has {
		if err := s.store.Put(ctx, self, []byte("{}")); err != nil {
			return err
		}
	}
	local, err := s.localNames()
	if err != nil {
		return err
	}
	for _, name := range local {
		if err := writeConfig(s.path(name)); err != nil { // of an earlier version
			return err
		}
		there, err := s.exists(ctx, name)
		if err != nil || there {
			if err != nil {
				return err
			}
			continue
		}
		have, head, err := s.readRefs(ctx, s.path(name))
		if err != nil {
			s.log.Error("git: a repository is not readable", "name", name, "err", err)
			continue
		}
		if len(have) == 0 {
			continue // a push that made it has failed, or nothing was pushed
		}
		batch, err := s.store.Batch(ctx)
		if err != nil {
			return err
		}
		if _, there := have[head]; there {
			have[headRef] = head
		}
		for ref, value := range have {
			e := s.newEntry(name, ref, value, 0)
			raw, err := json.Marshal(e)
			if err != nil {
				return err
			}
			if err := batch.Put(ctx, e.key, raw); err != nil {
				return err
			}
		}
		if err := batch.Put(ctx, repositoryKey(name), []byte("{}")); err != nil {
			return err
		}
		if err := batch.Commit(ctx); err != nil {
			return err
		}
		s.log.Info("git: repository taken in", "name", name, "references", len(have))
	}
	return nil
}

// follow brings repositories up to date when their references change, and those where
// that failed again.
func (s *Server) follow() {
	events, err := s.store.Watch(s.life, ds.NewKey("/"), 0)
	if err != nil {
		return
	}
	again := time.NewTicker(retry)
	defer again.Stop()
	for {
		select {
		case e, ok := <-events:
			switch {
			case !ok:
				return
			case e.Lost:
				names, err := s.names(s.life, reposPrefix)
				if err != nil {
					s.log.Error("git: listing the repositories", "err", err)
				}
				for _, name := range names {
					s.start(name)
				}
			default:
				parts := strings.Split(e.Key.String(), "/")
				if len(parts) > 2 && ("/"+parts[1] == refsPrefix || "/"+parts[1] == reposPrefix) && checkName(parts[2]) == nil {
					s.start(parts[2])
				}
			}
		case <-again.C:
			s.mu.Lock()
			var failed []string
			for name, r := range s.repos {
				r.mu.Lock()
				if r.failed {
					failed = append(failed, name)
				}
				r.mu.Unlock()
			}
			s.mu.Unlock()
			for _, name := range failed {
				s.start(name)
			}
		}
	}
}

// start begins to bring a repository up to date, or returns what is doing so.
func (s *Server) start(name string) *flight {
	r := s.repository(name)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.flight != nil {
		return r.flight
	}
	f := &flight{done: make(chan struct{})}
	if !s.spawn(func() {
		ctx, cancel := context.WithTimeout(s.life, transferTime)
		defer cancel()
		f.err = s.bringUp(ctx, name, r)
		r.mu.Lock()
		r.flight, r.failed = nil, f.err != nil
		r.mu.Unlock()
		if f.err != nil && s.life.Err() == nil {
			s.log.Debug("git: a repository is behind", "name", name, "err", f.err)
		}
		close(f.done)
	}) {
		f.err = errClosed
		close(f.done)
		return f
	}
	r.flight = f
	return f
}

// onDiskNow waits until what this node knows of a repository's references is on its
// disk, objects and all.
func (s *Server) onDiskNow(ctx context.Context, name string) error {
	for {
		refs, err := s.refs(ctx, name)
		if err != nil {
			return err
		}
		r := s.repository(name)
		r.mu.Lock()
		same := r.ready && r.state == refs.state
		r.mu.Unlock()
		if same {
			return nil
		}
		f := s.start(name)
		select {
		case <-f.done:
			if f.err != nil {
				return f.err
			}
		case <-ctx.Done():
			return fmt.Errorf("%w: git repository %s is behind, and catching up: %w", taubyte.ErrUnavailable, name, ctx.Err())
		}
	}
}

// bringUp makes the disk what the references say.
func (s *Server) bringUp(ctx context.Context, name string, r *repository) error {
	dir, err := s.makeDir(ctx, name)
	if err != nil {
		return err
	}
	refs, err := s.refs(ctx, name)
	if err != nil {
		return err
	}
	r.mu.Lock()
	ready, same, have := r.ready, r.state == refs.state, r.refs
	r.mu.Unlock()
	if ready && same {
		return nil
	}
	var at string
	if !ready {
		if have, at, err = s.readRefs(ctx, dir); err != nil {
			return err
		}
	}
	current, lost := refs.split()
	want := map[string]string{}
	var tips []string
	for ref, e := range current {
		want[ref] = e.New
		tips = append(tips, e.New)
	}
	for _, e := range lost {
		tips = append(tips, e.New)
	}
	if err := s.fetch(ctx, name, dir, tips, authors(refs)); err != nil {
		return err
	}
	for _, e := range lost {
		if winner := current[e.ref]; winner.New == "" || !s.isAncestor(ctx, name, e.New, winner.New) {
			want[conflictRef(e)] = e.New
		}
	}
	if err := s.writeRefs(ctx, dir, have, want); err != nil {
		r.mu.Lock()
		r.ready = false
		r.mu.Unlock()
		return err
	}
	if head := refs.head(current); head != at {
		if _, err := s.short(ctx, dir, "", "symbolic-ref", headRef, head); err != nil {
			return err
		}
	}
	for ref, hash := range want {
		if strings.HasPrefix(ref, conflictsPrefix) && have[ref] == "" {
			s.log.Warn("git: two pushes did not know of each other", "repository", name, "ref", ref, "commit", hash)
		}
	}
	r.mu.Lock()
	r.ready, r.state, r.refs = true, refs.state, want
	r.mu.Unlock()
	s.tidy(name)
	return nil
}

// authors are the nodes that wrote the references, who have the objects.
func authors(refs references) (all []peer.ID) {
	for _, es := range refs.entries {
		for _, e := range es {
			if p, err := peer.Decode(e.by); err == nil && !slices.Contains(all, p) {
				all = append(all, p)
			}
		}
	}
	return all
}

// readRefs reads the references on the disk, and the one that HEAD names.
func (s *Server) readRefs(ctx context.Context, dir string) (map[string]string, string, error) {
	out, err := s.short(ctx, dir, "", "for-each-ref", "--format=%(objectname) %(refname)")
	if err != nil {
		return nil, "", err
	}
	have := map[string]string{}
	for line := range strings.Lines(out) {
		if hash, ref, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " "); ok {
			have[ref] = hash
		}
	}
	head, err := s.short(ctx, dir, "", "symbolic-ref", headRef)
	return have, strings.TrimSpace(head), err
}

// writeRefs changes the references on the disk. Those that go, go first: one may be in
// the place of another.
func (s *Server) writeRefs(ctx context.Context, dir string, have, want map[string]string) error {
	var gone, changed strings.Builder
	for ref := range have {
		if _, stays := want[ref]; !stays {
			fmt.Fprintf(&gone, "delete %s\n", ref)
		}
	}
	for ref, hash := range want {
		if have[ref] != hash {
			fmt.Fprintf(&changed, "update %s %s\n", ref, hash)
		}
	}
	for _, commands := range []string{gone.String(), changed.String()} {
		if commands == "" {
			continue
		}
		if _, err := s.short(ctx, dir, commands, "update-ref", "--no-deref", "--stdin"); err != nil {
			return err
		}
	}
	return nil
}

// complete reports whether objects are on the disk with all that they build upon.
func (s *Server) complete(ctx context.Context, dir string, tips []string) (bool, error) {
	if len(tips) == 0 {
		return true, nil
	}
	_, err := s.short(ctx, dir, strings.Join(tips, "\n")+"\n", "rev-list", "--objects", "--quiet", "--stdin", "--not", "--all")
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	return err == nil, nil
}

// fetch gets what is missing of objects from whoever has it, those nodes first.
func (s *Server) fetch(ctx context.Context, name, dir string, tips []string, first []peer.ID) error {
	if ok, err := s.complete(ctx, dir, tips); err != nil || ok {
		return err
	}
	living := s.living()
	slices.SortStableFunc(living, func(a, b peer.ID) int {
		return boolOrder(slices.Contains(first, a), slices.Contains(first, b))
	})
	errs := []error{fmt.Errorf("%w: git repository %s is behind", taubyte.ErrUnavailable, name)}
	for _, p := range living {
		err := s.fetchFrom(ctx, p, name, dir, tips)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

func boolOrder(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}
