// Package environment is what functions are given to know beside their code: variables
// and secrets, which are set by command and change without a build.
//
// A variable belongs to a project, and may be narrowed to one function, to one branch, or
// to one function on one branch. Of several that have one name the most specific is what
// a function sees:
//
//	function and branch > function > branch > project
//
// and of a secret and a plain variable in the same place the secret.
//
// This package has the names, the rules and the client for the nodes that run functions.
// Package auth keeps the values.
package environment

import (
	"cmp"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/taubyte/taubyte"
)

// Protocol is auth's protocol between nodes, by which environments are asked for.
const Protocol protocol.ID = "/taubyte/auth/1"

// Kind says whether a variable's value may be shown.
type Kind string

// The kinds. A Secret is never listed with its value, and is masked where a function or a
// build prints it. A Plain variable is what configuration is.
const (
	Secret Kind = "secret"
	Plain  Kind = "env"
)

// Limits: of one name and one value in bytes, and of a project's variables of both kinds
// together, on all branches.
const (
	MaxName     = 128
	MaxValue    = 32 << 10
	MaxCount    = 1000
	MaxTogether = 256 << 10
)

// A Variable is a value under a name, in one place.
type Variable struct {
	Kind     Kind              `json:"kind"`
	Project  taubyte.ProjectID `json:"project"`
	Branch   taubyte.Branch    `json:"branch,omitempty"`   // empty: all
	Function string            `json:"function,omitempty"` // empty: all; "<name>", or "<application>/<name>"
	Name     string            `json:"name"`
	Value    []byte            `json:"value,omitempty"` // left out of lists of secrets
	Version  uint64            `json:"version,omitempty"`
	Since    time.Time         `json:"since,omitzero"`
	By       string            `json:"by,omitempty"` // who set it
}

var name = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// CheckName returns ErrInvalid with the reason where a name can't be that of an
// environment variable.
func CheckName(n string) error {
	if len(n) > MaxName || !name.MatchString(n) {
		return fmt.Errorf("%w name of a variable %.150q: it has letters, digits and _, begins with no digit, and has at most %d characters", taubyte.ErrInvalid, n, MaxName)
	}
	return nil
}

// Check returns ErrInvalid or ErrTooLarge with the reason where a variable can't be set.
// No error holds the value.
func (v Variable) Check() error {
	if v.Kind != Secret && v.Kind != Plain {
		return fmt.Errorf("%w kind of variable %.20q: it is %s or %s", taubyte.ErrInvalid, v.Kind, Secret, Plain)
	}
	if err := CheckName(v.Name); err != nil {
		return err
	}
	if len(v.Value) > MaxValue {
		return fmt.Errorf("%w: the value of %s has %d bytes, the most is %d", taubyte.ErrTooLarge, v.Name, len(v.Value), MaxValue)
	}
	if slices.Contains(v.Value, 0) {
		return fmt.Errorf("%w value of %s: a zero byte, which no environment can hold (encode it, as with base64)", taubyte.ErrInvalid, v.Name)
	}
	for what, text := range map[string]string{"project": string(v.Project), "branch": string(v.Branch), "function": v.Function} {
		if len(text) > 200 || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
			return fmt.Errorf("%w %s %.100q of the variable %s", taubyte.ErrInvalid, what, text, v.Name)
		}
	}
	if v.Project == "" || strings.Contains(string(v.Project), "/") {
		return fmt.Errorf("%w project %.100q of the variable %s", taubyte.ErrInvalid, v.Project, v.Name)
	}
	if app, fn, ok := strings.Cut(v.Function, "/"); ok && (app == "" || fn == "" || strings.Contains(fn, "/")) {
		return fmt.Errorf("%w function %.100q: it is <name> or <application>/<name>", taubyte.ErrInvalid, v.Function)
	}
	return nil
}

// all stands for every branch or function in keys. Escaped names never hold it.
const all = "*"

// Key is the variable's place as text: Prefix, its kind, branch, function and name. It
// holds no value.
func (v Variable) Key() string {
	part := func(s string) string {
		if s == "" {
			return all
		}
		return url.QueryEscape(s)
	}
	return Prefix(v.Project) + string(v.Kind) + "/" + part(string(v.Branch)) + "/" + part(v.Function) + "/" + v.Name
}

// Prefix begins the keys of a project's variables.
func Prefix(p taubyte.ProjectID) string { return "projects/" + string(p) + "/" }

// ParseKey reads what Key returns.
func ParseKey(key string) (v Variable, err error) {
	parts := strings.Split(key, "/")
	if len(parts) != 6 || parts[0] != "projects" {
		return v, fmt.Errorf("%w variable %.200q", taubyte.ErrInvalid, key)
	}
	part := func(s string) string {
		if s == all {
			return ""
		}
		text, e := url.QueryUnescape(s)
		if e != nil || text == "" {
			err = fmt.Errorf("%w variable %.200q", taubyte.ErrInvalid, key)
		}
		return text
	}
	v = Variable{Kind: Kind(parts[2]), Project: taubyte.ProjectID(parts[1]), Branch: taubyte.Branch(part(parts[3])), Function: part(parts[4]), Name: parts[5]}
	if err == nil {
		err = v.Check()
	}
	if err == nil && v.Key() != key {
		err = fmt.Errorf("%w variable %.200q: not as it is written", taubyte.ErrInvalid, key)
	}
	if err != nil {
		return Variable{}, err
	}
	return v, nil
}

// rank orders variables of one name: the largest counts.
func (v Variable) rank() int {
	r := 0
	if v.Function != "" {
		r += 4
	}
	if v.Branch != "" {
		r += 2
	}
	if v.Kind == Secret {
		r++
	}
	return r
}

// Applies reports whether a function of a branch is in the variable's reach.
func (v Variable) Applies(b taubyte.Branch, function string) bool {
	return (v.Branch == "" || v.Branch == b) && (v.Function == "" || v.Function == function)
}

// Resolve returns what a function of a branch sees of variables of its project: one of
// each name, by name.
func Resolve(variables []Variable, b taubyte.Branch, function string) []Variable {
	best := map[string]Variable{}
	for _, v := range variables {
		if have, ok := best[v.Name]; v.Applies(b, function) && (!ok || v.rank() > have.rank()) {
			best[v.Name] = v
		}
	}
	out := make([]Variable, 0, len(best))
	for _, v := range best {
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b Variable) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// FunctionName is what variables call a function: with the name of its application, if it
// is in one.
func FunctionName(application, function string) string {
	if application == "" {
		return function
	}
	return application + "/" + function
}

// An Environment is what the functions of a branch may see, each by Resolve.
type Environment struct {
	// Revision is how far the project's variables had come. See Change.
	Revision  string     `json:"revision,omitempty"`
	Variables []Variable `json:"variables"`
}

// A Change tells of which projects the variables have changed, and how far each has come:
// equal revisions are equal variables, and "" is none.
type Change struct {
	Projects map[taubyte.ProjectID]string `json:"projects"`
	// All: projects that are not named have no variables.
	All bool `json:"all,omitempty"`
}
