package claim_test

import (
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/claim"
)

// The simulation plays arbiters and holders in virtual time: messages that are late,
// doubled and lost, links that are cut for longer than a lease, nodes that are killed,
// stopped and started, and clocks that are off by a minute.

const (
	ttl       = 5 * time.Second
	tickEvery = 250 * time.Millisecond
	suspectIn = time.Second // until a stopped node is taken for gone
)

type faults struct {
	kills, cuts, stops int
	skew               time.Duration
	latency            time.Duration // of most messages
	late               float64       // the share of those that take up to 10 s
	doubled            float64
}

var (
	calm = faults{latency: 300 * time.Millisecond, doubled: 0.1, skew: time.Minute}
	wild = faults{kills: 4, cuts: 4, stops: 3, latency: 100 * time.Millisecond, late: 0.05, doubled: 0.1, skew: time.Minute}
)

type event struct {
	at  time.Duration
	n   int // order of events of one time
	run func()
}

type events []event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].n < q[j].n
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)   { *q = append(*q, x.(event)) }
func (q *events) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

type node struct {
	id      peer.ID
	epoch   time.Time // the node's clock at the beginning
	down    bool
	life    int
	stopped time.Duration // until when it does nothing
	since   time.Duration // when it was stopped
	cut     map[*node]bool
}

type record struct {
	name  string
	work  string
	grant *claim.Grant
	fence uint64
	end   claim.End[string]
}

type arbiter struct {
	*node
	works   map[string]*claim.History[string]
	records []record
	has     map[string]bool
	timing  *claim.Timing[string]
	numbers *claim.Numbers
	done    map[string]uint64 // works that had a result here, and its fencing number
}

type holder struct {
	*node
	work    string
	fence   uint64
	granter peer.ID
	ends    time.Duration // when the work is finished
	said    time.Duration // when it last called
}

type sim struct {
	t        testing.TB
	seed     uint64
	rng      *rand.Rand
	faults   faults
	now      time.Duration
	queue    events
	n        int
	arbiters []*arbiter
	holders  []*holder
	works    []string
	results  map[string]map[string]bool // what holders said at the end, for each work
	lost     int
}

func newSim(t testing.TB, seed uint64, f faults) *sim {
	s := &sim{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 7)), faults: f, results: map[string]map[string]bool{}}
	base := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	make := func(name string, i int) *node {
		skew := time.Duration(s.rng.Int64N(int64(2*f.skew+1))) - f.skew
		return &node{id: peer.ID(fmt.Sprint(name, i)), epoch: base.Add(skew), cut: map[*node]bool{}}
	}
	for i := range 2 + s.rng.IntN(2) {
		a := &arbiter{node: make("arbiter", i), works: map[string]*claim.History[string]{}, has: map[string]bool{}, done: map[string]uint64{}}
		a.timing = claim.NewTiming[string](ttl)
		a.numbers = claim.NewNumbers(a.id, func() time.Time { return s.clock(a.node) })
		s.arbiters = append(s.arbiters, a)
	}
	for i := range 2 + s.rng.IntN(3) {
		s.holders = append(s.holders, &holder{node: make("holder", i)})
	}
	for i := range 1 + s.rng.IntN(4) {
		w := fmt.Sprint("work", i)
		s.works = append(s.works, w)
		s.results[w] = map[string]bool{}
		for _, a := range s.arbiters {
			a.works[w] = &claim.History[string]{}
		}
	}
	for _, a := range s.arbiters {
		s.every(a.node, tickEvery, func() { s.tick(a) })
		s.every(a.node, time.Second, func() { s.exchange(a) })
	}
	for _, h := range s.holders {
		s.every(h.node, tickEvery, func() { s.act(h) })
	}
	return s
}

func (s *sim) clock(n *node) time.Time { return n.epoch.Add(s.now) }

func (s *sim) at(d time.Duration, run func()) {
	s.n++
	heap.Push(&s.queue, event{s.now + d, s.n, run})
}

// every runs f while the node is up and not stopped.
func (s *sim) every(n *node, d time.Duration, f func()) {
	var again func()
	again = func() {
		if !n.down && s.now >= n.stopped {
			f()
		}
		s.at(max(d, n.stopped-s.now), again)
	}
	s.at(time.Duration(s.rng.Int64N(int64(d))), again)
}

// send has to do something, once or twice, now or late, if the link is there then.
func (s *sim) send(from, to *node, do func()) {
	copies := 1
	if s.rng.Float64() < s.faults.doubled {
		copies = 2
	}
	life := to.life
	var deliver func()
	deliver = func() {
		switch {
		case to.down || to.life != life || from.cut[to]:
		case s.now < to.stopped:
			s.at(to.stopped-s.now, deliver)
		default:
			do()
		}
	}
	for range copies {
		d := time.Duration(s.rng.Int64N(int64(s.faults.latency)))
		if s.rng.Float64() < s.faults.late {
			d = time.Duration(s.rng.Int64N(int64(10 * time.Second)))
		}
		s.at(d, deliver)
	}
}

