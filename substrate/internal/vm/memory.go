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
		buf := m.engine.spares.take(m.share, size, min(m.limit, room))
		copy(buf, m.buf)
		m.engine.spares.put(m.share, m.buf)
		m.buf = buf
	}
	m.buf = m.buf[:size]
	return m.buf
}

// Free implements experimental.LinearMemory. It may be called twice.
func (m *memory) Free() {
	m.engine.give(m.share, int64(m.size))
	m.engine.spares.put(m.share, m.buf)
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
//
// A buffer stays in its project. A host function may have handed a part of a
// guest's memory to code that still reads it, as the writer of a request that was
// given up does: what it reads is never another project's.
type spares struct {
	mu    sync.Mutex
	all   []spare // the one put first is the first
	bytes int
}

type spare struct {
	of  *share
	buf []byte
}

const (
	spareLeast = 256 << 10
	spareMost  = 8 << 20
	sparesMost = 32 << 20 // together
)

// take returns zeros, size bytes with that capacity or more.
func (s *spares) take(of *share, size, room uint64) []byte {
	if room <= spareMost {
		if buf := s.find(of, int(room)); buf != nil {
			return buf[:size]
		}
	}
	return make([]byte, size, room)
}

// find takes out the smallest buffer that is large enough, and not much larger.
func (s *spares) find(of *share, least int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	best := -1
	for i, b := range s.all {
		if n := cap(b.buf); b.of == of && n >= least && n <= 2*least && (best < 0 || n < cap(s.all[best].buf)) {
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	return s.cut(best)
}

func (s *spares) cut(i int) []byte {
	buf := s.all[i].buf
	s.all = slices.Delete(s.all, i, i+1)
	s.bytes -= cap(buf)
	return buf
}

// put takes a buffer that no guest refers to any more. What is beyond its length
// was never used.
func (s *spares) put(of *share, buf []byte) {
	n := cap(buf)
	if n < spareLeast || n > spareMost {
		return
	}
	clear(buf)
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.bytes+n > sparesMost {
		s.cut(0)
	}
	s.all = append(s.all, spare{of, buf})
	s.bytes += n
}

// drop leaves a project's buffers to the collector.
func (s *spares) drop(of *share) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.all) - 1; i >= 0; i-- {
		if s.all[i].of == of {
			s.cut(i)
		}
	}
}
