package patrick_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	claims "github.com/taubyte/taubyte/internal/claim"
	"github.com/taubyte/taubyte/patrick"
)

// The simulation plays three nodes of patrick and eight workers in virtual time. What the
// nodes decide is decided by their own code, over the records that they would have written;
// the network, the disks, the clocks and the workers are played: messages are late, doubled
// and lost, links are cut for longer than a lease, nodes are killed and started, and clocks
// are off by a minute. A history follows from its seed:
//
//	go test -run TestTenThousandHistories ./patrick -seed 4711 -v

var (
	oneSeed   = flag.Int64("seed", -1, "play the history of this seed alone")
	histories = flag.Int("histories", 10_000, "how many histories are played")
)

const (
	simPatricks = 3
	simWorkers  = 8
	simLease    = 5 * time.Second
	simCall     = 5 * time.Second // until a call is given up
	simPoll     = 20 * time.Second
	simTick     = time.Second
)

// simNames are the nodes: patricks first.
var simNames = func() (ids []peer.ID) {
	for i := range simPatricks + simWorkers {
		// The names differ at their beginnings, as those of nodes do: what tells numbers of two
		// nodes apart is 16 bits of a hash of them (claim.Numbers).
		h, err := multihash.Sum([]byte(fmt.Sprintf("%c%d-of-the-nodes", 'a'+i, i)), multihash.IDENTITY, -1)
		if err != nil {
			panic(err)
		}
		ids = append(ids, peer.ID(h))
	}
	return ids
}()

type simEvent struct {
	at  time.Duration
	n   int // order of events of one time
	run func()
}

// simQueue is a heap.
type simQueue []simEvent

func (q simQueue) less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].n < q[j].n
}

