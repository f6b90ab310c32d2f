package tns

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	ipld "github.com/ipfs/go-ipld-format"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/tns/config"
)

// A KeyKeeper keeps the private key of a domain's inline certificate, which is in
// KeyFile. The same again changes nothing. ErrInvalid: it is no key of the certificate;
// it is then given up.
type KeyKeeper func(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch, d config.Domain) error

// WithKeyKeeper sets where private keys go that earlier versions wrote into the registry.
// At the first start with it each branch's history is written anew without them, and the
// keys of what the branch runs are handed over before. The default is to leave them where
// they are; they are not told to anyone in any case.
func WithKeyKeeper(keep KeyKeeper) Option { return func(o *options) { o.keys = keep } }

// eachDomain calls do with every domain of a configuration, which it may change.
func eachDomain(c *config.Project, do func(*config.Domain)) {
	if c == nil {
		return
	}
	for i := range c.Domains {
		do(&c.Domains[i])
	}
	for i := range c.Applications {
		for j := range c.Applications[i].Domains {
			do(&c.Applications[i].Domains[j])
		}
	}
}

// keyMark is in every private key in PEM.
const keyMark = "PRIVATE KEY"

func mayHoldKey(raw []byte) bool { return bytes.Contains(raw, []byte(keyMark)) }

// checkKeys refuses a configuration with a private key in it: every node can read the
// registry.
func checkKeys(c *config.Project) (err error) {
	eachDomain(c, func(d *config.Domain) {
		if strings.Contains(d.KeyFile, keyMark) {
			err = fmt.Errorf("%w deployment: the domain %s has its private key in it, which auth is to keep", taubyte.ErrInvalid, d.Name)
		}
	})
	return err
}

// withoutKeys puts references in the place of a deployment's private keys, always the
// same ones, and reports whether there were any.
func withoutKeys(d *Deployment) (had bool) {
	for _, p := range d.Parts {
		eachDomain(p.Config, func(dom *config.Domain) {
			if strings.Contains(dom.KeyFile, keyMark) {
				had = true
				dom.KeyFile = config.KeyReference(d.Project, d.Branch, dom.ID)
			}
		})
	}
	return had
}

// keysMoved says in a node's own store that its history was searched.
var keysMoved = ds.NewKey("/tns/keys-moved")

