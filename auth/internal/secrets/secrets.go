package secrets

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/crdt"
	"github.com/taubyte/taubyte/internal/envelope"
)

// A Reader is what somebody may read a secret as.
type Reader string

// ReaderRole stands for the nodes of a role.
func ReaderRole(r taubyte.Role) Reader { return Reader("role:" + string(r)) }

// ReaderProject stands for what runs of a project.
func ReaderProject(p taubyte.ProjectID) Reader { return Reader("project:" + string(p)) }

// A Caller is who asks: Who is for the audit log, As decides. An empty As is a node of
// role auth itself, which may read everything.
type Caller struct {
	Who string
	As  Reader
}

// Info is what may be known of a secret without reading it.
type Info struct {
	Name    string    `json:"name"`
	Version uint64    `json:"version"`
	Made    time.Time `json:"made"`
	By      string    `json:"by,omitempty"` // who set it
	Readers []Reader  `json:"readers,omitempty"`
}

// Config is what a Store stands on. Store, Local, Self, Key, Peers and Revoked are required.
type Config struct {
	Store *crdt.Store       // replicated, whose writers are auth nodes
	Local taubyte.Datastore // of this node, for its audit log
	Self  peer.ID
	Key   *envelope.Key // this node's
	// Peers are the auth nodes that answer now, this one included.
	Peers func() []peer.ID
	// Revoked reports whether a node is no member any more.
	Revoked func(peer.ID) bool
	Log     *slog.Logger
	// RotateAfter is the age at which a generation is replaced. Default 90 days.
	RotateAfter time.Duration
	// Versions is how many of each secret are kept. Default 3.
	Versions int
	// AuditFor is how long accesses are remembered, and AuditMost how many of them.
	// Default 90 days and 100,000.
	AuditFor  time.Duration
	AuditMost int
	Now       func() time.Time // default time.Now
}

// A Store is one node's replica of the secrets. It is safe for concurrent use.
type Store struct {
	c     Config
	self  string
	audit *audit

	life context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup
	once sync.Once
	wake chan struct{} // of tend

	writing sync.Mutex // one Put or Delete at a time: numbers and idempotence
	tending sync.Mutex
	pending map[string]time.Time // what another node should do, since when; tending is held

	mu          sync.Mutex
	secrets     map[string]*secret
	groups      map[string]map[string]struct{} // names by their first two parts
	generations map[string]*generation
	wraps       map[wrapKey]peer.ID
	recipients  map[peer.ID]string
	changed     chan struct{} // closed when a generation's key came
	watchers    map[*Watch]struct{}
}

// A secret is what the replica knows of one name.
type secret struct {
	versions map[string]*version // by number and id
	deleted  uint64              // versions up to this one are
	graves   map[string]uint64   // the keys that say so
}

// A version is one value of a secret, sealed once or, while it is sealed anew, several
// times.
type version struct {
	number uint64
	id     string
	head   header
	copies map[string]valueKey // by their key
}

// A Watch gathers which secrets of a prefix have changed. It is safe for concurrent use.
type Watch struct {
	s      *Store
	prefix string
	news   chan struct{}
	names  map[string]struct{} // guarded by s.mu, as is all
	all    bool
}

// Open opens the node's replica of the secrets, and announces its key. ctx bounds the
// start only.
func Open(ctx context.Context, c Config) (*Store, error) {
	def(&c.RotateAfter, 90*24*time.Hour)
	def(&c.AuditFor, 90*24*time.Hour)
	def(&c.AuditMost, 100_000)
	def(&c.Versions, 3)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	s := &Store{
		c: c, self: c.Self.String(), wake: make(chan struct{}, 1), pending: map[string]time.Time{},
		watchers: map[*Watch]struct{}{}, changed: make(chan struct{}),
		secrets: map[string]*secret{}, groups: map[string]map[string]struct{}{},
		generations: map[string]*generation{}, wraps: map[wrapKey]peer.ID{}, recipients: map[peer.ID]string{},
	}
	s.life, s.stop = context.WithCancel(context.Background())
	if err := s.open(ctx); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("opening the secrets: %w", err)
	}
	return s, nil
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (s *Store) open(ctx context.Context) (err error) {
	if s.audit, err = openAudit(ctx, s.c); err != nil {
		return err
	}
	// Watch first, then load: what changes in between is seen twice, not never.
	keys, err := s.c.Store.Watch(s.life, ds.NewKey(recipientsPrefix), 0)
	if err != nil {
		return err
	}
	events, err := s.c.Store.Watch(s.life, ds.NewKey(root), 0)
	if err != nil {
		return err
	}
	at := ds.RawKey(recipientsPrefix + s.self)
	announced, err := json.Marshal(s.c.Key.Recipient())
	if err != nil {
		return err
	}
	if have, err := s.c.Store.Get(ctx, at); err != nil || !bytes.Equal(have, announced) {
		if err := s.c.Store.Put(ctx, at, announced); err != nil {
			return err
		}
	}
	if _, err := s.load(ctx); err != nil {
		return err
	}
	s.wg.Go(func() { s.follow(keys) })
	s.wg.Go(func() { s.follow(events) })
	s.wg.Go(s.tendAlways)
	return nil
}

