package config

import (
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Limits of what is read: a configuration is written by people.
const (
	maxFile  = 1 << 20
	maxFiles = 20_000
	maxDepth = 32
)

// file is a YAML file that is being compiled.
type file struct {
	path   string
	root   *yaml.Node // a mapping; empty where the file is unusable
	faults *Diagnostics
	typ    string // the trigger's type, for fields that depend on it
	broken bool   // there is nothing to read, and that was said
}

func (f *file) fault(n *yaml.Node, message, hint string) {
	f.report(n, Error, message, hint)
}

func (f *file) report(n *yaml.Node, s Severity, message, hint string) {
	d := Diagnostic{File: f.path, Severity: s, Message: message, Hint: hint}
	if n != nil {
		d.Line, d.Column = n.Line, n.Column
	}
	*f.faults = append(*f.faults, d)
}

var yamlLine = regexp.MustCompile(`line (\d+): ?(.*)`)

// open reads a file. It returns one also where the file is unusable, so that the
// rest of the project is checked.
func open(fsys fs.FS, path string, faults *Diagnostics) *file {
	f := &file{path: path, root: &yaml.Node{Kind: yaml.MappingNode, Line: 1, Column: 1}, faults: faults}
	raw, err := readFile(fsys, path)
	if err != nil {
		f.fault(nil, err.Error(), "")
		f.broken = true
		return f
	}
	var doc yaml.Node
	if err := unmarshal(raw, &doc); err != nil {
		n := &yaml.Node{Line: 1, Column: 1}
		message := strings.TrimPrefix(err.Error(), "yaml: ")
		if m := yamlLine.FindStringSubmatch(message); m != nil {
			n.Line, _ = strconv.Atoi(m[1])
			message = m[2]
		}
		f.fault(n, "is no YAML: "+message, "")
		f.broken = true
		return f
	}
	if len(doc.Content) == 0 {
		return f // empty: what is required is missing
	}
	root := resolve(doc.Content[0])
	if root.Kind != yaml.MappingNode {
		if root.Tag != "!!null" {
			f.fault(root, "must be a map of keys, not "+kindName(root), "")
			f.broken = true
		}
		return f
	}
	f.root = root
	f.checkKeys(root, "", 0)
	f.merge()
	return f
}

// unmarshal guards against faults of the parser: what a stranger wrote must not
// end the process.
func unmarshal(raw []byte, doc *yaml.Node) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	return yaml.Unmarshal(raw, doc)
}

func readFile(fsys fs.FS, path string) ([]byte, error) {
	info, err := fs.Stat(fsys, path)
	if err != nil {
		return nil, fmt.Errorf("can't be read: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("is not a file")
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("has %d bytes, more than %d", info.Size(), maxFile)
	}
	raw, err := fs.ReadFile(fsys, path)
	if err != nil {
		return nil, fmt.Errorf("can't be read: %w", err)
	}
	return raw, nil
}

// resolve follows aliases to what they stand for.
func resolve(n *yaml.Node) *yaml.Node {
	for range maxDepth {
		if n.Kind != yaml.AliasNode || n.Alias == nil {
			break
		}
		n = n.Alias
	}
	return n
}

// checkKeys reports keys that stand twice in one map.
func (f *file) checkKeys(n *yaml.Node, at string, depth int) {
	if depth > maxDepth {
		f.fault(n, "is nested too deep", "")
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if seen[key.Value] {
			f.fault(key, fmt.Sprintf("%s stands here twice", join(at, key.Value)), "")
		}
		seen[key.Value] = true
		if value.Kind == yaml.MappingNode {
			f.checkKeys(value, join(at, key.Value), depth+1)
		}
	}
}

func join(at, key string) string {
	if at == "" {
		return key
	}
	return at + "." + key
}

// find returns the node at a dotted path, and that of the innermost map on the
// way, for saying where something is missing.
func (f *file) find(at string) (value, nearest *yaml.Node) {
	n := f.root
	for _, key := range strings.Split(at, ".") {
		n = resolve(n)
		if n.Kind != yaml.MappingNode {
			return nil, n
		}
		nearest = n
		var next *yaml.Node
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				next = n.Content[i+1]
			}
		}
		if next == nil {
			return nil, nearest
		}
		n = next
	}
	return resolve(n), nearest
}