// moveKeys takes the private keys out of the history that this node has, once.
func (s *Service) moveKeys(ctx context.Context, local taubyte.Datastore) {
	if s.opts.keys == nil {
		return
	}
	if done, err := local.Has(ctx, keysMoved); err == nil && done {
		return
	}
	for wait := 200 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 30*time.Second) {
		err := s.tryMoveKeys(ctx)
		if err == nil {
			err = local.Put(ctx, keysMoved, []byte{1})
		}
		if err == nil {
			return
		}
		if ctx.Err() == nil {
			s.opts.log.Warn("private keys are in the registry still", "err", err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

func (s *Service) tryMoveKeys(ctx context.Context) error {
	holding := map[branchKey]bool{}
	var failed error
	err := s.eachEntry(ctx, historyPrefix, func(e entry) {
		if !holding[e.branchKey] {
			raw, err := s.here(ctx, e.object)
			failed = errors.Join(failed, err)
			holding[e.branchKey] = mayHoldKey(raw)
		}
	})
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	var errs []error
	for k, may := range holding {
		if may {
			if err := s.moveKeysOf(ctx, k); err != nil {
				errs = append(errs, fmt.Errorf("history of %s %s: %w", k.project, k.branch, err))
			}
		}
	}
	return errors.Join(errs...)
}

// here reads a block that is on this node; nil where it is not. Whoever has it moves its
// keys.
func (s *Service) here(ctx context.Context, c cid.Cid) ([]byte, error) {
	raw, err := s.local(ctx, c)
	if ipld.IsNotFound(err) {
		return nil, nil
	}
	return raw, err
}

// moveKeysOf writes the history of a branch anew. Nodes that do so at the same time write
// the same: a deployment without its keys is one block, in the place that the other had.
func (s *Service) moveKeysOf(ctx context.Context, k branchKey) error {
	unlock, err := s.publishing.lock(ctx, k)
	if err != nil {
		return err
	}
	defer unlock()
	entries, err := s.entries(ctx, k)
	if err != nil {
		return err
	}
	clean := map[cid.Cid]blocks.Block{} // by what they replace
	fetching, cancel := context.WithTimeout(ctx, keepTimeout)
	defer cancel()
	for _, e := range entries {
		raw, err := s.here(ctx, e.object)
		if err != nil {
			return err
		}
		if raw == nil { // all nodes are to see the same
			raw, _ = s.localOr(fetching, e.object)
		}
		if !mayHoldKey(raw) {
			continue
		}
		d, err := unmarshal[Deployment](raw)
		if err != nil || !withoutKeys(d) {
			continue // it can't be read at all, or has the words elsewhere
		}
		if clean[e.object], err = encode(d); err != nil {
			return err
		}
	}
	if len(clean) == 0 {
		return nil
	}
	if err := s.handOver(ctx, k, entries); err != nil {
		return err
	}
	for _, block := range clean {
		if err := s.blocks.AddBlock(ctx, block); err != nil {
			return err
		}
	}
	for _, e := range tips(entries) {
		if block, ok := clean[e.object]; ok {
			s.copied(ctx, "the deployment", copyRequest{Object: block.RawData()})
		}
	}
	if err := s.replace(ctx, entries, clean); err != nil {
		return err
	}
	s.update(ctx, k, s.fetch)
	s.opts.log.Info("private keys taken out of the registry", "project", k.project, "branch", k.branch, "deployments", len(clean))
	return nil
}

// handOver gives away the keys of what a branch runs.
func (s *Service) handOver(ctx context.Context, k branchKey, entries []entry) error {
	var now *Deployment
	for _, e := range tips(entries) {
		raw, err := s.here(ctx, e.object)
		if err != nil {
			return err
		}
		d, err := unmarshal[Deployment](raw)
		if raw == nil || err != nil {
			continue
		}
		if now != nil {
			d = merge(now, d)
		}
		now = d
	}
	if now == nil {
		return nil
	}
	var failed error
	eachDomain(now.Config(), func(d *config.Domain) {
		if failed != nil || !strings.Contains(d.KeyFile, keyMark) {
			return
		}
		err := s.opts.keys(ctx, k.project, k.branch, *d)
		if errors.Is(err, taubyte.ErrInvalid) {
			s.opts.log.Warn("a private key in the registry is not usable, and is deleted", "project", k.project, "branch", k.branch, "domain", d.Name, "err", err)
			err = nil
		}
		failed = err
	})
	return failed
}

// replace exchanges entries of a branch's history, in one step.
func (s *Service) replace(ctx context.Context, entries []entry, clean map[cid.Cid]blocks.Block) error {
	batch, err := s.store.Batch(ctx)
	if err != nil {
		return err
	}
	entries = slices.Clone(entries)
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.sequence, b.sequence) })
	for _, e := range entries {
		block, holds := clean[e.object]
		follows := slices.Clone(e.Follows)
		for i, c := range follows {
			if other, ok := clean[c]; ok {
				follows[i] = other.Cid()
			}
		}
		if !holds && slices.Equal(follows, e.Follows) {
			continue
		}
		before := e.key()
		if e.Follows = follows; holds {
			e.object = block.Cid()
		}
		value, err := json.Marshal(e.origin)
		if err != nil {
			return err
		}
		if err := batch.Put(ctx, e.key(), value); err != nil {
			return err
		}
		if holds {
			if err := batch.Delete(ctx, before); err != nil {
				return err
			}
		}
	}
	return batch.Commit(ctx)
}
