package seer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/api"
	"github.com/taubyte/taubyte/internal/rpc"
)

// Protocol is seer's protocol between nodes, and the name under which its host
// provides it.
const Protocol protocol.ID = "/taubyte/seer/1"

// Service is the directory as a service. It is safe for concurrent use.
type Service struct {
	*Agent
	history *history
	dns     *dnsServer // nil without WithDNS

	server   *rpc.Server
	withdraw func()
	stop     context.CancelFunc
	wg       sync.WaitGroup
	once     sync.Once
	ended    error
}

// New starts seer on a node, and has the node join the directory. ctx bounds the
// start only. The store is not used so far: the directory is what the nodes say now.
func New(ctx context.Context, host taubyte.Host, _ taubyte.Datastore, opts ...Option) (*Service, error) {
	agent, err := Join(ctx, host, opts...)
	if err != nil {
		return nil, err
	}
	life, stop := context.WithCancel(context.Background())
	s := &Service{Agent: agent, history: newHistory(), stop: stop}
	if err := s.start(ctx, life, opts); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Service) start(ctx, life context.Context, opts []Option) (err error) {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	if o.dns != "" {
		if s.dns, err = startDNS(ctx, o.dns, o.zone, o.hosts, s.Agent); err != nil {
			return err
		}
	}
	s.wg.Go(func() { s.history.record(life, s.Agent) })
	if s.server, err = rpc.Serve(s.host, Protocol, s.Handler()); err != nil {
		return err
	}
	s.withdraw, err = s.host.Provide(Protocol, s)
	s.Announce()
	return err
}

// Close ends the service, and the node's part in the directory unless others on the
// host still hold it. It may be called twice.
func (s *Service) Close() error {
	s.once.Do(func() {
		if s.withdraw != nil {
			s.withdraw()
		}
		s.stop()
		var errs []error
		if s.server != nil {
			errs = append(errs, s.server.Close())
		}
		if s.dns != nil {
			errs = append(errs, s.dns.Close())
		}
		s.wg.Wait()
		s.ended = errors.Join(append(errs, s.Agent.Close())...)
	})
	return s.ended
}

// DNSAddr is where the DNS server listens, "" without one.
func (s *Service) DNSAddr() string {
	if s.dns == nil {
		return ""
	}
	return s.dns.addr
}

// A Sample is a node's load at a moment.
type Sample struct {
	Time   time.Time `json:"time"`
	Health Health    `json:"health"`
	Load   Load      `json:"load"`
}

// history is the load of nodes over the last hour, in memory.
type history struct {
	mu    sync.Mutex
	nodes map[peer.ID][]Sample
}

const (
	sampleEvery = 10 * time.Second
	sampleCount = 360
)

func newHistory() *history { return &history{nodes: map[peer.ID][]Sample{}} }

func (h *history) record(ctx context.Context, a *Agent) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		h.mu.Lock()
		now, known := time.Now().UTC(), map[peer.ID]bool{}
		for _, n := range a.Nodes() {
			known[n.ID] = true
			n.Load.Warm = nil
			samples := append(h.nodes[n.ID], Sample{now, n.Health, n.Load})
			if len(samples) > sampleCount {
				samples = slices.Clone(samples[len(samples)-sampleCount:])
			}
			h.nodes[n.ID] = samples
		}
		for id := range h.nodes {
			if !known[id] {
				delete(h.nodes, id)
			}
		}
		h.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// readable checks the principal of what is asked of the directory as a service. What a
// node reads of its own Agent, as for each request, is no such call.
func readable(ctx context.Context) error {
	return taubyte.Allow(ctx, taubyte.VerbRead, "", taubyte.Roles()...)
}

// Usage returns the load of a node over the last hour, the oldest sample first. Like
// Directory and Named it takes the verb read on everything, or a node.
func (s *Service) Usage(ctx context.Context, id peer.ID) ([]Sample, error) {
	if err := readable(ctx); err != nil {
		return nil, err
	}
	s.history.mu.Lock()
	defer s.history.mu.Unlock()
	return slices.Clone(s.history.nodes[id]), nil
}

