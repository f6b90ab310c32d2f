package vm

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A spare buffer is clear, fits, and never leaves its project.
func TestSpares(t *testing.T) {
	var s spares
	p, q := &share{}, &share{}
	buf := make([]byte, 1<<20, 2<<20)
	for i := range buf {
		buf[i] = 7
	}
	s.put(p, buf)
	same := func(b []byte) bool { return &b[0] == &buf[0] }

	require.False(t, same(s.take(q, 1<<20, 2<<20)), "another project's")
	require.False(t, same(s.take(p, 1<<20, 3<<20)), "too small")
	require.False(t, same(s.take(p, 1<<19, 1<<19)), "much too large")
	got := s.take(p, 1<<20, 2<<20)
	require.True(t, same(got))
	require.Equal(t, make([]byte, 2<<20), got[:cap(got)])
	require.False(t, same(s.take(p, 1<<20, 2<<20)), "taken")

	s.put(p, make([]byte, spareLeast-1))
	s.put(p, make([]byte, spareMost+1))
	require.Empty(t, s.all)
	for range 10 {
		s.put(p, make([]byte, spareMost))
		s.put(q, make([]byte, spareMost/2))
		require.LessOrEqual(t, s.bytes, sparesMost)
	}
	s.drop(p)
	for _, b := range s.all {
		require.Equal(t, q, b.of)
	}
	s.drop(q)
	require.Zero(t, s.bytes)
	require.Empty(t, s.all)
}
