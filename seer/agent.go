package seer

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/crdt"
	"github.com/taubyte/taubyte/internal/rpc"
)

const (
	topicName = "/taubyte/seer/heartbeat/2"
	// maxHeartbeat bounds a heartbeat's bytes; the digest of warm modules is most
	// of it.
	maxHeartbeat = 16 << 10
	// maxInterval bounds the time that a node may ask to be believed alive for.
	maxInterval = time.Minute
	// maxPublic bounds the addresses that DNS answers with for one node.
	maxPublic = 16
	// agentProtocol is where a host keeps its one agent. Nothing is spoken under it.
	agentProtocol protocol.ID = "/taubyte/seer/agent/1"
)

// Missed heartbeats until a node is suspect, gone, and forgotten.
const (
	suspectAfter = 3
	goneAfter    = 6
	forgetAfter  = 120
)

// Option changes what Join and New make.
type Option func(*options)

type options struct {
	interval time.Duration
	place    string
	version  string
	public   []string
	dns      string
	zone     string
	hosts    func(string) Presence
	log      *slog.Logger
}

// WithInterval sets the time between two heartbeats. The default is 1 s: a node that
// is lost is suspect after three and gone after six.
func WithInterval(d time.Duration) Option { return func(o *options) { o.interval = d } }

// WithPlace says where the node is, as "region/zone": nodes in one place are near.
func WithPlace(place string) Option { return func(o *options) { o.place = place } }

// WithVersion sets the version of the program that the node runs.
func WithVersion(v string) Option { return func(o *options) { o.version = v } }

// WithPublic sets the IP addresses at which users reach the node: what DNS answers
// with. The default is those at which other nodes reach it: of its libp2p addresses the
// public ones, without any the private ones, without any the loopback ones.
func WithPublic(addrs ...string) Option { return func(o *options) { o.public = addrs } }

// WithDNS has New serve DNS for a zone at an address, over UDP and TCP. The default
// is no DNS server.
func WithDNS(addr, zone string) Option { return func(o *options) { o.dns, o.zone = addr, zone } }

// WithHosts has the DNS server ask f which hosts the gateways serve: those of projects,
// in lower case without the dot at the end. f is called for each query for a name of the
// zone that no service and no node has, and of another zone for each of
// _acme-challenge.<host>, by many goroutines. The default is that
// the gateways serve the zone's own name alone.
func WithHosts(f func(host string) Presence) Option { return func(o *options) { o.hosts = f } }

// Presence is what there is of a host.
type Presence int

// A host is Absent, Served by the gateways, or Above others that are and no host itself.
// It is Unknown to a node that has not heard of the hosts yet.
const (
	Absent Presence = iota
	Served
	Above
	Unknown
)

// WithLogger sets where the agent logs. The default is slog.Default().
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.log = l } }

// heartbeat is what goes over the wire, as JSON, after the sender's signed membership:
// its length as an unsigned varint, and so many bytes. The name of the node and what it
// may run stand there.
type heartbeat struct {
	ID        peer.ID       `json:"id"`
	Services  []protocol.ID `json:"services"`
	Addrs     []string      `json:"addrs"`
	Public    []string      `json:"public,omitempty"`
	Version   string        `json:"version,omitempty"`
	Place     string        `json:"place,omitempty"`
	Load      Load          `json:"load"`
	Draining  bool          `json:"draining,omitempty"`
	Leaving   bool          `json:"leaving,omitempty"`
	Sequence  uint64        `json:"sequence"` // grows with each of one start
	StartedAt time.Time     `json:"startedAt"`
	Interval  time.Duration `json:"interval"`
	Zone      *zoneState    `json:"zone,omitempty"` // of a node that serves DNS
}

// Agent is a hold on a host's part in the directory, which all that joined on the
// host share. It is safe for concurrent use.
type Agent struct {
	*agent
	once  sync.Once
	ended error
}

var _ rpc.Finder = (*agent)(nil)

