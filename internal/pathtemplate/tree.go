package pathtemplate

import (
	"iter"
	"strings"
)

// A Tree finds the most specific of several templates for a path. Those that conflict
// with one put in before are found by the part that they do not share. The zero value is empty.
// Match may be called concurrently once all is put in.
type Tree[V any] struct{ root node[V] }

type node[V any] struct {
	literals map[string]*node[V]
	single   *node[V]
	value    *V // of the template that ends here
	multi    *V // of the one that ends here with a {name...}
}

// Put adds a template. It returns false where one of the same paths is there already,
// which stays.
func (t *Tree[V]) Put(p *Template, v V) bool {
	n := &t.root
	for _, s := range p.segments {
		switch s.kind {
		case multi:
			if n.multi != nil {
				return false
			}
			n.multi = &v
			return true
		case single:
			if n.single == nil {
				n.single = &node[V]{}
			}
			n = n.single
		default:
			next, ok := n.literals[s.text]
			if !ok {
				next = &node[V]{}
				if n.literals == nil {
					n.literals = map[string]*node[V]{}
				}
				n.literals[s.text] = next
			}
			n = next
		}
	}
	if n.value != nil {
		return false
	}
	n.value = &v
	return true
}

// Match returns the value of the most specific template that matches a path, or nil.
// The path is decoded, but for slashes that are data, which are %2F. It does not
// allocate.
func (t *Tree[V]) Match(path string) *V {
	if path == "" || path[0] != '/' {
		return nil
	}
	return t.root.match(path[1:], false)
}

// match takes what is left of a path. end is true behind its last segment. A node is
// reached by one part of the path only: the work is bounded by the size of the tree.
func (n *node[V]) match(rest string, end bool) *V {
	if end {
		return n.value
	}
	segment, after, more := strings.Cut(rest, "/")
	if next := n.literals[segment]; next != nil {
		if v := next.match(after, !more); v != nil {
			return v
		}
	}
	if n.single != nil && matchable(segment) {
		if v := n.single.match(after, !more); v != nil {
			return v
		}
	}
	if n.multi != nil && !dotted(rest) {
		return n.multi
	}
	return nil
}

// dotted reports whether a path has a segment "." or "..".
func dotted(path string) bool {
	for more := strings.Contains(path, "."); more; {
		var segment string
		if segment, path, more = strings.Cut(path, "/"); segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// All are the values that were put in, in no order.
func (t *Tree[V]) All() iter.Seq[V] {
	return func(yield func(V) bool) { t.root.all(yield) }
}

func (n *node[V]) all(yield func(V) bool) bool {
	if n.value != nil && !yield(*n.value) || n.multi != nil && !yield(*n.multi) {
		return false
	}
	if n.single != nil && !n.single.all(yield) {
		return false
	}
	for _, next := range n.literals {
		if !next.all(yield) {
			return false
		}
	}
	return true
}
