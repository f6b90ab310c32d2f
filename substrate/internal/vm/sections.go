package vm

import (
	"encoding/binary"
	"iter"
)

const (
	headerLength   = 8
	sectionTable   = 4
	sectionElement = 9
	sectionCode    = 10
)

// sectionsOf gives the sections of a module that was metered, and so is in order.
func sectionsOf(module []byte) iter.Seq2[byte, []byte] {
	return func(yield func(byte, []byte) bool) {
		for rest := module[min(len(module), headerLength):]; len(rest) > 0; {
			size, n := binary.Uvarint(rest[1:])
			if n <= 0 || size > uint64(len(rest)-1-n) {
				return
			}
			end := 1 + n + int(size)
			if !yield(rest[0], rest[1+n:end]) {
				return
			}
			rest = rest[end:]
		}
	}
}

// sizeOf is what an instance of a metered module takes beside its memory: what
// its tables may grow to, and its element segments, 8 bytes for an entry.
func sizeOf(module []byte) (bytes int64) {
	for id, content := range sectionsOf(module) {
		switch id {
		case sectionElement:
			bytes += 8 * int64(len(content)) // an entry has a byte or more
		case sectionTable:
			number := func() uint64 {
				v, n := binary.Uvarint(content)
				content = content[max(n, 0):]
				return v
			}
			for tables := number(); tables > 0 && len(content) > 2; tables-- {
				content = content[2:] // its type, and that it has a maximum
				number()
				bytes += 8 * int64(number())
			}
		}
	}
	return bytes
}
