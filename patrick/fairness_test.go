package patrick_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/patrick"
)

// A lone node of patrick that is fed by the test, and its workers.
type lone struct {
	t    *testing.T
	desk patrick.Desk
	now  time.Time
	n    int
}

func newLone(t *testing.T, attempts int) *lone {
	l := &lone{t: t, now: simEpoch}
	l.desk = patrick.NewDesk(simNames[0], attempts, simLease, func() time.Time { return l.now })
	return l
}

func (l *lone) push(project, branch string, priority int) taubyte.JobID {
	l.n++
	l.now = l.now.Add(time.Millisecond)
	p := auth.Push{Repository: taubyte.RepositoryID("local/" + project), Branch: taubyte.Branch(branch), Commit: hash(l.n)}
	id, made := l.desk.Submit(patrick.Submission(p, taubyte.ProjectID(project), priority), l.now)
	l.desk.Take(*made, l.now)
	return id
}

func (l *lone) job(id taubyte.JobID) patrick.Job {
	j, _, ok := l.desk.Job(id)
	require.True(l.t, ok)
	return j
}

// claim gives a worker what is next for it.
func (l *lone) claim(worker peer.ID, labels ...string) (patrick.Lease, bool) {
	c := patrick.NewClaimant(worker, labels...)
	id, _ := l.desk.Next(c, l.now)
	if id == "" {
		return patrick.Lease{}, false
	}
	lease, f, err := l.desk.Grant(id, c, simNames[:1], l.now)
	if l.desk.Asked(id); err == nil {
		l.desk.Take(f, l.now)
		l.desk.Granted(lease.Job.ID)
	}
	return lease, err == nil
}

func (l *lone) finish(lease patrick.Lease, worker peer.ID, o patrick.Outcome) error {
	f, err := l.desk.Finish(lease, worker, o, l.now)
	if f != nil {
		l.desk.Take(*f, l.now)
		l.desk.Ended(lease.Job.ID)
	}
	return err
}

// Builds of projects with equal shares: of those that have work, none runs two jobs more
// than another that waits, whatever it has queued.
func TestAProjectTakesItsShareAlone(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 3))
		l := newLone(t, 3)
		workers := simNames[1 : 2+rng.IntN(8)]
		queued, running := map[taubyte.ProjectID]int{}, map[taubyte.ProjectID]int{}
		leases := map[peer.ID]patrick.Lease{}
		for step := range 300 {
			l.now = l.now.Add(time.Duration(rng.IntN(1000)) * time.Millisecond)
			switch rng.IntN(3) {
			case 0:
				project := fmt.Sprint("p", rng.IntN(1+rng.IntN(5)))
				for range 1 + rng.IntN(1+rng.IntN(20)) {
					l.push(project, fmt.Sprint("b", l.n), rng.IntN(41)-20)
					queued[taubyte.ProjectID(project)]++
				}
			case 1:
				w := workers[rng.IntN(len(workers))]
				if lease, ok := leases[w]; ok {
					require.NoError(t, l.finish(lease, w, patrick.Outcome{State: patrick.Succeeded}))
					running[lease.Job.Project]--
					delete(leases, w)
				}
			}
			for _, w := range workers {
				if _, busy := leases[w]; busy || rng.IntN(2) == 0 {
					continue
				}
				lease, ok := l.claim(w)
				if !ok {
					for p, n := range queued {
						if n > 0 {
							t.Fatalf("seed %d, step %d: %s waits, and a worker is free", seed, step, p)
						}
					}
					continue
				}
				own := lease.Job.Project
				for p, n := range queued {
					if n > 0 && running[own] > running[p] {
						t.Fatalf("seed %d, step %d: %s before %s", seed, step, own, p)
					}
				}
				leases[w] = lease
				queued[own]--
				running[own]++
			}
		}
	}
}

