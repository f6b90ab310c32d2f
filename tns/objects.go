package tns

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/multiformats/go-multihash"

	"github.com/taubyte/taubyte"
)

// A deployment is kept as an object: the JSON of it, in one block of the codec raw as long
// as it is short. That of a longer one is cut into blocks, and the object is their root, a
// block of the codec dag-json:
//
//	{"version":2,"size":<of the JSON>,"blocks":[<CID>, …],"short":{…},"parts":"in blocks"}
//
// so that a CID says which it is. What a history lists is in the root (short). Members that join later fetch blocks one by one, and what
// goes between nodes is bounded: a block has 512 KiB at most, in front of which is a mark of
// the deployment. By that mark no two deployments share a block, and who deletes one deletes
// its blocks. Versions that know no roots can't read them, by the parts that are a text, and
// try again later.
const (
	rootVersion = 2
	blockBytes  = 512 << 10
	markBytes   = 16
	// maxBlocks bounds what a root makes a node fetch: twice what a part may have.
	maxBlocks = 2 * publishLimit / blockBytes

	partsInBlocks = "in blocks"
)

type root struct {
	Version int         `json:"version"`
	Size    int         `json:"size"`
	Blocks  []cid.Cid   `json:"blocks"`
	Short   *Deployment `json:"short"`
	Parts   string      `json:"parts"`
}

// stored is an object: the blocks of a root, and the one that names it.
type stored struct {
	blocks []blocks.Block
	head   blocks.Block
}

func (o *stored) all() []blocks.Block { return append(append([]blocks.Block{}, o.blocks...), o.head) }

// cut makes a deployment an object.
func cut(d *Deployment) (*stored, error) {
	raw, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	if len(raw) <= blockBytes {
		head, err := blockOf(raw)
		return &stored{head: head}, err
	}
	if len(raw) > maxBlocks*blockBytes {
		return nil, fmt.Errorf("%w deployment: %d MiB are more than the registry keeps", taubyte.ErrTooLarge, len(raw)>>20)
	}
	sum := sha256.Sum256(raw)
	r := root{Version: rootVersion, Size: len(raw), Short: d.short(), Parts: partsInBlocks}
	o := &stored{}
	for at := 0; at < len(raw); at += blockBytes {
		b, err := blockOf(append(bytes.Clone(sum[:markBytes]), raw[at:min(at+blockBytes, len(raw))]...))
		if err != nil {
			return nil, err
		}
		o.blocks, r.Blocks = append(o.blocks, b), append(r.Blocks, b.Cid())
	}
	if raw, err = json.Marshal(r); err != nil {
		return nil, err
	}
	if len(raw) > 2*blockBytes {
		return nil, fmt.Errorf("%w deployment: what its history lists has %d KiB", taubyte.ErrTooLarge, len(raw)>>10)
	}
	o.head, err = rootOf(raw)
	return o, err
}

func rootOf(raw []byte) (blocks.Block, error) {
	sum, err := multihash.Sum(raw, multihash.SHA2_256, -1)
	if err != nil {
		return nil, err
	}
	return blocks.NewBlockWithCid(raw, cid.NewCidV1(cid.DagJSON, sum))
}

func isRoot(c cid.Cid) bool { return c.Prefix().Codec == cid.DagJSON }

func parseRoot(raw []byte) (r root, err error) {
	if err := json.Unmarshal(raw, &r); err != nil {
		return r, fmt.Errorf("%w deployment: root: %w", taubyte.ErrInvalid, err)
	}
	if r.Version != rootVersion {
		return r, fmt.Errorf("%w deployment: it is written as version %d, and this node reads %d", taubyte.ErrInvalid, r.Version, rootVersion)
	}
	if r.Parts != partsInBlocks {
		return r, fmt.Errorf("%w deployment: a root whose parts are %q", taubyte.ErrInvalid, r.Parts)
	}
	if r.Short == nil {
		return r, fmt.Errorf("%w deployment: a root without what a history lists", taubyte.ErrInvalid)
	}
	if r.Size <= 0 || r.Size > maxBlocks*blockBytes || len(r.Blocks) != (r.Size+blockBytes-1)/blockBytes {
		return r, fmt.Errorf("%w deployment: a root of %d blocks for %d bytes", taubyte.ErrInvalid, len(r.Blocks), r.Size)
	}
	for _, c := range r.Blocks {
		if !c.Defined() || isRoot(c) {
			return r, fmt.Errorf("%w deployment: block %s of its root", taubyte.ErrInvalid, c)
		}
	}
	return r, nil
}

// join reads an object's JSON, with get for each of its blocks.
func join(ctx context.Context, c cid.Cid, get fetcher) ([]byte, error) {
	raw, err := get(ctx, c)
	if err != nil || !isRoot(c) {
		return raw, err
	}
	r, err := parseRoot(raw)
	if err != nil {
		return nil, err
	}
	var whole []byte
	for _, b := range r.Blocks {
		piece, err := get(ctx, b)
		if err != nil {
			return nil, err
		}
		if len(piece) <= markBytes || len(piece) > markBytes+blockBytes {
			return nil, fmt.Errorf("%w deployment: block %s has %d bytes", taubyte.ErrInvalid, b, len(piece))
		}
		whole = append(whole, piece[markBytes:]...)
	}
	if len(whole) != r.Size {
		return nil, fmt.Errorf("%w deployment: its blocks have %d bytes, and not %d", taubyte.ErrInvalid, len(whole), r.Size)
	}
	return whole, nil
}

// local gets an object of this node.
func (s *Service) local(ctx context.Context, c cid.Cid) ([]byte, error) {
	return join(ctx, c, func(ctx context.Context, c cid.Cid) ([]byte, error) {
		b, err := s.blocks.Blockstore().Get(ctx, c)
		if err != nil {
			return nil, err
		}
		return b.RawData(), nil
	})
}

// shortOr gets of an object what a history lists, from here, or else from wherever it is.
func (s *Service) shortOr(ctx context.Context, c cid.Cid) (*Deployment, error) {
	raw, err := s.blockOr(ctx, c)
	if err != nil {
		return nil, err
	}
	if isRoot(c) {
		r, err := parseRoot(raw)
		return r.Short, err
	}
	return decode(raw)
}

// localOr gets an object from here, or else from wherever it is.
func (s *Service) localOr(ctx context.Context, c cid.Cid) ([]byte, error) {
	return join(ctx, c, s.blockOr)
}

func (s *Service) blockOr(ctx context.Context, c cid.Cid) ([]byte, error) {
	if b, err := s.blocks.Blockstore().Get(ctx, c); err == nil {
		return b.RawData(), nil
	}
	b, err := s.blocks.GetBlock(ctx, c)
	if err != nil {
		return nil, err
	}
	return b.RawData(), nil
}

// has reports whether the whole of an object is on this node, and lists its blocks.
func (s *Service) has(ctx context.Context, c cid.Cid) (all []cid.Cid, whole bool, err error) {
	if !isRoot(c) {
		is, err := s.blocks.Blockstore().Has(ctx, c)
		return []cid.Cid{c}, is, err
	}
	b, err := s.blocks.Blockstore().Get(ctx, c)
	if ipld.IsNotFound(err) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	r, err := parseRoot(b.RawData())
	if err != nil {
		return nil, false, err
	}
	whole = true
	for _, one := range r.Blocks {
		is, err := s.blocks.Blockstore().Has(ctx, one)
		if err != nil {
			return nil, false, err
		}
		whole = whole && is
	}
	return append(r.Blocks, c), whole, nil // the root last: what is deleted by it is deleted before it
}