// Directory returns the nodes, or those that offer a service. It takes the verb read on
// everything, or a node.
func (s *Service) Directory(ctx context.Context, service protocol.ID) ([]Node, error) {
	if err := readable(ctx); err != nil {
		return nil, err
	}
	nodes := s.Nodes()
	if service != "" {
		nodes = slices.DeleteFunc(slices.Clone(nodes), func(n Node) bool { return !slices.Contains(n.Services, service) })
	}
	return nodes, nil
}

// Named returns the node of that id or name, or ErrNotFound. Directory says who may.
func (s *Service) Named(ctx context.Context, who string) (Node, error) {
	if err := readable(ctx); err != nil {
		return Node{}, err
	}
	for _, n := range s.Nodes() {
		if n.ID.String() == who || n.Name != "" && n.Name == who {
			return n, nil
		}
	}
	return Node{}, fmt.Errorf("%w: node %s", taubyte.ErrNotFound, strconv.Quote(who))
}

// Handler is seer's API, of which the methods say who may.
func (s *Service) Handler() http.Handler {
	mux := api.New(nil)
	node := api.Texts{"id": "The node's peer ID, or its name."}
	name := api.Texts{"name": "The name of the record."}
	readers := api.Everything(taubyte.VerbRead, taubyte.Roles()...)
	mux.Handle("GET /nodes", api.Operation{
		Summary: "Lists the nodes.",
		Query:   []api.Parameter{{Name: "service", Text: "A libp2p protocol: only nodes that serve it."}},
		Rights:  readers,
	}, api.Answer(func(r *http.Request) ([]Node, error) {
		return s.Directory(r.Context(), protocol.ID(r.URL.Query().Get("service")))
	}))
	mux.Handle("GET /nodes/{id}", api.Operation{
		Summary: "Returns a node.", Path: node, Rights: readers,
	}, api.Answer(func(r *http.Request) (Node, error) {
		return s.Named(r.Context(), r.PathValue("id"))
	}))
	mux.Handle("GET /nodes/{id}/usage", api.Operation{
		Summary: "Lists the load of a node over the last hour, the oldest sample first.", Path: node, Rights: readers,
	}, api.Answer(func(r *http.Request) ([]Sample, error) {
		n, err := s.Named(r.Context(), r.PathValue("id"))
		if err != nil {
			return nil, err
		}
		return s.Usage(r.Context(), n.ID)
	}))
	mux.Handle("PUT /texts/{name}", api.Operation{
		Summary: "Adds a TXT record to DNS.", Path: name, Rights: api.Nodes(taubyte.RoleAuth),
	}, api.Take(1<<12, func(r *http.Request, t Text) error {
		return s.AddText(r.Context(), r.PathValue("name"), t.Value, t.Time)
	}))
	mux.Handle("DELETE /texts/{name}", api.Operation{
		Summary: "Removes a TXT record.", Path: name, Rights: api.Nodes(taubyte.RoleAuth),
	}, api.Take(1<<12, func(r *http.Request, t Text) error {
		return s.RemoveText(r.Context(), r.PathValue("name"), t.Value)
	}))
	mux.Handle("GET /watch", api.Operation{
		Summary: "Follows the nodes: all of them, again at each change.", Rights: readers,
	}, api.Serve(s.serveWatch).Lines([]Node{}))
	return mux
}

func (s *Service) serveWatch(w http.ResponseWriter, r *http.Request, codes rpc.Codes) {
	changed := s.Changed()
	nodes, err := s.Directory(r.Context(), "")
	if err != nil {
		rpc.WriteError(w, err, codes)
		return
	}
	stream, err := rpc.NewStream(w)
	for ; err == nil; changed, nodes = s.Changed(), s.Nodes() {
		if err = stream.Send(nodes); err != nil {
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

// Text is the body of PUT and DELETE /texts/{name}.
type Text struct {
	Value string        `json:"value"`
	Time  time.Duration `json:"time,omitempty"` // how long it is there, in nanoseconds
}
