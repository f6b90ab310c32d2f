package secrets

import (
	"bytes"
	"cmp"
	"context"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/envelope"
	"github.com/taubyte/taubyte/internal/rendezvous"
)

// A Generation is one key of the role: of the number of a few, the newest seals.
type Generation struct {
	Number uint64    `json:"number"`
	ID     string    `json:"id"`
	Made   time.Time `json:"made"`
	// Recipients are the nodes that were given its key.
	Recipients []peer.ID `json:"recipients"`
	// Secrets are the versions of secrets that are sealed under it.
	Secrets int `json:"secrets"`
}

type generation struct {
	number uint64
	id     string
	made   time.Time
	known  bool        // its entry is there
	key    []byte      // nil: not given to this node so far
	aead   cipher.AEAD // with key
}

// compare orders generations: the last one seals.
func (g *generation) compare(o *generation) int {
	return cmp.Or(cmp.Compare(g.number, o.number), cmp.Compare(o.id, g.id))
}

type wrapKey struct{ generation, recipient, by string }

func (k wrapKey) key() ds.Key {
	return ds.RawKey(wrapsPrefix + k.generation + "/" + k.recipient + "/" + k.by)
}

// A wrap is the key of a generation for one recipient.
type wrap struct {
	Peer   peer.ID `json:"peer"` // whose key the recipient is
	Sealed []byte  `json:"sealed"`
}

func generationKey(number uint64, id string) ds.Key {
	return ds.RawKey(fmt.Sprintf("%s%016d/%s", generationsPrefix, number, id))
}

// takeKey takes in what is about keys.
func (s *Store) takeKey(key string, value []byte) {
	defer s.poke()
	switch {
	case strings.HasPrefix(key, recipientsPrefix):
		p, err := peer.Decode(strings.TrimPrefix(key, recipientsPrefix))
		var recipient string
		if err != nil || json.Unmarshal(value, &recipient) != nil || !envelope.IsRecipient(recipient) {
			return
		}
		s.mu.Lock()
		s.recipients[p] = recipient
		s.mu.Unlock()
	case strings.HasPrefix(key, generationsPrefix):
		number, id, ok := strings.Cut(strings.TrimPrefix(key, generationsPrefix), "/")
		n, err := strconv.ParseUint(number, 10, 64)
		var made time.Time
		if !ok || err != nil || n == 0 || n > maxNumber || strings.Contains(id, "/") || json.Unmarshal(value, &made) != nil {
			return
		}
		s.mu.Lock()
		g := s.generationLocked(id)
		g.number, g.made, g.known = n, made, true
		if g.aead != nil {
			s.heardLocked()
		}
		s.mu.Unlock()
	case strings.HasPrefix(key, wrapsPrefix):
		parts := strings.Split(strings.TrimPrefix(key, wrapsPrefix), "/")
		var w wrap
		if len(parts) != 3 || json.Unmarshal(value, &w) != nil {
			return
		}
		k := wrapKey{parts[0], parts[1], parts[2]}
		var secret []byte
		if k.recipient == s.c.Key.Recipient() && s.opened(k.generation) == nil {
			var err error
			if secret, err = s.c.Key.Open(w.Sealed); err != nil || len(secret) != keySize || generationID(secret) != k.generation {
				s.c.Log.Warn("a key of the secrets can't be used", "generation", k.generation, "by", k.by, "err", err)
				secret = nil
			}
		}
		s.mu.Lock()
		s.wraps[k] = w.Peer
		if secret != nil {
			s.keyLocked(k.generation, secret)
		}
		s.mu.Unlock()
	}
}

func (s *Store) dropKeyLocked(key string) {
	switch {
	case strings.HasPrefix(key, recipientsPrefix):
		if p, err := peer.Decode(strings.TrimPrefix(key, recipientsPrefix)); err == nil {
			delete(s.recipients, p)
		}
	case strings.HasPrefix(key, generationsPrefix):
		_, id, _ := strings.Cut(strings.TrimPrefix(key, generationsPrefix), "/")
		delete(s.generations, id)
	case strings.HasPrefix(key, wrapsPrefix):
		if parts := strings.Split(strings.TrimPrefix(key, wrapsPrefix), "/"); len(parts) == 3 {
			delete(s.wraps, wrapKey{parts[0], parts[1], parts[2]})
		}
	}
}