// at is the node at a dotted path, or nil.
func (f *file) at(path string) *yaml.Node {
	n, _ := f.find(path)
	return n
}

// blank reports whether a node says nothing.
func blank(n *yaml.Node) bool {
	return n.Tag == "!!null" || n.Kind == yaml.ScalarNode && n.Value == "" || n.Kind != yaml.ScalarNode && len(n.Content) == 0
}

// read compiles the file by its fields into an object.
func (f *file) read(fields []field) map[string]any {
	out := map[string]any{}
	if f.broken {
		return out
	}
	before := len(*f.faults)
	var idle Diagnostics
	for _, fd := range fields {
		at := fd.at
		n, nearest := f.find(at)
		if n == nil && fd.legacy != "" {
			if old, _ := f.find(fd.legacy); old != nil {
				at, n = fd.legacy, old
			}
		}
		if len(fd.when) > 0 && !slices.Contains(fd.when, f.typ) {
			if n != nil && f.typ != "" && !blank(n) {
				idle = append(idle, Diagnostic{File: f.path, Line: n.Line, Column: n.Column, Severity: Warning,
					Message: at + " has no effect where trigger.type is " + f.typ, Hint: "it is for " + strings.Join(fd.when, " and ")})
			}
			continue
		}
		switch {
		case n == nil && fd.required:
			f.fault(nearest, fd.at+" is missing", "")
		case n == nil:
			if fd.fallback != nil {
				out[fd.wire] = fd.fallback
			}
		case n.Tag == "!!null" && !fd.required && n.Kind == yaml.ScalarNode:
			// "key:" with nothing after it says nothing.
			if fd.fallback != nil {
				out[fd.wire] = fd.fallback
			}
		default:
			v, fault, hint := fd.parse(n)
			if fault != "" {
				f.fault(n, at+" "+fault, hint)
				continue
			}
			if fd.at == "trigger.type" {
				f.typ, _ = v.(string)
			}
			if fd.wire != "" {
				out[fd.wire] = v
			}
		}
	}
	if !(*f.faults)[before:].HasErrors() { // which may be of the type
		*f.faults = append(*f.faults, idle...)
	}
	f.warnUnknown(fields)
	return out
}

// warnUnknown says which keys nothing reads.
func (f *file) warnUnknown(fields []field) {
	known := map[string]bool{}
	for _, fd := range fields {
		for _, at := range []string{fd.at, fd.legacy} {
			for at != "" {
				known[at] = true
				i := strings.LastIndexByte(at, '.')
				if i < 0 {
					break
				}
				at = at[:i]
			}
		}
	}
	leaf := func(at string) bool {
		return slices.ContainsFunc(fields, func(fd field) bool { return fd.at == at || fd.legacy == at })
	}
	var walk func(n *yaml.Node, at string, depth int)
	walk = func(n *yaml.Node, at string, depth int) {
		if n.Kind != yaml.MappingNode || depth > maxDepth {
			return
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := join(at, n.Content[i].Value)
			switch {
			case n.Content[i].Tag == "!!merge": // left there by a fault
			case !known[key]:
				f.report(n.Content[i], Warning, key+" is not known and has no effect", suggestion(n.Content[i].Value, at, known))
			case !leaf(key):
				walk(n.Content[i+1], key, depth+1)
			}
		}
	}
	walk(f.root, "", 0)
}

// suggestion finds a known key beside an unknown one that differs by a typing
// error.
func suggestion(key, at string, known map[string]bool) string {
	for k := range known {
		dir, name := "", k
		if i := strings.LastIndexByte(k, '.'); i >= 0 {
			dir, name = k[:i], k[i+1:]
		}
		if dir == at && near(key, name) {
			return "did you mean " + name + "?"
		}
	}
	return ""
}

// near reports whether two words are one insertion, deletion, exchange or swap
// apart.
func near(a, b string) bool {
	a, b = strings.ToLower(a), strings.ToLower(b)
	if a == b {
		return true
	}
	if len(a) > len(b) {
		a, b = b, a
	}
	if len(b)-len(a) > 1 || len(a) < 3 {
		return false
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	if len(a) < len(b) {
		return a[i:] == b[i+1:]
	}
	if a[i+1:] == b[i+1:] {
		return true
	}
	return i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
}
