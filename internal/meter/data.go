package meter

import (
	"cmp"
	"slices"
)

// gapMost is how many zeros are written to make one data segment of two. A
// segment of its own is no smaller than a gap of eight bytes, and the engine
// takes as long for it as for moving some hundred bytes.
const gapMost = 32

// segment is a data segment whose place is a constant.
type segment struct {
	at   uint32
	data []byte
}

func (s segment) end() uint64 { return uint64(s.at) + uint64(len(s.data)) }

// countWidth is the length of a number that is written with room to change it.
const countWidth = 5

// dataCount writes the number of segments so that dataSection can change it.
func (m *rewriter) dataCount(r *reader) {
	m.countAt = len(m.out) + 1 // with the section's length, a byte, before it
	m.out = appendWide(m.out, r.u32())
}

func appendWide(b []byte, v uint32) []byte {
	for range countWidth - 1 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

// dataSection copies the segments, or joins those that are close together where
// nothing can tell: no instruction names a segment, all have constant places
// and none overlaps another. Stock Go makes 17,000 segments for each MB, which
// would take the engine longer than all else when it makes an instance.
func (m *rewriter) dataSection(r *reader) error {
	n := r.count(2)
	if int(n) > m.limits.Data {
		return beyond("data segments", uint64(n), m.limits.Data)
	}
	if m.in[secDataCount] != nil {
		if c := (reader{b: m.in[secDataCount]}); c.u32() != n {
			r.fail("%d data segments, another number is declared", n)
			return nil
		}
	}
	start := len(m.out)
	m.out = appendU32(m.out, n)
	var all []segment
	plain := !m.segments && m.memories == 1
	for range n {
		flags := r.u32()
		if flags > 2 {
			r.fail("data segment of form %d", flags)
		}
		m.out = appendU32(m.out, flags)
		if flags == 2 {
			m.index(r, "memory", m.memories)
		}
		var at uint32
		if flags != 1 {
			from := r.pos
			if err := m.constant(r); err != nil {
				return err
			}
			c := reader{b: r.b[from:r.pos]}
			plain = plain && c.byte() == opI32Const
			at = uint32(c.signed(32))
			plain = plain && c.byte() == opEnd && c.left() == 0
		}
		data := r.bytes(r.u32())
		if r.err != nil {
			return r.err
		}
		m.out = appendU32(m.out, uint32(len(data)))
		m.out = append(m.out, data...)
		if plain = plain && flags != 1; plain {
			all = append(all, segment{at, data})
		}
	}
	if plain {
		m.joinData(start, all)
	}
	return nil
}

// joinData writes the segments anew, those that are close together as one,
// unless some overlap: then the order matters.
func (m *rewriter) joinData(start int, all []segment) {
	slices.SortStableFunc(all, func(a, b segment) int { return cmp.Compare(a.at, b.at) })
	last := uint64(0)
	for _, s := range all {
		if uint64(s.at) < last {
			return
		}
		last = s.end()
	}
	m.out = m.out[:start]
	joined := 0
	m.out = appendWide(m.out, 0)
	for i := 0; i < len(all); {
		j, end := i+1, all[i].end()
		for j < len(all) && uint64(all[j].at)-end <= gapMost {
			end = all[j].end()
			j++
		}
		m.out = append(m.out, 0, opI32Const)
		m.out = appendSigned(m.out, int32(all[i].at))
		m.out = append(m.out, opEnd)
		m.out = appendU32(m.out, uint32(end-uint64(all[i].at)))
		at := uint64(all[i].at)
		for _, s := range all[i:j] {
			for ; at < uint64(s.at); at++ {
				m.out = append(m.out, 0)
			}
			m.out = append(m.out, s.data...)
			at = s.end()
		}
		i = j
		joined++
	}
	appendWide(m.out[start:start], uint32(joined))
	if m.countAt > 0 {
		appendWide(m.out[m.countAt:m.countAt], uint32(joined))
	}
}

// appendSigned writes a signed LEB128.
func appendSigned(b []byte, v int32) []byte {
	for {
		c := byte(v) & 0x7f
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}
