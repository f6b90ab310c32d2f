package localgit

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rendezvous"
	"github.com/taubyte/taubyte/internal/rpc"
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

// living are the other control nodes that are connected and answer.
func (s *Server) living() []peer.ID {
	return slices.DeleteFunc(s.store.Peers(), func(p peer.ID) bool {
		s.mu.Lock()
		_, bad := s.bad[p]
		s.mu.Unlock()
		return bad || s.pulse.Suspect(p)
	})
}

// doubt passes a node over until it answers a probe.
func (s *Server) doubt(p peer.ID, err error) {
	s.mu.Lock()
	_, before := s.bad[p]
	s.bad[p] = struct{}{}
	s.mu.Unlock()
	if !before {
		s.log.Warn("git: a control node is passed over", "peer", p, "err", err)
	}
}

// probeDoubted looks again and again whether nodes that were passed over answer.
func (s *Server) probeDoubted() {
	for s.pause(s.life, probe) {
		s.mu.Lock()
		var doubted []peer.ID
		for p := range s.bad {
			doubted = append(doubted, p)
		}
		s.mu.Unlock()
		var wg sync.WaitGroup
		for _, p := range doubted {
			wg.Go(func() {
				if !slices.Contains(s.store.Peers(), p) { // gone; it is no matter when it returns
					s.trust(p)
					return
				}
				_, err := ask[struct{}](s.life, s, p, "/ping", nil)
				if err == nil && s.pull(s.life, p, pullFor) == nil {
					s.trust(p)
					s.log.Info("git: a control node answers again", "peer", p)
				}
			})
		}
		wg.Wait()
	}
}

func (s *Server) trust(p peer.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.bad, p)
}

// pull gets what another node has written of references.
func (s *Server) pull(ctx context.Context, p peer.ID, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	guarded, done := s.pulse.Guard(ctx, p)
	defer done()
	return s.store.SyncedWith(guarded, p)
}

// round is a comparison with all living nodes, for all who asked before it began.
type round struct{ done chan struct{} }

// compare returns when this node knows of every reference what the living ones knew
// when it was called.
func (s *Server) compare(ctx context.Context) error {
	s.mu.Lock()
	r := s.next
	if r == nil {
		r = &round{done: make(chan struct{})}
		if !s.spawnLocked(func() { s.run(r) }) {
			s.mu.Unlock()
			return errClosed
		}
		s.next = r
	}
	s.mu.Unlock()
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Server) run(r *round) {
	s.rounds.Lock()
	defer s.rounds.Unlock()
	s.mu.Lock()
	s.next = nil // who comes now may ask for something that was written after this began
	s.mu.Unlock()
	defer close(r.done)
	var wg sync.WaitGroup
	for _, p := range s.living() {
		wg.Go(func() {
			err := s.pull(s.life, p, pullFor)
			if err != nil && s.life.Err() == nil && slices.Contains(s.store.Peers(), p) {
				s.doubt(p, err)
			}
		})
	}
	wg.Wait()
}

// join waits for the others, takes in repositories of before references were
// replicated, and lets requests in.
func (s *Server) join() {
	if err := s.meet(); err != nil && s.life.Err() == nil {
		s.log.Error("git: joining the other nodes", "err", err)
	}
	for s.life.Err() == nil {
		err := s.takeIn(s.life)
		if err == nil {
			break
		}
		s.log.Error("git: reading the repositories", "err", err)
		if !s.pause(s.life, retry) {
			return
		}
	}
	close(s.joined)
	names, err := s.names(s.life, reposPrefix)
	if err != nil {
		s.log.Error("git: listing the repositories", "err", err)
	}
	for _, name := range names {
		s.start(name)
	}
}

func (s *Server) meet() error {
	deadline := time.Now().Add(joinFor)
	var last error
	for s.life.Err() == nil {
		others, err := s.others(s.life)
		if err != nil {
			return err
		}
		peers := s.store.Peers()
		for _, p := range peers {
			if last = s.pull(s.life, p, fillFor); last == nil {
				return nil
			}
		}
		known := slices.ContainsFunc(s.host.Peerstore().PeersWithAddrs(), func(p peer.ID) bool { return p != s.host.ID() })
		if len(others) == 0 && !known || time.Now().After(deadline) {
			return last
		}
		s.pause(s.life, 20*time.Millisecond)
	}
	return nil
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

// ask sends in to another node, which says that it is at work until it has an answer.
func ask[T any](ctx context.Context, s *Server, p peer.ID, path string, in any) (out T, err error) {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return out, err
		}
		body = strings.NewReader(string(raw))
	}
	resp, err := s.client.Open(rpc.WithPatience(ctx, rpc.Patience{Attempt: hearFor}), p, http.MethodPost, path, body)
	if err != nil {
		return out, err
	}
	heard := rpc.Followed(resp.Body, hearFor)
	defer heard.Close()
	var a answer[T]
	if err := json.NewDecoder(bufio.NewReader(heard)).Decode(&a); err != nil {
		return out, fmt.Errorf("%w: %s of %s: %w", taubyte.ErrUnavailable, path, p, err)
	}
	switch {
	case a.Invalid:
		return out, fmt.Errorf("%w: %s: %s", taubyte.ErrInvalid, p, a.Error)
	case a.Error != "":
		return out, fmt.Errorf("%w: %s: %s", taubyte.ErrUnavailable, p, a.Error)
	}
	return a.Value, nil
}