// One job of a quiet project gets the next worker that is free, however much another has
// queued, and two that are busy share.
func TestAThousandJobsHoldNobodyUp(t *testing.T) {
	l := newLone(t, 3)
	for i := range 1000 {
		l.push("busy", fmt.Sprint("b", i), 10)
	}
	workers := simNames[1:9]
	leases := map[peer.ID]patrick.Lease{}
	for _, w := range workers {
		leases[w], _ = l.claim(w)
	}
	quiet := l.push("quiet", "main", -10)
	require.NoError(t, l.finish(leases[workers[3]], workers[3], patrick.Outcome{State: patrick.Succeeded}))
	next, ok := l.claim(workers[3])
	require.True(t, ok)
	require.Equal(t, quiet, next.Job.ID)
	for i := range 1000 {
		l.push("other", fmt.Sprint("b", i), 0)
	}
	require.NoError(t, l.finish(next, workers[3], patrick.Outcome{State: patrick.Succeeded}))
	delete(leases, workers[3])
	turns := map[taubyte.ProjectID]int{}
	for range 100 {
		for _, w := range workers {
			if lease, busy := leases[w]; busy {
				require.NoError(t, l.finish(lease, w, patrick.Outcome{State: patrick.Succeeded}))
			}
			l.now = l.now.Add(time.Second)
			leases[w], ok = l.claim(w)
			require.True(t, ok)
			turns[leases[w].Job.Project]++
		}
	}
	require.InDelta(t, turns["busy"], turns["other"], float64(len(workers)))
}

// A priority is worth minutes, and no more: a job gives way to what is pushed within 20
// minutes, and to nothing later.
func TestNoPriorityStarvesAJob(t *testing.T) {
	l := newLone(t, 3)
	low := l.push("p", "low", -1<<30)
	worker := simNames[1]
	waited := time.Duration(0)
	for i := 0; ; i++ {
		l.push("p", fmt.Sprint("high", i), 1<<30)
		l.now, waited = l.now.Add(time.Minute), waited+time.Minute
		lease, ok := l.claim(worker)
		require.True(t, ok)
		require.NoError(t, l.finish(lease, worker, patrick.Outcome{State: patrick.Succeeded}))
		if lease.Job.ID == low {
			break
		}
		require.Less(t, waited, time.Hour)
	}
	require.Greater(t, waited, 15*time.Minute, "priority counts")
	require.LessOrEqual(t, waited, 22*time.Minute)
}

// Ten projects that push together, each a job of a minute, against one: with two workers
// and more it takes less than ten times as long.
func TestTenProjectsPushedTogether(t *testing.T) {
	for n := 2; n <= 8; n++ {
		took := func(projects int) time.Duration {
			l := newLone(t, 3)
			began := l.now
			for i := range projects {
				l.push(fmt.Sprint("p", i), "main", 0)
			}
			left := projects
			for left > 0 {
				var round []func()
				for _, w := range simNames[1 : 1+n] {
					if lease, ok := l.claim(w); ok {
						round = append(round, func() { require.NoError(t, l.finish(lease, w, patrick.Outcome{State: patrick.Succeeded})) })
					}
				}
				require.Len(t, round, min(left, n), "no worker waits while there is a job")
				for range 60 { // it is renewed
					l.now = l.now.Add(time.Second)
				}
				for _, done := range round {
					done()
				}
				left -= len(round)
			}
			return l.now.Sub(began).Truncate(time.Minute)
		}
		require.Equal(t, took(1)*time.Duration((10+n-1)/n), took(10), "%d workers", n)
	}
}

// The moves of a job that its machine has, with one node that sees everything. Those that
// an operator's word alone brings about are not among them.
var moves = map[patrick.State][]patrick.State{
	patrick.Queued:     {patrick.Running, patrick.Superseded, patrick.Cancelled, patrick.Succeeded, patrick.Failed, patrick.TimedOut},
	patrick.Running:    {patrick.Queued, patrick.Succeeded, patrick.Failed, patrick.TimedOut, patrick.Superseded, patrick.Cancelled},
	patrick.Failed:     {patrick.Succeeded, patrick.TimedOut, patrick.Superseded, patrick.Queued}, // of a worker that was taken for lost
	patrick.Succeeded:  nil,
	patrick.TimedOut:   nil,
	patrick.Superseded: {patrick.Succeeded, patrick.Failed, patrick.TimedOut}, // likewise
	patrick.Cancelled:  nil,
}