func (s *Store) generationLocked(id string) *generation {
	g := s.generations[id]
	if g == nil {
		g = &generation{id: id}
		s.generations[id] = g
	}
	return g
}

func (s *Store) keyLocked(id string, key []byte) {
	g := s.generationLocked(id)
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return // of another size
	}
	g.key, g.aead = key, aead
	s.heardLocked()
	s.tellLocked("") // what could not be opened can be now
}

func (s *Store) heardLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// opened returns a generation whose key this node has.
func (s *Store) opened(id string) *generation {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.generations[id]; g != nil && g.aead != nil {
		copied := *g
		return &copied
	}
	return nil
}

// newestLocked is the generation that seals, or nil.
func (s *Store) newestLocked() *generation {
	var best *generation
	for _, g := range s.generations {
		if g.known && (best == nil || g.compare(best) > 0) {
			best = g
		}
	}
	return best
}

// keyWait is how long who seals waits for this node to be given the key.
const keyWait = 5 * time.Second

// sealing returns the generation that seals, and makes the first one.
func (s *Store) sealing(ctx context.Context) (*generation, error) {
	end := time.NewTimer(keyWait)
	defer end.Stop()
	for {
		s.mu.Lock()
		g, changed := s.newestLocked(), s.changed
		var copied generation
		if g != nil {
			copied = *g
		}
		s.mu.Unlock()
		switch {
		case g == nil:
			s.tending.Lock()
			s.mu.Lock()
			first := s.newestLocked() == nil
			s.mu.Unlock()
			var err error
			if first {
				err = s.mint(ctx)
			}
			s.tending.Unlock()
			if err != nil {
				return nil, err
			}
			continue
		case copied.aead != nil:
			return &copied, nil
		}
		select {
		case <-changed:
		case <-end.C:
			return nil, fmt.Errorf("%w: this node was not given the key of the secrets yet", taubyte.ErrUnavailable)
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.life.Done():
			return nil, fmt.Errorf("secrets: %w", taubyte.ErrClosed)
		}
	}
}

// liveLocked are the recipients that may have the key.
func (s *Store) live() map[peer.ID]string {
	s.mu.Lock()
	all := maps.Clone(s.recipients)
	s.mu.Unlock()
	maps.DeleteFunc(all, func(p peer.ID, _ string) bool { return s.c.Revoked(p) })
	all[s.c.Self] = s.c.Key.Recipient()
	return all
}

// mint makes a generation and gives its key to all auth nodes. tending is held.
func (s *Store) mint(ctx context.Context) error {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails
	id := generationID(key)
	s.mu.Lock()
	number := uint64(1)
	if g := s.newestLocked(); g != nil {
		number = g.number + 1
	}
	s.mu.Unlock()
	made, err := json.Marshal(s.c.Now().UTC())
	if err != nil {
		return err
	}
	b, err := s.c.Store.Batch(ctx)
	if err != nil {
		return err
	}
	if err := b.Put(ctx, generationKey(number, id), made); err != nil {
		return err
	}
	given := map[wrapKey]peer.ID{}
	for p, recipient := range s.live() {
		k := wrapKey{id, recipient, s.self}
		value, err := wrapFor(p, recipient, key)
		if err != nil {
			return err
		}
		if err := b.Put(ctx, k.key(), value); err != nil {
			return err
		}
		given[k] = p
	}
	if err := b.Commit(ctx); err != nil {
		return fmt.Errorf("making a key of the secrets: %w", err)
	}
	s.mu.Lock()
	maps.Copy(s.wraps, given)
	s.keyLocked(id, key)
	s.mu.Unlock()
	s.takeKey(generationKey(number, id).String(), made)
	s.c.Log.Info("key of the secrets made", "generation", number, "recipients", len(given))
	return nil
}