// Close ends the store. It may be called twice.
func (s *Store) Close() error {
	s.once.Do(func() {
		s.stop()
		s.wg.Wait()
	})
	return nil
}

// load takes in all that the replica holds, and returns the keys of it.
func (s *Store) load(ctx context.Context) (map[string]bool, error) {
	seen := map[string]bool{}
	for _, prefix := range []string{recipientsPrefix, root} {
		results, err := s.c.Store.Query(ctx, query.Query{Prefix: prefix})
		if err != nil {
			return nil, err
		}
		err = func() error {
			defer results.Close()
			for r := range results.Next() {
				if r.Error != nil {
					return r.Error
				}
				seen[r.Key] = true
				s.take(r.Key, r.Value)
			}
			return nil
		}()
		if err != nil {
			return nil, err
		}
	}
	return seen, ctx.Err()
}

// reload is load after events were lost: what is not there any more is dropped.
func (s *Store) reload(ctx context.Context) error {
	seen, err := s.load(ctx)
	if err != nil {
		return err
	}
	var have []string
	s.mu.Lock()
	for _, x := range s.secrets {
		for _, v := range x.versions {
			have = slices.AppendSeq(have, maps.Keys(v.copies))
		}
		have = slices.AppendSeq(have, maps.Keys(x.graves))
	}
	for _, g := range s.generations {
		have = append(have, generationKey(g.number, g.id).String())
	}
	for k := range s.wraps {
		have = append(have, k.key().String())
	}
	for p := range s.recipients {
		have = append(have, recipientsPrefix+p.String())
	}
	s.mu.Unlock()
	for _, key := range have {
		if seen[key] {
			continue
		}
		if there, err := s.c.Store.Has(ctx, ds.RawKey(key)); err == nil && !there {
			s.drop(key)
		}
	}
	return ctx.Err()
}

func (s *Store) follow(events <-chan crdt.Event) {
	for e := range events {
		switch {
		case e.Lost:
			if err := s.reload(s.life); err != nil && s.life.Err() == nil {
				s.c.Log.Warn("secrets not read", "err", err)
			}
			s.poke()
		case e.Deleted:
			s.drop(e.Key.String())
		default:
			s.take(e.Key.String(), e.Value)
		}
	}
}

// take takes in one key of the store. What can't be read is skipped: a later version may
// have written it.
func (s *Store) take(key string, value []byte) {
	switch {
	case strings.HasPrefix(key, valuesPrefix):
		k, err := parseValueKey(key)
		if err != nil {
			return
		}
		_, _, h, err := splitValue(value)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.takeValueLocked(key, k, h)
		s.mu.Unlock()
		if s.misplaced(k) {
			s.poke()
		}
	case strings.HasPrefix(key, deletedPrefix):
		name, number, err := parseDeletedKey(key)
		if err != nil {
			return
		}
		s.mu.Lock()
		x := s.secretLocked(name)
		x.graves[key] = number
		x.deleted = max(x.deleted, number)
		s.tellLocked(name)
		s.mu.Unlock()
	default:
		s.takeKey(key, value)
	}
}

func (s *Store) takeValueLocked(key string, k valueKey, h header) {
	x := s.secretLocked(k.name)
	at := fmt.Sprintf("%d/%s", k.number, k.id)
	v := x.versions[at]
	fresh := v == nil
	if fresh {
		v = &version{number: k.number, id: k.id, head: h, copies: map[string]valueKey{}}
		x.versions[at] = v
	}
	v.copies[key] = k
	if fresh { // sealed anew is no news
		s.tellLocked(k.name)
	}
}

