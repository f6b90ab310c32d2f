// Package commands sends commands from function to function: to one that a node of
// the network runs, for a protocol that is a service of the project's configuration.
//
// A command reaches a function of the same branch of the same project, and no
// other: what the caller may name is what its configuration has. It asks this node
// first, and another where this one has no time for it or not the function. It runs at
// most once, unless the stream to a node breaks that had already begun.
package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/mr-tron/base58"
	"github.com/multiformats/go-multihash"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/substrate/internal/abi"
	"github.com/taubyte/taubyte/tns/config"
)

// MaxDepth is how many functions may have sent because of each other: circles end
// there.
const MaxDepth = 8

// tries is how many nodes are asked for one command.
const tries = 3

var (
	// ErrNoFunction is a command that no function of the branch is for.
	ErrNoFunction = fmt.Errorf("command %w", taubyte.ErrNotFound)
	// ErrCircle is a command that functions have passed on too often.
	ErrCircle = fmt.Errorf("%w command: functions call each other in a circle", taubyte.ErrInvalid)
)

var codes = rpc.Codes{{Name: "no-function", Err: ErrNoFunction}, {Name: "circle", Err: ErrCircle}}

// A Branch is where callers and functions are.
type Branch struct {
	Project taubyte.ProjectID
	Branch  taubyte.Branch
}

// A Resource names a function or a service of a branch.
type Resource struct {
	Application taubyte.ApplicationID
	ID          taubyte.ResourceID
}

// A Call is a command on its way.
type Call struct {
	Branch
	Application taubyte.ApplicationID // of the caller
	abi.Command
	From, To peer.ID
	Depth    int // how many functions have sent because of each other, the caller included
}

// A Runner gives a command of a service to a function. Its error is taubyte.ErrClosed where the
// function is of a deployment that was replaced, and taubyte.ErrUnavailable where
// it can take no more at the moment: then it has not run.
type Runner func(ctx context.Context, service Resource, c *Call) (abi.Reply, error)

// Rules are what a deployment says of services. They are immutable.
type Rules struct {
	project   taubyte.ProjectID
	services  map[service]taubyte.ResourceID
	functions map[order]Runner
}

type service struct {
	scope    taubyte.ApplicationID
	protocol string
}

type order struct {
	service
	command string
}

// NewRules compiles what a configuration says. runner finds what runs a function,
// and is nil for one that was never built.
func NewRules(c *config.Project, runner func(Resource) Runner) *Rules {
	r := &Rules{project: c.ID, services: map[service]taubyte.ResourceID{}, functions: map[order]Runner{}}
	add := func(app taubyte.ApplicationID, res *config.Resources) {
		for i := range res.Services {
			s := &res.Services[i]
			r.services[service{app, s.Protocol}] = s.ID
		}
		for i := range res.Functions {
			f := &res.Functions[i]
			if f.Type != config.TriggerP2P {
				continue
			}
			if run := runner(Resource{app, f.ID}); run != nil {
				r.functions[order{service{app, f.Service}, f.Command}] = run
			}
		}
	}
	add("", &c.Resources)
	for i := range c.Applications {
		add(c.Applications[i].ID, &c.Applications[i].Resources)
	}
	return r
}

// Protocol gives the name that a protocol has on the network; ok is false where an
// application has no such service, nor the project.
func (r *Rules) Protocol(app taubyte.ApplicationID, protocol string) (name string, ok bool) {
	s, ok := r.service(app, protocol)
	if !ok {
		return "", false
	}
	h, err := multihash.Sum([]byte(string(r.project)+string(s.ID)), multihash.SHA2_256, -1)
	if err != nil {
		panic(err) // sha2-256 is always there
	}
	return base58.Encode(h) + protocol, true
}