// Every history of events leaves a job in a state that the machine allows, by a move that it
// has. What has ended moves by a retry alone, or by the word of a worker that was taken for
// lost and is heard after all.
func TestEveryMoveIsTheMachines(t *testing.T) {
	reached := map[string]int{}
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 5))
		l := newLone(t, 2)
		states := map[taubyte.JobID]patrick.Job{}
		lost := map[taubyte.JobID]bool{} // a worker may still say how it ended
		type held struct {
			lease  patrick.Lease
			worker peer.ID
		}
		var all []held
		check := func(event string, of taubyte.JobID) {
			for _, id := range l.desk.IDs() {
				before, now := states[id].State, l.job(id)
				states[id] = now
				if before == now.State {
					continue
				}
				reached[fmt.Sprint(before, " ", now.State)]++
				if event == "retry" {
					require.Equal(t, of, id)
					require.Equal(t, patrick.Queued, now.State)
					require.Contains(t, []patrick.State{patrick.Failed, patrick.Cancelled, patrick.TimedOut}, before, "seed %d", seed)
					continue
				}
				if before == "" {
					require.Equal(t, patrick.Queued, now.State)
					continue
				}
				require.Contains(t, moves[before], now.State, "seed %d: %s: job %s moves from %s to %s", seed, event, id, before, now.State)
				if before.Done() || before == patrick.Queued && now.State.Done() && now.State != patrick.Superseded && now.State != patrick.Cancelled {
					require.Equal(t, "finish", event, "seed %d: from %s to %s", seed, before, now.State)
					require.True(t, lost[id], "seed %d: from %s to %s, and its worker has it no more", seed, before, now.State)
				}
			}
		}
		for range 60 {
			l.now = l.now.Add(time.Duration(rng.IntN(2000)) * time.Millisecond)
			switch rng.IntN(7) {
			case 0:
				check("push", l.push("p", fmt.Sprint("b", rng.IntN(2)), 0))
			case 1:
				w := simNames[1+rng.IntN(3)]
				if lease, ok := l.claim(w); ok {
					all = append(all, held{lease, w})
					check("claim", lease.Job.ID)
				}
			case 2:
				if len(all) > 0 {
					h := all[rng.IntN(len(all))]
					_ = l.desk.Renew(h.lease, h.worker, l.now)
					check("renew", "")
				}
			case 3:
				if len(all) > 0 {
					h := all[rng.IntN(len(all))]
					s := []patrick.State{patrick.Succeeded, patrick.Failed, patrick.TimedOut, patrick.Superseded, patrick.Queued}[rng.IntN(5)]
					before := l.job(h.lease.Job.ID)
					err := l.finish(h.lease, h.worker, patrick.Outcome{State: s, Error: string(s)})
					if err != nil {
						require.Equal(t, before.State, l.job(before.ID).State, "what is refused changes nothing")
					}
					check("finish", h.lease.Job.ID)
				}
			case 4:
				over := l.desk.Overdue(simNames[:1], func(peer.ID) bool { return rng.IntN(2) == 0 }, l.now)
				for _, o := range over {
					if l.desk.Lapsed(o.Held, l.now) {
						lost[o.Held.Job] = true
						l.desk.Take(o.Fact, l.now)
						l.desk.Ended(o.Held.Job)
					}
				}
				check("lost", "")
			default:
				kind := []string{"cancel", "retry"}[rng.IntN(2)]
				if ids := l.desk.IDs(); len(ids) > 0 {
					id := ids[rng.IntN(len(ids))]
					if f, err := l.desk.Wish(id, kind, l.now); err == nil && f != nil {
						l.desk.Take(*f, l.now)
						lost[id] = true // its worker may go on
						check(kind, id)
					}
				}
			}
		}
	}
	t.Log(reached)
	for _, move := range []string{"queued running", "running queued", "running failed", "running timed-out", "running succeeded", "running superseded", "running cancelled", "queued superseded", "queued cancelled", "failed queued", "timed-out queued", "cancelled queued"} {
		require.NotZero(t, reached[move], move)
	}
}

