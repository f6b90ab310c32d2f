// Package pathtemplate has the path templates of functions ("/items/{id}",
// "/files/{name...}") by the rules of http.ServeMux: what a template matches, which of
// two is more specific, and when two conflict.
//
// It differs from http.ServeMux in this: a path that ends in a slash is that path
// alone ("/files/" is what "/files/{$}" is), no request is redirected, and a wildcard
// matches no segment that a cleaned path can't have ("", "." and "..").
package pathtemplate

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

type kind uint8

const (
	literal kind = iota
	single       // {name}: one segment
	multi        // {name...}: all that is left
)

type segment struct {
	kind kind
	text string // of a literal; "" at the end of a path is its final slash
}

// A Template is a parsed path. It is immutable.
type Template struct {
	text     string
	segments []segment
	names    []string // of the wildcards, in order
}

// IsTemplate reports whether a path has wildcards or "{$}", or a fault in place of them.
func IsTemplate(path string) bool { return strings.ContainsAny(path, "{}") }

// Parse reads a path with or without wildcards. Its error is a phrase about the path.
func Parse(path string) (*Template, error) {
	if !strings.HasPrefix(path, "/") {
		return nil, fmt.Errorf("does not begin with /")
	}
	t := &Template{text: path}
	braces := IsTemplate(path)
	parts := strings.Split(path[1:], "/")
	for i, part := range parts {
		last := i == len(parts)-1
		s := segment{text: part}
		switch {
		case !braces: // any text is itself
		case !strings.ContainsAny(part, "{}"):
			switch {
			case part == "" && last:
				return nil, fmt.Errorf("ends in /: end it in /{$} for that path alone, or in /{rest...} for all below it")
			case part == "", part == ".", part == "..":
				return nil, fmt.Errorf("has the segment %q, which no request has", part)
			}
		case part[0] != '{' || part[len(part)-1] != '}' || strings.ContainsAny(part[1:len(part)-1], "{}"):
			return nil, fmt.Errorf("has the segment %q: a wildcard is a whole segment, as in /items/{id}", part)
		default:
			name := part[1 : len(part)-1]
			if name == "$" {
				if !last {
					return nil, fmt.Errorf("has {$} before its end")
				}
				s.text = ""
				break
			}
			s = segment{kind: single}
			if rest, ok := strings.CutSuffix(name, "..."); ok {
				if !last {
					return nil, fmt.Errorf("has {%s} before its end", name)
				}
				name, s.kind = rest, multi
			}
			switch {
			case !identifier(name):
				return nil, fmt.Errorf("has the wildcard %s, whose name is no Go identifier", part)
			case slices.Contains(t.names, name):
				return nil, fmt.Errorf("has two wildcards of the name %s", name)
			}
			t.names = append(t.names, name)
		}
		t.segments = append(t.segments, s)
	}
	return t, nil
}

func identifier(s string) bool {
	for i, c := range s {
		if !unicode.IsLetter(c) && c != '_' && (i == 0 || !unicode.IsDigit(c)) {
			return false
		}
	}
	return s != ""
}

// Prefix is the template of a path and everything below it, as websites are served.
// The path ends in no slash; "" is everything.
func Prefix(path string) *Template {
	t := &Template{text: path + "/"}
	if path != "" {
		for _, part := range strings.Split(path[1:], "/") {
			t.segments = append(t.segments, segment{text: part})
		}
	}
	t.segments = append(t.segments, segment{kind: multi})
	return t
}

// String is the path as it was written.
func (t *Template) String() string { return t.text }

// Names are the names of the wildcards, in order.
func (t *Template) Names() []string { return t.names }

// Literal returns the one path that a template without wildcards matches.
func (t *Template) Literal() (path string, ok bool) {
	if len(t.names) > 0 {
		return "", false
	}
	return strings.TrimSuffix(t.text, "{$}"), true
}

// Values are what the wildcards stand for in a URL that the template matches, in the
// order of Names. A slash that is data (%2F) is one here.
func (t *Template) Values(u *url.URL) []string {
	if len(t.names) == 0 {
		return nil
	}
	values := make([]string, 0, len(t.names))
	rest := u.EscapedPath()
	for _, s := range t.segments {
		rest = strings.TrimPrefix(rest, "/")
		if s.kind == multi {
			values = append(values, unescape(rest))
			break
		}
		seg := rest
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			seg = rest[:i]
		}
		rest = rest[len(seg):]
		if s.kind == single {
			values = append(values, unescape(seg))
		}
	}
	return values
}

func unescape(s string) string {
	if u, err := url.PathUnescape(s); err == nil {
		return u
	}
	return s
}

// A Relation is how the paths of one template lie to those of another.
type Relation int

// The relations of Compare(a, b).
const (
	Equivalent   Relation = iota // the same paths
	MoreGeneral                  // a has all paths of b, and others
	MoreSpecific                 // b has all paths of a, and others
	Disjoint                     // no path is of both
	Overlaps                     // some paths are of both, and each has others
)

// Compare compares the paths of two templates.
func Compare(a, b *Template) Relation {
	rel := Equivalent
	n := min(len(a.segments), len(b.segments))
	for i := range n {
		if rel = Combine(rel, compare(a.segments[i], b.segments[i])); rel == Disjoint {
			return rel
		}
	}
	switch {
	case len(a.segments) == len(b.segments):
		return rel
	case len(a.segments) == n && a.isMulti():
		return Combine(rel, MoreGeneral)
	case len(b.segments) == n && b.isMulti():
		return Combine(rel, MoreSpecific)
	}
	return Disjoint
}

func (t *Template) isMulti() bool { return t.segments[len(t.segments)-1].kind == multi }

func compare(a, b segment) Relation {
	switch {
	case a.kind == multi && b.kind == multi:
		return Equivalent
	case a.kind == multi:
		return MoreGeneral
	case b.kind == multi:
		return MoreSpecific
	case a.kind == single && b.kind == single:
		return Equivalent
	case a.kind == single:
		if !matchable(b.text) {
			return Disjoint
		}
		return MoreGeneral
	case b.kind == single:
		if !matchable(a.text) {
			return Disjoint
		}
		return MoreSpecific
	case a.text == b.text:
		return Equivalent
	}
	return Disjoint
}

// matchable reports whether a wildcard may stand for a segment.
func matchable(segment string) bool { return segment != "" && segment != "." && segment != ".." }

// Combine is the relation of things that have two aspects (methods and paths), from
// those of each.
func Combine(r, s Relation) Relation {
	switch {
	case r == Disjoint || s == Disjoint:
		return Disjoint
	case r == Equivalent:
		return s
	case s == Equivalent || r == s:
		return r
	}
	return Overlaps
}