func (s *Store) drop(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case strings.HasPrefix(key, valuesPrefix):
		k, err := parseValueKey(key)
		x := s.secrets[k.name]
		if err != nil || x == nil {
			return
		}
		at := fmt.Sprintf("%d/%s", k.number, k.id)
		if v := x.versions[at]; v != nil {
			if delete(v.copies, key); len(v.copies) == 0 {
				delete(x.versions, at)
				s.tellLocked(k.name)
			}
		}
		s.forgetLocked(k.name, x)
	case strings.HasPrefix(key, deletedPrefix):
		name, _, err := parseDeletedKey(key)
		x := s.secrets[name]
		if err != nil || x == nil {
			return
		}
		delete(x.graves, key)
		x.deleted = 0
		for _, n := range x.graves {
			x.deleted = max(x.deleted, n)
		}
		s.forgetLocked(name, x)
	default:
		s.dropKeyLocked(key)
	}
}

func (s *Store) secretLocked(name string) *secret {
	x := s.secrets[name]
	if x == nil {
		x = &secret{versions: map[string]*version{}, graves: map[string]uint64{}}
		s.secrets[name] = x
		g := group(name)
		if s.groups[g] == nil {
			s.groups[g] = map[string]struct{}{}
		}
		s.groups[g][name] = struct{}{}
	}
	return x
}

func (s *Store) forgetLocked(name string, x *secret) {
	if len(x.versions) == 0 && len(x.graves) == 0 {
		delete(s.secrets, name)
		g := group(name)
		if delete(s.groups[g], name); len(s.groups[g]) == 0 {
			delete(s.groups, g)
		}
	}
}

// group is the first two parts of a name, by which names are found.
func group(name string) string {
	if i := strings.IndexByte(name, '/'); i >= 0 {
		if j := strings.IndexByte(name[i+1:], '/'); j >= 0 {
			return name[:i+1+j]
		}
	}
	return name
}

// sorted are the versions of a secret that are not deleted, the newest first.
func (x *secret) sorted() []*version {
	all := slices.Collect(maps.Values(x.versions))
	all = slices.DeleteFunc(all, func(v *version) bool { return v.number <= x.deleted })
	slices.SortFunc(all, func(a, b *version) int { return b.compare(a) })
	return all
}

func (x *secret) newest() *version {
	var best *version
	for _, v := range x.versions {
		if v.number > x.deleted && (best == nil || v.compare(best) > 0) {
			best = v
		}
	}
	return best
}

func (v *version) info(name string) Info {
	return Info{Name: name, Version: v.number, Made: v.head.Made, By: v.head.By, Readers: v.head.Readers}
}

// Put keeps a new version of a secret. The same value for the same readers again changes
// nothing.
//
// ErrInvalid: the name is none. ErrTooLarge. ErrUnavailable: this node has joined and was
// given no key yet.
func (s *Store) Put(ctx context.Context, by Caller, name string, value []byte, readers ...Reader) (Info, error) {
	if err := CheckName(name); err != nil {
		return Info{}, err
	}
	if len(value) > MaxValue {
		return Info{}, fmt.Errorf("%w: secret %s has %d bytes, the most is %d", taubyte.ErrTooLarge, name, len(value), MaxValue)
	}
	g, err := s.sealing(ctx)
	if err != nil {
		return Info{}, err
	}
	readers = sortedReaders(readers)
	s.writing.Lock()
	defer s.writing.Unlock()
	if have, info, err := s.read(ctx, name); err == nil && bytes.Equal(have, value) && slices.Equal(info.Readers, readers) {
		return info, nil
	}
	s.mu.Lock()
	number := uint64(0)
	var old []*version
	if x := s.secrets[name]; x != nil {
		number = x.deleted
		for _, v := range x.versions {
			number = max(number, v.number)
		}
		if all := x.sorted(); len(all) >= s.c.Versions {
			old = all[s.c.Versions-1:]
		}
	}
	var outdated []valueKey
	for _, v := range old {
		outdated = slices.AppendSeq(outdated, maps.Values(v.copies))
	}
	s.mu.Unlock()
	id := make([]byte, 8)
	_, _ = rand.Read(id) // never fails
	k := valueKey{name: name, number: number + 1, id: hex.EncodeToString(id), generation: g.id, by: s.self}
	h := header{Made: s.c.Now().UTC(), By: by.Who, Readers: readers}
	sealed, err := sealValue(g.aead, k, h, value)
	if err != nil {
		return Info{}, err
	}
	info := Info{Name: name, Version: k.number, Made: h.Made, By: h.By, Readers: readers}
	if err := s.audit.record(ctx, Access{Who: by.Who, Action: ActionSet, Secret: name, Version: k.number}); err != nil {
		return Info{}, err
	}
	b, err := s.c.Store.Batch(ctx)
	if err != nil {
		return Info{}, err
	}
	if err := b.Put(ctx, k.key(), sealed); err != nil {
		return Info{}, err
	}
	for _, o := range outdated {
		if err := b.Delete(ctx, o.key()); err != nil {
			return Info{}, err
		}
	}
	if err := b.Commit(ctx); err != nil {
		return Info{}, fmt.Errorf("keeping the secret %s: %w", name, err)
	}
	s.mu.Lock()
	s.takeValueLocked(k.key().String(), k, h)
	s.mu.Unlock()
	for _, o := range outdated {
		s.drop(o.key().String())
	}
	return info, nil
}

