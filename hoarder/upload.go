package hoarder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/boxo/blockservice"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
)

// Keys of the node's own store about the blocks of storages.
//
//	/file/<store>/<life>/f/…   the DAG of that version of a file is on disk
//	/upload/<id>/<n>           blocks that an upload has added, or is about to
//	/garbage/<root>            nothing of the storages here wants the DAG any more

// pins protect blocks of uploads under way from being collected: nothing refers to
// them yet.
type pins struct {
	mu      sync.Mutex
	blocks  map[string]int // by hash
	active  map[string]bool
	filling map[cid.Cid]int // fetches under way, by root
}

// unlessPinned runs f if the block is not pinned, and it is not while f runs.
func (p *pins) unlessPinned(c cid.Cid, f func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.blocks[string(c.Hash())] > 0 {
		return nil
	}
	return f()
}

// isActive reports whether a key is one of an upload under way.
func (p *pins) isActive(key ds.Key) bool {
	parts := key.List()
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(parts) == 3 && p.active[parts[1]]
}

// upload is a content that comes in.
type upload struct {
	s     *Service
	id    string
	adds  sync.RWMutex // blocks are being added
	ended bool         // guarded by adds

	mu     sync.Mutex
	keys   []ds.Key
	pinned []string
}

func (s *Service) beginUpload() *upload {
	u := &upload{s: s, id: newNonce()}
	s.pins.mu.Lock()
	defer s.pins.mu.Unlock()
	if s.pins.active == nil {
		s.pins.active, s.pins.blocks = map[string]bool{}, map[string]int{}
	}
	s.pins.active[u.id] = true
	return u
}

// blocks is where the upload's blocks go. They are written down before they are on
// disk, so that none is ever forgotten there.
func (u *upload) blocks() blockservice.BlockService {
	return noting{u.s.host.Blocks(), u}
}

type noting struct {
	blockservice.BlockService
	u *upload
}

func (n noting) AddBlock(ctx context.Context, b blocks.Block) error {
	return n.AddBlocks(ctx, []blocks.Block{b})
}

func (n noting) AddBlocks(ctx context.Context, bs []blocks.Block) error {
	// Some come after the end: adding in batches does not wait for those that an
	// error left under way.
	n.u.adds.RLock()
	defer n.u.adds.RUnlock()
	if n.u.ended {
		return context.Canceled
	}
	if err := n.u.note(ctx, bs); err != nil {
		return err
	}
	return n.BlockService.AddBlocks(ctx, bs)
}

func (u *upload) note(ctx context.Context, bs []blocks.Block) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.s.pins.mu.Lock()
	var record []byte
	for _, b := range bs {
		record = append(record, b.Cid().Bytes()...)
		hash := string(b.Cid().Hash())
		u.pinned = append(u.pinned, hash)
		u.s.pins.blocks[hash]++
	}
	u.s.pins.mu.Unlock()
	key := ds.KeyWithNamespaces([]string{"upload", u.id, strconv.Itoa(len(u.keys))})
	if err := u.s.local.Put(ctx, key, record); err != nil {
		return fmt.Errorf("writing %s: %w", key, err)
	}
	u.keys = append(u.keys, key)
	return nil
}

func (u *upload) unpin() {
	u.adds.Lock()
	u.ended = true
	u.adds.Unlock()
	u.s.pins.mu.Lock()
	defer u.s.pins.mu.Unlock()
	delete(u.s.pins.active, u.id)
	for _, hash := range u.pinned {
		if u.s.pins.blocks[hash]--; u.s.pins.blocks[hash] == 0 {
			delete(u.s.pins.blocks, hash)
		}
	}
}

// done ends an upload whose blocks a record refers to now. The caller holds.
func (u *upload) done() {
	u.unpin()
	for _, key := range u.keys {
		// What is left over is looked at and found wanted.
		if err := u.s.local.Delete(u.s.life, key); err != nil && u.s.life.Err() == nil {
			u.s.o.log.Warn("removing the record of an upload", "err", err)
		}
	}
}

// abort has the blocks collected.
func (u *upload) abort() {
	u.unpin()
	u.s.collectTrash()
}

// kept is the node's own record of a file.
type kept struct {
	Root cid.Cid `json:"root"`
	Size int64   `json:"size"`
}

func fileKey(r ref, key string) ds.Key {
	return ds.RawKey("/file/" + r.ID + "/" + strconv.FormatUint(r.Gen, 10) + key)
}

// garbage is a DAG that is deleted once the grace is over: somebody may be reading it.
type garbage struct {
	Since time.Time `json:"since"`
}

func garbageKey(root cid.Cid) ds.Key { return ds.KeyWithNamespaces([]string{"garbage", root.String()}) }

// keepFile records that the DAG of a file is here.
func (s *Service) keepFile(ctx context.Context, r ref, key string, root cid.Cid, size int64) error {
	return put(ctx, s.local, fileKey(r, key), kept{root, size})
}

func (s *Service) keepsFile(ctx context.Context, r ref, key string) (bool, error) {
	return s.local.Has(ctx, fileKey(r, key))
}

// releaseFile gives a file's DAG up. Its blocks go if nothing else has them.
func (s *Service) releaseFile(ctx context.Context, r ref, key string) error {
	at := fileKey(r, key)
	value, err := s.local.Get(ctx, at)
	if errors.Is(err, ds.ErrNotFound) {
		return nil
	}
	var k kept
	if err == nil {
		err = json.Unmarshal(value, &k)
	}
	if err != nil {
		return fmt.Errorf("reading the record %s of a file: %w", at, err)
	}
	batch, err := s.local.Batch(ctx)
	if err != nil {
		return err
	}
	since, err := json.Marshal(garbage{time.Now()})
	if err != nil {
		return err
	}
	s.garbage.Lock()
	defer s.garbage.Unlock()
	if err := errors.Join(batch.Put(ctx, garbageKey(k.Root), since), batch.Delete(ctx, at), batch.Commit(ctx)); err != nil {
		return fmt.Errorf("releasing the file %s: %w", at, err)
	}
	s.space.give(k.Size)
	s.collectTrash()
	return nil
}

// keptFiles calls do for each record of a store's files.
func (s *Service) keptFiles(ctx context.Context, r ref, do func(key string, k kept) error) error {
	prefix := fileKey(r, "").String()
	return each(ctx, s.local, prefix, func(at ds.Key, value []byte) error {
		var k kept
		if err := json.Unmarshal(value, &k); err != nil {
			return fmt.Errorf("reading the record %s of a file: %w", at, err)
		}
		return do(strings.TrimPrefix(at.String(), prefix), k)
	})
}

// releaseFiles gives up all files of a store.
func (s *Service) releaseFiles(ctx context.Context, r ref) error {
	var keys []string
	if err := s.keptFiles(ctx, r, func(key string, _ kept) error {
		keys = append(keys, key)
		return nil
	}); err != nil {
		return err
	}
	for _, key := range keys {
		if err := s.releaseFile(ctx, r, key); err != nil {
			return err
		}
	}
	return nil
}