func wrapFor(p peer.ID, recipient string, key []byte) ([]byte, error) {
	sealed, err := envelope.Seal(key, recipient)
	if err != nil {
		return nil, err
	}
	return json.Marshal(wrap{Peer: p, Sealed: sealed})
}

// Rotate makes a new generation of the key and seals every secret anew under it.
func (s *Store) Rotate(ctx context.Context, by Caller) (Generation, error) {
	s.tending.Lock()
	defer s.tending.Unlock()
	if err := s.audit.record(ctx, Access{Who: by.Who, Action: ActionRotate}); err != nil {
		return Generation{}, err
	}
	if err := s.mint(ctx); err != nil {
		return Generation{}, err
	}
	if err := s.reseal(ctx); err != nil {
		return Generation{}, err
	}
	all := s.Generations()
	return all[len(all)-1], nil
}

// Generations lists the generations of the key, the one that seals last.
func (s *Store) Generations() []Generation {
	s.mu.Lock()
	defer s.mu.Unlock()
	var known []*generation
	for _, g := range s.generations {
		if g.known {
			known = append(known, g)
		}
	}
	slices.SortFunc(known, (*generation).compare)
	count := map[string]int{}
	for _, x := range s.secrets {
		for _, v := range x.versions {
			under := map[string]bool{} // nodes that seal anew at the same time make two copies
			for _, k := range v.copies {
				under[k.generation] = true
			}
			for id := range under {
				count[id]++
			}
		}
	}
	all := []Generation{}
	for _, g := range known {
		out := Generation{Number: g.number, ID: g.id, Made: g.made, Secrets: count[g.id]}
		for k, p := range s.wraps {
			if k.generation == g.id {
				out.Recipients = append(out.Recipients, p)
			}
		}
		slices.Sort(out.Recipients)
		out.Recipients = slices.Compact(out.Recipients)
		all = append(all, out)
	}
	return all
}

// misplaced reports whether a value is sealed under a generation that another replaced.
func (s *Store) misplaced(k valueKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.newestLocked()
	return g != nil && k.generation != g.id
}

func (s *Store) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

const (
	// tendEvery is how often what no event tells is looked for: a revocation, an age.
	tendEvery = 2 * time.Second
	// patience is how long the others wait for the node whose task something is.
	patience = 5 * time.Second
	// resealBatch is how many values are sealed anew in one step.
	resealBatch = 64
)

// tendAlways keeps keys and values together, until the store closes.
func (s *Store) tendAlways() {
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	for {
		s.tending.Lock()
		err := s.tend(s.life)
		s.tending.Unlock()
		if err != nil && s.life.Err() == nil {
			s.c.Log.Warn("secrets not tended", "err", err)
		}
		select {
		case <-s.wake:
		case <-tick.C:
		case <-s.life.Done():
			return
		}
	}
}

// task reports whether something is for this node to do: it is the first by rendezvous,
// or nobody has done it for a while. tending is held.
func (s *Store) task(name string, not peer.ID, seen map[string]bool) bool {
	seen[name] = true
	since, ok := s.pending[name]
	if !ok {
		since = s.c.Now()
		s.pending[name] = since
	}
	nodes := slices.DeleteFunc(s.c.Peers(), func(p peer.ID) bool { return p == not })
	return rendezvous.Best(name, nodes) == s.c.Self || s.c.Now().Sub(since) >= patience
}

// tend does what is this node's. tending is held.
func (s *Store) tend(ctx context.Context) error {
	seen := map[string]bool{}
	defer func() {
		maps.DeleteFunc(s.pending, func(name string, _ time.Time) bool { return !seen[name] })
	}()
	live := s.live()
	var errs []error
	errs = append(errs, s.giveKeys(ctx, live, seen))
	if s.outdated() && s.task("rotate", "", seen) {
		errs = append(errs, s.mint(ctx))
	}
	if s.anyMisplaced() && s.task("reseal", "", seen) {
		errs = append(errs, s.reseal(ctx))
	}
	if s.task("tidy", "", seen) {
		errs = append(errs, s.tidy(ctx))
	}
	return errors.Join(errs...)
}

