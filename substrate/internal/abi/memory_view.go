package abi

// A view is a part of one module's memory that the modules linked with it may
// read.
type view struct {
	owner    module
	ptr      uint64
	size     uint32
	closable bool
}

// maxHandles bounds the memory views of an instance, and the fifos.
const maxHandles = 1024

var memoryViews = []decl{
	{"memoryViewNew", "iiii", errno(func(g *Guest, m module, a []uint64) Errno {
		closable := uint32(a[2])
		if closable > 1 {
			return ErrInvalidBool
		}
		if _, ok := m.view(a[0], a[1]); !ok {
			return ErrAddressOutOfMemory
		}
		if len(g.views) >= maxHandles {
			return ErrMemoryViewNotFound
		}
		id := g.lastView + 1
		if e := m.cell(a[3], id); e != ErrNone {
			return e
		}
		if g.views == nil {
			g.views = map[uint32]view{}
		}
		g.lastView = id
		g.views[id] = view{owner: m, ptr: a[0], size: uint32(a[1]), closable: closable == 1}
		return ErrNone
	})},
	{"memoryViewOpen", "iii", errno(func(g *Guest, m module, a []uint64) Errno {
		v, ok := g.views[uint32(a[0])]
		if !ok {
			return ErrMemoryViewNotFound
		}
		if e := m.cell(a[1], boolean(v.closable)); e != ErrNone {
			return e
		}
		return m.cell(a[2], v.size)
	})},
	{"memoryViewRead", "iiiii", errno(func(g *Guest, m module, a []uint64) Errno {
		v, ok := g.views[uint32(a[0])]
		if !ok {
			return ErrMemoryViewNotFound
		}
		offset := uint32(a[1])
		count := uint32(0)
		if offset < v.size {
			count = min(uint32(a[2]), v.size-offset)
		}
		// A memory never shrinks: what was in range stays so.
		from, ok1 := v.owner.view(v.ptr+uint64(offset), uint64(count))
		to, ok2 := m.view(a[3], uint64(count))
		if !ok1 || !ok2 {
			return ErrAddressOutOfMemory
		}
		copy(to, from)
		return m.cell(a[4], count)
	})},
	{"memoryViewClose", "i", command(func(g *Guest, _ module, a []uint64) {
		delete(g.views, uint32(a[0]))
	})},
}

func boolean(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}
