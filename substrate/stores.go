package substrate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/internal/unixfs"
	"github.com/taubyte/taubyte/substrate/internal/abi"
	"github.com/taubyte/taubyte/tns/config"
)

// Hoarder is what substrate needs of hoarder, so that functions can keep data: a
// *hoarder.Service or a *hoarder.Client.
type Hoarder interface {
	Database(context.Context, hoarder.Instance, hoarder.DatabaseSpec) (*hoarder.Database, error)
	Storage(context.Context, hoarder.Instance, hoarder.StorageSpec) (*hoarder.Storage, error)
	Item(context.Context, cid.Cid) (hoarder.Item, error)
	Content(taubyte.ProjectID, taubyte.Branch, cid.Cid) blockservice.BlockService
}

var (
	_ Hoarder = (*hoarder.Service)(nil)
	_ Hoarder = (*hoarder.Client)(nil)
)

// WithHoarder sets where functions' databases, storages and content are kept. The
// default is a client of the hoarder on this host or, where there is none, of those
// on the network.
func WithHoarder(h Hoarder) Option { return func(c *options) { c.hoarder = h } }

// The scopes that a branch's own stores are in. They are no application's: ids have
// no such sign in them.
const (
	globalsScope taubyte.ApplicationID = "@globals"
	contentScope taubyte.ApplicationID = "@content"
)

// globalsSize is how many bytes the global values of a branch may take.
const globalsSize = 1_000_000

// A shop finds the stores that the functions of one scope may open: what the
// configuration has for a name in their application or else globally. A branch has its
// own, so that what is tried out spoils nothing. The stores themselves are shared by all
// who open them: that is up to the hoarder's client.
type shop struct {
	s         *Service
	project   taubyte.ProjectID
	branch    taubyte.Branch
	databases []storeRule[hoarder.DatabaseSpec]
	storages  []storeRule[hoarder.StorageSpec]
	guards    *deployment // whose smart operations are asked; nil: none are
}

// A storeRule is a resource of the configuration.
type storeRule[S any] struct {
	id          taubyte.ResourceID
	application taubyte.ApplicationID // that it belongs to
	match       string
	regex       *regexp.Regexp // instead of match
	spec        S
	refused     error // why it can't be as it is configured
}

func (r *storeRule[S]) matches(name string) bool {
	if r.regex != nil {
		return r.regex.MatchString(name)
	}
	return r.match == name
}

var _ abi.Stores = (*shop)(nil)

// shop compiles what the functions of a scope may open.
func (s *Service) shop(project taubyte.ProjectID, branch taubyte.Branch, in scope) (*shop, error) {
	o := &shop{s: s, project: project, branch: branch}
	from := []scope{in}
	if in.id != "" {
		from = append(from, scope{global: in.global, Resources: in.global})
	}
	for _, sc := range from {
		for i := range sc.Databases {
			db := &sc.Databases[i]
			r, err := newStoreRule(db.ID, sc.id, db.Match, db.UseRegex, hoarder.DatabaseSpec{Size: db.Size})
			if err != nil {
				return nil, fmt.Errorf("database %s: %w", db.Name, err)
			}
			if db.Local { // kept by one host alone
				r.spec.Min, r.spec.Max = 1, 1
			}
			r.refused = unsupported(db)
			o.databases = append(o.databases, r)
		}
		for i := range sc.Storages {
			st := &sc.Storages[i]
			r, err := newStoreRule(st.ID, sc.id, st.Match, st.UseRegex, hoarder.StorageSpec{Size: st.Size, Versioning: st.Versioning, TTL: st.TTL})
			if err != nil {
				return nil, fmt.Errorf("storage %s: %w", st.Name, err)
			}
			o.storages = append(o.storages, r)
		}
	}
	return o, nil
}

// openWait bounds making the stores of a scope ready. A deployment is not held back for
// longer: those that are not ready by then are when a function first opens them.
const openWait = 10 * time.Second