// Get opens the newest version of a secret. The access is in the audit log before the
// value is given.
//
// ErrNotFound. ErrForbidden: what the caller reads as is no reader of it. ErrUnavailable:
// this node was given no key for it yet.
func (s *Store) Get(ctx context.Context, by Caller, name string) ([]byte, Info, error) {
	all, err := s.GetAll(ctx, by, []string{name})
	if err != nil {
		return nil, Info{}, err
	}
	return all[0].Value, all[0].Info, nil
}

// An Opened is a secret with its value.
type Opened struct {
	Info
	Value []byte
}

// GetAll is Get of several, all or none.
func (s *Store) GetAll(ctx context.Context, by Caller, names []string) ([]Opened, error) {
	all := make([]Opened, 0, len(names))
	accesses := make([]Access, 0, len(names))
	var failed error
	for _, name := range names {
		value, info, err := s.read(ctx, name)
		if err == nil && by.As != "" && !slices.Contains(info.Readers, by.As) {
			err = fmt.Errorf("%w: secret %s is not for %s", taubyte.ErrForbidden, name, by.As)
		}
		a := Access{Who: by.Who, Action: ActionRead, Secret: name, Version: info.Version}
		if err != nil {
			failed, a.Refused = err, err.Error()
			accesses = append(accesses, a)
			break
		}
		accesses = append(accesses, a)
		all = append(all, Opened{info, value})
	}
	if errors.Is(failed, taubyte.ErrNotFound) {
		return nil, failed // there is nothing that was accessed
	}
	if failed != nil {
		accesses = accesses[len(accesses)-1:]
	}
	if err := s.audit.record(ctx, accesses...); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, failed
	}
	return all, nil
}

// Read is Get for this node's own work, without an entry in the audit log: whoever hands
// the value on makes one with Record.
func (s *Store) Read(ctx context.Context, name string) ([]byte, Info, error) {
	return s.read(ctx, name)
}

// Record enters reads of values that were opened by Read into the audit log. The values
// are handed on only if it succeeds.
func (s *Store) Record(ctx context.Context, by Caller, read ...Info) error {
	all := make([]Access, 0, len(read))
	for _, i := range read {
		all = append(all, Access{Who: by.Who, Action: ActionRead, Secret: i.Name, Version: i.Version})
	}
	return s.audit.record(ctx, all...)
}