// service finds what a protocol names in an application: of the project, or else of the
// application.
func (r *Rules) service(app taubyte.ApplicationID, protocol string) (Resource, bool) {
	for _, scope := range []taubyte.ApplicationID{"", app} {
		if id, ok := r.services[service{scope, protocol}]; ok {
			return Resource{scope, id}, true
		}
	}
	return Resource{}, false
}

// function finds the one that a command of an application is for: of the project,
// or else of the application.
func (r *Rules) function(app taubyte.ApplicationID, c *abi.Command) (run Runner, of Resource, ok bool) {
	if of, ok = r.service(app, c.Protocol); !ok {
		return nil, of, false
	}
	for _, scope := range []taubyte.ApplicationID{"", app} {
		if run, ok := r.functions[order{service{scope, c.Protocol}, c.Name}]; ok {
			return run, of, true
		}
	}
	return nil, of, false
}

// Config is what an Exchange is made of. All of it is needed.
type Config struct {
	Host taubyte.Host
	// Protocol is what Handler is mounted under on each node. Nodes are those that
	// have it and are alive, this one among them, and Changed is closed when there
	// may be others.
	Protocol protocol.ID
	Nodes    func() []peer.ID
	Changed  func() <-chan struct{}
}

// An Exchange is a node's part in sending commands. It is safe for concurrent use.
type Exchange struct {
	Config
	rpc *rpc.Client

	mu       sync.RWMutex
	branches map[Branch]*Rules
}

// New makes an exchange. Close it when done.
func New(c Config) *Exchange {
	return &Exchange{Config: c, rpc: rpc.NewClient(c.Host, c.Protocol, codes), branches: map[Branch]*Rules{}}
}

// Close drops the streams to other nodes.
func (e *Exchange) Close() { e.rpc.Close() }

// Deploy makes rules those of a branch; nil ones take it away.
func (e *Exchange) Deploy(id Branch, r *Rules) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if r == nil {
		delete(e.branches, id)
	} else {
		e.branches[id] = r
	}
}

// Rules returns those of a branch, or nil where the node does not serve it.
func (e *Exchange) Rules(id Branch) *Rules {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.branches[id]
}

// Send has a function run for a command, on the node To or, where that is empty, on
// any, and returns its reply.
func (e *Exchange) Send(ctx context.Context, c Call) (reply abi.Reply, err error) {
	if c.Depth > MaxDepth {
		return reply, ErrCircle
	}
	self := e.Host.ID()
	c.From = self
	nodes := e.Nodes()
	if c.To != "" {
		if !slices.Contains(nodes, c.To) {
			return reply, fmt.Errorf("node %s: %w", c.To, taubyte.ErrUnavailable)
		}
		nodes = []peer.ID{c.To}
	} else {
		nodes = slices.DeleteFunc(slices.Clone(nodes), func(p peer.ID) bool { return p == self })
		rand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
		nodes = append([]peer.ID{self}, nodes...)
	}
	for _, n := range nodes[:min(len(nodes), tries)] {
		c.To = n
		if n == self {
			reply, err = e.run(ctx, &c)
		} else {
			reply, err = e.ask(ctx, &c)
		}
		if err == nil || ctx.Err() != nil || !errors.Is(err, taubyte.ErrUnavailable) && !errors.Is(err, ErrNoFunction) {
			return reply, err
		}
	}
	return reply, err
}

// run has a function of this node run. It takes a function of the same branch and
// application, or a node of role substrate.
func (e *Exchange) run(ctx context.Context, c *Call) (abi.Reply, error) {
	if err := taubyte.AllowFunction(ctx, c.Project, c.Branch.Branch, taubyte.RoleSubstrate); err != nil {
		return abi.Reply{}, err
	}
	if p := taubyte.PrincipalOf(ctx); p.Kind == taubyte.KindFunction && p.Application != c.Application {
		return abi.Reply{}, fmt.Errorf("%w: %s is not of the application %.100q", taubyte.ErrForbidden, p, c.Application)
	}
	for {
		rules := e.Rules(c.Branch)
		if rules == nil {
			return abi.Reply{}, fmt.Errorf("branch %s of %s: %w", c.Branch.Branch, c.Project, taubyte.ErrUnavailable)
		}
		f, of, ok := rules.function(c.Application, &c.Command)
		if !ok {
			return abi.Reply{}, fmt.Errorf("%w: %s of %s", ErrNoFunction, c.Name, c.Protocol)
		}
		reply, err := f(ctx, of, c)
		if errors.Is(err, taubyte.ErrClosed) && e.Rules(c.Branch) != rules {
			continue // another deployment has taken over
		}
		return reply, err
	}
}

