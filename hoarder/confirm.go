package hoarder

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
)

// A commit is acknowledged when each replica of the in-sync set has it on its disk. Its
// changes travel as those of the crdt do; what is asked of the others is only to tell
// when they have all up to some commit, so that commits that wait share one question, and
// the next are made meanwhile.

// errUnconfirmed: it is on this disk and will reach the others, but nobody else has said
// yet that it has.
var errUnconfirmed = fmt.Errorf("%w: the write is on one disk, and not confirmed", taubyte.ErrUnavailable)

const (
	// slow is how long a member of the set may not get on with what it is to confirm.
	slow = time.Second
	// confirmWait is how long a commit waits in all. The set is smaller by then, or this
	// replica is not sure of it.
	confirmWait = 10 * time.Second
	// questions is how many are under way to one member.
	questions = 2
)

// pending is a commit that waits to be confirmed.
type pending struct {
	seq   uint64
	group []*change
	since time.Time
}

// confirming is what a replica knows of the confirmations of its own commits. Guarded
// by replica.mu.
type confirming struct {
	pending []pending
	runs    bool // a goroutine works on them
	of      map[peer.ID]*confirmer
	poke    chan struct{} // something changed
}

// confirmer is a member of the set.
type confirmer struct {
	seq    uint64    // it has all up to here
	at     time.Time // when that last grew
	asked  uint64
	calls  int
	rest   time.Time // it failed: not asked again before
	none   bool      // it says that it has no replica
	leaves bool      // it is being taken out of the set
}

func (c *confirming) init() { c.of, c.poke = map[peer.ID]*confirmer{}, make(chan struct{}, 1) }

// nudge has the goroutine look again.
func (r *replica) nudge() {
	select {
	case r.confirms.poke <- struct{}{}:
	default:
	}
}

// hand has the changes of a commit acknowledged once they are confirmed.
func (r *replica) hand(group []*change, seq uint64) {
	wait := group[:0:0]
	for _, c := range group {
		if c.err != nil || c.seq == 0 && !c.barrier {
			close(c.done)
			continue
		}
		wait = append(wait, c)
	}
	if len(wait) == 0 {
		return
	}
	set, active := r.s.setOf(r.h)
	r.mu.Lock()
	if active && len(set) == 0 && len(r.confirms.pending) == 0 {
		r.mu.Unlock()
		finish(wait, 1, nil)
		return
	}
	r.confirms.pending = append(r.confirms.pending, pending{seq, wait, time.Now()})
	if !r.confirms.runs {
		r.confirms.runs = true
		r.wg.Go(r.confirm)
	}
	r.mu.Unlock()
	r.nudge()
}

func finish(group []*change, disks int, err error) {
	for _, c := range group {
		c.disks, c.err = disks, err
		close(c.done)
	}
}

// setOf returns the in-sync set without this node, and whether the replica is active.
func (s *Service) setOf(h *hosting) ([]peer.ID, bool) {
	s.stores.mu.Lock()
	defer s.stores.mu.Unlock()
	return h.Set, h.active // Set is never changed in place
}

// confirm works until nothing is pending.
func (r *replica) confirm() {
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		set, active := r.s.setOf(r.h)
		now := time.Now()
		r.mu.Lock()
		done, late := r.takeConfirmed(set, active, now)
		if len(r.confirms.pending) == 0 {
			r.confirms.runs, r.confirms.pending = false, nil
			r.mu.Unlock()
			r.acknowledge(done, late, 1+len(set))
			return
		}
		stalled := r.askSet(set, now)
		r.mu.Unlock()
		r.acknowledge(done, late, 1+len(set))
		for _, p := range stalled {
			r.stalled(p, active)
		}
		if !active {
			r.s.standSoon(r.h)
		}
		select {
		case <-r.confirms.poke:
		case <-look.C:
		case <-r.life.Done():
			r.mu.Lock()
			rest := r.confirms.pending
			r.confirms.runs, r.confirms.pending = false, nil
			r.mu.Unlock()
			r.acknowledge(nil, rest, 1)
			return
		}
	}
}

func (r *replica) acknowledge(done, late []pending, disks int) {
	for _, p := range done {
		finish(p.group, disks, nil)
	}
	for _, p := range late {
		finish(p.group, 1, errUnconfirmed)
	}
}

