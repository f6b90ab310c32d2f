package patrick

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
)

const (
	// probeEvery is the time between two questions whether another node of patrick is
	// there, and probeTimeout how long its answer may take. A node that hangs keeps its
	// connection, and must not stay the arbiter of anything.
	probeEvery   = 500 * time.Millisecond
	probeTimeout = 2 * time.Second
	// syncTimeout bounds how long a node waits to have what another one has.
	syncTimeout = time.Second
	// hearing is how long what was written elsewhere takes to come by itself, at most.
	hearing = 200 * time.Millisecond
	// forwardTimeout is how long one node of patrick waits for another.
	forwardTimeout = 5 * time.Second
)

// members are the other nodes of role patrick that are connected, and whether they
// answer.
type members struct {
	mu      sync.Mutex
	known   map[peer.ID]*member
	changed chan struct{} // closed at the next change
	ticked  time.Time     // when the node last looked at its leases
}

type member struct {
	silent  bool      // it did not answer when it was last asked
	probing bool      // it is being asked
	synced  bool      // this node has what it had when it appeared
	since   time.Time // when it appeared
}

func newMembers() *members {
	return &members{known: map[peer.ID]*member{}, changed: make(chan struct{}), ticked: time.Now()}
}

func (m *members) changedLocked() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// others returns the connected nodes of role patrick.
func (s *Service) others() (all []peer.ID) {
	for _, p := range s.host.Network().Peers() {
		known, err := s.host.Peerstore().SupportsProtocols(p, Protocol)
		if err != nil || len(known) == 0 {
			continue
		}
		// The membership of a connected peer is in memory.
		ctx, cancel := context.WithTimeout(s.life, time.Second)
		m, err := s.host.Member(ctx, p)
		cancel()
		if err == nil && m.Has(taubyte.RolePatrick) {
			all = append(all, p)
		}
	}
	return all
}

// live returns the nodes of role patrick that this one sees and that answer, itself
// among them.
func (s *Service) live() []peer.ID {
	others := s.others()
	all := []peer.ID{s.host.ID()}
	s.members.mu.Lock()
	defer s.members.mu.Unlock()
	for _, p := range others {
		m := s.members.known[p]
		if m == nil {
			m = &member{since: time.Now()}
			s.members.known[p] = m
		}
		if !m.silent {
			all = append(all, p)
		}
	}
	return all
}

// suspect notes that a node did not answer. It is asked again by watchMembers.
func (s *Service) suspect(p peer.ID, err error) {
	s.members.mu.Lock()
	defer s.members.mu.Unlock()
	if m := s.members.known[p]; m != nil && !m.silent {
		s.log.Info("a node of patrick does not answer", "peer", p, "err", err)
		m.silent = true
		s.members.changedLocked()
	}
}

// away reports whether an error says that a node could not be asked, and not what it
// thinks.
func away(err error) bool {
	var answered *rpc.Error
	return errors.Is(err, taubyte.ErrUnavailable) || errors.Is(err, taubyte.ErrClosed) || !errors.As(err, &answered)
}

// watchMembers asks the other nodes again and again whether they are there.
func (s *Service) watchMembers() {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		s.live() // notes who is new
		connected := map[peer.ID]bool{}
		for _, p := range s.others() {
			connected[p] = true
		}
		s.members.mu.Lock()
		for p, m := range s.members.known {
			switch {
			case m.probing:
			case !connected[p]:
				delete(s.members.known, p)
				s.members.changedLocked()
			default:
				m.probing = true
				s.background.Go(func() { s.probe(p, m) })
			}
		}
		s.members.mu.Unlock()
		select {
		case <-tick.C:
		case <-s.life.Done():
			return
		}
	}
}

func (s *Service) probe(p peer.ID, m *member) {
	ctx, cancel := context.WithTimeout(s.life, probeTimeout)
	err := s.peers.CallPeer(ctx, p, http.MethodGet, "/alive", nil, nil)
	cancel()
	s.members.mu.Lock()
	sync := err == nil && !m.synced
	s.members.mu.Unlock()
	if sync {
		ctx, cancel := context.WithTimeout(s.life, syncTimeout)
		if e := s.store.Synced(ctx); e != nil && s.life.Err() == nil {
			s.log.Debug("not in step with another node yet", "peer", p, "err", e)
		}
		cancel()
	}
	if err != nil && s.life.Err() == nil {
		s.suspect(p, err)
	}
	s.members.mu.Lock()
	defer s.members.mu.Unlock()
	m.probing = false
	if err == nil && (m.silent || sync) {
		m.silent, m.synced = false, true
		s.members.changedLocked()
	}
}

