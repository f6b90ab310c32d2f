package hoarder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rendezvous"
)

// How a replica becomes active, and takes others into its set: see insync.go.

// standing is what a replica says of itself to another one.
type standing struct {
	Here   bool      `json:"here"`   // there is a replica, perhaps without all data
	Active bool      `json:"active"` // it answers for the store
	In     bool      `json:"in"`     // who asks is in its set
	Set    []peer.ID `json:"set,omitempty"`
	Boot   string    `json:"boot"`
	Fence  uint64    `json:"fence"`
}

// admission is asked of an active replica, and is its answer.
type admission struct {
	Boot  string   `json:"boot"`
	Fence uint64   `json:"fence"`
	After position `json:"after"` // what the other side must have
	// Silent are, in an answer, the replicas that may have writes that the active one does
	// not have, and Age how long they have been silent: clocks differ.
	Silent []silent        `json:"silent,omitempty"`
	Age    []time.Duration `json:"age,omitempty"`
}

// A standUp is the work on becoming active, for all who wait for it.
type standUp struct {
	done chan struct{}
	err  error
}

// stand returns when the replica answers for the store. The work goes on when ctx ends.
func (s *Service) stand(ctx context.Context, h *hosting) error {
	up := s.standSoon(h)
	t := time.NewTimer(standWait)
	defer t.Stop()
	select {
	case <-up.done:
		return up.err
	case <-t.C:
		return fmt.Errorf("store %s: %w: the replica is not in sync yet", h.ref, taubyte.ErrUnavailable)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// standSoon has the replica become active in the background, if it is not.
func (s *Service) standSoon(h *hosting) *standUp {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stores.mu.Lock()
	defer s.stores.mu.Unlock()
	up := h.standing
	if up != nil {
		return up
	}
	up = &standUp{done: make(chan struct{})}
	if s.life.Err() != nil {
		up.err = taubyte.ErrClosed
	}
	if up.err != nil || s.answersLocked(h) {
		close(up.done)
		return up
	}
	h.standing = up
	h.users++
	s.wg.Go(func() {
		defer s.doneQuietly(h)
		up.err = s.settleSet(s.life, h)
		s.stores.mu.Lock()
		h.standing = nil
		s.stores.mu.Unlock()
		close(up.done)
	})
	return up
}

// asked is what the other replicas said.
type asked map[peer.ID]standing

func (a asked) are(is func(standing) bool) (ids []peer.ID) {
	for p, st := range a {
		if is(st) {
			ids = append(ids, p)
		}
	}
	slices.Sort(ids)
	return ids
}

// askAll asks all others that may have a replica, and returns the answers of those that
// gave one. Each is asked at the same time, so one that hangs costs no more than askWait.
func (s *Service) askAll(ctx context.Context, h *hosting, e entry) asked {
	live := s.live()
	answers := asked{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, p := range s.others(h, e) {
		if !slices.Contains(live, p) {
			continue
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, askWait)
			defer cancel()
			st, err := s.peers.standing(ctx, p, h.ref)
			if err != nil {
				s.o.log.Debug("another replica did not answer", "store", h.ref, "peer", p, "err", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			answers[p] = st
		})
	}
	wg.Wait()
	return answers
}

// others are the other hoarders that have a replica, or had one.
func (s *Service) others(h *hosting, e entry) []peer.ID {
	ids := slices.Clone(s.recordOf(h).Set)
	if e.ref == h.ref {
		ids = append(ids, e.hosts...)
	}
	slices.Sort(ids)
	return slices.DeleteFunc(slices.Compact(ids), func(p peer.ID) bool { return p == s.host.ID() })
}

// standingOf is the other side of askAll. One that is not active has a look at it soon.
func (s *Service) standingOf(p peer.ID, r ref) standing {
	mine := s.leases.mine(p)
	st := standing{Boot: mine.boot, Fence: mine.fence}
	s.stores.mu.Lock()
	h := s.stores.all[r]
	if h == nil || h.leaving {
		s.stores.mu.Unlock()
		return st
	}
	st.Here, st.Active, st.Set = h.Ready, h.active, h.Set
	st.In = slices.Contains(h.Set, p)
	s.stores.mu.Unlock()
	if st.Here && !st.Active {
		s.standSoon(h)
	}
	return st
}

// settleSet makes the replica active, or renews the links of one that is. The caller is
// a user of the store.
func (s *Service) settleSet(ctx context.Context, h *hosting) error {
	rep, err := s.openIt(ctx, h, false)
	if err != nil {
		return err
	}
	end := time.Now().Add(settleWait)
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		again, err := s.settleOnce(ctx, h, rep)
		if err != nil || !again {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("store %s: %w: not in sync yet", h.ref, taubyte.ErrUnavailable)
		}
		if !pause(ctx, wait) {
			return ctx.Err()
		}
	}
}

// settleOnce is one attempt; again says that there should be another one soon.
func (s *Service) settleOnce(ctx context.Context, h *hosting, rep *replica) (again bool, err error) {
	e, err := s.storeEntry(ctx, h.ref.ID)
	if err != nil {
		return false, err
	}
	if e.ref.Gen > h.ref.Gen {
		return false, errElsewhere // dropped
	}
	answers := s.askAll(ctx, h, e)
	s.stores.mu.Lock()
	if h.SetSeq == 0 { // nothing was ever written down: all may matter
		h.Set = s.withoutSelf(e.hosts)
	}
	active, was, doubts, set := h.active, h.was, h.doubts, slices.Clone(h.Set)
	s.stores.mu.Unlock()
	if was {
		if keeps, err := s.renewLinks(ctx, h, set, answers, active, doubts); err != nil {
			return false, err
		} else if keeps {
			return !s.setActive(h, doubts) || !s.answers(h), nil
		}
		s.stores.mu.Lock()
		h.active = false
		s.stores.mu.Unlock()
	}
	actives := answers.are(func(st standing) bool { return st.Active })
	if len(actives) == 0 {
		return s.standTogether(ctx, h, rep, answers, doubts)
	}
	var errs error
	in := 0
	for _, p := range actives {
		if err := s.enter(ctx, h, rep, p); err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		in++
	}
	if in == 0 {
		return false, fmt.Errorf("store %s: %w: no active replica takes it in: %w", h.ref, taubyte.ErrUnavailable, errs)
	}
	for _, p := range set {
		if !slices.Contains(actives, p) {
			if err := s.dropMember(ctx, h, p, doubts); err != nil {
				return true, nil
			}
		}
	}
	return !s.setActive(h, doubts), nil
}

// renewLinks sees to the set of a replica that was active in this life of the service.
// It reports whether the replica has everything still: whoever has it in his set has
// acknowledged nothing that it does not have.
func (s *Service) renewLinks(ctx context.Context, h *hosting, set []peer.ID, answers asked, active bool, doubts int) (bool, error) {
	var gone []peer.ID
	for _, p := range set {
		switch st, ok := answers[p]; {
		case ok && st.In && (st.Active || active):
			if err := s.leases.ensure(ctx, p); err != nil {
				return false, nil
			}
			s.stores.mu.Lock()
			h.links[p] = link{st.Boot, st.Fence}
			s.stores.mu.Unlock()
		case ok && !st.Here, !ok && active:
			gone = append(gone, p)
		default:
			return false, nil // it has gone on without this one, or may have
		}
	}
	for _, p := range gone {
		if err := s.dropMember(ctx, h, p, doubts); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (s *Service) withoutSelf(ids []peer.ID) []peer.ID {
	return slices.DeleteFunc(slices.Clone(ids), func(p peer.ID) bool { return p == s.host.ID() })
}

// standTogether makes replicas active of which none is. The first in the store's order
// begins, the others follow it.
func (s *Service) standTogether(ctx context.Context, h *hosting, rep *replica, answers asked, doubts int) (again bool, err error) {
	there := append(answers.are(func(st standing) bool { return st.Here }), s.host.ID())
	needed := slices.Clone(s.recordOf(h).Set)
	for _, p := range there {
		needed = append(needed, answers[p].Set...)
	}
	for _, p := range needed {
		if slices.Contains(there, p) {
			continue
		}
		if _, answered := answers[p]; answered {
			continue // it is there, and has nothing of the store: it can't know more
		}
		if gone, err := s.forgotten(ctx, p); err != nil || gone {
			if err != nil {
				return false, err
			}
			continue
		}
		return false, fmt.Errorf("store %s: %w: %s was in sync and is away", h.ref, errBehind, p)
	}
	if rendezvous.Rank(h.ref.ID, there)[0] != s.host.ID() {
		return true, nil // the first one sees to it: it was asked
	}
	have := position{}
	for _, p := range there {
		if p == s.host.ID() {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, admitWait)
		pos, err := s.peers.wake(ctx, p, h.ref, wakeRequest{})
		cancel()
		if err != nil {
			return true, nil
		}
		for w, seq := range pos {
			have[w] = max(have[w], seq)
		}
	}
	if err := rep.reachFor(ctx, have, true, there...); err != nil {
		return false, err
	}
	if err := s.changeSet(ctx, h, func([]peer.ID) []peer.ID { return nil }); err != nil {
		return false, err
	}
	if !s.setActive(h, doubts) {
		return true, nil
	}
	// So that nobody has to be told of a write that only this one has, the others are
	// waited for a little.
	for end := time.Now().Add(askWait); len(there) > 1 && time.Now().Before(end); {
		for _, p := range there {
			if p != s.host.ID() && !slices.Contains(s.recordOf(h).Set, p) {
				ask, cancel := context.WithTimeout(ctx, askWait)
				_, _ = s.peers.standing(ask, p, h.ref) // which has it look
				cancel()
			}
		}
		if len(s.recordOf(h).Set) >= len(there)-1 || !pause(ctx, 20*time.Millisecond) {
			break
		}
	}
	return false, nil
}

// enter catches up with an active replica and has it take this one into its set, and
// takes it into this one's.
func (s *Service) enter(ctx context.Context, h *hosting, rep *replica, p peer.ID) error {
	ask, cancel := context.WithTimeout(ctx, admitWait)
	defer cancel()
	pos, err := s.peers.wake(ask, p, h.ref, wakeRequest{})
	if err != nil {
		return err
	}
	// This is where it may take its time: nobody waits for it yet.
	if err := rep.reachFor(ctx, pos, true, p); err != nil {
		return err
	}
	ask, cancel = context.WithTimeout(ctx, admitWait)
	defer cancel()
	if err := s.leases.ensure(ask, p); err != nil {
		return err
	}
	mine := s.leases.mine(p)
	in, err := s.peers.admit(ask, p, h.ref, admission{Boot: mine.boot, Fence: mine.fence, After: rep.position()})
	if err != nil {
		return err
	}
	if err := rep.reachFor(ask, in.After, true, p); err != nil {
		return err
	}
	if len(in.Silent) == len(in.Age) {
		for i := range in.Silent {
			in.Silent[i].Since = time.Now().Add(-max(in.Age[i], 0))
		}
		if err := s.fellSilent(ctx, h, in.Silent...); err != nil {
			return err
		}
	}
	if err := s.setMember(ctx, h, p, &link{in.Boot, in.Fence}); err != nil {
		return err
	}
	if !s.isActive(h) {
		return nil
	}
	// What was written here until now was not yet confirmed by it.
	_, err = s.peers.wake(ask, p, h.ref, wakeRequest{After: rep.position()})
	return err
}

// admit is the other side of enter: it is called on an active replica.
func (s *Service) admit(ctx context.Context, p peer.ID, r ref, in admission) (admission, error) {
	ctx, cancel := context.WithTimeout(ctx, admitWait)
	defer cancel()
	s.stores.mu.Lock()
	h := s.stores.all[r]
	if h == nil || h.leaving || !h.active || s.life.Err() != nil {
		s.stores.mu.Unlock()
		return admission{}, errElsewhere
	}
	h.users++
	s.stores.mu.Unlock()
	defer s.doneQuietly(h)
	rep, err := s.openIt(ctx, h, false)
	if err != nil {
		return admission{}, err
	}
	if err := rep.reachFor(ctx, in.After, true, p); err != nil {
		return admission{}, err
	}
	if err := s.leases.ensure(ctx, p); err != nil {
		return admission{}, err
	}
	mine := s.leases.mine(p)
	if err := s.setMember(ctx, h, p, &link{in.Boot, in.Fence}); err != nil {
		return admission{}, err
	}
	out := admission{Boot: mine.boot, Fence: mine.fence, After: rep.position()}
	for _, q := range s.recordOf(h).Silent {
		if q.Peer != p {
			out.Silent, out.Age = append(out.Silent, q), append(out.Age, time.Since(q.Since))
		}
	}
	return out, nil
}

func (s *Service) isActive(h *hosting) bool {
	s.stores.mu.Lock()
	defer s.stores.mu.Unlock()
	return h.active
}

// setActive makes the replica active, unless it was doubted since.
func (s *Service) setActive(h *hosting, doubts int) bool {
	s.stores.mu.Lock()
	defer s.stores.mu.Unlock()
	if h.doubts != doubts {
		return false
	}
	h.active, h.was = true, true
	if h.rep != nil {
		h.rep.nudge()
	}
	return true
}