// open has the stores of an application made and opened on their replicas, those whose
// names the configuration tells: the first calls of a new deployment find them ready.
func (o *shop) open(ctx context.Context, application taubyte.ApplicationID) {
	ctx, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	var wg sync.WaitGroup
	places := make(chan struct{}, builders)
	ready := func(kind, name string, open func() error) {
		wg.Go(func() {
			select {
			case places <- struct{}{}:
				defer func() { <-places }()
			case <-ctx.Done():
				return
			}
			if err := open(); err != nil && ctx.Err() == nil {
				o.s.log.Warn("a store is not ready", "project", o.project, "branch", o.branch, "kind", kind, "name", name, "err", err)
			}
		})
	}
	for i := range o.databases {
		r := &o.databases[i]
		if r.application == application && r.regex == nil && r.match != "" && r.refused == nil {
			ready("database", r.match, func() error {
				db, err := o.s.hoarder.Database(ctx, o.instance(r.application, r.match), r.spec)
				if err == nil {
					_, err = db.Used(ctx)
				}
				return err
			})
		}
	}
	for i := range o.storages {
		r := &o.storages[i]
		if r.application == application && r.regex == nil && r.match != "" && r.refused == nil {
			ready("storage", r.match, func() error {
				st, err := o.s.hoarder.Storage(ctx, o.instance(r.application, r.match), r.spec)
				if err == nil {
					_, err = st.Used(ctx)
				}
				return err
			})
		}
	}
	wg.Wait()
}

func newStoreRule[S any](id taubyte.ResourceID, application taubyte.ApplicationID, match string, regex bool, spec S) (storeRule[S], error) {
	r := storeRule[S]{id: id, application: application, match: match, spec: spec}
	if regex {
		var err error
		if r.regex, err = regexp.Compile(match); err != nil {
			return r, fmt.Errorf("%w match %q: %w", taubyte.ErrInvalid, match, err)
		}
	}
	return r, nil
}

// unsupported says what of a database's configuration would be ignored if it were
// opened: a promise of secrecy or place that nothing keeps is worse than none.
func unsupported(db *config.Database) error {
	switch {
	case db.EncryptionKey != "" || db.EncryptionType != "":
		return fmt.Errorf("%w database %s: encryption is not offered; take it out of the configuration", taubyte.ErrInvalid, db.Name)
	case db.NetworkAccess == "subnet":
		return fmt.Errorf("%w database %s: the access network \"subnet\" is not offered, only \"all\" and \"host\"", taubyte.ErrInvalid, db.Name)
	}
	return nil
}

func find[S any](kind, name string, rules []storeRule[S]) (*storeRule[S], error) {
	if len(name) > hoarder.MaxKey {
		return nil, fmt.Errorf("%w name of %d bytes for a %s", taubyte.ErrInvalid, len(name), kind)
	}
	for i := range rules {
		if r := &rules[i]; r.matches(name) {
			return r, r.refused
		}
	}
	return nil, fmt.Errorf("%w: no %s is configured for %q", taubyte.ErrNotFound, kind, name)
}

func (o *shop) instance(application taubyte.ApplicationID, name string) hoarder.Instance {
	return hoarder.Instance{Project: o.project, Branch: o.branch, Application: application, Name: name}
}

// Database implements abi.Stores.
func (o *shop) Database(ctx context.Context, name string) (abi.Database, error) {
	r, err := find("database", name, o.databases)
	if err != nil {
		return nil, err
	}
	use := guarded{resourceKey{r.application, r.id}, abi.ResourceDatabase}
	if err := o.allow(ctx, use); err != nil {
		return nil, err
	}
	db, err := o.database(ctx, r.application, name, r.spec)
	if err != nil || !o.asks(use) {
		return db, err
	}
	return &guardedDatabase{db, o, use}, nil
}

// A guardedDatabase is one that has smart operations.
type guardedDatabase struct {
	abi.Database
	shop *shop
	use  guarded
}

var _ abi.Guarded = (*guardedDatabase)(nil)

// Allow implements abi.Guarded.
func (d *guardedDatabase) Allow(ctx context.Context) error { return d.shop.allow(ctx, d.use) }

