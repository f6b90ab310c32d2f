package messages

import (
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// firstPatience is how long the first frames of a sender are collected, since
	// gossip may turn them round, before the earliest of them counts as the first.
	firstPatience = 50 * time.Millisecond
	// gapPatience is how long a missing frame may be late before its sender is asked,
	// and repairPatience how long that may take.
	gapPatience    = 20 * time.Millisecond
	repairPatience = 3 * time.Second
	// What is held back of one sender while something before it is missing.
	maxHeld      = 512
	maxHeldBytes = 8 << 20
	// forgetAfter silence nothing is known of a sender.
	forgetAfter = time.Hour
)

// A sender is what is known of another node's frames. order's goroutine has them
// all to itself.
type sender struct {
	id    peer.ID
	epoch uint64
	past  [4]uint64 // epochs before: what is late of them is not taken

	begun  bool   // next is known
	next   uint64 // sequence
	held   map[uint64]*frame
	bytes  int
	due    time.Time // when it is looked at again; zero: nothing is missing
	asking bool
	heard  time.Time
}

// order brings the frames of each sender into their order, and gives out their
// messages.
func (g *gossip) order() {
	senders := map[peer.ID]*sender{}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case m := <-g.heard:
			s, ok := senders[m.from]
			if !ok {
				s = &sender{id: m.from}
				senders[m.from] = s
				for id, old := range senders {
					if id != m.from && time.Since(old.heard) > forgetAfter {
						delete(senders, id)
					}
				}
			}
			g.take(s, m.frame)
		case a := <-g.repaired:
			if s := senders[a.from]; s != nil {
				g.mend(s, a)
			}
		case <-timer.C:
			for _, s := range senders {
				if !s.due.IsZero() && !time.Now().Before(s.due) {
					g.look(s)
				}
			}
		case <-g.h.life.Done():
			return
		}
		var soonest time.Time
		for _, s := range senders {
			if !s.due.IsZero() && (soonest.IsZero() || s.due.Before(soonest)) {
				soonest = s.due
			}
		}
		if soonest.IsZero() {
			timer.Reset(time.Hour)
		} else {
			timer.Reset(time.Until(soonest))
		}
	}
}

// take takes a frame as it comes.
func (g *gossip) take(s *sender, f *frame) {
	s.heard = time.Now()
	if f.epoch != s.epoch || s.held == nil {
		if slices.Contains(s.past[:], f.epoch) && s.held != nil {
			return
		}
		copy(s.past[1:], s.past[:])
		s.past[0] = s.epoch
		*s = sender{id: s.id, epoch: f.epoch, past: s.past, held: map[uint64]*frame{}, heard: s.heard, due: s.heard.Add(firstPatience)}
	}
	switch {
	case !s.begun:
		s.hold(f)
	case f.sequence < s.next: // it was there before
	case f.sequence == s.next && len(s.held) == 0:
		g.give(s, f)
	default:
		s.hold(f)
		g.advance(s)
	}
}

func (s *sender) hold(f *frame) {
	if _, ok := s.held[f.sequence]; ok || f.sequence < s.next {
		return
	}
	s.held[f.sequence] = f
	s.bytes += f.size
}

// lowest is the first of the frames that are held.
func (s *sender) lowest() uint64 {
	first := ^uint64(0)
	for n := range s.held {
		first = min(first, n)
	}
	return first
}

func (g *gossip) give(s *sender, f *frame) {
	s.next = f.sequence + 1
	for _, m := range f.messages {
		if b := g.h.branch(m.branch); b != nil {
			g.h.fanOut(b, channelID{m.scope, m.channel}, m.data, m.text, nil)
		}
	}
}

// advance gives out what is held, up to the next gap. What is too much to be held
// goes on without what is missing.
func (g *gossip) advance(s *sender) {
	for {
		for {
			f, ok := s.held[s.next]
			if !ok {
				break
			}
			delete(s.held, s.next)
			s.bytes -= f.size
			g.give(s, f)
		}
		if len(s.held) <= maxHeld && s.bytes <= maxHeldBytes {
			break
		}
		g.skip(s)
	}
	switch {
	case len(s.held) == 0:
		s.due = time.Time{}
	case s.due.IsZero() && !s.asking:
		s.due = time.Now().Add(gapPatience)
	}
}

// skip gives up what is missing before the first frame that is held.
func (g *gossip) skip(s *sender) {
	first := s.lowest()
	g.h.stats.lost.Add(first - s.next)
	g.h.Log.Warn("messages of a node lost", "node", s.id, "frames", first-s.next)
	s.next = first
}

// look is when something was missing for its time.
func (g *gossip) look(s *sender) {
	s.due = time.Time{}
	if len(s.held) == 0 {
		return
	}
	if !s.begun {
		s.begun, s.next = true, s.lowest()
		g.advance(s)
		return
	}
	s.asking = true
	id, epoch, first, last := s.id, s.epoch, s.next, s.lowest()-1
	g.h.wg.Go(func() { g.ask(id, epoch, first, last) })
}

// mend takes a sender's answer. Where it does not help, what is missing is given up.
func (g *gossip) mend(s *sender, a repaired) {
	if a.epoch != s.epoch {
		return
	}
	s.asking = false
	for _, f := range a.frames {
		if f.sequence >= s.next && s.held[f.sequence] == nil {
			g.h.stats.repaired.Add(1)
			s.hold(f)
		}
	}
	before := s.next
	g.advance(s)
	if s.next == before && len(s.held) > 0 {
		g.skip(s)
		s.due = time.Time{}
		g.advance(s)
	}
}