// takeConfirmed takes out of what is pending what everybody has, and what has waited for
// too long. Callers hold mu.
func (r *replica) takeConfirmed(set []peer.ID, active bool, now time.Time) (done, late []pending) {
	least := uint64(math.MaxUint64)
	for _, p := range set {
		least = min(least, r.member(p, now).seq)
	}
	rest := r.confirms.pending
	for len(rest) > 0 && rest[0].seq <= least && (active || len(set) > 0) {
		done, rest = append(done, rest[0]), rest[1:]
	}
	for len(rest) > 0 && now.Sub(rest[0].since) > confirmWait {
		late, rest = append(late, rest[0]), rest[1:]
	}
	r.confirms.pending = rest
	return done, late
}

// member returns what is known of one. Callers hold mu.
func (r *replica) member(p peer.ID, now time.Time) *confirmer {
	c := r.confirms.of[p]
	if c == nil {
		c = &confirmer{at: now}
		r.confirms.of[p] = c
	}
	return c
}

// askSet asks those for a confirmation that have not given it, and returns those that
// have not for too long. Callers hold mu.
func (r *replica) askSet(set []peer.ID, now time.Time) (stalled []peer.ID) {
	all := r.confirms.pending
	first, last := all[0], all[len(all)-1].seq
	for _, p := range set {
		c := r.member(p, now)
		if c.seq < last && c.calls < questions && (c.asked < last || c.calls == 0) && now.After(c.rest) {
			c.calls++
			c.asked = last
			r.wg.Go(func() { r.ask(p, last) })
		}
		if c.seq >= first.seq || c.leaves {
			continue
		}
		waits := min(now.Sub(first.since), now.Sub(c.at))
		if c.none || waits > slow || waits > leaseEvery && !r.s.leases.held(p) {
			stalled = append(stalled, p)
		}
	}
	return stalled
}

// ask asks a member to say when it has a commit.
func (r *replica) ask(p peer.ID, seq uint64) {
	ctx, cancel := context.WithTimeout(r.life, confirmWait)
	defer cancel()
	pos, err := r.s.peers.wake(ctx, p, r.ref, wakeRequest{After: position{r.s.host.ID(): seq}})
	now := time.Now()
	r.mu.Lock()
	c := r.member(p, now)
	c.calls--
	switch has := pos[r.s.host.ID()]; {
	case err != nil:
		c.rest = now.Add(50 * time.Millisecond)
		c.none = errors.Is(err, errElsewhere)
		c.asked = 0
	case has > c.seq:
		c.seq, c.at, c.none = has, now, false
	}
	r.mu.Unlock()
	r.nudge()
}

// stalled takes a member out of the set that does not get on, in the background.
func (r *replica) stalled(p peer.ID, active bool) {
	if !active {
		return // whether it was this one that did not, has to be found out first
	}
	r.s.stores.mu.Lock()
	doubts := r.h.doubts
	r.s.stores.mu.Unlock()
	r.mu.Lock()
	c := r.member(p, time.Now())
	begin := !c.leaves
	c.leaves = true
	r.mu.Unlock()
	if !begin {
		return
	}
	r.wg.Go(func() {
		err := r.s.dropMember(r.life, r.h, p, doubts)
		if err != nil && r.life.Err() == nil {
			r.s.o.log.Debug("a replica that does not confirm stays in the set", "store", r.ref, "peer", p, "err", err)
		}
		r.mu.Lock()
		delete(r.confirms.of, p)
		r.mu.Unlock()
		r.nudge()
	})
}

// settled returns when everything that this replica has committed is confirmed.
func (r *replica) settled(ctx context.Context) (int, error) {
	c := &change{run: func(*tx) error { return nil }, barrier: true}
	_, err := r.submit(ctx, c)
	return c.disks, err
}

// contentConfirmed returns on how many disks a file's content is, this one included,
// once it is on as many as are wanted or the others can't say.
func (r *replica) contentConfirmed(ctx context.Context, key string, size int64, wanted int) int {
	set, _ := r.s.setOf(r.h)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second+time.Duration(size>>20)*time.Second)
	defer cancel()
	answers := make(chan bool, len(set))
	for _, p := range set {
		go func() {
			_, err := r.s.peers.wake(ctx, p, r.ref, wakeRequest{File: key})
			answers <- err == nil
		}()
	}
	disks := 1
	for range set {
		if disks >= wanted {
			cancel() // the others fetch it all the same
		}
		if <-answers {
			disks++
		}
	}
	return disks
}