type answer[T any] struct {
	Value   T      `json:"value"`
	Error   string `json:"error,omitempty"`
	Invalid bool   `json:"invalid,omitempty"`
}

// at mounts what ask asks for.
func at[In, Out any](s *Server, mux *http.ServeMux, path string, do func(context.Context, peer.ID, In) (Out, error)) {
	mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
		caller, ok := rpc.Caller(r.Context())
		var in In
		raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCommands))
		if err == nil && len(raw) > 0 {
			err = json.Unmarshal(raw, &in)
		}
		if err != nil || !ok {
			rpc.WriteError(w, fmt.Errorf("%w request: %w", taubyte.ErrInvalid, err), nil)
			return
		}
		stream, err := rpc.NewStream(w)
		if err != nil {
			return
		}
		answers := make(chan answer[Out], 1)
		// What was begun is ended, whether or not the other node still waits for it.
		if !s.spawn(func() {
			defer close(answers)
			ctx, cancel := context.WithTimeout(s.life, transferTime)
			defer cancel()
			out, err := do(ctx, caller.Peer, in)
			a := answer[Out]{Value: out}
			if err != nil {
				a.Error, a.Invalid = err.Error(), errors.Is(err, taubyte.ErrInvalid)
			}
			answers <- a
		}) {
			return
		}
		_ = rpc.Follow(stream, answers, beat)
	})
}

// wanted are objects that the caller has.
type wanted struct {
	Name string   `json:"name"`
	Tips []string `json:"tips"`
}

func (s *Server) peerHandler() http.Handler {
	mux := http.NewServeMux()
	// The node is there.
	at(s, mux, "/ping", func(context.Context, peer.ID, struct{}) (struct{}, error) { return struct{}{}, nil })
	// Take the objects that the caller has.
	at(s, mux, "/objects", func(ctx context.Context, caller peer.ID, in wanted) (struct{}, error) {
		return struct{}{}, s.takeObjects(ctx, caller, in)
	})
	// Decide on a push that the caller has taken.
	at(s, mux, "/pushes", func(ctx context.Context, caller peer.ID, p push) (outcome, error) {
		if err := s.takeObjects(ctx, caller, wanted{p.Name, p.tips()}); err != nil {
			return outcome{}, err
		}
		return s.settle(ctx, p)
	})
	// Have what the caller knows on the disk.
	at(s, mux, "/written", func(ctx context.Context, caller peer.ID, in wanted) (struct{}, error) {
		if err := checkName(in.Name); err != nil {
			return struct{}{}, err
		}
		if err := s.pull(ctx, caller, fillFor); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, s.onDiskNow(ctx, in.Name)
	})
	// Whether a repository is up to date here.
	at(s, mux, "/current", func(ctx context.Context, _ peer.ID, in wanted) (struct{}, error) {
		return struct{}{}, s.current(ctx, in.Name)
	})
	mux.Handle("/serve/", http.StripPrefix("/serve", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.serve(w, r, true)
	})))
	return mux
}

func (s *Server) takeObjects(ctx context.Context, caller peer.ID, in wanted) error {
	if err := checkName(in.Name); err != nil {
		return err
	}
	for _, t := range in.Tips {
		if !isHash(t) {
			return fmt.Errorf("%w object %q", taubyte.ErrInvalid, t)
		}
	}
	dir, err := s.makeDir(ctx, in.Name)
	if err != nil {
		return err
	}
	if ok, err := s.complete(ctx, dir, in.Tips); err != nil || ok {
		return err
	}
	return s.fetchFrom(ctx, caller, in.Name, dir, in.Tips)
}