// A job that needs a label waits for a worker that has it, without holding others up.
func TestLabelsDecideTheRace(t *testing.T) {
	l := newLone(t, 3)
	needy := l.push("p", "needy", 0)
	plain, gpu := simNames[1], simNames[2]
	lease, ok := l.claim(plain, "linux")
	require.True(t, ok)
	require.Equal(t, needy, lease.Job.ID)
	require.NoError(t, l.finish(lease, plain, patrick.Outcome{State: patrick.Queued, Error: "it waits for a worker with the label gpu", Needs: []string{"gpu"}}))
	j := l.job(needy)
	require.Equal(t, patrick.Queued, j.State)
	require.Equal(t, []string{"gpu"}, j.Labels)
	require.Equal(t, "it waits for a worker with the label gpu", j.Error)
	later := l.push("p", "later", 0)
	l.now = l.now.Add(time.Hour)
	lease, ok = l.claim(plain, "linux")
	require.True(t, ok)
	require.Equal(t, later, lease.Job.ID)
	_, ok = l.claim(plain, "linux")
	require.False(t, ok)
	lease, ok = l.claim(gpu, "linux", "gpu")
	require.True(t, ok, "at once")
	require.Equal(t, needy, lease.Job.ID)
	require.NoError(t, l.finish(lease, gpu, patrick.Outcome{State: patrick.Succeeded}))
}

// What is pushed before its configuration waits for it, and not for ever.
func TestAJobWaitsForItsConfiguration(t *testing.T) {
	l := newLone(t, 3)
	worker := simNames[1]
	none := patrick.Outcome{State: patrick.Queued, Error: "there is no configuration yet", Unconfigured: true}
	push := func(repository string) taubyte.JobID {
		l.n++
		id, made := l.desk.Submit(patrick.Submission(auth.Push{Repository: taubyte.RepositoryID(repository), Branch: "main", Commit: hash(l.n)}, "p", 0), l.now)
		l.desk.Take(*made, l.now)
		return id
	}
	code := push("local/code")
	for range 6 {
		l.now = l.now.Add(time.Minute)
		lease, ok := l.claim(worker)
		require.True(t, ok)
		require.NoError(t, l.finish(lease, worker, none))
	}
	_, ok := l.claim(worker)
	require.False(t, ok)
	configuration := push("local/config")
	lease, ok := l.claim(worker)
	require.True(t, ok)
	require.Equal(t, configuration, lease.Job.ID)
	require.NoError(t, l.finish(lease, worker, patrick.Outcome{State: patrick.Succeeded}))
	lease, ok = l.claim(worker)
	require.True(t, ok, "at once")
	require.Equal(t, code, lease.Job.ID)
	require.NoError(t, l.finish(lease, worker, none), "it was another's")
	require.Equal(t, patrick.Queued, l.job(code).State)

	l.now = l.now.Add(time.Hour)
	lease, ok = l.claim(worker)
	require.True(t, ok)
	require.NoError(t, l.finish(lease, worker, none))
	require.NoError(t, l.finish(lease, worker, none), "said twice")
	j := l.job(code)
	require.Equal(t, patrick.Failed, j.State)
	require.Contains(t, j.Error, "there is no configuration yet (it has waited for 1h")
	f, err := l.desk.Wish(code, "retry", l.now)
	require.NoError(t, err)
	l.desk.Take(*f, l.now)
	lease, ok = l.claim(worker)
	require.True(t, ok)
	require.NoError(t, l.finish(lease, worker, none))
	require.Equal(t, patrick.Queued, l.job(code).State, "it waits anew")
}