// agent is a host's one part in the directory.
type agent struct {
	host  taubyte.Host
	opts  options
	topic *pubsub.Topic
	sub   *pubsub.Subscription

	started  time.Time
	sequence atomic.Uint64
	draining atomic.Bool
	zone     atomic.Pointer[zoneState] // nil without a DNS server
	now      chan struct{}             // asks for a heartbeat out of turn
	meter    meter

	stop context.CancelFunc
	wg   sync.WaitGroup

	nodes atomic.Pointer[[]Node] // the others and this one, by ID

	mu      sync.Mutex
	users   int // how often it was handed out
	known   map[peer.ID]*known
	reports map[int]func(*Load)
	next    int
	changed chan struct{} // closed at the next change

	withdraw []func()
}

type known struct {
	Node
	interval time.Duration
	zone     *zoneState
}

// Join makes the host part of the directory, or shares in the part that it has: the
// options of the first Join count. The host leaves the directory when all that joined
// are closed.
func Join(ctx context.Context, host taubyte.Host, opts ...Option) (*Agent, error) {
	for {
		if a, ok := host.Local(agentProtocol).(*agent); ok {
			if a.use() {
				return &Agent{agent: a}, nil
			}
			select { // it is just ending
			case <-time.After(time.Millisecond):
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		a, err := join(host, opts)
		if errors.Is(err, taubyte.ErrConflict) && ctx.Err() == nil {
			continue // somebody was faster
		}
		if err != nil {
			return nil, err
		}
		return &Agent{agent: a}, nil
	}
}

func (a *agent) use() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.users == 0 {
		return false
	}
	a.users++
	return true
}

func join(host taubyte.Host, opts []Option) (*agent, error) {
	o := options{interval: time.Second, log: slog.Default()}
	for _, opt := range opts {
		opt(&o)
	}
	if o.interval <= 0 || o.interval > maxInterval {
		return nil, fmt.Errorf("%w heartbeat interval %s", taubyte.ErrInvalid, o.interval)
	}
	a := &agent{
		host: host, opts: o, started: time.Now().UTC(), now: make(chan struct{}, 1), users: 1,
		known: map[peer.ID]*known{}, reports: map[int]func(*Load){}, changed: make(chan struct{}),
	}
	a.nodes.Store(&[]Node{})
	withdraw, err := host.Provide(agentProtocol, a) // first: of two only one goes on
	if err != nil {
		return nil, err
	}
	a.withdraw = append(a.withdraw, withdraw)
	life, stop := context.WithCancel(context.Background())
	a.stop = stop
	if err := a.start(life); err != nil {
		a.users = 0
		return nil, errors.Join(err, a.end())
	}
	return a, nil
}

func (a *agent) start(life context.Context) error {
	ps := a.host.PubSub()
	if err := ps.RegisterTopicValidator(topicName, validate, pubsub.WithValidatorInline(true)); err != nil {
		return fmt.Errorf("joining the directory: %w", err)
	}
	a.withdraw = append(a.withdraw, func() { _ = ps.UnregisterTopicValidator(topicName) })
	silence, err := a.host.Members().Introduce(topicName, func(msg []byte) []byte {
		signed, _ := splitHeartbeat(msg)
		return signed
	})
	if err != nil {
		return fmt.Errorf("joining the directory: %w", err)
	}
	a.withdraw = append(a.withdraw, silence)
	if a.topic, err = ps.Join(topicName); err != nil {
		return fmt.Errorf("joining the directory: %w", err)
	}
	if a.sub, err = a.topic.Subscribe(pubsub.WithBufferSize(1024)); err != nil {
		return fmt.Errorf("joining the directory: %w", err)
	}
	withdraw, err := a.host.Provide(rpc.FinderProtocol, a)
	if err != nil {
		return err
	}
	a.withdraw = append(a.withdraw, withdraw)
	peers, err := a.topic.EventHandler()
	if err != nil {
		return err
	}
	a.hear(a.heartbeat()) // this node knows itself at once
	a.wg.Go(func() { a.beat(life) })
	a.wg.Go(func() { a.listen(life) })
	a.wg.Go(func() { a.age(life) })
	a.wg.Go(func() {
		defer peers.Cancel()
		for { // whoever comes hears of this node at once
			e, err := peers.NextPeerEvent(life)
			if err != nil {
				return
			}
			if e.Type == pubsub.PeerJoin {
				a.Announce()
			}
		}
	})
	return nil
}

// splitHeartbeat returns the parts of a message, nil where it has none.
func splitHeartbeat(msg []byte) (membership, body []byte) {
	n, size := binary.Uvarint(msg)
	if size <= 0 || n > uint64(len(msg)-size) {
		return nil, nil
	}
	msg = msg[size:]
	return msg[:n:n], msg[n:]
}

// message is a heartbeat as it goes over the wire.
func (a *agent) message(h heartbeat) ([]byte, error) {
	body, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("heartbeat: %w", err)
	}
	signed := a.host.Members().Signed()
	msg := binary.AppendUvarint(make([]byte, 0, binary.MaxVarintLen32+len(signed)+len(body)), uint64(len(signed)))
	return append(append(msg, signed...), body...), nil
}