// settle decides on a push whose objects are here, writes what it changes, and tells
// who hears of pushes.
func (s *Server) settle(ctx context.Context, p push) (outcome, error) {
	select {
	case <-s.joined:
	default:
		return outcome{}, fmt.Errorf("%w: this node is starting", taubyte.ErrUnavailable)
	}
	for _, u := range p.Updates {
		if err := checkRef(u.Ref); err != nil {
			return outcome{}, err
		}
		if !isHash(u.Old) || !isHash(u.New) {
			return outcome{}, fmt.Errorf("%w update of %s", taubyte.ErrInvalid, u.Ref)
		}
	}
	r := s.repository(p.Name)
	r.deciding.Lock()
	defer r.deciding.Unlock()
	if err := s.compare(ctx); err != nil {
		return outcome{}, err
	}
	if err := s.remember(ctx, p.Name); err != nil {
		return outcome{}, err
	}
	if err := s.onDiskNow(ctx, p.Name); err != nil {
		return outcome{}, err
	}
	out, made, err := s.decide(ctx, p)
	if err != nil {
		return out, err
	}
	if err := s.onDiskNow(ctx, p.Name); err != nil {
		return out, err
	}
	out.Said = append(s.tell(ctx, p.Name, made), s.conflicts(p.Name, made)...)
	return out, nil
}

// remember makes a repository known to all nodes.
func (s *Server) remember(ctx context.Context, name string) error {
	there, err := s.exists(ctx, name)
	if err != nil || there {
		return err
	}
	return s.store.Put(ctx, repositoryKey(name), []byte("{}"))
}

// commit has a push decided, with its objects and its changes on the disk of another
// node as well, where there is one.
func (s *Server) commit(ctx context.Context, p push) (out outcome, err error) {
	if err := s.compare(ctx); err != nil {
		return out, err
	}
	self := s.host.ID()
	passed := map[peer.ID]bool{}
	for {
		able := slices.DeleteFunc(s.living(), func(p peer.ID) bool { return passed[p] })
		arbiter := rendezvous.Best(p.Name, append(able, self))
		if arbiter == self {
			break
		}
		out, err = ask[outcome](ctx, s, arbiter, "/pushes", p)
		if err == nil {
			if err = s.pull(ctx, arbiter, pullFor); err == nil {
				return out, s.onDiskNow(ctx, p.Name)
			}
		}
		if errors.Is(err, taubyte.ErrInvalid) || ctx.Err() != nil {
			return out, err
		}
		passed[arbiter] = true
		s.doubt(arbiter, err)
	}
	partner := s.second(ctx, "/objects", wanted{p.Name, p.tips()})
	if out, err = s.settle(ctx, p); err != nil {
		return out, err
	}
	if !slices.Contains(out.Refused, "") {
		return out, nil
	}
	if partner != "" {
		if _, err := ask[struct{}](ctx, s, partner, "/written", wanted{Name: p.Name}); err != nil {
			s.doubt(partner, err)
			partner = s.second(ctx, "/written", wanted{Name: p.Name}) // which fetches the objects
		}
	}
	if partner != "" {
		return out, nil
	}
	others, err := s.others(ctx)
	if err != nil {
		return out, err
	}
	if len(others) > 0 {
		s.log.Warn("git: a push is on this node only", "repository", p.Name)
		out.Said = append(out.Said, onOneNode)
	}
	return out, nil
}

// onOneNode is what a pusher is told when no other node has the push.
const onOneNode = "no other control node answers: this push is on one node only, until another is back"

// second has a living node do something, and returns the first that did.
func (s *Server) second(ctx context.Context, path string, in wanted) peer.ID {
	for _, p := range rendezvous.Rank(in.Name, s.living()) {
		_, err := ask[struct{}](ctx, s, p, path, in)
		if err == nil {
			return p
		}
		if ctx.Err() != nil {
			break
		}
		s.doubt(p, err)
	}
	return ""
}

// fresh waits until this node knows the references of a repository as the living nodes
// do. A repository that none knows is ErrNotFound.
func (s *Server) fresh(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	select {
	case <-s.joined:
	case <-s.life.Done():
		return errClosed
	case <-ctx.Done():
		return fmt.Errorf("%w: this node is starting: %w", taubyte.ErrUnavailable, ctx.Err())
	}
	if err := s.compare(ctx); err != nil {
		return err
	}
	there, err := s.exists(ctx, name)
	if err == nil && !there {
		err = fmt.Errorf("%w: git repository %s", taubyte.ErrNotFound, name)
	}
	return err
}

// current waits until a repository is here as the living nodes know it.
func (s *Server) current(ctx context.Context, name string) error {
	if err := s.fresh(ctx, name); err != nil {
		return err
	}
	return s.onDiskNow(ctx, name)
}
