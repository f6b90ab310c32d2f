package abi

// A fifo is a queue of bytes between modules that are linked together.
type fifo struct {
	bytes  []byte
	head   int // of bytes: what is before it was popped
	closer bool
}

// maxFifoBytes bounds what the fifos of an instance hold together.
const maxFifoBytes = 1 << 20

var fifos = []decl{
	// The result is the id and no errno; 0 is the id of none.
	{"fifoNew", "i", errno(func(g *Guest, _ module, a []uint64) Errno {
		if len(g.fifos) >= maxHandles {
			return 0
		}
		if g.fifos == nil {
			g.fifos = map[uint32]*fifo{}
		}
		g.lastFifo++
		g.fifos[g.lastFifo] = &fifo{closer: uint32(a[0]) != 0}
		return Errno(g.lastFifo)
	})},
	{"fifoPush", "ii", errno(func(g *Guest, _ module, a []uint64) Errno {
		f, ok := g.fifos[uint32(a[0])]
		if !ok {
			return ErrFifoNotFound
		}
		if g.fifoBytes >= maxFifoBytes {
			return ErrBufferTooSmall
		}
		if f.head > len(f.bytes)/2 && len(f.bytes) == cap(f.bytes) {
			f.bytes = f.bytes[:copy(f.bytes, f.bytes[f.head:])]
			f.head = 0
		}
		f.bytes = append(f.bytes, byte(a[1]))
		g.fifoBytes++
		return ErrNone
	})},
	{"fifoPop", "ii", errno(func(g *Guest, m module, a []uint64) Errno {
		f, ok := g.fifos[uint32(a[0])]
		if !ok {
			return ErrFifoNotFound
		}
		if f.head == len(f.bytes) {
			return ErrEOF
		}
		if !m.Memory().WriteByte(uint32(a[1]), f.bytes[f.head]) {
			return ErrAddressOutOfMemory
		}
		f.head++
		g.fifoBytes--
		return ErrNone
	})},
	{"fifoIsCloser", "ii", errno(func(g *Guest, m module, a []uint64) Errno {
		f, ok := g.fifos[uint32(a[0])]
		if !ok {
			return ErrFifoNotFound
		}
		return m.cell(a[1], boolean(f.closer))
	})},
	{"fifoClose", "i", command(func(g *Guest, _ module, a []uint64) {
		if f, ok := g.fifos[uint32(a[0])]; ok {
			g.fifoBytes -= len(f.bytes) - f.head
			delete(g.fifos, uint32(a[0]))
		}
	})},
}