// ask has a function of another node run.
func (e *Exchange) ask(ctx context.Context, c *Call) (reply abi.Reply, err error) {
	q := url.Values{
		"project": {string(c.Project)}, "branch": {string(c.Branch.Branch)}, "application": {string(c.Application)},
		"protocol": {c.Protocol}, "command": {c.Name}, "depth": {strconv.Itoa(c.Depth)},
	}
	resp, err := e.rpc.Open(ctx, c.To, http.MethodPost, "/commands/run?"+q.Encode(), strings.NewReader(c.Data))
	if err != nil {
		return reply, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		return reply, nil
	}
	reply.Data, err = io.ReadAll(io.LimitReader(resp.Body, abi.MaxCommand+1))
	if err == nil && len(reply.Data) > abi.MaxCommand {
		err = fmt.Errorf("reply of %s: %w", c.To, taubyte.ErrTooLarge)
	}
	reply.Set = true
	return reply, err
}

// Peers lists other nodes, at most so many, and waits for one where there is none.
func (e *Exchange) Peers(ctx context.Context, most int) []peer.ID {
	for {
		changed := e.Changed()
		peers := slices.DeleteFunc(slices.Clone(e.Nodes()), func(p peer.ID) bool { return p == e.Host.ID() })
		if len(peers) > 0 || most <= 0 {
			return peers[:min(len(peers), max(most, 0))]
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// Handler is what other substrate nodes ask:
//
//	POST /commands/run?project=&branch=&application=&protocol=&command=&depth=
//
// runs a function for the command whose data is the body, and answers with its
// reply; 204 where it has set none.
func (e *Exchange) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /commands/run", func(w http.ResponseWriter, r *http.Request) {
		reply, err := e.take(w, r)
		switch {
		case err != nil:
			rpc.WriteError(w, err, codes)
		case !reply.Set:
			w.WriteHeader(http.StatusNoContent)
		default:
			w.Header().Set("Content-Type", "application/octet-stream")
			_, _ = w.Write(reply.Data)
		}
	})
	return mux
}

func (e *Exchange) take(w http.ResponseWriter, r *http.Request) (abi.Reply, error) {
	caller, ok := rpc.Caller(r.Context())
	if !ok {
		return abi.Reply{}, fmt.Errorf("%w: no caller", taubyte.ErrForbidden)
	}
	q := r.URL.Query()
	depth, err := strconv.Atoi(q.Get("depth"))
	if err != nil || depth < 0 {
		return abi.Reply{}, fmt.Errorf("%w depth %q", taubyte.ErrInvalid, q.Get("depth"))
	}
	if depth > MaxDepth {
		return abi.Reply{}, ErrCircle
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, abi.MaxCommand))
	if err != nil {
		return abi.Reply{}, fmt.Errorf("reading the command: %w", err)
	}
	return e.run(r.Context(), &Call{
		Branch:      Branch{taubyte.ProjectID(q.Get("project")), taubyte.Branch(q.Get("branch"))},
		Application: taubyte.ApplicationID(q.Get("application")),
		Command:     abi.Command{Protocol: q.Get("protocol"), Name: q.Get("command"), Data: string(data)},
		From:        caller.Peer, To: e.Host.ID(), Depth: depth,
	})
}