func (o *shop) database(ctx context.Context, application taubyte.ApplicationID, name string, spec hoarder.DatabaseSpec) (abi.Database, error) {
	db, err := o.s.hoarder.Database(ctx, o.instance(application, name), spec)
	if err != nil {
		return nil, err
	}
	return db, nil
}

// Globals implements abi.Stores.
func (o *shop) Globals(ctx context.Context) (abi.Database, error) {
	return o.database(ctx, globalsScope, "globals", hoarder.DatabaseSpec{Size: globalsSize})
}

// Storage implements abi.Stores.
func (o *shop) Storage(ctx context.Context, name string) (abi.Storage, error) {
	r, err := find("storage", name, o.storages)
	if err != nil {
		return nil, err
	}
	st, err := o.storage(ctx, r, name)
	if err != nil {
		return nil, err
	}
	return &shelf{st, o, o.instance(r.application, name), guarded{resourceKey{r.application, r.id}, abi.ResourceStorage}}, nil
}

func (o *shop) storage(ctx context.Context, r *storeRule[hoarder.StorageSpec], name string) (*hoarder.Storage, error) {
	if err := o.allow(ctx, guarded{resourceKey{r.application, r.id}, abi.ResourceStorage}); err != nil {
		return nil, err
	}
	return o.s.hoarder.Storage(ctx, o.instance(r.application, name), r.spec)
}

// pushed is the storage of the branch that has what its functions push, each content
// under its CID. So there is a bound to what they may make hoarders keep, and nothing of it
// stays here.
func (o *shop) pushed(ctx context.Context) (*hoarder.Storage, error) {
	return o.s.hoarder.Storage(ctx, o.instance(contentScope, "pushed"), hoarder.StorageSpec{})
}

// AddContent implements abi.Stores.
func (o *shop) AddContent(ctx context.Context, content io.ReadSeeker) (cid.Cid, error) {
	st, err := o.pushed(ctx)
	if err != nil {
		return cid.Undef, err
	}
	root, err := unixfs.AddFile(ctx, nowhere(), content)
	if err != nil {
		return cid.Undef, err
	}
	if _, err := st.Stat(ctx, root.String(), 0); err == nil {
		return root, nil // it is kept
	} else if !errors.Is(err, taubyte.ErrNotFound) {
		return cid.Undef, err
	}
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return cid.Undef, err
	}
	_, err = st.Add(ctx, root.String(), content, true)
	return root, err
}

// OpenContent implements abi.Stores. A CID is no secret: that somebody knows one does
// not make what it names his.
func (o *shop) OpenContent(ctx context.Context, root cid.Cid) (io.ReadSeekCloser, error) {
	for _, open := range []func(context.Context, cid.Cid) (io.ReadSeekCloser, error){o.openPushed, o.openFile, o.openAsset} {
		if f, err := open(ctx, root); !errors.Is(err, taubyte.ErrNotFound) {
			return f, err
		}
	}
	return nil, fmt.Errorf("%w: the project keeps no content %s", taubyte.ErrNotFound, root)
}

func (o *shop) openPushed(ctx context.Context, root cid.Cid) (io.ReadSeekCloser, error) {
	st, err := o.pushed(ctx)
	if err != nil {
		return nil, err
	}
	f, _, err := st.Open(ctx, root.String(), 0)
	return f, err
}

// openAsset opens what was built or kept for the project as a whole.
func (o *shop) openAsset(ctx context.Context, root cid.Cid) (io.ReadSeekCloser, error) {
	item, err := o.s.hoarder.Item(ctx, root)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(item.Claims, func(c hoarder.Claim) bool { return c.Project == o.project }) {
		return nil, fmt.Errorf("%w: another project's content %s", taubyte.ErrNotFound, root)
	}
	f, err := unixfs.Open(ctx, passing(o.s.hoarder.Content(o.project, o.branch, root)), root, "")
	if err != nil {
		return nil, err
	}
	if f.IsDir() {
		return nil, errors.Join(fmt.Errorf("%w: %s is a folder", taubyte.ErrNotFound, root), f.Close())
	}
	return f, nil
}