// validate lets a heartbeat pass that is about its signer, and says nothing that can't
// be so. It runs in every node that the message crosses, after the host has found that
// the signer is a member.
func validate(_ context.Context, _ peer.ID, msg *pubsub.Message) pubsub.ValidationResult {
	if len(msg.GetData()) > maxHeartbeat {
		return pubsub.ValidationReject
	}
	var h heartbeat
	_, body := splitHeartbeat(msg.GetData())
	if json.Unmarshal(body, &h) != nil || h.ID != msg.GetFrom() || h.check() != nil {
		return pubsub.ValidationReject
	}
	return pubsub.ValidationAccept
}

// check returns what is wrong with a heartbeat, whoever sent it.
func (h *heartbeat) check() error {
	switch {
	case h.Interval <= 0 || h.Interval > maxInterval:
		return fmt.Errorf("%w heartbeat: an interval of %s", taubyte.ErrInvalid, h.Interval)
	case len(h.Addrs) > 64 || len(h.Services) > 64 || len(h.Public) > maxPublic:
		return fmt.Errorf("%w heartbeat: more addresses or services than a node has", taubyte.ErrInvalid)
	}
	for _, s := range h.Public {
		if _, err := netip.ParseAddr(s); err != nil {
			return fmt.Errorf("%w heartbeat: %w", taubyte.ErrInvalid, err)
		}
	}
	return h.Load.check()
}

// Close gives the hold up; the last one of a host to do so takes the node out of the
// directory, which the others are told. It may be called twice.
func (a *Agent) Close() error {
	a.once.Do(func() { a.ended = a.release() })
	return a.ended
}

func (a *agent) release() error {
	a.mu.Lock()
	a.users--
	last := a.users == 0
	a.mu.Unlock()
	if !last {
		return nil
	}
	return a.end()
}

func (a *agent) end() error {
	a.stop()
	a.wg.Wait()
	var errs []error
	if a.topic != nil && a.sub != nil {
		h := a.heartbeat()
		h.Leaving = true
		if raw, err := a.message(h); err == nil {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			_ = a.topic.Publish(ctx, raw)
			cancel()
		}
		a.sub.Cancel()
	}
	for i := len(a.withdraw) - 1; i > 0; i-- {
		a.withdraw[i]()
	}
	if a.topic != nil {
		// Gossip that has ended before, with its host, has closed the topic.
		if err := a.topic.Close(); !errors.Is(err, context.Canceled) {
			errs = append(errs, err)
		}
	}
	a.withdraw[0]() // last: now another agent may be made
	return errors.Join(errs...)
}

func (a *agent) heartbeat() heartbeat {
	h := heartbeat{
		ID: a.host.ID(), Services: a.services(), Public: a.opts.public, Version: a.opts.version,
		Place: a.opts.place, Draining: a.draining.Load(), Sequence: a.sequence.Add(1), StartedAt: a.started, Interval: a.opts.interval,
		Zone: a.zone.Load(),
	}
	addrs := a.host.Addrs()
	for _, addr := range addrs {
		h.Addrs = append(h.Addrs, addr.String())
	}
	if len(h.Public) == 0 {
		h.Public = reachedAt(addrs)
	}
	a.meter.read(&h.Load)
	a.mu.Lock()
	reports := make([]func(*Load), 0, len(a.reports))
	for _, f := range a.reports {
		reports = append(reports, f)
	}
	a.mu.Unlock()
	for _, f := range reports {
		f(&h.Load)
	}
	h.Load.bound()
	return h
}

