package hoarder

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
)

// Leases tell a hoarder that the others still count on it. Two hoarders that share a
// store renew one with each other several times in its time. While a replica's lease from
// another is good, the other acknowledges no write that the replica does not have. When
// one of them is stopped, cut off or killed, the lease runs out on both sides, at the
// holder first: it counts from when it asked, the granter from when it was asked.
//
// A granter that takes the holder out of the in-sync set of some store counts that in
// the fence, which goes with each renewal, and waits until the holder has seen it, or
// its lease has run out. So the holder stops answering for the store before a write
// is acknowledged without it.
const (
	leaseTime  = 800 * time.Millisecond
	leaseEvery = 200 * time.Millisecond
	// leaseWait bounds one renewal.
	leaseWait = 600 * time.Millisecond
	// stopped is how long this process does not run until it takes it that others may
	// have gone on without it.
	stopped = 500 * time.Millisecond
)

type leases struct {
	s    *Service
	boot string // names this life of the service

	mu   sync.Mutex
	all  map[peer.ID]*lease
	left bool // nothing is asked for any more
}

// lease is what this node and another have granted each other.
type lease struct {
	boot    string    // the life of the other that granted
	fence   uint64    // its fence for this node
	until   time.Time // of what the other granted
	running bool      // it is being renewed

	theirs  string        // the life of the other that was granted to
	granted time.Time     // until when
	fenced  uint64        // how often the other was taken out of a set in this life
	seen    uint64        // how much of that it has seen
	bye     bool          // it said that it serves no more
	moved   chan struct{} // closed when the other asks
}

// link is what a place in another's in-sync set is marked with: as long as the lease has both, the other counts on this node.
type link struct {
	boot  string
	fence uint64
}

type leaseRequest struct {
	Boot  string `json:"boot"`
	Of    string `json:"of,omitempty"`    // the life that granted last
	Fence uint64 `json:"fence,omitempty"` // that it told
	Bye   bool   `json:"bye,omitempty"`   // the caller serves no more
}

type leaseAnswer struct {
	Boot  string `json:"boot"`
	Fence uint64 `json:"fence"`
}

func (l *leases) init(s *Service) { l.s, l.boot, l.all = s, newNonce(), map[peer.ID]*lease{} }

// of returns the lease with another. Callers hold mu.
func (l *leases) of(p peer.ID) *lease {
	e := l.all[p]
	if e == nil {
		e = &lease{moved: make(chan struct{})}
		l.all[p] = e
	}
	return e
}

// grant is the other side of renew.
func (l *leases) grant(p peer.ID, in leaseRequest) leaseAnswer {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.of(p)
	switch {
	case in.Bye:
		if e.theirs == in.Boot {
			e.granted, e.bye = time.Time{}, true
		}
	case e.theirs != in.Boot: // the life that was granted to is over
		e.theirs, e.seen, e.bye = in.Boot, e.fenced, false
		e.granted = time.Now().Add(leaseTime)
	default:
		if in.Of == l.boot {
			e.seen = max(e.seen, in.Fence)
		}
		e.granted = time.Now().Add(leaseTime)
	}
	close(e.moved)
	e.moved = make(chan struct{})
	return leaseAnswer{Boot: l.boot, Fence: e.fenced}
}

// renew asks another to extend the lease.
func (l *leases) renew(ctx context.Context, p peer.ID) error {
	ctx, cancel := context.WithTimeout(ctx, leaseWait)
	defer cancel()
	for {
		l.mu.Lock()
		e, left := l.of(p), l.left
		in := leaseRequest{Boot: l.boot, Of: e.boot, Fence: e.fence}
		l.mu.Unlock()
		if left {
			return taubyte.ErrClosed
		}
		asked := time.Now()
		out, err := l.s.peers.lease(ctx, p, in)
		if err != nil {
			return err
		}
		l.mu.Lock()
		again := out.Boot != e.boot || out.Fence != e.fence // and it should know that this is seen
		e.boot, e.fence, e.until = out.Boot, out.Fence, asked.Add(leaseTime)
		l.mu.Unlock()
		if !again {
			return nil
		}
	}
}

