package timers

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
)

// Config is what Timers need. All is set.
type Config struct {
	Self peer.ID
	// Voters are the substrate nodes that may be alive.
	Voters func() []peer.ID
	// Candidates are the nodes that could run a tick of that timer now.
	Candidates func(Key) []peer.ID
	// Ask brings a ballot to another node, where Vote answers it.
	Ask func(context.Context, peer.ID, Ballot) error
	Log *slog.Logger
}

// A Timer is a function that is run by the clock.
type Timer struct {
	Schedule Schedule
	// Run runs the function for a tick. An error that is taubyte.ErrClosed says that
	// the function was replaced in the meantime, which Set will tell of.
	Run func(ctx context.Context, due time.Time) error
}

// settled is for how long a new node stands aside.
const settled = 5 * time.Second

// Timers are the timers of a node. They are safe for concurrent use.
type Timers struct {
	config  Config
	log     *slog.Logger
	started time.Time
	life    context.Context
	stop    context.CancelFunc
	wg      sync.WaitGroup

	mu     sync.Mutex // guards what follows
	timers map[Key]*entry
	votes  map[Key]vote
	many   int // votes, after which old ones are dropped
}

// An entry is a timer that this node has.
type entry struct {
	key     Key
	timer   Timer
	due     time.Time // the next tick
	alarm   *time.Timer
	running bool
}

// New returns the timers of a node, none so far.
func New(c Config) *Timers {
	t := &Timers{config: c, log: c.Log, started: time.Now(), timers: map[Key]*entry{}, votes: map[Key]vote{}, many: minVotes}
	t.life, t.stop = context.WithCancel(context.Background())
	return t
}

// Close ends all timers, and waits for what they run.
func (t *Timers) Close() {
	t.mu.Lock()
	t.stop()
	for _, e := range t.timers {
		e.end()
	}
	t.timers = nil
	t.mu.Unlock()
	t.wg.Wait()
}

// Set says which timers there are. Those that there were under the same key and with
// the same schedule go on.
func (t *Timers) Set(timers map[Key]Timer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.life.Err() != nil {
		return
	}
	for key, e := range t.timers {
		if _, ok := timers[key]; !ok {
			e.end()
			delete(t.timers, key)
		}
	}
	now := time.Now()
	for key, timer := range timers {
		e, ok := t.timers[key]
		if !ok {
			e = &entry{key: key}
			t.timers[key] = e
		}
		e.timer = timer
		if due := timer.Schedule.Next(now); !due.Equal(e.due) {
			t.arm(e, due)
		}
	}
}

// Len says how many timers there are.
func (t *Timers) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.timers)
}

func (e *entry) end() {
	if e.alarm != nil {
		e.alarm.Stop()
	}
	e.due = time.Time{}
}

// longest is how long an alarm is set for: the clock on the wall may be put right
// in the meantime.
const longest = time.Minute

// arm sets the alarm for a tick. mu is held.
func (t *Timers) arm(e *entry, due time.Time) {
	e.end()
	e.due = due
	if due.IsZero() {
		return
	}
	var alarm *time.Timer
	alarm = time.AfterFunc(min(time.Until(due), longest), func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if e.alarm != alarm || !e.due.Equal(due) || t.life.Err() != nil {
			return // it was set anew
		}
		now := time.Now()
		if now.Before(due) {
			t.arm(e, due)
			return
		}
		next := e.timer.Schedule.Next(now)
		t.arm(e, next)
		last := due.Add(window)
		if !next.IsZero() && next.Before(last) {
			last = next
		}
		if now.Before(last) {
			t.wg.Go(func() { t.tick(e, due, last) })
		}
	})
	e.alarm = alarm
}

// tick sees to it that a tick is run by somebody, until the last moment for that.
func (t *Timers) tick(e *entry, due, last time.Time) {
	if due.Before(t.started.Add(settled)) {
		return
	}
	step := min(2*time.Second, last.Sub(due)/4)
	mine := -1
	for turn := 0; ; turn++ {
		if turn > 0 && !t.sleep(min(time.Until(due.Add(time.Duration(turn)*step)), step)) || !time.Now().Before(last) {
			break
		}
		taken, running := t.known(e, due.UnixNano())
		if taken {
			return
		}
		order := rank(t.config.Candidates(e.key), e.key, due.UnixNano())
		if mine = slices.Index(order, t.config.Self); mine < 0 || mine > turn || running {
			continue
		}
		if t.elect(t.life, e.key, due.UnixNano()) {
			t.run(e, due)
			return
		}
	}
	if mine == 0 && t.life.Err() == nil { // one of all nodes says so
		t.log.Warn("a timer's tick was skipped", "project", string(e.key.Project), "branch", string(e.key.Branch),
			"function", string(e.key.Function), "due", due)
	}
}

// run runs a tick that this node was elected for.
func (t *Timers) run(e *entry, due time.Time) {
	t.mu.Lock()
	e.running = true
	t.mu.Unlock()
	renew, stop := context.WithCancel(t.life)
	var renewing sync.WaitGroup
	renewing.Go(func() {
		for {
			select {
			case <-time.After(renewal):
				t.tell(renew, t.voters(e.key), Ballot{e.key, due.UnixNano(), Take})
			case <-renew.Done():
				return
			}
		}
	})
	for range 10 {
		t.mu.Lock()
		run := e.timer.Run
		t.mu.Unlock()
		err := run(t.life, due)
		if !errors.Is(err, taubyte.ErrClosed) || !t.sleep(100*time.Millisecond) {
			break // what became of it is logged by whoever ran it
		}
	}
	stop()
	renewing.Wait()
	t.mu.Lock()
	e.running = false
	t.mu.Unlock()
	t.tell(t.life, t.voters(e.key), Ballot{e.key, due.UnixNano(), Done})
}

// sleep returns false when the timers have ended.
func (t *Timers) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.life.Done():
		return false
	}
}