// read opens the newest version.
func (s *Store) read(ctx context.Context, name string) ([]byte, Info, error) {
	for range 3 { // it may be sealed anew meanwhile
		s.mu.Lock()
		x := s.secrets[name]
		var v *version
		if x != nil {
			v = x.newest()
		}
		if v == nil {
			s.mu.Unlock()
			return nil, Info{}, fmt.Errorf("%w: secret %s", taubyte.ErrNotFound, name)
		}
		info := v.info(name)
		copies := slices.Collect(maps.Values(v.copies))
		s.mu.Unlock()
		known := false
		for _, k := range copies {
			g := s.opened(k.generation)
			if g == nil {
				continue
			}
			known = true
			raw, err := s.c.Store.Get(ctx, k.key())
			if errors.Is(err, ds.ErrNotFound) {
				continue
			}
			if err != nil {
				return nil, info, err
			}
			value, h, err := openValue(g.aead, k, raw)
			if err != nil {
				return nil, info, err
			}
			info.Made, info.By, info.Readers = h.Made, h.By, h.Readers // as they were sealed
			return value, info, nil
		}
		if !known {
			return nil, info, fmt.Errorf("%w: this node was not given the key of the secret %s yet", taubyte.ErrUnavailable, name)
		}
	}
	return nil, Info{}, fmt.Errorf("%w: secret %s is changing", taubyte.ErrUnavailable, name)
}

// Delete deletes all versions of a secret, those that another node writes at the same
// time excepted. ErrNotFound: there is none.
func (s *Store) Delete(ctx context.Context, by Caller, name string) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	x := s.secrets[name]
	if x == nil || x.newest() == nil {
		s.mu.Unlock()
		return fmt.Errorf("%w: secret %s", taubyte.ErrNotFound, name)
	}
	number := x.newest().number
	var gone []ds.Key
	for _, v := range x.versions {
		for _, k := range v.copies {
			gone = append(gone, k.key())
		}
	}
	s.mu.Unlock()
	if err := s.audit.record(ctx, Access{Who: by.Who, Action: ActionDelete, Secret: name, Version: number}); err != nil {
		return err
	}
	when, err := json.Marshal(s.c.Now().UTC())
	if err != nil {
		return err
	}
	b, err := s.c.Store.Batch(ctx)
	if err != nil {
		return err
	}
	grave := deletedKey(name, number, s.self)
	if err := b.Put(ctx, grave, when); err != nil {
		return err
	}
	for _, k := range gone {
		if err := b.Delete(ctx, k); err != nil {
			return err
		}
	}
	if err := b.Commit(ctx); err != nil {
		return fmt.Errorf("deleting the secret %s: %w", name, err)
	}
	s.take(grave.String(), when)
	for _, k := range gone {
		s.drop(k.String())
	}
	return nil
}

// List lists the secrets whose names begin with a prefix, by name. It is answered from
// memory, in the time of those that have the prefix's first two parts, where it has
// those.
func (s *Store) List(prefix string) []Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []Info{}
	add := func(name string) {
		if !strings.HasPrefix(name, prefix) {
			return
		}
		if v := s.secrets[name].newest(); v != nil {
			all = append(all, v.info(name))
		}
	}
	if strings.Count(prefix, "/") >= 2 {
		for name := range s.groups[group(prefix)] {
			add(name)
		}
	} else {
		for name := range s.secrets {
			add(name)
		}
	}
	slices.SortFunc(all, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Watch begins to gather which secrets change whose names begin with a prefix. At first
// all are said to have changed. Stop ends it.
func (s *Store) Watch(prefix string) *Watch {
	w := &Watch{s: s, prefix: prefix, news: make(chan struct{}, 1), all: true}
	w.news <- struct{}{}
	s.mu.Lock()
	s.watchers[w] = struct{}{}
	s.mu.Unlock()
	return w
}

// News has a value when something has changed that Changed was not asked for: one for many
// changes.
func (w *Watch) News() <-chan struct{} { return w.news }

// Changed returns the names of the secrets that have changed, or are gone, since it was
// last called; all says that any may have, and then names has none.
func (w *Watch) Changed() (names []string, all bool) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	names, all = slices.Collect(maps.Keys(w.names)), w.all
	w.names, w.all = nil, false
	return names, all
}

// Stop ends the watch. It may be called twice.
func (w *Watch) Stop() {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	delete(w.s.watchers, w)
}

// tellLocked tells the watches of a name; "" stands for all.
func (s *Store) tellLocked(name string) {
	for w := range s.watchers {
		switch {
		case name == "":
			w.names, w.all = nil, true
		case !strings.HasPrefix(name, w.prefix):
			continue
		case !w.all:
			if w.names == nil {
				w.names = map[string]struct{}{}
			}
			w.names[name] = struct{}{}
		}
		select {
		case w.news <- struct{}{}:
		default:
		}
	}
}
