package monkey

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/unixfs"
)

// cache remembers what a source became, so that what has not changed is not
// built again. It holds roots; the blocks are the host's, and an entry whose blocks
// are gone is none.
type cache struct {
	store  taubyte.Datastore
	blocks blockservice.BlockService // local only
}

const (
	cacheVersion = "4" // of the way in which things are built
	cacheAge     = 30 * 24 * time.Hour
)

// cacheEntry is what is remembered of a target, and with Name of a file of a website.
type cacheEntry struct {
	Root      string    `json:"root,omitempty"`
	Encodings string    `json:"encodings,omitempty"` // the root of a website's
	Name      string    `json:"name,omitempty"`      // in the tree of encodings
	Has       []string  `json:"has,omitempty"`       // the suffixes of its encodings
	Used      time.Time `json:"used"`
}

// An artefact is what a target is built to.
type artefact struct {
	root      cid.Cid
	encodings cid.Cid // of a website, if it has any
}

func (a artefact) roots() []cid.Cid {
	if !a.encodings.Defined() {
		return []cid.Cid{a.root}
	}
	return []cid.Cid{a.root, a.encodings}
}

func cacheKey(key string) ds.Key { return ds.NewKey("/cache").ChildString(key) }

func (c *cache) entry(ctx context.Context, key string) (e cacheEntry, ok bool) {
	value, err := c.store.Get(ctx, cacheKey(key))
	return e, err == nil && json.Unmarshal(value, &e) == nil
}

func (c *cache) get(ctx context.Context, key string) (a artefact, ok bool) {
	e, ok := c.entry(ctx, key)
	if !ok {
		return a, false
	}
	var err error
	if a.root, err = cid.Decode(e.Root); err != nil {
		return a, false
	}
	if e.Encodings != "" {
		if a.encodings, err = cid.Decode(e.Encodings); err != nil {
			return a, false
		}
	}
	for _, root := range a.roots() {
		if _, err := unixfs.Fetch(ctx, c.blocks, root); err != nil {
			return a, false
		}
	}
	if time.Since(e.Used) > cacheAge/10 {
		_ = c.put(ctx, key, a)
	}
	return a, true
}

func (c *cache) put(ctx context.Context, key string, a artefact) error {
	e := cacheEntry{Root: a.root.String(), Used: time.Now().UTC()}
	if a.encodings.Defined() {
		e.Encodings = a.encodings.String()
	}
	return c.write(ctx, c.store, key, e)
}

func (c *cache) write(ctx context.Context, to ds.Write, key string, e cacheEntry) error {
	value, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if err := to.Put(ctx, cacheKey(key), value); err != nil {
		return fmt.Errorf("remembering a build: %w", err)
	}
	return nil
}

// prune forgets what was not used for long.
func (c *cache) prune(ctx context.Context) error {
	res, err := c.store.Query(ctx, query.Query{Prefix: "/cache"})
	if err != nil {
		return fmt.Errorf("pruning the build cache: %w", err)
	}
	entries, err := res.Rest()
	if err != nil {
		return fmt.Errorf("pruning the build cache: %w", err)
	}
	for _, entry := range entries {
		var e cacheEntry
		if json.Unmarshal(entry.Value, &e) == nil && time.Since(e.Used) < cacheAge {
			continue
		}
		if err := c.store.Delete(ctx, ds.RawKey(entry.Key)); err != nil {
			return fmt.Errorf("pruning the build cache: %w", err)
		}
	}
	return nil
}

// cacheKey names everything that a target's build depends on: what it can read of the
// source, and what it is built with.
func (b *build) cacheKey(ctx context.Context, t target, p plan, given given) (string, error) {
	h := sha256.New()
	field := func(parts ...string) { // no two lists of fields have the same bytes
		fmt.Fprintf(h, "%d;", len(parts))
		for _, p := range parts {
			fmt.Fprintf(h, "%d:%s,", len(p), p)
		}
	}
	// A module is checked for the function that is called.
	field(cacheVersion, t.kind, t.call, fmt.Sprint(p.wide))
	if t.kind == "website" {
		field(encodersVersion, fmt.Sprint(t.precompress))
	}
	if p.w != nil {
		field("workflow", p.w.image)
		field(p.w.env...)
		field(given.key...)
	}
	if p.builder != nil {
		bases, err := p.builder.Bases(ctx, string(b.job.Project), p.docker)
		if err != nil {
			return "", err
		}
		field("dockerfile", b.s.o.envName, fmt.Sprint(b.s.o.network), bases)
	}
	if p.k != nil {
		field(b.s.o.envName, p.script, fmt.Sprint(b.s.o.network))
		field(p.k.version...)
		version, err := b.imageVersion(ctx, p)
		if err != nil {
			return "", err
		}
		field(version)
	}
	if p.wide {
		digest, err := b.digest(ctx)
		if err != nil {
			return "", fmt.Errorf("hashing the source: %w", err)
		}
		field(p.dir, digest)
	} else if err := hashTree(ctx, h, b.src, p.dir); err != nil {
		return "", fmt.Errorf("hashing the source: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// imageVersion is what the name of a build's image stands for now, where the environment
// runs images.
func (b *build) imageVersion(ctx context.Context, p plan) (string, error) {
	s := b.s
	if builder, ok := s.o.env.(ImageBuilder); ok && p.docker != nil {
		return builder.Bases(ctx, string(b.job.Project), p.docker)
	}
	images, ok := s.o.env.(interface {
		Resolve(ctx context.Context, image string) (string, error)
	})
	switch {
	case !ok:
		return "", nil
	case p.w != nil:
		return images.Resolve(ctx, p.w.image)
	case p.golang:
		return images.Resolve(ctx, "")
	}
	return images.Resolve(ctx, p.k.image())
}

func hasLinks(fsys fs.FS, dir string) bool {
	err := fs.WalkDir(fsys, dir, bounded(context.Background(), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type()&fs.ModeSymlink != 0 {
			err = fs.ErrExist
		}
		return err
	}))
	return err != nil
}

func hashTree(ctx context.Context, h io.Writer, fsys fs.FS, dir string) error {
	return fs.WalkDir(fsys, dir, bounded(ctx, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(name, dir)
		size := int64(0)
		if d.Type().IsRegular() {
			size = info.Size()
		}
		fmt.Fprintf(h, "%d:%s,%v,%d:", len(rel), rel, info.Mode()&(fs.ModeType|0o100), size)
		switch {
		case d.Type().IsRegular():
			f, err := fsys.Open(name)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.Copy(h, f)
			return err
		case d.Type()&fs.ModeSymlink != 0:
			target, err := fs.ReadLink(fsys, name)
			if err != nil {
				return err
			}
			fmt.Fprintf(h, "%d:%s,", len(target), target)
		}
		return nil
	}))
}
