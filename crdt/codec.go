package crdt

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
)

// A writerID names one life of one replica, from its first write after Open to
// Close: a replica that comes back from an old copy of its disk so never gives a
// number twice.
type writerID [8]byte

func (w writerID) String() string { return hex.EncodeToString(w[:]) }

// A dot names a block, and so each version of a value that the block brought:
// the seq-th block of a writer. A writer's blocks follow one another, so one
// number for each writer, a vector, says exactly which blocks a replica has.
type dot struct {
	writer writerID
	seq    uint64
}

type vector map[writerID]uint64

func (v vector) has(d dot) bool { return d.seq <= v[d.writer] }

// covers reports whether every block of other is in v.
func (v vector) covers(other vector) bool {
	for w, seq := range other {
		if seq > v[w] {
			return false
		}
	}
	return true
}

var errMalformed = errors.New("malformed")

// errDamaged says that something is not what was once written to disk.
var errDamaged = errors.New("damaged")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sumLen is the length of the checksum before all that is on disk.
const sumLen = 4

// seal puts the checksum into the first bytes, which were left free for it.
func seal(b []byte) []byte {
	binary.BigEndian.PutUint32(b, crc32.Checksum(b[sumLen:], castagnoli))
	return b
}

// unseal checks the checksum.
func unseal(b []byte) (decoder, error) {
	if len(b) < sumLen || crc32.Checksum(b[sumLen:], castagnoli) != binary.BigEndian.Uint32(b) {
		return decoder{}, errDamaged
	}
	return decoder{b: b[sumLen:]}, nil
}

// decoder reads what the append functions wrote. After the first error every
// read gives zero values; err is looked at once, at the end.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail() {
	d.b, d.err = nil, errMalformed
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count reads a number of things that take at least size bytes each, so that a
// false one allocates nothing.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.b)/size) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.fail()
		return make([]byte, min(n, 64))
	}
	out := d.b[:n:n]
	d.b = d.b[n:]
	return out
}

// bytes reads a byte string, which aliases the input.
func (d *decoder) bytes() []byte {
	n := d.count(1)
	if d.err != nil {
		return nil
	}
	return d.take(n)
}

func (d *decoder) dot() dot {
	var out dot
	if len(d.b) < len(out.writer) {
		d.fail()
		return out
	}
	copy(out.writer[:], d.take(len(out.writer)))
	out.seq = d.uvarint()
	return out
}

func (d *decoder) vector() vector {
	n := d.count(9)
	v := make(vector, n)
	for range n {
		p := d.dot()
		v[p.writer] = p.seq
	}
	return v
}

// end reports an error, also when something is left over.
func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		d.fail()
	}
	return d.err
}

func appendBytes(b, v []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

func appendDot(b []byte, d dot) []byte {
	return binary.AppendUvarint(append(b, d.writer[:]...), d.seq)
}

func appendVector(b []byte, v vector) []byte {
	b = binary.AppendUvarint(b, uint64(len(v)))
	for w, seq := range v {
		b = appendDot(b, dot{w, seq})
	}
	return b
}
