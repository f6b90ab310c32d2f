package messages

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"slices"

	"github.com/mr-tron/base58"
	"github.com/multiformats/go-multihash"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/tns/config"
)

// A Branch is what channels belong to, apart from their scope.
type Branch struct {
	Project taubyte.ProjectID
	Branch  taubyte.Branch
}

// A Function names one of a branch. The zero value is none.
type Function struct {
	Application taubyte.ApplicationID
	ID          taubyte.ResourceID
}

// A Message is one that a function gets.
type Message struct {
	Branch
	Scope   taubyte.ApplicationID // of the channel
	Channel string
	Data    string
	// Depth is how many functions have published because of a message before it.
	Depth int
}

// A Runner gives a message to a function. Its error is taubyte.ErrClosed where the
// function is of a deployment that was replaced, and taubyte.ErrUnavailable where
// it can take no more at the moment; every other one is the end of the message.
type Runner func(ctx context.Context, m *Message) error

// Rules are what a deployment says of channels. They are immutable.
type Rules struct {
	project taubyte.ProjectID
	scopes  map[taubyte.ApplicationID][]*pattern // a scope's own
	hashes  map[string]taubyte.ApplicationID
	runners map[Function]Runner
}

// A pattern is a messaging resource, and who listens on what it stands for.
type pattern struct {
	id        taubyte.ResourceID
	match     string
	regex     *regexp.Regexp // nil: match is the channel's name
	local     bool
	socket    bool
	listeners []Function
}

func (p *pattern) fits(channel string) bool {
	return p.match == channel || p.regex != nil && p.regex.MatchString(channel)
}

// NewRules compiles what a configuration says. runner finds what runs a function,
// and is nil for one that was never built.
func NewRules(c *config.Project, runner func(Function) Runner) (*Rules, error) {
	r := &Rules{
		project: c.ID, scopes: map[taubyte.ApplicationID][]*pattern{},
		hashes: map[string]taubyte.ApplicationID{}, runners: map[Function]Runner{},
	}
	var functions []config.Function // all that listen, with their application at the same index
	var of []taubyte.ApplicationID
	add := func(app taubyte.ApplicationID, res *config.Resources) error {
		r.hashes[hash(c.ID, app)] = app
		for i := range res.Messaging {
			m := &res.Messaging[i]
			p := &pattern{id: m.ID, match: m.Match, local: m.Local, socket: m.WebSocket}
			if m.Regex {
				var err error
				if p.regex, err = regexp.Compile(m.Match); err != nil {
					return fmt.Errorf("%w: messaging %s: %w", taubyte.ErrInvalid, m.Name, err)
				}
			}
			r.scopes[app] = append(r.scopes[app], p)
		}
		for i := range res.Functions {
			f := &res.Functions[i]
			if f.Type != config.TriggerPubSub {
				continue
			}
			id := Function{app, f.ID}
			if run := runner(id); run != nil {
				r.runners[id] = run
				functions, of = append(functions, *f), append(of, app)
			}
		}
		return nil
	}
	if err := add("", &c.Resources); err != nil {
		return nil, err
	}
	for i := range c.Applications {
		if err := add(c.Applications[i].ID, &c.Applications[i].Resources); err != nil {
			return nil, err
		}
	}
	for scope, patterns := range r.scopes {
		for _, p := range patterns {
			for i := range functions {
				// An application sees the project's channels, and no other's.
				if (scope == "" || scope == of[i]) && p.fits(functions[i].Channel) {
					p.listeners = append(p.listeners, Function{of[i], functions[i].ID})
				}
			}
		}
	}
	return r, nil
}

// A route is what a channel is for one who asks from an application.
type route struct {
	scope     taubyte.ApplicationID
	local     bool // it stays on the node
	socket    bool // WebSockets may listen
	listeners []Function
}

// route finds a channel. The first scope that has it has all of it.
func (r *Rules) route(app taubyte.ApplicationID, channel string) (route, bool) {
	if len(channel) > maxName {
		return route{}, false
	}
	for _, scope := range []taubyte.ApplicationID{"", app} {
		found := route{scope: scope, local: true}
		n := 0
		for _, p := range r.scopes[scope] {
			if !p.fits(channel) {
				continue
			}
			found.local = found.local && p.local
			found.socket = found.socket || p.socket
			if n++; n == 1 {
				found.listeners = p.listeners
				continue
			}
			found.listeners = slices.Clip(found.listeners)
			for _, f := range p.listeners {
				if !slices.Contains(found.listeners, f) {
					found.listeners = append(found.listeners, f)
				}
			}
		}
		if n > 0 {
			return found, true
		}
		if app == "" {
			break
		}
	}
	return route{}, false
}

// Has reports whether there is such a channel for an application.
func (r *Rules) Has(app taubyte.ApplicationID, channel string) bool {
	_, ok := r.route(app, channel)
	return ok
}

// SocketPath is where WebSockets to a channel are opened, without a slash at the
// start; ok is false where they are not.
func (r *Rules) SocketPath(app taubyte.ApplicationID, channel string) (path string, ok bool) {
	c, ok := r.route(app, channel)
	if !ok || !c.socket {
		return "", false
	}
	return "ws-" + hash(r.project, app) + "/" + (&url.URL{Path: channel}).EscapedPath(), true
}

// Resources are the messaging resources that a WebSocket's channel is of: their
// application, and their ids. hash stands for the application that is asked.
func (r *Rules) Resources(hash, channel string) (app taubyte.ApplicationID, ids []taubyte.ResourceID) {
	asked, ok := r.hashes[hash]
	if !ok {
		return "", nil
	}
	found, _ := r.route(asked, channel)
	for _, p := range r.scopes[found.scope] {
		if p.fits(channel) {
			ids = append(ids, p.id)
		}
	}
	return found.scope, ids
}

// hash is what stands for an application of a project in the path of a WebSocket.
func hash(project taubyte.ProjectID, app taubyte.ApplicationID) string {
	h, err := multihash.Sum([]byte(string(project)+string(app)), multihash.SHA2_256, -1)
	if err != nil {
		panic(err) // sha2-256 is always there
	}
	return base58.Encode(h)
}