// ensure returns when there is a lease from another, and has it renewed from then on.
func (l *leases) ensure(ctx context.Context, p peer.ID) error {
	l.keep(p)
	l.mu.Lock()
	good := time.Until(l.of(p).until) > leaseTime/4
	l.mu.Unlock()
	if good {
		return nil
	}
	if err := l.renew(ctx, p); err != nil {
		return fmt.Errorf("%w: no lease from %s: %w", taubyte.ErrUnavailable, p, err)
	}
	return nil
}

// keep begins to renew the lease from another, as long as it is in one of the sets.
func (l *leases) keep(p peer.ID) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.of(p)
	if e.running || l.s.life.Err() != nil {
		return
	}
	e.running = true
	l.s.wg.Go(func() { l.renewing(l.s.life, p) })
}

func (l *leases) renewing(ctx context.Context, p peer.ID) {
	const unused = 10 * time.Second
	needed := time.Now()
	for {
		began := time.Now()
		rest := leaseEvery
		if err := l.renew(ctx, p); err != nil {
			rest = leaseEvery / 4
		}
		if time.Since(needed) > unused {
			if !l.s.shares(p) {
				l.mu.Lock()
				l.of(p).running = false
				l.mu.Unlock()
				return
			}
			needed = time.Now()
		}
		l.s.silences.saw(l.s.host.Network(), p)
		if !pause(ctx, max(rest-time.Since(began), rest/4)) {
			return
		}
	}
}

// good reports whether another still counts on this node, as it did at the link.
func (l *leases) good(p peer.ID, at link) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.all[p]
	return e != nil && !l.left && e.boot == at.boot && e.fence == at.fence && time.Now().Before(e.until)
}

// held reports whether there is a lease from another at all.
func (l *leases) held(p peer.ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.all[p]
	return e != nil && time.Now().Before(e.until)
}

// mine is what this node's grants to another are marked with.
func (l *leases) mine(p peer.ID) link {
	l.mu.Lock()
	defer l.mu.Unlock()
	return link{l.boot, l.of(p).fenced}
}

// shut returns when another has seen that it is out of a set, or can't think any more
// that it is in one. quiet is set when it said nothing, and names its life.
func (l *leases) shut(ctx context.Context, p peer.ID) (quiet *silent, err error) {
	l.mu.Lock()
	e := l.of(p)
	e.fenced++
	n, life := e.fenced, e.theirs
	for {
		left := time.Until(e.granted)
		told := e.bye || e.seen >= n || e.theirs != life
		moved, boot := e.moved, e.theirs
		if boot == "" {
			boot = e.boot
		}
		l.mu.Unlock()
		switch {
		case told:
			return nil, nil
		case left <= 0:
			return &silent{Peer: p, Boot: boot, Since: time.Now()}, nil
		}
		t := time.NewTimer(left)
		select {
		case <-moved:
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, ctx.Err()
		}
		t.Stop()
		l.mu.Lock()
	}
}

// bye tells the others that this node answers for no store any more.
func (l *leases) bye(ctx context.Context) {
	l.mu.Lock()
	l.left = true
	var to []peer.ID
	for p, e := range l.all {
		if e.running {
			to = append(to, p)
		}
	}
	l.mu.Unlock()
	var wg sync.WaitGroup
	for _, p := range to {
		wg.Go(func() {
			if _, err := l.s.peers.lease(ctx, p, leaseRequest{Boot: l.boot, Bye: true}); err != nil {
				l.s.o.log.Debug("leave not taken", "peer", p, "err", err)
			}
		})
	}
	wg.Wait()
}

// watchClock finds out that the process was stopped for a while: others may have gone
// on without it, and be gone by now.
func (s *Service) watchClock() {
	tick := time.NewTicker(stopped / 10)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-tick.C:
		case <-s.life.Done():
			return
		}
		if gap := time.Since(last); gap > stopped {
			s.o.log.Warn("this node was stopped; it compares its stores before it answers for them", "for", gap)
			s.doubt()
		}
		last = time.Now()
		s.ticks.Add(1)
	}
}

// sayBye ends the leases, so that nobody has to wait until they run out.
func (s *Service) sayBye() {
	ctx, cancel := context.WithTimeout(s.life, leaseWait)
	defer cancel()
	s.leases.bye(ctx)
}
