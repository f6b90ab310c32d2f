package wire

import (
	"encoding/binary"

	"github.com/ipfs/go-cid"
)

// Digest is what a substrate node tells the others of the modules that it has
// compiled: a Bloom filter over their CIDs, small enough for a heartbeat. Warm
// reads it.
//
// The filter has ten bits for each module (one in a hundred answers about
// others is a wrong yes), rounded up to bytes, and at most maxDigest bytes: a node with
// more modules than fit gives more wrong answers, which cost a cold start. Bit i
// of a module is h1 + i*h2 modulo the number of bits, h1 and h2 being the last 16
// bytes of its CID, little endian: they are of a hash already.
func Digest(modules []cid.Cid) []byte {
	if len(modules) == 0 {
		return nil
	}
	digest := make([]byte, min((10*len(modules)+7)/8, maxDigest))
	for _, m := range modules {
		for i := range digestBits {
			at := bit(m, i, len(digest))
			digest[at/8] |= 1 << (at % 8)
		}
	}
	return digest
}

// Warm says whether the module is among those that a digest was made of. A yes
// may be wrong, a no is right.
func Warm(digest []byte, module cid.Cid) bool {
	if len(digest) == 0 || !module.Defined() {
		return false
	}
	for i := range digestBits {
		at := bit(module, i, len(digest))
		if digest[at/8]&(1<<(at%8)) == 0 {
			return false
		}
	}
	return true
}

const (
	maxDigest  = 8 << 10
	digestBits = 7
)

func bit(m cid.Cid, i, size int) uint64 {
	var tail [16]byte
	key := m.KeyString()
	copy(tail[:], key[max(len(key)-16, 0):])
	h1, h2 := binary.LittleEndian.Uint64(tail[:8]), binary.LittleEndian.Uint64(tail[8:])
	return (h1 + uint64(i)*(h2|1)) % uint64(size*8)
}