// inStep waits, not for long, until the node has what the other nodes had when they
// appeared, or when this node went on after it was stopped. A lease is not granted
// before.
func (s *Service) inStep(ctx context.Context) {
	m := s.members
	until := time.Now().Add(syncTimeout)
	for {
		m.mu.Lock()
		if time.Since(m.ticked) > s.opts.lease/2 { // this node was stopped
			for _, o := range m.known {
				o.synced, o.since = false, time.Now()
			}
			m.ticked = time.Now()
		}
		wait := false
		for _, o := range m.known {
			wait = wait || !o.silent && !o.synced && time.Since(o.since) < syncTimeout
		}
		changed := m.changed
		m.mu.Unlock()
		if !wait || !time.Now().Before(until) {
			return
		}
		again := time.NewTimer(time.Until(until))
		select {
		case <-changed:
		case <-again.C:
		case <-ctx.Done():
		case <-s.life.Done():
		}
		again.Stop()
		if ctx.Err() != nil || s.life.Err() != nil {
			return
		}
	}
}

// learn has this node catch up with the others, for not long, until known says that it
// knows what it was asked for. It reports whether it does.
func (s *Service) learn(ctx context.Context, prefix ds.Key, known func() bool) bool {
	if known() {
		return true
	}
	if len(s.others()) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	catchingUp, caughtUp := context.WithCancel(ctx)
	over := make(chan struct{})
	go func() { // ends with ctx
		defer close(over)
		defer caughtUp()
		_ = s.store.Synced(ctx)
	}()
	defer func() { cancel(); <-over }()
	if s.await(catchingUp, known) {
		return true
	}
	if s.life.Err() != nil {
		return false
	}
	// What is in the store may not have reached the index.
	if err := s.load(ctx, prefix); err != nil && ctx.Err() == nil && s.life.Err() == nil {
		s.log.Warn("jobs not read", "err", err)
	}
	return known()
}

// await waits until something is known, for as long as ctx and the service last.
func (s *Service) await(ctx context.Context, known func() bool) bool {
	for {
		s.mu.Lock()
		more := s.more
		s.mu.Unlock()
		if known() {
			return true
		}
		select {
		case <-more:
		case <-ctx.Done():
			return false
		case <-s.life.Done():
			return false
		}
	}
}

// load reads the records under a prefix into the index.
func (s *Service) load(ctx context.Context, prefix ds.Key) error {
	res, err := s.store.Query(ctx, query.Query{Prefix: prefix.String()})
	if err != nil {
		return fmt.Errorf("reading the jobs: %w", err)
	}
	defer res.Close()
	for r := range res.Next() {
		if r.Error != nil {
			return fmt.Errorf("reading the jobs: %w", r.Error)
		}
		s.apply(r.Key, r.Value)
	}
	return ctx.Err()
}

// hear waits a moment for what is just being written elsewhere. It costs less than
// catching up, which a node would do for each of many jobs at once.
func (s *Service) hear(ctx context.Context, known func() bool) bool {
	if known() {
		return true
	}
	if len(s.others()) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, hearing)
	defer cancel()
	return s.await(ctx, known)
}

// find waits until a job is known here, and returns it. The caller holds mu then, if
// there is no error.
func (s *Service) find(ctx context.Context, id taubyte.JobID) (*entry, error) {
	known := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		_, err := s.index.entry(id)
		return err == nil
	}
	if validID(string(id)) && !s.hear(ctx, known) {
		s.learn(ctx, ds.RawKey(jobsPrefix+"/"+string(id)), known)
	}
	s.mu.Lock()
	e, err := s.index.entry(id)
	if err != nil {
		s.mu.Unlock()
	}
	return e, err
}

// keeper returns the node that looks after a lease.
func (s *Service) keeper(l leaseID, live []peer.ID) peer.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index.keeper(l, live)
}

// near reports whether a worker is connected to this node.
func (s *Service) near(worker peer.ID) bool {
	return worker == s.host.ID() || s.host.Network().Connectedness(worker) == network.Connected
}
