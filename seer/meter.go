package seer

import (
	"sync"
	"time"
)

// meter measures how busy the machine is, as far as the operating system tells.
type meter struct {
	mu    sync.Mutex
	at    time.Time
	busy  uint64 // clock ticks since boot, of all processors
	total uint64
	last  Load
}

// read fills in CPU, since the last reading at least a moment ago, and memory.
func (m *meter) read(l *Load) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := time.Now(); now.Sub(m.at) > 200*time.Millisecond {
		m.at = now
		if busy, total, ok := processorTicks(); ok {
			if d := total - m.total; total > m.total && m.total > 0 {
				m.last.CPU = float64(busy-m.busy) / float64(d)
			}
			m.busy, m.total = busy, total
		}
		m.last.Memory = memoryUse()
	}
	l.CPU, l.Memory = m.last.CPU, m.last.Memory
}