// reachedAt are the IP addresses among those of a host by which others reach it: of the
// widest scope that there is.
func reachedAt(addrs []ma.Multiaddr) []string {
	var scopes [3][]string // public, private, loopback
	for _, a := range addrs {
		ip, err := manet.ToIP(a)
		if err != nil {
			continue
		}
		addr, ok := netip.AddrFromSlice(ip)
		if addr = addr.Unmap(); !ok || addr.IsUnspecified() || addr.IsMulticast() || addr.IsLinkLocalUnicast() {
			continue
		}
		scope := 0
		switch {
		case addr.IsLoopback():
			scope = 2
		case addr.IsPrivate() || shared.Contains(addr):
			scope = 1
		}
		if s := addr.String(); !slices.Contains(scopes[scope], s) {
			scopes[scope] = append(scopes[scope], s)
		}
	}
	for _, found := range scopes {
		if len(found) > 0 {
			slices.Sort(found)
			return found[:min(len(found), maxPublic)]
		}
	}
	return nil
}

// shared is the address space of carriers' own networks (RFC 6598).
var shared = netip.MustParsePrefix("100.64.0.0/10")

// services are what the host provides to others, without what every node has.
func (a *agent) services() []protocol.ID {
	return slices.DeleteFunc(a.host.Provided(), func(id protocol.ID) bool {
		return id == agentProtocol || id == rpc.FinderProtocol || id == rpc.PulseProtocol || id == crdt.Protocol
	})
}

// beat sends heartbeats: on time, and out of turn when there is news.
func (a *agent) beat(ctx context.Context) {
	for {
		h := a.heartbeat()
		a.hear(h)
		raw, err := a.message(h)
		if err == nil {
			err = a.topic.Publish(ctx, raw)
		}
		if err != nil && ctx.Err() == nil {
			a.opts.log.Debug("heartbeat not sent", "err", err)
		}
		// Nodes that started together should not go on in step.
		jitter := time.Duration(rand.Int64N(int64(a.opts.interval)/5 + 1))
		select {
		case <-time.After(a.opts.interval - jitter/2):
		case <-a.now:
		case <-ctx.Done():
			return
		}
	}
}

// Announce has a heartbeat sent now instead of at the next turn: something changed.
func (a *agent) Announce() {
	select {
	case a.now <- struct{}{}:
	default:
	}
}

func (a *agent) listen(ctx context.Context) {
	for {
		msg, err := a.sub.Next(ctx)
		if err != nil {
			return
		}
		var h heartbeat
		_, body := splitHeartbeat(msg.GetData())
		if msg.GetFrom() == a.host.ID() || json.Unmarshal(body, &h) != nil {
			continue
		}
		a.hear(h)
	}
}

// hear takes a heartbeat in as far as its node's membership goes: the name is what the
// network's root gave it, and a service counts only where it has the role. Nobody is
// asked: the host learned the membership with the message.
func (a *agent) hear(h heartbeat) {
	m, ok := a.host.Members().Known(h.ID)
	if !ok {
		return // ended since, or revoked
	}
	h.Services = allowed(h.Services, m)
	if !m.Has(taubyte.RoleSeer) {
		h.Zone = nil
	}
	a.take(h.ID, m.Name, h)
}

// allowed leaves the services out whose role a member does not hold. Protocols are
// named "/taubyte/<role>/…".
func allowed(services []protocol.ID, m taubyte.Membership) []protocol.ID {
	return slices.DeleteFunc(services, func(id protocol.ID) bool {
		rest, ours := strings.CutPrefix(string(id), "/taubyte/")
		name, _, _ := strings.Cut(rest, "/")
		return ours && !m.Has(taubyte.Role(name))
	})
}

// take brings a heartbeat into the directory.
func (a *agent) take(from peer.ID, name string, h heartbeat) {
	a.mu.Lock()
	defer a.mu.Unlock()
	k, ok := a.known[from]
	// What is older than what is known does not count. Of a node that is gone an earlier
	// start does: its clock was set right in between.
	again := ok && h.StartedAt.Before(k.StartedAt)
	if again && k.Health != Gone || ok && h.StartedAt.Equal(k.StartedAt) && h.Sequence <= k.Sequence {
		return
	}
	health := Alive
	switch {
	case h.Leaving:
		health = Gone
	case h.Draining:
		health = Draining
	}
	before := Node{}
	if ok {
		before = k.Node
	}
	slices.Sort(h.Services)
	a.known[from] = &known{interval: h.Interval, zone: h.Zone, Node: Node{
		ID: from, Name: name, Services: h.Services, Addrs: h.Addrs, Public: h.Public, Version: h.Version, Place: h.Place,
		Load: h.Load, Health: health, Sequence: h.Sequence, StartedAt: h.StartedAt, SeenAt: time.Now(),
	}}
	if from != a.host.ID() && !slices.Equal(before.Addrs, h.Addrs) {
		a.remember(from, h.Addrs)
	}
	a.publish()
}