// A shelf is a storage whose files may be opened by their CIDs as well, once they
// were asked for. Which file a CID was of is kept in a database of the branch, for all
// nodes.
type shelf struct {
	*hoarder.Storage
	shop *shop
	at   hoarder.Instance
	use  guarded
}

var _ abi.Guarded = (*shelf)(nil)

// Allow implements abi.Guarded.
func (f *shelf) Allow(ctx context.Context) error { return f.shop.allow(ctx, f.use) }

// whereabouts say which file has a content.
type whereabouts struct {
	Storage string `json:"storage"`
	File    string `json:"file"`
	Version uint32 `json:"version"`
}

// Stat gives a file's CID to the function.
func (f *shelf) Stat(ctx context.Context, name string, version uint32) (hoarder.File, error) {
	file, err := f.Storage.Stat(ctx, name, version)
	if err != nil {
		return file, err
	}
	raw, err := json.Marshal(whereabouts{f.at.Name, file.Name, file.Version})
	if err != nil {
		return file, err
	}
	index, err := f.shop.index(ctx, f.at.Application)
	if err != nil {
		return file, err
	}
	if had, err := index.Get(ctx, file.CID.String()); err == nil && string(had) == string(raw) {
		return file, nil
	}
	if err := index.Put(ctx, file.CID.String(), raw); !errors.Is(err, hoarder.ErrFull) {
		return file, err
	}
	return file, nil // which is opened by its name
}

// index is where the files of an application's storages are, by their CIDs.
func (o *shop) index(ctx context.Context, application taubyte.ApplicationID) (abi.Database, error) {
	return o.database(ctx, contentScope, "files/"+string(application), hoarder.DatabaseSpec{})
}

// openFile opens the file of a storage that has a content, as long as it has.
func (o *shop) openFile(ctx context.Context, root cid.Cid) (io.ReadSeekCloser, error) {
	none := fmt.Errorf("%w: no file is known to have the content %s", taubyte.ErrNotFound, root)
	for i := range o.storages {
		application := o.storages[i].application
		if i > 0 && application == o.storages[i-1].application {
			continue // looked at
		}
		f, err := o.openFileOf(ctx, application, root)
		if !errors.Is(err, taubyte.ErrNotFound) {
			return f, err
		}
	}
	return nil, none
}

func (o *shop) openFileOf(ctx context.Context, application taubyte.ApplicationID, root cid.Cid) (io.ReadSeekCloser, error) {
	index, err := o.index(ctx, application)
	if err != nil {
		return nil, err
	}
	raw, err := index.Get(ctx, root.String())
	if err != nil {
		return nil, err
	}
	var at whereabouts
	if err := json.Unmarshal(raw, &at); err != nil {
		return nil, err
	}
	own := slices.DeleteFunc(slices.Clone(o.storages), func(r storeRule[hoarder.StorageSpec]) bool { return r.application != application })
	r, err := find("storage", at.Storage, own)
	if err != nil {
		return nil, err
	}
	st, err := o.storage(ctx, r, at.Storage)
	if err != nil {
		return nil, err
	}
	content, f, err := st.Open(ctx, at.File, at.Version)
	if err != nil {
		return nil, err
	}
	if f.CID != root {
		return nil, errors.Join(fmt.Errorf("%w: the file has another content by now", taubyte.ErrNotFound), content.Close())
	}
	return content, nil
}

// unkept is a blockstore that does not keep what is put into it.
type unkept struct{ blockstore.Blockstore }

func (unkept) Put(context.Context, blocks.Block) error       { return nil }
func (unkept) PutMany(context.Context, []blocks.Block) error { return nil }

// passing gives blocks that are fetched for a reader, and not kept here.
func passing(from blockservice.BlockService) blockservice.BlockService {
	return blockservice.New(unkept{from.Blockstore()}, from.Exchange())
}

// nowhere is where a file is added to find out its CID.
func nowhere() blockservice.BlockService {
	return blockservice.New(unkept{blockstore.NewBlockstore(ds.NewNullDatastore())}, nil)
}