// giveKeys seals the keys that this node has to the nodes that lack them.
func (s *Store) giveKeys(ctx context.Context, live map[peer.ID]string, seen map[string]bool) error {
	type lack struct {
		p         peer.ID
		recipient string
		g         generation
	}
	var lacks []lack
	s.mu.Lock()
	has := map[[2]string]bool{}
	for k := range s.wraps {
		has[[2]string{k.generation, k.recipient}] = true
	}
	for _, g := range s.generations {
		if g.aead == nil || !g.known {
			continue
		}
		for p, recipient := range live {
			if !has[[2]string{g.id, recipient}] {
				lacks = append(lacks, lack{p, recipient, *g})
			}
		}
	}
	s.mu.Unlock()
	for _, l := range lacks {
		if !s.task("give/"+l.g.id+"/"+l.recipient, l.p, seen) {
			continue
		}
		value, err := wrapFor(l.p, l.recipient, l.g.key)
		if err != nil {
			return err
		}
		k := wrapKey{l.g.id, l.recipient, s.self}
		if err := s.c.Store.Put(ctx, k.key(), value); err != nil {
			return err
		}
		s.mu.Lock()
		s.wraps[k] = l.p
		s.mu.Unlock()
		s.c.Log.Info("key of the secrets given to an auth node", "generation", l.g.number, "peer", l.p)
	}
	return nil
}

// outdated reports whether the generation that seals has to be replaced: somebody was
// given its key who left, or who has another key now, or it is too old.
func (s *Store) outdated() bool {
	s.mu.Lock()
	g := s.newestLocked()
	if g == nil || g.aead == nil {
		s.mu.Unlock()
		return false
	}
	if s.c.Now().Sub(g.made) > s.c.RotateAfter {
		s.mu.Unlock()
		return true
	}
	given := map[peer.ID]bool{}
	for k, p := range s.wraps {
		if k.generation != g.id {
			continue
		}
		given[p] = true
		if now, ok := s.recipients[p]; ok && now != k.recipient {
			s.mu.Unlock()
			return true
		}
	}
	s.mu.Unlock()
	for p := range given {
		if s.c.Revoked(p) {
			return true
		}
	}
	return false
}

// misplacedKeys are the values under generations that were replaced, of versions by name.
func (s *Store) anyMisplaced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.newestLocked()
	if g == nil || g.aead == nil {
		return false
	}
	for _, x := range s.secrets {
		for _, v := range x.versions {
			for _, k := range v.copies {
				if k.generation != g.id {
					return true
				}
			}
		}
	}
	return false
}

