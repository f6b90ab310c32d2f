package vm

import (
	"slices"
	"sync"
	"sync/atomic"
)

// A memory is a guest's linear memory, counted and bounded.
type memory struct {
	engine  *Engine
	share   *share
	module  *Module
	limit   uint64
	size    uint64
	starved bool // the node had not enough
	buf     []byte
}

// Reallocate implements experimental.LinearMemory. It returns nil, and so
// memory.grow -1, where a limit forbids it.
func (m *memory) Reallocate(size uint64) []byte {
	if size > m.limit {
		return nil
	}
	if !m.engine.take(m.share, int64(size)-int64(m.size)) {
		m.starved = true
		return nil
	}
	m.size = size
	if size > uint64(cap(m.buf)) {
		// What instances before it came to, or, once beyond that, a little more
		// than asked for: not to copy each time.
		room := max(size, m.module.usual.Load())
		if m.buf != nil {
			room = size + size/4
		}
		buf := m.engine.spares.take(size, min(m.limit, room))
		copy(buf, m.buf)
		m.engine.spares.put(m.buf)
		m.buf = buf
	}
	m.buf = m.buf[:size]
	return m.buf
}

// Free implements experimental.LinearMemory. It may be called twice.
func (m *memory) Free() {
	m.engine.give(m.share, int64(m.size))
	m.engine.spares.put(m.buf)
	m.size, m.buf = 0, nil
}

// A share is the memory of all instances of a project.
type share struct {
	functions int // guarded by the engine's mu
	bytes     atomic.Int64
}

// take counts memory for an instance. Where the node, or the project, has none
// left, idle instances make room: those of any function, or of the project's.
func (e *Engine) take(s *share, n int64) bool {
	for n > 0 && s.bytes.Add(n) > e.config.Share {
		s.bytes.Add(-n)
		if !e.reclaim(n, s) {
			return false
		}
	}
	for n > 0 && e.memory.Add(n) > e.config.Memory {
		e.memory.Add(-n)
		if !e.reclaim(n, nil) {
			s.bytes.Add(-n)
			return false
		}
	}
	return true
}

// give gives back what was taken.
func (e *Engine) give(s *share, n int64) {
	s.bytes.Add(-n)
	e.memory.Add(-n)
}

// Spares are the buffers of memories that are gone, cleared: the collector would
// take longer to give back what the next instance needs, and to zero it, than
// most guests take to start. Those outside of the bounds are left to the
// collector.
type spares struct {
	mu    sync.Mutex
	bufs  [][]byte // by capacity
	bytes int
}

const (
	spareLeast = 256 << 10
	spareMost  = 8 << 20
	sparesMost = 16 << 20 // together
)

// take returns zeros, size bytes with that capacity or more.
func (s *spares) take(size, room uint64) []byte {
	if buf := s.find(int(min(room, spareMost+1)), 2*int(min(room, spareMost+1))); buf != nil {
		return buf[:size]
	}
	return make([]byte, size, room)
}

func (s *spares) find(least, most int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, _ := slices.BinarySearchFunc(s.bufs, least, func(b []byte, n int) int { return cap(b) - n })
	if i == len(s.bufs) || cap(s.bufs[i]) > most {
		return nil
	}
	buf := s.bufs[i]
	s.bufs = slices.Delete(s.bufs, i, i+1)
	s.bytes -= cap(buf)
	return buf
}

// put takes a buffer that nothing refers to any more. What is beyond its length
// was never used.
func (s *spares) put(buf []byte) {
	n := cap(buf)
	if n < spareLeast || n > spareMost {
		return
	}
	s.mu.Lock()
	full := s.bytes+n > sparesMost
	if !full {
		s.bytes += n
	}
	s.mu.Unlock()
	if full {
		return
	}
	clear(buf)
	s.mu.Lock()
	defer s.mu.Unlock()
	i, _ := slices.BinarySearchFunc(s.bufs, n, func(b []byte, n int) int { return cap(b) - n })
	s.bufs = slices.Insert(s.bufs, i, buf)
}