func (q *simQueue) push(e simEvent) {
	h := append(*q, e)
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if !h.less(i, up) {
			break
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
	*q = h
}

func (q *simQueue) pop() simEvent {
	h := *q
	top, last := h[0], len(h)-1
	h[0], h[last] = h[last], simEvent{}
	h = h[:last]
	for i := 0; ; {
		c := 2*i + 1
		if c >= last {
			break
		}
		if c+1 < last && h.less(c+1, c) {
			c++
		}
		if !h.less(c, i) {
			break
		}
		h[i], h[c] = h[c], h[i]
		i = c
	}
	*q = h
	return top
}

type simNode struct {
	n     int
	id    peer.ID
	epoch time.Time // its clock at the beginning
	up    bool
	life  int
	cut   uint // the nodes that it does not reach, by bit
}

// simPatrick is a node of patrick: its decisions, and its disk.
type simPatrick struct {
	*simNode
	desk     patrick.Desk
	disk     []int  // records that it has, in the order they came
	has      []bool // of all records
	waiting  []func()
	silent   [simPatricks]time.Duration // until when another is taken for hung
	inStep   time.Duration              // when it has caught up with the others
	checking bool
	done     map[taubyte.JobID]uint64 // jobs that had succeeded here, and with which lease
}

// simWorker is a monkey.
type simWorker struct {
	*simNode
	labels  []string
	turn    int // of claiming; what belongs to an earlier one is dropped
	at      *simPatrick
	free    time.Duration // since when it waits for a job
	lease   patrick.Lease
	busy    bool
	expires time.Duration // of its lease, by what it has heard
	outcome *patrick.Outcome
}

// simPush is what the history begins with: one push, told to one node or to two.
type simPush struct {
	push     auth.Push
	project  taubyte.ProjectID
	priority int
	gpu      bool
	config   taubyte.RepositoryID // whose build it waits for
	takes    time.Duration        // its build
	job      taubyte.JobID        // that was acknowledged
}

type sim struct {
	seed     int64
	rng      *rand.Rand
	now      time.Duration
	queue    simQueue
	n        int
	nodes    []*simNode
	patricks []*simPatrick
	workers  []*simWorker
	pushes   []*simPush
	byCommit map[taubyte.Commit]*simPush
	records  []patrick.Fact
	keys     map[patrick.Key]bool // of records
	attempts int
	late     float64 // the share of messages that take up to 8 s
	doubled  float64
	quiet    time.Duration // when the last fault is over

	// published is what users would see: by repository, the order and the job.
	published map[taubyte.RepositoryID]simPart
	waits     []time.Duration // of free workers, for a job
	lost      int             // workers that were taken for lost
	wrong     error
}

type simPart struct {
	order uint64
	job   taubyte.JobID
}

var simEpoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newSim(seed int64) *sim {
	s := &sim{
		seed: seed, rng: rand.New(rand.NewPCG(uint64(seed), 10)), attempts: 1000,
		keys:     map[patrick.Key]bool{},
		byCommit: map[taubyte.Commit]*simPush{}, published: map[taubyte.RepositoryID]simPart{},
	}
	for i, id := range simNames {
		skew := s.upTo(2*time.Minute) - time.Minute
		s.nodes = append(s.nodes, &simNode{n: i, id: id, epoch: simEpoch.Add(skew), up: true})
	}
	for _, n := range s.nodes[simPatricks:] {
		w := &simWorker{simNode: n}
		if n.n%3 == 0 {
			w.labels = []string{"gpu"}
		}
		s.workers = append(s.workers, w)
	}
	return s
}

// start begins the history; attempts is set until then.
func (s *sim) start() {
	for _, n := range s.nodes[:simPatricks] {
		p := &simPatrick{simNode: n, done: map[taubyte.JobID]uint64{}}
		p.desk = patrick.NewDesk(n.id, s.attempts, simLease, func() time.Time { return s.clock(n) })
		s.patricks = append(s.patricks, p)
		s.at(s.upTo(simTick), func() { s.tick(p) })
	}
	for _, w := range s.workers {
		s.at(s.upTo(time.Second), func() { s.claim(w) })
	}
}

func (s *sim) upTo(d time.Duration) time.Duration { return time.Duration(s.rng.Int64N(int64(d))) }

func (s *sim) clock(n *simNode) time.Time { return n.epoch.Add(s.now) }

func (s *sim) at(d time.Duration, run func()) {
	s.n++
	s.queue.push(simEvent{s.now + d, s.n, run})
}

func (s *sim) fail(format string, args ...any) {
	if s.wrong == nil {
		s.wrong = fmt.Errorf("seed %d, after %s: "+format, append([]any{s.seed, s.now}, args...)...)
	}
}

func (s *sim) linked(a, b *simNode) bool { return a.up && b.up && a.cut&(1<<b.n) == 0 }

// send has to do something, once or twice, now or late, if the link is there then.
func (s *sim) send(from, to *simNode, do func()) {
	if from == to {
		s.at(0, do)
		return
	}
	copies := 1
	if s.rng.Float64() < s.doubled {
		copies = 2
	}
	life, began := to.life, from.life
	for range copies {
		d := time.Millisecond + s.upTo(40*time.Millisecond)
		if s.late > 0 && s.rng.Float64() < s.late {
			d = s.upTo(8 * time.Second)
		}
		s.at(d, func() {
			if to.life == life && (from.life != began || s.linked(from, to)) && to.up {
				do()
			}
		})
	}
}

// call asks another node. serve answers, then or later; lost is called where there is no
// answer.
func (s *sim) call(from, to *simNode, within time.Duration, serve func(answer func(func())), lost func()) {
	over, life := false, from.life
	once := func(do func()) func() {
		return func() {
			if !over && from.up && from.life == life {
				over = true
				do()
			}
		}
	}
	if !s.linked(from, to) {
		s.at(time.Millisecond, once(lost))
		return
	}
	s.send(from, to, func() {
		serve(func(do func()) { s.send(to, from, once(do)) })
	})
	s.at(within, once(lost))
}

// live are the nodes of patrick that one takes for there.
func (s *sim) live(p *simPatrick) []peer.ID {
	all := make([]peer.ID, 0, simPatricks)
	for _, o := range s.patricks {
		if o == p || s.linked(p.simNode, o.simNode) && s.now >= p.silent[o.n] {
			all = append(all, o.id)
		}
	}
	return all
}

func (s *sim) node(id peer.ID) *simPatrick {
	for _, p := range s.patricks {
		if p.id == id {
			return p
		}
	}
	return nil
}

func (p *simPatrick) suspect(o *simPatrick, s *sim) {
	p.silent[o.n] = s.now + 500*time.Millisecond + s.upTo(500*time.Millisecond)
}

// write has a record on the disk of a node, and on its way to the others.
func (s *sim) write(p *simPatrick, f patrick.Fact) {
	if s.keys[f.Key()] {
		s.fail("%v is written twice", f.Key())
	}
	s.keys[f.Key()] = true
	r := len(s.records)
	s.records = append(s.records, f)
	s.take(p, r)
	for _, o := range s.patricks {
		if o != p && s.linked(p.simNode, o.simNode) {
			s.send(p.simNode, o.simNode, func() { s.take(o, r) })
		}
	}
}

// take has a node take a record in, and checks that what succeeded stays so.
func (s *sim) take(p *simPatrick, r int) {
	for len(p.has) <= r {
		p.has = append(p.has, make([]bool, r+1)...)
	}
	if !p.has[r] {
		p.has[r] = true
		p.disk = append(p.disk, r)
	}
	s.apply(p, r)
}

func (s *sim) apply(p *simPatrick, r int) {
	changed := p.desk.Take(s.records[r], s.clock(p.simNode))
	for _, j := range changed {
		_, fence, _ := p.desk.Job(j.ID)
		before, was := p.done[j.ID]
		if was && (j.State != patrick.Succeeded && j.State != patrick.Superseded || fence > before) {
			s.fail("job %s had succeeded under lease %d, and now %s under %d", j.ID, before, j.State, fence)
		}
		if j.State == patrick.Succeeded {
			p.done[j.ID] = fence
		}
	}
	if len(changed) > 0 {
		s.wake(p)
	}
}

func (s *sim) wake(p *simPatrick) {
	waiting := p.waiting
	p.waiting = nil
	for _, again := range waiting {
		s.at(0, again)
	}
}

// meet has two nodes that see each other again give each other what they lack.
func (s *sim) meet(a, b *simPatrick) {
	if a == b || !s.linked(a.simNode, b.simNode) {
		return
	}
	for _, way := range [][2]*simPatrick{{a, b}, {b, a}} {
		from, to := way[0], way[1]
		took := s.upTo(time.Second)
		to.inStep = max(to.inStep, s.now+took)
		life := to.life
		s.at(took, func() {
			if to.life != life || !s.linked(from.simNode, to.simNode) {
				return
			}
			for _, r := range slices.Clone(from.disk) {
				if r >= len(to.has) || !to.has[r] {
					s.take(to, r)
				}
			}
		})
	}
}

func (s *sim) meetAll() {
	for i, a := range s.patricks {
		for _, b := range s.patricks[i+1:] {
			s.meet(a, b)
		}
	}
}

// tick looks for workers that are lost.
func (s *sim) tick(p *simPatrick) {
	s.at(simTick, func() { s.tick(p) })
	if !p.up || p.checking {
		return
	}
	near := func(id peer.ID) bool {
		i := slices.Index(simNames, id)
		return s.linked(p.simNode, s.nodes[i])
	}
	over := p.desk.Overdue(s.live(p), near, s.clock(p.simNode))
	if len(over) == 0 {
		return
	}
	p.checking = true
	heard := map[taubyte.JobID]bool{}
	life := p.life
	for _, id := range s.live(p) {
		o := s.node(id)
		if o == p {
			continue
		}
		s.call(p.simNode, o.simNode, time.Second, func(answer func(func())) {
			var some []taubyte.JobID
			for _, x := range over {
				if o.desk.Heard(x.Held, s.clock(o.simNode)) {
					some = append(some, x.Held.Job)
				}
			}
			answer(func() {
				for _, j := range some {
					heard[j] = true
				}
			})
		}, func() {})
	}
	s.at(time.Second, func() {
		p.checking = false
		if !p.up || p.life != life {
			return
		}
		for _, x := range over {
			if heard[x.Held.Job] {
				p.desk.HeardOf(x.Held, s.clock(p.simNode))
				continue
			}
			if !p.desk.Lapsed(x.Held, s.clock(p.simNode)) {
				continue
			}
			if x.Fact.Kind() == "lost" {
				s.lost++
			}
			s.write(p, x.Fact)
			p.desk.Ended(x.Held.Job)
		}
	})
}

// someone is a node of patrick that a worker, or a user, reaches.
func (s *sim) someone(n *simNode) *simPatrick {
	first := s.rng.IntN(simPatricks)
	for i := range simPatricks {
		if p := s.patricks[(first+i)%simPatricks]; p.up && (n == nil || s.linked(n, p.simNode)) {
			return p
		}
	}
	return nil
}

// submit tells a node of a push until it is acknowledged.
func (s *sim) submit(x *simPush) {
	again := func() { s.at(500*time.Millisecond, func() { s.submit(x) }) }
	p := s.someone(nil)
	if p == nil {
		again()
		return
	}
	life := p.life
	acknowledge := func(id taubyte.JobID) { x.job = id }
	decide := func(at *simPatrick, answer func(taubyte.JobID)) {
		var run func()
		life := at.life
		run = func() {
			if !at.up || at.life != life {
				return
			}
			if s.now < at.inStep {
				s.at(at.inStep-s.now, run)
				return
			}
			id, made := at.desk.Submit(patrick.Submission(x.push, x.project, x.priority), s.clock(at.simNode))
			if made != nil {
				s.write(at, *made)
			}
			answer(id)
		}
		run()
	}
	arbiter := s.node(claims.Arbiter(patrick.BranchKey(x.push.Repository, x.push.Branch), s.live(p)))
	if arbiter == p {
		decide(p, acknowledge)
		s.at(simCall, func() {
			if x.job == "" {
				s.submit(x)
			}
		})
		return
	}
	s.call(p.simNode, arbiter.simNode, simCall, func(answer func(func())) {
		decide(arbiter, func(id taubyte.JobID) { answer(func() { acknowledge(id) }) })
	}, func() {
		p.suspect(arbiter, s)
		again()
	})
	s.at(2*simCall, func() { // the node that was told is killed
		if x.job == "" && (!p.up || p.life != life) {
			s.submit(x)
		}
	})
}

// claim has a free worker ask for a job.
func (s *sim) claim(w *simWorker) {
	if !w.up || w.busy {
		return
	}
	w.turn++
	turn := w.turn
	if w.free == 0 {
		w.free = max(s.now, 1)
	}
	again := func() {
		if w.turn == turn && !w.busy {
			s.claim(w)
		}
	}
	p := s.someone(w.simNode)
	if p == nil {
		s.at(250*time.Millisecond, again)
		return
	}
	w.at = p
	s.call(w.simNode, p.simNode, simPoll+simCall, func(answer func(func())) {
		s.serveClaim(p, w, turn, func(l patrick.Lease) {
			answer(func() {
				if w.turn != turn || w.busy {
					return
				}
				if l.Job.ID == "" {
					s.claim(w)
					return
				}
				s.build(w, l)
			})
		})
	}, again)
}

// left has workers notice that the node that they wait at is gone.
func (s *sim) left() {
	for _, w := range s.workers {
		if w.up && !w.busy && w.at != nil && !s.linked(w.simNode, w.at.simNode) {
			turn := w.turn
			s.at(s.upTo(500*time.Millisecond), func() {
				if w.turn == turn {
					s.claim(w)
				}
			})
		}
	}
}

// serveClaim is a worker's claim at a node: Service.claim.
func (s *sim) serveClaim(p *simPatrick, w *simWorker, turn int, answer func(patrick.Lease)) {
	c := patrick.NewClaimant(w.id, w.labels...)
	life, until := p.life, s.now+simPoll
	var look func()
	look = func() {
		if !p.up || p.life != life || !s.linked(p.simNode, w.simNode) || w.turn != turn || w.busy {
			return
		}
		id, again := p.desk.Next(c, s.clock(p.simNode))
		if id == "" {
			if s.now >= until {
				answer(patrick.Lease{})
				return
			}
			once := false
			run := func() {
				if !once {
					once = true
					look()
				}
			}
			p.waiting = append(p.waiting, run)
			if !again.IsZero() {
				s.at(max(again.Sub(s.clock(p.simNode)), time.Millisecond), run)
			}
			return
		}
		asked := func(l patrick.Lease, err error) {
			p.desk.Asked(id)
			if err == nil {
				answer(l)
				return
			}
			s.wake(p)
			c.Refuse(id, s.clock(p.simNode))
			look()
		}
		arbiter := s.node(claims.Arbiter(p.desk.JobKey(id), s.live(p)))
		if arbiter == p {
			s.grant(p, id, c, func(l patrick.Lease, err error) { asked(l, err) })
			return
		}
		s.call(p.simNode, arbiter.simNode, simCall, func(answer func(func())) {
			s.grant(arbiter, id, c, func(l patrick.Lease, err error) { answer(func() { asked(l, err) }) })
		}, func() {
			p.suspect(arbiter, s)
			asked(patrick.Lease{}, taubyte.ErrUnavailable)
		})
	}
	look()
	s.at(simPoll, look)
}

// grant is Service.grant.
func (s *sim) grant(p *simPatrick, id taubyte.JobID, c patrick.Claimant, answer func(patrick.Lease, error)) {
	if s.now < p.inStep {
		life := p.life
		s.at(p.inStep-s.now, func() {
			if p.up && p.life == life {
				s.grant(p, id, c, answer)
			}
		})
		return
	}
	l, f, err := p.desk.Grant(id, c, s.live(p), s.clock(p.simNode))
	if err != nil {
		answer(l, err)
		return
	}
	s.write(p, f)
	p.desk.Granted(l.Job.ID)
	l.Job, _, _ = p.desk.Job(l.Job.ID)
	answer(l, nil)
}

// onLease is a worker's call under its lease: it goes to who looks after it, or to the next.
func (s *sim) onLease(w *simWorker, do func(*simPatrick) error, answer func(error)) {
	p := s.node(w.lease.Arbiter)
	if !s.linked(w.simNode, p.simNode) {
		p = s.someone(w.simNode)
	}
	lost := func() { answer(taubyte.ErrUnavailable) }
	if p == nil {
		s.at(250*time.Millisecond, lost)
		return
	}
	l := w.lease
	s.call(w.simNode, p.simNode, simCall, func(reply func(func())) {
		s.serveLease(p, w, l, true, do, func(err error) { reply(func() { answer(err) }) })
	}, lost)
}

// serveLease is Service.withLease.
func (s *sim) serveLease(p *simPatrick, w *simWorker, l patrick.Lease, forward bool, do func(*simPatrick) error, answer func(error)) {
	life := p.life
	keeper := s.node(p.desk.Keeper(l, s.live(p)))
	if forward && keeper != p {
		s.call(p.simNode, keeper.simNode, simCall, func(reply func(func())) {
			s.serveLease(keeper, w, l, false, do, func(err error) { reply(func() { answer(err) }) })
		}, func() {
			p.suspect(keeper, s)
			s.serveLease(p, w, l, true, do, answer)
		})
		return
	}
	decide := func() {
		if !p.up || p.life != life {
			return
		}
		err := do(p)
		if errors.Is(err, claims.ErrUnknown) {
			err = taubyte.ErrConflict
		}
		answer(err)
	}
	if p.desk.Knows(l, w.id) {
		decide()
		return
	}
	s.at(time.Second, decide) // it asks the others for what they know
}

// build has a worker build a job.
func (s *sim) build(w *simWorker, l patrick.Lease) {
	s.waits = append(s.waits, s.now-w.free)
	w.free, w.busy, w.lease, w.outcome = 0, true, l, nil
	w.expires = s.now + simLease
	x := s.byCommit[l.Job.Commit]
	out, takes := patrick.Outcome{State: patrick.Succeeded}, x.takes
	switch {
	case x.gpu && !slices.Contains(w.labels, "gpu"):
		if len(l.Job.Labels) > 0 {
			s.fail("job %s needs %s, and a worker with %s got it", l.Job.ID, l.Job.Labels, w.labels)
		}
		out, takes = patrick.Outcome{State: patrick.Queued, Error: "no GPU", Needs: []string{"gpu"}}, takes/10
	case x.config != "" && s.published[x.config].order == 0:
		out, takes = patrick.Outcome{State: patrick.Queued, Error: "no configuration", Unconfigured: true}, takes/10
	}
	s.renew(w, l)
	turn := w.turn
	s.at(takes, func() { s.publish(w, turn, out) })
}

// over has a worker drop its job.
func (s *sim) over(w *simWorker) {
	w.busy, w.outcome = false, nil
	w.free = max(s.now, 1)
	s.claim(w)
}

func (s *sim) renew(w *simWorker, l patrick.Lease) {
	turn := w.turn
	if !w.up || !w.busy {
		return
	}
	began := s.now
	s.onLease(w, func(p *simPatrick) error { return p.desk.Renew(l, w.id, s.clock(p.simNode)) }, func(err error) {
		if w.turn != turn || !w.busy {
			return
		}
		switch {
		case errors.Is(err, taubyte.ErrConflict) || errors.Is(err, taubyte.ErrForbidden):
			s.over(w)
			return
		case err == nil:
			w.expires = began + simLease
		}
		s.at(simLease/3, func() {
			if w.turn == turn {
				s.renew(w, l)
			}
		})
	})
}

// publish has a worker make its result current, if it has the lease, and say so.
func (s *sim) publish(w *simWorker, turn int, out patrick.Outcome) {
	if !w.up || !w.busy || w.turn != turn {
		return
	}
	j := w.lease.Job
	if out.State == patrick.Succeeded {
		if s.now >= w.expires {
			s.at(200*time.Millisecond, func() { s.publish(w, turn, out) })
			return
		}
		switch current := s.published[j.Repository]; {
		case current.order > j.Order:
			out = patrick.Outcome{State: patrick.Superseded, Error: "a later push is published"}
		default:
			s.published[j.Repository] = simPart{j.Order, j.ID}
		}
		out.Steps = []patrick.Step{{Name: fmt.Sprintf("%d by %d", w.lease.Fence, w.n)}}
	}
	w.outcome = &out
	s.finish(w, turn)
}

func (s *sim) finish(w *simWorker, turn int) {
	if !w.up || !w.busy || w.turn != turn {
		return
	}
	l, out := w.lease, *w.outcome
	s.onLease(w, func(p *simPatrick) error {
		f, err := p.desk.Finish(l, w.id, out, s.clock(p.simNode))
		if f != nil {
			s.write(p, *f)
			p.desk.Ended(l.Job.ID)
		}
		return err
	}, func(err error) {
		switch {
		case w.turn != turn || !w.busy:
		case err == nil, errors.Is(err, taubyte.ErrConflict), errors.Is(err, taubyte.ErrForbidden):
			s.over(w)
		default:
			s.at(250*time.Millisecond, func() { s.finish(w, turn) })
		}
	})
}

// kill ends a node, for a while.
func (s *sim) kill(n *simNode, back time.Duration) {
	if !n.up {
		return
	}
	n.up = false
	n.life++
	s.left()
	s.at(back, func() {
		n.up = true
		if n.n >= simPatricks {
			w := s.workers[n.n-simPatricks]
			w.busy, w.outcome, w.free = false, nil, 0
			s.claim(w)
			return
		}
		p := s.patricks[n.n] // it has its disk, and nothing else
		p.desk = patrick.NewDesk(n.id, s.attempts, simLease, func() time.Time { return s.clock(n) })
		p.waiting, p.checking, p.silent = nil, false, [simPatricks]time.Duration{}
		before := p.done
		p.done = map[taubyte.JobID]uint64{}
		for _, r := range p.disk {
			s.apply(p, r)
		}
		for id, fence := range before {
			if now, ok := p.done[id]; !ok || now > fence {
				s.fail("job %s had succeeded under lease %d, and after a start not", id, fence)
			}
		}
		s.meetAll()
	})
}

// part cuts the network in two, for a while.
func (s *sim) part(back time.Duration) {
	var side uint
	for _, n := range s.nodes {
		if s.rng.IntN(2) == 0 {
			side |= 1 << n.n
		}
	}
	whole := uint(1)<<len(s.nodes) - 1
	for _, n := range s.nodes {
		if side&(1<<n.n) != 0 {
			n.cut |= whole &^ side
		} else {
			n.cut |= side
		}
	}
	s.left()
	s.at(back, func() {
		for _, n := range s.nodes {
			n.cut = 0
		}
		s.meetAll()
	})
}

// trouble plans faults of the first 12 s. A cut lasts longer than a lease.
func (s *sim) trouble() {
	const within = 10 * time.Second
	s.late, s.doubled = 0.02, 0.05
	s.quiet = 20 * time.Second
	for range 1 + s.rng.IntN(2) {
		s.at(s.upTo(within), func() { s.kill(s.nodes[s.rng.IntN(simPatricks)], s.upTo(8*time.Second)) })
	}
	for range 1 + s.rng.IntN(3) {
		s.at(s.upTo(within), func() { s.kill(s.nodes[simPatricks+s.rng.IntN(simWorkers)], s.upTo(8*time.Second)) })
	}
	for range s.rng.IntN(3) {
		s.at(s.upTo(within), func() { s.part(simLease + s.upTo(4*time.Second)) })
	}
	s.at(s.quiet, func() { s.late, s.doubled = 0, 0 })
}

// pushed plans pushes within a time.
func (s *sim) pushed(x *simPush, within time.Duration) {
	s.pushes = append(s.pushes, x)
	x.push.Commit = hash(len(s.pushes))
	x.push.Branch = "main"
	s.byCommit[x.push.Commit] = x
	s.at(s.upTo(within), func() { s.submit(x) })
	if s.rng.IntN(4) == 0 {
		s.at(s.upTo(within), func() { s.submit(x) }) // it is told twice
	}
}

func (s *sim) plan() {
	if s.seed%8 == 0 {
		s.attempts = 3
	}
	for i := range 3 + s.rng.IntN(4) {
		x := &simPush{project: taubyte.ProjectID(fmt.Sprint("p", i%3)), priority: s.rng.IntN(5) - 2, takes: 100*time.Millisecond + s.upTo(4*time.Second)}
		x.push.Repository = taubyte.RepositoryID(fmt.Sprint("local/r", i))
		x.gpu = s.rng.IntN(4) == 0
		if i > 0 && s.rng.IntN(4) == 0 && s.pushes[0].project == x.project {
			x.config = s.pushes[0].push.Repository
		}
		s.pushed(x, 8*time.Second)
		if s.rng.IntN(4) == 0 { // pushed again
			again := *x
			s.pushed(&again, 8*time.Second)
		}
	}
	if s.rng.IntN(4) == 0 { // somebody cancels a job and thinks better of it
		x := s.pushes[len(s.pushes)-1]
		for i, kind := range []string{"cancel", "retry"} {
			s.at(time.Duration(i)*4*time.Second+s.upTo(6*time.Second), func() {
				p := s.someone(nil)
				if p == nil || x.job == "" {
					return
				}
				if f, err := p.desk.Wish(x.job, kind, s.clock(p.simNode)); err == nil && f != nil {
					s.write(p, *f)
				}
			})
		}
	}
}

// unsettled is why the history is not over.
func (s *sim) unsettled() string {
	for _, n := range s.nodes {
		if !n.up {
			return "a node is down"
		}
	}
	newest := map[taubyte.RepositoryID]patrick.Job{}
	first := s.patricks[0].desk
	for _, id := range first.IDs() {
		j, fence, _ := first.Job(id)
		if !j.State.Done() {
			return fmt.Sprintf("job %s is %s (%s)", id, j.State, j.Error)
		}
		if n := newest[j.Repository]; n.Order < j.Order {
			newest[j.Repository] = j
		}
		for _, p := range s.patricks[1:] {
			o, f, ok := p.desk.Job(id)
			if !ok || o.State != j.State || f != fence || !slices.Equal(o.Steps, j.Steps) {
				return fmt.Sprintf("job %s is %s under %d on one node, and %s under %d on another", id, j.State, fence, o.State, f)
			}
		}
	}
	for _, p := range s.patricks[1:] {
		if len(p.desk.IDs()) != len(first.IDs()) {
			return "a node lacks jobs"
		}
	}
	for _, x := range s.pushes {
		if x.job == "" {
			return fmt.Sprintf("the push of %s is not acknowledged", x.push.Commit)
		}
		j, _, ok := first.Job(x.job)
		if !ok {
			return fmt.Sprintf("job %s is acknowledged, and no node has it", x.job)
		}
		n := newest[j.Repository]
		if n.State == patrick.Succeeded && s.published[j.Repository].job != n.ID {
			return fmt.Sprintf("job %s has succeeded, and %s is published", n.ID, s.published[j.Repository].job)
		}
		if s.attempts > 3 && n.State == patrick.Failed || n.State == patrick.TimedOut || n.State == patrick.Superseded {
			return fmt.Sprintf("the newest job %s is %s: %s", n.ID, n.State, n.Error)
		}
	}
	return ""
}

// play plays the history until all of its jobs have ended, everywhere alike.
func (s *sim) play() error {
	const most = 15 * time.Minute
	for look := time.Duration(0); s.wrong == nil; {
		e := s.queue.pop()
		s.now = e.at
		e.run()
		if s.now < s.quiet || s.now < look {
			continue
		}
		look = s.now + time.Second
		why := s.unsettled()
		if why == "" {
			return s.wrong
		}
		if s.now > most {
			s.fail("%s", why)
		}
	}
	return s.wrong
}

func simulated(seed int64) *sim {
	s := newSim(seed)
	s.plan()
	s.trouble()
	s.start()
	return s
}

// Whatever happens to nodes, links, clocks and messages: each push that was acknowledged is
// built, and each job has one result, the same everywhere.
func TestTenThousandHistories(t *testing.T) {
	if *oneSeed >= 0 {
		s := simulated(*oneSeed)
		require.NoError(t, s.play())
		t.Logf("over after %s, %d records, %d workers lost", s.now, len(s.records), s.lost)
		return
	}
	n := int64(*histories)
	if testing.Short() {
		n /= 10
	}
	began := time.Now()
	var next, lost, records atomic.Int64
	var mu sync.Mutex
	var wrong []string
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for seed := next.Add(1) - 1; seed < n; seed = next.Add(1) - 1 {
				s := simulated(seed)
				err := s.play()
				lost.Add(int64(s.lost))
				records.Add(int64(len(s.records)))
				if err != nil {
					mu.Lock()
					wrong = append(wrong, err.Error())
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d histories in %s: %d records, %d workers lost", n, time.Since(began), records.Load(), lost.Load())
	require.NotZero(t, lost.Load(), "the faults cost leases")
	if len(wrong) > 0 {
		t.Fatalf("%d histories went wrong; the first:\n%s\n(play one alone with -seed)", len(wrong), strings.Join(wrong[:min(5, len(wrong))], "\n"))
	}
}