// remember lets the host dial a member that it is not connected to.
func (a *agent) remember(p peer.ID, addrs []string) {
	var parsed []ma.Multiaddr
	for _, s := range addrs {
		if m, err := ma.NewMultiaddr(s); err == nil {
			parsed = append(parsed, m)
		}
	}
	a.host.Peerstore().AddAddrs(p, parsed, time.Hour)
}

// age notices who is not heard of any more.
func (a *agent) age(ctx context.Context) {
	tick := time.NewTicker(a.opts.interval / 2)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		a.mu.Lock()
		moved := false
		for id, k := range a.known {
			if id == a.host.ID() {
				continue
			}
			silent := time.Since(k.SeenAt)
			was := k.Health
			switch {
			case !a.member(id), silent > forgetAfter*k.interval:
				delete(a.known, id)
				moved = true
				continue
			case silent > goneAfter*k.interval:
				k.Health = Gone
			case silent > suspectAfter*k.interval && k.Health == Alive:
				k.Health = Suspect
			}
			moved = moved || was != k.Health
		}
		if moved {
			a.publish()
		}
		a.mu.Unlock()
	}
}

// member reports whether a node's membership is known and holds.
func (a *agent) member(id peer.ID) bool {
	_, ok := a.host.Members().Known(id)
	return ok
}

// publish swaps in what is known. mu is held.
func (a *agent) publish() {
	all := make([]Node, 0, len(a.known))
	for _, k := range a.known {
		all = append(all, k.Node)
	}
	slices.SortFunc(all, func(x, y Node) int { return cmp.Compare(x.ID, y.ID) })
	a.nodes.Store(&all)
	close(a.changed)
	a.changed = make(chan struct{})
}

// Nodes returns the nodes of the directory, this one included, by ID. The slice is
// shared: do not change it. It takes no lock.
func (a *agent) Nodes() []Node { return *a.nodes.Load() }

// Node returns one node.
func (a *agent) Node(id peer.ID) (Node, bool) {
	all := a.Nodes()
	i, ok := slices.BinarySearchFunc(all, id, func(n Node, id peer.ID) int { return cmp.Compare(n.ID, id) })
	if !ok {
		return Node{}, false
	}
	return all[i], true
}

// Changed returns a channel that closes at the next heartbeat or change of health.
func (a *agent) Changed() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}

// Find implements rpc.Finder: the healthy nodes that run a service, the least
// loaded first.
func (a *agent) Find(id protocol.ID) []peer.ID {
	var found []Node
	for _, n := range a.Nodes() {
		if (n.Health == Alive || n.Health == Suspect) && slices.Contains(n.Services, id) {
			found = append(found, n)
		}
	}
	slices.SortStableFunc(found, func(x, y Node) int {
		return cmp.Or(
			cmp.Compare(rank(x), rank(y)),
			cmp.Compare(x.Load.InFlight+x.Load.Queued, y.Load.InFlight+y.Load.Queued),
			cmp.Compare(x.Load.CPU, y.Load.CPU),
		)
	})
	ids := make([]peer.ID, len(found))
	for i, n := range found {
		ids[i] = n.ID
	}
	return ids
}

func rank(n Node) int {
	if n.Health == Alive {
		return 0
	}
	return 1
}

// Report has f fill in a part of the node's load before each heartbeat. f is quick.
// remove takes it back.
func (a *agent) Report(f func(*Load)) (remove func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	id := a.next
	a.next++
	a.reports[id] = f
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.reports, id)
	}
}

// Drain tells the others that this node takes no new work.
func (a *agent) Drain() {
	a.draining.Store(true)
	a.Announce()
}
