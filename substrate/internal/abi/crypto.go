package abi

import "crypto/rand"

var crypto = []decl{
	{"cryptoRead", "iii", errno(func(g *Guest, m module, a []uint64) Errno {
		buf, ok := m.view(a[0], a[1])
		if !ok {
			return ErrAddressOutOfMemory
		}
		if _, err := (random{g}).fill(buf); err != nil {
			return ErrRandRead
		}
		return m.cell64(a[2], uint64(len(buf)))
	})},
}

// random is the source of randomness of one guest. It reads in steps, so that a
// huge buffer does not outlast the guest's time.
type random struct{ g *Guest }

const randomStep = 64 << 10

// Read implements io.Reader.
func (r random) Read(p []byte) (int, error) {
	if err := r.g.Err(); err != nil {
		return 0, err
	}
	return rand.Read(p[:min(len(p), randomStep)])
}

func (r random) fill(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var step int
		step, err = r.Read(p[n:])
		n += step
	}
	return n, err
}