// sees reports whether n takes o for live.
func (s *sim) sees(n, o *node) bool {
	hangs := s.now < o.stopped && s.now-o.since > suspectIn
	return n == o || !o.down && !n.cut[o] && !hangs
}

func (s *sim) live(n *node) (all []peer.ID) {
	for _, a := range s.arbiters {
		if s.sees(n, a.node) {
			all = append(all, a.id)
		}
	}
	return all
}

func (s *sim) arbiter(id peer.ID) *arbiter {
	for _, a := range s.arbiters {
		if a.id == id {
			return a
		}
	}
	return nil
}

// write makes a record and sends it to the other arbiters.
func (s *sim) write(a *arbiter, r record) {
	r.name = fmt.Sprintf("%s %d %s %d", r.work, r.fence, r.end.By, r.end.Kind)
	if r.grant != nil {
		r.name = fmt.Sprintf("%s grant %d %s", r.work, r.grant.Fence, r.grant.Arbiter)
	}
	s.take(a, r)
	for _, o := range s.arbiters {
		if o != a {
			s.send(a.node, o.node, func() { s.take(o, r) })
		}
	}
}

func (s *sim) take(a *arbiter, r record) {
	h := a.works[r.work]
	if r.grant != nil {
		h.Add(*r.grant)
	} else {
		h.AddEnd(r.fence, r.end)
	}
	if !a.has[r.name] {
		a.has[r.name] = true
		a.records = append(a.records, r)
	}
	s.file(a, r.work)
}

// file times what is held, and checks that a result stays one.
func (s *sim) file(a *arbiter, work string) {
	st := a.works[work].Status(0)
	if st.State == claim.Held {
		a.timing.Begin(work, st.Grant.Fence, s.clock(a.node))
	} else {
		a.timing.Forget(work)
	}
	before, was := a.done[work]
	if was {
		s.require(st.State == claim.Done && st.Grant.Fence <= before, "the result of %s changed from that of %d to %+v", work, before, st)
	}
	if st.State == claim.Done {
		a.done[work] = st.Grant.Fence
		s.require(s.results[work][st.End.Result], "%s has a result that nobody said: %+v", work, st)
	}
}

// exchange gives all records to another arbiter.
func (s *sim) exchange(a *arbiter) {
	o := s.arbiters[s.rng.IntN(len(s.arbiters))]
	if o == a || !s.sees(a.node, o.node) {
		return
	}
	all := append([]record(nil), a.records...)
	s.send(a.node, o.node, func() {
		for _, r := range all {
			s.take(o, r)
		}
	})
}

func (s *sim) tick(a *arbiter) {
	now := s.clock(a.node)
	live := s.live(a.node)
	over := a.timing.Tick(now, func(work string) claim.View {
		g, _ := a.works[work].Newest()
		near := false
		for _, h := range s.holders {
			near = near || h.id == g.Holder && !h.down && !a.cut[h.node]
		}
		return claim.View{Kept: claim.Keeper(g, work, live) == a.id, Near: near}
	})
	for _, l := range over {
		kind := claim.Lost
		if !l.Taken {
			kind = claim.Returned
		} else {
			s.lost++
		}
		s.write(a, record{work: l.Key, fence: l.Fence, end: claim.End[string]{Kind: kind, By: a.id, At: now}})
	}
}

// grant gives a holder some work, or passes it on to the arbiter.
func (s *sim) grant(a *arbiter, h *holder, work string, hops int) {
	if work == "" {
		work = s.works[s.rng.IntN(len(s.works))]
	}
	if best := s.arbiter(claim.Arbiter(work, s.live(a.node))); best != a {
		if hops == 0 {
			s.send(a.node, best.node, func() { s.grant(best, h, work, 1) })
		}
		return
	}
	hist := a.works[work]
	if hist.Status(0).State != claim.Free {
		return
	}
	newest, _ := hist.Newest()
	g := claim.Grant{Fence: a.numbers.Next(newest.Fence), Arbiter: a.id, Holder: h.id}
	s.write(a, record{work: work, grant: &g})
	life := h.life
	s.send(a.node, h.node, func() {
		if h.work == "" && h.life == life {
			h.work, h.fence, h.granter = work, g.Fence, a.id
			h.ends, h.said = s.now+time.Duration(s.rng.Int64N(int64(8*time.Second))), 0
		}
	})
}

// call is a renewal, or what the holder says at the end.
func (s *sim) call(a *arbiter, h *holder, work string, fence uint64, granter peer.ID, end, forward bool) {
	hist := a.works[work]
	grant := claim.Grant{Fence: fence, Arbiter: granter, Holder: h.id}
	if keeper := s.arbiter(claim.Keeper(grant, work, s.live(a.node))); keeper != a && forward {
		s.send(a.node, keeper.node, func() { s.call(keeper, h, work, fence, granter, end, false) })
		return
	}
	check := hist.Check
	if end {
		check = hist.CheckEnd
	}
	err := check(fence, h.id)
	if errors.Is(err, claim.ErrUnknown) && s.sees(a.node, s.arbiter(granter).node) {
		return // its record is on its way
	}
	said, ended := hist.End(fence)
	result := ""
	if end {
		result = fmt.Sprintf("%s of %s under %d", work, h.id, fence)
	}
	switch {
	case err == nil && end:
		s.results[work][result] = true
		s.write(a, record{work: work, fence: fence, end: claim.End[string]{Kind: claim.Settled, By: a.id, At: s.clock(a.node), Result: result}})
	case err == nil:
		a.timing.Hear(work, fence, s.clock(a.node))
		return
	case ended && said.Result == result: // the first answer was lost
	}
	s.send(a.node, h.node, func() {
		if h.fence == fence {
			h.work = ""
		}
	})
}

