package substrate

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/seer"
	"github.com/taubyte/taubyte/substrate/internal/abi"
	"github.com/taubyte/taubyte/substrate/internal/commands"
	"github.com/taubyte/taubyte/substrate/internal/messages"
	"github.com/taubyte/taubyte/substrate/internal/vm"
	"github.com/taubyte/taubyte/substrate/wire"
)

// peersProtocol is what substrate nodes say to each other, and the topic that they
// tell each other messages on.
const peersProtocol protocol.ID = "/taubyte/substrate/peers/1"

const (
	// maxMessage is the largest message on a channel: several fit a frame between nodes.
	maxMessage = 256 << 10
	// pingEvery is how often a WebSocket that says nothing is asked whether it is there.
	pingEvery = 30 * time.Second
)

// MessageStats are a node's figures of channels and WebSockets.
type MessageStats = messages.Stats

// openChannels makes the node's part in the channels of projects.
func (s *Service) openChannels() error {
	hub, err := messages.New(messages.Config{
		Host: s.host, Log: s.log, Protocol: peersProtocol, Nodes: s.peers,
		Limit: messages.Limits{
			Sockets: s.limits.Sockets, ProjectSockets: s.limits.ProjectSockets, Message: s.limits.Message, Ping: pingEvery,
		},
	})
	if err != nil {
		return err
	}
	s.hub = hub
	s.mounts = append(s.mounts, hub.Close)
	return nil
}

// peersHandler is what other substrate nodes ask of this one.
func (s *Service) peersHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/messages/", s.hub.Handler())
	mux.Handle("POST /timers", s.clock)
	mux.Handle("/commands/", s.calls.Handler())
	return mux
}

// peers are the substrate nodes that are alive, this one among them.
func (s *Service) peers() []peer.ID {
	self := s.host.ID()
	ids := []peer.ID{self}
	for _, n := range s.agent.Nodes() {
		if n.ID != self && n.Health == seer.Alive && slices.Contains(n.Services, peersProtocol) {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

// connect compiles what a deployment says of channels, once its functions are made.
func (d *deployment) connect() (err error) {
	d.channels, err = messages.NewRules(d.project, func(id messages.Function) messages.Runner {
		key := resourceKey{id.Application, id.ID}
		f, ok := d.functions[key]
		if !ok {
			return nil
		}
		return func(ctx context.Context, m *messages.Message) error {
			if err := d.allow(ctx, guarded{key, abi.ResourceFunctionPubSub}, nil); err != nil {
				return err
			}
			return runMessage(ctx, f, m)
		}
	})
	return err
}

func runMessage(ctx context.Context, f *vm.Function, m *messages.Message) error {
	return f.Run(ctx, func(g *abi.Guest) uint32 { return g.BeginMessage(m.Channel, m.Data, m.Depth) }, "channel", m.Channel)
}

// settle gives a branch the channels and services of its newest deployment. mu is held.
func (s *Service) settle(b branchKey) {
	var newest *deployment
	var at deploymentKey
	for key, d := range *s.live.Load() {
		if key.branchKey == b && (newest == nil || cmp.Or(cmp.Compare(key.sequence, at.sequence), cmp.Compare(key.time, at.time)) > 0) {
			newest, at = d, key
		}
	}
	id := messages.Branch{Project: b.project, Branch: b.branch}
	switch {
	case newest == nil, newest.channels == nil: // nothing, or no configuration yet
		s.hub.Remove(id)
		s.calls.Deploy(commands.Branch(id), nil)
	case s.hub.Rules(id) != newest.channels:
		s.hub.Deploy(id, newest.channels)
		s.calls.Deploy(commands.Branch(id), newest.services)
	}
}

// serveSocket answers a request for a WebSocket, which outlives it.
func (s *Service) serveSocket(w http.ResponseWriter, r *http.Request, hash, channel string) {
	project, branch, ok := s.table.Owner(r.Host)
	if !ok {
		refuse(w, wire.RefusedNoHost, http.StatusNotFound)
		return
	}
	if !s.sameSite(r, project) {
		answer(w, http.StatusForbidden, "Pages of other sites can't open this.")
		return
	}
	if ok, err := s.admitSocket(w, r, messages.Branch{Project: project, Branch: branch}, hash, channel); err != nil {
		refuse(w, wire.RefusedNotReady, http.StatusServiceUnavailable)
		return
	} else if !ok {
		return
	}
	err := s.hub.ServeSocket(w, r, messages.Branch{Project: project, Branch: branch}, hash, channel)
	switch {
	case err == nil:
	case errors.Is(err, messages.ErrNoSocket):
		answer(w, http.StatusNotFound, "There is nothing here.")
	case errors.Is(err, messages.ErrFull):
		refuse(w, wire.RefusedBusy, http.StatusServiceUnavailable)
	default:
		refuse(w, wire.RefusedNotReady, http.StatusServiceUnavailable)
	}
}

// sameSite reports whether the page that asks is of the host that it asks, or of
// another one of the project. A browser sends no WebSocket's request without the
// page's origin; what sends none is no browser.
func (s *Service) sameSite(r *http.Request, project taubyte.ProjectID) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false
	}
	if strings.EqualFold(u.Host, r.Host) {
		return true
	}
	owner, _, ok := s.table.Owner(u.Host)
	return ok && owner == project
}

// publisher publishes for guests.
type publisher struct{ s *Service }

var _ abi.Messages = publisher{}

func branchOf(f *abi.Self) messages.Branch {
	return messages.Branch{Project: f.Project, Branch: f.Branch}
}

func (p publisher) Publish(from *abi.Self, channel string, data []byte, text bool, depth int) error {
	return p.s.hub.Publish(branchOf(from), channel, data, messages.Source{Application: from.Application, Function: from.Function, Text: text, Depth: depth})
}

func (p publisher) Channel(from *abi.Self, channel string) bool {
	rules := p.s.hub.Rules(branchOf(from))
	return rules != nil && rules.Has(from.Application, channel)
}

func (p publisher) SocketPath(from *abi.Self, channel string) (string, bool) {
	rules := p.s.hub.Rules(branchOf(from))
	if rules == nil {
		return "", false
	}
	return rules.SocketPath(from.Application, channel)
}