// reseal seals every value anew that is not sealed under the newest generation, and
// deletes what it replaces.
func (s *Store) reseal(ctx context.Context) error {
	type job struct {
		from   []valueKey // under older generations
		sealed bool       // under the newest already
		dead   bool
	}
	s.mu.Lock()
	g := s.newestLocked()
	if g == nil || g.aead == nil {
		s.mu.Unlock()
		return nil
	}
	newest := *g
	var jobs []job
	for _, x := range s.secrets {
		for _, v := range x.versions {
			var j job
			for _, k := range v.copies {
				if k.generation == newest.id {
					j.sealed = true
				} else {
					j.from = append(j.from, k)
				}
			}
			if j.dead = v.number <= x.deleted; len(j.from) > 0 {
				jobs = append(jobs, j)
			}
		}
	}
	s.mu.Unlock()
	for batch := range slices.Chunk(jobs, resealBatch) {
		b, err := s.c.Store.Batch(ctx)
		if err != nil {
			return err
		}
		var added, gone []valueKey
		heads := map[valueKey]header{}
		for _, j := range batch {
			done := j.sealed || j.dead
			for _, k := range j.from {
				if done {
					break
				}
				old := s.opened(k.generation)
				if old == nil {
					continue
				}
				raw, err := s.c.Store.Get(ctx, k.key())
				if errors.Is(err, ds.ErrNotFound) {
					done = true // deleted meanwhile
					break
				}
				if err != nil {
					return err
				}
				value, h, err := openValue(old.aead, k, raw)
				if err != nil {
					s.c.Log.Error("a secret can't be sealed anew", "secret", k.name, "version", k.number, "err", err)
					continue
				}
				to := k
				to.generation, to.by = newest.id, s.self
				sealed, err := sealValue(newest.aead, to, h, value)
				clear(value)
				if err != nil {
					return err
				}
				if err := b.Put(ctx, to.key(), sealed); err != nil {
					return err
				}
				added, heads[to], done = append(added, to), h, true
			}
			if !done {
				continue // another node has the key
			}
			for _, k := range j.from {
				if err := b.Delete(ctx, k.key()); err != nil {
					return err
				}
				gone = append(gone, k)
			}
		}
		if len(added)+len(gone) == 0 {
			continue
		}
		if err := b.Commit(ctx); err != nil {
			return fmt.Errorf("sealing secrets anew: %w", err)
		}
		s.mu.Lock()
		for _, k := range added {
			s.takeValueLocked(k.key().String(), k, heads[k])
		}
		s.mu.Unlock()
		for _, k := range gone {
			s.drop(k.key().String())
		}
		s.c.Log.Info("secrets sealed anew", "generation", newest.number, "count", len(added))
	}
	return nil
}

// tidy deletes what nothing needs any more: values of deleted versions and second copies,
// the statements that they are deleted once every node that did not hear of it has lost its
// membership, and generations likewise.
func (s *Store) tidy(ctx context.Context) error {
	const remembered = taubyte.MaxMembershipLifetime
	now := s.c.Now()
	var gone []ds.Key
	s.mu.Lock()
	used := map[string]bool{}
	var graves []string
	for _, x := range s.secrets {
		for _, v := range x.versions {
			// Of several under one key the first stays, which no node finds another before.
			first := map[string]string{}
			for key, k := range v.copies {
				if at, ok := first[k.generation]; !ok || key < at {
					first[k.generation] = key
				}
			}
			for key, k := range v.copies {
				if v.number <= x.deleted || key != first[k.generation] {
					gone = append(gone, ds.RawKey(key))
				} else {
					used[k.generation] = true
				}
			}
		}
		graves = slices.AppendSeq(graves, maps.Keys(x.graves))
	}
	var known []*generation
	for _, g := range s.generations {
		if g.known {
			known = append(known, g)
		}
	}
	slices.SortFunc(known, (*generation).compare)
	for i, g := range known {
		if i+1 < len(known) && !used[g.id] && now.Sub(known[i+1].made) > remembered {
			gone = append(gone, generationKey(g.number, g.id))
			for k := range s.wraps {
				if k.generation == g.id {
					gone = append(gone, k.key())
				}
			}
		}
	}
	revoked := maps.Clone(s.recipients)
	s.mu.Unlock()
	for p := range revoked {
		if s.c.Revoked(p) {
			gone = append(gone, ds.RawKey(recipientsPrefix+p.String()))
		}
	}
	for _, key := range graves {
		raw, err := s.c.Store.Get(ctx, ds.RawKey(key))
		var when time.Time
		if err == nil && json.Unmarshal(bytes.TrimSpace(raw), &when) == nil && now.Sub(when) > remembered {
			gone = append(gone, ds.RawKey(key))
		}
	}
	if len(gone) == 0 {
		return nil
	}
	b, err := s.c.Store.Batch(ctx)
	if err != nil {
		return err
	}
	for _, k := range gone {
		if err := b.Delete(ctx, k); err != nil {
			return err
		}
	}
	if err := b.Commit(ctx); err != nil {
		return err
	}
	for _, k := range gone {
		s.drop(k.String())
	}
	return nil
}
