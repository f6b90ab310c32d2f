package timers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rendezvous"
)

// Key names a timer in the cluster.
type Key struct {
	Project     taubyte.ProjectID     `json:"project"`
	Branch      taubyte.Branch        `json:"branch"`
	Application taubyte.ApplicationID `json:"application,omitempty"`
	Function    taubyte.ResourceID    `json:"function"`
}

// What a Ballot asks a voter for.
const (
	Take = "take" // the vote for a tick; repeated while the function runs
	Free = "free" // the vote is given back
	Done = "done" // the tick has run
)

// A Ballot is what one node asks another about a tick.
type Ballot struct {
	Key  Key    `json:"key"`
	Tick int64  `json:"tick"` // unix nanoseconds
	What string `json:"what"`
}

const (
	maxVoters = 7
	// lease is how long a voter takes a tick to be running without having heard of
	// it, and renewal how often it does.
	lease   = 5 * time.Second
	renewal = lease / 4
	// patience is how long a voter is waited for.
	patience = 2 * time.Second
	// window is how late a tick may begin.
	window = 30 * time.Second
	// early is how far ahead of a voter's clock a candidate's may be.
	early = 10 * time.Second
)

// quorum is how many of n voters elect. Of two sets of voters that differ by a
// node that came, went or was replaced, any two quorums have a voter in common.
func quorum(n int) int {
	if n >= maxVoters {
		return n/2 + 2
	}
	return n/2 + 1
}

// A vote is what a voter remembers of a timer.
type vote struct {
	tick   int64
	holder peer.ID // empty: nobody
	done   bool
	heard  time.Time // of the holder
}

// Vote answers a ballot of another node, or of this one. The error says why the
// vote is refused: taubyte.ErrConflict, or ErrInvalid.
func (t *Timers) Vote(from peer.ID, b Ballot) error {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	v := t.votes[b.Key]
	switch b.What {
	case Take:
		due := time.Unix(0, b.Tick)
		switch {
		case v.tick == b.Tick && v.holder == from:
			v.heard = now
			t.votes[b.Key] = v
			return nil
		case due.After(now.Add(early)) || due.Before(now.Add(-2*window)):
			return fmt.Errorf("%w tick: due at %s, which is not now", taubyte.ErrInvalid, due)
		case due.Before(t.started):
			return fmt.Errorf("%w: this node is younger than the tick", taubyte.ErrConflict)
		case b.Tick < v.tick || b.Tick == v.tick && v.holder != "":
			return fmt.Errorf("%w: the vote went to %s for the tick of %s", taubyte.ErrConflict, v.holder, time.Unix(0, v.tick))
		case v.busy(now):
			return fmt.Errorf("%w: the tick of %s is running on %s", taubyte.ErrConflict, time.Unix(0, v.tick), v.holder)
		}
		t.forget(now)
		if len(t.votes) >= maxVotes {
			return fmt.Errorf("%w: too many timers", taubyte.ErrUnavailable)
		}
		t.votes[b.Key] = vote{tick: b.Tick, holder: from, heard: now}
	case Free:
		if v.tick == b.Tick && v.holder == from {
			t.votes[b.Key] = vote{tick: b.Tick, heard: now}
		}
	case Done:
		if v.tick == b.Tick && v.holder == from {
			v.done = true
			t.votes[b.Key] = v
		}
	default:
		return fmt.Errorf("%w ballot %q", taubyte.ErrInvalid, b.What)
	}
	return nil
}

const maxVotes = 100_000

// forget drops the votes that can't matter any more, when there are many. mu is held.
func (t *Timers) forget(now time.Time) {
	if len(t.votes) < t.many {
		return
	}
	for k, v := range t.votes {
		if now.Sub(v.heard) > 3*window && now.Sub(time.Unix(0, v.tick)) > 3*window {
			delete(t.votes, k)
		}
	}
	t.many = max(minVotes, 2*len(t.votes))
}

const minVotes = 1024

// known is what this node knows of a tick without asking: that another node has it
// or that it is over, and that a former one is running.
func (t *Timers) known(e *entry, tick int64) (taken, running bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := t.votes[e.key]
	if v.holder == "" {
		return v.tick > tick, e.running
	}
	return v.tick > tick || v.tick == tick && v.holder != t.config.Self, e.running || v.tick < tick && v.busy(time.Now())
}

// busy reports whether the tick is running.
func (v vote) busy(now time.Time) bool {
	return v.holder != "" && !v.done && now.Before(v.heard.Add(lease))
}

// elect asks the voters for a tick, and gives their votes back if they are not enough.
func (t *Timers) elect(ctx context.Context, key Key, tick int64) bool {
	voters := t.voters(key)
	need := quorum(len(voters))
	yes, no := 0, 0
	for ok := range t.ask(ctx, voters, Ballot{key, tick, Take}) {
		if ok {
			yes++
		} else {
			no++
		}
		if yes >= need {
			return true
		}
		if len(voters)-no < need {
			break
		}
	}
	t.tell(ctx, voters, Ballot{key, tick, Free})
	return false
}

// ask sends a ballot to all voters at once. What is returned yields their answers as
// they come; nobody needs to listen.
func (t *Timers) ask(ctx context.Context, voters []peer.ID, b Ballot) func(func(bool) bool) {
	answers := make(chan bool, len(voters))
	for _, v := range voters {
		if v == t.config.Self {
			answers <- t.Vote(v, b) == nil
			continue
		}
		t.wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			err := t.config.Ask(ctx, v, b)
			if err != nil && !errors.Is(err, taubyte.ErrConflict) {
				t.log.Debug("voter not reached", "voter", v, "err", err)
			}
			answers <- err == nil
		})
	}
	return func(yield func(bool) bool) {
		for range voters {
			if !yield(<-answers) {
				return
			}
		}
	}
}

// tell sends a ballot and waits for no answer.
func (t *Timers) tell(ctx context.Context, voters []peer.ID, b Ballot) {
	t.ask(context.WithoutCancel(ctx), voters, b)
}

// voters are the nodes that settle a timer's ticks.
func (t *Timers) voters(key Key) []peer.ID {
	all := rank(t.config.Voters(), key, 0)
	if !slices.Contains(all, t.config.Self) {
		all = rank(append(all, t.config.Self), key, 0)
	}
	return all[:min(len(all), maxVoters)]
}

// rank orders nodes for a tick of a timer, alike on every node.
func rank(nodes []peer.ID, key Key, tick int64) []peer.ID {
	return rendezvous.Of(fmt.Sprintf("%q %q %q %q", key.Project, key.Branch, key.Application, key.Function)).AndNumber(uint64(tick)).Rank(nodes)
}
