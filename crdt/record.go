package crdt

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
)

// valueMark begins every value in a delta: go-ds-crdt takes an empty value for
// none in one of its paths and not in the others.
const valueMark = 1

// A version is one value of a key, written by one block and neither
// overwritten nor deleted by another.
type version struct {
	hash     hash // of the block
	dot      dot
	priority uint64
	value    []byte // with the mark
}

// A record is what a replica keeps of a key: its versions, of which the first is
// the key's value. There is more than one only after concurrent writes, until
// the next write.
type record []version

func (r record) encode() []byte {
	n := 5
	for _, v := range r {
		n += len(v.value) + 72
	}
	b := binary.AppendUvarint(make([]byte, sumLen, n), uint64(len(r)))
	for _, v := range r {
		b = append(b, v.hash[:]...)
		b = appendDot(b, v.dot)
		b = binary.AppendUvarint(b, v.priority)
		b = appendBytes(b, v.value)
	}
	return seal(b)
}

func decodeRecord(b []byte) (record, error) {
	d, err := unseal(b)
	if err != nil {
		return nil, err
	}
	r := make(record, 0, 1)
	for range d.count(32 + 8 + 3) {
		v := d.version()
		if len(v.value) == 0 || v.value[0] != valueMark {
			d.fail()
		}
		r = append(r, v)
	}
	if len(r) == 0 {
		d.fail()
	}
	return r, d.end()
}

func (d *decoder) version() (v version) {
	copy(v.hash[:], d.take(len(v.hash)))
	v.dot = d.dot()
	v.priority = d.uvarint()
	v.value = d.bytes()
	return v
}

// recordValue returns the key's value in an encoded record. It is the path of
// every Get, so it reads the first version only.
func recordValue(b []byte) ([]byte, error) {
	d, err := unseal(b)
	if err != nil {
		return nil, err
	}
	if d.count(32+8+3) == 0 {
		return nil, errMalformed
	}
	v := d.version()
	if d.err != nil || len(v.value) == 0 || v.value[0] != valueMark {
		return nil, errMalformed
	}
	return v.value[1:], nil
}

func (r record) find(h hash) int {
	return slices.IndexFunc(r, func(v version) bool { return v.hash == h })
}

// sort puts the version first that go-ds-crdt chooses: of the highest
// priority, of these of the greatest value.
func (r record) sort() {
	slices.SortFunc(r, func(a, b version) int {
		return cmp.Or(cmp.Compare(b.priority, a.priority), bytes.Compare(b.value, a.value), bytes.Compare(b.hash[:], a.hash[:]))
	})
}

// mergeRecords joins what two replicas hold of a key. A version that one of
// them has and the other has not is kept unless the other has seen its block:
// then it was overwritten or deleted there.
func mergeRecords(a record, seenA vector, b record, seenB vector) record {
	var out record
	for _, v := range a {
		if b.find(v.hash) >= 0 || !seenB.has(v.dot) {
			out = append(out, v)
		}
	}
	for _, v := range b {
		if a.find(v.hash) < 0 && !seenA.has(v.dot) {
			out = append(out, v)
		}
	}
	out.sort()
	return out
}
