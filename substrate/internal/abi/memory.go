package abi

import "github.com/tetratelabs/wazero/api"

// module is the guest module that calls a host function. Its memory is that of
// the caller, which need not be that of the function's own module.
type module struct{ api.Module }

// view returns n bytes of the guest's memory at ptr, not a copy: it is valid
// until guest code runs again. Nothing may be at any address.
func (m module) view(ptr, n uint64) ([]byte, bool) {
	if uint32(n) == 0 {
		return nil, true
	}
	return m.Memory().Read(uint32(ptr), uint32(n))
}

// maxText bounds the texts that the host takes a copy of: names, addresses,
// values of headers.
const maxText = 1 << 20

// text returns a copy of n bytes at ptr.
func (m module) text(ptr, n uint64) (string, bool) {
	if uint32(n) > maxText {
		return "", false
	}
	b, ok := m.view(ptr, n)
	return string(b), ok
}

// cell writes a 4-byte result.
func (m module) cell(ptr uint64, v uint32) Errno {
	if !m.Memory().WriteUint32Le(uint32(ptr), v) {
		return ErrMemoryWriteFailed
	}
	return ErrNone
}

// cell64 writes an 8-byte result.
func (m module) cell64(ptr, v uint64) Errno {
	if !m.Memory().WriteUint64Le(uint32(ptr), v) {
		return ErrMemoryWriteFailed
	}
	return ErrNone
}

// size writes the size of a value, for the fetch that follows.
func (m module) size(ptr uint64, n int) Errno { return m.cell(ptr, uint32(n)) }

// put writes a value where the guest has made room for it.
func (m module) put(ptr uint64, value string) Errno {
	if value != "" && !m.Memory().WriteString(uint32(ptr), value) {
		return ErrAddressOutOfMemory
	}
	return ErrNone
}

// fill writes a value into a buffer of a known size.
func (m module) fill(ptr, size uint64, value string) Errno {
	if uint64(len(value)) > uint64(uint32(size)) {
		return ErrBufferTooSmall
	}
	return m.put(ptr, value)
}

// sliceSize is the encoded size of a list of strings.
func sliceSize(list []string) int {
	n := 0
	for _, s := range list {
		n += len(s) + 1
	}
	return n
}

// putSlice writes a list of strings, each with a NUL behind it.
func (m module) putSlice(ptr uint64, list []string) Errno {
	if len(list) == 0 {
		return ErrNone
	}
	out, ok := m.view(ptr, uint64(sliceSize(list)))
	if !ok {
		return ErrAddressOutOfMemory
	}
	for _, s := range list {
		n := copy(out, s)
		out[n] = 0
		out = out[n+1:]
	}
	return ErrNone
}
