package api

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
)

// A Mux serves paths, and knows what each is for. Paths are registered before it serves.
type Mux struct {
	routes http.ServeMux
	codes  rpc.Codes
	paths  []described
	as     shapes
}

var _ http.Handler = (*Mux)(nil)

// New returns a Mux without paths. codes are the errors of the service that have a code
// of their own.
func New(codes rpc.Codes) *Mux { return &Mux{codes: codes, as: shapes{}} }

// An Operation is a path with a method, in words.
type Operation struct {
	Summary string // one sentence
	Text    string // what else is to be known
	Rights  Rights
	Path    Texts // what the wildcards of the pattern are
	Query   []Parameter
	Header  []Parameter
	// Statuses are those of errors that the operation gives, beyond those that follow
	// from what it reads.
	Statuses []int
}

// Texts say of names what they are.
type Texts map[string]string

// A Parameter is a value in a request's query or header.
type Parameter struct {
	Name string
	Text string
	// Type is a value of the Go type that it is read as; nil is a string.
	Type     any
	Required bool
}

type described struct {
	method, path string
	op           Operation
	end          Endpoint
}

// wildcards are the names in a pattern.
var wildcards = regexp.MustCompile(`\{([^}]*)\}`)

// Handle registers what serves "METHOD /path". A path that is not described whole, or is
// there already, is a bug, and panics.
func (m *Mux) Handle(pattern string, op Operation, e Endpoint) {
	m.Describe(pattern, op, e)
	m.routes.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if err := op.Rights.check(r); err != nil {
			rpc.WriteError(w, err, m.codes)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		e.serve(w, r, m.codes)
	})
}

// Describe is Handle for a path that another handler of the program serves.
func (m *Mux) Describe(pattern string, op Operation, e Endpoint) {
	method, path, ok := strings.Cut(pattern, " ")
	switch {
	case !ok || !strings.HasPrefix(path, "/"):
		panic(fmt.Sprintf("pattern %q is no method and path", pattern))
	case op.Summary == "" || op.Rights.kind == "":
		panic(fmt.Sprintf("%s is not described: it needs a summary, and says who may", pattern))
	}
	names := wildcards.FindAllStringSubmatch(path, -1)
	for _, name := range names {
		if op.Path[name[1]] == "" {
			panic(fmt.Sprintf("%s does not say what %s is", pattern, name[0]))
		}
	}
	if len(op.Path) != len(names) {
		panic(fmt.Sprintf("%s describes other wildcards than it has", pattern))
	}
	m.paths = append(m.paths, described{method, path, op, e})
}

// EncodedAs says for the document that values of v's type, which encodes itself, are
// encoded like shape.
func (m *Mux) EncodedAs(v, shape any) { m.as.set(v, shape) }

// ServeHTTP implements http.Handler.
func (m *Mux) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h, pattern := m.routes.Handler(r)
	if pattern == "" {
		h.ServeHTTP(&unrouted{ResponseWriter: w, r: r}, r)
		return
	}
	m.routes.ServeHTTP(w, r) // which sets the path's values
}

// unrouted turns what http.ServeMux says of paths and methods that it doesn't know into
// an answer like all others.
type unrouted struct {
	http.ResponseWriter
	r    *http.Request
	done bool
}

func (u *unrouted) WriteHeader(status int) {
	if u.done = status == http.StatusNotFound || status == http.StatusMethodNotAllowed; !u.done {
		u.ResponseWriter.WriteHeader(status)
		return
	}
	u.Header().Del("X-Content-Type-Options")
	if status == http.StatusMethodNotAllowed {
		rpc.Refuse(u.ResponseWriter, status, CodeNoMethod, fmt.Sprintf("%s is not for %.20q (%s are)", u.r.URL.Path, u.r.Method, u.Header().Get("Allow")))
		return
	}
	rpc.Refuse(u.ResponseWriter, status, CodeNoPath, fmt.Sprintf("there is no path %.200q here", u.r.URL.Path))
}

func (u *unrouted) Write(p []byte) (int, error) {
	if u.done {
		return len(p), nil
	}
	return u.ResponseWriter.Write(p)
}

// Codes of errors that no service makes.
const (
	CodeNoPath     = "no-path"           // nothing is served there
	CodeNoMethod   = "no-method"         // not with this method
	CodeNoToken    = "unauthenticated"   // no token, or one that is not good
	CodeManyTokens = "too-many-attempts" // wrong tokens from one address
)

// Rights say who may call a path. The zero value says nothing, and is refused.
type Rights struct {
	kind    string
	verb    taubyte.Verb
	roles   []taubyte.Role
	guarded bool
}

// The kinds of rights: what a user's token has to be good for.
const (
	anybody    = "anybody"    // no token
	everyToken = "every"      // any token; what it may not see is not answered
	ofProject  = "project"    // the verb, on the project that is asked for
	ofAll      = "everything" // the verb, on everything
	nodesOnly  = "nodes"      // no token: nodes alone
)

// Anybody may, without a token.
func Anybody() Rights { return Rights{kind: anybody} }

// Everybody with a token may, and is answered what the token is good for; and nodes of
// the roles.
func Everybody(roles ...taubyte.Role) Rights { return Rights{kind: everyToken, roles: roles} }

// Project is for tokens with the verb on the project that is asked for, and nodes of the
// roles.
func Project(verb taubyte.Verb, roles ...taubyte.Role) Rights {
	return Rights{kind: ofProject, verb: verb, roles: roles}
}

// Everything is for tokens with the verb on everything, and nodes of the roles.
func Everything(verb taubyte.Verb, roles ...taubyte.Role) Rights {
	return Rights{kind: ofAll, verb: verb, roles: roles}
}

// Nodes is for nodes of the roles and for no token.
func Nodes(roles ...taubyte.Role) Rights { return Rights{kind: nodesOnly, roles: roles} }

// Guarded has the Mux refuse others before the request is read. Otherwise the service's
// method does, which it does in any case for a project.
func (r Rights) Guarded() Rights {
	r.guarded = true
	return r
}

func (r Rights) check(req *http.Request) error {
	switch {
	case !r.guarded:
		return nil
	case r.kind == nodesOnly:
		return rpc.Only(req.Context(), r.roles...)
	case r.kind == ofAll:
		return taubyte.Allow(req.Context(), r.verb, "", r.roles...)
	}
	return nil
}

// words say who may, in a sentence.
func (r Rights) words() string {
	var token string
	switch r.kind {
	case anybody:
		return "No token is needed."
	case everyToken:
		token = "For every token."
	case ofProject:
		token = fmt.Sprintf("For tokens that may %s the project.", r.verb)
	case ofAll:
		token = fmt.Sprintf("For tokens that may %s everything.", r.verb)
	case nodesOnly:
		token = "Between the nodes of a network: no token may."
	}
	switch {
	case len(r.roles) == len(taubyte.Roles()):
		token += " Every node may."
	case len(r.roles) > 0:
		names := make([]string, 0, len(r.roles))
		for _, role := range r.roles {
			names = append(names, string(role))
		}
		token += " Nodes with one of these roles may: " + strings.Join(names, ", ") + "."
	}
	return token
}