func (s *sim) act(h *holder) {
	var reach []*arbiter
	for _, a := range s.arbiters {
		if s.sees(h.node, a.node) {
			reach = append(reach, a)
		}
	}
	if len(reach) == 0 {
		return
	}
	a := reach[s.rng.IntN(len(reach))]
	if h.work == "" {
		s.send(h.node, a.node, func() { s.grant(a, h, "", 0) })
		return
	}
	for _, o := range reach {
		if o.id == h.granter {
			a = o
		}
	}
	finished := s.now >= h.ends
	if h.said != 0 && s.now-h.said < ttl/4 && !finished {
		return
	}
	h.said = s.now
	work, fence, granter := h.work, h.fence, h.granter
	s.send(h.node, a.node, func() { s.call(a, h, work, fence, granter, finished, true) })
}

// trouble plans the faults of the first 18 s; each is over after 12 more.
func (s *sim) trouble() {
	var all []*node
	for _, a := range s.arbiters {
		all = append(all, a.node)
	}
	for _, h := range s.holders {
		all = append(all, h.node)
	}
	when := func() time.Duration { return time.Duration(s.rng.Int64N(int64(18 * time.Second))) }
	for range s.faults.kills {
		n := all[s.rng.IntN(len(all))]
		s.at(when(), func() {
			if n.down {
				return
			}
			n.down = true
			n.life++
			for _, h := range s.holders {
				if h.node == n {
					h.work = ""
				}
			}
			s.at(time.Duration(s.rng.Int64N(int64(12*time.Second))), func() {
				n.down = false
				for _, a := range s.arbiters {
					if a.node == n { // it has its records, and no memory of times
						a.timing = claim.NewTiming[string](ttl)
						for _, w := range s.works {
							s.file(a, w)
						}
					}
				}
			})
		})
	}
	for range s.faults.cuts {
		side := map[*node]bool{}
		for _, n := range all {
			side[n] = s.rng.IntN(2) == 0
		}
		s.at(when(), func() {
			for _, n := range all {
				for _, o := range all {
					if side[n] != side[o] {
						n.cut[o] = true
					}
				}
			}
			s.at(time.Duration(s.rng.Int64N(int64(12*time.Second))), func() {
				for _, n := range all {
					clear(n.cut)
				}
			})
		})
	}
	for range s.faults.stops {
		n := all[s.rng.IntN(len(all))]
		s.at(when(), func() {
			n.since = s.now
			n.stopped = s.now + time.Duration(s.rng.Int64N(int64(12*time.Second)))
		})
	}
}

func (s *sim) require(ok bool, format string, args ...any) {
	if !ok {
		require.FailNow(s.t, fmt.Sprintf("seed %d, after %s: ", s.seed, s.now)+fmt.Sprintf(format, args...))
	}
}

// agreed reports whether every arbiter has the same result of every work.
func (s *sim) agreed() bool {
	for _, w := range s.works {
		first := s.arbiters[0].works[w].Status(0)
		for _, a := range s.arbiters {
			st := a.works[w].Status(0)
			if st.State != claim.Done || st.End.Result != first.End.Result || st.Grant != first.Grant {
				return false
			}
		}
	}
	return true
}

// run plays the history to its end: everything has one result, wherever one asks.
func (s *sim) run() {
	const quiet, most = 30 * time.Second, 3 * time.Minute
	s.trouble()
	for len(s.queue) > 0 {
		e := heap.Pop(&s.queue).(event)
		s.now = e.at
		e.run()
		if s.faults.kills+s.faults.cuts+s.faults.stops > 0 && s.now < quiet {
			continue
		}
		if s.n%16 == 0 && s.agreed() {
			return
		}
		s.require(s.now < most, "not every work has one result everywhere")
	}
}

func TestOneResultWhateverHappens(t *testing.T) {
	histories := 1500
	if testing.Short() {
		histories = 200
	}
	lost := 0
	for seed := range histories {
		s := newSim(t, uint64(seed), wild)
		s.run()
		lost += s.lost
	}
	require.NotZero(t, lost, "the faults cost leases")
	t.Logf("%d histories, %d leases lost", histories, lost)
}

func TestNobodyIsRobbedWhoCanBeHeard(t *testing.T) {
	for seed := range 300 {
		s := newSim(t, uint64(seed), calm)
		s.run()
		require.Zero(t, s.lost, "seed %d", seed)
		for _, w := range s.works {
			for _, a := range s.arbiters {
				if st := a.works[w].Status(0); st.Counted != 1 {
					require.Fail(t, "done more than once", "seed %d: %s: %+v", seed, w, st)
				}
			}
		}
	}
}
