package substrate

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/seer"
	"github.com/taubyte/taubyte/substrate/internal/abi"
	"github.com/taubyte/taubyte/substrate/internal/timers"
	"github.com/taubyte/taubyte/substrate/internal/vm"
	"github.com/taubyte/taubyte/substrate/wire"
	"github.com/taubyte/taubyte/tns/config"
)

// A clock is the node's part in the timers of the cluster.
type clock struct {
	s       *Service
	timers  *timers.Timers
	rpc     *rpc.Client
	ticks   atomic.Int64           // run so far
	modules map[timers.Key]cid.Cid // of the timers' functions; guarded by the service's mu
}

// openClock makes the node one that runs timers.
func (s *Service) openClock() {
	c := &clock{s: s, rpc: rpc.NewClient(s.host, peersProtocol, nil)}
	c.timers = timers.New(timers.Config{
		Self: s.host.ID(), Voters: c.voters, Candidates: c.candidates, Log: s.log,
		Ask: func(ctx context.Context, to peer.ID, b timers.Ballot) error {
			return c.rpc.CallPeer(ctx, to, http.MethodPost, "/timers", b, nil)
		},
	})
	s.clock = c
	s.closes = append(s.closes, func() error { c.rpc.Close(); return nil })
}

// ServeHTTP answers another node's ballot.
func (c *clock) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var b timers.Ballot
	caller, _ := rpc.Caller(r.Context())
	err := rpc.Decode(w, r, 4<<10, &b)
	if err == nil {
		err = c.timers.Vote(caller.Peer, b)
	}
	rpc.Reply(w, nil, err, nil)
}

// voters are the substrate nodes that are not known to be gone.
func (c *clock) voters() []peer.ID {
	ids := []peer.ID{c.s.host.ID()}
	for _, n := range c.s.agent.Nodes() {
		if n.ID != ids[0] && n.Health != seer.Gone && slices.Contains(n.Services, peersProtocol) {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

// candidates are the living nodes that have the module of a timer's function.
func (c *clock) candidates(key timers.Key) []peer.ID {
	c.s.mu.Lock()
	module := c.modules[key]
	c.s.mu.Unlock()
	var ids []peer.ID
	self := c.s.host.ID()
	if !c.s.draining.Load() {
		ids = append(ids, self)
	}
	for _, n := range c.s.agent.Nodes() {
		if n.ID != self && n.Health == seer.Alive && slices.Contains(n.Services, peersProtocol) && wire.Warm(n.Load.Warm, module) {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

// wind sets the timers of all deployments that the table leads to.
func (s *Service) wind() {
	set := map[timers.Key]timers.Timer{}
	modules := map[timers.Key]cid.Cid{}
	live := *s.live.Load()
	for _, d := range s.table.Deployments() {
		made, ok := live[keyOf(d)]
		if !ok || made.project == nil {
			continue
		}
		for scope := range scopes(made.project) {
			for i := range scope.Functions {
				f := &scope.Functions[i]
				run, ok := made.functions[resourceKey{scope.id, f.ID}]
				if f.Type != config.TriggerTimer || !ok {
					continue
				}
				key := timers.Key{Project: d.Project, Branch: d.Branch, Application: scope.id, Function: f.ID}
				schedule, err := timers.Parse(f.Schedule, f.Timezone)
				if err != nil {
					s.log.Warn("a timer that can't be read never runs", "project", string(d.Project), "branch", string(d.Branch), "function", f.Name, "err", err)
					continue
				}
				set[key] = timers.Timer{Schedule: schedule, Run: func(ctx context.Context, due time.Time) error {
					if err := made.allow(ctx, guarded{resourceKey{scope.id, f.ID}, abi.ResourceNone}, nil); err != nil {
						return err
					}
					return s.runTimer(ctx, run, due)
				}}
				modules[key], _ = d.Asset(sourceOf(f.ID, f.Source))
			}
		}
	}
	s.mu.Lock()
	s.clock.modules = modules
	s.mu.Unlock()
	s.clock.timers.Set(set)
}

// runTimer runs a function for a tick that this node was elected for.
func (s *Service) runTimer(ctx context.Context, f *vm.Function, due time.Time) error {
	s.inFlight.Add(1)
	defer s.inFlight.Add(-1)
	err := f.Run(ctx, func(g *abi.Guest) uint32 { return g.BeginTimer(due) }, "due", due)
	if errors.Is(err, vm.ErrBusy) {
		s.log.Warn("a timer's tick was skipped: its function is busy", "due", due, "err", err)
	}
	if errors.Is(err, vm.ErrGone) {
		return err
	}
	s.clock.ticks.Add(1)
	if err != nil && errors.Is(err, taubyte.ErrClosed) { // of something that the function uses
		return nil
	}
	return err
}
