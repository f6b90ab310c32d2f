package crdt

import (
	"fmt"

	"github.com/ipfs/boxo/datastore/dshelp"
	"github.com/ipfs/boxo/ipld/merkledag"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-ds-crdt/pb"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/multiformats/go-multihash"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/taubyte/taubyte"
)

// What a block may be. A message of gossip carries at most 1 MiB.
const (
	maxBlock   = 1 << 20
	maxValue   = 768 << 10
	maxKey     = 4 << 10
	maxLinks   = 64
	maxEntries = 4096
	// maxPriority is far above what a store can reach one block at a time.
	maxPriority = 1 << 53
	// splitAt is where a group of writes goes on in a new block.
	splitAt = 256 << 10
)

// metaField is the field of the delta's protobuf message that holds what a
// block says of itself beyond go-ds-crdt, which passes over it: its dot, and
// then the dot of each block that it links to, in the order of the links.
const metaField protowire.Number = 100

// block is a node of the Merkle DAG of go-ds-crdt: a delta, and links to the
// blocks that were heads when it was written.
type block struct {
	raw   []byte
	cid   cid.Cid
	id    string // as go-ds-crdt names it: "/" and the multihash in base32
	node  ipld.Node
	delta *pb.Delta
	dot   dot
	deps  []dot
}

func newBlock(delta *pb.Delta, d dot, heads []head) (*block, error) {
	data, err := proto.Marshal(delta)
	if err != nil {
		return nil, err
	}
	meta := appendDot(nil, d)
	for _, h := range heads {
		meta = appendDot(meta, h.dot)
	}
	data = protowire.AppendBytes(protowire.AppendTag(data, metaField, protowire.BytesType), meta)
	node := merkledag.NodeWithData(data)
	for _, h := range heads {
		if err := node.AddRawLink("", &ipld.Link{Cid: h.cid}); err != nil {
			return nil, err
		}
	}
	if err := node.SetCidBuilder(merkledag.V1CidPrefix()); err != nil {
		return nil, err
	}
	raw := node.RawData()
	b := &block{raw: raw, cid: node.Cid(), id: blockID(node.Cid().Hash()), node: node, delta: delta, dot: d}
	for _, h := range heads {
		b.deps = append(b.deps, h.dot)
	}
	if len(raw) > maxBlock {
		return nil, fmt.Errorf("%w block: %d bytes", taubyte.ErrInvalid, len(raw))
	}
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("%w block: %w", taubyte.ErrInvalid, err)
	}
	return b, nil
}

// parseBlock reads a block and checks everything that can be told from the
// block alone. Its errors wrap taubyte.ErrInvalid.
func parseBlock(raw []byte) (*block, error) {
	b, err := decodeBlock(raw)
	if err != nil {
		return nil, fmt.Errorf("%w block: %w", taubyte.ErrInvalid, err)
	}
	return b, nil
}

func decodeBlock(raw []byte) (*block, error) {
	if len(raw) > maxBlock {
		return nil, fmt.Errorf("%d bytes", len(raw))
	}
	c, err := merkledag.V1CidPrefix().Sum(raw)
	if err != nil {
		return nil, err
	}
	bb, err := blocks.NewBlockWithCid(raw, c)
	if err != nil {
		return nil, err
	}
	node, err := merkledag.DecodeProtobufBlock(bb)
	if err != nil {
		return nil, err
	}
	b := &block{raw: raw, cid: c, id: blockID(c.Hash()), node: node, delta: new(pb.Delta)}
	if err := proto.Unmarshal(node.(*merkledag.ProtoNode).Data(), b.delta); err != nil {
		return nil, err
	}
	if err := b.readMeta(); err != nil {
		return nil, err
	}
	return b, b.check()
}

func blockID(h multihash.Multihash) string { return dshelp.MultihashToDsKey(h).String() }

func (b *block) readMeta() error {
	unknown := []byte(b.delta.ProtoReflect().GetUnknown())
	num, typ, n := protowire.ConsumeTag(unknown)
	if n < 0 || num != metaField || typ != protowire.BytesType {
		return fmt.Errorf("%w: no dot", errMalformed)
	}
	meta, m := protowire.ConsumeBytes(unknown[n:])
	if m < 0 || n+m != len(unknown) {
		return fmt.Errorf("%w: dot", errMalformed)
	}
	d := decoder{b: meta}
	b.dot = d.dot()
	for range b.node.Links() {
		b.deps = append(b.deps, d.dot())
	}
	return d.end()
}

func (b *block) check() error {
	d := b.delta
	links := cid.NewSet()
	for _, l := range b.node.Links() {
		if l.Name != "" || l.Cid.Prefix() != b.cid.Prefix() || !links.Visit(l.Cid) {
			return fmt.Errorf("%w: link to %s", errMalformed, l.Cid)
		}
	}
	switch {
	case b.dot.seq == 0 || b.dot.seq > maxPriority:
		return fmt.Errorf("%w: number %d", errMalformed, b.dot.seq)
	case d.Priority == 0 || d.Priority > maxPriority:
		return fmt.Errorf("%w: priority %d", errMalformed, d.Priority)
	case links.Len() > maxLinks:
		return fmt.Errorf("%d links", links.Len())
	case len(d.Elements)+len(d.Tombstones) > maxEntries:
		return fmt.Errorf("%d entries", len(d.Elements)+len(d.Tombstones))
	}
	seen := make(map[string]bool, len(d.Elements))
	for _, e := range d.Elements {
		if err := checkKey(e.Key); err != nil {
			return err
		}
		// Two values for one key in one delta would be ordered differently by
		// go-ds-crdt's two ways of choosing.
		if seen[e.Key] || e.Id != "" || len(e.Value) == 0 || e.Value[0] != valueMark || len(e.Value) > maxValue+1 {
			return fmt.Errorf("%w: entry %q", errMalformed, e.Key)
		}
		seen[e.Key] = true
	}
	for _, t := range d.Tombstones {
		if err := checkKey(t.Key); err != nil {
			return err
		}
		if _, err := parseID(t.Id); err != nil || len(t.Value) > 0 {
			return fmt.Errorf("%w: removal of %q", errMalformed, t.Key)
		}
	}
	return nil
}

func checkKey(key string) error {
	if len(key) > maxKey || key == "/" || ds.NewKey(key).String() != key {
		return fmt.Errorf("%w: key %.100q", errMalformed, key)
	}
	return nil
}

// parseID reads a block's name in go-ds-crdt.
func parseID(id string) (hash, error) {
	var h hash
	if len(id) != idLen || id[0] != '/' {
		return h, errMalformed
	}
	m, err := dshelp.BinaryFromDsKey(ds.RawKey(id))
	if err != nil {
		return h, errMalformed
	}
	got, err := multihash.Decode(m)
	if err != nil || got.Code != multihash.SHA2_256 || len(got.Digest) != len(h) {
		return h, errMalformed
	}
	copy(h[:], got.Digest)
	if h.id() != id {
		return h, errMalformed
	}
	return h, nil
}

// hash is the SHA-256 of a block.
type hash [32]byte

const idLen = 1 + 55 // "/" and 34 bytes of multihash in base32

func (h hash) id() string { return blockID(h.multihash()) }

func (h hash) multihash() multihash.Multihash {
	return append(multihash.Multihash{multihash.SHA2_256, byte(len(h))}, h[:]...)
}

func (h hash) cid() cid.Cid { return cid.NewCidV1(cid.DagProtobuf, h.multihash()) }

func hashOf(c cid.Cid) (h hash) {
	m := c.Hash()
	copy(h[:], m[len(m)-len(h):])
	return h
}
